/* Where a scale of what a product reads can go: read off the graph as the model builds it. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "quant/equalise.h"

struct look { const struct dan_graph *g; struct dan_fold *f; };

static const struct dan_node *at(const struct look *l, dan_ref r) { return &l->g->node[r]; }

/* The first reason stays.  name: of what is in the way, or NULL. */
static bool refuse(const struct look *l, const char *why, const char *name)
{
    if (l->f->why_not[0]) return false;
    snprintf(l->f->why_not, sizeof l->f->why_not, "%s%s%s%s", why, name ? " '" : "", name ? name : "", name ? "'" : "");
    return false;
}

/* The only node that reads r; 0: none, several, or an output. */
static dan_ref only_reader(const struct look *l, dan_ref r)
{
    dan_ref reader = 0;
    for (int32_t i = 0; i < l->g->n_out; i++)
        if (l->g->out[i] == r) return 0;
    for (int32_t i = 1; i < l->g->n; i++)
        for (int k = 0; k < at(l, i)->n_in; k++) {
            if (at(l, i)->in[k] != r || i == reader) continue;
            if (reader) return 0;
            reader = i;
        }
    return reader;
}

static bool is_product(const struct look *l, dan_ref r)
{
    const struct dan_node *n = at(l, r);
    bool matmul = dan_op_is(n, "matmul") && n->attr[DAN_MATMUL_TB].i && !n->attr[DAN_MATMUL_TA].i;
    return (matmul || dan_op_is(n, "head_ce")) && dan_op_is(at(l, n->in[1]), "param");
}

static bool in_group(const struct dan_fold *f, const char *name)
{
    for (int i = 0; i < f->n_to; i++)
        if (!strcmp(f->to[i], name)) return true;
    return false;
}

/* x is read by the group's products alone, as x, and their weights by nobody else. */
static bool read_by_group(const struct look *l, dan_ref x)
{
    for (int32_t i = 1; i < l->g->n; i++)
        for (int k = 0; k < at(l, i)->n_in; k++) {
            if (at(l, i)->in[k] != x) continue;
            if (k || !is_product(l, i)) return refuse(l, "what it reads also goes into", at(l, i)->op->name);
            const struct dan_node *w = at(l, at(l, i)->in[1]);
            if (!in_group(l->f, w->name)) return refuse(l, "what it reads also goes into", w->name);
            if (!only_reader(l, at(l, i)->in[1])) return refuse(l, "others, too, read its weights (a tied table):", w->name);
        }
    return true;
}

/* gain is a param, or 1 + a param, that only this norm reads. */
static bool gain_of(const struct look *l, dan_ref norm)
{
    const struct dan_node *n = at(l, norm), *gain = at(l, n->in[1]);
    dan_ref w = n->in[1];
    bool alone = only_reader(l, w) == norm;
    if (dan_op_is(gain, "add") && dan_op_is(at(l, gain->in[1]), "fill_like") && at(l, gain->in[1])->attr[0].f == 1) {
        l->f->plus = true;
        w = gain->in[0];
        for (int32_t i = 1; i < l->g->n; i++)
            for (int k = 0; k < at(l, i)->n_in; k++)
                alone = alone && (at(l, i)->in[k] != w || i == n->in[1] || i == gain->in[1]);
    }
    if (!dan_op_is(at(l, w), "param") || !alone) return refuse(l, "the gain of its norm is no param of its own", NULL);
    l->f->from = at(l, w)->name;
    return true;
}

static bool norm_fold(const struct look *l, dan_ref x)
{
    const struct dan_node *n = at(l, x);
    dan_ref bias = dan_op_is(n, "layer_norm") ? n->in[2] : 0;
    l->f->kind = DAN_FOLD_NORM;
    if (bias && (!dan_op_is(at(l, bias), "param") || only_reader(l, bias) != x))
        return refuse(l, "the bias of its norm is no param of its own", NULL);
    if (bias) l->f->from_bias = at(l, bias)->name;
    return gain_of(l, x);
}

/* r, read by `reader` alone, is a product, or some columns of one that was split. */
static bool made_by_product(const struct look *l, dan_ref r, dan_ref reader)
{
    if (only_reader(l, r) != reader) return false;
    const struct dan_node *n = at(l, r);
    int64_t row0 = 0;
    if (dan_op_is(n, "pick") && dan_op_is(at(l, n->in[0]), "split")) {
        const struct dan_node *split = at(l, n->in[0]);
        if (split->attr[0].i != split->shape.n - 1) return false;
        for (int64_t k = 0; k < n->attr[DAN_PICK_INDEX].i; k++) row0 += split->part[k].shape.d[1];
        if (only_reader(l, split->in[0]) != n->in[0]) return false;
        r = split->in[0];
        n = at(l, r);
    }
    if (!dan_op_is(n, "matmul") || !is_product(l, r) || n->attr[DAN_MATMUL_ACT].i || n->in[3] || !only_reader(l, n->in[1])) return false;
    if (n->in[2] && (!dan_op_is(at(l, n->in[2]), "param") || !only_reader(l, n->in[2]))) return false;
    l->f->from = at(l, n->in[1])->name;
    l->f->from_bias = n->in[2] ? at(l, n->in[2])->name : NULL;
    l->f->row0 = row0;
    return true;
}

