/* Model directories in the Hugging Face layout <-> struct dan_lm. */
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/safetensors.h"
#include "model/lm.h"

static void transpose(const struct dan_tensor *src, const struct dan_tensor *dst)
{
    int64_t rows = dst->shape.d[0], cols = dst->shape.d[1];
    for (int64_t r = 0; r < rows; r++) {
        float *out = dan_row(dst, r);
        for (int64_t c = 0; c < cols; c++) out[c] = ((const float *)dan_row(src, c))[r];
    }
}

/* Any plain dtype to a new f32 tensor `name` of the store. */
static int copy_f32(struct dan_store *to, const char *name, const struct dan_tensor *t, struct dan_err *e)
{
    int rc = dan_store_add(to, name, &dan_dtype_f32, t->shape, e);
    if (rc) return rc;
    struct dan_tensor *out = dan_store_find(to, name);
    for (int64_t r = 0; r < dan_rows(t); r++) t->dtype->to_f32(dan_row(t, r), dan_row(out, r), dan_cols(t));
    return DAN_OK;
}

static int copy_transposed(struct dan_store *to, const char *name, const struct dan_tensor *t, struct dan_err *e)
{
    struct dan_store *tmp;
    int rc = dan_store_new(&tmp, e);
    if (rc) return rc;
    rc = copy_f32(tmp, name, t, e);
    if (!rc) rc = dan_store_add(to, name, &dan_dtype_f32, DAN_SHAPE(t->shape.d[1], t->shape.d[0]), e);
    if (!rc) transpose(dan_store_find(tmp, name), dan_store_find(to, name));
    dan_store_free(tmp);
    return rc;
}

/* GPT-2 files of older exports leave the leading "transformer." out. */
static const char *name_in_file(const struct dan_store *file, const char *hf)
{
    const char *prefix = "transformer.";
    if (dan_store_find(file, hf)) return hf;
    return dan_str_starts(hf, prefix) && dan_store_find(file, hf + strlen(prefix)) ? hf + strlen(prefix) : NULL;
}

/* Stays as it lies in the file: f32, blocks, and bf16 where only products and embeddings read it (they take any format). */
static bool usable(const struct dan_graph *g, dan_ref param, const struct dan_tensor *t)
{
    if (t->dtype->block > 1 || t->dtype == &dan_dtype_f32) return true;
    return t->dtype == &dan_dtype_bf16 && dan_lm_only_products(g, param);
}

static int take(struct dan_lm *lm, const struct dan_graph *g, dan_ref param, const struct dan_store *file, bool writable, struct dan_err *e)
{
    const struct dan_node *p = &g->node[param];
    char hf[200], want[96], got[96];
    bool turn = false;
    if (!dan_lm_hf_name(lm->model, p->name, hf, sizeof hf, &turn))
        return dan_fail(e, DAN_EFORMAT, "the family '%s' has no file name for '%s'", lm->model->name, p->name);
    const char *found = name_in_file(file, hf);
    const struct dan_tensor *t = found ? dan_store_find(file, found) : NULL;
    if (!t) return dan_fail(e, DAN_EFORMAT, "the weights have no tensor '%s'; is the file complete, and does config.json belong to it?", hf);
    turn = turn && t->dtype->block == 1;       /* quantised weights are stored as [out,in] */
    struct dan_shape s = p->shape;
    if (turn) s = DAN_SHAPE(p->shape.d[1], p->shape.d[0]);
    if (!dan_shape_equal(&s, &t->shape)) {
        dan_shape_text(&s, want, sizeof want);
        dan_shape_text(&t->shape, got, sizeof got);
        return dan_fail(e, DAN_ESHAPE, "tensor '%s' has shape %s, config.json says %s", hf, got, want);
    }
    if (turn) return copy_transposed(lm->store, p->name, t, e);
    if (!writable && usable(g, param, t)) return dan_store_share(lm->store, p->name, file, found, e);
    return copy_f32(lm->store, p->name, t, e);
}

static int take_all(struct dan_lm *lm, const struct dan_store *file, bool writable, struct dan_err *e)
{
    struct dan_graph *g = NULL;
    struct dan_io io = {.max_rows = 1, .lanes = lm->model->time_major, .logits = true, .max_select = 1};
    int rc = dan_lm_graph(lm, &io, "", NULL, &g, e);
    for (int32_t i = 1; !rc && i < g->n; i++)
        if (dan_op_is(&g->node[i], "param")) rc = take(lm, g, i, file, writable, e);
    dan_graph_free(g);
    return rc;
}

