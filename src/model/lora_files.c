#include "model/lora_files.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/json.h"
#include "io/safetensors.h"

enum { NAME = 512 };
static const char prefix[] = "base_model.model.";

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for an adapter"); }

bool dan_lora_is(const char *dir)
{
    struct dan_str path = {0};
    dan_path_join(&path, dir, "adapter_config.json");
    bool is = !path.failed && dan_path_exists(dan_str_c(&path));
    dan_str_release(&path);
    return is;
}

/* ---- names ---- */

/* "blk.0.attn_q.weight@a.lora_b" -> "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight" */
static bool peft_name(const struct dan_lm *lm, const char *tensor, const char *adapter, char out[NAME])
{
    const char *name;
    char base[256], hf[256];
    size_t n, k = dan_lora_base(tensor, &name, &n);
    bool turned;
    if (!k || k >= sizeof base || strlen(adapter) != n || strncmp(name, adapter, n)) return false;
    snprintf(base, sizeof base, "%.*s", (int)k, tensor);
    if (!dan_lm_hf_name(lm->model, base, hf, sizeof hf, &turned)) snprintf(hf, sizeof hf, "%s", base);
    if (dan_str_ends(hf, ".weight")) hf[strlen(hf) - strlen(".weight")] = 0;
    snprintf(out, NAME, "%s%s.lora_%c.weight", prefix, hf, dan_str_ends(tensor, ".lora_a") ? 'A' : 'B');
    return true;
}

/* The module of a PEFT name, and whether it is B; false for other tensors. */
static bool module_of(const char *name, char out[NAME], bool *is_b)
{
    static const char *const ends[2][2] = {{".lora_A.weight", ".lora_A.default.weight"}, {".lora_B.weight", ".lora_B.default.weight"}};
    const char *p = dan_str_starts(name, prefix) ? name + strlen(prefix) : name;
    for (int k = 0; k < 4; k++)
        if (dan_str_ends(p, ends[k / 2][k % 2])) {
            snprintf(out, NAME, "%.*s", (int)(strlen(p) - strlen(ends[k / 2][k % 2])), p);
            *is_b = k / 2;
            return true;
        }
    return false;
}

/* danlu's name of the matrix of a module; NULL when the model has none. */
static const char *matrix_of(const struct dan_lm *lm, const char *module)
{
    char hf[256];
    bool turned;
    size_t n = strlen(module);
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        const char *ours = dan_store_name(lm->store, i);
        if (strpbrk(ours, "@+") || !dan_lm_hf_name(lm->model, ours, hf, sizeof hf, &turned)) continue;
        if (!strncmp(hf, module, n) && (!hf[n] || !strcmp(hf + n, ".weight")) && dan_store_at(lm->store, i)->shape.n == 2) return ours;
    }
    return NULL;
}

/* ---- writing ---- */

static const char *last_part(const char *module)
{
    const char *dot = strrchr(module, '.');
    return dot ? dot + 1 : module;
}

static bool holds(const json_t *list, const char *text)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!strcmp(json_string_value(json_array_get(list, i)), text)) return true;
    return false;
}

static json_t *config_of(const char *base, json_t *targets, int64_t rank, double scale, bool turned)
{
    return json_pack("{s:s,s:s,s:s,s:I,s:f,s:f,s:O,s:s,s:b,s:b,s:b,s:b,s:n,s:{},s:{},s:n,s:b}", "peft_type", "LORA", "task_type", "CAUSAL_LM",
                     "base_model_name_or_path", base, "r", (json_int_t)rank, "lora_alpha", scale * (double)rank, "lora_dropout", 0.0, "target_modules", targets,
                     "bias", "none", "fan_in_fan_out", (int)turned, "use_rslora", 0, "use_dora", 0, "init_lora_weights", 1, "modules_to_save", "rank_pattern",
                     "alpha_pattern", "layers_to_transform", "inference_mode", 1);
}

struct saving { struct dan_named *list; char (*name)[NAME]; size_t n; json_t *targets; int64_t rank; bool turned; };

static void collect(struct saving *s, const struct dan_lm *lm, const char *adapter)
{
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        char module[NAME], base[256], hf[256];
        const char *tensor = dan_store_name(lm->store, i), *of;
        size_t of_n;
        bool is_b, turned = false;
        if (!peft_name(lm, tensor, adapter, s->name[s->n])) continue;
        if (module_of(s->name[s->n], module, &is_b) && !holds(s->targets, last_part(module))) json_array_append_new(s->targets, json_string(last_part(module)));
        snprintf(base, sizeof base, "%.*s", (int)dan_lora_base(tensor, &of, &of_n), tensor);
        if (dan_lm_hf_name(lm->model, base, hf, sizeof hf, &turned)) s->turned |= turned;
        if (!is_b) s->rank = dan_store_at(lm->store, i)->shape.d[0];
        s->list[s->n] = (struct dan_named){s->name[s->n], dan_store_at(lm->store, i)};
        s->n++;
    }
}

