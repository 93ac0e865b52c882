/* f32 peak on scalar; see simd/probe_fma_body.h. */
#include "kernel/simd/vec_scalar.h"
#include "kernel/simd/probe_fma_body.h"

const struct dan_probe dan_probe_f32_scalar = {
    .name = "fma_scalar", .isa = "scalar", .kind = DAN_PROBE_F32, .needs = 0, .rank = 0, .ops = 2.0 * CHAINS * VF, .spin = spin,
};
