/* What ldtilecfg reads (Intel SDM, "tile configuration"): palette 1 is 8 tiles of up to 16 rows of 64 bytes. */
#ifndef DAN_KERNEL_AMX_H
#define DAN_KERNEL_AMX_H
#include <immintrin.h>
#include <stdint.h>

struct tile_config { uint8_t palette, start_row, zero[14]; uint16_t row_bytes[16]; uint8_t rows[16]; };
_Static_assert(sizeof(struct tile_config) == 64, "as the instruction reads it");

#endif
