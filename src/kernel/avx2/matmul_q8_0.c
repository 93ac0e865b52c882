/* Weights b in q8_0 [N,K] by AVX2: qgemm_body.h. */
#include "base/sys.h"
#include "kernel/simd/qformat_q8_0.h"
#include "kernel/simd/qgemm_avx2.h"
#include "kernel/simd/qgemm_body.h"

const struct dan_kernel dan_kernel_matmul_q8_0_avx2 = {
    .op = "matmul", .isa = "avx2", .name = "matmul_q8_0_avx2", .needs = DAN_CPU_AVX2, .rank = 25,
    .accepts = accepts, .workspace = workspace, .run = run, .pack_bytes = pack_bytes, .pack = pack, .rtol = 3e-2f, .half = true,
};
