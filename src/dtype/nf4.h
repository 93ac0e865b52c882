/* NF4 of QLoRA (arXiv 2305.14314, appendix E): 16 quantiles of the normal distribution, scaled to -1 .. 1 with an exact 0.  The numbers are
 * those of bitsandbytes (functional.py, the table of dequantize_4bit). */
#ifndef DAN_DTYPE_NF4_H
#define DAN_DTYPE_NF4_H
#include "dtype/blocks.h"

extern const float dan_nf4_level[16];
int dan_nf4_nearest(float x);                  /* the level nearest to x in -1 .. 1; NaN: that of 0 */
float dan_largest_magnitude(const float *x, int n);     /* NaN when any is not finite */
/* 64 levels from 32 bytes, and one level into them: as elsewhere, 16 bytes hold elements i and i + 16 of 32. */
void dan_nf4_read(const uint8_t *q, float scale, float *dst);
void dan_nf4_write(const float *x, float scale, uint8_t *q);
float dan_nf4_put(uint8_t *q, float scale, int i, float x);

#endif
