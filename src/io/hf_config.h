/* Hugging Face's config.json and generation_config.json <-> a family's config struct, by its table of
 * fields.  The table is a parameter: this room knows no models. */
#ifndef DAN_IO_HF_CONFIG_H
#define DAN_IO_HF_CONFIG_H
#include "core/args.h"
#include "core/rope.h"
#include "base/err.h"
#include "base/str.h"
#include "io/pair.h"

/* Layers that see only the last `width` tokens, themselves included: bit i % 64 of layer[i / 64].  width 0: none. */
struct dan_window { int64_t width; uint64_t layer[4]; };
enum dan_window_rule {                         /* which layers have a window where "layer_types" does not say */
    DAN_WINDOW_ALL = 1,                        /* all, when the key is there (Phi-3) */
    DAN_WINDOW_ALL_4096,                       /* all; 4096 when the key is absent (Mistral) */
    DAN_WINDOW_IF_USED,                        /* from max_window_layers on, with use_sliding_window (Qwen) */
    DAN_WINDOW_BUT_2ND,                        /* all but every second (Gemma 2) */
    DAN_WINDOW_BUT_6TH,                        /* all but every sixth, or sliding_window_pattern-th (Gemma 3) */
};

/* One key of config.json.  hf: "a|b" = either key (the first is written); dots descend into objects.
 * type: i int64_t, f double, b bool (dflt.i).  Absent or null takes dflt; dflt.i == INT64_MIN: required.
 * o: double, absent takes dflt and null is 0.
 * Several keys at once, all of them in hf: r struct dan_rope (dflt.f: theta), l that of layers with a window,
 * w struct dan_window (dflt.i: enum dan_window_rule). */
struct dan_field { const char *hf; char type; uint16_t offset; union dan_attr dflt; };

#define DAN_ROPE_KEYS "rope_theta|rope_scaling|rope_parameters|partial_rotary_factor"
#define DAN_WINDOW_KEYS "sliding_window|layer_types|use_sliding_window|max_window_layers|sliding_window_pattern"

/* What kind of model DIR holds: config.json's first "architectures" entry and its "model_type";
 * either may be empty.  DIR may also be the path of the file itself. */
int dan_hf_config_kind(const char *dir, struct dan_str *architecture, struct dan_str *model_type, struct dan_err *e);

/* Reads DIR/config.json into cfg.  fields ends with hf = NULL.  model_type picks the rules about keys
 * that would change the arithmetic (rope_scaling, sliding_window, another activation, biases, expert
 * layers, quantised weights): such a key is refused by name unless it is in `fields`.  A list of ids
 * (eos_token_id) gives its first.  rope_theta is also found in transformers 5's rope_parameters. */
int dan_hf_config_load(const char *dir, const char *model_type, const struct dan_field *fields, void *cfg, struct dan_err *e);

/* Writes DIR/config.json: model_type, architectures, the fields (an i field equal to its dflt -1 and an o
 * field of 0 are written as null), then `extra`, whose values are JSON text ("\"silu\"", "false", "[1,2]") and win. */
int dan_hf_config_save(const char *dir, const char *model_type, const char *architecture, const struct dan_field *fields,
                       const void *cfg, const struct dan_pair *extra, size_t n_extra, struct dan_err *e);

#define DAN_HF_MAX_EOS 32
struct dan_hf_generation {
    int64_t bos, eos[DAN_HF_MAX_EOS], pad;                 /* ids; -1: none */
    int32_t n_eos;
    bool    sample;                            /* do_sample */
    double  temperature, top_p, repetition_penalty;   /* 1 = off; absent keys give 1 */
    int64_t top_k, max_new_tokens;             /* 0: none given */
};
/* A missing file is no error: bos, eos and pad are then those of config.json (Llama 3 has three eos there), the rest says "none". */
int dan_hf_generation_load(const char *dir, struct dan_hf_generation *out, struct dan_err *e);
int dan_hf_generation_save(const char *dir, const struct dan_hf_generation *g, struct dan_err *e);

#endif
