/* "Vectors" of one float; see vec_avx512.h. */
#ifndef DAN_KERNEL_VEC_SCALAR_H
#define DAN_KERNEL_VEC_SCALAR_H
#include <math.h>
#include <stdint.h>
#include "core/half.h"

enum { VF = 1 };
typedef float vf;

static inline vf   vf_set(float x) { return x; }
static inline vf   vf_load(const float *p) { return *p; }
static inline void vf_store(float *p, vf x) { *p = x; }
static inline vf   vf_load_n(const float *p, int64_t n) { return n > 0 ? *p : 0; }
static inline void vf_store_n(float *p, vf x, int64_t n) { if (n > 0) *p = x; }
static inline void vf_store_bf16(void *p, vf x) { *(uint16_t *)p = dan_f32_to_bf16(x); }
static inline vf   vf_load_bf16(const void *p) { return dan_bf16_to_f32(*(const uint16_t *)p); }
static inline vf   vf_load_f16(const void *p) { return dan_f16_to_f32(*(const uint16_t *)p); }
static inline vf   vf_add(vf x, vf y) { return x + y; }
static inline vf   vf_sub(vf x, vf y) { return x - y; }
static inline vf   vf_mul(vf x, vf y) { return x * y; }
static inline vf   vf_div(vf x, vf y) { return x / y; }
static inline vf   vf_recip(vf x) { return 1 / x; }
static inline vf   vf_fma(vf x, vf y, vf z) { return x * y + z; }
static inline vf   vf_max(vf x, vf y) { return x > y ? x : y; }
static inline vf   vf_min(vf x, vf y) { return x < y ? x : y; }
static inline vf   vf_abs(vf x) { return fabsf(x); }
static inline vf   vf_round(vf x) { return rintf(x); }
static inline vf   vf_less(vf x, vf y, vf yes, vf no) { return x < y ? yes : no; }
static inline vf   vf_sign_of(vf x, vf s) { return copysignf(x, s); }
static inline vf   vf_scale2(vf x, vf n) { return ldexpf(x, (int)n); }
static inline float vf_sum(vf x) { return x; }
static inline float vf_top(vf x) { return x; }

#endif
