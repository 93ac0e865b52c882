/* See qat_options.h. */
#include "cli/qat_options.h"
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/str.h"
#include "op/fake_quant.h"
#include "quant/export.h"

/* Some commands have a part of the options. */
static bool has_option(const struct dan_cli *cli, const char *name)
{
    const struct dan_opt *o = cli->cmd->opts;
    while (o->name && strcmp(o->name, name)) o++;
    return o->name != NULL;
}

int qat_options(struct dan_cli *cli, const struct qat_cli *o, struct dan_qat_opts *out, struct dan_err *e)
{
    static const char *const with[] = {"qat-method", "qat-start", "qat-group", "qat-inputs", "qat-freeze", "qat-rate", "qat-head"};
    const struct dan_dtype *format;
    *out = (struct dan_qat_opts){0};
    if (strcmp(o->scheme, "off") == 0) {
        for (size_t i = 0; i < sizeof with / sizeof *with; i++)
            if (has_option(cli, with[i]) && dan_given(cli, with[i]) && !dan_given(cli, "qat"))
                return dan_fail(e, DAN_EUSAGE, "--%s says nothing without --qat; add for example --qat w8a8", with[i]);
        return DAN_OK;
    }
    int rc = dan_qat_policy(o->scheme, o->method, o->group, strcmp(o->inputs, "static") == 0, out, e);
    if (rc) return rc;
    out->start = o->start;
    out->freeze = o->freeze;
    out->policy.rate = o->rate;
    out->policy.head = o->head;
    return dan_qat_export_format(&out->policy, &format, e);
}

/* The folder holds every tensor of the model, scales included: a model that lost some would run and say nonsense. */
static bool holds(const char *dir, const struct dan_lm *lm)
{
    struct dan_lm back = {0};
    struct dan_err e = {0};
    bool all = dan_lm_load(&back, dir, false, &e) == DAN_OK;
    for (size_t i = 0; all && i < dan_store_count(lm->store); i++) {
        const struct dan_tensor *t = dan_store_find(back.store, dan_store_name(lm->store, i)), *was = dan_store_at(lm->store, i);
        all = t && (was->dtype->block > 1 || was->dtype == &dan_dtype_i8 ? t->dtype == was->dtype : true);
    }
    dan_lm_release(&back);
    return all;
}

int qat_save(struct dan_cli *cli, const struct dan_lm *lm, const struct dan_qat_opts *q, const char *dir, bool tell, struct dan_err *e)
{
    struct dan_lm integers = {0};
    struct dan_exported x;
    char a[DAN_NUM], b[DAN_NUM];
    const char *to = dan_arena_printf(cli->arena, "%s/quantised", dir);
    int rc = to ? dan_qat_export(lm, &q->policy, &integers, &x, e) : dan_fail(e, DAN_ENOMEM, "not enough memory for a path");
    if (rc) return rc;
    rc = dan_lm_save(&integers, to, e);
    if (!rc) rc = dan_lm_copy_beside(dir, to, e);
    bool whole = rc || holds(to, &integers);
    dan_lm_release(&integers);
    if (!whole) {
        dan_warn(&cli->ui, "'%s' could not be written with its scales and was removed; the float weights in '%s' are whole, and --qat-group 32 "
                 "trains for a format that can be written", to, dir);
        return dan_remove_tree(to, e);
    }
    if (!rc && tell)
        dan_say(&cli->ui, "integers %s: %lld matrices in %s, %s of %s", to, (long long)x.matrices, x.format, dan_fmt_bytes((double)x.bytes_after, a),
                dan_fmt_bytes((double)x.bytes_before, b));
    if (!rc && tell && x.inputs_differ)
        dan_warn(&cli->ui, "inputs were trained with fewer bits than products have: the model in '%s' computes with 8-bit inputs", to);
    return rc;
}
