/* From the tensors of a file to the params of a family's graph. */
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "model/compressed.h"
#include "model/score.h"

bool dan_is_rotary(const char *name)
{
    return dan_str_ends(name, "attn_q.weight") || dan_str_ends(name, "attn_k.weight") || dan_str_ends(name, "attn_q.bias") ||
           dan_str_ends(name, "attn_k.bias");
}

bool dan_is_norm(const char *name) { return dan_str_ends(name, "norm.weight"); }

/* ---- copies ---- */

/* A matrix by rows; a vector by elements. */
static struct dan_tensor by_rows(const struct dan_tensor *t)
{
    struct dan_tensor v = *t;
    if (t->shape.n >= 2) return v;
    int64_t n = dan_shape_count(&t->shape);
    v.shape = DAN_SHAPE(n, 1);
    v.stride[0] = v.stride[1] = t->dtype->bytes;
    return v;
}

/* One row of t in another format; tmp: room for it as f32. */
static void convert_row(const struct dan_tensor *t, const void *from, const struct dan_tensor *dst, int64_t r, float *tmp, float plus)
{
    int64_t n = dan_cols(t);
    float *f = dst->dtype == &dan_dtype_f32 ? dan_row(dst, r) : tmp;
    t->dtype->to_f32(from, f, n);
    for (int64_t i = 0; plus != 0 && i < n; i++) f[i] += plus;
    if (f == tmp) dst->dtype->from_f32(f, dan_row(dst, r), n);
}

int dan_copy_edited(struct dan_store *into, const char *name, const struct dan_tensor *t, const struct dan_edit *edit, struct dan_err *e)
{
    const struct dan_dtype *to = edit->plus != 0 ? &dan_dtype_f32 : edit->to ? edit->to : t->dtype;
    int rc = dan_store_add(into, name, to, t->shape, e);
    if (rc) return rc;
    bool whole = !edit->row && t->shape.n < 2;
    struct dan_tensor src = whole ? *t : by_rows(t), dst = whole ? *dan_store_find(into, name) : by_rows(dan_store_find(into, name));
    float *tmp = dan_malloc((size_t)dan_cols(&src) * sizeof *tmp);
    if (!tmp) return dan_fail(e, DAN_ENOMEM, "out of memory converting '%s'", name);
    for (int64_t r = 0; r < dan_rows(&src); r++) {
        const void *from = dan_row(&src, edit->row ? edit->row(r, edit->d) : r);
        if (to == t->dtype && edit->plus == 0) memcpy(dan_row(&dst, r), from, dan_dtype_bytes(to, dan_cols(&src)));
        else convert_row(&src, from, &dst, r, tmp, edit->plus);
    }
    dan_free(tmp);
    return DAN_OK;
}

/* Elements of one byte size, [R,C] to [C,R]. */
static void transpose(const struct dan_tensor *src, const struct dan_tensor *dst)
{
    size_t size = src->dtype->bytes;
    int64_t rows = dst->shape.d[0], cols = dst->shape.d[1];
    for (int64_t r = 0; r < rows; r++) {
        char *out = dan_row(dst, r);
        for (int64_t c = 0; c < cols; c++) memcpy(out + (size_t)c * size, (char *)dan_row(src, c) + (size_t)r * size, size);
    }
}

int dan_copy_transposed(struct dan_store *to, const char *name, const struct dan_tensor *t, bool f32, struct dan_err *e)
{
    struct dan_store *tmp = NULL;
    bool convert = f32 && t->dtype != &dan_dtype_f32;
    int rc = convert ? dan_store_new(&tmp, e) : DAN_OK;
    if (!rc && convert) rc = dan_copy_edited(tmp, name, t, &(struct dan_edit){.to = &dan_dtype_f32}, e);
    const struct dan_tensor *src = convert && !rc ? dan_store_find(tmp, name) : t;
    if (!rc) rc = dan_store_add(to, name, src->dtype, DAN_SHAPE(t->shape.d[1], t->shape.d[0]), e);
    if (!rc) transpose(src, dan_store_find(to, name));
    dan_store_free(tmp);
    return rc;
}

/* ---- params ---- */

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
    if (t->dtype->block > 1) return dan_lm_only_products(g, param);
    return t->dtype == &dan_dtype_f32 || (t->dtype == &dan_dtype_bf16 && dan_lm_only_products(g, param));
}

enum { NAME = 200 };

