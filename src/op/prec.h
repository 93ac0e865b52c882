/* Operand precision of the products in matmul and head_ce. */
#ifndef DAN_OP_PREC_H
#define DAN_OP_PREC_H
#include "op/op.h"

#ifdef DAN_REAL64
static inline real dan_prec_round(real x, int64_t prec) { (void)prec; return x; }   /* gradients are checked without rounding */
#else
/* To bfloat16, nearest even: the upper 16 bits of an f32.  Infinity stays, NaN stays NaN. */
static inline real dan_prec_round(real x, int64_t prec)
{
    if (prec != DAN_PREC_BF16 || x != x) return x;
    uint32_t u;
    memcpy(&u, &x, 4);
    u = (u + 0x7fffu + (u >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &u, 4);
    return x;
}
#endif

#endif
