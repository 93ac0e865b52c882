/* y[M,N] = act(op(a) op(b) + bias[N]) + residual[M,N], or, with a gate, (op(a) op(b) + bias[N]) gate'(h[M,N])
 *
 * op(a) is a [..,M,K] (leading dimensions are rows) or, with ta, a [K,M] transposed; op(b) is b [K,N] or,
 * with tb, b [N,K] transposed (the layout of Hugging Face's Linear and of GGUF).  Without ta, b may be
 * stored in any format of src/dtype/ (without tb for the gradient that passes through a frozen quantised
 * weight).  The epilogue exists so that fuse_bias_act saves two passes over y;
 * gate is the gradient of act(h): what goes back through the product behind it.
 * Gradients: dA = dY op(b)^T, dB = op(a)^T dY, dbias = column sums of dY (e.g. Goodfellow et al. 2016, 6.5.6).
 *
 * b [N,K] may hold levels with a scale per row: y = act(scale[n] sum_k a_k (b_nk - zero[n]) + bias) + residual.  With input_scale
 * {s, z} the product uses s (clamp(rint(a / s) + z, -128, 127) - z) for a, z a whole number: static int8 activations.  Operands with a
 * scale are not rounded to bf16, whatever prec says.
 *
 * a may be rows that quantise_rows or a norm rounded to int8 (core/rounded.h): by groups for b in a block format, by rows for levels with a
 * scale but no input_scale.  y is f32. */
#include "op/op.h"
#include "core/actfn.h"
#include "core/rounded.h"
#include "op/node.h"
#include "op/prec.h"

struct dims { int64_t m, n, k; };

static struct dims dims_of(const struct dan_shape *a, const struct dan_shape *b, const union dan_attr *attr)
{
    struct dims d = {.m = 1};
    for (int i = 0; i + 1 < a->n; i++) d.m *= a->d[i];
    if (attr[DAN_MATMUL_TA].i) d.m = a->d[a->n - 1];
    d.k = b->d[attr[DAN_MATMUL_TB].i ? 1 : 0];        /* rounded rows of a are wider */
    d.n = b->d[attr[DAN_MATMUL_TB].i ? 0 : 1];
    return d;
}

/* How rows of a are rounded that meet a b like this one. */
static enum dan_rounded rounded_for(const struct dan_dtype *b) { return b->block > 1 ? DAN_ROUNDED_GROUPS : DAN_ROUNDED_ROWS; }

/* a is rounded rows. */
static int check_rounded(const struct dan_graph *g, const struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *a = dan_in(g, n, 0), *b = dan_in(g, n, 1);
    if (n->attr[DAN_MATMUL_TA].i || !n->attr[DAN_MATMUL_TB].i || a->shape.n < 2 || b->shape.n != 2 || n->attr[DAN_MATMUL_GATE].i)
        return dan_infer_fail(n, e, "rounded rows multiply b [N,K] only: set tb, clear ta and gate");
    bool levels = b->dtype->block == 1, scale = dan_in_opt(g, n, DAN_MATMUL_SCALE), fixed = dan_in_opt(g, n, DAN_MATMUL_INPUT_SCALE);
    if (!b->dtype->to_f32 || levels != scale || fixed)
        return dan_infer_fail(n, e, "rounded rows need b in a block format, or levels with a scale per row and no input_scale; b is '%s'", b->dtype->name);
    if (a->shape.d[a->shape.n - 1] == dan_rounded_width(rounded_for(b->dtype), b->shape.d[1])) return DAN_OK;
    return dan_infer_fail(n, e, "rounded rows of %lld bytes are not those of %lld values: round them in the form of b",
                          (long long)a->shape.d[a->shape.n - 1], (long long)b->shape.d[1]);
}

