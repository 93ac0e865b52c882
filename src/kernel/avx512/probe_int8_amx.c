/* int8 peak of tdpbusd: 16 x 16 results, 64 multiply-adds each, on four tiles in turn. */
#define MULTIPLY _tile_dpbusd
#include "kernel/simd/probe_amx_body.h"

const struct dan_probe dan_probe_int8_amx = {
    .name = "tdpbusd", .isa = "avx512", .kind = DAN_PROBE_INT8, .needs = DAN_CPU_AVX512 | DAN_CPU_AMX_INT8, .rank = 50,
    .ops = 2.0 * TILES * 16 * 16 * 64, .spin = spin,
};
