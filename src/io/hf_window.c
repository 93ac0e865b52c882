/* Which layers see only the last tokens.  "sliding_window" is the width; which layers have it is said by "layer_types", by
 * other keys in files that are older than that, or by the family.  enum dan_window_rule names the habits. */
#include <string.h>
#include "io/hf_rope.h"

enum { MAX_LAYERS = 256 };
static const struct { int64_t width; int every; } habit[] = {              /* width: when the key is absent; every n-th layer is full */
    [DAN_WINDOW_ALL] = {0, 0}, [DAN_WINDOW_ALL_4096] = {4096, 0}, [DAN_WINDOW_IF_USED] = {4096, 0}, [DAN_WINDOW_BUT_2ND] = {4096, 2},
    [DAN_WINDOW_BUT_6TH] = {4096, 6},
};

static bool in_window(const struct dan_window *w, int64_t layer) { return w->layer[layer / 64] >> (layer % 64) & 1; }

/* By layer_types; every entry must be known. */
static int by_types(const char *dir, const json_t *types, struct dan_window *w, struct dan_err *e)
{
    size_t i;
    const json_t *t;
    json_array_foreach(types, i, t)
    {
        const char *s = json_string_value(t);
        bool sliding = s && strcmp(s, "sliding_attention") == 0;
        if (!sliding && (!s || strcmp(s, "full_attention")))
            return dan_fail(e, DAN_EUNSUPPORTED, "unsupported 'layer_types' (%.40s) in the config.json of '%s': it changes the arithmetic of "
                            "the model; supported: full_attention, sliding_attention", s ? s : "...", dir);
        if (i >= MAX_LAYERS) continue;
        if (sliding) w->layer[i / 64] |= (uint64_t)1 << (i % 64);
        else w->layer[i / 64] &= ~((uint64_t)1 << (i % 64));
    }
    return DAN_OK;
}

static void by_habit(const json_t *config, const struct dan_field *f, struct dan_window *w)
{
    int64_t from = 28, every = habit[f->dflt.i].every;          /* 28: what transformers assumes for max_window_layers */
    if (every == 6) dan_json_int(dan_json_at(config, "sliding_window_pattern"), &every);
    dan_json_int(dan_json_at(config, "max_window_layers"), &from);
    for (int64_t i = 0; i < MAX_LAYERS; i++) {
        bool full = every > 0 ? (i + 1) % every == 0 : f->dflt.i == DAN_WINDOW_IF_USED && i < from;
        if (!full) w->layer[i / 64] |= (uint64_t)1 << (i % 64);
    }
}

int dan_hf_window_read(const char *dir, const json_t *config, const struct dan_field *f, struct dan_window *out, struct dan_err *e)
{
    const json_t *width = json_object_get(config, "sliding_window"), *types = dan_json_at(config, "layer_types");
    int64_t layers = 0;
    *out = (struct dan_window){.width = habit[f->dflt.i].width};
    if (width && !json_is_null(width) && (!dan_json_int(width, &out->width) || out->width < 1 || out->width > INT32_MAX))
        return dan_fail(e, DAN_EFORMAT, "bad value of 'sliding_window' in the config.json of '%s': expected a whole number above 0", dir);
    if (json_is_null(width) || (f->dflt.i == DAN_WINDOW_IF_USED && !json_is_true(dan_json_at(config, "use_sliding_window")))) out->width = 0;
    if (types && !json_is_array(types))
        return dan_fail(e, DAN_EFORMAT, "bad value of 'layer_types' in the config.json of '%s': expected a list", dir);
    if (out->width) by_habit(config, f, out);
    int rc = by_types(dir, types, out, e);
    dan_json_int(dan_json_at(config, "num_hidden_layers"), &layers);
    if (rc) return rc;
    if (!out->width) memset(out->layer, 0, sizeof out->layer);
    if (out->width && layers > MAX_LAYERS)
        return dan_fail(e, DAN_EUNSUPPORTED, "unsupported 'sliding_window' with %lld layers in the config.json of '%s': windows are kept for "
                        "%d layers", (long long)layers, dir, MAX_LAYERS);
    for (int64_t i = layers; i < MAX_LAYERS && i >= 0; i++) out->layer[i / 64] &= ~((uint64_t)1 << (i % 64));
    return DAN_OK;
}

int dan_hf_window_write(json_t *config, const struct dan_field *f, const struct dan_window *w)
{
    int64_t layers = 0, full = 0;
    int failed = json_object_set_new(config, "sliding_window", w->width ? json_integer(w->width) : json_null());
    dan_json_int(dan_json_at(config, "num_hidden_layers"), &layers);
    if (f->dflt.i <= DAN_WINDOW_ALL_4096 || layers > MAX_LAYERS) return failed;
    json_t *types = json_array();
    while (full < layers && !in_window(w, full)) full++;
    for (int64_t i = 0; i < layers; i++)
        failed |= json_array_append_new(types, json_string(w->width && in_window(w, i) ? "sliding_attention" : "full_attention"));
    failed |= json_object_set_new(config, "layer_types", types);
    if (f->dflt.i == DAN_WINDOW_IF_USED)
        failed |= json_object_set_new(config, "use_sliding_window", json_boolean(w->width)) |
                  json_object_set_new(config, "max_window_layers", json_integer(full));
    return failed;
}
