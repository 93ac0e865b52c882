/* Products with quantised weights round their input to int8.  Where several read the same input, or a norm makes it, it is rounded once:
 *   x W1^T, x W2^T  ->  q = quantise_rows(x);  q W1^T, q W2^T
 * The kernels round in the same way and take what was rounded: the same bits (E0).  Which products round, and how, depends on the CPU:
 * dan_pass_opts.rounds.  A product alone keeps rounding by itself (a node of its own would cost a barrier), unless a norm makes rows for nobody else: the
 * norm can round them. */
#include "base/mem.h"
#include "core/rounded.h"
#include "op/ops.h"
#include "pass/pass.h"

enum { MOST = 8 };                             /* products that a note names */

struct state {
    uint8_t *can, *form;                       /* by product: enum dan_rounded that its kernel takes, that it gets; 0: none */
    int32_t *uses;
    dan_ref *made[DAN_ROUNDED_ROWS + 1];       /* by input and form: its rounded rows in the new graph */
    const struct dan_pass_opts *o;
};

static bool is_norm(const struct dan_node *n)
{
    return dan_op_is(n, "rms_norm") || dan_op_is(n, "layer_norm") || dan_op_is(n, "skip_rms_norm") || dan_op_is(n, "skip_layer_norm");
}

/* A norm makes x, alone or as the second part. */
static bool from_norm(const struct dan_graph *g, dan_ref x)
{
    const struct dan_node *n = &g->node[x];
    return is_norm(n) || (dan_op_is(n, "pick") && n->attr[DAN_PICK_INDEX].i == 1 && is_norm(&g->node[n->in[0]]));
}

static int can_take(const struct dan_graph *g, const struct state *s, dan_ref i)
{
    const struct dan_node *n = &g->node[i];
    return dan_op_is(n, "matmul") && g->node[n->in[0]].dtype == &dan_dtype_f32 ? s->o->rounds(s->o->rounds_ctx, g, i) : DAN_ROUNDED_NOT;
}

/* Product i and those behind it that read the same rows in the same form. */
static void look(const struct dan_graph *g, struct state *s, dan_ref i)
{
    dan_ref x = g->node[i].in[0], place[MOST + 1] = {0};
    int n = 0;
    for (int32_t j = i; j < g->n; j++) {
        if (s->can[j] != s->can[i] || g->node[j].in[0] != x) continue;
        if (n < MOST) place[n++] = j;
        s->form[j] = s->can[i];
    }
    bool normed = from_norm(g, x);
    if (n > 1 || (normed && s->uses[x] == 1)) {
        dan_fused(s->o, g, place);
        return;
    }
    s->form[i] = DAN_ROUNDED_NOT;
    dan_not_fused(s->o, g, place, normed ? "others read the normed rows, but not rounded so: its kernel rounds them"
                                         : "no other product reads these rows, and no norm makes them: its kernel rounds them");
}

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    struct state *s = r->ctx;
    const struct dan_node *n = &r->old->node[i];
    dan_ref in[DAN_MATMUL_INPUT_SCALE + 1] = {0};
    if (!s->form[i]) return DAN_KEEP;
    dan_ref *made = &s->made[s->form[i]][n->in[0]];
    if (!*made) {
        const char *where = r->b.where;
        r->b.where = r->old->node[n->in[0]].where;
        *made = dan_quantise_rows(&r->b, r->map[n->in[0]], s->form[i]);
        r->b.where = where;
    }
    for (int k = 0; k < n->n_in && k <= DAN_MATMUL_INPUT_SCALE; k++) in[k] = n->in[k] ? r->map[n->in[k]] : 0;
    in[0] = *made;
    return dan_emit(&r->b, &dan_op_matmul, in, n->n_in, n->attr, DAN_MAX_ATTR);
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    size_t n = (size_t)g->n;
    if (!o->rounds) return DAN_OK;
    struct state s = {.can = dan_calloc(n, 1), .form = dan_calloc(n, 1), .uses = dan_calloc(n, sizeof *s.uses), .o = o};
    dan_ref *made = dan_calloc(2 * n, sizeof *made);
    int rc = s.can && s.form && s.uses && made ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for fusion");
    if (!rc) {
        dan_count_uses(g, s.uses);
        s.made[DAN_ROUNDED_GROUPS] = made;
        s.made[DAN_ROUNDED_ROWS] = made + n;
        for (int32_t i = 1; i < g->n; i++) s.can[i] = (uint8_t)can_take(g, &s, i);
        for (int32_t i = 1; i < g->n; i++)
            if (s.can[i] && !s.form[i]) look(g, &s, i);
        rc = dan_rewrite_each(g, visit, &s, e);
    }
    dan_free(s.can);
    dan_free(s.form);
    dan_free(s.uses);
    dan_free(made);
    return rc;
}

const struct dan_pass dan_pass_quantise_rows = {
    .name = "quantise_rows", .doc = "rows that products of quantised weights share are rounded once", .run = run, .exact = DAN_E0,
    .needs = "products whose kernels round their input to int8, two of one input or an input that a norm makes for one alone"};
