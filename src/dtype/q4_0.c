/* GGUF's q4_0: blocks of 32, x = d (q - 8), q of 4 bits; the value of largest magnitude becomes -8 d.  4.5 bits a weight. */
#include "dtype/search.h"

enum { BLOCK = 32, ZERO = 8 };
struct block { uint16_t d; uint8_t q[BLOCK / 2]; };            /* q: elements i and i + 16 */
_Static_assert(sizeof(struct block) == 18, "as in the file");

static int level_of(const struct block *b, int i) { return dan_half(b->q, i); }
static void set(struct block *b, int i, int level) { dan_put_half(b->q, i, level); }
static void fill(struct block *b, const uint8_t *level) { dan_fill_halves(b->q, level); }
#include "dtype/scale_body.h"

const struct dan_dtype dan_dtype_q4_0 = {
    .name = "q4_0", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = 2, .to_f32 = to_f32, .from_f32 = from_f32, .from_f32_weighted = from_f32_weighted, .fit = fit, .put = put,
    .max_rmse = 0.1f,
};