/* *found points into hf or at ours. */
static int find_tensor(const struct dan_lm *lm, const struct dan_source *src, const char *ours, char hf[NAME], const char **found, bool *turn,
                       struct dan_err *e)
{
    hf[0] = '\0';
    *turn = false;
    if (src->ours) *found = dan_store_find(src->file, ours) ? ours : NULL;
    else if (!dan_lm_hf_name(lm->model, ours, hf, NAME, turn))
        return dan_fail(e, DAN_EFORMAT, "the family '%s' has no file name for '%s'", lm->model->name, ours);
    else *found = name_in_file(src->file, hf);
    if (*found) return DAN_OK;
    return dan_fail(e, DAN_EFORMAT, "the weights of '%s' have no tensor '%s'; is the file complete, and does its configuration belong to it?",
                    src->path, src->ours ? ours : hf);
}

static int check_shape(const char *name, const struct dan_shape *want, const struct dan_tensor *t, struct dan_err *e)
{
    char a[96], b[96];
    if (dan_shape_equal(want, &t->shape)) return DAN_OK;
    dan_shape_text(want, a, sizeof a);
    dan_shape_text(&t->shape, b, sizeof b);
    return dan_fail(e, DAN_ESHAPE, "tensor '%s' has shape %s, the configuration says %s", name, b, a);
}

static int64_t rotary_rows(const struct dan_lm *lm, const char *name, const struct dan_shape *s)
{
    int64_t heads = strstr(name, "attn_k.") ? lm->cfg.kv_heads : lm->cfg.heads;
    return heads > 0 ? s->d[0] / heads : s->d[0];
}

static int take(struct dan_lm *lm, const struct dan_graph *g, dan_ref param, const struct dan_source *src, struct dan_err *e)
{
    const struct dan_node *p = &g->node[param];
    const char *found = NULL;
    char hf[NAME];
    bool turn;
    int rc = find_tensor(lm, src, p->name, hf, &found, &turn, e);
    if (rc) return rc;
    const struct dan_tensor *t = dan_store_find(src->file, found);
    if (!src->ours && dan_is_compressed(src->file, found)) {
        rc = check_shape(found, &p->shape, t, e);
        return rc ? rc : dan_take_compressed(lm, p->name, src, found, e);
    }
    if (!src->ours && t->dtype == &dan_dtype_i8)
        return dan_fail(e, DAN_EUNSUPPORTED, "tensor '%s' of '%s' holds int8 levels, but no 'weight_scale' stands beside it: what they mean is unknown",
                        found, src->path);
    turn = turn && t->dtype->block == 1;       /* quantised weights are stored as [out,in] */
    struct dan_shape s = turn ? DAN_SHAPE(p->shape.d[1], p->shape.d[0]) : p->shape;
    rc = check_shape(found, &s, t, e);
    if (rc) return rc;
    bool f32 = src->how == DAN_TAKE_F32 || (src->how == DAN_TAKE_VIEW && !usable(g, param, t));
    struct dan_edit edit = {.to = f32 ? &dan_dtype_f32 : NULL};
    if (turn) return dan_copy_transposed(lm->store, p->name, t, src->how != DAN_TAKE_STORED, e);
    if (src->pairs && dan_is_rotary(p->name)) {
        edit.row = dan_row_of_pairs;
        edit.d = rotary_rows(lm, p->name, &t->shape);
    }
    if (src->norm_plus && dan_is_norm(p->name)) edit.plus = -1;
    if (!edit.row && !f32 && edit.plus == 0) return dan_store_share(lm->store, p->name, src->file, found, e);
    return dan_copy_edited(lm->store, p->name, t, &edit, e);
}

/* Frequencies are computed, so a table of them is no weight. */
static int check_all_taken(const struct dan_lm *lm, const struct dan_source *src, struct dan_err *e)
{
    for (size_t i = 0; i < dan_store_count(src->file); i++) {
        const char *name = dan_store_name(src->file, i);
        if (!dan_store_find(lm->store, name) && strcmp(name, "rope_freqs.weight"))
            return dan_fail(e, DAN_EUNSUPPORTED, "unsupported tensor '%s' in '%s': danlu's '%s' has no place for it, and without it the model "
                            "would compute something else", name, src->path, lm->model->name);
    }
    return DAN_OK;
}

int dan_lm_take_all(struct dan_lm *lm, const struct dan_source *src, struct dan_err *e)
{
    struct dan_graph *g = NULL;
    struct dan_io io = dan_lm_plain_io(lm);
    int rc = dan_lm_graph(lm, &io, "", NULL, &g, e);
    for (int32_t i = 1; !rc && i < g->n; i++)
        if (dan_op_is(&g->node[i], "param")) rc = take(lm, g, i, src, e);
    dan_graph_free(g);
    return !rc && src->ours ? check_all_taken(lm, src, e) : rc;
}
