#include "io/hf_config.h"
#include <math.h>
#include <string.h>
#include "base/file.h"
#include "io/hf_rope.h"

/* Keys that change the arithmetic, and the values that danlu's families compute ("|" between them; an
 * object is judged by its "rope_type", a list by each element; absent or null is always allowed).
 * A key that the family reads as a field is not asked about here.  model: the model_type, or "*". */
static const struct rule { const char *model, *key, *allowed; } rules[] = {
    {"*", "rope_scaling", "default"},
    {"*", "rope_parameters", "default"},
    {"*", "rope_interleaved", "false"},
    {"*", "partial_rotary_factor", "1"},
    {"*", "quantization_config", "compressed-tensors"},        /* what of it: hf_rows.h */
    {"*", "layer_types", "full_attention"},
    {"*", "attn_logit_softcapping", ""},
    {"*", "final_logit_softcapping", ""},
    {"*", "logit_scale", "1"},
    {"*", "logits_scaling", "1"},
    {"*", "embedding_multiplier", "1"},
    {"*", "residual_multiplier", "1"},
    {"*", "attention_multiplier", ""},
    {"*", "num_experts", "0|1"},
    {"*", "num_local_experts", "0|1"},
    {"*", "use_qk_norm", "false"},
    {"*", "attention_bias", "false"},
    {"*", "mlp_bias", "false"},
    {"*", "add_cross_attention", "false"},
    {"*", "position_embedding_type", "absolute"},
    {"llama", "hidden_act", "silu|swish"},
    {"mistral", "hidden_act", "silu|swish"},
    {"qwen2", "hidden_act", "silu|swish"},
    {"qwen3", "hidden_act", "silu|swish"},
    {"phi3", "hidden_act", "silu|swish"},
    {"gemma", "hidden_act", "gelu_pytorch_tanh|gelu"},         /* "gelu" in old files means the tanh form: their models were trained so */
    {"gemma", "hidden_activation", "gelu_pytorch_tanh"},
    {"gemma2", "hidden_activation", "gelu_pytorch_tanh"},
    {"gemma3_text", "hidden_activation", "gelu_pytorch_tanh"},
    {"gemma", "use_bidirectional_attention", "false"},
    {"gemma2", "use_bidirectional_attention", "false"},
    {"gemma3_text", "use_bidirectional_attention", "false"},
    {"gpt2", "activation_function", "gelu_new|gelu_pytorch_tanh"},
    {"gpt2", "scale_attn_weights", "true"},
    {"gpt2", "scale_attn_by_inverse_layer_idx", "false"},
    {"bert", "hidden_act", "gelu"},
    {"bert", "is_decoder", "false"},
    {"roberta", "hidden_act", "gelu"},
    {"roberta", "is_decoder", "false"},
    {"xlm-roberta", "hidden_act", "gelu"},
    {"xlm-roberta", "is_decoder", "false"},
    {"distilbert", "activation", "gelu"},
};

/* ---- reading ---- */

static int read_config(const char *dir, const char *name, json_t **out, struct dan_err *e)
{
    struct dan_str path = {0};
    if (dan_str_ends(dir, ".json")) dan_str_puts(&path, dir);
    else dan_path_join(&path, dir, name);
    int rc = path.failed ? dan_fail(e, DAN_ENOMEM, "out of memory reading '%s'", dir) : dan_json_read(path.p, out, e);
    dan_str_release(&path);
    return rc;
}

int dan_hf_config_kind(const char *dir, struct dan_str *architecture, struct dan_str *model_type, struct dan_err *e)
{
    json_t *j;
    int rc = read_config(dir, "config.json", &j, e);
    if (rc) return rc;
    const char *arch = json_string_value(json_array_get(json_object_get(j, "architectures"), 0));
    const char *type = json_string_value(json_object_get(j, "model_type"));
    dan_str_puts(architecture, arch ? arch : "");
    dan_str_puts(model_type, type ? type : "");
    json_decref(j);
    return architecture->failed || model_type->failed ? dan_fail(e, DAN_ENOMEM, "out of memory reading '%s'", dir) : DAN_OK;
}

/* The i-th of "a|b|c"; false when there are no more. */
static bool alternative(const char *list, int i, char out[64])
{
    while (i-- > 0) {
        list = strchr(list, '|');
        if (!list) return false;
        list++;
    }
    size_t n = strcspn(list, "|");
    if (n >= 64) n = 63;
    memcpy(out, list, n);
    out[n] = '\0';
    return true;
}

