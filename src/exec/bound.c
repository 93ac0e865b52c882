/* The roofline of measured limits: machine.h. */
#include "exec/machine.h"
#include "op/attrs.h"

static const char *const peak_names[] = {"f32", "bf16", "int8"};
static const char *const level_names[] = {"L1", "L2", "L3", "memory"};
static const char *const flow_names[] = {"read", "write", "copy", "update"};
const char *dan_peak_name(enum dan_peak p) { return peak_names[p]; }
const char *dan_level_name(enum dan_level l) { return level_names[l]; }
const char *dan_flow_name(enum dan_flow f) { return flow_names[f]; }

/* A curve at `threads`, straight between its measured (non-zero) points. */
static double at_threads(const struct dan_machine *m, const double *y, int threads)
{
    int before = -1;
    for (int i = 0; i < m->n_points; i++) {
        if (y[i] <= 0) continue;
        if (m->threads[i] >= threads) {
            if (before < 0 || m->threads[i] == threads) return y[i];
            double f = (double)(threads - m->threads[before]) / (m->threads[i] - m->threads[before]);
            return y[before] + f * (y[i] - y[before]);
        }
        before = i;
    }
    return before < 0 ? 0 : y[before];
}

double dan_machine_peak(const struct dan_machine *m, enum dan_peak p, int threads)
{
    double x = at_threads(m, m->peak[p], threads);
    return x > 0 ? x : at_threads(m, m->peak[DAN_PEAK_F32], threads);
}

/* L1 and L2 are of a core: each thread's share counts; L3 is shared. */
static enum dan_level level_of(const struct dan_machine *m, double footprint, int threads)
{
    for (int l = 0; l < DAN_LEVEL_MEMORY; l++) {
        double share = l == DAN_LEVEL_L3 ? footprint : footprint / threads;
        if (m->bandwidth[DAN_FLOW_READ][l][0] > 0 && share <= 0.9 * (double)m->cache[l]) return l;
    }
    return DAN_LEVEL_MEMORY;
}

static double flow_seconds(const struct dan_machine *m, enum dan_flow f, enum dan_level l, double bytes, int threads)
{
    double rate = 0;
    for (int k = l; k < DAN_N_LEVELS && rate <= 0; k++) rate = at_threads(m, m->bandwidth[f][k], threads);
    return bytes > 0 && rate > 0 ? bytes / rate : 0;
}

struct dan_bound dan_machine_bound(const struct dan_machine *m, const struct dan_work *w, int threads)
{
    double footprint = w->footprint > 0 ? w->footprint : w->read + w->write + w->update;
    double pair = w->read < w->write ? w->read : w->write, peak = dan_machine_peak(m, w->peak, threads);
    struct dan_bound b = {.level = level_of(m, footprint, threads)};
    const double bytes[DAN_N_FLOWS] = {w->read - pair, w->write - pair, 2 * pair, 2 * w->update};
    double move = 0;
    for (int f = 0; f < DAN_N_FLOWS; f++) move += flow_seconds(m, f, b.level, bytes[f], threads);
    double count = peak > 0 ? w->flops / peak : 0;
    b.seconds = count > move ? count : move;
    b.binds = count > move ? peak_names[w->peak] : level_names[b.level];
    return b;
}

static double tensor_bytes(const struct dan_dtype *t, const struct dan_shape *s) { return (double)dan_dtype_bytes(t, dan_shape_count(s)); }

/* Ops with a precision attribute name it "prec"; a quantised operand makes the product int8; attention multiplies as its
 * operands are stored. */
static enum dan_peak node_peak(const struct dan_graph *g, const struct dan_node *n)
{
    bool attention = dan_op_is(n, "attend") || dan_op_is(n, "attend_grad");
    if (attention && dan_stored(g, n->in[0], 0) == &dan_dtype_bf16) return DAN_PEAK_BF16;
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] && g->node[n->in[i]].dtype && g->node[n->in[i]].dtype->block > 1) return DAN_PEAK_INT8;
    for (int i = 0; i < DAN_MAX_ATTR && n->op->attrs[i].name; i++)
        if (n->op->attrs[i].name[0] == 'p' && n->op->attrs[i].name[1] == 'r' && n->attr[i].i == DAN_PREC_BF16) return DAN_PEAK_BF16;
    return DAN_PEAK_F32;
}

struct dan_work dan_node_work(const struct dan_graph *g, dan_ref r)
{
    const struct dan_node *n = &g->node[r];
    struct dan_work w = {.peak = node_peak(g, n)};
    double bytes = 0;
    if (n->op->cost) n->op->cost(g, n, &w.flops, &bytes);
    int last = n->n_in - (n->op->props & DAN_OP_LIKE ? 1 : 0);
    bool state = n->op->props & DAN_OP_STATE;  /* rows (input 1) go into a state that is not moved */
    for (int i = state; i < last; i++)
        if (n->in[i]) w.read += tensor_bytes(dan_stored(g, n->in[i], 0), &g->node[n->in[i]].shape);
    if (state && n->n_in > 1) w.write = tensor_bytes(g->node[n->in[0]].dtype, &g->node[n->in[1]].shape);
    for (int k = 0; k < n->n_out && !state; k++) w.write += tensor_bytes(dan_stored(g, r, k), n->n_out > 1 ? &n->part[k].shape : &n->shape);
    if (bytes > 0 && bytes < w.read + w.write) w.read = bytes > w.write ? bytes - w.write : 0;   /* gathers read few rows of a table */
    return w;
}
