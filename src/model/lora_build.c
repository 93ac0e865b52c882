/* Adapters as nodes: every product whose weights have one gets its branch. */
#include <stdio.h>
#include <string.h>
#include "base/map.h"
#include "model/lora.h"
#include "op/fake_quant.h"
#include "op/ops.h"
#include "pass/fake_quant.h"

enum { NAME = 256 };
/* Dropout and noise count their streams from 0, quant_noise from 2^62. */
static const int64_t dropout_streams = 1ll << 61, noise_stream = 1ll << 60;

struct ctx {
    const struct dan_lm *lm;
    const struct dan_io *io;
    const struct dan_quant_policy *quant;
    bool    trained;
    dan_ref seed, row[DAN_MAX_ADAPTERS], selected[DAN_MAX_ADAPTERS];
    dan_ref dropped_x[DAN_MAX_ADAPTERS], dropped[DAN_MAX_ADAPTERS];     /* the last input of an adapter, with dropout */
};
/* One product: its input, its result, the adapter's parts. */
struct place { dan_ref i, x, y; const char *base; const struct dan_adapter *a; int k; dan_ref lora_a, lora_b, m, norm; };

static dan_ref part(struct dan_rewrite *r, const char *base, const struct dan_adapter *a, const char *which, bool trained)
{
    const struct ctx *c = r->ctx;
    char name[NAME];
    int n = snprintf(name, sizeof name, "%s@%s.%s", base, a->name, which);
    const struct dan_tensor *t = n > 0 && n < NAME ? dan_store_find(c->lm->store, name) : NULL;
    dan_ref p = t ? dan_param(&r->b, name, t->dtype, t->shape, "zeros") : 0;
    if (p) r->g->node[p].frozen = !trained;
    return p;
}

static bool find_place(struct dan_rewrite *r, struct place *p)
{
    p->lora_a = part(r, p->base, p->a, "lora_a", p->a->trained);
    p->lora_b = part(r, p->base, p->a, "lora_b", p->a->trained);
    p->m = part(r, p->base, p->a, "dora_m", p->a->trained);
    p->norm = p->m ? part(r, p->base, p->a, "dora_norm", false) : 0;
    return p->lora_a && p->lora_b;
}

/* The weight of adapter k for every row of product i: [N,1], or for rows that were selected for logits [R,1]. */
static dan_ref weight_of(struct dan_rewrite *r, const struct place *p)
{
    struct ctx *c = r->ctx;
    char name[NAME];
    dan_ref select = strncmp(p->base, "blk.", 4) ? dan_leaf(r->old, "select") : 0;
    snprintf(name, sizeof name, "adapter:%s", p->a->name);
    if (!c->row[p->k])
        c->row[p->k] = dan_input(&r->b, name, &dan_dtype_f32, DAN_SHAPE(c->io->max_rows, 1), c->io->lanes > 0 ? c->io->lanes : 1);
    if (!select) return c->row[p->k];
    if (!c->selected[p->k]) c->selected[p->k] = dan_embed(&r->b, c->row[p->k], r->map[select]);
    return c->selected[p->k];
}

static dan_ref seed_of(struct dan_rewrite *r)
{
    struct ctx *c = r->ctx;
    dan_ref old = dan_leaf(r->old, "seed");
    if (old && r->map[old] > 0) return r->map[old];
    if (!c->seed) c->seed = dan_input(&r->b, "seed", &dan_dtype_i32, DAN_SHAPE(2), 0);
    return c->seed;
}

/* One mask for products of one input: they stay one product. */
static dan_ref dropped(struct dan_rewrite *r, const struct place *p)
{
    struct ctx *c = r->ctx;
    char name[NAME];
    if (c->dropped_x[p->k] == p->x) return c->dropped[p->k];
    int n = snprintf(name, sizeof name, "%.180s@%s", p->base, p->a->name);
    const int64_t stream = (int64_t)(dan_hash(name, (size_t)n, 0) >> 4) | dropout_streams;
    c->dropped_x[p->k] = p->x;
    return c->dropped[p->k] = DAN_EMIT(&r->b, dropout, 2, ((const union dan_attr[]){DAN_F(c->io->lora_dropout), DAN_I(stream)}), p->x, seed_of(r));
}

