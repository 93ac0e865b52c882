/* Product (a linear layer; a convolution is one, too) and a normalisation with frozen statistics become one product:
 *   (matmul(x, W, b) - mean) / sqrt(var + eps) [* gamma] [+ beta]  ->  matmul(x, W', b')
 * A ReLU behind it then finds a product and moves into its epilogue (fuse_bias_act): Conv + BN + ReLU in one pass.
 * Inference only: while training, statistics and weights move.  E2; before quantisation, since it changes the weights'
 * ranges. */
#include <string.h>
#include "base/mem.h"
#include "op/ops.h"
#include "pass/fold.h"
#include "pass/pass.h"

/* The pattern, found from its division. */
struct norm { dan_ref product, sub, div, mul, last, part[DAN_FOLD_PARTS]; double eps; };
struct state { int32_t *uses; const struct dan_pass_opts *o; struct norm *norm; int32_t *of; int32_t n; };   /* of[node] = norm + 1 */

static bool is_vector_param(const struct dan_graph *g, dan_ref r, int64_t c)
{
    const struct dan_node *n = &g->node[r];
    return r && dan_op_is(n, "param") && n->shape.n == 1 && n->shape.d[0] == c;
}

/* sqrt(var + eps) */
static bool match_deviation(const struct dan_graph *g, dan_ref r, int64_t c, struct norm *m)
{
    const struct dan_node *n = &g->node[r];
    if (!dan_op_is(n, "sqrt") || !dan_op_is(&g->node[n->in[0]], "add")) return false;
    const struct dan_node *sum = &g->node[n->in[0]];
    for (int k = 0; k < 2; k++) {
        const struct dan_node *eps = &g->node[sum->in[1 - k]];
        if (!is_vector_param(g, sum->in[k], c) || !dan_op_is(eps, "fill_like")) continue;
        m->part[DAN_FOLD_VAR] = sum->in[k];
        m->eps = eps->attr[DAN_FILL_VALUE].f;
        return true;
    }
    return false;
}

/* The only reader of r, when it is `op` with a vector of c; *other = the vector. */
static dan_ref scaled_by(const struct dan_graph *g, const struct state *s, dan_ref r, const char *op, int64_t c, dan_ref *other)
{
    for (dan_ref i = r + 1; i < g->n && s->uses[r] == 1; i++) {
        const struct dan_node *n = &g->node[i];
        if (!dan_op_is(n, op)) continue;
        for (int k = 0; k < 2; k++)
            if (n->in[k] == r && is_vector_param(g, n->in[1 - k], c)) {
                *other = n->in[1 - k];
                return i;
            }
    }
    return 0;
}

static bool match(const struct dan_graph *g, const struct state *s, dan_ref div, struct norm *m)
{
    const struct dan_node *n = &g->node[div];
    if (!dan_op_is(n, "div")) return false;
    const struct dan_node *sub = &g->node[n->in[0]];
    *m = (struct norm){.div = div, .last = div, .sub = n->in[0]};
    if (!dan_op_is(sub, "sub") || !dan_op_is(&g->node[sub->in[0]], "matmul")) return false;
    int64_t c = n->shape.d[n->shape.n - 1];
    m->product = sub->in[0];
    m->part[DAN_FOLD_MEAN] = sub->in[1];
    if (!is_vector_param(g, sub->in[1], c) || !match_deviation(g, n->in[1], c, m)) return false;
    dan_ref mul = scaled_by(g, s, div, "mul", c, &m->part[DAN_FOLD_GAMMA]);
    if (mul) m->last = m->mul = mul;
    dan_ref add = scaled_by(g, s, m->last, "add", c, &m->part[DAN_FOLD_BETA]);
    if (add) m->last = add;
    m->part[DAN_FOLD_W] = g->node[m->product].in[1];
    m->part[DAN_FOLD_B] = g->node[m->product].in[2];
    return true;
}

