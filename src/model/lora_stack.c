/* Several adapters as one; a model without its adapters. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/str.h"
#include "model/lora.h"
#include "model/score.h"

struct stack { struct dan_lm *lm; const struct dan_adapter *of[DAN_MAX_ADAPTERS]; const double *weight; int n; enum dan_lora_mix how; const char *as; };

/* The rank of an adapter, the same for all its matrices that file readers made; the largest where not. */
static int64_t rank_of(const struct dan_lm *lm, const char *name)
{
    int64_t rank = 0;
    char base[DAN_LORA_NAME];
    for (size_t i = 0; i < dan_store_count(lm->store); i++)
        if (dan_lora_base_of(dan_store_name(lm->store, i), name, base) && dan_store_at(lm->store, i)->shape.d[0] > rank) rank = dan_store_at(lm->store, i)->shape.d[0];
    return rank;
}

/* Row r of A and column r of B, from the adapter's row `from`, times ka and kb. */
static void put_rank(const struct dan_tensor *a, const struct dan_tensor *b, int64_t r, const struct dan_tensor *fa, const struct dan_tensor *fb, int64_t from, double ka,
                     double kb)
{
    float *to = dan_row(a, r);
    const float *x = dan_row(fa, from);
    for (int64_t k = 0; k < dan_cols(a); k++) to[k] += (float)(ka * (double)x[k]);
    for (int64_t i = 0; i < dan_rows(b); i++) ((float *)dan_row(b, i))[r] += (float)(kb * (double)((const float *)dan_row(fb, i))[from]);
}

static void fill(const struct stack *s, const char *base, const struct dan_tensor *a, const struct dan_tensor *b)
{
    int64_t at = 0;
    for (int k = 0; k < s->n; k++) {
        const struct dan_tensor *fa = dan_lora_part(s->lm, base, s->of[k]->name, "lora_a"), *fb = dan_lora_part(s->lm, base, s->of[k]->name, "lora_b");
        double w = s->weight[k] * s->of[k]->scale, root = sqrt(fabs(w));
        if (!fa || !fb) continue;
        for (int64_t r = 0; r < fa->shape.d[0]; r++) {
            if (s->how == DAN_LORA_CAT) put_rank(a, b, at + r, fa, fb, r, w, 1);
            else put_rank(a, b, r, fa, fb, r, w < 0 ? -root : root, root);
        }
        at += s->how == DAN_LORA_CAT ? fa->shape.d[0] : 0;
    }
}

static int stack_one(const struct stack *s, const char *base, int64_t rank, struct dan_err *e)
{
    char name[2][DAN_LORA_NAME];
    const struct dan_tensor *w = dan_store_find(s->lm->store, base);
    const int64_t out = w->shape.d[0], in = w->shape.d[1];
    for (int k = 0; k < 2; k++) snprintf(name[k], sizeof name[k], "%.255s@%s.lora_%c", base, s->as, 'a' + k);
    int rc = dan_store_add(s->lm->store, name[0], &dan_dtype_f32, DAN_SHAPE(rank, in), e);
    if (!rc) rc = dan_store_add(s->lm->store, name[1], &dan_dtype_f32, DAN_SHAPE(out, rank), e);
    if (!rc) fill(s, base, dan_store_find(s->lm->store, name[0]), dan_store_find(s->lm->store, name[1]));
    return rc;
}

static int find_all(struct stack *s, const char *const *names, int64_t *rank, struct dan_err *e)
{
    *rank = 0;
    for (int k = 0; k < s->n; k++) {
        s->of[k] = dan_lora_find(s->lm, names[k]);
        if (!s->of[k]) return dan_fail(e, DAN_EINVAL, "there is no adapter '%s'", names[k]);
        if (dan_lora_is_dora(s->lm, names[k]))
            return dan_fail(e, DAN_EUNSUPPORTED, "adapter '%s' is DoRA, whose magnitudes do not add: merge it into the model instead", names[k]);
        if (dan_lm_score_of(s->lm, names[k]))
            return dan_fail(e, DAN_EUNSUPPORTED, "adapter '%s' has a score head of its own, which does not stack: merge it", names[k]);
        int64_t r = rank_of(s->lm, names[k]);
        if (s->how == DAN_LORA_LINEAR && k && r != *rank)
            return dan_fail(e, DAN_EINVAL, "adapters of rank %lld and %lld do not mix linearly: use cat, which is exact, too", (long long)*rank, (long long)r);
        *rank = s->how == DAN_LORA_CAT ? *rank + r : r;
    }
    return DAN_OK;
}

int dan_lora_stack(struct dan_lm *lm, const char *const *names, const double *weights, int n, enum dan_lora_mix how, const char *as, struct dan_err *e)
{
    struct stack s = {.lm = lm, .weight = weights, .n = n, .how = how, .as = as};
    int64_t rank;
    char base[DAN_LORA_NAME];
    if (n < 1 || n >= DAN_MAX_ADAPTERS) return dan_fail(e, DAN_EINVAL, "%d adapters at once: give 1 to %d", n, DAN_MAX_ADAPTERS - 1);
    int rc = find_all(&s, names, &rank, e);
    int before = lm->n_adapters;
    if (!rc) rc = dan_lora_register(lm, as, 1, e);
    for (int k = 0; k < n && !rc; k++)
        for (size_t i = 0, count = dan_store_count(lm->store); i < count && !rc; i++)
            if (dan_lora_base_of(dan_store_name(lm->store, i), s.of[k]->name, base) && !dan_lora_part(lm, base, as, "lora_a")) rc = stack_one(&s, base, rank, e);
    for (int k = 0; k < n && !rc; k++) dan_lora_find(lm, names[k])->on = false;
    if (rc) lm->n_adapters = before;
    return rc;
}

int dan_lora_drop(struct dan_lm *lm, struct dan_err *e)
{
    struct dan_store *kept = NULL;
    int rc = dan_store_new(&kept, e);
    for (size_t i = 0; i < dan_store_count(lm->store) && !rc; i++) {
        const char *name = dan_store_name(lm->store, i);
        if (!strchr(name, '@')) rc = dan_store_share(kept, name, lm->store, name, e);
    }
    if (rc) {
        dan_store_free(kept);
        return rc;
    }
    dan_store_free(lm->store);
    lm->store = kept;
    lm->n_adapters = 0;
    return DAN_OK;
}
