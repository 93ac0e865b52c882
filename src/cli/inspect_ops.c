/* danlu inspect --ops: every op, kernel, pass, storage format and family of this build, as Markdown.
 * docs/ref/ops.md is this text. */
#include <string.h>
#include "cli/inspect.h"
#include "model/encoder.h"
#include "pass/pass.h"

static void put_attrs(struct dan_str *s, const struct dan_op *op)
{
    for (int i = 0; i < DAN_MAX_ATTR && op->attrs[i].name; i++)
        dan_str_printf(s, "%s%s%s", i ? ", " : "", op->attrs[i].name, op->attrs[i].type == 'f' ? " (real)" : "");
}

static void put_kernels(struct dan_str *s, const struct dan_op *op)
{
    bool any = false;
    for (int i = 0; dan_kernels[i]; i++) {
        if (strcmp(dan_kernels[i]->op, op->name)) continue;
        dan_str_printf(s, "%s%s", any ? ", " : "", dan_kernels[i]->name);
        any = true;
    }
}

static void put_ops(struct dan_str *s)
{
    dan_str_puts(s, "# Ops, passes, formats, families\n\nWritten by `danlu inspect --ops`.\n\n## Ops\n\n"
                    "| op | what it does | inputs | attributes | gradient | kernels beside the reference |\n|---|---|---|---|---|---|\n");
    for (int i = 0; dan_ops[i]; i++) {
        const struct dan_op *op = dan_ops[i];
        if (op->n_in < 0) dan_str_printf(s, "| `%s` | %s | any | ", op->name, op->doc);
        else if (op->n_opt) dan_str_printf(s, "| `%s` | %s | %d to %d | ", op->name, op->doc, op->n_in - op->n_opt, op->n_in);
        else dan_str_printf(s, "| `%s` | %s | %d | ", op->name, op->doc, op->n_in);
        put_attrs(s, op);
        dan_str_printf(s, " | %s | ", op->vjp ? "yes" : op->props & DAN_OP_BODY || !strcmp(op->name, "pick") ? "by autodiff" : "none");
        put_kernels(s, op);
        dan_str_puts(s, " |\n");
    }
}

static void put_pass(struct dan_str *s, const struct dan_pass *p)
{
    dan_str_printf(s, "| `%s` | %s | %s | %s | %s |\n", p->name, p->doc, dan_exactness_name(p->exact),
                   dan_exactness_name(dan_exactness_of(p, true, false)), p->needs ? p->needs : "");
}

int inspect_ops(struct dan_cli *cli, struct dan_err *e)
{
    struct dan_str s = {0};
    put_ops(&s);
    dan_str_puts(&s, "\n## Passes\n\nThose with a class are fusion rules: `--fusion` switches them.\n\n"
                     "| pass | what it does | class | of gradients | needs |\n|---|---|---|---|---|\n");
    for (int i = 0; dan_passes[i]; i++) put_pass(&s, dan_passes[i]);
    dan_str_puts(&s, "\n## Storage formats\n\n| format | block | bytes per block | GGUF id | safetensors |\n|---|---|---|---|---|\n");
    for (int i = 0; dan_dtypes[i]; i++)
        dan_str_printf(&s, "| `%s` | %d | %d | %d | %s |\n", dan_dtypes[i]->name, dan_dtypes[i]->block, dan_dtypes[i]->bytes, dan_dtypes[i]->gguf_id, dan_dtypes[i]->safetensors ? dan_dtypes[i]->safetensors : "none");
    dan_str_puts(&s, "\n## Families\n\n| family | architecture in config.json | what it is |\n|---|---|---|\n");
    for (int i = 0; dan_models[i]; i++) dan_str_printf(&s, "| `%s` | %s | %s |\n", dan_models[i]->name, dan_models[i]->hf_arch, dan_models[i]->doc);
    dan_str_puts(&s, "\n## Encoders\n\n| family | model_type in config.json | what it is |\n|---|---|---|\n");
    for (int i = 0; dan_encoder_families[i]; i++) dan_str_printf(&s, "| `%s` | %s | %s |\n", dan_encoder_families[i]->name, dan_encoder_families[i]->hf_model_type, dan_encoder_families[i]->doc);
    int rc = dan_out(&cli->ui, dan_str_c(&s), s.n, e);
    dan_str_release(&s);
    return rc;
}
