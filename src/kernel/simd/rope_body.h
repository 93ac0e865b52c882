/* rope: the angles of a row are computed once and used by all heads.  Libm's sine at 20 ns times D/2 a row
 * would cost more than the rotation, so angles are reduced in double and the rest is Cephes' sinf and cosf
 * (Moshier 1989; error 1e-7), in loops without branches that the compiler vectorises.  Include math_ISA.h before. */
#include <math.h>
#include "base/sys.h"
#include "core/args.h"
#include "op/attrs.h"

struct table { double *freq; float *r, *k, *cs, *sn; };    /* [D/2] each */

static size_t table_bytes(const struct dan_args *a) { return ((size_t)(a->attr[DAN_ROPE_DIM].i / 2) * 24 + 63) / 64 * 64; }

static struct table table_at(const struct dan_args *a)
{
    int64_t half = a->attr[DAN_ROPE_DIM].i / 2;
    struct table t = {.freq = (double *)((char *)a->ws + table_bytes(a) * (size_t)a->ith)};
    t.r = (float *)(t.freq + half);
    t.k = t.r + half;
    t.cs = t.k + half;
    t.sn = t.cs + half;
    for (int64_t i = 0; i < half; i++) t.freq[i] = pow(a->attr[DAN_ROPE_BASE].f, -(double)i / (double)half);
    return t;
}

/* angle = k pi/2 + r, |r| <= pi/4; k mod 4 as -2, -1, 0, 1, 2 */
static void reduce(const struct table *t, double pos, int64_t half)
{
    for (int64_t i = 0; i < half; i++) {
        double angle = pos * t->freq[i], k = rint(angle * 0.63661977236758134308);
        t->r[i] = (float)((angle - k * 1.57079632679489655800) - k * 6.12323399573676603587e-17);
        t->k[i] = (float)(k - 4 * rint(k * 0.25));
    }
}

static void sine_cosine(const struct table *t, float sign, int64_t half)
{
    for (int64_t i = 0; i < half; i++) {
        float r = t->r[i], k = t->k[i], z = r * r;
        float s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * r + r;
        float c = ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1;
        float odd = fabsf(k) == 1 ? 1.0f : 0.0f, half_turn = fabsf(k) == 2 ? -1.0f : 1.0f;
        float sin_even = s * half_turn, cos_even = c * half_turn;      /* k = 0, 2 */
        t->sn[i] = sign * (odd != 0 ? c * k : sin_even);               /* k = 1: cos, -1: -cos */
        t->cs[i] = odd != 0 ? -s * k : cos_even;                       /* k = 1: -sin, -1: sin */
    }
}

static void rotate(const float *x, float *y, const struct table *t, int64_t half)
{
    for (int64_t i = 0; i < half; i += VF) {
        int64_t n = half - i;
        vf x0 = vf_load_n(x + i, n), x1 = vf_load_n(x + half + i, n), cs = vf_load_n(t->cs + i, n), sn = vf_load_n(t->sn + i, n);
        vf_store_n(y + i, vf_sub(vf_mul(x0, cs), vf_mul(x1, sn)), n);
        vf_store_n(y + half + i, vf_fma(x1, cs, vf_mul(x0, sn)), n);
    }
}

static bool accepts(const struct dan_args *a) { return a->in[0].dtype == &dan_dtype_f32; }
static size_t workspace(const struct dan_args *a, int nth) { return table_bytes(a) * (size_t)nth; }

static void run(const struct dan_args *a)
{
    struct table t = table_at(a);
    int64_t d = a->attr[DAN_ROPE_DIM].i, lo, hi;
    dan_share(a, dan_rows(&a->in[0]), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const float *x = dan_row(&a->in[0], r);
        float *y = dan_row(&a->out[0], r);
        reduce(&t, ((const int32_t *)a->in[1].data)[r], d / 2);
        sine_cosine(&t, a->attr[DAN_ROPE_BACKWARD].i ? -1.0f : 1.0f, d / 2);
        for (int64_t h = 0; h < dan_cols(&a->in[0]); h += d) rotate(x + h, y + h, &t, d / 2);
    }
}
