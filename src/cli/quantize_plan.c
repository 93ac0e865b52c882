/* danlu quantize: how sensitive every group of matrices is, and what fits in the budget. */
#include <string.h>
#include "base/mem.h"
#include "base/sys.h"
#include "cli/quantize.h"

enum { TOKENS = 1024 };                        /* of the test text: one run of the model a group and format */

const struct dan_quant_form *quantize_form_of(void *ctx, const char *name)
{
    struct quantize_work *w = ctx;
    const struct dan_sensitivity *s = &w->sensitivity;
    for (size_t i = 0; w->chosen && i < s->n; i++)
        for (int k = 0; k < s->v[i].n; k++)
            if (!strcmp(s->v[i].name[k], name)) return w->chosen[i];
    return w->chosen ? NULL : &w->form;
}

bool quantize_progress(void *ctx, int64_t done, int64_t total)
{
    struct quantize_work *w = ctx;
    w->bar.total = total;
    dan_bar_update(&w->bar, done, "%s", "");
    return !w->cli->stop;
}

/* The first windows of the test text. */
static struct dan_sequences few(const struct quantize_work *w)
{
    struct dan_sequences s = w->held;
    s.n = 1;
    while (s.n < w->held.n && s.start[s.n + 1] - s.start[0] <= TOKENS) s.n++;
    return s;
}

static int measure(struct quantize_work *w, struct dan_err *e)
{
    struct dan_baseline *b = NULL;
    struct dan_sequences text = few(w);
    struct dan_compare_opts co = {.pool = w->m.pool, .cpu_mask = dan_isa_mask(w->cli->isa)};
    struct dan_sensitivity_opts so = {.forms = w->n_forms ? w->forms : &w->form, .n_forms = w->n_forms ? w->n_forms : 1, .keep = w->job.apply.keep,
                                      .pool = w->m.pool, .cpu_mask = co.cpu_mask, .progress = quantize_progress, .ctx = w};
    int rc = dan_baseline_new(&w->m.lm, &text, &co, &b, e);
    dan_bar_start(&w->bar, &w->cli->ui, "sensitivity", "run", 0, 0);
    if (!rc) rc = dan_sensitivity_new(&w->m.lm, b, &so, &w->sensitivity, e);
    dan_bar_finish(&w->bar);
    dan_baseline_free(b);
    return rc;
}

/* Everything that is stored counts, also what stays in float. */
static int choose(struct quantize_work *w, struct dan_err *e)
{
    struct dan_sensitivity *s = &w->sensitivity;
    struct dan_mixed_plan plan = {.choice = dan_calloc(s->n + 1, sizeof *plan.choice)};
    struct dan_mixed_item *item = dan_calloc(s->n + 1, sizeof *item);
    w->chosen = dan_calloc(s->n + 1, sizeof *w->chosen);
    int rc = item && plan.choice && w->chosen ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory to choose formats");
    size_t budget = (size_t)w->o->budget;
    for (size_t i = 0; i < s->n && !rc; i++) item[i] = (struct dan_mixed_item){s->n_forms, s->v[i].kl, s->v[i].bytes};
    if (!rc && budget < s->bytes_rest)
        rc = dan_fail(e, DAN_EINVAL, "a budget of %zu bytes is too small: what stays in float takes %zu", budget, s->bytes_rest);
    if (!rc) rc = dan_mixed_choose(item, s->n, budget - s->bytes_rest, &plan, e);
    for (size_t i = 0; i < s->n && !rc; i++) w->chosen[i] = &w->forms[plan.choice[i]];
    if (!rc) w->predicted = plan.cost;
    dan_free(plan.choice);
    dan_free(item);
    return rc;
}

int quantize_plan(struct quantize_work *w, struct dan_err *e)
{
    if (!w->o->report && w->o->budget <= 0) return DAN_OK;
    int rc = measure(w, e);
    return rc || w->o->budget <= 0 ? rc : choose(w, e);
}
