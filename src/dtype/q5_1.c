/* GGUF's q5_1: blocks of 32, x = d q + m, q of 5 bits, m the minimum; 6 bits a weight. */
#include "dtype/search.h"

enum { BLOCK = 32, TOP = 31 };
struct block { uint16_t d, m; uint8_t high[4], q[BLOCK / 2]; };        /* q: elements i and i + 16; high: bit i is the fifth of element i */
_Static_assert(sizeof(struct block) == 24, "as in the file");

static int level_of(const struct block *b, int i) { return dan_half(b->q, i) | dan_fifth(b->high, i); }

static void set(struct block *b, int i, int level)
{
    dan_put_half(b->q, i, level);
    dan_put_fifth(b->high, i, level);
}

static void fill(struct block *b, const uint8_t *level)
{
    dan_fill_halves(b->q, level);
    dan_fill_fifths(b->high, level);
}

#include "dtype/line_body.h"

const struct dan_dtype dan_dtype_q5_1 = {
    .name = "q5_1", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = 7, .to_f32 = to_f32, .from_f32 = from_f32, .from_f32_weighted = from_f32_weighted, .fit = fit, .put = put,
    .max_rmse = 0.05f,
};
