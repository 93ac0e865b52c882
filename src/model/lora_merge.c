/* Arithmetic on the weights of adapters: norms of DoRA, merging. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "model/lora.h"
#include "model/score.h"

/* One matrix and an adapter's parts of it. */
struct pair { const struct dan_tensor *w, *a, *b, *m, *norm; double scale; };

static int find_pair(const struct dan_lm *lm, const char *base, const struct dan_adapter *ad, struct pair *p, struct dan_err *e)
{
    *p = (struct pair){.w = dan_store_find(lm->store, base), .a = dan_lora_part(lm, base, ad->name, "lora_a"), .b = dan_lora_part(lm, base, ad->name, "lora_b"),
                       .m = dan_lora_part(lm, base, ad->name, "dora_m"), .norm = dan_lora_part(lm, base, ad->name, "dora_norm"), .scale = ad->scale};
    if (!p->w || !p->a || !p->b || (p->m && !p->norm)) return dan_fail(e, DAN_EFORMAT, "adapter '%s' has no pair of matrices for '%s'", ad->name, base);
    return DAN_OK;
}

/* sum[0..in) = row i of B A. */
static void product_row(const struct pair *p, int64_t i, double *sum)
{
    int64_t in = p->w->shape.d[1], rank = p->a->shape.d[0];
    const float *bi = dan_row(p->b, i);
    memset(sum, 0, (size_t)in * sizeof *sum);
    for (int64_t r = 0; r < rank; r++) {
        const float *ar = dan_row(p->a, r);
        for (int64_t k = 0; k < in; k++) sum[k] += (double)bi[r] * (double)ar[k];
    }
}

static bool has_row_scales(const struct dan_lm *lm, const char *base)
{
    char name[DAN_LORA_NAME];
    snprintf(name, sizeof name, "%.480s.scale", base);
    return dan_store_find(lm->store, name) != NULL;
}

/* ---- DoRA's norms ---- */

struct norms { struct pair p; float *row, *sum; };                 /* of every thread: in */

/* sum += by x; in f32: this runs over all of B A after every step. */
static void add_scaled(float *restrict sum, const float *restrict x, float by, int64_t n)
{
    for (int64_t k = 0; k < n; k++) sum[k] += by * x[k];
}

static double squares(const float *restrict row, const float *restrict sum, float scale, int64_t n)
{
    double s = 0;
    for (int64_t k = 0; k < n; k++) {
        float v = row[k] + scale * sum[k];
        s += (double)v * (double)v;
    }
    return s;
}

static void norm_rows(void *ctx, int ith, int nth)
{
    const struct norms *n = ctx;
    const struct pair *p = &n->p;
    const int64_t out = p->w->shape.d[0], in = p->w->shape.d[1];
    float *row = n->row + ith * in, *sum = n->sum + ith * in;
    for (int64_t i = out * ith / nth; i < out * (ith + 1) / nth; i++) {
        const float *bi = dan_row(p->b, i);
        memset(sum, 0, (size_t)in * sizeof *sum);
        for (int64_t r = 0; r < p->a->shape.d[0]; r++)
            if (bi[r] != 0) add_scaled(sum, dan_row(p->a, r), bi[r], in);
        p->w->dtype->to_f32(dan_row(p->w, i), row, in);
        ((float *)p->norm->data)[i] = (float)sqrt(squares(row, sum, (float)p->scale, in));
    }
}

static int refresh_one(const struct pair *p, struct dan_pool *pool, struct dan_err *e)
{
    size_t n = (size_t)(pool ? dan_pool_size(pool) : 1) * (size_t)p->w->shape.d[1];
    struct norms job = {*p, dan_malloc(n * sizeof *job.row), dan_malloc(n * sizeof *job.sum)};
    int rc = job.row && job.sum ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for the norms of an adapter");
    if (!rc) dan_pool_run(pool, norm_rows, &job);
    dan_free(job.row);
    dan_free(job.sum);
    return rc;
}

