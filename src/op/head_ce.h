/* Heads with cross entropy: what head_ce and head_ce_grad share. */
#ifndef DAN_OP_HEAD_CE_H
#define DAN_OP_HEAD_CE_H
#include "op/ops.h"

enum { DAN_CE_FROZEN = DAN_CE_PREC + 1 };      /* attribute of head_ce_grad: w rests, the outputs are loss and dx */

/* head_ce_grad without dw. */
static inline dan_ref dan_head_ce_frozen(struct dan_builder *b, dan_ref x, dan_ref w, dan_ref targets, dan_ref dloss, int64_t chunk, enum dan_prec p)
{
    const union dan_attr attrs[] = {DAN_I(chunk), DAN_I(p), DAN_I(1)};
    return DAN_EMIT(b, head_ce_grad, 3, attrs, x, w, targets, dloss);
}

/* w as x, or in any storage format beside an f32 x. */
static inline bool dan_head_takes(const struct dan_dtype *x, const struct dan_dtype *w)
{
    return w == x || (x == &dan_dtype_f32 && w->to_f32 && w != &dan_dtype_i32 && w != &dan_dtype_i64);
}

#endif
