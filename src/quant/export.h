/* A model after quantisation-aware training as the integers that it was trained to be. */
#ifndef DAN_QUANT_EXPORT_H
#define DAN_QUANT_EXPORT_H
#include "model/lm.h"
#include "pass/fake_quant.h"

struct dan_exported {
    int64_t matrices;                          /* that became integers */
    size_t  bytes_before, bytes_after;         /* of these, with scales */
    const char *format;                        /* "int8 per row", "q8_0", "i4_g32" */
    bool    inputs_differ;                     /* trained with 4-bit inputs, which no product has: after export they have 8 bits */
};

/* Every weight that training rounded is stored as its levels and scales: group 0 as int8 with a scale per row (model/quantize_rows.h),
 * with static scales of inputs beside it where they were trained; else in q8_0, or i4_g32 to i4_g128 (3- and 2-bit levels lie in 4
 * bits).  What is stored is, bit by bit, what the last evaluation multiplied with: this is checked, and a difference is an error.
 * The rest of the store is shared with lm.  lm keeps its float weights; `out` is for dan_lm_save and dan_lm_release. */
/* What weights become; fails when there is no such format: before training, not after. */
int dan_qat_export_format(const struct dan_quant_policy *p, const struct dan_dtype **out, struct dan_err *e);
int dan_qat_export(const struct dan_lm *lm, const struct dan_quant_policy *p, struct dan_lm *out, struct dan_exported *what, struct dan_err *e);

#endif
