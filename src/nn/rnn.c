/* LSTM and GRU over time-major rows, through scan.  The input product is hoisted out of the loop.
 * Equations and gate order are torch's:
 *   LSTM  i,f,g,o = sigm,sigm,tanh,sigm of (W_ih x + b_ih + W_hh h + b_hh);  c' = f c + i g;  h' = o tanh c'
 *   GRU   r,z = sigm;  n = tanh(W_in x + b_in + r (W_hn h + b_hn));  h' = (1-z) n + z h
 * A row with reset = 1 begins a document: its lane's state is zeroed first. */
#include <math.h>
#include <stdio.h>
#include "nn/nn.h"

struct cell_in { dan_ref h, c, x, reset, hold, w, bias; int64_t hidden; };

static dan_ref masked(struct dan_builder *b, dan_ref mask, dan_ref if_set, dan_ref otherwise)
{
    return dan_where(b, dan_split_dim(b, mask, 0, 1), if_set, otherwise);      /* [lanes] -> [lanes,1] */
}

static void split_gates(struct dan_builder *b, dan_ref x, int64_t hidden, int n, dan_ref *out)
{
    int64_t sizes[4] = {hidden, hidden, hidden, hidden};
    dan_ref s = dan_split(b, x, 1, sizes, n);
    for (int i = 0; i < n; i++) out[i] = dan_pick(b, s, i);
}

static void lstm_step(struct dan_builder *b, const struct cell_in *in, dan_ref *h, dan_ref *c)
{
    dan_ref g[4];
    split_gates(b, dan_add(b, in->x, dan_linear(b, in->h, in->w, in->bias)), in->hidden, 4, g);
    dan_ref keep = dan_mul(b, dan_sigmoid(b, g[1]), in->c);
    *c = dan_add(b, keep, dan_mul(b, dan_sigmoid(b, g[0]), dan_tanh(b, g[2])));
    *h = dan_mul(b, dan_sigmoid(b, g[3]), dan_tanh(b, *c));
}

static void gru_step(struct dan_builder *b, const struct cell_in *in, dan_ref *h)
{
    dan_ref gx[3], gh[3];
    split_gates(b, in->x, in->hidden, 3, gx);
    split_gates(b, dan_linear(b, in->h, in->w, in->bias), in->hidden, 3, gh);
    dan_ref r = dan_sigmoid(b, dan_add(b, gx[0], gh[0])), z = dan_sigmoid(b, dan_add(b, gx[1], gh[1]));
    dan_ref n = dan_tanh(b, dan_add(b, gx[2], dan_mul(b, r, gh[2])));
    *h = dan_add(b, n, dan_mul(b, z, dan_sub(b, in->h, n)));
}

/* Inputs in scan's order: h (, c) | x, reset (, hold) | W_hh, b_hh. */
static struct dan_graph *step_graph(struct dan_builder *outer, enum dan_cell cell, int64_t lanes, int64_t hidden, bool hold)
{
    struct dan_graph *g = dan_graph_new_in(outer->g->arena);
    if (!g) {
        dan_poison(outer, DAN_ENOMEM, "not enough memory for a recurrent layer");
        return NULL;
    }
    struct dan_builder b;
    dan_builder_init(&b, g);
    const struct dan_dtype *t = &dan_dtype_f32;
    int64_t gates = cell == DAN_CELL_LSTM ? 4 : 3;
    struct cell_in in = {.hidden = hidden};
    in.h = dan_input(&b, "h", t, DAN_SHAPE(lanes, hidden), 0);
    if (cell == DAN_CELL_LSTM) in.c = dan_input(&b, "c", t, DAN_SHAPE(lanes, hidden), 0);
    in.x = dan_input(&b, "x", t, DAN_SHAPE(lanes, gates * hidden), 0);
    in.reset = dan_input(&b, "reset", &dan_dtype_i32, DAN_SHAPE(lanes), 0);
    if (hold) in.hold = dan_input(&b, "hold", &dan_dtype_i32, DAN_SHAPE(lanes), 0);
    in.w = dan_input(&b, "w", t, DAN_SHAPE(gates * hidden, hidden), 0);
    in.bias = dan_input(&b, "bias", t, DAN_SHAPE(gates * hidden), 0);
    dan_ref h0 = in.h, c0 = in.c, h = 0, c = 0;
    in.h = masked(&b, in.reset, dan_fill_like(&b, in.h, 0), in.h);
    if (in.c) in.c = masked(&b, in.reset, dan_fill_like(&b, in.c, 0), in.c);
    if (cell == DAN_CELL_LSTM)
        lstm_step(&b, &in, &h, &c);
    else
        gru_step(&b, &in, &h);
    if (hold) h = masked(&b, in.hold, h0, h);
    if (hold && c) c = masked(&b, in.hold, c0, c);
    dan_output(&b, "h", h);
    if (c) dan_output(&b, "c", c);
    dan_output(&b, "y", h);
    return dan_builder_check(&b, &outer->err) ? NULL : g;
}

