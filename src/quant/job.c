#include "quant/job.h"
#include <stdio.h>
#include <string.h>
#include "base/str.h"

/* ---- "smoothquant+gptq" ---- */

static enum dan_equaliser equaliser_of(const char *name)
{
    return !strcmp(name, "smoothquant") ? DAN_EQUALISE_SMOOTH : !strcmp(name, "awq") ? DAN_EQUALISE_AWQ : DAN_EQUALISE_NOT;
}

static int unknown(const char *name, struct dan_err *e)
{
    struct dan_str list = {0};
    for (int i = 0; dan_round_methods[i]; i++) dan_str_printf(&list, "%s, ", dan_round_methods[i]->name);
    int rc = dan_fail(e, DAN_EINVAL, "unknown method '%s'; use one of: %sawq, smoothquant, or both kinds as in smoothquant+gptq", name, dan_str_c(&list));
    dan_str_release(&list);
    return rc;
}

int dan_quant_job_method(const char *text, struct dan_quant_job *j, struct dan_err *e)
{
    char name[64];
    const char *plus = strchr(text, '+');
    j->equaliser = DAN_EQUALISE_NOT;
    j->method = dan_round_methods[0];          /* nearest */
    snprintf(name, sizeof name, "%.*s", (int)(plus ? plus - text : 63), text);
    j->equaliser = equaliser_of(name);
    if (plus && !j->equaliser) return dan_fail(e, DAN_EINVAL, "'%s' does not begin with awq or smoothquant; write it as in smoothquant+gptq", text);
    if (j->equaliser && !plus) return DAN_OK;
    return dan_round_method_find(plus ? plus + 1 : name, &j->method, NULL) ? unknown(plus ? plus + 1 : name, e) : DAN_OK;
}

bool dan_quant_job_needs_text(const struct dan_quant_job *j)
{
    bool looks = j->method->needs != DAN_NEEDS_NOTHING && !(j->apply.imatrix && j->method->needs == DAN_NEEDS_SQUARES);
    return j->equaliser || j->calibrator || looks;
}

/* ---- the job ---- */

/* The form that most matrices get: AWQ tries scales with it. */
static const struct dan_quant_form *usual_form(const struct dan_lm *lm, const struct dan_quant_job *j)
{
    if (!j->apply.form_of) return j->apply.form;
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        const struct dan_quant_form *f = j->apply.form_of(j->apply.ctx, dan_store_name(lm->store, i));
        if (f) return f;
    }
    return j->apply.form;
}

static int equalise(struct dan_lm *lm, const struct dan_quant_job *j, const struct dan_sequences *text, struct dan_err *e)
{
    const struct dan_quant_form *f = usual_form(lm, j);
    struct dan_smooth_opts smooth = {.alpha = j->alpha, .dynamic = !j->calibrator, .pool = j->apply.round.pool, .report = j->equalised, .ctx = j->apply.ctx};
    struct dan_awq_opts awq = {.pool = j->apply.round.pool, .clip = true, .report = j->equalised, .ctx = j->apply.ctx};
    if (j->equaliser == DAN_EQUALISE_SMOOTH) return dan_smoothquant(lm, text, &smooth, e);
    if (j->equaliser != DAN_EQUALISE_AWQ || !f) return DAN_OK;
    awq.trial = dan_form_trial(f);
    return dan_awq(lm, text, &awq, e);
}

int dan_quant_job_run(struct dan_lm *lm, const struct dan_quant_job *j, const struct dan_sequences *text, size_t *n_static, struct dan_err *e)
{
    struct dan_apply_opts apply = j->apply;
    struct dan_static scales = {0};
    struct dan_static_opts so = {.calibrator = j->calibrator, .pool = apply.round.pool};
    if (dan_quant_job_needs_text(j) && !text) return dan_fail(e, DAN_EINVAL, "the method needs text to look at; give --calibration FILE");
    apply.method = j->method;
    apply.text = text;
    int rc = equalise(lm, j, text, e);
    if (!rc && j->calibrator) rc = dan_static_observe(lm, text, &so, &scales, NULL, e);
    if (!rc) rc = dan_lm_apply(lm, &apply, e);
    if (!rc && j->calibrator) rc = dan_static_apply(&scales, lm, n_static, e);
    dan_static_release(&scales);
    return rc;
}
