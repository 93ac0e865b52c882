/* Quantisation-aware training: weights and inputs of products become what integer products will see.
 *   matmul(x, W)  ->  matmul(fake_quant(x), fake_quant(W))
 * Runs after fuse_horizontal (a joined weight is rounded as its parts, scales are joined with it; one x is rounded once) and
 * before autodiff.  Every later rule sees products as before.  Embeddings, norms, biases and attention stay in float, the
 * output head unless asked for.  Products inside a scan keep float: their weights come through the loop. */
#include "pass/fake_quant.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/map.h"
#include "base/mem.h"
#include "base/str.h"
#include "op/fake_quant.h"
#include "pass/pass.h"

struct dan_quant_grid dan_quant_weight_grid(const struct dan_quant_policy *p)
{
    int64_t form = p->group ? DAN_QUANT_F16 : 0;
    return (struct dan_quant_grid){p->weight_bits, p->group, form | (p->weight_bits < 8 ? DAN_QUANT_FULL : 0)};
}

struct dan_quant_grid dan_quant_act_grid(const struct dan_quant_policy *p)
{
    return (struct dan_quant_grid){p->act_bits, p->act_static ? 0 : p->act_group, p->act_static ? DAN_QUANT_FULL : 0};
}

size_t dan_quant_stem(const char *name, size_t n)
{
    static const char *const suffixes[] = {".step", ".input_step", ".slope"};
    for (int i = 0; i < 3; i++) {
        size_t m = strlen(suffixes[i]);
        if (n > m && memcmp(name + n - m, suffixes[i], m) == 0) return n - m;
    }
    return 0;
}

/* ---- which products ------------------------------------------------------------------------ */

static bool starts(const char *s, const char *with) { return strncmp(s, with, strlen(with)) == 0; }

bool dan_quant_is_product(const struct dan_graph *g, dan_ref i, const struct dan_quant_policy *p)
{
    const struct dan_node *n = &g->node[i];
    if (!dan_op_is(n, "matmul") || n->attr[DAN_MATMUL_TA].i || !n->attr[DAN_MATMUL_TB].i || n->shape.n != 2) return false;
    for (int k = 4; k < n->n_in; k++)
        if (n->in[k]) return false;            /* integers already */
    const struct dan_node *w = &g->node[n->in[1]];
    bool real = w->dtype == &dan_dtype_f32 || w->dtype == &dan_dtype_f64;
    if (!dan_op_is(w, "param") || !real) return false;
    return starts(w->name, "blk.") || (p->head && !dan_other_reader(g, n->in[1], i));
}

static dan_ref first_reader(const struct dan_graph *g, dan_ref x, const struct dan_quant_policy *p)
{
    for (int32_t i = 1; i < g->n; i++)
        if (g->node[i].n_in && g->node[i].in[0] == x && dan_quant_is_product(g, i, p)) return i;
    return 0;
}

bool dan_quant_input_name(const struct dan_graph *g, dan_ref x, const struct dan_quant_policy *p, char *out, size_t n)
{
    dan_ref i = first_reader(g, x, p);
    const char *name = i ? g->node[g->node[i].in[1]].name : "";
    int len = snprintf(out, n, "%.*s.input_step", (int)strcspn(name, "+"), name);
    return i && len > 0 && (size_t)len < n;
}

/* ---- weights ------------------------------------------------------------------------------- */

struct state { const struct dan_quant_policy *p; dan_ref *weight, *act; dan_ref seed; };    /* of old nodes: what was made for them */

static bool fits(struct dan_rewrite *r, dan_ref w, int64_t group, const char *option)
{
    const struct dan_node *n = &r->old->node[w];
    if (!group || n->shape.d[1] % group == 0) return true;
    dan_poison(&r->b, DAN_EINVAL, "rows of '%.*s' have %lld weights, which groups of %lld do not divide: choose another %s, or --qat w8a8 with a scale for "
               "every row",
               (int)strcspn(n->name, "+"), n->name, (long long)n->shape.d[1], (long long)group, option);
    return false;
}

/* "a.step+b.step" for "a+b". */
static dan_ref param_like(struct dan_rewrite *r, const char *of, const char *suffix, const struct dan_dtype *type, struct dan_shape shape, bool frozen)
{
    struct dan_str name = {0};
    for (const char *s = of; *s;) {
        size_t n = strcspn(s, "+");
        dan_str_printf(&name, "%s%.*s%s", name.n ? "+" : "", (int)n, s, suffix);
        s += n + (s[n] == '+');
    }
    dan_ref p = name.failed ? dan_poison(&r->b, DAN_ENOMEM, "not enough memory for a name") : dan_param(&r->b, dan_str_c(&name), type, shape, "zeros");
    if (p) r->g->node[p].frozen = frozen;
    dan_str_release(&name);
    return p;
}

static double gain_of(int64_t numbers, int bits) { return 1 / sqrt((double)numbers * (double)dan_quant_hi(bits)); }

dan_ref dan_quant_weight(struct dan_builder *b, dan_ref w, dan_ref step, const struct dan_quant_policy *p)
{
    const struct dan_quant_grid q = dan_quant_weight_grid(p);
    if (step) return dan_fake_quant_step(b, w, step, q, DAN_RULE_PASS, 0, 1);
    return p->format ? dan_fake_quant_format(b, w, p->format) : dan_fake_quant_dynamic(b, w, q);
}