static const char *why_not(const struct dan_graph *g, const struct state *s, const struct norm *m)
{
    const struct dan_node *p = &g->node[m->product], *w = &g->node[p->in[1]];
    if (g->n_forward) return "weights and statistics move while training";
    if (s->uses[m->product] != 1 || s->uses[m->sub] != 1) return "another node reads the product before the normalisation";
    if (!dan_op_is(w, "param") || (p->in[2] && !dan_op_is(&g->node[p->in[2]], "param"))) return "the weight or the bias is computed";
    if (p->attr[DAN_MATMUL_TA].i || !p->attr[DAN_MATMUL_TB].i) return "the weight's rows are not the output channels";
    if (p->attr[DAN_MATMUL_ACT].i || p->attr[DAN_MATMUL_GATE].i || p->in[3]) return "the product has an epilogue already";
    if (w->dtype->block != 1 || !w->dtype->to_f32 || p->in[DAN_MATMUL_SCALE]) return "the weight is quantised: fold before quantising";
    return strpbrk(w->name, "+|") ? "the weight is joined from several" : NULL;
}

static void find(const struct dan_graph *g, struct state *s)
{
    for (dan_ref i = 1; i < g->n; i++) {
        struct norm m;
        if (!match(g, s, i, &m)) continue;
        const char *why = why_not(g, s, &m);
        dan_ref place[] = {m.product, m.sub, m.div, m.mul ? m.mul : m.last, m.last, 0};
        if (why) dan_not_fused(s->o, g, place, "%s", why);
        else dan_fused(s->o, g, place);
        if (why) continue;
        s->norm[s->n++] = m;
        s->of[m.product] = s->of[m.sub] = s->of[m.div] = s->of[m.last] = s->n;
        if (m.mul) s->of[m.mul] = s->n;
    }
}

static dan_ref folded(struct dan_rewrite *r, const struct norm *m, const char *kind, const struct dan_dtype *t, struct dan_shape shape)
{
    const char *name[DAN_FOLD_PARTS];
    for (int k = 0; k < DAN_FOLD_PARTS; k++) name[k] = m->part[k] ? r->old->node[m->part[k]].name : "";
    const char *all = dan_arena_printf(r->g->arena, "%s%s|%s|%s|%s|%s|%s|%.17g", kind, name[0], name[1], name[2], name[3], name[4], name[5],
                                       m->eps);
    if (!all) return dan_poison(&r->b, DAN_ENOMEM, "not enough memory for the name of a folded weight");
    dan_ref p = dan_param(&r->b, all, t, shape, "zeros");
    if (p) r->g->node[p].frozen = true;
    return p;
}

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    struct state *s = r->ctx;
    if (!s->of[i]) return DAN_KEEP;
    const struct norm *m = &s->norm[s->of[i] - 1];
    if (i != m->last) return DAN_DROP;
    const struct dan_node *p = &r->old->node[m->product], *w = &r->old->node[p->in[1]];
    const struct dan_dtype *vector = r->old->node[m->part[DAN_FOLD_MEAN]].dtype;
    dan_ref in[] = {r->map[p->in[0]], folded(r, m, DAN_FOLD_WEIGHT, w->dtype, w->shape),
                    folded(r, m, DAN_FOLD_BIAS, vector, DAN_SHAPE(w->shape.d[0])), 0};
    r->b.where = p->where;
    return dan_emit(&r->b, p->op, in, 4, p->attr, DAN_MAX_ATTR);
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    size_t n = (size_t)g->n;
    struct state s = {dan_calloc(n, sizeof *s.uses), o, dan_calloc(n, sizeof *s.norm), dan_calloc(n, sizeof *s.of), 0};
    int rc = s.uses && s.norm && s.of ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for fusion");
    if (!rc) {
        dan_count_uses(g, s.uses);
        find(g, &s);
        rc = dan_rewrite_each(g, visit, &s, e);
    }
    dan_free(s.uses);
    dan_free(s.norm);
    dan_free(s.of);
    return rc;
}

const struct dan_pass dan_pass_fold_cbr = {
    .name = "fold_cbr", .doc = "a normalisation with frozen statistics is folded into the weights before it", .run = run, .exact = DAN_E2,
    .needs = "inference; a product with its own weight, rows by channel, that only a per-channel (y - mean) / sqrt(var + eps) reads"};
