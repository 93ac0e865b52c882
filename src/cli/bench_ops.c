/* danlu bench ops: every op at typical shapes, against what the machine could do. */
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/sys.h"
#include "cli/bench.h"
#include "exec/exec.h"
#include "op/ops.h"
#include "train/optim_step.h"

struct ops_opts { const char *op; bool kernels, half; double seconds; };

#define AT(f) offsetof(struct ops_opts, f)
static const struct dan_opt options[] = {
    {.name = "op", .type = 's', .offset = AT(op), .meta = "NAME", .help = "this op only; a * at its end stands for anything"},
    {.name = "kernels", .type = 'b', .offset = AT(kernels),
     .help = "every kernel that this machine can run, not only the one it would choose"},
    {.name = "half", .type = 'b', .offset = AT(half),
     .help = "activations stored as bf16 where the op allows it, as training with bf16 does"},
    {.name = "seconds", .type = 'f', .offset = AT(seconds), .dflt = "0.05", .meta = "S", .min = 0, .max = 60,
     .help = "for each line; the fastest run counts"},
    {.name = NULL}};

struct bench {
    struct dan_cli *cli;
    const struct ops_opts *o;
    struct dan_pool *pool;
    struct dan_machine machine;
    struct dan_table table;
    json_t *results;
    const char *seen[8];                       /* kernels of this case that are timed already */
    int n_seen, n_cases;
};

static bool chosen(const struct bench *b, const char *op)
{
    size_t n = b->o->op ? strlen(b->o->op) : 0;
    if (!n) return true;
    return b->o->op[n - 1] == '*' ? !strncmp(op, b->o->op, n - 1) : !strcmp(op, b->o->op);
}

/* --- one line */

struct line { const char *op, *kernel, *note; char shape[64]; double seconds; struct dan_work work; };

static void report(struct bench *b, const struct line *l)
{
    struct dan_bound bound = dan_machine_bound(&b->machine, &l->work, dan_pool_size(b->pool));
    double moved = l->work.read + l->work.write + 2 * l->work.update, share = bound.seconds / l->seconds;
    if (b->cli->json) {
        json_t *j = json_pack("{s:s,s:s,s:s,s:s,s:f,s:f,s:f,s:f,s:s,s:s,s:f}", "op", l->op, "kernel", l->kernel, "shape", l->shape, "note",
                              l->note ? l->note : "", "seconds", l->seconds, "flops", l->work.flops, "bytes", moved, "bound_seconds",
                              bound.seconds, "binds", bound.binds, "level", dan_level_name(bound.level), "share", share);
        json_array_append_new(b->results, j);
        return;
    }
    char us[DAN_NUM], gflops[DAN_NUM], gbytes[DAN_NUM], of[DAN_NUM], kernel[96];
    snprintf(us, sizeof us, "%.1f", l->seconds * 1e6);
    snprintf(gflops, sizeof gflops, "%.1f", l->work.flops / l->seconds / 1e9);
    snprintf(gbytes, sizeof gbytes, "%.1f", moved / l->seconds / 1e9);
    snprintf(of, sizeof of, "%.0f %%", 100 * share);
    snprintf(kernel, sizeof kernel, "%s%s%s", l->kernel, l->note ? ": " : "", l->note ? l->note : "");
    dan_table_row(&b->table, (const char *const[]){l->op, kernel, l->shape, us, gflops, gbytes, of, bound.binds});
}

/* --- an op */

static uint32_t next(uint32_t *state) { return *state = *state * 1664525u + 1013904223u; }

/* Small values of both signs, whole blocks of any format. */
static void fill(struct bench_leaf *l, const int64_t *d)
{
    uint32_t r = 12345;
    int64_t n = dan_shape_count(&l->t.shape);
    float *f = l->t.data, x[256];
    int32_t *i32 = l->t.data;
    if (l->fill) l->fill(&l->t, d);
    for (int64_t i = 0; !l->fill && l->t.dtype == &dan_dtype_i32 && i < n; i++) i32[i] = (int32_t)(next(&r) % (uint32_t)l->below);
    for (int64_t i = 0; l->t.dtype == &dan_dtype_f32 && i < n; i++) f[i] = (float)((int32_t)next(&r) >> 8) * 0x1p-24f;
    if (l->t.dtype->block == 1) return;
    for (int64_t i = 0; i < n; i += 256) {     /* rows are whole blocks, so is the tensor */
        int64_t k = n - i < 256 ? n - i : 256;
        for (int64_t j = 0; j < k; j++) x[j] = (float)((int32_t)next(&r) >> 8) * 0x1p-24f;
        l->t.dtype->from_f32(x, (char *)l->t.data + dan_dtype_bytes(l->t.dtype, i), k);
    }
}