static enum dan_quant_rule rule_of(const struct dan_quant_policy *p)
{
    static const enum dan_quant_rule of[DAN_QAT_N_METHODS] = {
        [DAN_QAT_STE] = DAN_RULE_CLIP, [DAN_QAT_CLIPPED] = DAN_RULE_CLIP, [DAN_QAT_PACT] = DAN_RULE_PACT, [DAN_QAT_LSQ] = DAN_RULE_LSQ,
        [DAN_QAT_DSQ] = DAN_RULE_DSQ, [DAN_QAT_DSQ_SOFT] = DAN_RULE_LSQ, [DAN_QAT_NOISE] = DAN_RULE_CLIP};
    return of[p->method];
}

static dan_ref with_steps(struct dan_rewrite *r, dan_ref w, const char *of, const struct dan_quant_policy *p)
{
    const struct dan_shape s = r->g->node[w].shape;
    const struct dan_dtype *type = r->g->node[w].dtype;
    const struct dan_quant_grid q = dan_quant_weight_grid(p);
    const int64_t group = q.group ? q.group : s.d[1];
    dan_ref step = param_like(r, of, ".step", type, DAN_SHAPE(s.d[0], s.d[1] / group), !dan_quant_learns(p));
    if (p->hard) return dan_quant_weight(&r->b, w, step, p);
    if (p->method == DAN_QAT_DSQ_SOFT) {
        char name[256];
        snprintf(name, sizeof name, "%.*s.slope", (int)strcspn(of, "+"), of);      /* one for what is joined */
        dan_ref slope = dan_param(&r->b, name, type, DAN_SHAPE(1), "zeros");
        return dan_fake_quant_soft(&r->b, w, step, slope, q);
    }
    return dan_fake_quant_step(&r->b, w, step, q, rule_of(p), p->slope, gain_of(group, q.bits));
}

dan_ref dan_quant_trained(struct dan_rewrite *r, dan_ref w, const char *name, const struct dan_quant_policy *p, dan_ref seed)
{
    if (w <= 0) return w;                      /* poison */
    if (dan_quant_has_steps(p)) return with_steps(r, w, name, p);
    dan_ref q = dan_quant_weight(&r->b, w, 0, p);
    if (!dan_quant_draws(p)) return q;         /* dropout counts its streams from 0 */
    return dan_quant_noise(&r->b, w, q, seed, p->rate, (int64_t)(dan_hash(name, strlen(name), 0) | 1ull << 62));
}

static dan_ref seed_input(struct dan_rewrite *r)
{
    struct state *s = r->ctx;
    dan_ref old = dan_leaf(r->old, "seed");
    if (old && r->map[old] > 0) return r->map[old];
    if (!s->seed) s->seed = dan_input(&r->b, "seed", &dan_dtype_i32, DAN_SHAPE(2), 0);
    return s->seed;
}

static dan_ref quantised_weight(struct dan_rewrite *r, dan_ref w)
{
    struct state *s = r->ctx;
    const struct dan_quant_policy *p = s->p;
    if (!p->weight_bits) return r->map[w];
    if (s->weight[w] || !fits(r, w, p->group, "--qat-group")) return s->weight[w];
    return s->weight[w] = dan_quant_trained(r, r->map[w], r->old->node[w].name, p, dan_quant_draws(p) ? seed_input(r) : 0);
}

/* ---- inputs -------------------------------------------------------------------------------- */

static dan_ref quantised_input(struct dan_rewrite *r, dan_ref product)
{
    struct state *s = r->ctx;
    const struct dan_quant_policy *p = s->p;
    const dan_ref x = r->old->node[product].in[0];
    if (!p->act_bits) return r->map[x];
    if (s->act[x] || !fits(r, r->old->node[product].in[1], p->act_static ? 0 : p->act_group, "group for activations")) return s->act[x];
    const struct dan_quant_grid q = dan_quant_act_grid(p);
    if (!p->act_static) return s->act[x] = dan_fake_quant_dynamic(&r->b, r->map[x], q);
    char name[256];
    if (!dan_quant_input_name(r->old, x, p, name, sizeof name)) return dan_poison(&r->b, DAN_EINVAL, "the name of a weight is too long");
    const struct dan_node *n = &r->old->node[x];
    dan_ref step = dan_param(&r->b, name, n->dtype, DAN_SHAPE(1), "zeros");
    if (step) r->g->node[step].frozen = !dan_quant_learns(p);
    return s->act[x] = dan_fake_quant_step(&r->b, r->map[x], step, q, rule_of(p), p->slope, gain_of(n->shape.d[1], q.bits));
}

/* ---- the pass ------------------------------------------------------------------------------ */

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    struct state *s = r->ctx;
    const struct dan_node *n = &r->old->node[i];
    if (s->seed && dan_op_is(n, "input") && strcmp(n->name, "seed") == 0) return s->seed;
    if (!dan_quant_is_product(r->old, i, s->p)) return DAN_KEEP;
    dan_ref in[8] = {0};
    DAN_ASSERT(n->n_in <= 8);
    for (int k = 2; k < n->n_in; k++) in[k] = n->in[k] ? r->map[n->in[k]] : 0;
    in[1] = quantised_weight(r, n->in[1]);
    in[0] = quantised_input(r, i);
    return dan_emit(&r->b, n->op, in, n->n_in, n->attr, DAN_MAX_ATTR);
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    if (!o->quant || (!o->quant->weight_bits && !o->quant->act_bits)) return DAN_OK;
    dan_ref *made = dan_calloc(2 * (size_t)g->n, sizeof *made);
    if (!made) return dan_fail(e, DAN_ENOMEM, "not enough memory to quantise %d nodes", g->n);
    struct state s = {.p = o->quant, .weight = made, .act = made + g->n};
    int rc = dan_rewrite_each(g, visit, &s, e);
    dan_free(made);
    return rc;
}

const struct dan_pass dan_pass_fake_quant = {
    .name = "fake_quant", .doc = "quantisation-aware training: weights and inputs of products as integer products see them", .run = run,
};
