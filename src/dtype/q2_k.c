/* GGUF's q2_k: blocks of 256 in 16 groups of 16, x = d scale q - m min; q of 2 bits, scale and min of 4.  2.625 bits a weight. */
#include "dtype/affine.h"

enum { BLOCK = 256 };
struct block { uint8_t scale[16], q[64]; uint16_t d, m; };     /* scale: low half scale, high half min; q: 32 bytes hold 128 elements */
_Static_assert(sizeof(struct block) == 84, "as in the file");

static const struct dan_affine_rule rule = {
    .groups = 16, .n = 16, .scale_top = 15, .square = 1,
    .plain = {.top = 3, .steps = 15, .from = -0.5f, .step = 0.1f, .absolute = true},
    .weighted = {.top = 3, .steps = 36, .from = -0.9f, .step = 0.05f},
};

static void scale_of(const struct block *b, int g, int *s, int *min)
{
    *s = b->scale[g] & 15;
    *min = b->scale[g] >> 4;
}

static void pack_scales(const struct dan_affine *a, struct block *b)
{
    for (int g = 0; g < 16; g++) b->scale[g] = (uint8_t)(a->scale[g] | a->min[g] << 4);
}

static void levels_of(const struct block *b, int g, uint8_t *level)
{
    const uint8_t *q = b->q + g / 8 * 32 + g % 2 * 16;
    for (int i = 0; i < 16; i++) level[i] = q[i] >> g % 8 / 2 * 2 & 3;
}

static void set(struct block *b, int i, int level)
{
    uint8_t *q = b->q + i / 128 * 32 + i % 32;
    int shift = i % 128 / 32 * 2;
    *q = (uint8_t)((*q & ~(3 << shift)) | level << shift);
}

static void fill(struct block *b, const uint8_t *level)
{
    for (int i = 0; i < 64; i++) {
        const uint8_t *l = level + i / 32 * 128 + i % 32;
        b->q[i] = (uint8_t)(l[0] | l[32] << 2 | l[64] << 4 | l[96] << 6);
    }
}

#include "dtype/affine_body.h"

const struct dan_dtype dan_dtype_q2_k = {
    .name = "q2_k", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = 10, .to_f32 = to_f32, .from_f32 = from_f32,
    .from_f32_weighted = from_f32_weighted, .fit = fit, .put = put, .max_rmse = 0.3f, .fallback = "iq4_nl",
};
