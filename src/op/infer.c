/* Shape rules that several ops share. */
#include <stdarg.h>
#include <stdio.h>
#include "op/util.h"

int dan_infer_fail(const struct dan_node *n, struct dan_err *e, const char *fmt, ...)
{
    char why[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    return dan_fail(e, DAN_ESHAPE, "%s (in '%s' built at %s)", why, n->op->name, n->where ? n->where : "an unknown place");
}

bool dan_is_float(const struct dan_dtype *t) { return t == &dan_dtype_f32 || t == &dan_dtype_f64; }

int dan_infer_same(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    (void)e;
    n->n_out = 1;
    n->dtype = dan_in(g, n, 0)->dtype;
    n->shape = dan_in(g, n, 0)->shape;
    return DAN_OK;
}

int dan_infer_float(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_dtype *t = dan_in(g, n, 0)->dtype;
    if (!dan_is_float(t))
        return dan_infer_fail(n, e, "input is '%s': this op takes f32 or f64, convert it first", t->name);
    return dan_infer_same(g, n, e);
}

int dan_infer_misfit(const struct dan_node *n, struct dan_err *e, const struct dan_shape *a, const struct dan_shape *b, const char *what)
{
    char as[64], bs[64];
    dan_shape_text(a, as, sizeof as);
    dan_shape_text(b, bs, sizeof bs);
    return dan_infer_fail(n, e, "shapes %s and %s: %s", as, bs, what);
}

int dan_infer_twin(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *x = dan_in(g, n, 0), *y = dan_in(g, n, 1);
    if (dan_infer_float(g, n, e)) return DAN_ESHAPE;
    if (x->dtype == y->dtype && dan_shape_equal(&x->shape, &y->shape)) return DAN_OK;
    return dan_infer_misfit(n, e, &x->shape, &y->shape, "give two inputs of the same shape and the same dtype");
}

/* One dimension of the numpy rule; -1 when a and b do not go together.  0 rows and 1 give 0 rows. */
static int64_t broadcast_dim(int64_t a, int64_t b)
{
    if (a == b || b == 1) return a;
    return a == 1 ? b : -1;
}

int dan_infer_broadcast(const struct dan_graph *g, struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *x = dan_in(g, n, 0), *y = dan_in(g, n, 1);
    const struct dan_shape *a = &x->shape, *b = &y->shape;
    struct dan_shape s = {.n = a->n > b->n ? a->n : b->n};
    if (dan_infer_float(g, n, e)) return DAN_ESHAPE;
    if (x->dtype != y->dtype)
        return dan_infer_fail(n, e, "inputs are '%s' and '%s': convert one of them", x->dtype->name, y->dtype->name);
    for (int i = 1; i <= s.n; i++) {
        int64_t da = i <= a->n ? a->d[a->n - i] : 1, db = i <= b->n ? b->d[b->n - i] : 1;
        if ((s.d[s.n - i] = broadcast_dim(da, db)) < 0)
            return dan_infer_misfit(n, e, a, b, "they do not broadcast; counted from the last, dims must be equal or 1");
    }
    n->shape = s;
    return DAN_OK;
}

int dan_infer_axis(const struct dan_node *n, int64_t axis, int rank, struct dan_err *e)
{
    int at = dan_axis(axis, rank);
    if (at >= 0) return at;
    dan_infer_fail(n, e, "axis %lld is outside of %d dimensions: use 0..%d, or -1 for the last", (long long)axis, rank, rank - 1);
    return -1;
}