static const json_t *find_field(const json_t *config, const char *keys, char key[64])
{
    for (int i = 0; alternative(keys, i, key); i++) {
        const json_t *j = dan_json_at(config, key);
        if (!j && !strcmp(key, "rope_theta")) j = dan_json_at(config, "rope_parameters.rope_theta");
        if (j) return j;
    }
    alternative(keys, 0, key);
    return NULL;
}

static bool set_field(void *at, char type, const json_t *j)
{
    if (type == 'i') {
        int64_t v;
        bool ok = dan_json_int(json_is_array(j) ? json_array_get(j, 0) : j, &v);
        if (ok) memcpy(at, &v, sizeof v);
        return ok;
    }
    if (type == 'f' || type == 'o') {
        double v = json_number_value(j);
        memcpy(at, &v, sizeof v);
        return json_is_number(j) || (type == 'o' && json_is_null(j));
    }
    bool v = json_is_true(j);
    memcpy(at, &v, sizeof v);
    return json_is_boolean(j);
}

static void set_default(void *at, const struct dan_field *f)
{
    bool b = f->dflt.i != 0;
    if (f->type == 'b') memcpy(at, &b, sizeof b);
    else memcpy(at, &f->dflt, sizeof f->dflt);
}

static int load_field(const char *dir, const json_t *config, const struct dan_field *f, void *cfg, struct dan_err *e)
{
    char key[64];
    void *at = (char *)cfg + f->offset;
    if (f->type == 'r' || f->type == 'l') return dan_hf_rope_read(dir, config, f, at, e);
    if (f->type == 'w') return dan_hf_window_read(dir, config, f, at, e);
    const json_t *j = f->type == 'o' ? json_object_get(config, f->hf) : find_field(config, f->hf, key);
    if (!j && f->dflt.i == INT64_MIN)
        return dan_fail(e, DAN_EFORMAT, "'%s' is missing in the config.json of '%s': the model cannot be built without it", key, dir);
    if (!j) set_default(at, f);
    else if (!set_field(at, f->type, j))
        return dan_fail(e, DAN_EFORMAT, "bad value of '%s' in the config.json of '%s': expected %s", f->type == 'o' ? f->hf : key, dir,
                        f->type == 'i' ? "an integer" : f->type == 'b' ? "true or false" : "a number");
    return DAN_OK;
}

/* ---- what is not supported ---- */

/* A scalar as the rules write it: "silu", "false", "1", "0.5"; "..." for what has no such form. */
static void value_text(const json_t *j, char *out, size_t n)
{
    struct dan_str s = {0};
    if (json_is_object(j)) {
        const json_t *t = json_object_get(j, "rope_type");
        if (!t) t = json_object_get(j, "quant_method");
        j = t ? t : json_object_get(j, "type");
    }
    if (json_is_string(j)) dan_str_puts(&s, json_string_value(j));
    else if (json_is_boolean(j)) dan_str_puts(&s, json_is_true(j) ? "true" : "false");
    else if (json_is_number(j)) dan_str_printf(&s, "%g", json_number_value(j));
    else dan_str_puts(&s, "...");
    size_t k = s.n < n - 1 ? s.n : n - 1;
    memcpy(out, dan_str_c(&s), k);
    out[k] = '\0';
    dan_str_release(&s);
}

static bool is_allowed(const struct rule *r, const json_t *j, char *shown, size_t n)
{
    char one[64];
    if (json_is_array(j)) {
        for (size_t i = 0; i < json_array_size(j); i++)
            if (!is_allowed(r, json_array_get(j, i), shown, n)) return false;
        return true;
    }
    value_text(j, shown, n);
    for (int i = 0; alternative(r->allowed, i, one); i++)
        if (one[0] && !strcmp(one, shown)) return true;
    return false;
}

static bool is_field(const struct dan_field *fields, const char *key)
{
    char one[64];
    for (const struct dan_field *f = fields; f->hf; f++)
        for (int i = 0; alternative(f->hf, i, one); i++)
            if (!strcmp(one, key)) return true;
    return false;
}

static int check_rules(const char *dir, const char *model, const struct dan_field *fields, const json_t *config, struct dan_err *e)
{
    char shown[64];
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        const struct rule *r = &rules[i];
        const json_t *j = json_object_get(config, r->key);
        if (!j || json_is_null(j) || (strcmp(r->model, "*") && strcmp(r->model, model)) || is_field(fields, r->key)) continue;
        if (!is_allowed(r, j, shown, sizeof shown))
            return dan_fail(e, DAN_EUNSUPPORTED, "unsupported '%s' (%s) in the config.json of '%s': it changes the arithmetic of the "
                            "model; supported: %s", r->key, shown, dir, r->allowed[0] ? r->allowed : "none");
    }
    return DAN_OK;
}

