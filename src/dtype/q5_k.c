/* GGUF's q5_k: blocks of 256 in 8 groups of 32, x = d scale q - m min; q of 5 bits, scale and min of 6.  5.5 bits a weight. */
#include "dtype/affine.h"

enum { BLOCK = 256 };
/* q: 32 bytes hold the low halves of one group, the high of the next; high: bit g of byte i is the fifth of element i of group g */
struct block { uint16_t d, m; uint8_t scale[12], high[32], q[BLOCK / 2]; };
_Static_assert(sizeof(struct block) == 176, "as in the file");

static const struct dan_affine_rule rule = {
    .groups = 8, .n = 32, .scale_top = 63, .square = 2,
    .plain = {.top = 31, .steps = 15, .from = -0.5f, .step = 0.1f},
    .weighted = {.top = 31, .steps = 36, .from = -0.9f, .step = 0.05f},
};

static void scale_of(const struct block *b, int g, int *s, int *min) { dan_k_scale(b->scale, g, s, min); }
static void pack_scales(const struct dan_affine *a, struct block *b) { dan_k_pack(a, b->scale); }

static void levels_of(const struct block *b, int g, uint8_t *level)
{
    const uint8_t *q = b->q + g / 2 * 32;
    for (int i = 0; i < 32; i++) level[i] = (uint8_t)((q[i] >> g % 2 * 4 & 15) | (b->high[i] >> g & 1) << 4);
}

static void set(struct block *b, int i, int level)
{
    uint8_t *q = b->q + i / 64 * 32 + i % 32;
    *q = (uint8_t)(i / 32 % 2 ? (*q & 15) | (level & 15) << 4 : (*q & 0xf0) | (level & 15));
    b->high[i % 32] = (uint8_t)((b->high[i % 32] & ~(1 << i / 32)) | level >> 4 << i / 32);
}

static void fill(struct block *b, const uint8_t *level)
{
    for (int i = 0; i < BLOCK; i++) set(b, i, level[i]);
}

#include "dtype/affine_body.h"

const struct dan_dtype dan_dtype_q5_k = {
    .name = "q5_k", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = 13, .to_f32 = to_f32, .from_f32 = from_f32,
    .from_f32_weighted = from_f32_weighted, .fit = fit, .put = put, .max_rmse = 0.04f, .fallback = "q5_1",
};
