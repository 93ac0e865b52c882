/* Peak of a tile instruction: 16 x 16 results on four tiles in turn.  The file that includes this defines
 * MULTIPLY(to, a, b) as the instruction. */
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
        MULTIPLY(0, 4, 5);
        MULTIPLY(1, 4, 5);
        MULTIPLY(2, 4, 5);
        MULTIPLY(3, 4, 5);
    }
    _tile_stored(0, c, 64);
    _tile_release();
    return c[0];
}
