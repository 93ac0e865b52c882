#include "exec/stage.h"
#include <string.h>
#include "exec/program.h"

/* f32 bytes of all staged pieces of a thread: half of a 32 KiB L1. */
enum { PIECE_BYTES = 16384 };

static size_t aligned(size_t n) { return (n + 127) & ~(size_t)63; }          /* as the planner: a line of slack */

static struct dan_tensor as_f32(const struct dan_tensor *t) { return dan_tensor_of(&dan_dtype_f32, t->shape, NULL); }

static void shorten(struct dan_tensor *t, int64_t rows)
{
    if (t->shape.d[0] > rows) t->shape.d[0] = rows;
}

struct dan_args dan_stage_declared(const struct step *s, struct dan_tensor *in, struct dan_tensor *out)
{
    const struct stage *g = s->stage;
    struct dan_args a = s->args;
    for (int k = 0; k < a.n_in; k++) {
        in[k] = g->in_half >> k & 1 ? as_f32(&s->in[k]) : s->in[k];
        if (g->rows && g->in_rows >> k & 1) shorten(&in[k], g->rows);
    }
    for (int k = 0; k < a.n_out; k++) {
        out[k] = g->out_half >> k & 1 ? as_f32(&s->out[k]) : s->out[k];
        if (g->rows) shorten(&out[k], g->rows);
    }
    a.in = in;
    a.out = out;
    return a;
}

/* f32 bytes of one row of everything that is staged. */
static size_t row_bytes(const struct stage *g, const struct dan_args *a)
{
    size_t n = 0;
    for (int k = 0; k < a->n_in; k++)
        if (g->in_half >> k & 1 && a->in[k].shape.d[0]) n += 4 * (size_t)(dan_shape_count(&a->in[k].shape) / a->in[k].shape.d[0]);
    for (int k = 0; k < a->n_out; k++)
        if (g->out_half >> k & 1 && a->out[k].shape.d[0]) n += 4 * (size_t)(dan_shape_count(&a->out[k].shape) / a->out[k].shape.d[0]);
    return n;
}

static int n_staged(const struct stage *g) { return __builtin_popcount(g->in_half) + __builtin_popcount(g->out_half); }

static bool cut_with_rows(const struct dan_tensor *t, const struct dan_tensor *y)
{
    if (!t->dtype || !t->shape.n || t->shape.d[0] != y->shape.d[0]) return false;
    return t->shape.n == y->shape.n || (t->dtype == &dan_dtype_i32 && t->shape.n == 1);
}

void dan_stage_plan(struct step *s, bool rowwise)
{
    struct stage *g = s->stage;
    bool whole = !rowwise || s->args.n_out == 0 || s->out[0].shape.n < 2;
    g->rows = 0;
    g->in_rows = 0;
    for (int k = 0; k < s->args.n_in; k++) {
        bool cut = cut_with_rows(&s->in[k], &s->out[0]);
        g->in_rows |= cut ? 1u << k : 0;
        if (g->in_half >> k & 1 && !cut) whole = true;
    }
    if (whole) return;
    size_t row = row_bytes(g, &s->args);
    g->rows = row && row < PIECE_BYTES ? (int64_t)(PIECE_BYTES / row) : 1;
}

static size_t piece_bytes(const struct stage *g, const struct dan_args *a)
{
    return (size_t)g->rows * row_bytes(g, a) + 128 * (size_t)n_staged(g) + aligned(g->inner_ws);
}

static size_t whole_bytes(const struct stage *g, const struct dan_args *a)
{
    size_t n = aligned(g->inner_ws);
    for (int k = 0; k < a->n_in; k++)
        if (g->in_half >> k & 1) n += aligned(4 * (size_t)dan_shape_count(&a->in[k].shape));
    for (int k = 0; k < a->n_out; k++)
        if (g->out_half >> k & 1) n += aligned(4 * (size_t)dan_shape_count(&a->out[k].shape));
    return n;
}