/* A window is in force when it is said to be used, or when nothing is said and it is shorter than the context. */
static int check_window(const char *dir, const struct dan_field *fields, const json_t *config, struct dan_err *e)
{
    int64_t window, context;
    const json_t *used = dan_json_at(config, "use_sliding_window");
    if (is_field(fields, "sliding_window") || !dan_json_int(dan_json_at(config, "sliding_window"), &window) || json_is_false(used))
        return DAN_OK;
    if (!used && dan_json_int(dan_json_at(config, "max_position_embeddings"), &context) && window >= context) return DAN_OK;
    return dan_fail(e, DAN_EUNSUPPORTED, "unsupported 'sliding_window' (%lld) in the config.json of '%s': this family attends to "
                    "the whole context; a model without a window is needed", (long long)window, dir);
}

int dan_hf_config_load(const char *dir, const char *model_type, const struct dan_field *fields, void *cfg, struct dan_err *e)
{
    json_t *config;
    int rc = read_config(dir, "config.json", &config, e);
    if (rc) return rc;
    rc = check_rules(dir, model_type, fields, config, e);
    if (!rc) rc = check_window(dir, fields, config, e);
    for (const struct dan_field *f = fields; f->hf && !rc; f++) rc = load_field(dir, config, f, cfg, e);
    json_decref(config);
    return rc;
}

/* ---- writing ---- */

static json_t *field_value(const struct dan_field *f, const void *cfg)
{
    const void *at = (const char *)cfg + f->offset;
    int64_t i;
    double d;
    bool b;
    if (f->type == 'f' || f->type == 'o') return memcpy(&d, at, sizeof d), d == 0 && f->type == 'o' ? json_null() : json_real(d);
    if (f->type == 'b') return memcpy(&b, at, sizeof b), json_boolean(b);
    memcpy(&i, at, sizeof i);
    return i == -1 && f->dflt.i == -1 ? json_null() : json_integer(i);
}

/* "a.b" makes the object a. */
static int set_dotted(json_t *o, const char *key, json_t *v)
{
    char head[64];
    const char *dot = strchr(key, '.');
    if (!dot) return json_object_set_new(o, key, v);
    size_t n = (size_t)(dot - key) < sizeof head ? (size_t)(dot - key) : sizeof head - 1;
    memcpy(head, key, n);
    head[n] = '\0';
    json_t *inner = json_object_get(o, head);
    if (!inner) {
        inner = json_object();
        if (json_object_set_new(o, head, inner)) return -1;
    }
    return set_dotted(inner, dot + 1, v);
}

static int set_extra(json_t *config, const struct dan_pair *extra, size_t n, struct dan_err *e)
{
    for (size_t i = 0; i < n; i++) {
        json_t *v = json_loads(extra[i].value, JSON_DECODE_ANY, NULL);
        if (!v || set_dotted(config, extra[i].key, v))
            return dan_fail(e, DAN_EINVAL, "cannot write config.json: the value of '%s' is no JSON: %s", extra[i].key, extra[i].value);
    }
    return DAN_OK;
}

static int write_config(const char *dir, const char *name, const json_t *j, struct dan_err *e)
{
    struct dan_str path = {0};
    dan_path_join(&path, dir, name);
    int rc = path.failed ? dan_fail(e, DAN_ENOMEM, "out of memory writing '%s'", name) : dan_json_write(path.p, j, e);
    dan_str_release(&path);
    return rc;
}

int dan_hf_config_save(const char *dir, const char *model_type, const char *architecture, const struct dan_field *fields,
                       const void *cfg, const struct dan_pair *extra, size_t n_extra, struct dan_err *e)
{
    json_t *config = json_object();
    char key[64];
    int bad = json_object_set_new(config, "architectures", json_pack("[s]", architecture)) ||
              json_object_set_new(config, "model_type", json_string(model_type));
    for (const struct dan_field *f = fields; f->hf && !bad; f++) {
        const void *at = (const char *)cfg + f->offset;
        alternative(f->hf, 0, key);
        if (f->type == 'r' || f->type == 'l') bad = dan_hf_rope_write(config, f, at);
        else if (f->type == 'w') bad = dan_hf_window_write(config, f, at);
        else bad = set_dotted(config, key, field_value(f, cfg));
    }
    int rc = bad ? dan_fail(e, DAN_ENOMEM, "out of memory writing the config.json of '%s'", dir) : set_extra(config, extra, n_extra, e);
    if (!rc) rc = write_config(dir, "config.json", config, e);
    json_decref(config);
    return rc;
}

