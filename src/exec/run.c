/* Running a program: bind, refresh, and one parallel region per run.  Nothing here allocates. */
#include <string.h>
#include "base/sys.h"
#include "exec/program.h"
#include "op/attrs.h"

static struct unit *leaf_unit(struct dan_program *p, const char *name)
{
    dan_ref r = dan_leaf(&p->g, name);
    return r ? &p->unit[p->first_unit[r]] : NULL;
}

static int check_bind(const struct dan_program *p, const struct unit *u, const struct dan_tensor *t, struct dan_err *e)
{
    const struct dan_node *n = &p->source->node[u->node];
    char want[96], got[96];
    dan_shape_text(&n->shape, want, sizeof want);
    dan_shape_text(&t->shape, got, sizeof got);
    if (t->dtype != n->dtype)
        return dan_fail(e, DAN_ESHAPE, "'%s' is %s, expected %s", n->name, t->dtype->name, n->dtype->name);
    int64_t unit = dan_op_is(n, "input") ? n->attr[DAN_INPUT_DYNAMIC].i : 0;
    bool ok = t->shape.n == n->shape.n;
    for (int i = 0; ok && i < t->shape.n; i++)
        ok = t->shape.d[i] == n->shape.d[i] ||
             (i == 0 && unit && t->shape.d[0] >= 0 && t->shape.d[0] <= n->shape.d[0] && t->shape.d[0] % unit == 0);
    return ok ? DAN_OK : dan_fail(e, DAN_ESHAPE, "'%s' has shape %s, expected %s%s", n->name, got, want, unit ? " or fewer rows" : "");
}

static int bind_unit(struct dan_program *p, struct unit *u, const struct dan_tensor *t, struct dan_err *e)
{
    int rc = check_bind(p, u, t, e);
    if (rc) return rc;
    struct dan_node *n = &p->g.node[u->node];
    if (!dan_shape_equal(&n->shape, &t->shape)) {
        n->shape = t->shape;
        p->dirty_shape = true;
    }
    if (u->t.data != t->data || p->dirty_shape || memcmp(u->t.stride, t->stride, sizeof t->stride)) p->dirty_data = true;
    u->t = *t;
    return DAN_OK;
}

int dan_bind(struct dan_program *p, const char *name, const struct dan_tensor *t, struct dan_err *e)
{
    struct unit *u = leaf_unit(p, name);
    if (!u) return dan_fail(e, DAN_EINVAL, "the program has no input '%s'", name);
    return bind_unit(p, u, t, e);
}

static void set_view(struct dan_program *p, dan_ref r)
{
    const struct dan_node *n = &p->g.node[r];
    int32_t u = p->first_unit[r];
    struct dan_tensor in = p->unit[p->first_unit[n->in[0]]].t;
    struct dan_tensor out[DAN_MAX_OUT];
    for (int k = 0; k < n->n_out; k++) out[k] = dan_tensor_of(p->unit[u + k].t.dtype, p->unit[u + k].t.shape, NULL);
    struct dan_args a = {.in = &in, .out = out, .attr = n->attr, .n_in = 1, .n_out = n->n_out, .nth = 1};
    n->op->view(&a, out);
    for (int k = 0; k < n->n_out; k++) p->unit[u + k].t = out[k];
}

static void set_unit(struct dan_program *p, dan_ref r)
{
    const struct dan_node *n = &p->g.node[r];
    int32_t first = p->first_unit[r];
    if (n->op->props & DAN_OP_LEAF) return;
    for (int k = 0; k < n->n_out; k++) {
        struct unit *u = &p->unit[first + k];
        u->t.dtype = dan_stored(&p->g, r, k);
        u->t.shape = n->n_out > 1 ? n->part[k].shape : n->shape;
        if (u->kind == UNIT_ARENA) u->t = dan_tensor_of(u->t.dtype, u->t.shape, p->memory + u->offset);
        if (u->kind == UNIT_PLACED) dan_unit_show_placed(p, u);
    }
    struct unit *u = &p->unit[first];
    if (dan_op_is(n, "pick"))
        u->t = p->unit[p->first_unit[n->in[0]] + n->attr[DAN_PICK_INDEX].i].t;
    else if (n->op->props & DAN_OP_VIEW)
        set_view(p, r);
    else if (n->op->props & DAN_OP_STATE)
        u->t = p->unit[p->first_unit[n->in[0]]].t;
    else if (u->kind == UNIT_VIEW)             /* in place */
        u->t = dan_tensor_of(u->t.dtype, u->t.shape, p->unit[p->first_unit[n->in[0]]].t.data);
}

