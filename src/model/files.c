/* Model files <-> struct dan_lm: directories in the Hugging Face layout here; GGUF and llama2.c have files of their own. */
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/hf_rows.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/sniff.h"
#include "model/compressed.h"
#include "model/quantize_rows.h"
#include "model/score.h"

static int unknown_family(const char *arch, const char *type, struct dan_err *e)
{
    struct dan_str list = {0};
    for (int i = 0; dan_models[i]; i++) dan_str_printf(&list, "%s%s", i ? ", " : "", dan_models[i]->hf_model_type);
    int rc = dan_fail(e, DAN_EUNSUPPORTED, "architecture '%s' (model_type '%s') is not supported; danlu runs %s (encoders: danlu embed)", arch, type,
                      dan_str_c(&list));
    dan_str_release(&list);
    return rc;
}

static int read_config(struct dan_lm *lm, const char *dir, struct dan_err *e)
{
    struct dan_str arch = {0}, type = {0};
    int rc = dan_hf_config_kind(dir, &arch, &type, e);
    if (!rc) {
        lm->model = arch.n ? dan_model_find(dan_str_c(&arch)) : NULL;
        if (!lm->model && type.n) lm->model = dan_model_find(dan_str_c(&type));
        if (!lm->model) rc = unknown_family(dan_str_c(&arch), dan_str_c(&type), e);
    }
    if (!rc) rc = dan_hf_rows_check(dir, e);
    if (!rc) rc = dan_hf_config_load(dir, lm->model->hf_model_type, lm->model->fields, &lm->cfg, e);
    if (!rc) rc = lm->model->complete(&lm->cfg, e);
    dan_str_release(&arch);
    dan_str_release(&type);
    return rc;
}

static int load_dir(struct dan_lm *lm, const char *dir, enum dan_take how, struct dan_err *e)
{
    struct dan_store *file = NULL;
    int rc = read_config(lm, dir, e);
    if (!rc) rc = dan_safetensors_open(dir, &file, e);
    if (!rc) rc = dan_score_read_config(lm, dir, file, e);
    if (!rc) rc = dan_store_new(&lm->store, e);
    if (!rc) rc = dan_lm_take_all(lm, &(struct dan_source){.path = dir, .file = file, .how = how}, e);
    dan_store_free(file);
    return rc;
}

static int not_a_model(const char *path, enum dan_file_kind kind, struct dan_err *e)
{
    const char *advice = dan_file_kind_advice(kind);
    return dan_fail(e, DAN_EFORMAT, "'%s' is %s: %s", path, dan_file_kind_name(kind),
                    advice ? advice : "a model is a folder from Hugging Face, a .gguf or a llama2.c .bin; give its folder");
}

static int load_any(struct dan_lm *lm, const char *path, enum dan_take how, struct dan_err *e)
{
    enum dan_file_kind kind;
    *lm = (struct dan_lm){0};
    int rc = dan_file_kind(path, &kind, e);
    if (rc) return rc;
    rc = kind == DAN_FILE_DIR ? load_dir(lm, path, how, e) : kind == DAN_FILE_GGUF ? dan_lm_load_gguf(lm, path, how, e)
       : kind == DAN_FILE_LLAMA2C ? dan_lm_load_llama2c(lm, path, how, e) : not_a_model(path, kind, e);
    if (rc) dan_lm_release(lm);
    return rc;
}

int dan_lm_load(struct dan_lm *lm, const char *path, bool writable, struct dan_err *e)
{
    return load_any(lm, path, writable ? DAN_TAKE_F32 : DAN_TAKE_VIEW, e);
}

int dan_lm_load_stored(struct dan_lm *lm, const char *path, struct dan_err *e) { return load_any(lm, path, DAN_TAKE_STORED, e); }

struct saving { struct dan_named *list; struct dan_store *turned, *scales; char (*name)[200]; size_t n; };

static int add_tensor(struct saving *s, const struct dan_lm *lm, const char *name, const struct dan_tensor *t, struct dan_err *e)
{
    bool turn = false;
    if (dan_is_row_companion(lm->store, name)) return dan_put_compressed(lm, name, s->scales, e);
    if (lm->cfg.no_lm_head && !strcmp(name, "output.weight")) return DAN_OK;
    if (!dan_lm_hf_name(lm->model, name, s->name[s->n], sizeof s->name[0], &turn)) return DAN_OK;
    if (turn && t->dtype->block == 1 && !dan_has_row_scale(lm->store, name)) {
        int rc = dan_copy_transposed(s->turned, name, t, false, e);
        if (rc) return rc;
        t = dan_store_find(s->turned, name);
    }
    s->list[s->n] = (struct dan_named){s->name[s->n], t};
    s->n++;
    return DAN_OK;
}

static void list_scales(struct saving *s)
{
    for (size_t i = 0; i < dan_store_count(s->scales); i++)
        s->list[s->n++] = (struct dan_named){dan_store_name(s->scales, i), dan_store_at(s->scales, i)};
}

