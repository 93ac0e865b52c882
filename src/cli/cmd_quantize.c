/* danlu quantize: a smaller copy of a model. */
#include <regex.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/sys.h"
#include "cli/quantize.h"
#include "model/lora_files.h"
#include "model/quantize.h"

#define AT(f) offsetof(struct quantize_opts, f)
static const struct dan_opt options[] = {
    {.name = "model", .type = 'P', .offset = AT(model), .meta = "MODEL", .help = "model folder, .gguf file or llama2.c .bin, in float"},
    {.name = "to", .type = 's', .offset = AT(to), .dflt = "q8_0", .meta = "FORMAT", .alias = "format|type",
     .help = "format of the matrices: q8_0, q4_0, q4_k, i4_g64, nf4, ...; int8, int8_asym, int8_tensor, f8 (a scale per row); w3_g32, w2_g32 (to see "
             "what few bits cost)"},
    {.name = "out", .letter = 'o', .type = 's', .offset = AT(out), .meta = "DIR", .help = "folder of the copy, or a name that ends in .gguf"},
    {.name = "force", .type = 'b', .offset = AT(force), .help = "replace what --out holds"},
    {.name = "keep", .type = 's', .offset = AT(keep), .meta = "REGEX", .help = "tensors that stay in float: a regular expression of names (output|ffn_down)"},

    {.name = "method", .type = 's', .offset = AT(method), .dflt = "nearest", .meta = "METHOD", .section = "Method",
     .help = "nearest, mse; with text: imatrix, gptq, adaround, signround; before it awq+ or smoothquant+"},
    {.name = "calibration", .type = 'S', .offset = AT(calibration), .meta = "PATH", .alias = "calib",
     .help = "text that methods look at: files or folders, of the kind that the model will read"},
    {.name = "sequences", .type = 'i', .offset = AT(sequences), .dflt = "0", .meta = "N", .min = 0, .max = 1e6, .help = "pieces of the calibration text (0: 128)"},
    {.name = "length", .type = 'i', .offset = AT(length), .dflt = "0", .meta = "N", .min = 0, .max = 1e6,
     .help = "tokens of a piece (0: 512, or the model's context)"},
    {.name = "field", .type = 's', .offset = AT(field), .dflt = "text", .meta = "NAME", .help = "field of .jsonl rows that holds the text"},
    {.name = "imatrix", .type = 's', .offset = AT(imatrix), .meta = "FILE", .help = "imatrix: mean squares of inputs from a file instead of text, llama-imatrix's (.gguf or .dat) or of --save-imatrix"},
    {.name = "save-imatrix", .type = 's', .offset = AT(save_imatrix), .meta = "FILE", .help = "write the mean squares of the inputs of --calibration there, as llama.cpp reads them: .gguf, else its older form"},
    {.name = "alpha", .type = 'f', .offset = AT(alpha), .dflt = "0.5", .meta = "A", .min = -1, .max = 1,
     .help = "smoothquant: how much of an outlier moves into the weights (-1: searched for every group)"},
    {.name = "damp", .type = 'f', .offset = AT(damp), .dflt = "0.01", .meta = "X", .min = 1e-9, .max = 10, .help = "gptq: added to the diagonal, of its mean"},
    {.name = "act-order", .type = 'b', .offset = AT(act_order), .help = "gptq: columns with large inputs first"},
    {.name = "order", .type = 'e', .offset = AT(order), .dflt = "layers", .choices = "layers|products|once",
     .help = "inputs from a model whose earlier layers, or products, are rounded already, or from the float model"},
    {.name = "activations", .type = 'e', .offset = AT(activations), .dflt = "dynamic", .choices = "dynamic|static",
     .help = "of int8 products: a scale per token as it comes, or one found on the calibration text"},
    {.name = "calibrator", .type = 's', .offset = AT(calibrator), .dflt = "minmax", .meta = "RULE",
     .help = "of static activations: minmax, average, percentile, kl, mse"},

    {.name = "budget", .type = 'i', .offset = AT(budget), .dflt = "0", .meta = "BYTES", .min = 0, .max = INFINITY, .section = "Mixed precision",
     .help = "all weights in at most so many bytes (40M, 40Mi), formats chosen by sensitivity"},
    {.name = "formats", .type = 's', .offset = AT(formats), .meta = "A,B,...", .help = "what --budget may choose from (default q8_0,q6_k,q5_k,q4_k,q4_0)"},

    {.name = "report", .type = 'b', .offset = AT(report), .section = "Report",
     .help = "sensitivity of every tensor, perplexity and speed before and after; takes a forward pass per tensor"},
    {.name = "test", .type = 'S', .offset = AT(test), .meta = "PATH", .help = "text to measure on (default: an eighth of --calibration, held back)"},
    {.name = "test-sequences", .type = 'i', .offset = AT(test_sequences), .dflt = "0", .meta = "N", .min = 0, .max = 1e6,
     .help = "windows of the test text (0: 16384 tokens at most)"},

    {.name = "compare", .type = 'b', .offset = AT(compare), .section = "Which method?",
     .help = "no MODEL: train small models on --data and quantise them in every way, in training too; table of what each loses"},
    {.name = "data", .type = 'S', .offset = AT(study.data), .meta = "PATH", .help = "text for --compare"},
    {.name = "seeds", .type = 'i', .offset = AT(study.seeds), .dflt = "3", .meta = "N", .min = 1, .max = 16, .help = "models for --compare"},
    {.name = "compare-steps", .type = 'i', .offset = AT(study.steps), .dflt = "0", .meta = "N", .min = 0, .max = 1e7, .help = "training steps of each (0: the usual)"},
    {.name = "svg", .type = 's', .offset = AT(study.svg), .meta = "FILE", .help = "picture of --compare"},
    {.name = NULL}};

