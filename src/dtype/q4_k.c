/* GGUF's q4_k: blocks of 256 in 8 groups of 32, x = d scale q - m min; q of 4 bits, scale and min of 6.  4.5 bits a weight. */
#include "dtype/affine.h"

enum { BLOCK = 256 };
struct block { uint16_t d, m; uint8_t scale[12], q[BLOCK / 2]; };      /* q: 32 bytes hold the low halves of one group, the high of the next */
_Static_assert(sizeof(struct block) == 144, "as in the file");

static const struct dan_affine_rule rule = {
    .groups = 8, .n = 32, .scale_top = 63, .square = 2,
    .plain = {.top = 15, .steps = 20, .from = -1, .step = 0.1f},
    .weighted = {.top = 15, .steps = 36, .from = -0.9f, .step = 0.05f},
};

static void scale_of(const struct block *b, int g, int *s, int *min) { dan_k_scale(b->scale, g, s, min); }
static void pack_scales(const struct dan_affine *a, struct block *b) { dan_k_pack(a, b->scale); }

static void levels_of(const struct block *b, int g, uint8_t *level)
{
    const uint8_t *q = b->q + g / 2 * 32;
    for (int i = 0; i < 32; i++) level[i] = q[i] >> g % 2 * 4 & 15;
}

static void set(struct block *b, int i, int level)
{
    uint8_t *q = b->q + i / 64 * 32 + i % 32;
    *q = (uint8_t)(i / 32 % 2 ? (*q & 15) | (level & 15) << 4 : (*q & 0xf0) | (level & 15));
}

static void fill(struct block *b, const uint8_t *level)
{
    for (int i = 0; i < BLOCK / 2; i++) {
        const uint8_t *l = level + i / 32 * 64 + i % 32;
        b->q[i] = (uint8_t)(l[0] | l[32] << 4);
    }
}

#include "dtype/affine_body.h"

const struct dan_dtype dan_dtype_q4_k = {
    .name = "q4_k", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = 12, .to_f32 = to_f32, .from_f32 = from_f32,
    .from_f32_weighted = from_f32_weighted, .fit = fit, .put = put, .max_rmse = 0.08f, .fallback = "q5_0",
};
