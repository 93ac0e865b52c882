/* danlu inspect: what a model folder holds, and the graphs that run it. */
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/sys.h"
#include "cli/inspect.h"
#include "cli/inspect_file.h"
#include "cli/lm_open.h"
#include "exec/exec.h"

struct inspect_opts { const char *model, *dump_after, *mode, *dtype, *html, *report; bool ops, graph, train, profile; int64_t rows; };

#define AT(f) offsetof(struct inspect_opts, f)
static const struct dan_opt options[] = {
    {.name = "model", .type = 'P', .offset = AT(model), .meta = "PATH", .help = "model folder, or any file: .gguf, .safetensors, .bin, tokenizer, config"},
    {.name = "ops", .type = 'b', .offset = AT(ops), .help = "list this build's ops, kernels, passes, formats and families instead"},
    {.name = "graph", .type = 'b', .offset = AT(graph), .help = "print the graph before and after the passes instead"},
    {.name = "fusion",
     .type = 's',
     .offset = AT(report),
     .meta = "RULES",
     .bare = "on",
     .section = "Fusion",
     .help =
         "show what fusion rules (alone: all; off; swiglu,cse; -cse) make of the graph, by which rule, and what was not fused, and why"},
    {.name = "profile", .type = 'b', .offset = AT(profile), .help = "with --fusion: measure both graphs and this machine's limits"},
    {.name = "html",
     .type = 's',
     .offset = AT(html),
     .meta = "FILE",
     .help = "with --fusion: the report as a page, with both graphs drawn"},
    {.name = "mode",
     .type = 'e',
     .offset = AT(mode),
     .dflt = "train",
     .choices = "train|infer",
     .help = "with --fusion: the graph of a training step, or the one that generates"},
    {.name = "dtype",
     .type = 'e',
     .offset = AT(dtype),
     .dflt = "auto",
     .choices = "auto|f32|bf16",
     .help = "with --fusion: of matrix products; auto: bf16 where the CPU has it"},
    {.name = "train",
     .type = 'b',
     .offset = AT(train),
     .section = "Graphs",
     .help = "with --graph or --dump-after: the training graph, not the one that generates"},
    {.name = "dump-after", .type = 's', .offset = AT(dump_after), .meta = "PASS|all", .help = "print the graph after a pass"},
    {.name = "rows",
     .type = 'i',
     .offset = AT(rows),
     .dflt = "64",
     .meta = "N",
     .min = 1,
     .max = 1 << 20,
     .help = "rows that the printed graph is declared for"},
    {.name = NULL}};

/* --- the folder */

static json_t *field_json(const struct dan_field *f, const void *cfg)
{
    const char *at = (const char *)cfg + f->offset;
    if (f->type == 'i') return json_integer(*(const int64_t *)(const void *)at);
    if (f->type == 'r' || f->type == 'l') return json_real(((const struct dan_rope *)(const void *)at)->base);
    if (f->type == 'w') return json_integer(((const struct dan_window *)(const void *)at)->width);
    if (f->type == 'f') return json_real(*(const double *)(const void *)at);
    return json_boolean(*(const bool *)(const void *)at);
}

static json_t *config_json(const struct dan_lm *lm)
{
    json_t *c = json_object();
    for (const struct dan_field *f = lm->model->fields; f->hf; f++) {
        char key[64];
        snprintf(key, sizeof key, "%.*s", (int)strcspn(f->hf, "|"), f->hf);
        json_object_set_new(c, key, field_json(f, &lm->cfg));
    }
    return c;
}

static int print_json(struct dan_cli *cli, const struct inspect_opts *o, const struct dan_lm *lm, struct dan_err *e)
{
    json_t *list = json_array();
    size_t bytes = 0;
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        const struct dan_tensor *t = dan_store_at(lm->store, i);
        json_t *shape = json_array();
        for (int k = 0; k < t->shape.n; k++) json_array_append_new(shape, json_integer(t->shape.d[k]));
        json_array_append_new(list, json_pack("{s:s,s:s,s:o,s:I}", "name", dan_store_name(lm->store, i), "dtype", t->dtype->name, "shape",
                                              shape, "bytes", (json_int_t)dan_tensor_bytes(t)));
        bytes += dan_tensor_bytes(t);
    }
    return dan_out_json(&cli->ui,
                        json_pack("{s:s,s:s,s:s,s:o,s:I,s:I,s:o}", "model", o->model, "family", lm->model->name, "architecture",
                                  lm->model->hf_arch, "config", config_json(lm), "parameters", (json_int_t)dan_lm_n_params(lm), "bytes",
                                  (json_int_t)bytes, "tensors", list),
                        e);
}

