/* The loop: thread 0 points the body's inputs at this step's slices, all threads run the body,
 * then its outputs are copied into the histories. */
#include <string.h>
#include "exec/program.h"
#include "op/attrs.h"

static char *at_time(const struct dan_tensor *t, int64_t i) { return (char *)t->data + i * t->stride[0]; }

static struct dan_tensor drop_time(const struct dan_tensor *t, int64_t i)
{
    struct dan_tensor r = *t;
    r.data = at_time(t, i);
    r.shape.n--;
    memmove(r.shape.d, t->shape.d + 1, sizeof *r.shape.d * (size_t)r.shape.n);
    memmove(r.stride, t->stride + 1, sizeof *r.stride * (size_t)r.shape.n);
    return r;
}

static void set_leaf(struct dan_program *body, int i, const struct dan_tensor *t) { body->unit[body->first_unit[i + 1]].t = *t; }

static void bind_step(const struct step *s, int64_t t, int64_t carry_from)
{
    int carries = (int)s->args.attr[DAN_SCAN_CARRIES].i, xs = (int)s->args.attr[DAN_SCAN_XS].i;
    for (int i = 0; i < s->args.n_in; i++) {
        struct dan_tensor x = i < carries ? drop_time(&s->out[i], carry_from) : i < carries + xs ? drop_time(&s->in[i], t) : s->in[i];
        set_leaf(s->body, i, &x);
    }
    dan_program_refresh(s->body);
}

/* Copies this thread's share of the rows of src (maybe a view) to contiguous dst. */
static void copy_share(char *dst, const struct dan_tensor *src, int ith, int nth)
{
    int64_t rows = dan_rows(src), lo = rows * ith / nth, hi = rows * (ith + 1) / nth;
    size_t bytes = dan_dtype_bytes(src->dtype, dan_cols(src));
    for (int64_t r = lo; r < hi; r++) memcpy(dst + (size_t)r * bytes, dan_row(src, r), bytes);
}

static void store_step(const struct step *s, int64_t t, int64_t carry_to, int ith, int nth)
{
    int carries = (int)s->args.attr[DAN_SCAN_CARRIES].i;
    for (int i = 0; i < s->args.n_out; i++)
        copy_share(at_time(&s->out[i], i < carries ? carry_to : t), dan_result(s->body, i), ith, nth);
}

void dan_scan_thread(struct dan_program *p, struct step *s, int ith, int nth)
{
    int carries = (int)s->args.attr[DAN_SCAN_CARRIES].i;
    bool reverse = s->args.attr[DAN_SCAN_REVERSE].i;
    int64_t steps = s->in[carries].shape.d[0];
    for (int i = 0; i < carries; i++) copy_share(at_time(&s->out[i], reverse ? steps : 0), &s->in[i], ith, nth);
    if (nth > 1) dan_pool_barrier(p->opts.pool);
    for (int64_t k = 0; k < steps; k++) {
        int64_t t = reverse ? steps - 1 - k : k, from = reverse ? t + 1 : t, to = reverse ? t : t + 1;
        if (ith == 0) bind_step(s, t, from);
        if (nth > 1) dan_pool_barrier(p->opts.pool);
        dan_program_thread(s->body, ith, nth);
        store_step(s, t, to, ith, nth);
        if (nth > 1) dan_pool_barrier(p->opts.pool);
    }
}
