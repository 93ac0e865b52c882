/* f32 peak on avx2; see simd/probe_fma_body.h. */
#include "base/sys.h"
#include "kernel/simd/vec_avx2.h"
#include "kernel/simd/probe_fma_body.h"

const struct dan_probe dan_probe_f32_avx2 = {
    .name = "fma_avx2", .isa = "avx2", .kind = DAN_PROBE_F32, .needs = DAN_CPU_AVX2, .rank = 20, .ops = 2.0 * CHAINS * VF, .spin = spin,
};
