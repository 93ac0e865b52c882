/* Weights b in iq4_nl [N,K] in plain C: qgemm_body.h. */
#include "kernel/simd/qformat_iq4_nl.h"
#include "kernel/simd/qgemm_scalar.h"
#include "kernel/simd/qgemm_body.h"

const struct dan_kernel dan_kernel_matmul_iq4_nl_scalar = {
    .op = "matmul", .isa = "scalar", .name = "matmul_iq4_nl_scalar", .rank = 15,
    .accepts = accepts, .workspace = workspace, .run = run, .pack_bytes = pack_bytes, .pack = pack, .rtol = 3e-2f, .half = true,
};
