#include "op/util.h"

static double part_bytes(const struct dan_dtype *t, const struct dan_shape *s)
{
    return (double)dan_dtype_bytes(t, dan_shape_count(s));
}

double dan_cost_bytes(const struct dan_graph *g, const struct dan_node *n)
{
    double bytes = 0;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i]) bytes += part_bytes(dan_in(g, n, i)->dtype, &dan_in(g, n, i)->shape);
    if (!n->part) return bytes + part_bytes(n->dtype, &n->shape);
    for (int i = 0; i < n->n_out; i++) bytes += part_bytes(n->part[i].dtype, &n->part[i].shape);
    return bytes;
}

dan_ref dan_unbroadcast(struct dan_builder *b, dan_ref dy, dan_ref x)
{
    if (!dy || !x) return 0;
    return dan_shape_equal(dan_shape_at(b, dy), dan_shape_at(b, x)) ? dy : dan_sum_to(b, dy, x);
}

bool dan_sample_binary(struct dan_sample *s, int i, dan_binary_fn *op, struct dan_binary_range r)
{
    const int64_t N = s->rows;
    const struct { struct dan_shape x, y; bool x_dyn, y_dyn; } cases[] = {
        {DAN_SHAPE(N, 17), DAN_SHAPE(N, 17), true, true},
        {DAN_SHAPE(N, 33), DAN_SHAPE(33), true, false},
        {DAN_SHAPE(7), DAN_SHAPE(N, 7), false, true},
        {DAN_SHAPE(N, 1), DAN_SHAPE(N, 7), true, true},
        {DAN_SHAPE(N, 3, 5), DAN_SHAPE(3, 1), true, false},
        {DAN_SHAPE(1, 5), DAN_SHAPE(3, 1), false, false},
    };
    const int n = sizeof cases / sizeof cases[0];
    if (i > n) return false;
    if (i < n) {
        dan_ref x = s->real_away(s, cases[i].x, r.x_lo, r.x_hi, cases[i].x_dyn);
        s->y = op(s->b, x, s->real_away(s, cases[i].y, r.y_lo, r.y_hi, cases[i].y_dyn));
        return true;
    }
    dan_ref x = s->real_away(s, DAN_SHAPE(N, 20), r.x_lo, r.x_hi, true);
    dan_ref y = s->real_away(s, DAN_SHAPE(N, 9), r.y_lo, r.y_hi, true);
    s->y = op(s->b, dan_slice(s->b, x, 1, 3, 10), dan_slice(s->b, y, 1, 2, DAN_END));
    return true;
}

dan_ref dan_sample_input(struct dan_sample *s, int i, double lo, double hi)
{
    const struct dan_shape shapes[] = {DAN_SHAPE(s->rows, 17), DAN_SHAPE(s->rows, 3, 7), DAN_SHAPE(s->rows, 1)};
    if (i >= DAN_SAMPLE_INPUTS) return 0;
    if (i < 3) return s->real_away(s, shapes[i], lo, hi, true);
    dan_ref x = s->real_away(s, DAN_SHAPE(s->rows, 40), lo, hi, true);
    if (i == 3) return dan_slice(s->b, x, 1, 3, 36);
    return dan_pick(s->b, dan_split(s->b, dan_scale(s->b, x, -1), 1, (const int64_t[]){16, 17, 7}, 3), 1);
}
