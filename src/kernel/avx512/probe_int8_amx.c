/* int8 peak of tdpbusd: 16 x 16 results, 64 multiply-adds each, on four tiles in turn. */
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
        _tile_dpbusd(0, 4, 5);
        _tile_dpbusd(1, 4, 5);
        _tile_dpbusd(2, 4, 5);
        _tile_dpbusd(3, 4, 5);
    }
    _tile_stored(0, c, 64);
    _tile_release();
    return c[0];
}

const struct dan_probe dan_probe_int8_amx = {
    .name = "tdpbusd", .isa = "avx512", .kind = DAN_PROBE_INT8, .needs = DAN_CPU_AVX512 | DAN_CPU_AMX_INT8, .rank = 50,
    .ops = 2.0 * TILES * 16 * 16 * 64, .spin = spin,
};
