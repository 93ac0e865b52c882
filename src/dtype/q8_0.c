/* GGUF's q8_0: blocks of 32, x = d q with d = max|x| / 127 as f16 and q int8; 8.5 bits a weight.
 * Rounds like ggml's quantize_row_q8_0_ref: q from the d that is not yet rounded to f16. */
#include "dtype/blocks.h"

enum { BLOCK = 32 };
struct block { uint16_t d; int8_t q[BLOCK]; };
_Static_assert(sizeof(struct block) == 34, "as in the file");

static void to_f32(const void *src, float *dst, int64_t n)
{
    const struct block *b = src;
    for (; n > 0; n -= BLOCK, b++, dst += BLOCK) {
        float d = dan_f16_to_f32(b->d);
        for (int i = 0; i < BLOCK; i++) dst[i] = d * b->q[i];
    }
}

/* Halves away from zero, as roundf; |x| <= 127 but for infinities, NaN and a d so small that 1/d overflows. */
static inline int8_t round_one(float x)
{
    x = x > -127 ? x < 127 ? x : 127 : x <= -127 ? -127 : 0;   /* NaN: 0 */
    int whole = (int)x;
    float rest = x - (float)whole;
    return (int8_t)(whole + (rest >= 0.5f) - (rest <= -0.5f));
}

static float scale_of(const float *x) { return dan_scale_of(fabsf(dan_largest(x, BLOCK)) / 127, x, BLOCK); }

static void fit(const float *x, const float *importance, void *block)
{
    (void)importance;                          /* levels are fine enough: the largest value decides */
    *(struct block *)block = (struct block){.d = dan_f32_to_f16(scale_of(x))};
}

static float put(void *block, int i, float x)
{
    struct block *b = block;
    float d = dan_f16_to_f32(b->d);
    b->q[i] = round_one(x * (d != 0 ? 1 / d : 0));
    return d * b->q[i];
}

static void from_f32(const float *src, void *dst, int64_t n)
{
    struct block *b = dst;
    for (; n > 0; n -= BLOCK, b++, src += BLOCK) {
        float d = scale_of(src), inverse = d != 0 ? 1 / d : 0;
        b->d = dan_f32_to_f16(d);
        for (int i = 0; i < BLOCK; i++) b->q[i] = round_one(src[i] * inverse);
    }
}

static float dot(const void *w, const void *x, int64_t n)
{
    const struct block *a = w, *b = x;
    double sum = 0;
    for (; n > 0; n -= BLOCK, a++, b++) {
        int32_t s = 0;
        for (int i = 0; i < BLOCK; i++) s += a->q[i] * b->q[i];
        sum += (double)dan_f16_to_f32(a->d) * dan_f16_to_f32(b->d) * s;
    }
    return (float)sum;
}

const struct dan_dtype dan_dtype_q8_0 = {
    .name = "q8_0", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = 8, .dot_with = &dan_dtype_q8_0,
    .to_f32 = to_f32, .from_f32 = from_f32, .dot = dot, .fit = fit, .put = put, .max_rmse = 0.006f,
};
