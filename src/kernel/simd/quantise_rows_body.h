/* quantise_rows, row by row; after math_ISA.h and round_ISA.h. */
#include "base/sys.h"
#include "op/attrs.h"
#include "kernel/simd/round_rows.h"

static bool accepts(const struct dan_args *a) { return dan_f32_or_bf16(&a->in[0]) && a->out[0].dtype == &dan_dtype_i8; }

static void whole_row(const char *x, bool half, int64_t k, char *to)
{
    struct row_top t = no_values();
    float scale;
    int32_t sum = 0;
    for (int64_t i = 0; i < k; i += VF) see_values(&t, load_row(half, x, i, k - i));
    float inverse = row_inverse(&t, &scale);
    for (int64_t i = 0; i < k; i += VF) sum += put_row_levels(load_row(half, x, i, k - i), inverse, k - i, to + i);
    end_row(to, k, scale, sum);
}

static void run(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0];
    int64_t lo, hi, k = dan_cols(x);
    bool half = dan_is_bf16(x), groups = a->attr[DAN_QUANTISE_FORM].i == DAN_ROUNDED_GROUPS;
    dan_share(a, dan_rows(x), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const char *from = dan_row(x, r);
        char *to = dan_row(&a->out[0], r);
        if (!groups) whole_row(from, half, k, to);
        for (int64_t i = 0; groups && i < k; i += DAN_ROUNDED_GROUP, to += DAN_ROUNDED_GROUP_BYTES) round_group(from + i * x->dtype->bytes, half, to);
    }
}
