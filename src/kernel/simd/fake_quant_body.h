/* fake_quant, fake_quant_step and its gradient on vectors: the operations of the references, in f32.  Values are the same bits;
 * the sums of the scales' gradients run over VF lanes.  DSQ's staircase is left to the reference. */
#include <math.h>
#include "core/args.h"
#include "core/fake_quant.h"
#include "op/attrs.h"

/* Levels, and where rows and groups lie. */
struct levels { int64_t lo, hi, form, group; };
static inline struct levels levels_of(const struct dan_args *a)
{
    int64_t bits = a->attr[DAN_QUANT_BITS].i, form = a->attr[DAN_QUANT_FORM].i, group = a->attr[DAN_QUANT_GROUP].i;
    return (struct levels){dan_quant_lo(bits, form), dan_quant_hi(bits), form, group ? group : dan_cols(&a->in[0])};
}

static inline vf clip_vf(vf x, vf lo, vf hi) { return vf_min(vf_max(x, lo), hi); }

/* ---- the scale from the group -------------------------------------------------------------- */

static inline float largest_of(const float *x, int64_t n)
{
    vf top = vf_set(0.f);
    for (int64_t i = 0; i < n; i += VF) top = vf_max(vf_abs(vf_load_n(x + i, n - i)), top);
    return vf_top(top);
}

static inline float first_of_size(const float *x, int64_t n, float top)
{
    for (int64_t i = 0; i < n; i++)
        if (fabsf(x[i]) == top) return x[i];
    return 0;
}

static inline void round_group(const float *x, float *y, int64_t n, const struct levels *l)
{
    const float top = largest_of(x, n), hi = (float)l->hi, lo = (float)l->lo;
    const bool full = l->form & DAN_QUANT_FULL, half = l->form & DAN_QUANT_F16;
    const float m = full ? first_of_size(x, n, top) : top, end = full ? lo : hi, s = m / end, h = half ? dan_f16_to_f32(dan_f32_to_f16(s)) : s;
    const bool zeros = !(top > 1e-35f) || h == 0;
    const vf by = vf_set(zeros ? 0.f : end / m), step = vf_set(zeros ? 0.f : h), div = vf_set(zeros ? 1.f : h), vlo = vf_set(lo), vhi = vf_set(hi);
    for (int64_t i = 0; i < n; i += VF) {
        vf v = vf_load_n(x + i, n - i), q = half ? vf_div(v, div) : vf_mul(v, by);
        vf_store_n(y + i, vf_mul(step, clip_vf(vf_round(q), vlo, vhi)), n - i);
    }
}

static bool accepts_dynamic(const struct dan_args *a)
{
    return a->in[0].dtype == &dan_dtype_f32 && a->out[0].dtype == &dan_dtype_f32;
}

static void run_dynamic(const struct dan_args *a)
{
    const struct levels l = levels_of(a);
    int64_t lo, hi, cols = dan_cols(&a->out[0]);
    dan_share(a, dan_rows(&a->out[0]), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++)
        for (int64_t c = 0; c < cols; c += l.group)
            round_group((const float *)dan_row(&a->in[0], r) + c, (float *)dan_row(&a->out[0], r) + c, l.group, &l);
}

/* ---- given scales -------------------------------------------------------------------------- */

static inline float step_of(const struct dan_args *a, int64_t r, int64_t g, int64_t form)
{
    const struct dan_tensor *s = &a->in[1];
    return dan_quant_scale(s->shape.n == 1 ? ((const float *)s->data)[0] : ((const float *)dan_row(s, r))[g], form);
}

static bool accepts_step(const struct dan_args *a) { return accepts_dynamic(a) && a->in[1].dtype == &dan_dtype_f32; }

static void run_step(const struct dan_args *a)
{
    const struct levels l = levels_of(a);
    const vf bottom = vf_set((float)l.lo), top = vf_set((float)l.hi);
    int64_t lo, hi, cols = dan_cols(&a->out[0]);
    dan_share(a, dan_rows(&a->out[0]), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const float *x = dan_row(&a->in[0], r);
        float *y = dan_row(&a->out[0], r);
        for (int64_t c = 0; c < cols; c += l.group) {
            const vf step = vf_set(step_of(a, r, c / l.group, l.form));
            for (int64_t i = 0; i < l.group; i += VF) {
                vf u = vf_div(vf_load_n(x + c + i, l.group - i), step);
                vf_store_n(y + c + i, vf_mul(step, vf_round(clip_vf(u, bottom, top))), l.group - i);
            }
        }
    }
}

static bool accepts_grad(const struct dan_args *a)
{
    const int64_t rule = a->attr[DAN_QUANT_RULE].i;
    return accepts_step(a) && a->in[2].dtype == &dan_dtype_f32 && (rule == DAN_RULE_CLIP || rule == DAN_RULE_PACT || rule == DAN_RULE_LSQ);
}

/* Returns the sum of dy ds; see op/fake_quant_step_grad.c. */
static inline __attribute__((always_inline)) float group_of(int rule, const float *x, const float *dy, float *dx, int64_t n, float step,
                                                            const struct levels *l)
{
    const vf s = vf_set(step), lo = vf_set((float)l->lo), hi = vf_set((float)l->hi), zero = vf_set(0.f);
    vf sum = zero;
    for (int64_t i = 0; i < n; i += VF) {
        vf u = vf_div(vf_load_n(x + i, n - i), s), d = vf_load_n(dy + i, n - i), q = vf_round(u);
        if (rule == DAN_RULE_CLIP) {
            vf_store_n(dx + i, vf_less(q, lo, zero, vf_less(hi, q, zero, d)), n - i);
            continue;
        }
        vf in = rule == DAN_RULE_LSQ ? vf_sub(q, u) : zero;
        sum = vf_add(sum, vf_mul(d, vf_less(lo, u, vf_less(u, hi, in, hi), lo)));
        vf_store_n(dx + i, vf_less(lo, u, vf_less(u, hi, d, zero), zero), n - i);
    }
    return vf_sum(sum);
}

static void run_grad(const struct dan_args *a)
{
    const struct levels l = levels_of(a);
    const float gain = (float)a->attr[DAN_QUANT_GAIN].f;
    const int64_t rule = a->attr[DAN_QUANT_RULE].i;
    int64_t lo, hi, cols = dan_cols(&a->in[0]);
    dan_share(a, dan_rows(&a->in[0]), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        const float *x = dan_row(&a->in[0], r), *dy = dan_row(&a->in[2], r);
        float *dx = dan_row(&a->out[0], r), *ds = dan_row(&a->out[1], r);
        for (int64_t c = 0; c < cols; c += l.group) {
            const float step = step_of(a, r, c / l.group, l.form);
            float sum = rule == DAN_RULE_LSQ ? group_of(DAN_RULE_LSQ, x + c, dy + c, dx + c, l.group, step, &l)
                      : rule == DAN_RULE_PACT ? group_of(DAN_RULE_PACT, x + c, dy + c, dx + c, l.group, step, &l)
                                              : group_of(DAN_RULE_CLIP, x + c, dy + c, dx + c, l.group, step, &l);
            ds[c / l.group] = gain * sum;
        }
    }
}