static int save_weights(const struct dan_lm *lm, const char *dir, int64_t shard_bytes, struct dan_err *e)
{
    size_t n = dan_store_count(lm->store);
    struct saving s = {.list = dan_calloc(2 * n + 1, sizeof *s.list), .name = dan_calloc(n + 1, sizeof *s.name)};
    int rc = s.list && s.name ? dan_store_new(&s.turned, e) : dan_fail(e, DAN_ENOMEM, "not enough memory to save %zu tensors", n);
    if (!rc) rc = dan_store_new(&s.scales, e);
    for (size_t i = 0; i < n && !rc; i++)
        rc = add_tensor(&s, lm, dan_store_name(lm->store, i), dan_store_at(lm->store, i), e);
    if (!rc) list_scales(&s);
    if (!rc) rc = dan_safetensors_save_dir(dir, s.list, s.n, shard_bytes, e);
    dan_store_free(s.turned);
    dan_store_free(s.scales);
    dan_free(s.list);
    dan_free(s.name);
    return rc;
}

static const struct dan_dtype *block_format(const struct dan_lm *lm)
{
    for (size_t i = 0; i < dan_store_count(lm->store); i++)
        if (dan_store_at(lm->store, i)->dtype->block > 1) return dan_store_at(lm->store, i)->dtype;
    return NULL;
}

/* transformers loads a model in the type that its config names. */
static const char *torch_dtype(const struct dan_lm *lm)
{
    const struct dan_dtype *t = dan_store_count(lm->store) ? dan_store_at(lm->store, 0)->dtype : NULL;
    return t == &dan_dtype_bf16 ? "\"bfloat16\"" : t == &dan_dtype_f16 ? "\"float16\"" : NULL;
}

int dan_lm_save_shards(const struct dan_lm *lm, const char *dir, int64_t shard_bytes, struct dan_err *e)
{
    char format[64] = "";
    char arch[96], bias[40];
    struct dan_pair extra[5];
    struct dan_str rows = {0};
    size_t n = 0;
    const struct dan_dtype *q = block_format(lm);
    if (q) snprintf(format, sizeof format, "{\"format\": \"%s\"}", q->name);
    if (q) extra[n++] = (struct dan_pair){"danlu_quantization", format};
    else if (torch_dtype(lm)) extra[n++] = (struct dan_pair){"torch_dtype", torch_dtype(lm)};
    struct dan_hf_generation gen = {.bos = lm->cfg.bos, .eos = {lm->cfg.eos}, .n_eos = lm->cfg.eos >= 0, .pad = -1, .temperature = 1, .top_p = 1, .repetition_penalty = 1};
    int rc = dan_mkdirs(dir, e);
    if (!rc) rc = dan_compressed_config(lm, &rows, e);
    if (rows.n) extra[n++] = (struct dan_pair){"quantization_config", dan_str_c(&rows)};
    dan_score_arch(lm, arch, sizeof arch);
    snprintf(bias, sizeof bias, "%.17g", lm->cfg.reward_bias);
    if (lm->cfg.score) extra[n++] = (struct dan_pair){"num_labels", "1"};
    if (lm->cfg.reward_bias != 0) extra[n++] = (struct dan_pair){"reward_bias", bias};
    if (!rc) rc = dan_hf_config_save(dir, lm->model->hf_model_type, arch, lm->model->fields, &lm->cfg, extra, n, e);
    if (!rc) rc = dan_hf_generation_save(dir, &gen, e);
    dan_str_release(&rows);
    return rc ? rc : save_weights(lm, dir, shard_bytes, e);
}

int dan_lm_save(const struct dan_lm *lm, const char *dir, struct dan_err *e) { return dan_lm_save_shards(lm, dir, 0, e); }

static int copy_file(const char *from, const char *to, const char *name, struct dan_err *e)
{
    struct dan_str a = {0}, b = {0};
    struct dan_mapping m;
    int rc = DAN_OK;
    dan_path_join(&a, from, name);
    dan_path_join(&b, to, name);
    if (a.failed || b.failed) rc = dan_fail(e, DAN_ENOMEM, "not enough memory to copy '%s'", name);
    else if (dan_path_exists(a.p) && !(rc = dan_map_file(a.p, &m, e))) {
        rc = dan_write_file(b.p, m.p, m.n, e);
        dan_unmap_file(&m);
    }
    dan_str_release(&a);
    dan_str_release(&b);
    return rc;
}

static int copy_templates(const char *from, const char *to, struct dan_err *e)
{
    struct dan_str a = {0}, b = {0};
    char **name;
    size_t n;
    dan_path_join(&a, from, "additional_chat_templates");
    dan_path_join(&b, to, "additional_chat_templates");
    int rc = a.failed || b.failed ? dan_fail(e, DAN_ENOMEM, "not enough memory to copy chat templates") : DAN_OK;
    if (!rc && dan_path_is_dir(a.p) && !(rc = dan_list_dir(a.p, &name, &n, e))) {
        rc = dan_mkdirs(b.p, e);
        for (size_t i = 0; i < n && !rc; i++) rc = copy_file(a.p, b.p, name[i], e);
        dan_free_list(name, n);
    }
    dan_str_release(&a);
    dan_str_release(&b);
    return rc;
}

int dan_lm_copy_beside(const char *from, const char *to, struct dan_err *e)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
                                        "merges.txt", "tokenizer.model", "chat_template.jinja", "generation_config.json"};
    int rc = DAN_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names && !rc; i++) rc = copy_file(from, to, names[i], e);
    return rc ? rc : copy_templates(from, to, e);
}
