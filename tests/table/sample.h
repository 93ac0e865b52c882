/* The samples of the op table (op/sample.h) as graphs with data: what the table tests share.
 * Contents depend on op, case and declaration order only, so every build of a case sees the same. */
#ifndef TESTS_TABLE_SAMPLE_H
#define TESTS_TABLE_SAMPLE_H
#include "core/half.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/rng.h"
#include "op/ops.h"
#include "op/sample.h"

enum { MAX_LEAVES = 24 };

struct leaf { dan_ref ref; const char *name; struct dan_tensor t; };
struct fixture {
    struct dan_graph *g;
    struct dan_builder b;
    struct dan_sample s;
    struct dan_rng rng;
    struct leaf leaf[MAX_LEAVES];
    int n_leaves, op, i;
    bool params;                               /* real() declares params: they get gradients */
};

static inline void *room(size_t n_bytes)
{
    void *p = dan_calloc(1, n_bytes + 128);    /* vector loads may run over the end by a line */
    assert_non_null(p);
    return p;
}

static inline void set_real(const struct dan_tensor *t, int64_t i, double v)
{
    if (t->dtype == &dan_dtype_f64)
        ((double *)t->data)[i] = v;
    else
        ((float *)t->data)[i] = (float)v;
}

static inline double get_real(const struct dan_tensor *t, int64_t r, int64_t c)
{
    const void *row = dan_row(t, r);
    if (t->dtype == &dan_dtype_i32) return ((const int32_t *)row)[c];
    if (t->dtype == &dan_dtype_i8) return ((const int8_t *)row)[c];
    if (t->dtype == &dan_dtype_bf16) return (double)dan_bf16_to_f32(((const uint16_t *)row)[c]);
    return t->dtype == &dan_dtype_f64 ? ((const double *)row)[c] : (double)((const float *)row)[c];
}

static inline struct leaf *add_leaf(struct fixture *f, dan_ref r)
{
    assert_true(f->n_leaves < MAX_LEAVES);
    if (!r) return NULL;
    struct leaf *l = &f->leaf[f->n_leaves++];
    const struct dan_node *n = dan_at(f->g, r);
    l->ref = r;
    l->name = n->name;
    l->t = dan_tensor_of(n->dtype, n->shape, NULL);
    l->t.data = room(dan_tensor_bytes(&l->t));
    f->rng = (struct dan_rng){.seed = (uint64_t)f->op * 1000 + (uint64_t)f->i, .stream = (uint64_t)f->n_leaves};
    return l;
}

static inline dan_ref declare(struct dan_sample *s, const struct dan_dtype *t, struct dan_shape shape, bool dynamic, bool param)
{
    struct fixture *f = s->ctx;
    char name[16];
    snprintf(name, sizeof name, "x%d", f->n_leaves);
    return param ? dan_param(s->b, name, t, shape, "zeros") : dan_input(s->b, name, t, shape, dynamic);
}

static inline dan_ref hook_real(struct dan_sample *s, struct dan_shape shape, double scale, bool dynamic)
{
    struct fixture *f = s->ctx;
    dan_ref r = declare(s, s->dtype, shape, dynamic, f->params);
    struct leaf *l = add_leaf(f, r);
    for (int64_t i = 0; l && i < dan_shape_count(&shape); i++) set_real(&l->t, i, scale * dan_rng_normal(&f->rng));
    return r;
}

static inline dan_ref hook_real_away(struct dan_sample *s, struct dan_shape shape, double lo, double hi, bool dynamic)
{
    struct fixture *f = s->ctx;
    dan_ref r = declare(s, s->dtype, shape, dynamic, f->params);
    struct leaf *l = add_leaf(f, r);
    for (int64_t i = 0; l && i < dan_shape_count(&shape); i++) {
        double v = lo + (hi - lo) * dan_rng_uniform(&f->rng);
        set_real(&l->t, i, dan_rng_u32(&f->rng) & 1 ? v : -v);
    }
    return r;
}

static inline dan_ref hook_ints(struct dan_sample *s, struct dan_shape shape, int64_t below, bool dynamic)
{
    struct fixture *f = s->ctx;
    dan_ref r = declare(s, &dan_dtype_i32, shape, dynamic, false);
    struct leaf *l = add_leaf(f, r);
    for (int64_t i = 0; l && i < dan_shape_count(&shape); i++)
        ((int32_t *)l->t.data)[i] = (int32_t)dan_rng_below(&f->rng, (uint64_t)below);
    return r;
}

static inline dan_ref hook_values(struct dan_sample *s, struct dan_shape shape, const int32_t *v, bool dynamic)
{
    dan_ref r = declare(s, &dan_dtype_i32, shape, dynamic, false);
    struct leaf *l = add_leaf(s->ctx, r);
    if (l) memcpy(l->t.data, v, dan_tensor_bytes(&l->t));
    return r;
}

/* Leaves that a sample made without the hooks (states): normal contents; zeros where they are stored in another format. */
static inline void add_other_leaves(struct fixture *f)
{
    for (dan_ref r = 1; r < f->g->n; r++) {
        bool known = !(dan_at(f->g, r)->op->props & DAN_OP_LEAF);
        for (int k = 0; k < f->n_leaves; k++) known = known || f->leaf[k].ref == r;
        struct leaf *l = known ? NULL : add_leaf(f, r);
        bool real = l && (l->t.dtype == &dan_dtype_f32 || l->t.dtype == &dan_dtype_f64);
        for (int64_t i = 0; real && i < dan_shape_count(&l->t.shape); i++) set_real(&l->t, i, dan_rng_normal(&f->rng));
    }
}

static inline void fixture_free(struct fixture *f)
{
    for (int k = 0; k < f->n_leaves; k++) dan_free(f->leaf[k].t.data);
    dan_graph_free(f->g);
    f->g = NULL;
    f->n_leaves = 0;
}

/* Builds case i of dan_ops[op] for `rows` rows; false (nothing to free) when there are no more. */
static inline bool fixture_build(struct fixture *f, int op, int i, int64_t rows, const struct dan_dtype *t, bool params)
{
    memset(f, 0, sizeof *f);
    f->g = dan_graph_new();
    assert_non_null(f->g);
    f->op = op;
    f->i = i;
    f->params = params;
    dan_builder_init(&f->b, f->g);
    f->s = (struct dan_sample){.b = &f->b, .real = hook_real, .real_away = hook_real_away, .ints = hook_ints, .values = hook_values,
                               .dtype = t, .rows = rows, .ctx = f};
    if (!dan_ops[op]->sample || !dan_ops[op]->sample(&f->s, i)) {
        fixture_free(f);
        return false;
    }
    struct dan_err e = {0};
    if (dan_builder_check(&f->b, &e)) fail_msg("%s, case %d, %d rows: %s", dan_ops[op]->name, i, (int)rows, e.msg);
    assert_true(f->s.y > 0);
    add_other_leaves(f);
    return true;
}

#endif
