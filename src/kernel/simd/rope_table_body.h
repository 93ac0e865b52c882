/* rope_table: libm's sine at 20 ns times R/2 a row would cost more than all rotations, so angles are reduced in double and the
 * rest is Cephes' sinf and cosf (Moshier 1989; error 1e-7), in loops without branches that the compiler vectorises. */
#include <math.h>
#include "base/sys.h"
#include "core/rope.h"

struct angles { double *freq, length; float *r, *k; };     /* [R/2] each; the frequencies are those of sequences of `length` tokens */

static size_t angles_bytes(const struct dan_args *a) { return ((size_t)(dan_cols(&a->out[0]) / 2) * 16 + 63) / 64 * 64; }
static size_t workspace(const struct dan_args *a, int nth) { return angles_bytes(a) * (size_t)nth; }
static bool accepts(const struct dan_args *a) { return a->out[0].dtype == &dan_dtype_f32; }

static void set_frequencies(struct angles *t, const struct dan_rope *r, double length)
{
    if (t->length == length) return;
    t->length = length;
    for (int64_t i = 0; i < r->dim / 2; i++) t->freq[i] = dan_rope_frequency(r, i, length);
}

/* angle = k pi/2 + r, |r| <= pi/4; k mod 4 as -2, -1, 0, 1, 2 */
static void reduce(const struct angles *t, double pos, int64_t half)
{
    for (int64_t i = 0; i < half; i++) {
        double angle = pos * t->freq[i], k = rint(angle * 0.63661977236758134308);
        t->r[i] = (float)((angle - k * 1.57079632679489655800) - k * 6.12323399573676603587e-17);
        t->k[i] = (float)(k - 4 * rint(k * 0.25));
    }
}

static void sine_cosine(const struct angles *t, float by, float *cs, float *sn, int64_t half)
{
    for (int64_t i = 0; i < half; i++) {
        float r = t->r[i], k = t->k[i], z = r * r;
        float s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * r + r;
        float c = ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1;
        float odd = fabsf(k) == 1 ? 1.0f : 0.0f, half_turn = fabsf(k) == 2 ? -1.0f : 1.0f;
        float sin_even = s * half_turn, cos_even = c * half_turn;      /* k = 0, 2 */
        sn[i] = by * (odd != 0 ? c * k : sin_even);                    /* k = 1: cos, -1: -cos */
        cs[i] = by * (odd != 0 ? -s * k : cos_even);                   /* k = 1: -sin, -1: sin */
    }
}

static void run(const struct dan_args *a)
{
    struct dan_rope rope = dan_rope_of_attr(a->attr);
    const int32_t *pos = a->in[0].data, *start = a->in[1].data, *stop = a->in[2].data;
    int64_t half = rope.dim / 2, lo, hi;
    struct angles t = {.freq = (double *)((char *)a->ws + angles_bytes(a) * (size_t)a->ith), .length = -1};
    t.r = (float *)(t.freq + half);
    t.k = t.r + half;
    dan_share(a, a->out[0].shape.d[0], 1, &lo, &hi);
    for (int64_t n = lo; n < hi; n++) {
        float *y = dan_row(&a->out[0], n);
        double length = rope.kind == DAN_ROPE_DYNAMIC ? (double)stop[n] - start[n] : 0;
        set_frequencies(&t, &rope, length > rope.original ? length : 0);
        reduce(&t, pos[n], half);
        sine_cosine(&t, (float)rope.by, y, y + half, half);
    }
}
