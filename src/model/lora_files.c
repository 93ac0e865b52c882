#include "model/lora_files.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "model/score.h"

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

enum part { PART_A, PART_B, PART_M, N_PARTS };
static const struct { const char *ours, *peft[3]; } parts[N_PARTS] = {
    {"lora_a", {".lora_A.weight", ".lora_A.default.weight", NULL}},
    {"lora_b", {".lora_B.weight", ".lora_B.default.weight", NULL}},
    {"dora_m", {".lora_magnitude_vector", ".lora_magnitude_vector.weight", ".lora_magnitude_vector.default.weight"}},
};

/* The file's module of a matrix, "model.layers.0.self_attn.q_proj"; an adapter changes tied embeddings as the head alone.  *turned: the file has them transposed. */
static void module_name(const struct dan_lm *lm, const char *base, char out[NAME], bool *turned)
{
    bool head = lm->cfg.tied && !strcmp(base, "token_embd.weight");
    *turned = false;
    if (!dan_lm_hf_name(lm->model, head ? "output.weight" : base, out, NAME, turned)) snprintf(out, NAME, "%s", base);
    if (dan_str_ends(out, ".weight")) out[strlen(out) - strlen(".weight")] = 0;
}

/* "blk.0.attn_q.weight@a.lora_b" -> "base_model.model.model.layers.0.self_attn.q_proj", its part; false for tensors that no file holds. */
static bool peft_module(const struct dan_lm *lm, const char *tensor, const char *adapter, char out[NAME], enum part *part, bool *turned)
{
    const char *name;
    char base[256], module[NAME];
    size_t n, k = dan_lora_base(tensor, &name, &n);
    if (!k || k >= sizeof base || strlen(adapter) != n || strncmp(name, adapter, n)) return false;
    for (*part = PART_A; *part < N_PARTS && strcmp(name + n + 1, parts[*part].ours); (*part)++) {}
    if (*part == N_PARTS) return false;
    snprintf(base, sizeof base, "%.*s", (int)k, tensor);
    module_name(lm, base, module, turned);
    snprintf(out, NAME, "%s%.400s", prefix, module);
    return true;
}

static const char *after_prefix(const char *name) { return dan_str_starts(name, prefix) ? name + strlen(prefix) : name; }

/* The module of a PEFT name, and which part it is; false for other tensors. */
static bool module_of(const char *name, char out[NAME], enum part *part)
{
    const char *p = after_prefix(name);
    for (int k = 0; k < N_PARTS; k++)
        for (int i = 0; i < 3 && parts[k].peft[i]; i++)
            if (dan_str_ends(p, parts[k].peft[i])) {
                snprintf(out, NAME, "%.*s", (int)(strlen(p) - strlen(parts[k].peft[i])), p);
                *part = (enum part)k;
                return true;
            }
    return false;
}

/* danlu's name of the matrix of a module; NULL when the model has none. */
static const char *matrix_of(const struct dan_lm *lm, const char *module)
{
    char name[NAME], hf[NAME];
    bool turned;
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        const char *ours = dan_store_name(lm->store, i);
        if (strpbrk(ours, "@+") || dan_store_at(lm->store, i)->shape.n != 2) continue;
        module_name(lm, ours, name, &turned);
        if (!strcmp(name, module)) return ours;
        size_t n = strlen(module);             /* tied embeddings by their own name, as danlu wrote them once */
        if (dan_lm_hf_name(lm->model, ours, hf, sizeof hf, &turned) && !strncmp(hf, module, n) && (!hf[n] || !strcmp(hf + n, ".weight"))) return ours;
    }
    return NULL;
}