static dan_ref carry_state(struct dan_builder *b, const char *name, int64_t lanes, int64_t hidden) { return dan_state(b, name, &dan_dtype_f32, DAN_SHAPE(lanes, hidden)); }

static dan_ref zeros(struct dan_builder *b, dan_ref x3, int64_t hidden)
{
    dan_ref first = dan_merge_dims(b, dan_slice(b, x3, 0, 0, 1), 0);           /* [lanes, gates*H] */
    return dan_fill_like(b, dan_slice(b, first, 1, 0, hidden), 0);
}

dan_ref dan_nn_rnn(struct dan_builder *b, enum dan_cell cell, const struct dan_io *io, const struct dan_lm_in *in, dan_ref x, int64_t n_in, int64_t hidden)
{
    bool lstm = cell == DAN_CELL_LSTM, cache = io->cache_rows > 0;
    int64_t gates = lstm ? 4 : 3;
    char init[48];
    snprintf(init, sizeof init, "uniform:%.9g", 1 / sqrt((double)hidden));
    dan_ref w_ih = dan_param(b, "rnn.weight_ih", &dan_dtype_f32, DAN_SHAPE(gates * hidden, n_in), init);
    dan_ref b_ih = dan_param(b, "rnn.bias_ih", &dan_dtype_f32, DAN_SHAPE(gates * hidden), init);
    dan_ref w_hh = dan_param(b, "rnn.weight_hh", &dan_dtype_f32, DAN_SHAPE(gates * hidden, hidden), init);
    dan_ref b_hh = dan_param(b, "rnn.bias_hh", &dan_dtype_f32, DAN_SHAPE(gates * hidden), init);
    dan_ref x3 = dan_split_dim(b, dan_linear(b, x, w_ih, b_ih), 0, io->lanes); /* [T, lanes, gates*H] */
    struct dan_graph *body = step_graph(b, cell, io->lanes, hidden, cache);
    if (!body) return 0;
    dan_ref h0 = cache ? carry_state(b, "h", io->lanes, hidden) : zeros(b, x3, hidden);
    dan_ref c0 = !lstm ? 0 : cache ? carry_state(b, "c", io->lanes, hidden) : zeros(b, x3, hidden);
    dan_ref args[8];
    int n = 0;
    args[n++] = h0;
    if (lstm) args[n++] = c0;
    int carries = n;
    args[n++] = x3;
    args[n++] = dan_split_dim(b, in->reset, 0, io->lanes);
    if (cache) args[n++] = dan_split_dim(b, in->hold, 0, io->lanes);
    int xs = n - carries;
    args[n++] = w_hh;
    args[n++] = b_hh;
    dan_ref y = dan_scan(b, body, args, n, carries, xs, 1, false);
    for (int i = 0; cache && i < carries; i++) {
        dan_ref last = dan_merge_dims(b, dan_slice(b, dan_pick(b, y, i), 0, -1, DAN_END), 0);
        char name[32];
        snprintf(name, sizeof name, "state:%s", i ? "c" : "h");
        dan_output(b, name, dan_kv_write(b, args[i], last, in->lane));
    }
    return dan_merge_dims(b, dan_pick(b, y, carries), 0);
}