static size_t leaf_bytes(const struct bench_leaf *l) { return dan_tensor_bytes(&l->t) + 256; }

static int make_leaves(struct bench_build *x, struct dan_err *e)
{
    for (int i = 0; i < x->n_leaves; i++) {
        struct bench_leaf *l = &x->leaf[i];
        l->t.data = dan_huge_alloc(leaf_bytes(l));
        if (!l->t.data)
            return dan_fail(e, DAN_ENOMEM, "not enough memory for the operands of an op; close other programs, or choose one by --op");
        fill(l, x->d);
    }
    return DAN_OK;
}

static void free_leaves(struct bench_build *x)
{
    for (int i = 0; i < x->n_leaves; i++)
        if (x->leaf[i].t.data) dan_huge_free(x->leaf[i].t.data, leaf_bytes(&x->leaf[i]));
}

static double node_seconds(const struct dan_program *p, dan_ref y)
{
    struct dan_profile_row row[16];
    size_t n = dan_program_profile(p, row, 16);
    for (size_t i = 0; i < n && i < 16; i++)
        if (row[i].node == y) return row[i].seconds;
    return 0;
}

/* The shortest of the runs that fit into the time. */
static int best_of(const struct bench *b, struct dan_program *p, dan_ref y, double *best, struct dan_err *e)
{
    double until = 0, before = 0;
    for (int i = 0; i < 4 || dan_now() < until; i++) {
        int rc = dan_run(p, e);
        if (rc) return rc;
        double now = node_seconds(p, y), t = now - before;
        if (i == 1) until = dan_now() + b->o->seconds;
        if (i && (i == 1 || t < *best)) *best = t;
        before = now;
    }
    return DAN_OK;
}

static bool is_new(struct bench *b, const char *kernel)
{
    for (int i = 0; i < b->n_seen; i++)
        if (!strcmp(b->seen[i], kernel)) return false;
    if (b->n_seen < 8) b->seen[b->n_seen++] = kernel;
    return true;
}

/* Weights by a store, so that they are laid out as a model's. */
static int bind_leaves(struct dan_program *p, const struct bench_build *x, struct dan_err *e)
{
    struct dan_store *s;
    int rc = dan_store_new(&s, e);
    if (rc) return rc;
    for (int i = 0; i < x->n_leaves && !rc; i++) {
        const struct bench_leaf *l = &x->leaf[i];
        rc = l->param ? dan_store_put(s, l->name, l->t, NULL, e) : dan_bind(p, l->name, &l->t, e);
    }
    if (!rc) rc = dan_bind_store(p, s, e);
    dan_store_free(s);
    return rc;
}

static int time_kernel(struct bench *b, const struct bench_case *c, struct bench_build *x, dan_ref y, uint64_t mask, struct dan_err *e)
{
    struct dan_exec_opts o = {.pool = b->pool, .profile = true, .cpu_mask = mask, .pack = true};
    struct dan_program *p = NULL;
    struct line l = {.op = c->op, .note = c->note, .work = dan_node_work(x->b.g, y)};
    int rc = dan_compile(x->b.g, &o, &p, e);
    if (!rc) l.kernel = dan_program_kernel(p, y);
    if (rc || !is_new(b, l.kernel)) {
        dan_program_free(p);
        return rc;
    }
    if (!rc) rc = bind_leaves(p, x, e);
    if (!rc) rc = best_of(b, p, y, &l.seconds, e);
    if (x->flops > 0) l.work.flops = x->flops;
    for (size_t i = 0, at = 0; i < BENCH_DIMS && c->d[i]; i++)
        at += (size_t)snprintf(l.shape + at, sizeof l.shape - at, "%s%lld", i ? "x" : "", (long long)c->d[i]);
    if (!rc) report(b, &l);
    dan_program_free(p);
    return rc;
}