/* A score head beside the adapter, one of PEFT's modules_to_save. */
static bool is_score(const char *name)
{
    static const char *const names[] = {"score.weight", "score.modules_to_save.weight", "score.modules_to_save.default.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(after_prefix(name), names[i])) return true;
    return false;
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

struct saving { struct dan_named *list; char (*name)[NAME]; size_t n; json_t *targets, *ranks, *alphas; int64_t rank; double scale; bool turned, dora, score; };

static json_t *config_of(const struct saving *s, const char *base)
{
    json_t *saved = s->score ? json_pack("[s]", "score") : json_null();
    return json_pack("{s:s,s:s,s:s,s:I,s:f,s:f,s:O,s:s,s:b,s:b,s:b,s:b,s:o,s:O,s:O,s:n,s:b}", "peft_type", "LORA", "task_type", s->score ? "SEQ_CLS" : "CAUSAL_LM",
                     "base_model_name_or_path", base, "r", (json_int_t)s->rank, "lora_alpha", s->scale * (double)s->rank, "lora_dropout", 0.0, "target_modules", s->targets,
                     "bias", "none", "fan_in_fan_out", (int)s->turned, "use_rslora", 0, "use_dora", (int)s->dora, "init_lora_weights", 1, "modules_to_save", saved, "rank_pattern",
                     s->ranks, "alpha_pattern", s->alphas, "layers_to_transform", "inference_mode", 1);
}

static void note_module(struct saving *s, const char *module, int64_t rank)
{
    if (!holds(s->targets, last_part(module))) json_array_append_new(s->targets, json_string(last_part(module)));
    if (!s->rank) s->rank = rank;
    if (rank == s->rank) return;
    json_object_set_new(s->ranks, module, json_integer(rank));
    json_object_set_new(s->alphas, module, json_real(s->scale * (double)rank));
}

static void collect(struct saving *s, const struct dan_lm *lm, const char *adapter)
{
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        char module[NAME];
        const struct dan_tensor *t = dan_store_at(lm->store, i);
        enum part part;
        bool turned;
        if (!peft_module(lm, dan_store_name(lm->store, i), adapter, module, &part, &turned)) continue;
        if (part == PART_A) note_module(s, after_prefix(module), t->shape.d[0]);
        s->dora |= part == PART_M;
        snprintf(s->name[s->n], NAME, "%.400s%s", module, parts[part].peft[0]);
        s->turned |= turned;
        s->list[s->n] = (struct dan_named){s->name[s->n], t};
        s->n++;
    }
}

/* The adapter's own head, or the model's where that learnt beside it. */
static void collect_score(struct saving *s, const struct dan_lm *lm, const struct dan_adapter *a)
{
    const struct dan_tensor *t = dan_lm_score_of(lm, a->name);
    if (!t && a->trained) t = dan_lm_score_of(lm, NULL);
    if (!t) return;
    snprintf(s->name[s->n], NAME, "%sscore.weight", prefix);
    s->list[s->n] = (struct dan_named){s->name[s->n], t};
    s->n++;
    s->score = true;
}

static int write_both(const struct saving *s, const char *dir, const char *base, struct dan_err *e)
{
    struct dan_str config = {0}, weights = {0};
    const struct dan_pair format = {"format", "pt"};
    json_t *j = config_of(s, base);
    dan_path_join(&config, dir, "adapter_config.json");
    dan_path_join(&weights, dir, "adapter_model.safetensors");
    int rc = !j || config.failed || weights.failed ? no_memory(e) : dan_mkdirs(dir, e);
    if (!rc) rc = dan_safetensors_save_list(dan_str_c(&weights), s->list, s->n, &format, 1, e);
    if (!rc) rc = dan_json_write(dan_str_c(&config), j, e);
    json_decref(j);
    dan_str_release(&config);
    dan_str_release(&weights);
    return rc;
}

int dan_lora_save(const struct dan_lm *lm, const char *name, const char *dir, const char *base, struct dan_err *e)
{
    size_t n = dan_store_count(lm->store);
    struct saving s = {.list = dan_calloc(n + 1, sizeof *s.list), .name = dan_calloc(n + 1, sizeof *s.name), .targets = json_array(), .ranks = json_object(),
                       .alphas = json_object()};
    const struct dan_adapter *a = dan_lora_find((struct dan_lm *)(uintptr_t)lm, name);
    int rc = !a ? dan_fail(e, DAN_EINVAL, "there is no adapter '%s'", name) : s.list && s.name && s.targets && s.ranks && s.alphas ? DAN_OK : no_memory(e);
    if (!rc) s.scale = a->scale;
    if (!rc) collect(&s, lm, name);
    if (!rc) collect_score(&s, lm, a);
    if (!rc) rc = write_both(&s, dir, base, e);
    json_decref(s.targets);
    json_decref(s.ranks);
    json_decref(s.alphas);
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

/* An adapter that is being read. */
struct reading { struct dan_lm *lm; const char *name, *path; json_t *config; double scale; bool dora; };

/* PEFT names both for models that classify. */
static int check_saved_modules(const struct reading *r, struct dan_err *e)
{
    const json_t *list = json_object_get(r->config, "modules_to_save");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (!name || (strcmp(name, "score") && strcmp(name, "classifier")))
            return dan_fail(e, DAN_EUNSUPPORTED, "'%s' sets 'modules_to_save' with '%.60s': only \"score\", a score head, is supported", r->path, name ? name : "?");
    }
    return DAN_OK;
}

static int check_config(struct reading *r, struct dan_err *e)
{
    static const char *const refused[] = {"bias", "lora_bias", "trainable_token_indices", "target_parameters",
                                          "megatron_config", "use_qalora", "alora_invocation_tokens", "layer_replication",
                                          "use_bdlora", "kasa_config", "velora_config", "monteclora_config", "arrow_config"};
    const json_t *c = r->config, *rank = json_object_get(c, "r"), *alpha = json_object_get(c, "lora_alpha");
    const char *type = json_string_value(json_object_get(c, "peft_type"));
    if (!type || strcmp(type, "LORA")) return dan_fail(e, DAN_EUNSUPPORTED, "'%s' has peft_type '%.40s': only LORA is read", r->path, type ? type : "?");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (is_set(c, refused[i])) return dan_fail(e, DAN_EUNSUPPORTED, "'%s' sets '%s', which is not supported", r->path, refused[i]);
    if (check_saved_modules(r, e)) return DAN_EUNSUPPORTED;
    if (!json_is_integer(rank) || json_integer_value(rank) < 1) return dan_fail(e, DAN_EFORMAT, "'%s' has no rank: expected \"r\", a positive integer", r->path);
    if (!json_is_number(alpha)) return dan_fail(e, DAN_EFORMAT, "'%s' has no number \"lora_alpha\"", r->path);
    double by = (double)json_integer_value(rank);
    r->scale = json_number_value(alpha) / (json_is_true(json_object_get(c, "use_rslora")) ? sqrt(by) : by);
    r->dora = json_is_true(json_object_get(c, "use_dora"));
    return isfinite(r->scale) ? DAN_OK : dan_fail(e, DAN_EFORMAT, "'%s': lora_alpha is not finite", r->path);
}

static int copy_f32(struct dan_store *to, const char *name, const struct dan_tensor *t, struct dan_err *e)
{
    const struct dan_tensor *there = dan_store_find(to, name);
    int rc = there && dan_shape_equal(&there->shape, &t->shape) ? DAN_OK : dan_store_add(to, name, &dan_dtype_f32, t->shape, e);
    const struct dan_tensor *d = rc ? NULL : dan_store_find(to, name);
    for (int64_t r = 0; !rc && r < dan_rows(t); r++) t->dtype->to_f32(dan_row(t, r), dan_row(d, r), dan_cols(t));
    return rc;
}

static bool fits_matrix(const struct dan_tensor *t, const struct dan_tensor *w, enum part part)
{
    if (part == PART_M) return t->shape.n == 1 && t->shape.d[0] == w->shape.d[0];
    return t->shape.n == 2 && t->shape.d[part == PART_B ? 0 : 1] == w->shape.d[part == PART_B ? 0 : 1];
}

static int take_score(struct reading *r, const char *file_name, const struct dan_tensor *t, struct dan_err *e)
{
    char full[NAME];
    const int64_t c = r->lm->cfg.hidden;
    if (t->shape.n != 2 || t->shape.d[0] != 1 || t->shape.d[1] != c)
        return dan_fail(e, DAN_ESHAPE, "'%s' is no score head of this model: expected [1,%lld]", file_name, (long long)c);
    if (t->dtype->block > 1 || !t->dtype->to_f32) return dan_fail(e, DAN_EUNSUPPORTED, "'%s' is stored as %s: expected floats", file_name, t->dtype->name);
    snprintf(full, sizeof full, "score.weight@%s.saved", r->name);
    return copy_f32(r->lm->store, full, t, e);
}

static int take_tensor(struct reading *r, const char *file_name, const struct dan_tensor *t, struct dan_err *e)
{
    char module[NAME], full[NAME];
    enum part part;
    if (is_score(file_name)) return take_score(r, file_name, t, e);
    if (!module_of(file_name, module, &part) || (part == PART_M && !r->dora))
        return dan_fail(e, DAN_EUNSUPPORTED, "the adapter's tensor '%s' is no pair of LoRA: expected names that end in .lora_A.weight and .lora_B.weight", file_name);
    const char *matrix = matrix_of(r->lm, module);
    if (!matrix) return dan_fail(e, DAN_EFORMAT, "the model has no matrix '%s', which the adapter changes: is it an adapter of another model?", module);
    const struct dan_tensor *w = dan_store_find(r->lm->store, matrix);
    if (!fits_matrix(t, w, part))
        return dan_fail(e, DAN_ESHAPE, "'%s' does not fit the model's '%s' [%lld,%lld]: it is an adapter of another model", file_name, matrix,
                        (long long)w->shape.d[0], (long long)w->shape.d[1]);
    if (t->dtype->block > 1 || !t->dtype->to_f32) return dan_fail(e, DAN_EUNSUPPORTED, "'%s' is stored as %s: expected floats", file_name, t->dtype->name);
    int rc = part == PART_M ? dan_lora_add_dora(r->lm, r->name, matrix, e) : DAN_OK;
    snprintf(full, sizeof full, "%.255s@%s.%s", matrix, r->name, parts[part].ours);
    return rc ? rc : copy_f32(r->lm->store, full, t, e);
}

/* Both halves, of one rank; with DoRA the magnitudes too. */
static int check_pairs(const struct dan_lm *lm, const char *adapter, bool dora, struct dan_err *e)
{
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        const char *name = dan_store_name(lm->store, i);
        char base[NAME];
        size_t of_n;
        const char *of;
        if (!dan_lora_owns(name, adapter) || dan_str_ends(name, ".saved")) continue;
        snprintf(base, sizeof base, "%.*s", (int)dan_lora_base(name, &of, &of_n), name);
        const struct dan_tensor *a = dan_lora_part(lm, base, adapter, "lora_a"), *b = dan_lora_part(lm, base, adapter, "lora_b");
        if (!a || !b) return dan_fail(e, DAN_EFORMAT, "the adapter has lora_%c but no lora_%c for '%s'", a ? 'A' : 'B', a ? 'B' : 'A', base);
        if (b->shape.d[1] != a->shape.d[0]) return dan_fail(e, DAN_ESHAPE, "lora_A and lora_B for '%s' differ in rank", base);
        if (dora && !dan_lora_part(lm, base, adapter, "dora_m"))
            return dan_fail(e, DAN_EFORMAT, "the adapter sets use_dora but has no lora_magnitude_vector for '%s'", base);
    }
    return DAN_OK;
}