static void put_config(const struct dan_lm *lm, struct dan_str *out)
{
    json_t *c = config_json(lm), *v;
    const char *key;
    dan_str_printf(out, "%s: %s\narchitecture  %s\n", lm->model->name, lm->model->doc, lm->model->hf_arch);
    json_object_foreach(c, key, v) {
        char text[64];
        if (json_is_integer(v)) snprintf(text, sizeof text, "%lld", (long long)json_integer_value(v));
        else if (json_is_real(v)) snprintf(text, sizeof text, "%g", json_real_value(v));
        else snprintf(text, sizeof text, "%s", json_is_true(v) ? "yes" : "no");
        dan_str_printf(out, "  %-26s %s\n", key, text);
    }
    json_decref(c);
}

static void put_tensors(const struct dan_ui *ui, const struct dan_lm *lm, struct dan_str *out)
{
    static const char *const headers[] = {"tensor", "dtype", "shape", "bytes"};
    struct dan_table table;
    size_t bytes = 0;
    char shape[64], text[DAN_NUM], params[DAN_NUM];
    dan_table_init(&table, "llrr", headers);
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        const struct dan_tensor *t = dan_store_at(lm->store, i);
        dan_shape_text(&t->shape, shape, sizeof shape);
        dan_table_row(&table, (const char *const[]){dan_store_name(lm->store, i), t->dtype->name, shape,
                                                    dan_fmt_bytes((double)dan_tensor_bytes(t), text)});
        bytes += dan_tensor_bytes(t);
    }
    dan_table_print(&table, ui->out_tty ? dan_ui_width() : 0, ui->out_colour, out);
    dan_str_printf(out, "%zu tensors, %s parameters (%lld), %s\n", dan_store_count(lm->store),
                   dan_fmt_count((double)dan_lm_n_params(lm), params), (long long)dan_lm_n_params(lm), dan_fmt_bytes((double)bytes, text));
    dan_table_release(&table);
}

static int print_text(struct dan_cli *cli, const struct dan_lm *lm, struct dan_err *e)
{
    struct dan_str out = {0};
    put_config(lm, &out);
    put_tensors(&cli->ui, lm, &out);
    int rc = dan_out(&cli->ui, dan_str_c(&out), out.n, e);
    dan_str_release(&out);
    return rc;
}

/* --- graphs */

struct printing { struct dan_cli *cli; json_t *list; };    /* list: with --json */

static void put_graph(void *ctx, const char *when, const char *text)
{
    struct printing *p = ctx;
    struct dan_str s = {0};
    if (p->list) {
        json_array_append_new(p->list, json_pack("{s:s,s:s}", "after", when, "graph", text));
        return;
    }
    dan_str_printf(&s, "; after %s\n%s\n", when, text);
    dan_out(&p->cli->ui, dan_str_c(&s), s.n, NULL);
    dan_str_release(&s);
}

static struct dan_io io_of(const struct dan_lm *lm, const struct inspect_opts *o)
{
    struct dan_io io = {.max_rows = o->rows, .lanes = lm->model->time_major};
    if (o->train) io.loss = true;
    else io.logits = true;
    if (!o->train) io.max_select = 1;
    if (!o->train) io.cache_rows = lm->model->time_major ? 1 : lm->cfg.context;
    return io;
}

static int print_graph(const struct dan_lm *lm, const struct inspect_opts *o, const char *when, const char *pipeline, struct printing *p,
                       struct dan_err *e)
{
    struct dan_io io = io_of(lm, o);
    struct dan_exec_choice choice = dan_exec_choice_of(&(struct dan_exec_opts){.cpu_mask = dan_isa_mask(p->cli->isa)});
    struct dan_pass_opts po = {.loss = "loss", .dump_after = o->dump_after, .dump = put_graph, .dump_ctx = p, .rounds = dan_exec_rounds,
                               .rounds_ctx = &choice};
    struct dan_graph *g = NULL;
    int rc = dan_lm_graph(lm, &io, pipeline, &po, &g, e);
    if (rc || !when) {
        dan_graph_free(g);
        return rc;
    }
    struct dan_str text = {0};
    dan_graph_print(g, &text);
    put_graph(p, when, dan_str_c(&text));
    dan_str_release(&text);
    dan_graph_free(g);
    return DAN_OK;
}