/* ---- generation_config.json ---- */

static void get_int(const json_t *j, const char *key, int64_t *out)
{
    const json_t *v = dan_json_at(j, key);
    dan_json_int(json_is_array(v) ? json_array_get(v, 0) : v, out);
}

static void get_number(const json_t *j, const char *key, double *out)
{
    const json_t *v = dan_json_at(j, key);
    if (json_is_number(v)) *out = json_number_value(v);
}

static int get_eos(const json_t *j, const char *dir, struct dan_hf_generation *g, struct dan_err *e)
{
    const json_t *v = dan_json_at(j, "eos_token_id");
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    for (size_t i = 0; i < n; i++) {
        int64_t id;
        if (!dan_json_int(json_is_array(v) ? json_array_get(v, i) : v, &id)) continue;
        if (g->n_eos == DAN_HF_MAX_EOS)
            return dan_fail(e, DAN_EFORMAT, "the configuration in '%s' has more than %d ids in eos_token_id", dir, DAN_HF_MAX_EOS);
        g->eos[g->n_eos++] = id;
    }
    return DAN_OK;
}

int dan_hf_generation_load(const char *dir, struct dan_hf_generation *out, struct dan_err *e)
{
    *out = (struct dan_hf_generation){.bos = -1, .pad = -1, .temperature = 1, .top_p = 1, .repetition_penalty = 1};
    struct dan_str path = {0};
    dan_path_join(&path, dir, "generation_config.json");
    json_t *j = NULL;
    int rc = path.failed ? dan_fail(e, DAN_ENOMEM, "out of memory reading '%s'", dir) : DAN_OK;
    bool own = !rc && dan_path_exists(path.p);
    dan_str_clear(&path);
    dan_path_join(&path, dir, own ? "generation_config.json" : "config.json");
    if (!rc && path.failed) rc = dan_fail(e, DAN_ENOMEM, "out of memory reading '%s'", dir);
    if (!rc && (own || dan_path_exists(path.p))) rc = dan_json_read(path.p, &j, e);
    dan_str_release(&path);
    if (rc || !j) return rc;
    get_int(j, "bos_token_id", &out->bos);
    get_int(j, "pad_token_id", &out->pad);
    rc = get_eos(j, dir, out, e);
    if (own) {                                 /* config.json is not the place for these */
        get_int(j, "top_k", &out->top_k);
        get_int(j, "max_new_tokens", &out->max_new_tokens);
        get_number(j, "temperature", &out->temperature);
        get_number(j, "top_p", &out->top_p);
        get_number(j, "repetition_penalty", &out->repetition_penalty);
        out->sample = json_is_true(dan_json_at(j, "do_sample"));
    }
    json_decref(j);
    return rc;
}

static json_t *eos_value(const struct dan_hf_generation *g)
{
    if (g->n_eos == 1) return json_integer(g->eos[0]);
    json_t *list = json_array();
    for (int i = 0; i < g->n_eos; i++) json_array_append_new(list, json_integer(g->eos[i]));
    return list;
}

int dan_hf_generation_save(const char *dir, const struct dan_hf_generation *g, struct dan_err *e)
{
    json_t *j = json_object();
    int bad = 0;
    if (g->bos >= 0) bad |= json_object_set_new(j, "bos_token_id", json_integer(g->bos));
    if (g->n_eos) bad |= json_object_set_new(j, "eos_token_id", eos_value(g));
    if (g->pad >= 0) bad |= json_object_set_new(j, "pad_token_id", json_integer(g->pad));
    bad |= json_object_set_new(j, "do_sample", json_boolean(g->sample));
    if (g->sample) {                           /* transformers refuses these without do_sample */
        bad |= json_object_set_new(j, "temperature", json_real(g->temperature));
        bad |= json_object_set_new(j, "top_p", json_real(g->top_p));
        if (g->top_k > 0) bad |= json_object_set_new(j, "top_k", json_integer(g->top_k));
    }
    if (g->repetition_penalty != 1) bad |= json_object_set_new(j, "repetition_penalty", json_real(g->repetition_penalty));
    if (g->max_new_tokens > 0) bad |= json_object_set_new(j, "max_new_tokens", json_integer(g->max_new_tokens));
    int rc = bad ? dan_fail(e, DAN_ENOMEM, "out of memory writing the generation_config.json of '%s'", dir)
                 : write_config(dir, "generation_config.json", j, e);
    json_decref(j);
    return rc;
}