void dan_program_refresh(struct dan_program *p)
{
    for (int32_t i = 1; i < p->g.n; i++) set_unit(p, i);
    for (int32_t i = 0; i < p->n_steps; i++) {
        struct step *s = &p->step[i];
        for (int k = 0; k < s->args.n_in; k++)
            if (s->in_unit[k] >= 0) s->in[k] = p->unit[s->in_unit[k]].t;
        for (int k = 0; k < s->args.n_out; k++) s->out[k] = p->unit[s->out_unit + k].t;
        s->args.packed = s->pack && s->pack->from.data == s->in[1].data ? s->pack->data : NULL;
        s->args.ws = s->ws_unit >= 0 ? p->memory + p->unit[s->ws_unit].offset : NULL;
    }
    p->dirty_data = false;
}

static void sync(struct dan_program *p, int nth)
{
    if (nth > 1) dan_pool_barrier(p->opts.pool);
}

static void run_step(struct dan_program *p, struct step *s, int ith, int nth)
{
    double t0 = p->opts.profile && ith == 0 ? dan_now() : 0;
    if (s->body) {
        dan_scan_thread(p, s, ith, nth);
    } else {
        struct dan_args a = s->args;
        a.ith = ith;
        a.nth = nth;
        if (s->chain) dan_chain_run(s->chain, &a);
        else if (s->stage) dan_stage_run(s->stage, &a);
        else s->run(&a);
    }
    sync(p, nth);
    if (ith) return;
    if (p->opts.profile) {
        s->seconds += dan_now() - t0;
        s->runs++;
    }
}

void dan_program_steps(struct dan_program *p, int32_t from, int32_t to, int ith, int nth)
{
    for (int32_t i = from; i < to; i++) {
        run_step(p, &p->step[i], ith, nth);
        if (!p->opts.trace) continue;
        if (ith == 0)
            for (int k = 0; k < p->step[i].args.n_out; k++)
                p->opts.trace(p->opts.trace_ctx, &p->g, p->step[i].node, dan_step_kernel(&p->step[i]), &p->step[i].out[k]);
        sync(p, nth);
    }
}

void dan_program_thread(struct dan_program *p, int ith, int nth) { dan_program_steps(p, 0, p->n_steps, ith, nth); }

struct range { struct dan_program *p; int32_t from, to; };

static void range_main(void *ctx, int ith, int nth)
{
    const struct range *w = ctx;
    dan_program_steps(w->p, w->from, w->to, ith, nth);
}

static int check_bound(const struct dan_program *p, struct dan_err *e)
{
    for (int32_t i = 1; i < p->g.n; i++)
        if (p->g.node[i].op->props & DAN_OP_LEAF && !p->unit[p->first_unit[i]].t.data)
            return dan_fail(e, DAN_EINVAL, "'%s' is not bound", p->g.node[i].name);
    return DAN_OK;
}

int dan_program_prepare(struct dan_program *p, struct dan_err *e)
{
    if (p->dirty_shape) {
        int rc = dan_graph_infer(&p->g, e);
        if (rc) return rc;
        p->infers++;
        p->dirty_shape = false;
        p->dirty_data = true;
    }
    if (p->dirty_data) {
        int rc = check_bound(p, e);
        if (rc) return rc;
        dan_program_refresh(p);
    }
    return DAN_OK;
}

int dan_run_range(struct dan_program *p, int32_t from, int32_t to, struct dan_err *e)
{
    struct range w = {p, from, to};
    if (p->opts.plan_only) return dan_fail(e, DAN_EINVAL, "a program that was only planned cannot run; compile it without plan_only");
    int rc = dan_program_prepare(p, e);
    if (!rc) dan_pool_run(p->opts.pool, range_main, &w);
    return rc;
}

int dan_run(struct dan_program *p, struct dan_err *e) { return dan_run_range(p, 0, p->n_steps, e); }

const struct dan_tensor *dan_result(const struct dan_program *p, int i) { return &p->unit[p->first_unit[p->g.out[i]]].t; }

const struct dan_tensor *dan_result_named(const struct dan_program *p, const char *name)
{
    for (int32_t i = 0; i < p->g.n_out; i++)
        if (strcmp(p->g.out_name[i], name) == 0) return dan_result(p, i);
    return NULL;
}

size_t dan_program_profile(const struct dan_program *p, struct dan_profile_row *rows, size_t cap)
{
    size_t n = 0;
    for (int32_t i = 0; i < p->n_steps; i++, n++) {
        const struct step *s = &p->step[i];
        if (n >= cap) continue;
        rows[n] =
            (struct dan_profile_row){.node = s->node, .kernel = dan_program_kernel(p, s->node), .seconds = s->seconds, .runs = s->runs};
        const struct dan_node *node = &p->g.node[s->node];
        if (node->op->cost) node->op->cost(&p->g, node, &rows[n].flops, &rows[n].bytes);
    }
    return n;
}
