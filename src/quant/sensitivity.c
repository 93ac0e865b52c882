#include "quant/sensitivity.h"
#include <string.h>
#include "base/mem.h"
#include "model/quantize.h"

struct work {
    struct dan_lm *lm;
    const struct dan_baseline *b;
    struct dan_sensitivity_opts o;
    struct dan_sensitivity *s;
    const struct dan_sensitive *group;         /* the one that is quantised now */
    const struct dan_quant_form *form;
    size_t bytes;                              /* of its matrices, quantised */
    int64_t done;
};

/* ---- groups ---- */

static struct dan_sensitive *new_group(struct dan_sensitivity *s, struct dan_err *e)
{
    struct dan_sensitive *g = &s->v[s->n];
    g->bytes = dan_calloc((size_t)s->n_forms + 1, sizeof *g->bytes);
    g->kl = dan_calloc((size_t)s->n_forms + 1, sizeof *g->kl);
    s->n++;
    if (g->bytes && g->kl) return g;
    dan_fail(e, DAN_ENOMEM, "not enough memory for the list of matrices");
    return NULL;
}

static bool listed(const struct dan_sensitivity *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        for (int k = 0; k < s->v[i].n; k++)
            if (!strcmp(s->v[i].name[k], name)) return true;
    return false;
}

static bool quantisable(const struct work *w, const struct dan_graph *g, const char *name)
{
    const struct dan_tensor *t = dan_store_find(w->lm->store, name);
    return t && !(w->o.keep && w->o.keep(w->o.ctx, name)) && !dan_quant_why_not(g, name, t);
}

static int put(struct work *w, struct dan_sensitive *g, const char *name, struct dan_err *e)
{
    if (g->n == DAN_GROUP_MOST) return dan_fail(e, DAN_EUNSUPPORTED, "more than %d matrices read one input", DAN_GROUP_MOST);
    g->name[g->n++] = name;
    g->bytes_float += dan_tensor_bytes(dan_store_find(w->lm->store, name));
    return DAN_OK;
}

/* Products by the input that they read, then whatever no product reads, each alone. */
static int find_groups(struct work *w, const struct dan_graph *g, struct dan_err *e)
{
    struct dan_sensitivity *s = w->s;
    const struct dan_products *p = &s->products;
    int rc = DAN_OK;
    for (int32_t in = 0; in < p->n_inputs && !rc; in++) {
        struct dan_sensitive *group = NULL;
        for (size_t i = 0; i < p->n && !rc; i++) {
            if (p->v[i].input != in || !quantisable(w, g, p->v[i].name) || listed(s, p->v[i].name)) continue;
            if (!group && !(group = new_group(s, e))) return DAN_ENOMEM;
            rc = put(w, group, p->v[i].name, e);
        }
    }
    for (size_t i = 0; i < dan_store_count(w->lm->store) && !rc; i++) {
        const char *name = dan_store_name(w->lm->store, i);
        if (strchr(name, '+') || listed(s, name)) continue;
        if (!quantisable(w, g, name)) {
            s->bytes_rest += dan_tensor_bytes(dan_store_at(w->lm->store, i));
            continue;
        }
        struct dan_sensitive *group = new_group(s, e);
        rc = group ? put(w, group, name, e) : DAN_ENOMEM;
    }
    return rc;
}

static int list_groups(struct work *w, struct dan_err *e)
{
    struct dan_graph *g = NULL;
    struct dan_io io = {.max_rows = 1, .lanes = w->lm->model->time_major, .logits = true, .max_select = 1};
    w->s->n_forms = w->o.n_forms;
    w->s->v = dan_calloc(dan_store_count(w->lm->store) + 1, sizeof *w->s->v);
    if (!w->s->v) return dan_fail(e, DAN_ENOMEM, "not enough memory for the list of matrices");
    int rc = dan_lm_graph(w->lm, &io, "", NULL, &g, e);
    if (!rc && !w->lm->model->time_major) rc = dan_products_new(w->lm, &w->s->products, e);
    if (!rc) rc = find_groups(w, g, e);
    dan_graph_free(g);
    return rc;
}

/* ---- one group in one form ---- */

static const struct dan_quant_form *form_of(void *ctx, const char *name)
{
    struct work *w = ctx;
    for (int i = 0; i < w->group->n; i++)
        if (!strcmp(w->group->name[i], name)) return w->form;
    return NULL;
}

static void add_bytes(void *ctx, const struct dan_applied *a)
{
    struct work *w = ctx;
    if (form_of(ctx, a->name)) w->bytes += a->bytes_after;
}

static int try_one(struct work *w, size_t i, int f, struct dan_err *e)
{
    struct dan_sensitive *g = &w->s->v[i];
    struct dan_lm lm;
    struct dan_comparison c = {0};
    struct dan_apply_opts a = {.form_of = form_of, .method = w->o.method, .text = w->o.text, .order = DAN_ORDER_ONCE,
                               .round = {.pool = w->o.pool}, .report = add_bytes, .ctx = w};
    struct dan_compare_opts co = {.pool = w->o.pool, .cpu_mask = w->o.cpu_mask};
    w->group = g;
    w->form = &w->o.forms[f];
    w->bytes = 0;
    int rc = dan_lm_share(w->lm, &lm, e);
    if (rc) return rc;
    rc = dan_lm_apply(&lm, &a, e);
    if (!rc) rc = dan_compare(w->b, &lm, &co, &c, e);
    g->bytes[f] = w->bytes;
    g->kl[f] = c.kl;
    dan_lm_release(&lm);
    if (!rc && w->o.progress && !w->o.progress(w->o.ctx, ++w->done, (int64_t)w->s->n * w->s->n_forms)) rc = dan_fail(e, DAN_ECANCELLED, "interrupted");
    return rc;
}

int dan_sensitivity_new(struct dan_lm *lm, const struct dan_baseline *b, const struct dan_sensitivity_opts *o, struct dan_sensitivity *out,
                        struct dan_err *e)
{
    struct work w = {.lm = lm, .b = b, .o = *o, .s = out};
    *out = (struct dan_sensitivity){0};
    int rc = list_groups(&w, e);
    for (size_t i = 0; i < out->n && !rc; i++)
        for (int f = 0; f < out->n_forms && !rc; f++) rc = try_one(&w, i, f, e);
    if (rc) dan_sensitivity_release(out);
    return rc;
}

void dan_sensitivity_release(struct dan_sensitivity *s)
{
    for (size_t i = 0; i < s->n; i++) {
        dan_free(s->v[i].bytes);
        dan_free(s->v[i].kl);
    }
    dan_free(s->v);
    dan_products_release(&s->products);
    *s = (struct dan_sensitivity){0};
}
