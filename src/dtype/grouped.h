/* 4-bit levels in groups of 32, 64 or 128: i4_gN, x = d l with l in -8 .. 7, and u4_gN, x = d l + m with l in 0 .. 15.  d and m are f16.
 * In memory: d (and m), then for every 32 elements 16 bytes that hold elements i and i + 16, i4 as l + 8: i4_g32 is laid out as
 * q4_0 is, u4_g32 as q4_1.  Levels are the nearest (halves to even) under the stored f16 numbers.
 *
 * Which symmetric rule: full range.  The value of largest magnitude, with its sign, becomes -8 d, so all 16 levels are in use and d may be
 * negative; max |x| / 7 would waste one level, 2 max |x| / 15 would clip the largest value.  u4 takes the range of the group, which
 * need not contain 0.  With an importance the scale (and minimum) of least weighted squared error are searched for (dtype/search.h). */
#ifndef DAN_DTYPE_GROUPED_H
#define DAN_DTYPE_GROUPED_H
#include "dtype/blocks.h"

void  dan_i4_to_f32(const void *src, float *dst, int64_t n, int group);
void  dan_i4_fit(const float *x, const float *importance, void *block, int group);
void  dan_i4_from_f32(const float *src, const float *importance, void *dst, int64_t n, int group);     /* importance may be NULL */
float dan_i4_put(void *block, int i, float x);

void  dan_u4_to_f32(const void *src, float *dst, int64_t n, int group);
void  dan_u4_fit(const float *x, const float *importance, void *block, int group);
void  dan_u4_from_f32(const float *src, const float *importance, void *dst, int64_t n, int group);
float dan_u4_put(void *block, int i, float x);

#endif
