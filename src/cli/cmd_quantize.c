/* danlu quantize: a smaller copy of a model. */
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "cli/lm_open.h"
#include "model/quantize.h"

struct quantize_opts { const char *model, *to, *out; };

#define AT(f) offsetof(struct quantize_opts, f)
static const struct dan_opt options[] = {
    {.name = "model", .type = 'p', .offset = AT(model), .meta = "MODEL", .help = "model folder"},
    {.name = "to",
     .type = 's',
     .offset = AT(to),
     .dflt = "q8_0",
     .meta = "FORMAT",
     .alias = "format|type",
     .help = "format of the matrices"},
    {.name = "out", .letter = 'o', .type = 's', .offset = AT(out), .meta = "DIR", .required = true, .help = "folder of the copy"},
    {.name = NULL}};

struct work { struct dan_cli *cli; struct dan_table table; json_t *list; size_t before, after; int64_t n, stayed; double worst; };

static void on_tensor(void *ctx, const struct dan_quantized *q)
{
    struct work *w = ctx;
    char shape[64], before[DAN_NUM], after[DAN_NUM], error[DAN_NUM];
    dan_shape_text(&q->shape, shape, sizeof shape);
    snprintf(error, sizeof error, "%.2g %%", 100 * q->error);
    dan_table_row(&w->table,
                  (const char *const[]){q->name, shape, q->before->name, q->after->name, dan_fmt_bytes((double)q->bytes_before, before),
                                        dan_fmt_bytes((double)q->bytes_after, after), q->why ? "-" : error, q->why ? q->why : ""});
    json_array_append_new(w->list, json_pack("{s:s,s:s,s:s,s:s,s:I,s:I,s:f,s:s?}", "name", q->name, "shape", shape, "before",
                                             q->before->name, "after", q->after->name, "bytes_before", (json_int_t)q->bytes_before,
                                             "bytes_after", (json_int_t)q->bytes_after, "error", q->error, "stayed_because", q->why));
    w->before += q->bytes_before;
    w->after += q->bytes_after;
    w->n++;
    w->stayed += q->why != NULL;
    if (q->error > w->worst) w->worst = q->error;
}

static int print(struct work *w, const struct quantize_opts *o, struct dan_err *e)
{
    struct dan_ui *ui = &w->cli->ui;
    char a[DAN_NUM], b[DAN_NUM];
    if (w->cli->json)
        return dan_out_json(ui,
                            json_pack("{s:s,s:s,s:s,s:I,s:I,s:O}", "model", o->model, "format", o->to, "out", o->out, "bytes_before",
                                      (json_int_t)w->before, "bytes_after", (json_int_t)w->after, "tensors", w->list),
                            e);
    struct dan_str out = {0};
    dan_table_print(&w->table, ui->out_tty ? dan_ui_width() : 0, ui->out_colour, &out);
    dan_str_printf(&out, "weights %s -> %s (%.1f %%); %lld of %lld tensors in %s, largest relative error %.2g %%\n",
                   dan_fmt_bytes((double)w->before, a), dan_fmt_bytes((double)w->after, b), 100 * (double)w->after / (double)w->before,
                   (long long)(w->n - w->stayed), (long long)w->n, o->to, 100 * w->worst);
    int rc = dan_out(ui, dan_str_c(&out), out.n, e);
    dan_str_release(&out);
    if (!rc) dan_say(ui, "wrote '%s'; try it: danlu generate %s --prompt TEXT", o->out, o->out);
    return rc;
}

static int check_out(const struct quantize_opts *o, struct dan_err *e)
{
    struct dan_str path = {0};
    dan_str_printf(&path, "%s/model.safetensors", o->out);
    bool there = dan_path_exists(dan_str_c(&path));
    dan_str_release(&path);
    return there ? dan_fail(e, DAN_EINVAL, "'%s' already holds a model; choose another --out, or remove it", o->out) : DAN_OK;
}

static int quantize(struct work *w, const struct quantize_opts *o, struct lm_files *m, struct dan_err *e)
{
    const struct dan_dtype *to;
    int rc = dan_quant_format(o->to, &to, e);
    if (!rc) rc = check_out(o, e);
    if (!rc) rc = lm_open(w->cli, o->model, false, m, e);
    if (!rc) rc = dan_lm_quantize(&m->lm, to, on_tensor, w, e);
    if (!rc && w->stayed == w->n)
        rc = dan_fail(e, DAN_EINVAL, "no tensor of '%s' can be stored in %s: %s", o->model, o->to,
                      "its matrices need rows of a multiple of 32, and it must not be quantised already");
    if (!rc) rc = dan_lm_save(&m->lm, o->out, e);
    return rc ? rc : dan_lm_copy_beside(o->model, o->out, e);
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    static const char *const headers[] = {"tensor", "shape", "was", "is", "bytes", "now", "error", "why it stayed"};
    struct work w = {.cli = cli, .list = json_array()};
    struct lm_files m = {0};
    dan_table_init(&w.table, "lrllrrrl", headers);
    int rc = quantize(&w, opts, &m, e);
    if (!rc) rc = print(&w, opts, e);
    dan_table_release(&w.table);
    json_decref(w.list);
    lm_close(&m);
    return rc;
}

const struct dan_cmd dan_cmd_quantize = {
    .name = "quantize",
    .doc = "make a smaller copy of a model",
    .group = DAN_GROUP_MODEL,
    .rank = 0,
    .about = "Matrices that only products and embeddings read are stored in blocks (q8_0: 32 weights as int8 with one f16 scale, 8.5 bits "
             "a weight);\n"
             "vectors stay f32. The copy has the tokenizer beside it and loads like any model. 'danlu eval' shows what it cost.",
    .example = "danlu quantize runs/book --to q8_0 --out runs/book-q8",
    .opts = options,
    .opts_bytes = sizeof(struct quantize_opts),
    .run = run};
