/* The edges of every language model: inputs and outputs. */
#include "nn/nn.h"

static dan_ref ints(struct dan_builder *b, const char *name, int64_t n, int64_t dynamic) { return dan_input(b, name, &dan_dtype_i32, DAN_SHAPE(n), dynamic); }

struct dan_lm_in dan_lm_inputs(struct dan_builder *b, const struct dan_io *io, bool time_major)
{
    struct dan_lm_in in = {0};
    int64_t n = io->max_rows, unit = time_major ? io->lanes : 1;
    in.tokens = ints(b, "tokens", n, unit);
    if (time_major) {
        in.reset = ints(b, "reset", n, unit);
        if (io->cache_rows > 0) {
            in.hold = ints(b, "hold", n, unit);
            in.lane = ints(b, "lane", io->lanes, 0);
        }
    } else {
        in.pos = ints(b, "pos", n, 1);
        in.slot = ints(b, "self", n, 1);
        in.start = ints(b, "start", n, 1);
        in.stop = ints(b, "stop", n, 1);
        in.range = dan_attend_range(b, in.start, in.stop, in.slot, 0, DAN_MASK_CAUSAL, 0);
    }
    if (io->dropout > 0) in.seed = ints(b, "seed", 2, 0);
    return in;
}

void dan_lm_outputs(struct dan_builder *b, const struct dan_io *io, dan_ref h, dan_ref head) { dan_lm_outputs_capped(b, io, h, head, 0); }

/* by: factor of the logits, after the cap.  Without a cap it is put on h, which fused heads can read. */
static dan_ref logits(struct dan_builder *b, dan_ref h, dan_ref head, double cap, double by)
{
    if (cap > 0) return dan_scale(b, dan_tanh(b, dan_scale(b, dan_matmul(b, h, head, 0, 1), 1 / cap)), cap * by);
    return dan_matmul(b, by == 1 ? h : dan_scale(b, h, by), head, 0, 1);
}

static dan_ref row_weights(struct dan_builder *b, const struct dan_io *io)
{
    return dan_input(b, "weights", &dan_dtype_f32, DAN_SHAPE(io->max_rows), io->lanes > 0 ? io->lanes : 1);
}

/* Outputs "value" [N] and, where no loss of words takes the name, "loss".  No product: those may round what they read, and scores must not tie. */
static void scores(struct dan_builder *b, const struct dan_io *io, dan_ref h)
{
    dan_ref w = dan_param(b, "score.weight", &dan_dtype_f32, DAN_SHAPE(1, b->g->node[h].shape.d[1]), "zeros");
    dan_ref value = dan_sum(b, dan_mul(b, h, w), 1);
    if (!io->loss) dan_output(b, "loss", dan_sum_all(b, dan_mul(b, value, row_weights(b, io))));
    dan_output(b, "value", value);
}

void dan_lm_outputs_capped(struct dan_builder *b, const struct dan_io *io, dan_ref h, dan_ref head, double cap)
{
    if (io->score) scores(b, io, h);
    if (io->loss) {
        dan_ref targets = ints(b, "targets", io->max_rows, io->lanes > 0 ? io->lanes : 1);
        dan_ref weights = row_weights(b, io);
        dan_ref loss = dan_softmax_ce(b, logits(b, h, head, cap, io->temperature > 0 ? 1 / io->temperature : 1), targets);
        dan_output(b, "loss", dan_sum_all(b, dan_mul(b, loss, weights)));
        dan_output(b, "row_loss", loss);
    }
    if (io->logits) {
        dan_ref rows = dan_embed(b, h, ints(b, "select", io->max_select, 1));
        dan_output(b, "logits", logits(b, rows, head, cap, 1));
    }
}
