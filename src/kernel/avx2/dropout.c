/* dropout on avx2; see simd/dropout_body.h. */
#include "base/sys.h"
#include "kernel/simd/math_avx2.h"
#include "kernel/simd/philox_avx2.h"
#include "kernel/simd/dropout_body.h"

const struct dan_kernel dan_kernel_dropout_avx2 = {
    .op = "dropout", .isa = "avx2", .name = "dropout_avx2", .needs = DAN_CPU_AVX2, .rank = 20,
    .accepts = accepts, .run = run, .rtol = 0, .half = true,
};