static int check_operands(const struct dan_node *n, const struct dan_node *a, const struct dan_node *b, struct dan_err *e)
{
    bool ta = n->attr[DAN_MATMUL_TA].i, tb = n->attr[DAN_MATMUL_TB].i;
    if (!dan_is_float(a->dtype)) return dan_infer_fail(n, e, "a must be f32 or f64, not '%s': convert it", a->dtype->name);
    if (a->shape.n < 2 || (ta && a->shape.n != 2))
        return dan_infer_fail(n, e, "a has %d dimensions: give it two or, without ta, more", (int)a->shape.n);
    if (b->shape.n != 2) return dan_infer_fail(n, e, "b has %d dimensions: give it two", (int)b->shape.n);
    if (b->dtype != a->dtype && (ta || dan_is_float(b->dtype) || !b->dtype->to_f32))
        return dan_infer_fail(n, e, "b is '%s' and a '%s': give both the same type, or a storage format to b and ta = 0",
                              b->dtype->name, a->dtype->name);
    int64_t ka = a->shape.d[ta ? 0 : a->shape.n - 1], kb = b->shape.d[tb ? 1 : 0];
    if (ka != kb)
        return dan_infer_fail(n, e, "inner dimensions differ, %lld and %lld: check ta, tb and the shapes", (long long)ka, (long long)kb);
    return DAN_OK;
}

static int check_scales(const struct dan_graph *g, const struct dan_node *n, int64_t rows, struct dan_err *e)
{
    static const char *const name[] = {"scale", "zero", "input_scale"};
    const struct dan_dtype *t = n->dtype;
    for (int k = 0; k < 3; k++) {
        const struct dan_node *x = dan_in_opt(g, n, DAN_MATMUL_SCALE + k);
        int64_t want = k < 2 ? rows : 2;
        if (x && !dan_is_vector(x, t, want)) return dan_infer_fail(n, e, "%s must be '%s' [%lld]", name[k], t->name, (long long)want);
        if (x && !dan_in_opt(g, n, DAN_MATMUL_SCALE)) return dan_infer_fail(n, e, "%s needs a scale for b: give it, or leave it out", name[k]);
        if (x && (n->attr[DAN_MATMUL_TA].i || !n->attr[DAN_MATMUL_TB].i))
            return dan_infer_fail(n, e, "only products x W^T have a scale per row of W: set tb, clear ta");
    }
    return DAN_OK;
}

static int infer(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *a = dan_in(g, n, 0), *b = dan_in(g, n, 1);
    const struct dan_node *bias = dan_in_opt(g, n, 2), *res = dan_in_opt(g, n, 3);
    const struct dan_dtype *real_type = a->dtype == &dan_dtype_i8 ? &dan_dtype_f32 : a->dtype;
    int rc = a->dtype == &dan_dtype_i8 ? check_rounded(g, n, e) : check_operands(n, a, b, e);
    if (rc) return rc;
    struct dims d = dims_of(&a->shape, &b->shape, n->attr);
    n->n_out = 1;
    n->dtype = real_type;
    n->shape = a->shape;
    n->shape.d[n->shape.n - 1] = d.n;
    if (n->attr[DAN_MATMUL_TA].i) n->shape.d[0] = d.m;
    if (bias && !dan_is_vector(bias, real_type, d.n))
        return dan_infer_fail(n, e, "bias must be '%s' [%lld]", real_type->name, (long long)d.n);
    if (res && (res->dtype != real_type || !dan_shape_equal(&res->shape, &n->shape)))
        return dan_infer_fail(n, e, "residual must have the type and shape of the product");
    if (n->attr[DAN_MATMUL_GATE].i && (!res || n->attr[DAN_MATMUL_ACT].i))
        return dan_infer_fail(n, e, "a gate needs the pre-activation as residual and no activation: give it, or clear the gate");
    if (n->attr[DAN_MATMUL_GATE].i < 0 || n->attr[DAN_MATMUL_GATE].i >= DAN_N_ACTS)
        return dan_infer_fail(n, e, "gate %lld does not exist: use one of enum dan_act", (long long)n->attr[DAN_MATMUL_GATE].i);
    if (n->attr[DAN_MATMUL_ACT].i < 0 || n->attr[DAN_MATMUL_ACT].i >= DAN_N_ACTS)
        return dan_infer_fail(n, e, "activation %lld does not exist: use one of enum dan_act", (long long)n->attr[DAN_MATMUL_ACT].i);
    return check_scales(g, n, d.n, e);
}

static size_t column_bytes(const struct dan_args *a)
{
    int64_t k = a->in[1].shape.d[a->attr[DAN_MATMUL_TB].i ? 1 : 0], block = a->in[1].dtype->block;
    return ((size_t)(k + block) * (sizeof(double) + sizeof(float)) + 63) / 64 * 64;
}

static size_t ref_ws(const struct dan_args *a, int nth) { return column_bytes(a) * (size_t)nth; }

