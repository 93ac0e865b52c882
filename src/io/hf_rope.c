/* Rotary positions in config.json.  Two spellings: rope_theta, rope_scaling {type or rope_type, factor, ...} and
 * partial_rotary_factor beside each other, and transformers 5's rope_parameters, which has all of them inside (for models
 * with two kinds of layers once under "full_attention" and once under "sliding_attention").  The first is written: both
 * generations read it. */
#include "io/hf_rope.h"
#include <math.h>
#include <string.h>

static const struct { const char *name; enum dan_rope_kind kind; } kinds[] = {
    {"default", DAN_ROPE_PLAIN}, {"linear", DAN_ROPE_LINEAR}, {"dynamic", DAN_ROPE_DYNAMIC}, {"yarn", DAN_ROPE_YARN},
    {"llama3", DAN_ROPE_LLAMA3},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

struct reading { const char *dir, *key; const json_t *config, *scaling; };     /* scaling: an object or NULL */

static int bad(const struct reading *r, const char *key, const char *want, struct dan_err *e)
{
    return dan_fail(e, DAN_EFORMAT, "bad value of '%s' in '%s' in the config.json of '%s': expected %s", key, r->key, r->dir, want);
}

/* A positive number inside the object, 0 when absent or null. */
static int number(const struct reading *r, const char *key, bool required, double *out, struct dan_err *e)
{
    const json_t *j = dan_json_at(r->scaling, key);
    *out = 0;
    if (!j && !required) return DAN_OK;
    *out = json_number_value(j);
    return json_is_number(j) && isfinite(*out) && *out > 0 ? DAN_OK : bad(r, key, "a number above 0", e);
}

/* A number inside the object or beside it; dflt when there is none. */
static int number_anywhere(const struct reading *r, const char *key, double dflt, double *out, struct dan_err *e)
{
    const json_t *j = dan_json_at(r->scaling, key);
    if (!j) j = dan_json_at(r->config, key);
    *out = j ? json_number_value(j) : dflt;
    if (j && (!json_is_number(j) || !isfinite(*out) || !(*out > 0)))
        return dan_fail(e, DAN_EFORMAT, "bad value of '%s' in the config.json of '%s': expected a number above 0", key, r->dir);
    return DAN_OK;
}

static int find_scaling(struct reading *r, const struct dan_field *f, struct dan_err *e)
{
    static const char *const keys[] = {"rope_parameters", "rope_scaling"};
    r->key = keys[1];
    for (int i = 0; i < 2 && !r->scaling; i++)
        if ((r->scaling = dan_json_at(r->config, keys[i]))) r->key = keys[i];
    if (r->scaling && !json_is_object(r->scaling))
        return dan_fail(e, DAN_EFORMAT, "bad value of '%s' in the config.json of '%s': expected an object", r->key, r->dir);
    const json_t *part = dan_json_at(r->scaling, f->type == 'l' ? "sliding_attention" : "full_attention");
    if (part && !json_is_object(part)) return bad(r, "full_attention", "an object", e);
    if (part) r->scaling = part;
    else if (f->type == 'l') r->scaling = NULL;                /* the older spelling scales the other layers only */
    return DAN_OK;
}

static int read_kind(const struct reading *r, struct dan_rope *out, struct dan_err *e)
{
    const json_t *j = dan_json_at(r->scaling, "rope_type");
    if (!j) j = dan_json_at(r->scaling, "type");
    const char *name = j ? json_string_value(j) : "default";
    for (int i = 0; name && i < N_KINDS; i++)
        if (strcmp(kinds[i].name, name) == 0) {
            out->kind = kinds[i].kind;
            return DAN_OK;
        }
    return dan_fail(e, DAN_EUNSUPPORTED, "unsupported '%s' (%.40s) in the config.json of '%s': it changes the arithmetic of the model; "
                    "supported: default, linear, dynamic, yarn, llama3", r->key, name ? name : "...", r->dir);
}

/* The cosines' factor: given, or the quotient of two mscales (DeepSeek), else what dan_rope_complete computes. */
static int read_yarn(const struct reading *r, struct dan_rope *out, struct dan_err *e)
{
    double mscale = json_number_value(dan_json_at(r->scaling, "mscale")), all = json_number_value(dan_json_at(r->scaling, "mscale_all_dim"));
    int rc = number(r, "attention_factor", false, &out->by, e);
    if (!rc) rc = number(r, "factor", false, &out->factor, e);
    if (!rc) rc = number(r, "beta_fast", false, &out->high, e);
    if (!rc) rc = number(r, "beta_slow", false, &out->low, e);
    if (!rc) rc = number_anywhere(r, "original_max_position_embeddings", 0, &out->original, e);
    if (rc) return rc;
    if (!(out->by > 0) && mscale > 0 && all > 0 && out->factor > 1)
        out->by = (0.1 * mscale * log(out->factor) + 1) / (0.1 * all * log(out->factor) + 1);
    if (json_is_false(dan_json_at(r->scaling, "truncate"))) out->kind = DAN_ROPE_YARN_SMOOTH;
    return DAN_OK;
}

static int read_llama3(const struct reading *r, struct dan_rope *out, struct dan_err *e)
{
    int rc = number(r, "factor", true, &out->factor, e);
    if (!rc) rc = number(r, "low_freq_factor", true, &out->low, e);
    if (!rc) rc = number(r, "high_freq_factor", true, &out->high, e);
    if (!rc) rc = number(r, "original_max_position_embeddings", true, &out->original, e);
    if (!rc && out->low >= out->high) rc = bad(r, "low_freq_factor", "less than high_freq_factor", e);
    return rc;
}

int dan_hf_rope_read(const char *dir, const json_t *config, const struct dan_field *f, struct dan_rope *out, struct dan_err *e)
{
    struct reading r = {.dir = dir, .config = config};
    *out = (struct dan_rope){0};
    int rc = find_scaling(&r, f, e);
    if (!rc) rc = read_kind(&r, out, e);
    if (!rc) rc = number_anywhere(&r, f->type == 'l' && !r.scaling ? "rope_local_base_freq" : "rope_theta", f->dflt.f, &out->base, e);
    if (!rc) rc = number_anywhere(&r, "partial_rotary_factor", 1, &out->part, e);
    if (!rc && out->part > 1) rc = bad(&r, "partial_rotary_factor", "at most 1", e);
    if (rc || out->kind == DAN_ROPE_PLAIN) return rc;
    if (out->kind == DAN_ROPE_YARN) return read_yarn(&r, out, e);
    if (out->kind == DAN_ROPE_LLAMA3) return read_llama3(&r, out, e);
    return number(&r, "factor", true, &out->factor, e);        /* dynamic starts from max_position_embeddings, as in transformers */
}

static int put(json_t *o, const char *key, json_t *v) { return json_object_set_new(o, key, v); }

static json_t *scaling_of(const struct dan_rope *r)
{
    json_t *s = json_object();
    bool smooth = r->kind == DAN_ROPE_YARN_SMOOTH, yarn = r->kind == DAN_ROPE_YARN || smooth, llama3 = r->kind == DAN_ROPE_LLAMA3;
    int failed = put(s, "factor", json_real(r->factor));
    for (int i = 0; i < N_KINDS; i++)
        if (kinds[i].kind == (smooth ? DAN_ROPE_YARN : (enum dan_rope_kind)r->kind)) failed |= put(s, "rope_type", json_string(kinds[i].name));
    if (yarn) failed |= put(s, "beta_fast", json_real(r->high)) | put(s, "beta_slow", json_real(r->low)) | put(s, "attention_factor", json_real(r->by));
    if (smooth) failed |= put(s, "truncate", json_false());
    if (llama3) failed |= put(s, "high_freq_factor", json_real(r->high)) | put(s, "low_freq_factor", json_real(r->low));
    if (yarn || llama3) failed |= put(s, "original_max_position_embeddings", json_integer((json_int_t)r->original));
    if (!failed) return s;
    json_decref(s);
    return NULL;
}

int dan_hf_rope_write(json_t *config, const struct dan_field *f, const struct dan_rope *r)
{
    if (f->type == 'l') return put(config, "rope_local_base_freq", json_real(r->base));
    int failed = put(config, "rope_theta", json_real(r->base));
    failed |= put(config, "rope_scaling", r->kind == DAN_ROPE_PLAIN ? json_null() : scaling_of(r));
    if (r->part > 0 && r->part < 1) failed |= put(config, "partial_rotary_factor", json_real(r->part));
    return failed;
}
