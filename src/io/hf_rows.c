#include "io/hf_rows.h"
#include <string.h>
#include "io/json.h"

/* ---- reading ---- */

/* Keys of an object of config.json and the values that are computed; NULL: must be absent, null, false or empty. */
struct rule { const char *key, *allowed[4]; };

static bool is_empty(const json_t *j)
{
    return !j || json_is_null(j) || json_is_false(j) || ((json_is_object(j) || json_is_array(j)) && !json_object_size(j) && !json_array_size(j));
}

static bool is_allowed(const json_t *j, const struct rule *r)
{
    if (!r->allowed[0]) return is_empty(j);
    for (int i = 0; i < 4 && r->allowed[i]; i++) {
        char text[32] = "";
        if (json_is_string(j)) snprintf(text, sizeof text, "%s", json_string_value(j));
        else if (json_is_integer(j)) snprintf(text, sizeof text, "%lld", (long long)json_integer_value(j));
        else if (json_is_boolean(j)) snprintf(text, sizeof text, "%s", json_is_true(j) ? "true" : "false");
        if (!strcmp(text, r->allowed[i])) return true;
    }
    return false;
}

static int check_object(const char *dir, const char *where, const json_t *o, const struct rule *rules, struct dan_err *e)
{
    for (const struct rule *r = rules; r->key; r++) {
        const json_t *j = json_object_get(o, r->key);
        if (is_allowed(j, r)) continue;
        struct dan_str list = {0}, shown = {0};
        for (int i = 0; i < 4 && r->allowed[i]; i++) dan_str_printf(&list, "%s%s", i ? ", " : "", r->allowed[i]);
        if (j) dan_json_text(j, &shown);
        int rc = dan_fail(e, DAN_EUNSUPPORTED, "unsupported '%s.%s' (%.60s) in the config.json of '%s': it changes the arithmetic of the model; supported: %s",
                          where, r->key, j ? dan_str_c(&shown) : "absent", dir, list.n ? dan_str_c(&list) : "none");
        dan_str_release(&list);
        dan_str_release(&shown);
        return rc;
    }
    return DAN_OK;
}

static int check_activations(const char *dir, const char *type, const json_t *a, struct dan_err *e)
{
    bool fixed = json_is_false(json_object_get(a, "dynamic"));
    const struct rule rules[] = {{"num_bits", {"8"}}, {"type", {type}}, {"dynamic", {"true", "false"}}, {"strategy", {fixed ? "tensor" : "token"}},
                                 {NULL, {0}}};
    return a && !json_is_null(a) ? check_object(dir, "quantization_config.input_activations", a, rules, e) : DAN_OK;
}

static int check_group(const char *dir, const json_t *group, struct dan_err *e)
{
    static const struct rule weights[] = {{"num_bits", {"8"}}, {"type", {"int", "float"}}, {"strategy", {"channel", "tensor"}}, {"dynamic", {0}},
                                          {NULL, {0}}};
    static const struct rule rest[] = {{"output_activations", {0}}, {NULL, {0}}};
    const json_t *w = json_object_get(group, "weights");
    int rc = check_object(dir, "quantization_config.weights", w, weights, e);
    if (!rc) rc = check_activations(dir, json_string_value(json_object_get(w, "type")), json_object_get(group, "input_activations"), e);
    return rc ? rc : check_object(dir, "quantization_config", group, rest, e);
}

int dan_hf_rows_check(const char *dir, struct dan_err *e)
{
    static const struct rule top[] = {
        {"quant_method", {"compressed-tensors"}}, {"format", {"int-quantized", "float-quantized", "naive-quantized"}},
        {"kv_cache_scheme", {0}}, {"sparsity_config", {0}}, {"transform_config", {0}}, {NULL, {0}}};
    struct dan_str path = {0};
    json_t *config = NULL;
    if (dan_str_ends(dir, ".json")) dan_str_puts(&path, dir);
    else dan_path_join(&path, dir, "config.json");
    int rc = path.failed ? dan_fail(e, DAN_ENOMEM, "out of memory reading '%s'", dir) : dan_json_read(path.p, &config, e);
    dan_str_release(&path);
    const json_t *q = rc ? NULL : json_object_get(config, "quantization_config"), *groups = json_object_get(q, "config_groups");
    if (q && !json_is_null(q)) {
        const char *name;
        json_t *group;
        rc = check_object(dir, "quantization_config", q, top, e);
        if (!rc && !json_object_size(groups))
            rc = dan_fail(e, DAN_EFORMAT, "the config.json of '%s' has a quantization_config without config_groups: which weights are quantised?", dir);
        json_object_foreach((json_t *)(uintptr_t)groups, name, group) if (!rc) rc = check_group(dir, group, e);
    }
    json_decref(config);
    return rc;
}

/* ---- writing ---- */

static json_t *strings(const char *const *s, size_t n)
{
    json_t *a = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(a, json_string(s[i]));
    return a;
}

static json_t *arguments(bool is_float, bool symmetric, const char *strategy, bool dynamic)
{
    return json_pack("{s:i, s:s, s:b, s:s, s:b, s:n, s:n}", "num_bits", 8, "type", is_float ? "float" : "int", "symmetric", symmetric, "strategy", strategy,
                     "dynamic", dynamic, "group_size", "observer");
}

/* Activations of float weights stay as they are. */
static json_t *group_json(const struct dan_hf_rows_group *g)
{
    json_t *in = g->is_float ? json_null() : arguments(false, !g->static_asymmetric, g->is_static ? "tensor" : "token", !g->is_static);
    return json_pack("{s:o, s:o, s:o, s:n}", "targets", strings(g->target, g->n_targets), "weights",
                     arguments(g->is_float, !g->asymmetric, "channel", false), "input_activations", in, "output_activations");
}

int dan_hf_rows_text(const struct dan_hf_rows_group *group, size_t n_groups, const char *const *ignore, size_t n_ignore, struct dan_str *out,
                     struct dan_err *e)
{
    json_t *groups = json_object();
    bool all_float = n_groups > 0;
    for (size_t i = 0; i < n_groups; i++) {
        char name[32];
        snprintf(name, sizeof name, "group_%zu", i);
        json_object_set_new(groups, name, group_json(&group[i]));
        all_float = all_float && group[i].is_float;
    }
    json_t *j = json_pack("{s:s, s:s, s:s, s:o, s:o, s:n}", "quant_method", "compressed-tensors", "format", all_float ? "float-quantized" : "int-quantized",
                          "quantization_status", "compressed", "config_groups", groups, "ignore", strings(ignore, n_ignore), "kv_cache_scheme");
    int rc = !j || dan_json_text(j, out) ? dan_fail(e, DAN_ENOMEM, "out of memory writing a quantization_config") : DAN_OK;
    json_decref(j);
    return rc;
}
