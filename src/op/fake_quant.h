/* How passes append the ops that imitate quantised numbers.  x [N,K]; groups are of `group` columns (0: the whole row). */
#ifndef DAN_OP_FAKE_QUANT_H
#define DAN_OP_FAKE_QUANT_H
#include "core/fake_quant.h"
#include "op/ops.h"

extern const struct dan_op dan_op_fake_quant_format, dan_op_fake_quant_step, dan_op_fake_quant_step_grad, dan_op_fake_quant_soft,
    dan_op_fake_quant_soft_grad, dan_op_quant_noise;

struct dan_quant_grid { int bits; int64_t group, form; };

/* The scale of each group from its largest |x|: max / top, or with DAN_QUANT_FULL the one that puts the largest on -top-1. */
static inline dan_ref dan_fake_quant_dynamic(struct dan_builder *b, dan_ref x, struct dan_quant_grid q)
{
    return DAN_EMIT(b, fake_quant, 3, ((const union dan_attr[]){DAN_I(q.bits), DAN_I(q.group), DAN_I(q.form)}), x);
}

/* A storage format's name of at most 8 letters as an attribute, and back (NULL: there is no such format). */
int64_t dan_quant_format_attr(const struct dan_dtype *t);
const struct dan_dtype *dan_quant_format_of(int64_t attr);
/* to_f32(from_f32(x)) of a storage format, row by row: what is exported. */
static inline dan_ref dan_fake_quant_format(struct dan_builder *b, dan_ref x, const struct dan_dtype *t)
{
    return DAN_EMIT(b, fake_quant_format, 1, &DAN_I(dan_quant_format_attr(t)), x);
}

/* s clip(round(x / s)) with scales s: [1], or [N,K/group].  slope: DSQ's alpha; gain multiplies the gradient of s (LSQ's g). */
static inline dan_ref dan_fake_quant_step(struct dan_builder *b, dan_ref x, dan_ref s, struct dan_quant_grid q, enum dan_quant_rule rule,
                                          double slope, double gain)
{
    const union dan_attr a[] = {DAN_I(q.bits), DAN_I(q.group), DAN_I(q.form), DAN_I(rule), DAN_F(slope), DAN_F(gain)};
    return DAN_EMIT(b, fake_quant_step, 6, a, x, s);
}

/* DSQ's soft staircase instead of round, slope [1] is its alpha: differentiable in all three. */
static inline dan_ref dan_fake_quant_soft(struct dan_builder *b, dan_ref x, dan_ref s, dan_ref slope, struct dan_quant_grid q)
{
    return DAN_EMIT(b, fake_quant_soft, 3, ((const union dan_attr[]){DAN_I(q.bits), DAN_I(q.group), DAN_I(q.form)}), x, s, slope);
}

/* Each element is that of q with probability p, else that of x; the gradient goes to x (Fan et al. 2021).  seed i32[2] =
 * seed, step; stream tells apart the places that draw. */
static inline dan_ref dan_quant_noise(struct dan_builder *b, dan_ref x, dan_ref q, dan_ref seed, double p, int64_t stream)
{
    return DAN_EMIT(b, quant_noise, 2, ((const union dan_attr[]){DAN_F(p), DAN_I(stream)}), x, q, seed);
}

#endif