/* ---- what was asked for ---- */

/* ctx: the work; the compiled expression lives beside it. */
struct run { struct quantize_work w; regex_t keep; bool has_keep; };

static const char *keep(void *ctx, const char *name)
{
    struct run *r = ctx;
    return r->has_keep && regexec(&r->keep, name, 0, NULL, 0) == 0 ? "kept in float (--keep)" : NULL;
}

static int compile_keep(struct run *r, struct dan_err *e)
{
    char why[160];
    int rc = r->w.o->keep ? regcomp(&r->keep, r->w.o->keep, REG_EXTENDED | REG_NOSUB) : 0;
    r->has_keep = r->w.o->keep && !rc;
    if (!rc) return DAN_OK;
    regerror(rc, &r->keep, why, sizeof why);
    return dan_fail(e, DAN_EUSAGE, "--keep '%s' is no regular expression: %s", r->w.o->keep, why);
}

static int parse_formats(struct quantize_work *w, struct dan_err *e)
{
    const char *list = w->o->formats ? w->o->formats : "q8_0,q6_k,q5_k,q4_k,q4_0";
    char name[32];
    int rc = DAN_OK;
    for (const char *p = list; *p && !rc;) {
        size_t n = strcspn(p, ",");
        if (w->n_forms == QUANTIZE_FORMS) return dan_fail(e, DAN_EUSAGE, "--formats takes at most %d", QUANTIZE_FORMS);
        snprintf(name, sizeof name, "%.*s", (int)n, p);
        rc = dan_quant_form_find(name, &w->forms[w->n_forms++], e);
        p += n + (p[n] == ',');
    }
    return rc ? rc : w->n_forms ? DAN_OK : dan_fail(e, DAN_EUSAGE, "--formats is empty; name some, separated by commas");
}

static bool any_int8(const struct quantize_work *w)
{
    bool any = w->form.kind == DAN_FORM_ROWS && w->form.rows.to == &dan_dtype_i8 && !w->n_forms;
    for (int i = 0; i < w->n_forms; i++) any |= w->forms[i].kind == DAN_FORM_ROWS && w->forms[i].rows.to == &dan_dtype_i8;
    return any;
}

static int parse_activations(struct quantize_work *w, struct dan_err *e)
{
    const struct quantize_opts *o = w->o;
    bool is_static = !strcmp(o->activations, "static");
    if (!is_static && dan_given(w->cli, "calibrator")) return dan_fail(e, DAN_EUSAGE, "--calibrator is for static activations; add --activations static");
    if (!is_static) return DAN_OK;
    if (!any_int8(w)) return dan_fail(e, DAN_EUSAGE, "static activations are for int8 weights with a scale per row; use --to int8, int8_asym or int8_tensor");
    return dan_calibrator_find(o->calibrator, &w->job.calibrator, e);
}

static enum dan_apply_order order_of(const char *name)
{
    return !strcmp(name, "once") ? DAN_ORDER_ONCE : !strcmp(name, "products") ? DAN_ORDER_PRODUCTS : DAN_ORDER_LAYERS;
}

/* A form was asked for that one does not have: exit code 2, as for any wrong option. */
static int usage(int rc, struct dan_err *e)
{
    if (rc == DAN_EINVAL) e->code = DAN_EUSAGE;
    return rc == DAN_EINVAL ? DAN_EUSAGE : rc;
}