static int check_pass(const char *name, const char *pipeline, struct dan_err *e)
{
    size_t n = name ? strlen(name) : 0;
    if (!name || !strcmp(name, "all")) return DAN_OK;
    for (const char *p = pipeline; *p; p += strcspn(p, ","), p += *p == ',')
        if (strcspn(p, ",") == n && !memcmp(p, name, n)) return DAN_OK;
    return dan_fail(e, DAN_EUSAGE, "pass '%s' is not in the pipeline %s; name one of it, or all", name, pipeline);
}

static int print_graphs(struct dan_cli *cli, const struct dan_lm *lm, const struct inspect_opts *o, struct dan_err *e)
{
    struct printing p = {cli, cli->json ? json_array() : NULL};
    const char *pipeline = o->train ? DAN_PIPELINE_TRAIN : DAN_PIPELINE_INFER;
    int rc = check_pass(o->dump_after, pipeline, e);
    if (!rc && o->graph) rc = print_graph(lm, o, "building", "", &p, e);
    if (!rc) rc = print_graph(lm, o, o->graph ? "all passes" : NULL, pipeline, &p, e);
    if (!rc && p.list)
        rc = dan_out_json(&cli->ui, json_pack("{s:s,s:s,s:O}", "model", o->model, "pipeline", pipeline, "graphs", p.list), e);
    json_decref(p.list);
    return rc;
}

/* --- fusion */

/* What belongs to --fusion says nothing without it. */
static int check_fusion(const struct dan_cli *cli, const struct inspect_opts *o, struct dan_err *e)
{
    static const char *const with[] = {"profile", "html", "mode", "dtype"};
    for (int i = 0; i < 4 && !o->report; i++)
        if (dan_given(cli, with[i])) return dan_fail(e, DAN_EUSAGE, "--%s says nothing without --fusion; add it", with[i]);
    return o->report ? dan_fusion_check(o->report, e) : DAN_OK;
}

/* A folder whose model danlu knows is shown as that; anything else as the file that it is. */
static bool is_model_folder(const char *path)
{
    struct dan_lm lm;
    struct dan_err ignored = {0};
    bool yes = dan_path_is_dir(path) && dan_lm_load(&lm, path, false, &ignored) == DAN_OK;
    if (yes) dan_lm_release(&lm);
    return yes;
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    const struct inspect_opts *o = opts;
    struct lm_files m = {0};
    if (o->ops) return inspect_ops(cli, e);
    if (!o->model) return dan_fail(e, DAN_EUSAGE, "no model; give the folder of one");
    int rc = check_fusion(cli, o, e);
    if (!rc && !o->report && !o->graph && !o->dump_after && !is_model_folder(o->model)) return inspect_file(cli, o->model, e);
    if (!rc && o->report)
        return inspect_fusion(cli, &(struct inspect_fusion){o->model, o->report, o->html, o->mode, o->dtype, o->profile, o->rows}, e);
    if (!rc) rc = lm_open(cli, o->model, false, &m, e);
    if (!rc && (o->graph || o->dump_after)) rc = print_graphs(cli, &m.lm, o, e);
    else if (!rc) rc = cli->json ? print_json(cli, o, &m.lm, e) : print_text(cli, &m.lm, e);
    lm_close(&m);
    return rc;
}

const struct dan_cmd dan_cmd_inspect = {
    .name = "inspect", .doc = "show what a model or a file holds, also of a damaged one, and the graphs that run it", .group = DAN_GROUP_MODEL, .rank = 2,
    .example = "danlu inspect runs/book\ndanlu inspect model.gguf\ndanlu inspect runs/book --graph\ndanlu inspect runs/book --dump-after autodiff --train\n"
               "danlu inspect runs/book --fusion --profile --html fusion.html",
    .opts = options, .opts_bytes = sizeof(struct inspect_opts), .run = run};
