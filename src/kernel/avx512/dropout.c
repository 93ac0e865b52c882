/* dropout on avx512; see simd/dropout_body.h. */
#include "base/sys.h"
#include "kernel/simd/math_avx512.h"
#include "kernel/simd/philox_avx512.h"
#include "kernel/simd/dropout_body.h"

const struct dan_kernel dan_kernel_dropout_avx512 = {
    .op = "dropout", .isa = "avx512", .name = "dropout_avx512", .needs = DAN_CPU_AVX512, .rank = 30,
    .accepts = accepts, .run = run, .rtol = 0, .half = true,
};
