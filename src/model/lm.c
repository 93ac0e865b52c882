/* Building graphs of a model, fresh weights, names. */
#include "model/lm.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/map.h"
#include "base/rng.h"
#include "base/threads.h"
#include "model/lora.h"
#include "model/quantize_rows.h"
#include "model/row_scales.h"
#include "model/score.h"
#include "pass/fake_quant.h"

bool dan_lm_hf_name(const struct dan_model *m, const char *ours, char *out, size_t n, bool *transpose)
{
    int layer = 0, skip = 0;
    if (!strcmp(ours, "score.weight")) {       /* in every family */
        snprintf(out, n, "%s", ours);
        *transpose = false;
        return true;
    }
    bool in_layer = sscanf(ours, "blk.%d.%n", &layer, &skip) == 1 && skip > 0;
    char pattern[160];
    if (in_layer) snprintf(pattern, sizeof pattern, "blk.%%d.%s", ours + skip);
    else snprintf(pattern, sizeof pattern, "%s", ours);
    for (const struct dan_rename *r = m->names; r->ours; r++) {
        if (strcmp(r->ours, pattern)) continue;
        const char *at = strstr(r->hf, "%d");
        if (at) snprintf(out, n, "%.*s%d%s", (int)(at - r->hf), r->hf, layer, at + 2);
        else snprintf(out, n, "%s", r->hf);
        *transpose = r->transpose;
        return true;
    }
    return false;
}

static int retype(struct dan_graph *g, const struct dan_store *s, struct dan_err *e)
{
    for (int32_t i = 1; i < g->n; i++) {
        const struct dan_tensor *t = dan_op_is(&g->node[i], "param") ? dan_store_find(s, g->node[i].name) : NULL;
        if (t) g->node[i].dtype = t->dtype;
    }
    return dan_graph_infer(g, e);
}

static bool reads_as_weights(const struct dan_node *n, int input)
{
    return (dan_op_is(n, "matmul") && input == 1 && n->attr[DAN_MATMUL_TB].i && !n->attr[DAN_MATMUL_TA].i) ||
           (dan_op_is(n, "embed") && input == 0);
}

bool dan_lm_only_products(const struct dan_graph *g, dan_ref param)
{
    for (int32_t i = 1; i < g->n; i++)
        for (int k = 0; k < g->node[i].n_in; k++)
            if (g->node[i].in[k] == param && !reads_as_weights(&g->node[i], k)) return false;
    return true;
}

static void set_bf16_products(struct dan_graph *g)
{
    for (int32_t i = 1; i < g->n; i++) {
        struct dan_node *n = &g->node[i];
        if (n->n_in < 2 || g->node[n->in[1]].dtype != &dan_dtype_bf16) continue;
        if (dan_op_is(n, "matmul")) n->attr[DAN_MATMUL_PREC].i = DAN_PREC_BF16;
        else if (dan_op_is(n, "head_ce") || dan_op_is(n, "head_ce_grad")) n->attr[DAN_CE_PREC].i = DAN_PREC_BF16;
    }
}

static bool only_reader(const struct dan_graph *g, dan_ref x, dan_ref reader)
{
    for (int32_t i = 1; i < g->n; i++)
        for (int k = 0; k < g->node[i].n_in; k++)
            if (g->node[i].in[k] == x && i != reader) return false;
    return true;
}

/* Attention over a bf16 cache reads bf16 queries too: its kernels take all three in one format. */
static void store_queries_as_bf16(struct dan_graph *g)
{
    for (int32_t i = 1; i < g->n; i++) {
        const struct dan_node *n = &g->node[i];
        int part;
        if (!dan_op_is(n, "attend") || g->node[n->in[1]].dtype != &dan_dtype_bf16) continue;
        dan_ref q = dan_owner(g, n->in[0], &part);
        if (q == n->in[0] && g->node[q].op->half_out & 1 && only_reader(g, q, i)) g->node[q].half |= 1;
    }
}

