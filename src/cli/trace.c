#include "cli/trace.h"
#include <math.h>
#include <string.h>

struct stats { double min, max, sum; int64_t n, n_nan, n_inf; };

static void count(struct stats *s, double x)
{
    s->n++;
    s->n_nan += isnan(x);
    s->n_inf += isinf(x);
    if (!isfinite(x)) return;
    if (x < s->min) s->min = x;
    if (x > s->max) s->max = x;
    s->sum += x;
}

/* False for storage formats: no op computes in them. */
static bool measure(const struct dan_tensor *t, struct stats *s)
{
    if (t->dtype != &dan_dtype_f32 && t->dtype != &dan_dtype_f64 && t->dtype != &dan_dtype_i32) return false;
    *s = (struct stats){.min = INFINITY, .max = -INFINITY};
    int64_t rows = dan_shape_count(&t->shape) ? dan_rows(t) : 0, cols = dan_cols(t);
    for (int64_t r = 0; r < rows; r++) {
        const void *row = dan_row(t, r);
        for (int64_t c = 0; c < cols; c++)
            count(s, t->dtype == &dan_dtype_f32   ? (double)((const float *)row)[c]
                     : t->dtype == &dan_dtype_f64 ? ((const double *)row)[c]
                                                  : ((const int32_t *)row)[c]);
    }
    return true;
}

static void put_stats(const struct stats *s, struct dan_str *line)
{
    int64_t finite = s->n - s->n_nan - s->n_inf;
    if (finite) dan_str_printf(line, "  min %.5g  max %.5g  mean %.5g", s->min, s->max, s->sum / (double)finite);
    else dan_str_puts(line, s->n ? "  nothing finite" : "  empty");
    if (s->n_nan) dan_str_printf(line, "  nan %lld", (long long)s->n_nan);
    if (s->n_inf) dan_str_printf(line, "  inf %lld", (long long)s->n_inf);
}

static const char *file_of(const char *where) { return strrchr(where, '/') ? strrchr(where, '/') + 1 : where; }

void dan_trace_line(const struct dan_graph *g, dan_ref r, int32_t part, const char *kernel, const struct dan_tensor *out,
                    struct dan_str *line)
{
    const struct dan_node *n = &g->node[r];
    struct stats s;
    char shape[128];
    dan_shape_text(&out->shape, shape, sizeof shape);
    dan_str_printf(line, "%%%d", r);
    if (n->n_out > 1) dan_str_printf(line, ".%d", part);
    dan_str_printf(line, "  %s", n->op->name);
    if (n->layer >= 0) dan_str_printf(line, "  blk.%d", n->layer);
    else if (n->name) dan_str_printf(line, "  %s", n->name);
    if (n->where) dan_str_printf(line, "  %s", file_of(n->where));
    dan_str_printf(line, "  %s%s", out->dtype->name, shape);
    if (measure(out, &s)) put_stats(&s, line);
    dan_str_printf(line, "  (%s)", kernel);
}

void dan_trace_node(void *ctx, const struct dan_graph *g, dan_ref r, const char *kernel, const struct dan_tensor *out)
{
    struct dan_trace *t = ctx;
    bool next_part = r == t->last && t->part + 1 < g->node[r].n_out;
    t->done = t->done || r < t->last || (r == t->last && !next_part);                  /* the second run begins */
    if (t->done) return;
    t->part = next_part ? t->part + 1 : 0;
    t->last = r;
    struct dan_str line = {0};
    dan_trace_line(g, r, t->part, kernel, out, &line);
    dan_say(t->ui, "%s", dan_str_c(&line));
    dan_str_release(&line);
}
