/* bf16 peak of tdpbf16ps: 16 x 16 results, 32 multiply-adds each, on four tiles in turn. */
#define MULTIPLY _tile_dpbf16ps
#include "kernel/simd/probe_amx_body.h"

const struct dan_probe dan_probe_bf16_amx = {
    .name = "tdpbf16ps", .isa = "avx512", .kind = DAN_PROBE_BF16, .needs = DAN_CPU_AVX512 | DAN_CPU_AMX_BF16, .rank = 50,
    .ops = 2.0 * TILES * 16 * 16 * 32, .spin = spin,
};
