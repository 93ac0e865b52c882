/* Weights b in q4_k [N,K] in plain C: qgemm_body.h. */
#include "kernel/simd/qformat_q4_k.h"
#include "kernel/simd/qgemm_scalar.h"
#include "kernel/simd/qgemm_body.h"

const struct dan_kernel dan_kernel_matmul_q4_k_scalar = {
    .op = "matmul", .isa = "scalar", .name = "matmul_q4_k_scalar", .rank = 15,
    .accepts = accepts, .workspace = workspace, .run = run, .pack_bytes = pack_bytes, .pack = pack, .rtol = 3e-2f, .half = true,
};
