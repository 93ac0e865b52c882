/* What adapters ask of the base: quantised in memory (QLoRA), rounded while it learns (--qat); and the options that go together. */
#include <string.h>
#include "base/file.h"
#include "base/str.h"
#include "cli/qat_options.h"
#include "cli/tune.h"
#include "io/json.h"
#include "model/lora_files.h"
#include "model/quantize.h"

int tune_check_adapters(const struct tune *t, struct dan_err *e)
{
    const struct { const char *name; bool given; } need[] = {
        {"dora", t->o.dora}, {"rslora", t->o.rslora}, {"lora-plus", t->o.lora_plus > 0}, {"lora-dropout", t->o.lora_dropout > 0}, {"qlora", t->o.qlora}};
    for (size_t i = 0; i < sizeof need / sizeof *need && !t->o.lora_rank; i++)
        if (need[i].given) return dan_fail(e, DAN_EUSAGE, "--%s needs --lora-rank: without an adapter it says nothing", need[i].name);
    if (t->o.qlora && t->o.merge)
        return dan_fail(e, DAN_EUSAGE, "--merge into a base that --qlora has quantised would be another function; keep the adapter, then 'danlu finetune merge' says how far apart "
                                       "the two are");
    if (t->o.qlora && dan_qat_on(&t->qat)) return dan_fail(e, DAN_EUSAGE, "--qlora and --qat are two ways to the same end: one quantises the base before, the other while it learns");
    if (t->o.dora && dan_qat_on(&t->qat))
        return dan_fail(e, DAN_EUSAGE, "--dora learns a factor for every row, and --qat has it in the row's scales: leave --dora out (--qat-method lsq learns the scales)");
    if (t->o.lora_dropout > 0 && dan_qat_on(&t->qat))
        return dan_fail(e, DAN_EUSAGE, "--lora-dropout zeroes what an adapter's own branch reads; under --qat there is none, the adapter is in the rounded weights: leave one out");
    return DAN_OK;
}

int tune_quantise_base(struct tune *t, struct dan_err *e)
{
    if (!t->o.qlora) return DAN_OK;
    const char *already = dan_quant_already(&t->m.lm);
    if (already) return dan_fail(e, DAN_EINVAL, "'%s' of '%s' is quantised already; leave --qlora out: an adapter learns over it as it is", already, t->o.model);
    t->base_before = dan_store_bytes(t->m.lm.store);
    return dan_lora_quantise(&t->m.lm, t->o.qlora, t->m.pool, e);
}

void tune_tell_adapters(const struct tune *t)
{
    char a[DAN_NUM], b[DAN_NUM];
    if (t->o.qlora)
        dan_say(&t->cli->ui, "base     quantised to %s in memory: %s instead of %s", t->o.qlora, dan_fmt_bytes((double)dan_store_bytes(t->m.lm.store), a),
                dan_fmt_bytes((double)t->base_before, b));
    if (dan_qat_on(&t->qat)) dan_say(&t->cli->ui, "qat      products see rounded weights%s; integers will be in %s/quantised", t->qat.policy.act_bits ? " and inputs" : "", t->o.out);
}

void tune_report_adapters(const struct tune *t, json_t *j)
{
    if (!j || !t->o.qlora) return;
    json_object_set_new(j, "base_format", json_string(t->o.qlora));
    json_object_set_new(j, "base_bytes", json_integer((json_int_t)dan_store_bytes(t->m.lm.store)));
    json_object_set_new(j, "base_bytes_before", json_integer((json_int_t)t->base_before));
}

int tune_save_integers(struct tune *t, struct dan_err *e)
{
    struct dan_lm whole = {0};
    struct dan_str to = {0};
    int rc = dan_tuner_merged(&t->m.lm, &whole, e);
    if (!rc) rc = qat_save(t->cli, &whole, &t->qat, t->o.out, true, e);
    dan_path_join(&to, t->o.out, "quantised");
    if (!rc && to.failed) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for a path");
    if (!rc) rc = tune_copy_beside(t, dan_str_c(&to), e);
    dan_str_release(&to);
    dan_lm_release(&whole);
    return rc;
}