static bool value_fold(const struct look *l, dan_ref attend)
{
    const struct dan_node *n = at(l, attend);
    l->f->kind = DAN_FOLD_VALUE;
    l->f->heads = n->attr[DAN_ATTEND_HEADS].i;
    l->f->kv_heads = n->attr[DAN_ATTEND_KV_HEADS].i;
    l->f->head_dim = l->f->k / l->f->heads;
    return made_by_product(l, n->in[2], attend) || refuse(l, "the values of its attention do not come straight from a product", NULL);
}

static bool gated_fold(const struct look *l, dan_ref mul)
{
    const struct dan_node *n = at(l, mul);
    l->f->kind = DAN_FOLD_GATED;
    for (int k = 1; k >= 0; k--)
        if (n->in[0] != n->in[1] && dan_shape_equal(&at(l, n->in[k])->shape, &n->shape) && made_by_product(l, n->in[k], mul)) return true;
    return refuse(l, "neither factor of what it reads comes straight from a product", NULL);
}

static bool maker_fold(const struct look *l, dan_ref x)
{
    const struct dan_node *n = at(l, x);
    if (dan_op_is(n, "rms_norm") || dan_op_is(n, "layer_norm")) return norm_fold(l, x);
    if (dan_op_is(n, "pick") && n->attr[DAN_PICK_INDEX].i == 0 && dan_op_is(at(l, n->in[0]), "attend")) return value_fold(l, n->in[0]);
    if (dan_op_is(n, "mul")) return gated_fold(l, x);
    if (dan_op_is(n, "act")) return refuse(l, "a scale does not pass through the activation before it", NULL);
    return refuse(l, "no scale passes through what makes its input,", n->op->name);
}

static dan_ref input_of(const struct look *l, const char *weights)
{
    for (int32_t i = 1; i < l->g->n; i++)
        if (is_product(l, i) && !strcmp(at(l, at(l, i)->in[1])->name, weights)) return at(l, i)->in[0];
    return 0;
}

static void add_fold(struct dan_folds *list, const struct dan_product *first)
{
    struct dan_fold *f = &list->v[list->n++];
    struct look l = {list->products.graph, f};
    *f = (struct dan_fold){.input = first->input, .layer = first->layer, .k = first->k};
    for (size_t i = 0; i < list->products.n; i++) {
        if (list->products.v[i].input != first->input) continue;
        if (f->n_to == DAN_FOLD_MOST) {
            refuse(&l, "more products read its input than are handled", NULL);
            return;
        }
        f->to[f->n_to++] = list->products.v[i].name;
    }
    dan_ref x = input_of(&l, first->name);
    if (at(&l, x)->shape.n != 2) refuse(&l, "what it reads is no matrix", NULL);
    else if (maker_fold(&l, x)) read_by_group(&l, x);
}

int dan_folds_new(const struct dan_lm *lm, struct dan_folds *out, struct dan_err *e)
{
    *out = (struct dan_folds){0};
    int rc = dan_products_new(lm, &out->products, e);
    if (rc) return rc;
    out->v = dan_calloc((size_t)out->products.n_inputs + 1, sizeof *out->v);
    if (!out->v) {
        dan_folds_release(out);
        return dan_fail(e, DAN_ENOMEM, "not enough memory for the list of groups");
    }
    for (size_t i = 0; i < out->products.n; i++)
        if (out->products.v[i].first) add_fold(out, &out->products.v[i]);
    return DAN_OK;
}

void dan_folds_release(struct dan_folds *f)
{
    dan_free(f->v);
    dan_products_release(&f->products);
    *f = (struct dan_folds){0};
}

void dan_fold_tie(const struct dan_fold *f, float *s)
{
    if (f->kind != DAN_FOLD_VALUE || f->why_not[0]) return;
    int64_t group = f->heads / f->kv_heads * f->head_dim;
    for (int64_t base = 0; base < f->k; base += group)
        for (int64_t d = 0; d < f->head_dim; d++) {
            float most = s[base + d];
            for (int64_t c = base + d; c < base + group; c += f->head_dim) most = s[c] > most ? s[c] : most;
            for (int64_t c = base + d; c < base + group; c += f->head_dim) s[c] = most;
        }
}