/* The number that a pattern gives a module ("layers.0.self_attn.q_proj" or "q_proj" at the end of its path); `otherwise` when none fits. */
static int pattern_value(const struct reading *r, const char *key, const char *module, double otherwise, double *out, struct dan_err *e)
{
    const char *item;
    json_t *v;
    *out = otherwise;
    json_object_foreach(json_object_get(r->config, key), item, v) {
        size_t n = strlen(item), m = strlen(module);
        if (strpbrk(item, "*+?[](){}|^$\\")) return dan_fail(e, DAN_EUNSUPPORTED, "'%s': '%s' has the regular expression '%.60s'; names are read", r->path, key, item);
        if (!json_is_number(v) || !(json_number_value(v) > 0)) return dan_fail(e, DAN_EFORMAT, "'%s': '%s' of '%.60s' is no positive number", r->path, key, item);
        if (m < n || strcmp(module + m - n, item) || (m > n && module[m - n - 1] != '.')) continue;
        *out = json_number_value(v);
        break;
    }
    return DAN_OK;
}

static double own_scale(const struct reading *r, double rank, double alpha)
{
    return alpha / (json_is_true(json_object_get(r->config, "use_rslora")) ? sqrt(rank) : rank);
}

/* Where patterns give a matrix a scale of its own, B takes the quotient: an adapter has one scale. */
static int fold_scale(struct reading *r, const char *base, struct dan_err *e)
{
    char hf[NAME];
    bool turned;
    double rank, alpha;
    struct dan_tensor *b = dan_lora_part(r->lm, base, r->name, "lora_b");
    module_name(r->lm, base, hf, &turned);
    int rc = pattern_value(r, "rank_pattern", hf, json_number_value(json_object_get(r->config, "r")), &rank, e);
    if (!rc) rc = pattern_value(r, "alpha_pattern", hf, json_number_value(json_object_get(r->config, "lora_alpha")), &alpha, e);
    if (rc) return rc;
    if (rank != (double)b->shape.d[1])
        return dan_fail(e, DAN_ESHAPE, "'%s' says rank %g for '%s', but its matrices have rank %lld", r->path, rank, hf, (long long)b->shape.d[1]);
    double by = own_scale(r, rank, alpha) / r->scale;
    if (!isfinite(by)) return dan_fail(e, DAN_EUNSUPPORTED, "'%s' has a scale of 0", r->path);
    for (int64_t k = 0; fabs(by - 1) > 1e-12 && k < dan_shape_count(&b->shape); k++) ((float *)b->data)[k] = (float)(by * (double)((float *)b->data)[k]);
    return DAN_OK;
}

