/* sum over the rows of [N,C] (the gradient of a bias): chunks of CHUNK rows are shared between threads, so that each reads
 * memory in one stream, and their sums are then added chunk by chunk: the order is fixed, and a long sum keeps its accuracy. */
#include <string.h>
#include "core/args.h"
#include "kernel/simd/half.h"
#include "kernel/simd/rows.h"

enum { CHUNK = 32 };

static bool accepts(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0];
    return dan_f32_or_bf16(x) && rows_f32(&a->out[0]) && x->shape.n == 2 && a->attr[0].i == 0;
}

static int64_t n_chunks(const struct dan_tensor *x) { return (x->shape.d[0] + CHUNK - 1) / CHUNK; }

static size_t workspace(const struct dan_args *a, int nth)
{
    (void)nth;
    return (size_t)(n_chunks(&a->in[0]) * a->in[0].shape.d[1]) * sizeof(float);
}

/* out += rows [r, r + n) of x, n = 1 or 4: whole rows, which the prefetcher follows; out stays in L1. */
ALWAYS void add_rows(bool half, const struct dan_tensor *x, int64_t r, int n, float *out)
{
    const void *p[4];
    int64_t cols = x->shape.d[1];
    for (int i = 0; i < 4; i++) p[i] = dan_row(x, r + (i < n ? i : 0));
    for (int64_t c = 0; c < cols; c += VF) {
        int64_t left = cols - c;
        vf s = load_row(half, p[0], c, left);
        if (n == 4) s = vf_add(vf_add(s, load_row(half, p[1], c, left)), vf_add(load_row(half, p[2], c, left), load_row(half, p[3], c, left)));
        vf_store_n(out + c, vf_add(vf_load_n(out + c, left), s), left);
    }
}

ALWAYS void chunk(bool half, const struct dan_tensor *x, int64_t k, float *out)
{
    int64_t r = k * CHUNK, end = r + CHUNK < x->shape.d[0] ? r + CHUNK : x->shape.d[0];
    memset(out, 0, (size_t)x->shape.d[1] * sizeof *out);
    for (; end - r >= 4; r += 4) add_rows(half, x, r, 4, out);
    for (; r < end; r++) add_rows(half, x, r, 1, out);
}

static void run(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0];
    int64_t lo, hi, cols = x->shape.d[1], chunks = n_chunks(x);
    float *part = a->ws, *out = a->out[0].data;
    dan_share(a, chunks, 1, &lo, &hi);
    for (int64_t k = lo; k < hi; k++) {
        if (dan_is_bf16(x)) chunk(true, x, k, part + k * cols);
        else chunk(false, x, k, part + k * cols);
    }
    dan_args_barrier(a);
    dan_share(a, cols, VF, &lo, &hi);
    for (int64_t i = lo; i < hi; i += VF) {
        vf sum = vf_set(0.f);
        for (int64_t k = 0; k < chunks; k++) sum = vf_add(sum, vf_load_n(part + k * cols + i, hi - i));
        vf_store_n(out + i, sum, hi - i);
    }
}
