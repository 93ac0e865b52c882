/* danlu inspect MODEL --fusion: opens a language model or an encoder and prints the report of its graph. */
#include <string.h>
#include "base/file.h"
#include "base/sys.h"
#include "cli/fusion_report.h"
#include "cli/inspect.h"
#include "cli/lm_open.h"
#include "exec/precision.h"
#include "model/encoder.h"

static int lm_graph(const void *model, const struct fusion_opts *o, const char *pipeline, const struct dan_pass_opts *p,
                    struct dan_graph **out, struct dan_err *e)
{
    const struct dan_lm *lm = model;
    bool timed = lm->model->time_major;
    struct dan_io io = {.max_rows = o->rows, .lanes = timed ? 1 : 0, .loss = o->train, .logits = !o->train};
    if (!o->train) io.max_select = 1;
    if (!o->train) io.cache_rows = timed ? 1 : o->rows > lm->cfg.context ? o->rows : lm->cfg.context;
    return dan_lm_graph(lm, &io, pipeline, p, out, e);
}

static int encoder_graph(const void *model, const struct fusion_opts *o, const char *pipeline, const struct dan_pass_opts *p,
                         struct dan_graph **out, struct dan_err *e)
{
    struct dan_encoder_io io = {.max_rows = o->rows, .max_select = 1, .hidden = true};
    return dan_encoder_graph(model, &io, pipeline, p, out, e);
}

static int print_report(struct dan_cli *cli, const struct inspect_fusion *o, struct fusion_report *r, struct dan_err *e)
{
    struct dan_str s = {0};
    int rc = DAN_OK;
    if (o->html) {
        fusion_put_html(r, o->model, &s);
        rc = s.failed ? dan_fail(e, DAN_ENOMEM, "not enough memory for the page") : dan_write_file(o->html, dan_str_c(&s), s.n, e);
        dan_str_clear(&s);
    }
    if (!rc && cli->json) rc = dan_out_json(&cli->ui, fusion_json(r), e);
    else if (!rc) {
        fusion_put_text(r, cli->ui.out_tty ? dan_ui_width() : 0, cli->ui.out_colour, &s);
        rc = dan_out(&cli->ui, dan_str_c(&s), s.n, e);
    }
    if (!rc && o->html) dan_say(&cli->ui, "page     %s", o->html);
    dan_str_release(&s);
    return rc;
}

static int report(struct dan_cli *cli, const struct inspect_fusion *o, const struct fusion_subject *m, const struct fusion_opts *f,
                  struct dan_err *e)
{
    struct fusion_report r;
    int rc = fusion_report(cli, m, f, &r, e);
    if (!rc) rc = print_report(cli, o, &r, e);
    fusion_release(&r);
    return rc;
}

static int of_lm(struct dan_cli *cli, const struct inspect_fusion *o, const struct fusion_opts *f, struct dan_err *e)
{
    struct lm_files m = {0};
    int rc = lm_open(cli, o->model, false, &m, e);
    if (!rc && f->train) {                     /* training has its weights in f32, whatever the file stores */
        dan_lm_release(&m.lm);
        rc = dan_lm_load(&m.lm, o->model, true, e);
    }
    if (!rc) {
        struct fusion_subject s = {.family = m.lm.model->name, .pipeline = f->train ? DAN_PIPELINE_TRAIN : DAN_PIPELINE_INFER,
                                   .store = m.lm.store, .vocab = m.lm.cfg.vocab, .context = m.lm.cfg.context, .causal = true,
                                   .timed = m.lm.model->time_major, .model = &m.lm, .graph = lm_graph};
        rc = report(cli, o, &s, f, e);
    }
    lm_close(&m);
    return rc;
}

static int of_encoder(struct dan_cli *cli, const struct inspect_fusion *o, struct fusion_opts *f, struct dan_err *e)
{
    struct dan_encoder enc;
    if (f->train && dan_given(cli, "mode")) return dan_fail(e, DAN_EUSAGE, "danlu does not train encoders; use --mode infer");
    f->train = false;
    int rc = dan_encoder_load(&enc, o->model, strcmp(f->dtype, "bf16") ? DAN_PREC_F32 : DAN_PREC_BF16, e);
    if (rc) return rc;
    struct fusion_subject s = {.family = enc.family->name, .pipeline = DAN_PIPELINE_ENCODE, .store = enc.store, .vocab = enc.cfg.vocab,
                               .context = dan_encoder_max_tokens(&enc), .first_pos = dan_encoder_first_pos(&enc), .model = &enc,
                               .graph = encoder_graph};
    rc = report(cli, o, &s, f, e);
    dan_encoder_release(&enc);
    return rc;
}

static bool is_encoder(const char *dir)
{
    struct dan_str arch = {0}, type = {0};
    bool yes = !dan_hf_config_kind(dir, &arch, &type, NULL) && dan_encoder_family_find(dan_str_c(&type));
    dan_str_release(&arch);
    dan_str_release(&type);
    return yes;
}

int inspect_fusion(struct dan_cli *cli, const struct inspect_fusion *o, struct dan_err *e)
{
    bool fast = dan_fast_prec(dan_isa_mask(cli->isa)) == DAN_PREC_BF16, encoder = is_encoder(o->model);
    struct fusion_opts f = {.fusion = o->rules, .train = strcmp(o->mode, "infer") != 0, .profile = o->profile, .rows = o->rows};
    f.dtype = strcmp(o->dtype, "auto") ? o->dtype : fast && f.train && !encoder ? "bf16" : "f32";
    return encoder ? of_encoder(cli, o, &f, e) : of_lm(cli, o, &f, e);
}
