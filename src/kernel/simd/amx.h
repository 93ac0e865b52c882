/* What ldtilecfg reads (Intel SDM, "tile configuration"): palette 1 is 8 tiles of up to 16 rows of 64 bytes. */
#ifndef DAN_KERNEL_AMX_H
#define DAN_KERNEL_AMX_H
#include <immintrin.h>
#include <stdint.h>

struct tile_config { uint8_t palette, start_row, zero[14]; uint16_t row_bytes[16]; uint8_t rows[16]; };
_Static_assert(sizeof(struct tile_config) == 64, "as the instruction reads it");

/* gcc believes that _tile_loadconfig reads 8 bytes and drops the other stores; the empty asm keeps them. */
static inline void tiles_config(const struct tile_config *t)
{
    __asm__ volatile("" : : "r"(t) : "memory");
    _tile_loadconfig(t);
}

/* All 8 tiles whole. */
static inline void tiles_begin(void)
{
    struct tile_config t = {.palette = 1};
    for (int i = 0; i < 8; i++) t.row_bytes[i] = 64, t.rows[i] = 16;
    tiles_config(&t);
}

#endif