/* As the pass `mixed` would; false: with f32 products nothing is stored as bf16. */
static bool set_halves(struct dan_graph *g, dan_ref y)
{
    struct dan_node *n = &g->node[y];
    bool is_product = dan_op_is(n, "matmul") || dan_op_is(n, "linear_act");
    if (is_product ? n->attr[DAN_MATMUL_PREC].i != DAN_PREC_BF16 : !(n->op->half_in | n->op->half_out)) return false;
    for (int k = 0; k < n->n_in; k++)
        if (n->in[k] && n->op->half_in >> k & 1 && dan_op_is(&g->node[n->in[k]], "scale")) g->node[n->in[k]].half = 1;
    for (int k = 0; k < n->n_out; k++) {
        const struct dan_shape *s = n->n_out > 1 ? &n->part[k].shape : &n->shape;
        if (n->op->half_out >> k & 1 && s->n >= 2 && !(is_product && n->attr[DAN_MATMUL_TA].i)) n->half |= (uint16_t)(1u << k);
    }
    return true;
}

static int time_case(struct bench *b, const struct bench_case *c, struct dan_err *e)
{
    struct bench_build x = {.d = c->d, .half = b->o->half};
    struct dan_graph *g = dan_graph_new();
    if (!g) return dan_fail(e, DAN_ENOMEM, "not enough memory for a graph");
    dan_builder_init(&x.b, g);
    dan_ref y = c->build(&x);
    dan_output(&x.b, "y", y && g->node[y].n_out > 1 ? dan_pick(&x.b, y, 0) : y);
    int rc = dan_builder_check(&x.b, e);
    if (!rc && x.half && !set_halves(g, y)) {
        dan_graph_free(g);
        return DAN_OK;
    }
    if (!rc) rc = make_leaves(&x, e);
    b->n_seen = 0;
    uint64_t all = dan_isa_mask(b->cli->isa);
    if (!rc) rc = time_kernel(b, c, &x, y, all, e);
    for (size_t i = 0; !rc && b->o->kernels && dan_isa_at(i); i++) rc = time_kernel(b, c, &x, y, all & dan_isa_mask(dan_isa_at(i)), e);
    b->n_cases++;
    free_leaves(&x);
    dan_graph_free(g);
    return rc;
}

/* --- the optimisers, which are no ops */

struct parameters { struct dan_optim_span span[96]; int32_t n; float *memory; size_t bytes; };

static void add_parameter(struct parameters *p, int64_t n) { p->span[p->n++].n = n; }

/* The tensors of a GPT: L layers, C channels, vocabulary V, context T. */
static int gpt_parameters(struct parameters *p, int64_t l, int64_t c, int64_t v, int64_t t, struct dan_err *e)
{
    add_parameter(p, v * c);
    add_parameter(p, t * c);
    for (int64_t i = 0; i < l; i++) {
        static const int64_t matrix[] = {3, 1, 4, 4}, bias[] = {3, 1, 4, 1, 1, 1, 1, 1};
        for (int k = 0; k < 4; k++) add_parameter(p, matrix[k] * c * c);
        for (int k = 0; k < 8; k++) add_parameter(p, bias[k] * c);
    }
    size_t total = 0, at = 0;
    for (int32_t i = 0; i < p->n; i++) total += (size_t)(p->span[i].n + 15) / 16 * 16;
    p->bytes = total * 4 * sizeof(float);
    p->memory = dan_huge_alloc(p->bytes);
    if (!p->memory) return dan_fail(e, DAN_ENOMEM, "not enough memory for the optimiser's parameters; choose an op by --op");
    for (size_t i = 0; i < total * 4; i++) p->memory[i] = 1e-3f * (float)(i % 97 + 1);
    for (int32_t i = 0; i < p->n; i++) {
        struct dan_optim_span *s = &p->span[i];
        s->w = p->memory + at;
        s->g = s->w + total;
        s->slot[0] = s->w + 2 * total;
        s->slot[1] = s->w + 3 * total;
        s->decay = true;
        at += (size_t)(s->n + 15) / 16 * 16;
    }
    return DAN_OK;
}

