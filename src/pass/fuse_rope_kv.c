/* kv_write(cache, rope(k, table), slot) -> rope_kv_write: rotated keys go straight into the cache, one pass and one
 * barrier less a layer.  The same rotation, the same conversion: exact (E0). */
#include "base/mem.h"
#include "op/ops.h"
#include "pass/pass.h"

struct state { int32_t *uses; const struct dan_pass_opts *o; bool *gone; };

static const char *why_not(const struct dan_graph *g, dan_ref rope, const int32_t *uses)
{
    if (g->node[rope].attr[DAN_ROPE_BACKWARD].i) return "it rotates back";
    return uses[rope] == 1 ? NULL : "another node reads the rotated rows";
}

static void find(const struct dan_graph *g, struct state *s)
{
    for (int32_t i = 1; i < g->n; i++) {
        const struct dan_node *n = &g->node[i];
        if (!dan_op_is(n, "kv_write") || n->attr[DAN_KV_VALUES].i || !dan_op_is(&g->node[n->in[1]], "rope")) continue;
        const char *why = why_not(g, n->in[1], s->uses);
        const dan_ref place[] = {n->in[1], i, 0};
        if (why) dan_not_fused(s->o, g, place, "%s", why);
        else dan_fused(s->o, g, place);
        s->gone[n->in[1]] = !why;
    }
}

static dan_ref visit(struct dan_rewrite *r, dan_ref i)
{
    const struct state *s = r->ctx;
    const struct dan_node *n = &r->old->node[i];
    if (s->gone[i]) return DAN_DROP;
    if (!dan_op_is(n, "kv_write") || !s->gone[n->in[1]]) return DAN_KEEP;
    const struct dan_node *rope = &r->old->node[n->in[1]];
    return dan_rope_kv_write(&r->b, r->map[n->in[0]], r->map[rope->in[0]], r->map[n->in[2]], r->map[rope->in[1]],
                             rope->attr[DAN_ROPE_DIM].i);
}

static int run(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e)
{
    struct state s = {dan_calloc((size_t)g->n, sizeof *s.uses), o, dan_calloc((size_t)g->n, sizeof *s.gone)};
    int rc = s.uses && s.gone ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for fusion");
    if (!rc) {
        dan_count_uses(g, s.uses);
        find(g, &s);
        rc = dan_rewrite_each(g, visit, &s, e);
    }
    dan_free(s.uses);
    dan_free(s.gone);
    return rc;
}

const struct dan_pass dan_pass_fuse_rope_kv = {
    .name = "fuse_rope_kv", .doc = "rotated keys go straight into the cache", .run = run, .exact = DAN_E0,
    .needs = "a rotation that only a write to the cache reads"};
