/* The end of a norm: its row as f32, stored as bf16, or rounded to int8 for products (core/rounded.h).  After math_ISA.h and round_ISA.h. */
#ifndef DAN_KERNEL_NORM_OUT_H
#define DAN_KERNEL_NORM_OUT_H
#include "kernel/simd/norm_rows.h"
#include "kernel/simd/round_rows.h"

struct norm { const float *x, *gamma, *beta; int64_t c; struct stats s; };

ALWAYS vf normed(const struct norm *m, int64_t i)
{
    int64_t n = m->c - i;
    vf v = vf_mul(vf_mul(vf_sub(vf_load_n(m->x + i, n), vf_set(m->s.mean)), vf_set(m->s.rstd)), vf_load_n(m->gamma + i, n));
    return m->beta ? vf_add(v, vf_load_n(m->beta + i, n)) : v;
}

static inline void norm_groups(const struct norm *m, char *to)
{
    float v[DAN_ROUNDED_GROUP];
    for (int64_t i = 0; i < m->c; i += DAN_ROUNDED_GROUP, to += DAN_ROUNDED_GROUP_BYTES) {
        for (int64_t j = 0; j < DAN_ROUNDED_GROUP; j += VF) vf_store(v + j, normed(m, i + j));
        round_group((const char *)v, false, to);
    }
}

static inline void norm_whole_row(const struct norm *m, char *to)
{
    struct row_top t = no_values();
    float scale;
    int32_t sum = 0;
    for (int64_t i = 0; i < m->c; i += VF) see_values(&t, normed(m, i));
    float inverse = row_inverse(&t, &scale);
    for (int64_t i = 0; i < m->c; i += VF) sum += put_row_levels(normed(m, i), inverse, m->c - i, to + i);
    end_row(to, m->c, scale, sum);
}

/* Row r of y. */
static inline void norm_out(const struct dan_args *a, const float *x, int64_t c, struct stats s, const float *gamma, const float *beta,
                            const struct dan_tensor *y, int64_t r)
{
    const struct norm m = {x, gamma, beta, c, s};
    int64_t form = a->attr[DAN_NORM_ROUND].i;
    if (form == DAN_ROUNDED_GROUPS) norm_groups(&m, dan_row(y, r));
    else if (form == DAN_ROUNDED_ROWS) norm_whole_row(&m, dan_row(y, r));
    else norm_row(x, s, gamma, beta, y, r);
}

/* As norm_accepts; a rounded output is i8. */
static inline bool norm_out_accepts(const struct dan_args *a, unsigned half_in, unsigned half_out, int rounded)
{
    struct dan_tensor out[2];
    struct dan_args b = *a;
    for (int i = 0; i < a->n_out && i < 2; i++) out[i] = a->out[i];
    if (a->attr[DAN_NORM_ROUND].i) {
        if (a->out[rounded].dtype != &dan_dtype_i8) return false;
        out[rounded].dtype = &dan_dtype_f32;
    }
    b.out = out;
    return norm_accepts(&b, half_in, half_out);
}

#endif
