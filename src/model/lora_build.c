/* Adapters as nodes: every product whose weights have one gets its branch. */
#include <stdio.h>
#include <string.h>
#include "model/lora.h"
#include "op/ops.h"

struct ctx { const struct dan_lm *lm; bool trained; };

static const struct dan_tensor *part_of(const struct dan_lm *lm, const char *base, const struct dan_adapter *a, const char *which, char name[256])
{
    int n = snprintf(name, 256, "%s@%s.%s", base, a->name, which);
    return n > 0 && n < 256 ? dan_store_find(lm->store, name) : NULL;
}

static dan_ref param(struct dan_rewrite *r, const char *name, const struct dan_tensor *t, bool trained)
{
    dan_ref p = dan_param(&r->b, name, t->dtype, t->shape, "zeros");
    if (p) r->g->node[p].frozen = !trained;
    return p;
}

/* y + s (x A^T) B^T; the scale is on the small side. */
static dan_ref branch(struct dan_rewrite *r, dan_ref x, dan_ref y, const char *base, const struct dan_adapter *a)
{
    const struct ctx *c = r->ctx;
    char name_a[256], name_b[256];
    const struct dan_tensor *ta = part_of(c->lm, base, a, "lora_a", name_a), *tb = part_of(c->lm, base, a, "lora_b", name_b);
    if (!ta || !tb) return y;
    dan_ref h = dan_linear(&r->b, x, param(r, name_a, ta, a->trained), 0);
    return dan_add(&r->b, y, dan_linear(&r->b, dan_scale(&r->b, h, a->scale), param(r, name_b, tb, a->trained), 0));
}

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    const struct ctx *c = r->ctx;
    const struct dan_node *n = &r->old->node[i];
    if (dan_op_is(n, "param") && c->trained) {
        dan_ref p = dan_rewrite_copy(r, i);
        if (p) r->g->node[p].frozen = true;
        return p;
    }
    if (!dan_op_is(n, "matmul") || !n->attr[DAN_MATMUL_TB].i || n->attr[DAN_MATMUL_TA].i || !dan_op_is(&r->old->node[n->in[1]], "param")) return DAN_KEEP;
    const char *base = r->old->node[n->in[1]].name;
    dan_ref x = r->map[n->in[0]], y = dan_rewrite_copy(r, i);
    for (int k = 0; k < c->lm->n_adapters && y > 0; k++)
        if (c->lm->adapter[k].on) y = branch(r, x, y, base, &c->lm->adapter[k]);
    return y;
}

int dan_lora_build(struct dan_graph *g, const struct dan_lm *lm, struct dan_err *e)
{
    struct ctx c = {.lm = lm};
    int on = 0;
    for (int k = 0; k < lm->n_adapters; k++) {
        on += lm->adapter[k].on;
        c.trained |= lm->adapter[k].on && lm->adapter[k].trained;
    }
    return on ? dan_rewrite_each(g, visit, &c, e) : DAN_OK;
}
