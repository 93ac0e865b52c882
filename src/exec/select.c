/* Which kernel runs a node: of all that the CPU has and that accept it, the highest rank. */
#include <string.h>
#include "base/sys.h"
#include "core/rounded.h"
#include "exec/program.h"
#include "op/attrs.h"

static bool is_double(const struct step *s, const struct dan_node *n)
{
    for (int i = 0; i < n->n_in; i++)
        if (s->in[i].dtype == &dan_dtype_f64) return true;
    return n->dtype == &dan_dtype_f64;
}

/* half: some values are stored as bf16 */
const struct dan_kernel *dan_best_kernel(const struct dan_program *p, const char *op, const struct dan_args *a, bool half)
{
    const struct dan_kernel *best = NULL;
    for (int i = 0; !p->opts.ref && dan_kernels[i]; i++) {
        const struct dan_kernel *k = dan_kernels[i];
        if (strcmp(k->op, op) || (k->needs & p->cpu) != k->needs || (half && !k->half)) continue;
        if (best && k->rank <= best->rank) continue;
        if (!k->accepts || k->accepts(a)) best = k;
    }
    return best;
}

/* Bits of inputs and outputs that are f32 by type and stored as bf16. */
static struct stage half_of(const struct dan_program *p, const struct step *s, const struct dan_node *n)
{
    struct stage g = {0};
    for (int k = 0; k < n->n_in && k < 32; k++)
        if (n->in[k] && p->g.node[n->in[k]].dtype == &dan_dtype_f32 && s->in[k].dtype == &dan_dtype_bf16) g.in_half |= 1u << k;
    for (int k = 0; k < n->n_out; k++)
        if (n->half >> k & 1) g.out_half |= 1u << k;
    return g;
}

/* The conversion that every CPU has; its kernel where there is one. */
void (*dan_copy_run(const struct dan_program *p))(const struct dan_args *a)
{
    struct dan_tensor from = dan_tensor_of(&dan_dtype_bf16, DAN_SHAPE(1, 1), NULL), to = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(1, 1), NULL);
    struct dan_args a = {.in = &from, .out = &to, .n_in = 1, .n_out = 1, .nth = 1};
    const struct dan_kernel *k = dan_best_kernel(p, "copy", &a, true);
    return k ? k->run : dan_op_find("copy")->ref;
}

static bool all_stored_alike(const struct step *s)
{
    for (int k = 0; k < s->args.n_in; k++)
        if (s->in[k].dtype != s->out[0].dtype) return false;
    return true;
}

static int select_staged(struct dan_program *p, struct step *s, const struct stage *half, struct dan_err *e)
{
    const struct dan_node *n = &p->g.node[s->node];
    if (n->n_in > DAN_STAGE_IN)
        return dan_fail(e, DAN_EUNSUPPORTED, "op '%s' has %d inputs stored as bf16; no more than %d go through f32", n->op->name, n->n_in,
                        DAN_STAGE_IN);
    struct dan_tensor in[DAN_STAGE_IN], out[DAN_MAX_OUT];
    if (!(s->stage = dan_arena_alloc(p->arena, sizeof *s->stage))) return dan_fail(e, DAN_ENOMEM, "not enough memory to compile a graph");
    *s->stage = *half;
    dan_stage_plan(s, n->op->props & DAN_OP_ROWWISE);
    struct dan_args a = dan_stage_declared(s, in, out);
    s->kernel = dan_best_kernel(p, n->op->name, &a, false);
    s->stage->copy = dan_copy_run(p);
    s->stage->run = s->kernel ? s->kernel->run : n->op->ref;
    return DAN_OK;
}