static int refresh_adapter(struct dan_lm *lm, const struct dan_adapter *ad, struct dan_pool *pool, struct dan_err *e)
{
    char base[DAN_LORA_NAME];
    int rc = DAN_OK;
    for (size_t i = 0; i < dan_store_count(lm->store) && !rc; i++) {
        struct pair p;
        if (!dan_lora_base_of(dan_store_name(lm->store, i), ad->name, base) || !dan_lora_part(lm, base, ad->name, "dora_m")) continue;
        rc = find_pair(lm, base, ad, &p, e);
        if (!rc) rc = refresh_one(&p, pool, e);
    }
    return rc;
}

int dan_lora_refresh(struct dan_lm *lm, const char *name, struct dan_pool *pool, struct dan_err *e)
{
    int rc = DAN_OK;
    for (int k = 0; k < lm->n_adapters && !rc; k++)
        if (!name || !strcmp(lm->adapter[k].name, name)) rc = refresh_adapter(lm, &lm->adapter[k], pool, e);
    return rc;
}

bool dan_lora_is_dora(const struct dan_lm *lm, const char *name)
{
    for (size_t i = 0; i < dan_store_count(lm->store); i++)
        if (dan_lora_owns(dan_store_name(lm->store, i), name) && dan_str_ends(dan_store_name(lm->store, i), ".dora_m")) return true;
    return false;
}

int dan_lora_add_dora(struct dan_lm *lm, const char *adapter, const char *base, struct dan_err *e)
{
    static const char *const parts[] = {"dora_m", "dora_norm"};
    char name[DAN_LORA_NAME];
    int rc = DAN_OK;
    if (has_row_scales(lm, base))
        return dan_fail(e, DAN_EUNSUPPORTED, "'%s' has a scale per row, which DoRA's norms do not read: take a block format (q8_0, nf4) or plain LoRA", base);
    for (int k = 0; k < 2 && !rc; k++) {
        snprintf(name, sizeof name, "%.255s@%s.%s", base, adapter, parts[k]);
        rc = dan_store_add(lm->store, name, &dan_dtype_f32, DAN_SHAPE(dan_store_find(lm->store, base)->shape.d[0]), e);
    }
    return rc;
}

int dan_lora_set_magnitudes(struct dan_lm *lm, const char *adapter, struct dan_err *e)
{
    char base[DAN_LORA_NAME];
    int rc = dan_lora_refresh(lm, adapter, NULL, e);
    for (size_t i = 0; i < dan_store_count(lm->store) && !rc; i++) {
        if (!dan_lora_base_of(dan_store_name(lm->store, i), adapter, base)) continue;
        struct dan_tensor *m = dan_lora_part(lm, base, adapter, "dora_m"), *norm = dan_lora_part(lm, base, adapter, "dora_norm");
        if (m && norm) memcpy(m->data, norm->data, dan_tensor_bytes(m));
    }
    return rc;
}

/* ---- merging ---- */

/* Row i of W plus by s times row i of B A; with DoRA stretched to its magnitude. */
static void merge_row(const struct pair *p, int64_t i, double by, float *row, double *sum)
{
    int64_t in = p->w->shape.d[1];
    double c = p->m ? (double)((const float *)p->m->data)[i] / (double)((const float *)p->norm->data)[i] : 1;
    product_row(p, i, sum);
    p->w->dtype->to_f32(dan_row(p->w, i), row, in);
    for (int64_t k = 0; k < in; k++) row[k] = (float)(c * ((double)row[k] + by * sum[k]));
    p->w->dtype->from_f32(row, dan_row(p->w, i), in);
}

static int check_one(const struct dan_lm *lm, const char *base, const struct dan_adapter *ad, double by, struct dan_err *e)
{
    struct pair p;
    int rc = find_pair(lm, base, ad, &p, e);
    if (rc) return rc;
    if (p.w->dtype != &dan_dtype_f32 && p.w->dtype != &dan_dtype_bf16)
        return dan_fail(e, DAN_EUNSUPPORTED, "'%s' is stored as %s: merging would round it again and make another function; merge into the float model", base,
                        p.w->dtype->name);
    if (p.m && by < 0)
        return dan_fail(e, DAN_EUNSUPPORTED, "adapter '%s' is DoRA: what merging did to the rows' norms cannot be taken away; go back to the base model", ad->name);
    return DAN_OK;
}

