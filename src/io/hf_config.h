/* Hugging Face's config.json and generation_config.json <-> a family's config struct, by its table of
 * fields.  The table is a parameter: this room knows no models. */
#ifndef DAN_IO_HF_CONFIG_H
#define DAN_IO_HF_CONFIG_H
#include "core/args.h"
#include "base/err.h"
#include "base/str.h"
#include "io/pair.h"

/* One key of config.json.  hf: "a|b" = either key (the first is written); dots descend into objects.
 * type: i int64_t, f double, b bool (dflt.i).  Absent or null takes dflt; dflt.i == INT64_MIN: required. */
struct dan_field { const char *hf; char type; uint16_t offset; union dan_attr dflt; };

/* What kind of model DIR holds: config.json's first "architectures" entry and its "model_type";
 * either may be empty.  DIR may also be the path of the file itself. */
int dan_hf_config_kind(const char *dir, struct dan_str *architecture, struct dan_str *model_type, struct dan_err *e);

/* Reads DIR/config.json into cfg.  fields ends with hf = NULL.  model_type picks the rules about keys
 * that would change the arithmetic (rope_scaling, sliding_window, another activation, biases, expert
 * layers, quantised weights): such a key is refused by name unless it is in `fields`.  A list of ids
 * (eos_token_id) gives its first.  rope_theta is also found in transformers 5's rope_parameters. */
int dan_hf_config_load(const char *dir, const char *model_type, const struct dan_field *fields, void *cfg, struct dan_err *e);

/* Writes DIR/config.json: model_type, architectures, the fields (an i field equal to its dflt -1 is
 * written as null), then `extra`, whose values are JSON text ("\"silu\"", "false", "[1,2]") and win. */
int dan_hf_config_save(const char *dir, const char *model_type, const char *architecture, const struct dan_field *fields,
                       const void *cfg, const struct dan_pair *extra, size_t n_extra, struct dan_err *e);

struct dan_hf_generation {
    int64_t bos, eos[8], pad;                  /* ids; -1: none */
    int32_t n_eos;
    bool    sample;                            /* do_sample */
    double  temperature, top_p, repetition_penalty;   /* 1 = off; absent keys give 1 */
    int64_t top_k, max_new_tokens;             /* 0: none given */
};
/* A missing file is no error: all values say "none". */
int dan_hf_generation_load(const char *dir, struct dan_hf_generation *out, struct dan_err *e);
int dan_hf_generation_save(const char *dir, const struct dan_hf_generation *g, struct dan_err *e);

#endif