static int write_both(const struct saving *s, double scale, const char *dir, const char *base, struct dan_err *e)
{
    struct dan_str config = {0}, weights = {0};
    json_t *j = config_of(base, s->targets, s->rank, scale, s->turned);
    dan_path_join(&config, dir, "adapter_config.json");
    dan_path_join(&weights, dir, "adapter_model.safetensors");
    int rc = !j || config.failed || weights.failed ? no_memory(e) : dan_mkdirs(dir, e);
    if (!rc) rc = dan_safetensors_save_list(dan_str_c(&weights), s->list, s->n, NULL, 0, e);
    if (!rc) rc = dan_json_write(dan_str_c(&config), j, e);
    json_decref(j);
    dan_str_release(&config);
    dan_str_release(&weights);
    return rc;
}

int dan_lora_save(const struct dan_lm *lm, const char *name, const char *dir, const char *base, struct dan_err *e)
{
    size_t n = dan_store_count(lm->store);
    struct saving s = {.list = dan_calloc(n + 1, sizeof *s.list), .name = dan_calloc(n + 1, sizeof *s.name), .targets = json_array()};
    const struct dan_adapter *a = dan_lora_find((struct dan_lm *)(uintptr_t)lm, name);
    int rc = !a ? dan_fail(e, DAN_EINVAL, "there is no adapter '%s'", name) : s.list && s.name && s.targets ? DAN_OK : no_memory(e);
    if (!rc) collect(&s, lm, name);
    if (!rc) rc = write_both(&s, a->scale, dir, base, e);
    json_decref(s.targets);
    dan_free(s.list);
    dan_free(s.name);
    return rc;
}

/* ---- reading ---- */

static bool is_set(const json_t *config, const char *key)
{
    const json_t *v = json_object_get(config, key);
    if (!v || json_is_null(v) || json_is_false(v)) return false;
    if (json_is_object(v)) return json_object_size(v) > 0;
    if (json_is_array(v)) return json_array_size(v) > 0;
    if (json_is_string(v)) return strcmp(json_string_value(v), "none") != 0 && *json_string_value(v);
    return !json_is_number(v) || json_number_value(v) != 0;
}

static int check_config(const char *path, const json_t *c, double *scale, struct dan_err *e)
{
    static const char *const refused[] = {"use_dora", "bias", "lora_bias", "modules_to_save", "alpha_pattern", "trainable_token_indices", "target_parameters",
                                          "megatron_config", "use_qalora", "alora_invocation_tokens", "layer_replication",
                                          "use_bdlora", "kasa_config", "velora_config", "monteclora_config", "arrow_config"};
    const char *type = json_string_value(json_object_get(c, "peft_type"));
    const json_t *r = json_object_get(c, "r"), *alpha = json_object_get(c, "lora_alpha");
    if (!type || strcmp(type, "LORA")) return dan_fail(e, DAN_EUNSUPPORTED, "'%s' has peft_type '%.40s': only LORA is read", path, type ? type : "?");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (is_set(c, refused[i])) return dan_fail(e, DAN_EUNSUPPORTED, "'%s' sets '%s', which is not supported", path, refused[i]);
    if (!json_is_integer(r) || json_integer_value(r) < 1) return dan_fail(e, DAN_EFORMAT, "'%s' has no rank: expected \"r\", a positive integer", path);
    if (!json_is_number(alpha)) return dan_fail(e, DAN_EFORMAT, "'%s' has no number \"lora_alpha\"", path);
    double rank = (double)json_integer_value(r);
    *scale = json_number_value(alpha) / (json_is_true(json_object_get(c, "use_rslora")) ? sqrt(rank) : rank);
    return isfinite(*scale) ? DAN_OK : dan_fail(e, DAN_EFORMAT, "'%s': lora_alpha is not finite", path);
}

static int copy_f32(struct dan_store *to, const char *name, const struct dan_tensor *t, struct dan_err *e)
{
    int rc = dan_store_add(to, name, &dan_dtype_f32, t->shape, e);
    const struct dan_tensor *d = rc ? NULL : dan_store_find(to, name);
    for (int64_t r = 0; !rc && r < dan_rows(t); r++) t->dtype->to_f32(dan_row(t, r), dan_row(d, r), dan_cols(t));
    return rc;
}

