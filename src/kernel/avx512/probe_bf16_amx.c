/* bf16 peak of tdpbf16ps: 16 x 16 results, 32 multiply-adds each, on four tiles in turn. */
#include "base/sys.h"
#include "kernel/probe.h"
#include "kernel/simd/amx.h"

enum { TILES = 4 };

static float spin(int64_t rounds)
{
    _Alignas(64) float c[16 * 16];
    for (int i = 0; i < 256; i++) c[i] = 0.5f;
    tiles_begin();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, c, 64);
    _tile_loadd(5, c, 64);
    for (int64_t r = 0; r < rounds; r++) {
        _tile_dpbf16ps(0, 4, 5);
        _tile_dpbf16ps(1, 4, 5);
        _tile_dpbf16ps(2, 4, 5);
        _tile_dpbf16ps(3, 4, 5);
    }
    _tile_stored(0, c, 64);
    _tile_release();
    return c[0];
}

const struct dan_probe dan_probe_bf16_amx = {
    .name = "tdpbf16ps", .isa = "avx512", .kind = DAN_PROBE_BF16, .needs = DAN_CPU_AVX512 | DAN_CPU_AMX_BF16, .rank = 50,
    .ops = 2.0 * TILES * 16 * 16 * 32, .spin = spin,
};