static int parse(struct run *r, struct dan_err *e)
{
    struct quantize_work *w = &r->w;
    const struct quantize_opts *o = w->o;
    w->job.alpha = o->alpha;
    int rc = usage(dan_quant_form_find(o->to, &w->form, e), e);
    if (!rc && (o->budget > 0 || o->formats)) rc = usage(parse_formats(w, e), e);
    if (!rc && o->formats && o->budget <= 0) rc = dan_fail(e, DAN_EUSAGE, "--formats is for --budget BYTES; --to takes one format");
    if (!rc) rc = usage(dan_quant_job_method(o->method, &w->job, e), e);
    if (!rc) rc = usage(parse_activations(w, e), e);
    if (!rc && o->imatrix && w->job.method->needs != DAN_NEEDS_SQUARES) rc = dan_fail(e, DAN_EUSAGE, "--imatrix is for --method imatrix");
    if (!rc && o->save_imatrix && !o->calibration.n) rc = dan_fail(e, DAN_EUSAGE, "--save-imatrix is made of text; give --calibration FILE");
    w->job.apply.imatrix = o->imatrix ? &w->imatrix : NULL;
    if (!rc && dan_quant_job_needs_text(&w->job) && !o->calibration.n)
        rc = dan_fail(e, DAN_EUSAGE, "%s looks at text; give --calibration FILE",
                      w->job.calibrator ? "--activations static" : dan_arena_printf(w->cli->arena, "--method %s", o->method));
    if (!rc) rc = compile_keep(r, e);
    return rc ? rc : quantize_check_out(w, e);
}

/* ---- the work ---- */

static int refuse_quantised(const struct quantize_work *w, struct dan_err *e)
{
    const char *name = dan_quant_already(&w->m.lm);
    if (!name) return DAN_OK;
    return dan_fail(e, DAN_EINVAL, "'%s' is quantised already ('%s' is %s): rounding twice adds up the errors; quantise the float model instead", w->o->model, name,
                    dan_store_find(w->m.lm.store, name)->dtype->name);
}

static int save_imatrix(struct quantize_work *w, struct dan_err *e)
{
    struct dan_imatrix m = {0};
    int rc = dan_imatrix_collect(&w->m.lm, &w->fit, w->m.pool, &m, e);
    if (!rc) m.text = dan_strdup(w->o->calibration.v[0]);
    if (!rc && !m.text) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for an importance matrix");
    if (!rc) rc = dan_imatrix_save(&m, w->o->save_imatrix, e);
    dan_imatrix_release(&m);
    return rc;
}

static int quantise(struct run *r, struct dan_err *e)
{
    struct quantize_work *w = &r->w;
    w->job.apply = (struct dan_apply_opts){.form = &w->form, .form_of = quantize_form_of, .keep = keep, .order = order_of(w->o->order),
                                           .round = {.pool = w->m.pool, .damp = w->o->damp, .act_order = w->o->act_order},
                                           .report = quantize_on_tensor, .progress = quantize_progress, .ctx = w,
                                           .imatrix = w->o->imatrix ? &w->imatrix : NULL};
    int rc = w->o->save_imatrix ? save_imatrix(w, e) : DAN_OK;
    if (!rc) rc = quantize_plan(w, e);
    dan_bar_start(&w->bar, &w->cli->ui, "quantise", "matrix", 0, 0);
    if (!rc) rc = dan_quant_job_run(&w->m.lm, &w->job, w->fit.n ? &w->fit : NULL, &w->n_static, e);
    dan_bar_finish(&w->bar);
    if (!rc && w->stayed == w->n)
        rc = dan_fail(e, DAN_EINVAL, "no tensor of '%s' can be stored in %s: %s", w->o->model, w->o->to,
                      "its matrices need rows of a multiple of the block, and --keep must leave some");
    return rc;
}

/* The float model is measured on a copy of the list of its tensors: programs bind what they read. */
static int measure_before(struct quantize_work *w, struct dan_baseline **b, struct dan_err *e)
{
    struct dan_lm copy;
    struct dan_compare_opts co = {.pool = w->m.pool, .cpu_mask = dan_isa_mask(w->cli->isa)};
    if (!w->held.n) return DAN_OK;
    int rc = dan_lm_share(&w->m.lm, &copy, e);
    if (rc) return rc;
    rc = dan_baseline_new(&copy, &w->held, &co, b, e);
    if (!rc && w->o->report) rc = dan_quant_speed(&copy, w->m.pool, co.cpu_mask, 1, &w->speed_before, e);
    dan_lm_release(&copy);
    return rc;
}

static int measure_after(struct quantize_work *w, const struct dan_baseline *b, struct dan_err *e)
{
    struct dan_lm copy;
    struct dan_compare_opts co = {.pool = w->m.pool, .cpu_mask = dan_isa_mask(w->cli->isa)};
    if (!w->held.n) return DAN_OK;
    int rc = dan_lm_share(&w->m.lm, &copy, e);
    if (rc) return rc;
    rc = dan_compare(b, &copy, &co, &w->quality, e);
    if (!rc && w->o->report) rc = dan_quant_speed(&copy, w->m.pool, co.cpu_mask, 1, &w->speed_after, e);
    dan_lm_release(&copy);
    return rc;
}