/* The base's product without its bias, of another x: what DoRA stretches under dropout, as PEFT does it. */
static dan_ref product_of(struct dan_rewrite *r, const struct place *p, dan_ref x)
{
    const struct dan_node *n = &r->old->node[p->i];
    dan_ref in[8] = {0};
    DAN_ASSERT(n->n_in <= 8);
    for (int k = 1; k < n->n_in; k++) in[k] = n->in[k] && k != 2 ? r->map[n->in[k]] : 0;
    in[0] = x;
    return dan_emit(&r->b, n->op, in, n->n_in, n->attr, DAN_MAX_ATTR);
}

/* DoRA: y + (c - 1) z + c h, z the product without its bias, h the low-rank branch, c = m / norm.  With c = 1 and h = 0 this is y to the bit. */
static dan_ref stretched(struct dan_rewrite *r, const struct place *p, dan_ref x, dan_ref h)
{
    const struct dan_node *n = &r->old->node[p->i];
    dan_ref bias = n->in[2] ? r->map[n->in[2]] : 0;
    dan_ref z = x != p->x ? product_of(r, p, x) : bias ? dan_sub(&r->b, p->y, bias) : p->y;
    dan_ref c = dan_div(&r->b, p->m, p->norm);
    return dan_add(&r->b, dan_mul(&r->b, z, dan_sub(&r->b, c, dan_fill_like(&r->b, c, 1))), dan_mul(&r->b, h, c));
}

/* y + s (x A^T) B^T; the scale is on the small side. */
static dan_ref branch(struct dan_rewrite *r, const struct place *p)
{
    const struct ctx *c = r->ctx;
    dan_ref x = p->a->trained && c->io->lora_dropout > 0 ? dropped(r, p) : p->x;
    dan_ref h = dan_scale(&r->b, dan_linear(&r->b, x, p->lora_a, 0), p->a->scale);
    if (c->io->adapter_rows && !p->m) h = dan_mul(&r->b, h, weight_of(r, p));
    h = dan_linear(&r->b, h, p->lora_b, 0);
    if (p->m) h = stretched(r, p, x, h);
    if (c->io->adapter_rows && p->m) h = dan_mul(&r->b, h, weight_of(r, p));
    return h;
}

/* ---- quantisation-aware: the merged weight is what products see ---- */

static bool divides(struct dan_rewrite *r, const struct place *p, int64_t group)
{
    int64_t in = r->g->node[p->lora_a].shape.d[1];
    if (!group || in % group == 0) return true;
    dan_poison(&r->b, DAN_EINVAL, "rows of '%s' have %lld weights, which groups of %lld do not divide: choose another --qat-group", p->base, (long long)in,
               (long long)group);
    return false;
}

/* Q(x) Q(W + s B A)^T + bias: what the model with the adapter merged in computes after it was quantised. */
static dan_ref merged(struct dan_rewrite *r, const struct place *p)
{
    const struct ctx *c = r->ctx;
    const struct dan_node *n = &r->old->node[p->i];
    dan_ref w = r->map[n->in[1]], x = p->x;
    if (p->m) return dan_poison(&r->b, DAN_EUNSUPPORTED, "adapters with DoRA do not learn under quantisation: what they learn, a factor for every row, is in its scales");
    if (c->quant->act_static) return dan_poison(&r->b, DAN_EUNSUPPORTED, "adapters learn under quantisation with dynamic scales of inputs");
    if (!divides(r, p, c->quant->group)) return 0;
    w = dan_add(&r->b, w, dan_scale(&r->b, dan_matmul(&r->b, p->lora_b, p->lora_a, 0, 0), p->a->scale));
    if (c->quant->weight_bits) w = dan_quant_trained(r, w, p->base, c->quant, dan_quant_draws(c->quant) ? seed_of(r) : 0);
    if (c->quant->act_bits) x = dan_fake_quant_dynamic(&r->b, x, dan_quant_act_grid(c->quant));
    return dan_linear(&r->b, x, w, n->in[2] ? r->map[n->in[2]] : 0);
}

/* ---- the walk ---- */

static bool takes_adapters(const struct dan_graph *g, const struct dan_node *n)
{
    return dan_op_is(n, "matmul") && n->attr[DAN_MATMUL_TB].i && !n->attr[DAN_MATMUL_TA].i && dan_op_is(&g->node[n->in[1]], "param");
}

