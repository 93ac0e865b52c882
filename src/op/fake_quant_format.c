/* y = to_f32(from_f32(x)) of a storage format of src/dtype/, row by row: weights as they will be exported, bit by bit.
 * The attribute is the format's name as a number (fake_quant.h).  Straight-through gradient: dx = dy. */
#include "op/fake_quant.h"
#include "op/util.h"

#ifndef DAN_REAL64
int64_t dan_quant_format_attr(const struct dan_dtype *t)
{
    uint64_t v = 0;
    for (int i = 0; i < 8 && t->name[i]; i++) v |= (uint64_t)(unsigned char)t->name[i] << (8 * i);
    return (int64_t)v;
}

const struct dan_dtype *dan_quant_format_of(int64_t attr)
{
    char name[9] = "";
    for (int i = 0; i < 8; i++) name[i] = (char)((uint64_t)attr >> (8 * i) & 0xff);
    return dan_dtype_find(name);
}
#endif

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_dtype *t = dan_quant_format_of(n->attr[0].i);
    const struct dan_shape *s = &dan_in(g, n, 0)->shape;
    int64_t cols = s->n ? s->d[s->n - 1] : 1;
    if (!t || !t->from_f32 || !t->to_f32)
        return dan_infer_fail(n, e, "format %lld cannot be written: name one of src/dtype that can", (long long)n->attr[0].i);
    if (cols % t->block)
        return dan_infer_fail(n, e, "rows of %lld numbers are no whole blocks of %d of '%s': choose a format with blocks that divide them",
                              (long long)cols, (int)t->block, t->name);
    return dan_infer_float(g, n, e);
}

/* Per thread: a row as floats, and stored. */
static size_t row_bytes(const struct dan_args *a)
{
    int64_t cols = dan_cols(&a->in[0]);
    const struct dan_dtype *t = dan_quant_format_of(a->attr[0].i);
    return ((size_t)cols * sizeof(float) + dan_dtype_bytes(t, cols) + 127) / 64 * 64;
}

static size_t ref_ws(const struct dan_args *a, int nth) { return row_bytes(a) * (size_t)nth; }

static void ref(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *y = &a->out[0];
    const struct dan_dtype *t = dan_quant_format_of(a->attr[0].i);
    int64_t lo, hi, cols = dan_cols(y);
    float *row = (float *)((char *)a->ws + row_bytes(a) * (size_t)a->ith);
    void *stored = row + (cols + 15) / 16 * 16;
    dan_share(a, dan_rows(y), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const real *xr = dan_row(x, r);
        real *yr = dan_row(y, r);
        for (int64_t c = 0; c < cols; c++) row[c] = (float)xr[c];
        t->from_f32(row, stored, cols);
        t->to_f32(stored, row, cols);
        for (int64_t c = 0; c < cols; c++) yr[c] = row[c];
    }
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    (void)b, (void)y;
    dx[0] = dy[0];
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    dan_cost_each(g, n, 10, flops, bytes);
}

static bool sample(struct dan_sample *s, int i)
{
    const char *const formats[] = {"q8_0", "bf16", "q4_0"};
    if (i > 2) return false;
    const struct dan_dtype *t = dan_dtype_find(formats[i]);
    s->no_grad = true;
    s->y = dan_fake_quant_format(s->b, s->real(s, DAN_SHAPE(s->rows, 64), 1, true), t && t->from_f32 ? t : &dan_dtype_q8_0);
    return true;
}

DAN_OP(fake_quant_format) = {
    .name = "fake_quant_format", .doc = "rounds to what a storage format keeps; straight-through gradient",
    .n_in = 1, .props = DAN_OP_INPLACE, .attrs = {{"format", 'i'}},
    .infer = infer, .ref = ref, .ref_ws = ref_ws, .vjp = vjp, .cost = cost, .sample = sample,
};