static int read_config(struct dan_lm *lm, const char *dir, struct dan_err *e)
{
    struct dan_str arch = {0}, type = {0};
    int rc = dan_hf_config_kind(dir, &arch, &type, e);
    if (!rc) {
        lm->model = arch.n ? dan_model_find(dan_str_c(&arch)) : NULL;
        if (!lm->model && type.n) lm->model = dan_model_find(dan_str_c(&type));
        if (!lm->model)
            rc = dan_fail(e, DAN_EUNSUPPORTED, "architecture '%s' (model_type '%s') is not supported; danlu runs gpt2, llama and its own lstm, gru (encoders: danlu embed)", dan_str_c(&arch), dan_str_c(&type));
    }
    if (!rc) rc = dan_hf_config_load(dir, lm->model->hf_model_type, lm->model->fields, &lm->cfg, e);
    if (!rc) rc = lm->model->complete(&lm->cfg, e);
    dan_str_release(&arch);
    dan_str_release(&type);
    return rc;
}

int dan_lm_load(struct dan_lm *lm, const char *dir, bool writable, struct dan_err *e)
{
    struct dan_store *file = NULL;
    *lm = (struct dan_lm){0};
    int rc = read_config(lm, dir, e);
    if (!rc) rc = dan_safetensors_open(dir, &file, e);
    if (!rc) rc = dan_store_new(&lm->store, e);
    if (!rc) rc = take_all(lm, file, writable, e);
    dan_store_free(file);
    if (rc) dan_lm_release(lm);
    return rc;
}

struct saving { struct dan_named *list; struct dan_store *turned; char (*name)[200]; size_t n; };

static int add_tensor(struct saving *s, const struct dan_lm *lm, const char *name, const struct dan_tensor *t, struct dan_err *e)
{
    bool turn = false;
    if (!dan_lm_hf_name(lm->model, name, s->name[s->n], sizeof s->name[0], &turn)) return DAN_OK;
    if (turn && t->dtype->block == 1) {
        int rc = copy_transposed(s->turned, name, t, e);
        if (rc) return rc;
        t = dan_store_find(s->turned, name);
    }
    s->list[s->n] = (struct dan_named){s->name[s->n], t};
    s->n++;
    return DAN_OK;
}

static int save_weights(const struct dan_lm *lm, const char *path, struct dan_err *e)
{
    size_t n = dan_store_count(lm->store);
    struct saving s = {dan_calloc(n + 1, sizeof *s.list), NULL, dan_calloc(n + 1, sizeof *s.name), 0};
    int rc = s.list && s.name ? dan_store_new(&s.turned, e) : dan_fail(e, DAN_ENOMEM, "not enough memory to save %zu tensors", n);
    for (size_t i = 0; i < n && !rc; i++)
        rc = add_tensor(&s, lm, dan_store_name(lm->store, i), dan_store_at(lm->store, i), e);
    if (!rc) rc = dan_safetensors_save_list(path, s.list, s.n, NULL, 0, e);
    dan_store_free(s.turned);
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

int dan_lm_save(const struct dan_lm *lm, const char *dir, struct dan_err *e)
{
    char format[64] = "";
    const struct dan_dtype *q = block_format(lm);
    if (q) snprintf(format, sizeof format, "{\"format\": \"%s\"}", q->name);
    struct dan_pair quantized = {"danlu_quantization", format};
    struct dan_str path = {0};
    dan_str_printf(&path, "%s/model.safetensors", dir);
    struct dan_hf_generation gen = {.bos = lm->cfg.bos, .eos = {lm->cfg.eos}, .n_eos = lm->cfg.eos >= 0, .pad = -1, .temperature = 1, .top_p = 1, .repetition_penalty = 1};
    int rc = dan_mkdirs(dir, e);
    if (!rc) rc = dan_hf_config_save(dir, lm->model->hf_model_type, lm->model->hf_arch, lm->model->fields, &lm->cfg, &quantized, q != NULL, e);
    if (!rc) rc = dan_hf_generation_save(dir, &gen, e);
    if (!rc) rc = save_weights(lm, dan_str_c(&path), e);
    dan_str_release(&path);
    return rc;
}

int dan_lm_copy_beside(const char *from, const char *to, struct dan_err *e)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
                                        "merges.txt", "tokenizer.model", "chat_template.jinja", "generation_config.json"};
    int rc = DAN_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names && !rc; i++) {
        struct dan_str a = {0}, b = {0};
        struct dan_mapping m;
        dan_str_printf(&a, "%s/%s", from, names[i]);
        dan_str_printf(&b, "%s/%s", to, names[i]);
        if (a.failed || b.failed) rc = dan_fail(e, DAN_ENOMEM, "not enough memory to copy '%s'", names[i]);
        else if (dan_path_exists(a.p) && !(rc = dan_map_file(a.p, &m, e))) {
            rc = dan_write_file(b.p, m.p, m.n, e);
            dan_unmap_file(&m);
        }
        dan_str_release(&a);
        dan_str_release(&b);
    }
    return rc;
}