static int work(struct run *r, struct dan_err *e)
{
    struct quantize_work *w = &r->w;
    const struct quantize_opts *o = w->o;
    struct dan_baseline *b = NULL;
    if (!o->model) return dan_fail(e, DAN_EUSAGE, "MODEL is missing; give the folder or file of a model, or --compare --data FILE");
    if (!o->out) return dan_fail(e, DAN_EUSAGE, "--out is missing; give the folder of the copy, or a name that ends in .gguf");
    int rc = parse(r, e);
    if (!rc) rc = lm_open(w->cli, o->model, o->calibration.n || o->test.n, &w->m, e);
    if (!rc && dan_lora_is(o->model)) rc = lm_reload_own(&w->m, o->model, e);    /* the model with the adapter in it */
    if (!rc) rc = refuse_quantised(w, e);
    if (!rc && o->imatrix) rc = dan_imatrix_load(o->imatrix, &w->imatrix, e);
    if (!rc) rc = quantize_read_texts(w, e);
    if (!rc) rc = measure_before(w, &b, e);
    if (!rc) rc = quantise(r, e);
    if (!rc) rc = measure_after(w, b, e);
    if (!rc) rc = quantize_save(w, e);
    if (!rc) rc = quantize_print(w, e);
    dan_baseline_free(b);
    return rc;
}

/* What the other way of using the command would leave unread. */
static int check_compare(const struct quantize_opts *o, const struct dan_cli *cli, struct dan_err *e)
{
    static const char *const of_compare[] = {"data", "seeds", "compare-steps", "svg", NULL};
    static const char *const of_model[] = {"to", "out", "keep", "method", "calibration", "imatrix", "save-imatrix", "activations", "budget", "formats", "report", "test", NULL};
    if (o->compare && o->model) return dan_fail(e, DAN_EUSAGE, "--compare trains its own models; leave out '%s'", o->model);
    for (const char *const *p = o->compare ? of_model : of_compare; *p; p++)
        if (dan_given(cli, *p))
            return o->compare ? dan_fail(e, DAN_EUSAGE, "--compare tries every way on models of its own; leave out --%s", *p)
                              : dan_fail(e, DAN_EUSAGE, "--%s is for --compare%s", *p, strcmp(*p, "data") ? "" : "; text for a method is --calibration FILE, to measure on --test FILE");
    return DAN_OK;
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    static const char *const headers[] = {"tensor", "shape", "was", "is", "bytes", "now", "error", "SQNR dB", "KL alone", "note"};
    const struct quantize_opts *o = opts;
    int bad = check_compare(o, cli, e);
    if (bad) return bad;
    if (o->compare) return quantize_compare(cli, &o->study, e);
    struct run r = {.w = {.cli = cli, .o = opts, .tensors = json_array(), .doubts = json_array()}};
    dan_table_init(&r.w.table, "lrllrrrrrl", headers);
    int rc = work(&r, e);
    dan_table_release(&r.w.table);
    json_decref(r.w.tensors);
    json_decref(r.w.doubts);
    dan_sensitivity_release(&r.w.sensitivity);
    dan_imatrix_release(&r.w.imatrix);
    dan_free((void *)(uintptr_t)r.w.chosen);
    quantize_release_texts(&r.w);
    lm_close(&r.w.m);
    if (r.has_keep) regfree(&r.keep);
    return rc;
}

const struct dan_cmd dan_cmd_quantize = {
    .name = "quantize",
    .doc = "make a smaller copy of a model",
    .group = DAN_GROUP_MODEL,
    .rank = 0,
    .about = "Matrices that only products and embeddings read are stored in fewer bits; vectors stay f32. --method says how: nearest needs nothing, the others\n"
             "look at text (--calibration). --report measures what it cost: per tensor, perplexity with a 95 % interval, KL against the float model, speed.\n"
             "The copy has the tokenizer beside it and loads like any model; quantization.json in it says how it was made.",
    .example = "danlu quantize runs/book --to q8_0 --out runs/book-q8\n"
               "danlu quantize runs/book --to q4_0 --method gptq --calibration book.txt --report --out runs/book-q4\n"
               "danlu quantize runs/book --to int8 --method smoothquant --calibration book.txt --activations static --out runs/book-w8a8\n"
               "danlu quantize runs/book --budget 2M --formats q8_0,q4_0 --calibration book.txt --out runs/book-mixed\n"
               "danlu quantize --compare --data book.txt --svg compare.svg",
    .opts = options,
    .opts_bytes = sizeof(struct quantize_opts),
    .run = run};