static const struct dan_tensor *input(const struct dan_args *a, int i) { return i < a->n_in && a->in[i].data ? &a->in[i] : NULL; }
static real element(const struct dan_tensor *v, int64_t i) { return v ? ((const real *)v->data)[i] : 0; }
static int64_t prec_of(const struct dan_args *a) { return input(a, DAN_MATMUL_SCALE) ? DAN_PREC_F32 : a->attr[DAN_MATMUL_PREC].i; }

/* Column j of op(b), in real, rounded to the operand precision. */
static void load_column(const struct dan_args *a, int64_t j, int64_t k, real *w, float *tmp)
{
    const struct dan_tensor *b = &a->in[1];
    int64_t prec = prec_of(a);
    bool tb = a->attr[DAN_MATMUL_TB].i;
    if (b->dtype != DAN_REAL_DTYPE && tb) {
        b->dtype->to_f32(dan_row(b, j), tmp, k);
        for (int64_t i = 0; i < k; i++) w[i] = tmp[i];
    } else if (b->dtype != DAN_REAL_DTYPE) {           /* one block of every row */
        int64_t block = b->dtype->block;
        for (int64_t i = 0; i < k; i++) {
            b->dtype->to_f32((const char *)dan_row(b, i) + j / block * b->dtype->bytes, tmp, block);
            w[i] = tmp[j % block];
        }
    } else if (tb) {
        memcpy(w, dan_row(b, j), (size_t)k * sizeof *w);
    } else {
        for (int64_t i = 0; i < k; i++) w[i] = ((const real *)dan_row(b, i))[j];
    }
    real zero = element(input(a, DAN_MATMUL_ZERO), j);
    for (int64_t i = 0; i < k; i++) w[i] = dan_prec_round(w[i], prec) - zero;
}

/* What a product with static activations uses for x; NaN stays NaN. */
static real static_value(real x, real s, real z)
{
    real q = (real)rint((double)(x / s)) + z;
    return s * ((q > 127 ? 127 : q < -128 ? -128 : q) - z);
}

/* A rounded row times w. */
static real dot_rounded(const char *row, enum dan_rounded form, int64_t k, const real *w)
{
    real sum = 0;
    float scale = form == DAN_ROUNDED_ROWS ? dan_rounded_row_of(row, k).scale : 0;
    for (int64_t j = 0; j < k; j++) {
        const char *q = row + (form == DAN_ROUNDED_ROWS ? j : j / DAN_ROUNDED_GROUP * DAN_ROUNDED_GROUP_BYTES + j % DAN_ROUNDED_GROUP);
        if (form == DAN_ROUNDED_GROUPS && j % DAN_ROUNDED_GROUP == 0) scale = dan_rounded_group_of(q).scale;
        sum += (real)(scale * (float)*(const int8_t *)q) * w[j];
    }
    return sum;
}

/* Row i of op(a) times w. */
static real dot_row(const struct dan_args *a, int64_t i, int64_t k, const real *w)
{
    const struct dan_tensor *x = &a->in[0], *fixed = input(a, DAN_MATMUL_INPUT_SCALE);
    int64_t prec = prec_of(a);
    if (x->dtype == &dan_dtype_i8) return dot_rounded(dan_row(x, i), rounded_for(a->in[1].dtype), k, w);
    bool ta = a->attr[DAN_MATMUL_TA].i;
    const real *row = ta ? (const real *)x->data + i : dan_row(x, i), s = element(fixed, 0), z = element(fixed, 1);
    int64_t step = ta ? x->stride[0] / (int64_t)sizeof(real) : 1;
    real sum = 0;
    if (fixed)
        for (int64_t j = 0; j < k; j++) sum += static_value(row[j], s, z) * w[j];
    else
        for (int64_t j = 0; j < k; j++) sum += dan_prec_round(row[j * step], prec) * w[j];
    return sum;
}

static real epilogue(const struct dan_args *a, real y, int64_t i, int64_t j)
{
    const real *res = a->in[3].data ? dan_row(&a->in[3], i) : NULL;
    int64_t gate = a->attr[DAN_MATMUL_GATE].i;
    if (input(a, DAN_MATMUL_SCALE)) y *= element(&a->in[DAN_MATMUL_SCALE], j);
    if (a->in[2].data) y += ((const real *)a->in[2].data)[j];
    if (gate) return y * act_slope(gate, res[j]);
    y = act_value(a->attr[DAN_MATMUL_ACT].i, y);
    return res ? y + res[j] : y;
}