static void time_step(struct bench *b, const struct dan_optim_plan *p, bool apply)
{
    const struct dan_optim_args a = {.lr = 1e-4, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.1,
                                     .momentum = 0.9, .step = 10};
    double n = (double)p->n_elements, best = 0, until = dan_now() + b->o->seconds;
    for (int i = 0; i < 4 || dan_now() < until; i++) {
        double t = dan_now();
        dan_optim_step(p, b->pool, &a, 1, 0, apply);
        t = dan_now() - t;
        if (i == 0 || t < best) best = t;
    }
    struct line l = {.op = apply ? p->optim->name : "gradient_norm", .kernel = p->avx2 ? "avx2" : "plain", .seconds = best};
    l.note = apply ? "with the norm" : NULL;
    l.work = (struct dan_work){.flops = n * (apply ? 16 : 2), .read = n * (apply ? 8 : 4)};
    if (apply) l.work.update = n * 4 * (1 + p->optim->n_slots);
    l.work.footprint = n * (apply ? 8 + 4 * p->optim->n_slots : 4);
    snprintf(l.shape, sizeof l.shape, "%.0f", n);
    report(b, &l);
}

static int time_optimisers(struct bench *b, struct dan_err *e)
{
    static const int64_t gpt[2][4] = {{4, 128, 65, 64}, {6, 384, 65, 256}};
    int rc = DAN_OK;
    for (int m = 0; m < 2 && !rc; m++) {
        struct parameters p = {0};
        rc = gpt_parameters(&p, gpt[m][0], gpt[m][1], gpt[m][2], gpt[m][3], e);
        for (int i = 0; !rc && dan_optims[i]; i++) {
            struct dan_optim_plan plan;
            bool norm = i == 0 && chosen(b, "gradient_norm"), step = chosen(b, dan_optims[i]->name);
            if (!norm && !step) continue;
            rc = dan_optim_plan_new(dan_optims[i], p.span, p.n, dan_cpu_features() & dan_isa_mask(b->cli->isa), &plan, e);
            if (!rc && norm) time_step(b, &plan, false);
            if (!rc && step) time_step(b, &plan, true);
            if (!rc) dan_optim_plan_release(&plan);
            b->n_cases++;
        }
        if (p.memory) dan_huge_free(p.memory, p.bytes);
    }
    return rc;
}

static int print(struct bench *b, struct dan_err *e)
{
    if (b->cli->json)
        return dan_out_json(&b->cli->ui,
                            json_pack("{s:i,s:s,s:b,s:o,s:O}", "threads", dan_pool_size(b->pool), "isa", b->cli->isa, "half", b->o->half,
                                      "machine", bench_machine_json(&b->machine), "ops", b->results),
                            e);
    struct dan_str out = {0};
    dan_table_print(&b->table, 0, b->cli->ui.out_colour, &out);
    int rc = dan_out(&b->cli->ui, dan_str_c(&out), out.n, e);
    dan_str_release(&out);
    return rc;
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    static const char *const headers[] = {"op", "kernel", "shape", "us", "GFLOP/s", "GB/s", "of limit", "limit"};
    struct bench b = {.cli = cli, .o = opts, .results = json_array()};
    dan_table_init(&b.table, "LLrrrrrL", headers);
    int rc = dan_pool_new((int)cli->threads, &b.pool, e);
    if (!rc) rc = bench_measure(cli, b.pool, &b.machine, e);
    for (const struct bench_case *c = bench_cases; !rc && c->op; c++)
        if (chosen(&b, c->op)) rc = time_case(&b, c, e);
    if (!rc && !b.o->half) rc = time_optimisers(&b, e);
    if (!rc && !b.n_cases)
        rc = dan_fail(e, DAN_EUSAGE, "no case for op '%s'%s; 'danlu bench ops' without --op shows all", b.o->op,
                      b.o->half ? " with --half" : "");
    if (!rc) rc = print(&b, e);
    dan_pool_free(b.pool);
    dan_table_release(&b.table);
    json_decref(b.results);
    return rc;
}

const struct dan_cmd bench_ops_cmd = {
    .name = "ops", .doc = "speed of every op at typical shapes, as a share of the machine's limit",
    .about = "The limit of a line is the larger of two times: its arithmetic at the measured peak of its number format, and the bytes of "
             "its inputs and outputs at the measured bandwidth of the smallest cache that holds them (operands stay where the run before "
             "left them). Functions such as exp count as a few operations, so that lines bound by them show a small share. Shapes are rows and "
             "columns, then the third size of the op: vocabulary, inner size of a product; of attention, sequences, length, heads, "
             "head size.",
    .example = "danlu bench ops --op 'layer_norm*'\ndanlu bench ops --op matmul --kernels --threads 1",
    .opts = options, .opts_bytes = sizeof(struct ops_opts), .run = run};