int dan_lm_graph(const struct dan_lm *lm, const struct dan_io *io, const char *pipeline, const struct dan_pass_opts *o,
                 struct dan_graph **out, struct dan_err *e)
{
    int rc = dan_score_check(lm, io, e);
    if (rc) return rc;
    struct dan_graph *g = dan_graph_new();
    if (!g) return dan_fail(e, DAN_ENOMEM, "not enough memory for a graph");
    struct dan_builder b;
    dan_builder_init(&b, g);
    lm->model->build(&b, &lm->cfg, io);
    rc = dan_builder_check(&b, e);
    if (!rc && io->score) rc = dan_run_passes(g, "dce", NULL, e);             /* the language head, where nobody reads it */
    if (!rc && io->score && lm->store) rc = dan_score_choose(g, lm, e);
    if (!rc && lm->store) rc = retype(g, lm->store, e);
    if (!rc && lm->store) rc = dan_add_row_scales(g, lm->store, e);
    if (!rc && lm->store) rc = dan_lora_build(g, lm, io, o ? o->quant : NULL, e);
    if (!rc) rc = dan_lora_noise(g, io, e);
    if (!rc) rc = dan_run_passes(g, pipeline, o, e);
    if (rc) {
        dan_graph_free(g);
        return rc;
    }
    set_bf16_products(g);
    store_queries_as_bf16(g);
    *out = g;
    return DAN_OK;
}

/* init: "normal:STD", "uniform:BOUND", "ones", "zeros" */
static void fill(float *w, int64_t n, const char *init, uint64_t seed, uint64_t stream)
{
    struct dan_rng r = {.seed = seed, .stream = stream};
    double by = strchr(init, ':') ? atof(strchr(init, ':') + 1) : 1;
    for (int64_t i = 0; i < n; i++) {
        if (init[0] == 'n') w[i] = (float)(by * dan_rng_normal(&r));
        else if (init[0] == 'u') w[i] = (float)(by * (2 * dan_rng_uniform(&r) - 1));
        else w[i] = init[0] == 'o' ? 1.0f : 0.0f;
    }
}

static int init_params(struct dan_lm *lm, const struct dan_graph *g, uint64_t seed, struct dan_err *e)
{
    for (int32_t i = 1; i < g->n; i++) {
        const struct dan_node *n = &g->node[i];
        if (!dan_op_is(n, "param")) continue;
        int rc = dan_store_add(lm->store, n->name, n->dtype, n->shape, e);
        if (rc) return rc;
        fill(dan_store_find(lm->store, n->name)->data, dan_shape_count(&n->shape), n->init, seed, dan_hash(n->name, strlen(n->name), 0));
    }
    return DAN_OK;
}

int dan_lm_init(struct dan_lm *lm, const struct dan_model *model, const struct dan_lm_config *cfg, uint64_t seed, struct dan_err *e)
{
    struct dan_graph *g = NULL;
    struct dan_io io = {.max_rows = 1, .lanes = model->time_major, .logits = true, .max_select = 1};
    *lm = (struct dan_lm){.model = model, .cfg = *cfg};
    int rc = model->complete(&lm->cfg, e);
    if (!rc) rc = dan_lm_graph(lm, &io, "", NULL, &g, e);
    if (!rc) rc = dan_store_new(&lm->store, e);
    if (!rc) rc = init_params(lm, g, seed, e);
    dan_graph_free(g);
    if (rc) dan_lm_release(lm);
    return rc;
}

void dan_lm_release(struct dan_lm *lm)
{
    dan_store_free(lm->store);
    *lm = (struct dan_lm){0};
}

int64_t dan_lm_n_params(const struct dan_lm *lm)
{
    int64_t n = 0;
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        const char *name = dan_store_name(lm->store, i);
        if (lm->cfg.no_lm_head && !strcmp(name, "output.weight")) continue;
        if (!strpbrk(name, "+@") && !dan_is_row_companion(lm->store, name) && !dan_quant_stem(name, strlen(name)))
            n += dan_shape_count(&dan_store_at(lm->store, i)->shape);
    }
    return n;
}