int dan_program_select(struct dan_program *p, struct step *s, struct dan_err *e)
{
    const struct dan_node *n = &p->g.node[s->node];
    bool dbl = is_double(s, n);
    struct stage half = half_of(p, s, n);
    bool any = half.in_half || half.out_half;
    s->kernel = dbl ? NULL : dan_best_kernel(p, n->op->name, &s->args, any);
    if (!s->kernel && any && !(n->op->props & DAN_OP_BYTES && all_stored_alike(s))) {
        int rc = select_staged(p, s, &half, e);
        if (rc) return rc;
    }
    s->run = s->kernel ? s->kernel->run : dbl ? dan_op_f64(n->op)->ref : n->op->ref;
    if (!s->run) return dan_fail(e, DAN_EUNSUPPORTED, "op '%s' cannot run: it has neither a kernel nor a reference", n->op->name);
    return DAN_OK;
}

struct dan_exec_choice dan_exec_choice_of(const struct dan_exec_opts *o)
{
    uint64_t cpu = dan_cpu_features();         /* cpuid traps in virtual machines: ask once */
    return (struct dan_exec_choice){.cpu = o->cpu_mask ? cpu & o->cpu_mask : cpu, .ref = o->ref};
}

int dan_exec_rounds(const void *choice, const struct dan_graph *g, dan_ref matmul)
{
    const struct dan_exec_choice *c = choice;
    struct dan_program p = {.opts = {.ref = c->ref}, .cpu = c->cpu};
    const struct dan_node *n = &g->node[matmul];
    struct dan_tensor in[DAN_MATMUL_INPUT_SCALE + 1] = {{0}}, out = dan_tensor_of(n->dtype, n->shape, NULL);
    struct dan_args a = {.in = in, .out = &out, .attr = n->attr, .n_in = n->n_in, .n_out = 1, .nth = 1};
    if (n->dtype != &dan_dtype_f32 || n->n_in > DAN_MATMUL_INPUT_SCALE + 1) return DAN_ROUNDED_NOT;
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k]) in[k] = dan_tensor_of(g->node[n->in[k]].dtype, g->node[n->in[k]].shape, NULL);
    const struct dan_kernel *k = dan_best_kernel(&p, "matmul", &a, false);
    enum dan_rounded form = in[1].dtype->block > 1 ? DAN_ROUNDED_GROUPS : DAN_ROUNDED_ROWS;
    int64_t width = in[1].shape.n == 2 && in[0].shape.n > 0 ? dan_rounded_width(form, in[1].shape.d[1]) : -1;
    if (!k || !k->accepts || width < 0) return DAN_ROUNDED_NOT;
    in[0].shape.d[in[0].shape.n - 1] = width;
    in[0] = dan_tensor_of(&dan_dtype_i8, in[0].shape, NULL);
    return k->accepts(&a) ? form : DAN_ROUNDED_NOT;    /* who takes rounded rows rounds others in the same way */
}

/* Workspace of the step for nth threads, at the declared maximum. */
size_t dan_step_workspace(const struct dan_program *p, struct step *s, int nth)
{
    const struct dan_op *op = p->g.node[s->node].op;
    struct dan_tensor in[DAN_STAGE_IN], out[DAN_MAX_OUT];
    struct dan_args a = s->stage ? dan_stage_declared(s, in, out) : s->args;
    int n = s->stage && s->stage->rows ? 1 : nth;
    size_t bytes = 0;
    if (s->chain) return dan_chain_bytes(s->chain, nth);
    if (s->kernel && s->kernel->workspace) bytes = s->kernel->workspace(&a, n);
    if (!s->kernel && op->ref_ws) bytes = op->ref_ws(&a, n);
    if (!s->stage) return bytes;
    s->stage->inner_ws = bytes;
    return dan_stage_bytes(s, nth);
}

const char *dan_step_kernel(const struct step *s) { return s->body ? "scan" : s->chain ? "chain" : s->kernel ? s->kernel->name : "ref"; }

const char *dan_program_kernel(const struct dan_program *p, dan_ref r)
{
    for (int32_t i = 0; i < p->n_steps; i++)
        if (p->step[i].node == r) return dan_step_kernel(&p->step[i]);
    return "";
}