/* Beside a trained adapter everything rests but a head for scores, which no adapter is for. */
static dan_ref frozen_copy(struct dan_rewrite *r, dan_ref i)
{
    dan_ref p = dan_rewrite_copy(r, i);
    if (p > 0 && strncmp(r->g->node[p].name, "score.weight", 12)) r->g->node[p].frozen = true;
    return p;
}

/* Q(W + s B A) has no place for a second adapter: of several that are on and have parts here, the one to merge first; NULL where there are not several. */
static const struct dan_adapter *one_too_many(const struct dan_lm *lm, const char *base)
{
    const struct dan_adapter *first = NULL;
    int n = 0;
    for (int k = 0; k < lm->n_adapters; k++) {
        const struct dan_adapter *a = &lm->adapter[k];
        if (!a->on || !dan_lora_part(lm, base, a->name, "lora_a") || !dan_lora_part(lm, base, a->name, "lora_b")) continue;
        if (!first || (first->trained && !a->trained)) first = a;
        n++;
    }
    return n > 1 ? first : NULL;
}

static dan_ref with_adapters(struct dan_rewrite *r, dan_ref i)
{
    const struct ctx *c = r->ctx;
    const char *base = r->old->node[r->old->node[i].in[1]].name;
    bool rounded = c->quant && dan_quant_is_product(r->old, i, c->quant);
    struct place p = {.i = i, .x = r->map[r->old->node[i].in[0]], .base = base};
    const struct dan_adapter *extra = rounded ? one_too_many(c->lm, base) : NULL;
    dan_ref sum = 0;
    if (extra) return dan_poison(&r->b, DAN_EINVAL, "with --qat one adapter is on: merge '%s' first", extra->name);
    for (p.k = 0; p.k < c->lm->n_adapters; p.k++) {
        p.a = &c->lm->adapter[p.k];
        if (!p.a->on || !find_place(r, &p)) continue;
        if (rounded && p.a->trained) sum = merged(r, &p);
        else {
            if (!sum) sum = dan_rewrite_copy(r, i);
            if (!p.y) p.y = sum;
            sum = dan_add(&r->b, sum, branch(r, &p));
        }
        if (!sum) return 0;
    }
    return sum ? sum : DAN_KEEP;
}

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    const struct ctx *c = r->ctx;
    const struct dan_node *n = &r->old->node[i];
    if (c->seed && dan_op_is(n, "input") && !strcmp(n->name, "seed")) return c->seed;
    if (dan_op_is(n, "param") && c->trained) return frozen_copy(r, i);
    return takes_adapters(r->old, n) ? with_adapters(r, i) : DAN_KEEP;
}

int dan_lora_build(struct dan_graph *g, const struct dan_lm *lm, const struct dan_io *io, const struct dan_quant_policy *quant, struct dan_err *e)
{
    struct ctx c = {.lm = lm, .io = io};
    int on = 0;
    for (int k = 0; k < lm->n_adapters; k++) {
        on += lm->adapter[k].on;
        c.trained |= lm->adapter[k].on && lm->adapter[k].trained;
    }
    if (quant && (quant->weight_bits || quant->act_bits)) c.quant = quant;
    return on ? dan_rewrite_each(g, visit, &c, e) : DAN_OK;
}

/* ---- noise on embeddings ---- */

static dan_ref visit_embedding(struct dan_rewrite *r, dan_ref i)
{
    struct ctx *c = r->ctx;
    const struct dan_node *n = &r->old->node[i];
    if (c->seed && dan_op_is(n, "input") && !strcmp(n->name, "seed")) return c->seed;
    if (!dan_op_is(n, "embed") || strcmp(r->old->node[n->in[0]].name ? r->old->node[n->in[0]].name : "", "token_embd.weight")) return DAN_KEEP;
    dan_ref x = dan_rewrite_copy(r, i), start = dan_leaf(r->old, "start"), stop = dan_leaf(r->old, "stop");
    if (x <= 0 || !start || !stop) return dan_poison(&r->b, DAN_EUNSUPPORTED, "noise on embeddings needs a family of packed rows");
    return dan_noise(&r->b, x, r->map[start], r->map[stop], seed_of(r), c->io->neftune, noise_stream);
}

int dan_lora_noise(struct dan_graph *g, const struct dan_io *io, struct dan_err *e)
{
    struct ctx c = {.io = io};
    return io->neftune > 0 ? dan_rewrite_each(g, visit_embedding, &c, e) : DAN_OK;
}