static void ref(const struct dan_args *a)
{
    struct dims d = dims_of(&a->in[0].shape, &a->in[1].shape, a->attr);
    real *w = (real *)((char *)a->ws + column_bytes(a) * (size_t)a->ith);
    float *tmp = (float *)(w + d.k);
    int64_t lo, hi;
    dan_share(a, d.n, 16, &lo, &hi);
    for (int64_t j = lo; j < hi; j++) {
        load_column(a, j, d.k, w, tmp);
        for (int64_t i = 0; i < d.m; i++) ((real *)dan_row(&a->out[0], i))[j] = epilogue(a, dot_row(a, i, d.k, w), i, j);
    }
}

/* [.., M, K] -> [rows, K]; views may be strided, merge_dims wants them packed. */
static dan_ref flatten(struct dan_builder *b, dan_ref x)
{
    if (dan_shape_at(b, x)->n > 2 && dan_at(b->g, x)->op->props & DAN_OP_VIEW) x = dan_copy(b, x);
    while (dan_shape_at(b, x)->n > 2) x = dan_merge_dims(b, x, 0);
    return x;
}

/* Through levels with a scale: da = (dy scale) (w - zero).  The levels, when they are real, and their scales and zeros get theirs, too. */
static void vjp_scaled(struct dan_builder *b, const struct dan_node *n, dan_ref dy, dan_ref *dx)
{
    const dan_ref w = n->in[1], scale = n->in[DAN_MATMUL_SCALE], zero = n->in[DAN_MATMUL_ZERO];
    int64_t rows = dan_shape_at(b, scale)->d[0];
    if (n->in[DAN_MATMUL_INPUT_SCALE]) {
        dan_poison(b, DAN_EINVAL, "matmul at '%s' has static int8 activations and no gradient: train with the weights alone quantised, "
                   "set input scales afterwards", n->where ? n->where : "?");
        return;
    }
    dan_ref d = dan_mul(b, dy, scale);
    dx[0] = dan_matmul(b, d, w, 0, 0);
    if (zero) dx[0] = dan_sub(b, dx[0], dan_matmul(b, d, dan_split_dim(b, zero, 0, rows), 0, 1));
    if (n->in[2]) dx[2] = dan_sum(b, flatten(b, dy), 0);
    if (!dan_is_float(dan_at(b->g, w)->dtype)) return;
    dan_ref a = flatten(b, n->in[0]), flat = flatten(b, d), sums = dan_matmul(b, a, w, 0, 1);
    if (zero) {
        dan_ref of_a = dan_split_dim(b, dan_sum(b, a, 1), 0, 1);
        dx[DAN_MATMUL_ZERO] = dan_scale(b, dan_sum(b, dan_mul(b, flat, of_a), 0), -1);
        sums = dan_sub(b, sums, dan_mul(b, of_a, zero));
    }
    dx[1] = dan_matmul(b, flat, a, 1, 0);
    dx[DAN_MATMUL_SCALE] = dan_sum(b, dan_mul(b, flatten(b, dy), sums), 0);
}

static void vjp(struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx)
{
    const struct dan_node n = *dan_at(b->g, y);        /* a copy: appending moves the nodes */
    if (n.attr[DAN_MATMUL_ACT].i || n.attr[DAN_MATMUL_GATE].i || n.in[3]) {
        dan_poison(b, DAN_EINVAL, "matmul at '%s' was fused after autodiff and has no gradient: run autodiff before fuse_bias_act",
                   n.where ? n.where : "?");
        return;
    }
    if (dan_at(b->g, n.in[0])->dtype == &dan_dtype_i8) {
        dan_poison(b, DAN_EINVAL, "matmul at '%s' multiplies rounded rows and has no gradient: run autodiff before quantise_rows", n.where ? n.where : "?");
        return;
    }
    if (n.in[DAN_MATMUL_SCALE]) {
        vjp_scaled(b, &n, dy[0], dx);
        return;
    }
    int ta = n.attr[DAN_MATMUL_TA].i != 0, tb = n.attr[DAN_MATMUL_TB].i != 0;
    dan_ref a = n.in[0], w = n.in[1], d = dy[0];
    dx[0] = ta ? dan_matmul(b, w, d, tb, 1) : dan_matmul(b, d, w, 0, !tb);
    dan_ref flat = flatten(b, d);
    if (dan_is_float(dan_at(b->g, w)->dtype)) {
        a = flatten(b, a);
        dx[1] = tb ? dan_matmul(b, flat, a, 1, ta) : dan_matmul(b, a, flat, !ta, 0);
    }
    if (n.in[2]) dx[2] = dan_sum(b, flat, 0);
}

