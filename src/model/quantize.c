#include "model/quantize.h"
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"

/* Formats with products of their own: the others are for files (danlu convert). */
static bool is_block_format(const struct dan_dtype *t) { return t->block > 1 && t->from_f32 && t->dot; }

int dan_quant_format(const char *name, const struct dan_dtype **out, struct dan_err *e)
{
    const struct dan_dtype *t = dan_dtype_find(name);
    if (t && is_block_format(t)) {
        *out = t;
        return DAN_OK;
    }
    struct dan_str list = {0};
    for (int i = 0; dan_dtypes[i]; i++)
        if (is_block_format(dan_dtypes[i])) dan_str_printf(&list, "%s%s", list.n ? ", " : "", dan_dtypes[i]->name);
    int rc = dan_fail(e, DAN_EINVAL, "unknown quantisation format '%s'; use one of: %s", name, dan_str_c(&list));
    dan_str_release(&list);
    return rc;
}

static const char *why_not(const struct dan_graph *g, const char *name, const struct dan_tensor *t, const struct dan_dtype *to)
{
    if (t->dtype->block > 1) return "quantised already";
    if (t->dtype != &dan_dtype_f32 && t->dtype != &dan_dtype_bf16) return "neither f32 nor bf16";
    if (t->shape.n < 2) return "a vector";
    if (t->shape.d[t->shape.n - 1] % to->block) return "its rows are no multiple of the block";
    dan_ref param = dan_leaf(g, name);
    return param && dan_lm_only_products(g, param) ? NULL : "read by other operations than products";
}

/* tmp: room for two rows. */
static double convert(const struct dan_tensor *from, const struct dan_tensor *to, float *tmp)
{
    double error = 0, power = 0;
    int64_t n = dan_cols(from);
    float *w = tmp, *back = tmp + n;
    for (int64_t r = 0; r < dan_rows(from); r++) {
        from->dtype->to_f32(dan_row(from, r), w, n);
        to->dtype->from_f32(w, dan_row(to, r), n);
        to->dtype->to_f32(dan_row(to, r), back, n);
        for (int64_t i = 0; i < n; i++) {
            error += ((double)back[i] - (double)w[i]) * ((double)back[i] - (double)w[i]);
            power += (double)w[i] * (double)w[i];
        }
    }
    return power > 0 ? sqrt(error / power) : 0;
}

static int replace(struct dan_store *s, const char *name, const struct dan_dtype *to, struct dan_quantized *q, struct dan_err *e)
{
    struct dan_store *tmp = NULL;
    const struct dan_tensor from = *dan_store_find(s, name);
    float *rows = dan_malloc(2 * sizeof *rows * (size_t)dan_cols(&from));
    int rc = rows ? dan_store_new(&tmp, e) : dan_fail(e, DAN_ENOMEM, "not enough memory to quantise '%s'", name);
    if (!rc) rc = dan_store_add(tmp, name, to, from.shape, e);
    if (!rc) q->error = convert(&from, dan_store_find(tmp, name), rows);
    if (!rc) rc = dan_store_share(s, name, tmp, name, e);
    dan_store_free(tmp);
    dan_free(rows);
    return rc;
}

static int quantize_one(struct dan_lm *lm, const struct dan_graph *g, const char *name, const struct dan_dtype *to, struct dan_quantized *q,
                        struct dan_err *e)
{
    const struct dan_tensor *t = dan_store_find(lm->store, name);
    *q = (struct dan_quantized){.name = name,
                                .before = t->dtype,
                                .after = t->dtype,
                                .shape = t->shape,
                                .bytes_before = dan_tensor_bytes(t),
                                .bytes_after = dan_tensor_bytes(t)};
    q->why = why_not(g, name, t, to);
    if (q->why) return DAN_OK;
    int rc = replace(lm->store, name, to, q, e);
    q->after = to;
    q->bytes_after = dan_dtype_bytes(to, dan_shape_count(&q->shape));
    return rc;
}

int dan_lm_quantize(struct dan_lm *lm, const struct dan_dtype *to, void (*report)(void *ctx, const struct dan_quantized *q), void *ctx,
                    struct dan_err *e)
{
    struct dan_graph *g = NULL;
    struct dan_quantized q;
    struct dan_io io = {.max_rows = 1, .lanes = lm->model->time_major, .logits = true, .max_select = 1};
    int rc = dan_lm_graph(lm, &io, "", NULL, &g, e);
    for (size_t i = 0; i < dan_store_count(lm->store) && !rc; i++) {
        rc = quantize_one(lm, g, dan_store_name(lm->store, i), to, &q, e);
        if (!rc && report) report(ctx, &q);
    }
    dan_graph_free(g);
    return rc;
}
