/* The soft staircase of DSQ on the grid of whole numbers (Gong et al. 2019), in `real`:
 *   f(u) = i + (phi(u) + 1) / 2,  i = floor(u),  phi(u) = tanh(k (u - i - 1/2)) / (1 - a),  k = ln(2 / a - 1)
 * It meets every whole number, where phi is -1 or 1 since tanh(k / 2) = 1 - a; its mean slope over a step is 1, and for
 * a -> 0 it is round(u). */
#ifndef DAN_OP_STAIRCASE_H
#define DAN_OP_STAIRCASE_H
#include "core/fake_quant.h"
#include "op/node.h"
#include "op/op.h"

struct staircase { real a, k, scale; };
struct stair { real f, slope, by_a; };         /* f(u), df/du, df/da */

static inline struct staircase staircase_of(real a)
{
    a = a < (real)1e-6 ? (real)1e-6 : a > (real)0.5 ? (real)0.5 : a;
    return (struct staircase){a, (real)log(2 / (double)a - 1), 1 / (1 - a)};
}

static inline struct stair staircase_at(const struct staircase *c, real u)
{
    real i = (real)floor((double)u), d = u - i - (real)0.5, t = (real)tanh((double)(c->k * d)), s = c->scale, bend = 1 - t * t;
    real by_k = bend * d * (-2 / (c->a * (2 - c->a)));
    return (struct stair){i + (s * t + 1) / 2, s * c->k * bend / 2, (s * s * t + s * by_k) / 2};
}

/* ---- what the ops with a given scale share ------------------------------------------------- */

/* Scales of x [N,K]: one number, or one for every row and group. */
static inline bool steps_fit(const struct dan_node *x, const struct dan_node *s, int64_t group)
{
    return dan_is_vector(s, x->dtype, 1) ||
           (s->dtype == x->dtype && s->shape.n == 2 && s->shape.d[0] == x->shape.d[0] && s->shape.d[1] * group == x->shape.d[1]);
}

struct steps { const struct dan_tensor *t; int64_t group, form; bool one; };
static inline struct steps steps_of(const struct dan_args *a)
{
    const struct dan_tensor *s = &a->in[1];
    int64_t group = a->attr[DAN_QUANT_GROUP].i;
    return (struct steps){s, group ? group : dan_cols(&a->in[0]), a->attr[DAN_QUANT_FORM].i, s->shape.n == 1};
}

/* The scale of group g of row r, as it is used. */
static inline real step_at(const struct steps *s, int64_t r, int64_t g)
{
    real x = s->one ? ((const real *)s->t->data)[0] : ((const real *)dan_row(s->t, r))[g];
    if (s->form & DAN_QUANT_F16) return dan_quant_scale((float)x, s->form);
    x = x < 0 ? -x : x;
    return x > (real)1e-30 ? x : (real)1e-30;
}

/* Half to even; rint of float, which compilers turn into one instruction where there is one. */
static inline real round_even(real x)
{
#ifdef DAN_REAL64
    return rint(x);
#else
    return rintf(x);
#endif
}

static inline real clip_to(real x, real lo, real hi) { return x < lo ? lo : x > hi ? hi : x; }

#endif
