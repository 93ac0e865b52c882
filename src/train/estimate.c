#include "train/estimate.h"
#include <string.h>

/* First match wins. */
static const struct { const char *text; enum dan_part part; } rules[] = {
    {"_norm", DAN_PART_NORM}, {"_embd", DAN_PART_EMBEDDING}, {"attn_", DAN_PART_ATTENTION}, {"ffn_", DAN_PART_FFN},
    {"rnn.", DAN_PART_RECURRENT}, {"output.", DAN_PART_HEAD},
};

const char *dan_part_name(enum dan_part p)
{
    static const char *const names[] = {"embedding", "attention", "ffn", "recurrent", "norm", "head"};
    return names[p];
}

static enum dan_part part_of(const char *name)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strstr(name, rules[i].text)) return rules[i].part;
    return DAN_PART_FFN;
}

static double flops_of(const struct dan_graph *g)
{
    double sum = 0;
    for (int32_t i = 1; i < g->n; i++) {
        double flops = 0, bytes = 0;
        if (g->node[i].op->cost) g->node[i].op->cost(g, &g->node[i], &flops, &bytes);
        sum += flops;
    }
    return sum;
}

/* attend's cost counts every key of the batch; a row sees, on average, half of its own sequence: (context + 1) / 2. */
static double attend_excess(const struct dan_graph *g, int64_t context)
{
    double sum = 0;
    for (int32_t i = 1; i < g->n; i++) {
        const struct dan_node *n = &g->node[i];
        if (!dan_op_is(n, "attend") && !dan_op_is(n, "attend_grad")) continue;
        double flops = 0, bytes = 0, keys = (double)g->node[n->in[1]].shape.d[0];
        n->op->cost(g, n, &flops, &bytes);
        sum += flops * (1 - ((double)context + 1) / 2 / keys);
    }
    return sum;
}

static int cost(const struct dan_lm *lm, const struct dan_train_opts *o, const char *pipeline, double *per_token,
                struct dan_estimate *count, struct dan_err *e)
{
    struct dan_io io = {.max_rows = o->batch * o->context, .lanes = lm->model->time_major ? o->batch : 0, .loss = true};
    struct dan_pass_opts p = {.loss = "loss", .prec = o->prec};
    struct dan_graph *g = NULL;
    int rc = dan_lm_graph(lm, &io, pipeline, &p, &g, e);
    if (rc) return rc;
    *per_token = (flops_of(g) - attend_excess(g, o->context)) / (double)io.max_rows;
    for (int32_t i = 1; count && i < g->n; i++) {
        if (!dan_op_is(&g->node[i], "param")) continue;
        int64_t n = dan_shape_count(&g->node[i].shape);
        count->params[part_of(g->node[i].name)] += n;
        count->total += n;
    }
    dan_graph_free(g);
    return DAN_OK;
}

static int64_t state_bytes(const struct dan_lm *lm)
{
    const struct dan_lm_config *c = &lm->cfg;
    if (!lm->model->time_major) return c->layers * 2 * c->kv_heads * c->head_dim * (int64_t)sizeof(float);
    struct dan_graph *g = NULL;
    struct dan_io io = {.max_rows = 1, .lanes = 1, .cache_rows = 1, .logits = true, .max_select = 1};
    int64_t bytes = 0;
    if (dan_lm_graph(lm, &io, "", NULL, &g, NULL)) return 0;
    for (int32_t i = 1; i < g->n; i++)
        if (dan_op_is(&g->node[i], "state")) bytes += (int64_t)dan_dtype_bytes(g->node[i].dtype, dan_shape_count(&g->node[i].shape));
    dan_graph_free(g);
    return bytes;
}

int dan_estimate(const struct dan_model *m, const struct dan_lm_config *cfg, const struct dan_train_opts *o, struct dan_estimate *out,
                 struct dan_err *e)
{
    struct dan_lm lm = {.model = m, .cfg = *cfg};
    *out = (struct dan_estimate){0};
    int rc = m->complete(&lm.cfg, e);
    if (!rc) rc = cost(&lm, o, "", &out->forward_flops, out, e);
    if (!rc) rc = cost(&lm, o, "autodiff,simplify,cse,dce", &out->train_flops, NULL, e);
    if (!rc) rc = dan_train_memory(m, &lm.cfg, o, &out->memory, e);
    if (rc) return rc;
    out->rule_6n = 6 * (double)out->total;
    out->state_bytes = state_bytes(&lm);
    return DAN_OK;
}
