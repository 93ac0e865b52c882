/* Weights b in q3_k [N,K] by AVX-512 VNNI: qgemm_body.h. */
#include "base/sys.h"
#include "kernel/simd/qformat_q3_k.h"
#include "kernel/simd/qgemm_avx512.h"
#include "kernel/simd/qgemm_body.h"

const struct dan_kernel dan_kernel_matmul_q3_k_avx512 = {
    .op = "matmul", .isa = "avx512", .name = "matmul_q3_k_avx512", .needs = DAN_CPU_AVX512 | DAN_CPU_AVX512_VNNI, .rank = 60,
    .accepts = accepts, .workspace = workspace, .run = run, .pack_bytes = pack_bytes, .pack = pack, .rtol = 3e-2f, .half = true,
};