static void cost(const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes)
{
    struct dims d = dims_of(&dan_in(g, n, 0)->shape, &dan_in(g, n, 1)->shape, n->attr);
    *flops = 2.0 * (double)d.m * (double)d.n * (double)d.k;
    *bytes = dan_cost_bytes(g, n);
}

struct form { int ta, tb; enum dan_prec prec; enum dan_act act, gate; };
static dan_ref emit(struct dan_builder *b, dan_ref a, dan_ref w, dan_ref bias, dan_ref res, struct form f)
{
    const union dan_attr attr[] = {DAN_I(f.ta), DAN_I(f.tb), DAN_I(f.prec), DAN_I(f.act), DAN_I(f.gate)};
    return DAN_EMIT(b, matmul, 5, attr, a, w, bias, res);
}

/* The four layouts.  Only first dimensions are dynamic, so ta shares its dynamic K with b or keeps it fixed. */
static void sample_layout(struct dan_sample *s, int ta, int tb)
{
    int64_t m = s->rows, n = 9, k = 33;
    if (ta && tb) m = 5, k = 7;
    bool dynamic_k = ta && !tb;
    dan_ref a = s->real(s, dynamic_k ? DAN_SHAPE(m, 7) : ta ? DAN_SHAPE(k, m) : DAN_SHAPE(m, k), 1, !ta || dynamic_k);
    dan_ref w = s->real(s, dynamic_k ? DAN_SHAPE(m, n) : tb ? DAN_SHAPE(n, k) : DAN_SHAPE(k, n), 1, dynamic_k);
    s->y = dan_matmul(s->b, a, w, ta, tb);
}

static bool sample_epilogue(struct dan_sample *s, enum dan_act act, enum dan_prec prec)
{
    const int64_t k = act == DAN_ACT_SILU ? 256 : 64;              /* whole blocks of every storage format, too */
    s->no_grad = true;
    dan_ref a = s->real(s, DAN_SHAPE(s->rows, k), 1, true), w = s->real(s, DAN_SHAPE(48, k), 0.2, false);
    dan_ref bias = s->real(s, DAN_SHAPE(48), 1, false), res = s->real(s, DAN_SHAPE(s->rows, 48), 1, true);
    s->y = emit(s->b, a, w, bias, res, (struct form){.tb = 1, .prec = prec, .act = act});
    return true;
}

/* The gradient that passes act(h) behind a product: dy w * act'(h). */
static bool sample_gate(struct dan_sample *s, enum dan_act gate, enum dan_prec prec)
{
    s->no_grad = true;
    dan_ref dy = s->real(s, DAN_SHAPE(s->rows, 64), 0.2, true), w = s->real(s, DAN_SHAPE(64, 48), 0.2, false);
    dan_ref h = s->real(s, DAN_SHAPE(s->rows, 48), 1, true);
    s->y = emit(s->b, dy, w, 0, h, (struct form){.prec = prec, .gate = gate});
    return true;
}

/* Operands rounded to bf16: forward, with b as it is stored, its gradient, and that of the weights. */
static bool sample_bf16(struct dan_sample *s, int t)
{
    int64_t r = s->rows;
    s->no_grad = true;
    dan_ref a = s->real(s, t & 2 ? DAN_SHAPE(r, 33) : DAN_SHAPE(r, 70), 1, true);
    dan_ref w = s->real(s, t & 2 ? DAN_SHAPE(r, 50) : t & 1 ? DAN_SHAPE(50, 70) : DAN_SHAPE(70, 50), 1, t & 2);
    s->y = emit(s->b, a, w, 0, 0, (struct form){.ta = t >> 1, .tb = t == 1, .prec = DAN_PREC_BF16});
    return true;
}

