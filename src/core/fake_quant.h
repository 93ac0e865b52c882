/* What the ops that imitate quantised numbers share with their kernels: attributes, levels, rules of gradients.
 *
 * A number x is seen as s q with a whole q of `bits` bits: -top..top, or with DAN_QUANT_FULL -top-1..top, where
 * top = 2^(bits-1) - 1.  Rounding is half to even everywhere, as in the integer products. */
#ifndef DAN_CORE_FAKE_QUANT_H
#define DAN_CORE_FAKE_QUANT_H
#include <stdint.h>
#include "core/half.h"

enum { DAN_QUANT_FORM = 2, DAN_QUANT_RULE, DAN_QUANT_SLOPE, DAN_QUANT_GAIN };   /* after DAN_QUANT_BITS, DAN_QUANT_GROUP */
enum dan_quant_form {                          /* bits of DAN_QUANT_FORM */
    DAN_QUANT_FULL = 1,                        /* all 2^bits levels */
    DAN_QUANT_F16 = 2,                         /* scales are stored as f16: the rounded one is used */
};
/* What goes back through clip(round(x / s)) s, with u = x / s and [lo, hi] the levels. */
enum dan_quant_rule {
    DAN_RULE_PASS,                             /* dx = dy, s is given (Bengio et al. 2013) */
    DAN_RULE_CLIP,                             /* dx = dy where lo <= round(u) <= hi, s is given (PyTorch) */
    DAN_RULE_PACT,                             /* dx = dy where lo < u < hi; ds = lo dy below, hi dy above (Choi et al. 2018, signed) */
    DAN_RULE_LSQ,                              /* as PACT, and ds = (round(u) - u) dy inside (Esser et al. 2020) */
    DAN_RULE_DSQ,                              /* the derivatives of the soft staircase (Gong et al. 2019) */
    DAN_N_RULES
};

static inline int64_t dan_quant_hi(int64_t bits) { return ((int64_t)1 << (bits - 1)) - 1; }
static inline int64_t dan_quant_lo(int64_t bits, int64_t form) { return -dan_quant_hi(bits) - (form & DAN_QUANT_FULL ? 1 : 0); }

/* A scale as it is used: positive, and what f16 keeps of it.  6e-8 is f16's smallest, 65504 its largest. */
static inline float dan_quant_scale(float s, int64_t form)
{
    s = s < 0 ? -s : s;
    if (!(form & DAN_QUANT_F16)) return s > 1e-30f ? s : 1e-30f;
    s = dan_f16_to_f32(dan_f32_to_f16(s < 65504.f ? s : 65504.f));
    return s > 6e-8f ? s : 5.9604645e-8f;
}

#endif