static int fold_scales(struct reading *r, struct dan_err *e)
{
    char base[DAN_LORA_NAME];
    int rc = DAN_OK;
    if (!is_set(r->config, "rank_pattern") && !is_set(r->config, "alpha_pattern")) return DAN_OK;
    for (size_t i = 0; i < dan_store_count(r->lm->store) && !rc; i++)
        if (dan_lora_base_of(dan_store_name(r->lm->store, i), r->name, base)) rc = fold_scale(r, base, e);
    return rc;
}

static int take_all(struct reading *r, const struct dan_store *file, struct dan_err *e)
{
    int rc = dan_store_count(file) ? DAN_OK : dan_fail(e, DAN_EFORMAT, "'%s' holds no tensors", r->path);
    for (size_t i = 0; i < dan_store_count(file) && !rc; i++) rc = take_tensor(r, dan_store_name(file, i), dan_store_at(file, i), e);
    if (!rc) rc = check_pairs(r->lm, r->name, r->dora, e);
    if (!rc) rc = fold_scales(r, e);
    return rc ? rc : dan_lora_refresh(r->lm, r->name, NULL, e);
}

static int load_dir(struct dan_lm *lm, const char *dir, const char *name, struct dan_err *e)
{
    struct dan_str config = {0}, weights = {0};
    struct dan_store *file = NULL;
    dan_path_join(&config, dir, "adapter_config.json");
    dan_path_join(&weights, dir, "adapter_model.safetensors");
    struct reading r = {.lm = lm, .name = name, .path = dan_str_c(&config)};
    int before = lm->n_adapters;
    int rc = config.failed || weights.failed ? no_memory(e) : dan_json_read(r.path, &r.config, e);
    if (!rc) rc = check_config(&r, e);
    if (!rc) rc = dan_safetensors_open(dan_str_c(&weights), &file, e);
    if (!rc) rc = dan_lora_register(lm, name, r.scale, e);
    if (!rc && (rc = take_all(&r, file, e))) lm->n_adapters = before;
    json_decref(r.config);
    dan_store_free(file);
    dan_str_release(&config);
    dan_str_release(&weights);
    return rc;
}

int dan_lora_load(struct dan_lm *lm, const char *path, const char *name, struct dan_err *e)
{
    return dan_str_ends(path, ".gguf") && !dan_path_is_dir(path) ? dan_lora_load_gguf(lm, path, name, e) : load_dir(lm, path, name, e);
}
