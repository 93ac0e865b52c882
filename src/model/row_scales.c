/* Scales, zeros and input scales of the store become inputs of products. */
#include "model/row_scales.h"
#include <stdio.h>
#include <string.h>
#include "base/str.h"
#include "model/quantize_rows.h"
#include "op/ops.h"
#include "pass/pass.h"

const char *const dan_row_suffix[DAN_N_ROW_PARTS] = {".scale", ".zero", ".input_scale"};

const struct dan_tensor *dan_row_part(const struct dan_store *s, const char *name, int part)
{
    char full[DAN_ROW_NAME];
    int n = snprintf(full, sizeof full, "%s%s", name, dan_row_suffix[part]);
    return n > 0 && n < (int)sizeof full ? dan_store_find(s, full) : NULL;
}

bool dan_has_row_scale(const struct dan_store *s, const char *name) { return dan_row_part(s, name, DAN_ROW_SCALE) != NULL; }

bool dan_is_row_companion(const struct dan_store *s, const char *name)
{
    char of[DAN_ROW_NAME];
    for (int k = DAN_N_ROW_PARTS - 1; k >= 0; k--) {
        if (!dan_str_ends(name, dan_row_suffix[k])) continue;
        int n = snprintf(of, sizeof of, "%.*s", (int)(strlen(name) - strlen(dan_row_suffix[k])), name);
        if (n > 0 && n < (int)sizeof of && dan_store_find(s, of) && dan_has_row_scale(s, of)) return true;
    }
    return false;
}

static bool is_scaled_param(const struct dan_graph *g, dan_ref r, const struct dan_store *s)
{
    return r && dan_op_is(&g->node[r], "param") && dan_has_row_scale(s, g->node[r].name);
}

static bool takes_scales(const struct dan_node *n, int input)
{
    return dan_op_is(n, "matmul") && input == 1 && n->attr[DAN_MATMUL_TB].i && !n->attr[DAN_MATMUL_TA].i;
}

static int check_readers(const struct dan_graph *g, const struct dan_store *s, bool *any, struct dan_err *e)
{
    for (int32_t i = 1; i < g->n; i++)
        for (int k = 0; k < g->node[i].n_in; k++) {
            const struct dan_node *n = &g->node[i];
            if (!is_scaled_param(g, n->in[k], s)) continue;
            *any = true;
            if (!takes_scales(n, k))
                return dan_fail(e, DAN_EUNSUPPORTED, "'%s' has a scale per row, but '%s' reads it, which cannot apply it: keep this tensor in a float or block format",
                                g->node[n->in[k]].name, n->op->name);
        }
    return DAN_OK;
}

static bool same_pair(const struct dan_tensor *a, const struct dan_tensor *b)
{
    return a && b && dan_tensor_bytes(a) == 2 * sizeof(float) && dan_tensor_bytes(b) == 2 * sizeof(float) &&
           memcmp(a->data, b->data, 2 * sizeof(float)) == 0;
}

/* The weight whose companion `part` product i reads: its own or, of equal input scales, that of an earlier product of the same input. */
static const char *owner_of(const struct dan_graph *g, const struct dan_store *s, dan_ref i, int part)
{
    const struct dan_node *n = &g->node[i];
    const char *mine = g->node[n->in[1]].name;
    if (part != DAN_ROW_INPUT) return mine;
    for (dan_ref j = n->in[0]; j < i; j++) {
        const struct dan_node *m = &g->node[j];
        if (!takes_scales(m, 1) || m->in[0] != n->in[0] || !is_scaled_param(g, m->in[1], s)) continue;
        const char *first = g->node[m->in[1]].name;
        if (same_pair(dan_row_part(s, mine, part), dan_row_part(s, first, part))) return first;
    }
    return mine;
}

static dan_ref companion(struct dan_rewrite *r, dan_ref i, int part)
{
    const struct dan_store *s = r->ctx;
    const char *of = owner_of(r->old, s, i, part);
    const struct dan_tensor *t = dan_row_part(s, of, part);
    char name[DAN_ROW_NAME];
    if (!t) return 0;
    snprintf(name, sizeof name, "%s%s", of, dan_row_suffix[part]);
    dan_ref p = dan_param(&r->b, name, t->dtype, t->shape, part == DAN_ROW_SCALE ? "ones" : "zeros");
    if (p) r->g->node[p].frozen = true;
    return p;
}

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    const struct dan_node *n = &r->old->node[i];
    dan_ref in[DAN_MATMUL_INPUT_SCALE + 1] = {0};
    if (!takes_scales(n, 1) || !is_scaled_param(r->old, n->in[1], r->ctx)) return DAN_KEEP;
    for (int k = 0; k < DAN_MATMUL_SCALE; k++) in[k] = n->in[k] ? r->map[n->in[k]] : 0;
    for (int k = 0; k < DAN_N_ROW_PARTS; k++) in[DAN_MATMUL_SCALE + k] = companion(r, i, k);
    return dan_emit(&r->b, n->op, in, DAN_MATMUL_INPUT_SCALE + 1, n->attr, DAN_MAX_ATTR);
}

int dan_add_row_scales(struct dan_graph *g, const struct dan_store *s, struct dan_err *e)
{
    bool any = false;
    int rc = check_readers(g, s, &any, e);
    return rc || !any ? rc : dan_rewrite_each(g, visit, (void *)(uintptr_t)s, e);
}