static bool sample_plain(struct dan_sample *s, int i)
{
    int64_t r = s->rows;
    if (i < 4) {
        sample_layout(s, i >> 1, i & 1);
    } else if (i == 4) {
        dan_ref a = s->real(s, DAN_SHAPE(r, 3, 8), 1, true), w = s->real(s, DAN_SHAPE(17, 8), 1, false);
        s->y = dan_linear(s->b, a, w, s->real(s, DAN_SHAPE(17), 1, false));
    } else {                                           /* a is a slice of columns */
        dan_ref a = dan_slice(s->b, s->real(s, DAN_SHAPE(r, 40), 1, true), 1, 5, 38);
        s->y = dan_linear(s->b, a, s->real(s, DAN_SHAPE(64, 33), 1, false), 0);
    }
    return true;
}

/* {s, z} as a node; x: any node. */
static dan_ref pair_like(struct dan_builder *b, dan_ref x, double s, double z)
{
    const dan_ref part[] = {dan_fill_like(b, x, s), dan_fill_like(b, x, z)};
    return dan_concat(b, part, 2, 0);
}

/* Levels of about +-100 with a scale per row; in the storage format i8 the test tables give the integers. */
static bool sample_scaled(struct dan_sample *s, int i)
{
    static const struct { int64_t k, n; bool zero, fixed, bias, res, three; enum dan_act act; } form[] = {
        {67, 19, false, false, false, false, false, DAN_ACT_NONE}, {64, 33, true, false, true, false, true, DAN_ACT_NONE},
        {1, 5, true, false, false, false, false, DAN_ACT_NONE},    {200, 50, true, false, true, true, false, DAN_ACT_SILU},
        {96, 64, false, true, false, false, false, DAN_ACT_NONE},  {131, 35, true, true, true, true, false, DAN_ACT_GELU},
    };
    if (i >= (int)(sizeof form / sizeof *form)) return false;
    struct dan_shape shape = form[i].three ? DAN_SHAPE(s->rows, 3, form[i].k) : DAN_SHAPE(s->rows, form[i].k);
    dan_ref a = s->real(s, shape, 1, true), w = s->real(s, DAN_SHAPE(form[i].n, form[i].k), 40, false);
    dan_ref scale = s->real_away(s, DAN_SHAPE(form[i].n), 0.002, 0.02, false), zero = 0, fixed = 0;
    if (form[i].zero) zero = s->real(s, DAN_SHAPE(form[i].n), 30, false);
    if (form[i].fixed) fixed = pair_like(s->b, s->real(s, DAN_SHAPE(1), 1, false), 0.02, form[i].zero ? -11 : 0);
    dan_ref bias = form[i].bias ? s->real(s, DAN_SHAPE(form[i].n), 1, false) : 0;
    dan_ref res = form[i].res ? s->real(s, DAN_SHAPE(s->rows, form[i].n), 1, true) : 0;
    s->no_grad = fixed || res || form[i].act;
    const union dan_attr attr[] = {DAN_I(0), DAN_I(1), DAN_I(0), DAN_I(form[i].act), DAN_I(0)};
    s->y = DAN_EMIT(s->b, matmul, 5, attr, a, w, bias, res, scale, zero, fixed);
    return true;
}

static bool sample(struct dan_sample *s, int i)
{
    if (i < 6) return sample_plain(s, i);
    if ((i -= 6) < DAN_N_ACTS) return sample_epilogue(s, (enum dan_act)i, DAN_PREC_F32);
    if ((i -= DAN_N_ACTS) < 3) return sample_bf16(s, i);
    if ((i -= 3) < DAN_N_ACTS) return sample_gate(s, (enum dan_act)i, DAN_PREC_F32);
    if ((i -= DAN_N_ACTS) == 0) return sample_epilogue(s, DAN_ACT_SILU, DAN_PREC_BF16);
    if (i == 1) return sample_gate(s, DAN_ACT_GELU_TANH, DAN_PREC_BF16);
    return sample_scaled(s, i - 2);
}

DAN_OP(matmul) = {
    .name = "matmul",
    .doc = "y = act(scale op(a) op(b) + bias) + residual",
    .n_in = 7, .half_in = 0xb, .half_out = 0x1,
    .n_opt = 5,
    .attrs = {{"ta", 'i'}, {"tb", 'i'}, {"prec", 'i'}, {"act", 'i'}, {"gate", 'i'}},
    .infer = infer,
    .ref = ref,
    .ref_ws = ref_ws,
    .vjp = vjp,
    .cost = cost,
    .sample = sample,
};