/* Before the first matrix is changed: a model that is merged by half is of no use. */
static int check_merge(const struct dan_lm *lm, const struct dan_adapter *ad, double by, struct dan_err *e)
{
    char base[DAN_LORA_NAME];
    const struct dan_tensor *own = dan_lm_score_of(lm, ad->name), *head = dan_lm_score_of(lm, NULL);
    int rc = DAN_OK;
    if (own && by < 0)
        return dan_fail(e, DAN_EUNSUPPORTED, "adapter '%s' has a score head of its own, and what it replaced is not kept; go back to the base model", ad->name);
    if (own && head && !head->dtype->from_f32)
        return dan_fail(e, DAN_EUNSUPPORTED, "the model's score head is stored as %s, which takes no floats; merge into the float model", head->dtype->name);
    for (size_t i = 0; i < dan_store_count(lm->store) && !rc; i++)
        if (dan_lora_base_of(dan_store_name(lm->store, i), ad->name, base)) rc = check_one(lm, base, ad, by, e);
    return rc;
}

/* An adapter of tied embeddings is one of the head: merged in, the two are two matrices, and the embeddings stay. */
static int untie(struct dan_lm *lm, const struct dan_tensor t, struct dan_err *e)
{
    int rc = dan_store_add(lm->store, "output.weight", t.dtype, t.shape, e);
    if (rc) return rc;
    const struct dan_tensor *to = dan_store_find(lm->store, "output.weight");
    for (int64_t r = 0; r < dan_rows(&t); r++) memcpy(dan_row(to, r), dan_row(&t, r), dan_dtype_bytes(t.dtype, dan_cols(&t)));
    lm->cfg.tied = false;
    return DAN_OK;
}

static int merge_one(struct dan_lm *lm, const char *base, const struct dan_adapter *ad, double by, struct dan_err *e)
{
    struct pair p;
    bool head = by > 0 && !strcmp(base, "token_embd.weight");  /* adapters are of products: of what else than the head? */
    int rc = head && lm->cfg.tied ? untie(lm, *dan_store_find(lm->store, base), e) : DAN_OK;
    if (!rc) rc = find_pair(lm, base, ad, &p, e);
    if (rc) return rc;
    if (head) p.w = dan_store_find(lm->store, "output.weight");
    float *row = dan_malloc((size_t)p.w->shape.d[1] * sizeof *row);
    double *sum = dan_malloc((size_t)p.w->shape.d[1] * sizeof *sum);
    if (!row || !sum) rc = dan_fail(e, DAN_ENOMEM, "not enough memory to merge '%s'", base);
    for (int64_t i = 0; i < p.w->shape.d[0] && !rc; i++) merge_row(&p, i, by * ad->scale, row, sum);
    dan_free(row);
    dan_free(sum);
    return rc;
}

/* An adapter's own score head becomes the model's. */
static int take_head(struct dan_lm *lm, const char *name, struct dan_err *e)
{
    const struct dan_tensor *own = dan_lm_score_of(lm, name);
    struct dan_tensor *w = dan_lm_score_of(lm, NULL);
    if (!own) return DAN_OK;
    if (!w) return dan_lm_add_score(lm, &(struct dan_score_opts){.like = name}, e);
    w->dtype->from_f32(own->data, w->data, dan_shape_count(&w->shape));
    return DAN_OK;
}

int dan_lora_merge(struct dan_lm *lm, const char *name, double by, struct dan_err *e)
{
    struct dan_adapter *ad = dan_lora_find(lm, name);
    char base[DAN_LORA_NAME];
    int rc = ad ? check_merge(lm, ad, by, e) : dan_fail(e, DAN_EINVAL, "there is no adapter '%s'", name);
    if (!rc) rc = dan_lora_refresh(lm, name, NULL, e);
    for (size_t i = 0; i < dan_store_count(lm->store) && !rc; i++)
        if (dan_lora_base_of(dan_store_name(lm->store, i), name, base)) rc = merge_one(lm, base, ad, by, e);
    if (!rc && by > 0) rc = take_head(lm, name, e);
    if (!rc) ad->on = by < 0;
    return rc;
}
