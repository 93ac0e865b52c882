/* sum over the rows of [N,C] (the gradient of a bias): columns are shared between threads, rows are
 * added in blocks of 32 so that a long sum keeps its accuracy; the order is fixed. */
#include "core/args.h"
#include "kernel/simd/rows.h"

enum { BLOCK = 32, STRIP = 64 };

static bool accepts(const struct dan_args *a)
{
    return rows_f32(&a->in[0]) && a->in[0].shape.n == 2 && a->attr[0].i == 0;
}

static void strip(const struct dan_args *a, int64_t c, int64_t width, float *out)
{
    int64_t n = a->in[0].shape.d[0];
    for (int64_t k = 0; k < width; k += VF) {
        int64_t left = width - k < VF ? width - k : VF;
        vf total = vf_set(0.f);
        for (int64_t r0 = 0; r0 < n; r0 += BLOCK) {
            int64_t end = r0 + BLOCK < n ? r0 + BLOCK : n;
            vf part = vf_set(0.f);
            for (int64_t r = r0; r < end; r++) part = vf_add(part, vf_load_n((const float *)dan_row(&a->in[0], r) + c + k, left));
            total = vf_add(total, part);
        }
        vf_store_n(out + c + k, total, left);
    }
}

static void run(const struct dan_args *a)
{
    int64_t lo, hi, cols = a->in[0].shape.d[1];
    dan_share(a, cols, STRIP, &lo, &hi);
    for (int64_t c = lo; c < hi; c += STRIP) strip(a, c, hi - c < STRIP ? hi - c : STRIP, a->out[0].data);
}