static int take_tensor(struct dan_lm *lm, const char *adapter, const char *file_name, const struct dan_tensor *t, struct dan_err *e)
{
    char module[NAME], full[NAME];
    bool is_b;
    if (!module_of(file_name, module, &is_b))
        return dan_fail(e, DAN_EUNSUPPORTED, "the adapter's tensor '%s' is no pair of LoRA: expected names that end in .lora_A.weight and .lora_B.weight", file_name);
    const char *matrix = matrix_of(lm, module);
    if (!matrix) return dan_fail(e, DAN_EFORMAT, "the model has no matrix '%s', which the adapter changes: is it an adapter of another model?", module);
    const struct dan_tensor *w = dan_store_find(lm->store, matrix);
    if (t->shape.n != 2 || t->shape.d[is_b ? 0 : 1] != w->shape.d[is_b ? 0 : 1])
        return dan_fail(e, DAN_ESHAPE, "'%s' does not fit the model's '%s' [%lld,%lld]: it is an adapter of another model", file_name, matrix,
                        (long long)w->shape.d[0], (long long)w->shape.d[1]);
    if (t->dtype->block > 1 || !t->dtype->to_f32) return dan_fail(e, DAN_EUNSUPPORTED, "'%s' is stored as %s: expected floats", file_name, t->dtype->name);
    snprintf(full, sizeof full, "%.255s@%s.lora_%c", matrix, adapter, is_b ? 'b' : 'a');
    return copy_f32(lm->store, full, t, e);
}

/* Both halves, of one rank. */
static int check_pairs(const struct dan_lm *lm, const char *adapter, struct dan_err *e)
{
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        const char *name = dan_store_name(lm->store, i), *of;
        char other[NAME];
        size_t of_n, base = dan_lora_base(name, &of, &of_n);
        if (!base || strlen(adapter) != of_n || strncmp(of, adapter, of_n)) continue;
        bool is_b = dan_str_ends(name, "b");
        snprintf(other, sizeof other, "%.*s%c", (int)strlen(name) - 1, name, is_b ? 'a' : 'b');
        const struct dan_tensor *x = dan_store_at(lm->store, i), *y = dan_store_find(lm->store, other);
        if (!y) return dan_fail(e, DAN_EFORMAT, "the adapter has lora_%c but no lora_%c for '%.*s'", is_b ? 'B' : 'A', is_b ? 'A' : 'B', (int)base, name);
        if (x->shape.d[is_b ? 1 : 0] != y->shape.d[is_b ? 0 : 1])
            return dan_fail(e, DAN_ESHAPE, "lora_A and lora_B for '%.*s' differ in rank", (int)base, name);
    }
    return DAN_OK;
}

static int take_all(struct dan_lm *lm, const struct dan_store *file, const char *path, const char *name, struct dan_err *e)
{
    int rc = dan_store_count(file) ? DAN_OK : dan_fail(e, DAN_EFORMAT, "'%s' holds no tensors", path);
    for (size_t i = 0; i < dan_store_count(file) && !rc; i++) rc = take_tensor(lm, name, dan_store_name(file, i), dan_store_at(file, i), e);
    return rc ? rc : check_pairs(lm, name, e);
}

int dan_lora_load(struct dan_lm *lm, const char *dir, const char *name, struct dan_err *e)
{
    struct dan_str config = {0}, weights = {0};
    struct dan_store *file = NULL;
    json_t *c = NULL;
    double scale = 0;
    dan_path_join(&config, dir, "adapter_config.json");
    dan_path_join(&weights, dir, "adapter_model.safetensors");
    int before = lm->n_adapters;
    int rc = config.failed || weights.failed ? no_memory(e) : dan_json_read(dan_str_c(&config), &c, e);
    if (!rc) rc = check_config(dan_str_c(&config), c, &scale, e);
    if (!rc) rc = dan_safetensors_open(dan_str_c(&weights), &file, e);
    if (!rc) rc = dan_lora_register(lm, name, scale, e);
    if (!rc && (rc = take_all(lm, file, dan_str_c(&weights), name, e))) lm->n_adapters = before;
    json_decref(c);
    dan_store_free(file);
    dan_str_release(&config);
    dan_str_release(&weights);
    return rc;
}

int dan_lora_base_model(const char *dir, struct dan_str *out, struct dan_err *e)
{
    struct dan_str path = {0}, beside = {0};
    json_t *c = NULL;
    dan_path_join(&path, dir, "adapter_config.json");
    int rc = path.failed ? no_memory(e) : dan_json_read(dan_str_c(&path), &c, e);
    const char *base = rc ? NULL : json_string_value(json_object_get(c, "base_model_name_or_path"));
    if (!rc && !base) rc = dan_fail(e, DAN_EFORMAT, "'%s' names no base model (base_model_name_or_path)", dan_str_c(&path));
    if (!rc) dan_str_printf(&beside, "%s/../%s", dir, base);
    if (!rc && dan_path_exists(base)) dan_str_puts(out, base);
    else if (!rc && *base != '/' && dan_path_exists(dan_str_c(&beside))) dan_str_puts(out, dan_str_c(&beside));
    else if (!rc) rc = dan_fail(e, DAN_EIO, "the adapter '%s' is of the model '%s', which is not there: put it there, or change base_model_name_or_path", dir, base);
    json_decref(c);
    dan_str_release(&path);
    dan_str_release(&beside);
    return rc;
}
