/* sum over the rows of [N,C] (the gradient of a bias): columns are shared between threads, rows are
 * added in blocks of 32 so that a long sum keeps its accuracy; the order is fixed.  A strip of columns is
 * as wide as the registers allow: a row gives whole lines, which the prefetcher follows. */
#include "core/args.h"
#include "kernel/simd/half.h"
#include "kernel/simd/rows.h"

enum { BLOCK = 32, SHARE = 64, WIDE = 12 };

static bool accepts(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0];
    return f32_or_half(x) && rows_f32(&a->out[0]) && x->shape.n == 2 && a->attr[0].i == 0;
}

/* n vectors of columns from c; the last has `left` columns. */
ALWAYS void strip(bool half, const struct dan_tensor *x, int64_t c, int n, int64_t left, float *out)
{
    int64_t rows = x->shape.d[0];
    vf total[WIDE];
    for (int j = 0; j < n; j++) total[j] = vf_set(0.f);
    for (int64_t r0 = 0; r0 < rows; r0 += BLOCK) {
        int64_t end = r0 + BLOCK < rows ? r0 + BLOCK : rows;
        vf part[WIDE];
        for (int j = 0; j < n; j++) part[j] = vf_set(0.f);
        for (int64_t r = r0; r < end; r++)
            for (int j = 0; j < n; j++) part[j] = vf_add(part[j], load_row(half, dan_row(x, r), c + j * VF, j + 1 < n ? VF : left));
        for (int j = 0; j < n; j++) total[j] = vf_add(total[j], part[j]);
    }
    for (int j = 0; j < n; j++) vf_store_n(out + c + j * VF, total[j], j + 1 < n ? VF : left);
}

ALWAYS void strips(bool half, const struct dan_tensor *x, int64_t lo, int64_t hi, float *out)
{
    for (; hi - lo >= WIDE * VF; lo += WIDE * VF) strip(half, x, lo, WIDE, VF, out);
    for (; hi - lo >= 4 * VF; lo += 4 * VF) strip(half, x, lo, 4, VF, out);
    for (; lo < hi; lo += VF) strip(half, x, lo, 1, hi - lo < VF ? hi - lo : VF, out);
}

static void run(const struct dan_args *a)
{
    int64_t lo, hi;
    dan_share(a, a->in[0].shape.d[1], SHARE, &lo, &hi);
    if (is_half(&a->in[0])) strips(true, &a->in[0], lo, hi, a->out[0].data);
    else strips(false, &a->in[0], lo, hi, a->out[0].data);
}
