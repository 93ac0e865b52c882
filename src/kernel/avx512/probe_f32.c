/* f32 peak on avx512; see simd/probe_fma_body.h. */
#include "base/sys.h"
#include "kernel/simd/vec_avx512.h"
#include "kernel/simd/probe_fma_body.h"

const struct dan_probe dan_probe_f32_avx512 = {
    .name = "fma_avx512", .isa = "avx512", .kind = DAN_PROBE_F32, .needs = DAN_CPU_AVX512, .rank = 30, .ops = 2.0 * CHAINS * VF, .spin = spin,
};