size_t dan_stage_bytes(const struct step *s, int nth)
{
    return s->stage->rows ? aligned(piece_bytes(s->stage, &s->args)) * (size_t)nth : whole_bytes(s->stage, &s->args);
}

static void convert(const struct stage *g, const struct dan_tensor *from, const struct dan_tensor *to, const struct dan_args *share)
{
    struct dan_args a = {.in = from, .out = to, .n_in = 1, .n_out = 1, .ith = share->ith, .nth = share->nth};
    g->copy(&a);
}

/* t as f32 at *at, which moves on. */
static struct dan_tensor take(const struct dan_tensor *t, char **at)
{
    struct dan_tensor f = as_f32(t);
    f.data = *at;
    *at += aligned(4 * (size_t)dan_shape_count(&f.shape));
    return f;
}

static struct dan_tensor cut(const struct dan_tensor *t, int64_t lo, int64_t n)
{
    struct dan_tensor c = *t;
    c.shape.d[0] = n;
    c.data = (char *)t->data + lo * t->stride[0];
    return c;
}

/* Rows [lo, lo + n) of all that have rows, staged, run and stored. */
static void run_piece(const struct stage *g, const struct dan_args *a, int64_t lo, int64_t n, char *ws)
{
    struct dan_tensor in[DAN_STAGE_IN], out[DAN_MAX_OUT], made[DAN_MAX_OUT];
    struct dan_args one = {.in = in, .out = out, .attr = a->attr, .n_in = a->n_in, .n_out = a->n_out, .nth = 1};
    one.ws = ws;
    ws += aligned(g->inner_ws);
    for (int k = 0; k < a->n_in; k++) {
        in[k] = g->in_rows >> k & 1 ? cut(&a->in[k], lo, n) : a->in[k];
        if (!(g->in_half >> k & 1)) continue;
        struct dan_tensor f = take(&in[k], &ws);
        convert(g, &in[k], &f, &one);
        in[k] = f;
    }
    for (int k = 0; k < a->n_out; k++) {
        out[k] = made[k] = cut(&a->out[k], lo, n);
        if (g->out_half >> k & 1) made[k] = take(&out[k], &ws);
    }
    one.out = made;
    g->run(&one);
    for (int k = 0; k < a->n_out; k++)
        if (g->out_half >> k & 1) convert(g, &made[k], &out[k], &one);
}

static void run_rows(const struct stage *g, const struct dan_args *a)
{
    int64_t lo, hi;
    char *ws = (char *)a->ws + aligned(piece_bytes(g, a)) * (size_t)a->ith;
    dan_share(a, a->out[0].shape.d[0], 1, &lo, &hi);
    for (; lo < hi; lo += g->rows) run_piece(g, a, lo, hi - lo < g->rows ? hi - lo : g->rows, ws);
}

static void run_whole(const struct stage *g, const struct dan_args *a)
{
    struct dan_tensor in[DAN_STAGE_IN], out[DAN_MAX_OUT];
    char *at = (char *)a->ws + aligned(g->inner_ws);
    struct dan_args all = *a;
    for (int k = 0; k < a->n_in; k++) {
        in[k] = a->in[k];
        if (!(g->in_half >> k & 1)) continue;
        in[k] = take(&a->in[k], &at);
        convert(g, &a->in[k], &in[k], a);
    }
    for (int k = 0; k < a->n_out; k++) out[k] = g->out_half >> k & 1 ? take(&a->out[k], &at) : a->out[k];
    all.in = in;
    all.out = out;
    dan_args_barrier(a);
    g->run(&all);
    dan_args_barrier(a);
    for (int k = 0; k < a->n_out; k++)
        if (g->out_half >> k & 1) convert(g, &out[k], &a->out[k], a);
}

void dan_stage_run(const struct stage *g, const struct dan_args *a)
{
    if (g->rows) run_rows(g, a);
    else run_whole(g, a);
}
