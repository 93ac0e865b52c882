/* danlu finetune merge, unmerge, stack: arithmetic on adapters that are there. */
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "cli/adapter_options.h"
#include "cli/convert.h"
#include "cli/finetune.h"
#include "io/json.h"
#include "model/gguf_write.h"
#include "model/lora_files.h"
#include "text/chat_template.h"

struct merge_opts { const char *adapter, *merged, *out, *base, *dtype, *into; };
struct stack_opts { struct dan_strings adapters; const char *weights, *method, *out, *base; };

#define M_AT(f) offsetof(struct merge_opts, f)
#define S_AT(f) offsetof(struct stack_opts, f)
static const struct dan_opt merge_options[] = {
    {.name = "adapter", .type = 'p', .offset = M_AT(adapter), .meta = "ADAPTER", .help = "adapter folder, or a .gguf with --base"},
    {.name = "base", .type = 's', .offset = M_AT(base), .meta = "MODEL", .help = "the model it is for (default: the one that the adapter names)"},
    {.name = "dtype", .type = 'e', .offset = M_AT(dtype), .dflt = "as-is", .choices = "as-is|f32|bf16|f16", .help = "of matrices; as-is: the base's, f32 where that is quantised"},
    {.name = "into", .type = 'e', .offset = M_AT(into), .dflt = "trained", .choices = "trained|original",
     .help = "an adapter of --qlora: into the quantised weights, dequantised, over which it learned, or into the original ones"},
    {.name = "out", .type = 's', .offset = M_AT(out), .meta = "DIR", .letter = 'o', .required = true, .help = "folder of the model"},
    {.name = NULL}};
static const struct dan_opt unmerge_options[] = {
    {.name = "merged", .type = 'p', .offset = M_AT(merged), .meta = "MERGED", .help = "model that has the adapter in it"},
    {.name = "adapter", .type = 'p', .offset = M_AT(adapter), .meta = "ADAPTER", .help = "adapter folder"},
    {.name = "base", .type = 's', .offset = M_AT(base), .meta = "MODEL", .help = "the model to compare with (default: the one that the adapter names, where it is there)"},
    {.name = "dtype", .type = 'e', .offset = M_AT(dtype), .dflt = "as-is", .choices = "as-is|f32|bf16|f16", .help = "of matrices; as-is: the merged model's"},
    {.name = "out", .type = 's', .offset = M_AT(out), .meta = "DIR", .letter = 'o', .required = true, .help = "folder of the model"},
    {.name = NULL}};
static const struct dan_opt stack_options[] = {
    {.name = "weights", .type = 's', .offset = S_AT(weights), .meta = "W,W,...", .help = "one for each adapter (1)"},
    {.name = "method", .type = 'e', .offset = S_AT(method), .dflt = "cat", .choices = "cat|linear", .alias = "combination-type",
     .help = "cat: ranks side by side, exactly the weighted sum; linear: A and B are summed apart, which is another function"},
    {.name = "base", .type = 's', .offset = S_AT(base), .meta = "MODEL", .help = "the model they are for (default: the one that the first adapter names)"},
    {.name = "out", .type = 's', .offset = S_AT(out), .meta = "DIR", .letter = 'o', .required = true, .help = "folder of the adapter"},
    {.name = "adapters", .type = 'R', .offset = S_AT(adapters), .meta = "ADAPTER", .required = true, .help = "adapter folders"},
    {.name = NULL}};

/* ---- what all three need ---- */

static int check_out(const char *out, struct dan_err *e)
{
    static const char *const marks[] = {"adapter_config.json", "config.json", "model.safetensors", "model.safetensors.index.json"};
    int rc = DAN_OK;
    for (size_t i = 0; i < sizeof marks / sizeof *marks && !rc; i++) {
        struct dan_str path = {0};
        dan_path_join(&path, out, marks[i]);
        if (path.failed) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for a path");
        else if (dan_path_exists(path.p)) rc = dan_fail(e, DAN_EINVAL, "'%s' already holds a model or an adapter (%s); choose another --out, or remove it", out, marks[i]);
        dan_str_release(&path);
    }
    return rc;
}

/* The base: as told, else as the adapter says. */
static int base_of(struct dan_cli *cli, const char *told, const char *adapter, const char **out, struct dan_err *e)
{
    struct dan_str path = {0};
    *out = told;
    if (told) return DAN_OK;
    if (!dan_path_is_dir(adapter)) return dan_fail(e, DAN_EUSAGE, "'%s' is no adapter's folder and does not say for which model it is: give --base MODEL", adapter);
    int rc = dan_lora_base_model(adapter, &path, e);
    if (!rc && !(*out = dan_arena_strdup(cli->arena, dan_str_c(&path)))) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for a path");
    dan_str_release(&path);
    return rc;
}

/* The storage format of a model's matrices; f32 where they are in blocks, or the model does not open. */
static const struct dan_dtype *format_of(const char *model)
{
    struct dan_lm lm = {0};
    const struct dan_dtype *t = &dan_dtype_f32;
    if (dan_lm_load_stored(&lm, model, NULL)) return t;
    for (size_t i = 0; i < dan_store_count(lm.store); i++)
        if (dan_store_at(lm.store, i)->shape.n >= 2 && !strncmp(dan_store_name(lm.store, i), "blk.", 4)) t = dan_store_at(lm.store, i)->dtype;
    dan_lm_release(&lm);
    return t == &dan_dtype_bf16 || t == &dan_dtype_f16 ? t : &dan_dtype_f32;
}

static const struct dan_dtype *wanted(const char *dtype, const char *model) { return strcmp(dtype, "as-is") ? dan_dtype_find(dtype) : format_of(model); }

/* How far apart two models' floats are: the largest difference, and root of sum of squares of it over that of b. */
struct distance { double worst, squares, whole; };

static int add_tensor(struct distance *d, const struct dan_tensor *x, const struct dan_tensor *y, struct dan_err *e)
{
    int64_t n = dan_cols(x);
    float *a = dan_malloc(2 * (size_t)(n > 0 ? n : 1) * sizeof *a), *b = a + n;
    if (!a) return dan_fail(e, DAN_ENOMEM, "not enough memory to compare models");
    for (int64_t r = 0; r < dan_rows(x); r++) {
        x->dtype->to_f32(dan_row(x, r), a, n);
        y->dtype->to_f32(dan_row(y, r), b, n);
        for (int64_t k = 0; k < n; k++) {
            double off = (double)a[k] - (double)b[k];
            d->worst = fmax(d->worst, fabs(off));
            d->squares += off * off;
            d->whole += (double)b[k] * (double)b[k];
        }
    }
    dan_free(a);
    return DAN_OK;
}

static int compare(const struct dan_lm *lm, const char *base, struct distance *d, struct dan_err *e)
{
    struct dan_lm other = {0};
    int rc = dan_lm_load(&other, base, true, e);
    *d = (struct distance){0};
    for (size_t i = 0; !rc && i < dan_store_count(other.store); i++) {
        const struct dan_tensor *y = dan_store_at(other.store, i), *x = dan_store_find(lm->store, dan_store_name(other.store, i));
        if (x && dan_shape_equal(&x->shape, &y->shape) && x->dtype->to_f32 && y->dtype->to_f32) rc = add_tensor(d, x, y, e);
    }
    const struct dan_tensor *tied = rc || !other.cfg.tied ? NULL : dan_store_find(other.store, "token_embd.weight"), *head = dan_store_find(lm->store, "output.weight");
    if (tied && head && dan_shape_equal(&head->shape, &tied->shape)) rc = add_tensor(d, head, tied, e);
    dan_lm_release(&other);
    return rc;
}

static double relative(const struct distance *d) { return d->whole > 0 ? sqrt(d->squares / d->whole) : 0; }

static int write_model(struct dan_cli *cli, struct dan_lm *lm, const struct dan_dtype *to, const char *beside, const char *out, struct dan_err *e)
{
    int rc = dan_lora_drop(lm, e);
    if (!rc && to != &dan_dtype_f32) rc = dan_lm_cast(lm, to, to, e);
    if (!rc) rc = dan_lm_save(lm, out, e);
    return rc ? rc : lm_copy_beside(cli, lm, beside, out, e);
}

/* ---- merge ---- */

/* Into the weights that an adapter of --qlora learned over, as floats, unless the original ones are wanted. */
static int put_in(struct dan_cli *cli, const struct merge_opts *o, struct dan_lm *lm, struct dan_err *e)
{
    struct dan_str format = {0};
    bool trained = !strcmp(o->into, "trained");
    int rc = dan_lora_base_format(o->adapter, &format, e);
    if (!rc && format.n && !trained)
        dan_warn(&cli->ui, "the adapter learned over the base in %s: merged into the original weights it is another function; measure it (danlu eval)", dan_str_c(&format));
    if (!rc && format.n && trained) dan_say(&cli->ui, "base     rounded to %s, as the adapter learned over it, and back to floats", dan_str_c(&format));
    dan_str_release(&format);
    if (!rc && trained) return dan_lora_merge_into(lm, o->adapter, NULL, e);
    if (!rc) rc = dan_lora_load(lm, o->adapter, "default", e);
    if (!rc) rc = dan_lora_merge(lm, "default", 1, e);
    return rc ? rc : dan_lora_reward_bias(o->adapter, &lm->cfg.reward_bias, e);
}

static int report(struct dan_cli *cli, const char *out, const char *against, const struct distance *d, const char *text, struct dan_err *e)
{
    if (cli->json)
        return dan_out_json(&cli->ui, json_pack("{s:s,s:s,s:f,s:f}", "out", out, "compared_with", against ? against : "", "largest_difference", d->worst,
                                                "relative_difference", relative(d)), e);
    if (against) dan_say(&cli->ui, "%s '%s': largest difference of a weight %.3g, root mean square %.3g times that of the weights", text, against, d->worst, relative(d));
    dan_say(&cli->ui, "wrote '%s'", out);
    return DAN_OK;
}

static int merge(struct dan_cli *cli, const struct merge_opts *o, struct dan_lm *lm, struct dan_err *e)
{
    const char *base;
    struct distance d;
    int rc = check_out(o->out, e);
    if (!rc) rc = base_of(cli, o->base, o->adapter, &base, e);
    if (!rc) rc = dan_lm_load(lm, base, true, e);
    if (!rc) rc = put_in(cli, o, lm, e);
    if (!rc) rc = write_model(cli, lm, wanted(o->dtype, base), base, o->out, e);
    if (!rc) rc = dan_chat_template_copy(o->adapter, o->out, e);
    if (!rc) rc = compare(lm, base, &d, e);
    return rc ? rc : report(cli, o->out, base, &d, "merged   against", e);
}

static int run_merge(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct dan_lm lm = {0};
    int rc = merge(cli, opts, &lm, e);
    dan_lm_release(&lm);
    return rc;
}

/* ---- unmerge ---- */

static int unmerge(struct dan_cli *cli, const struct merge_opts *o, struct dan_lm *lm, struct dan_err *e)
{
    const char *base = o->base;
    struct dan_err none = {0};
    struct distance d = {0};
    int rc = check_out(o->out, e);
    if (!rc && !base && base_of(cli, NULL, o->adapter, &base, &none)) base = NULL;
    if (!rc) rc = dan_lm_load(lm, o->merged, true, e);
    if (!rc) rc = dan_lora_load(lm, o->adapter, "default", e);
    if (!rc) rc = dan_lora_merge(lm, "default", -1, e);
    if (!rc) rc = write_model(cli, lm, wanted(o->dtype, o->merged), base && dan_path_is_dir(base) ? base : o->merged, o->out, e);
    if (!rc && base) rc = compare(lm, base, &d, e);
    if (!rc && !base) dan_warn(&cli->ui, "the base model is not there to compare with: how much rounding is left is not known");
    return rc ? rc : report(cli, o->out, base, &d, "unmerged against", e);
}

static int run_unmerge(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct dan_lm lm = {0};
    int rc = unmerge(cli, opts, &lm, e);
    dan_lm_release(&lm);
    return rc;
}

/* ---- stack ---- */

static int parse_weights(const char *text, size_t n, double *w, struct dan_err *e)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) w[i] = 1;
    for (const char *p = text; p && *p; k++) {
        char *end;
        double v = strtod(p, &end);
        if (end == p || !isfinite(v) || (*end && *end != ',')) return dan_fail(e, DAN_EUSAGE, "--weights '%s' is no list of numbers: write 0.7,0.3", text);
        if (k < n) w[k] = v;
        p = end + (*end == ',');
    }
    if (text && k != n) return dan_fail(e, DAN_EUSAGE, "--weights has %zu numbers for %zu adapters", k, n);
    return DAN_OK;
}

static const char *said(const struct dan_str *format) { return format->n ? dan_str_c(format) : "its own format"; }

/* Appended: over which format of the base all of them learned; nothing: as it is. */
static int common_format(const struct stack_opts *o, struct dan_str *format, struct dan_err *e)
{
    int rc = dan_lora_base_format(o->adapters.v[0], format, e);
    for (size_t i = 1; i < o->adapters.n && !rc; i++) {
        struct dan_str own = {0};
        rc = dan_lora_base_format(o->adapters.v[i], &own, e);
        if (!rc && strcmp(dan_str_c(&own), dan_str_c(format)))
            rc = dan_fail(e, DAN_EINVAL, "'%s' learned over the base in %s, '%s' over the base in %s: only adapters over the same weights stack; merge one, and train the other "
                                         "over that", o->adapters.v[i], said(&own), o->adapters.v[0], said(format));
        dan_str_release(&own);
    }
    return rc;
}

static int load_all(struct dan_cli *cli, const struct stack_opts *o, const char *base, struct dan_lm *lm, const char **name, struct dan_err *e)
{
    int rc = DAN_OK;
    for (size_t i = 0; i < o->adapters.n && !rc; i++) {
        const char *own = base;
        char text[sizeof lm->adapter[0].name];
        if (!o->base) rc = base_of(cli, NULL, o->adapters.v[i], &own, e);
        if (!rc && own != base && !convert_same_place(own, base))
            rc = dan_fail(e, DAN_EINVAL, "'%s' is an adapter of '%s', '%s' one of '%s': only adapters of one model stack (--base MODEL says that they are)", o->adapters.v[i], own,
                          o->adapters.v[0], base);
        if (rc) return rc;
        adapter_name(lm, o->adapters.v[i], text);
        rc = dan_lora_load(lm, o->adapters.v[i], text, e);
        name[i] = dan_arena_strdup(cli->arena, text);
        if (!rc && !name[i]) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for a name");
    }
    return rc;
}

/* One template for all, or none. */
static int stack_template(struct dan_cli *cli, const struct stack_opts *o, struct dan_err *e)
{
    struct dan_str first = {0};
    bool same = true;
    int rc = dan_chat_template_read(o->adapters.v[0], &first, e);
    for (size_t i = 1; i < o->adapters.n && !rc; i++) {
        struct dan_str own = {0};
        rc = dan_chat_template_read(o->adapters.v[i], &own, e);
        same = same && !strcmp(dan_str_c(&own), dan_str_c(&first));
        dan_str_release(&own);
    }
    if (!rc && same) rc = dan_chat_template_copy(o->adapters.v[0], o->out, e);
    else if (!rc) dan_warn(&cli->ui, "the adapters learned with different chat templates: '%s' has none of its own; danlu chat --template says which", o->out);
    dan_str_release(&first);
    return rc;
}

static int stack(struct dan_cli *cli, const struct stack_opts *o, struct dan_lm *lm, struct dan_str *format, struct dan_err *e)
{
    const char *base, *name[DAN_MAX_ADAPTERS];
    double weight[DAN_MAX_ADAPTERS];
    bool linear = !strcmp(o->method, "linear");
    if (o->adapters.n >= DAN_MAX_ADAPTERS) return dan_fail(e, DAN_EUSAGE, "%zu adapters at once: give at most %d, and stack again", o->adapters.n, DAN_MAX_ADAPTERS - 1);
    int rc = parse_weights(o->weights, o->adapters.n, weight, e);
    if (!rc) rc = check_out(o->out, e);
    if (!rc) rc = base_of(cli, o->base, o->adapters.v[0], &base, e);
    if (!rc) rc = common_format(o, format, e);
    if (!rc) rc = dan_lm_load(lm, base, false, e);
    if (!rc) rc = load_all(cli, o, base, lm, name, e);
    if (!rc) rc = dan_lora_stack(lm, name, weight, (int)o->adapters.n, linear ? DAN_LORA_LINEAR : DAN_LORA_CAT, "=", e);
    if (!rc) rc = dan_lora_save(lm, "=", o->out, base, e);
    if (!rc && format->n) rc = dan_lora_save_base_format(o->out, dan_str_c(format), e);
    if (!rc) rc = stack_template(cli, o, e);
    if (rc) return rc;
    if (linear && o->adapters.n > 1) dan_warn(&cli->ui, "linear mixes A and B apart: the result is not the sum of the adapters; --method cat is");
    if (cli->json) return dan_out_json(&cli->ui, json_pack("{s:s,s:s,s:I}", "out", o->out, "method", o->method, "adapters", (json_int_t)o->adapters.n), e);
    dan_say(&cli->ui, "wrote '%s'; try it: danlu chat %s", o->out, o->out);
    return DAN_OK;
}

static int run_stack(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct dan_lm lm = {0};
    struct dan_str format = {0};
    int rc = stack(cli, opts, &lm, &format, e);
    dan_str_release(&format);
    dan_lm_release(&lm);
    return rc;
}

const struct dan_cmd finetune_cmd_merge = {
    .name = "merge", .doc = "write the model with an adapter merged in",
    .about = "W + s B A (with DoRA its rows stretched to their magnitudes), computed in f64 and rounded once to the base's storage format. An adapter that learned\n"
             "over a quantised base (--qlora) is merged into those weights, dequantised, so that the result is the model that was trained.",
    .example = "danlu finetune merge runs/book-chat --out runs/book-merged",
    .opts = merge_options, .opts_bytes = sizeof(struct merge_opts), .run = run_merge};
const struct dan_cmd finetune_cmd_unmerge = {
    .name = "unmerge", .doc = "take a merged adapter away again",
    .about = "Gives the base back but for rounding, and says how much is left of it where the base is there to compare with. Not for DoRA.",
    .example = "danlu finetune unmerge runs/book-merged runs/book-chat --out runs/book-again",
    .opts = unmerge_options, .opts_bytes = sizeof(struct merge_opts), .run = run_unmerge};
const struct dan_cmd finetune_cmd_stack = {
    .name = "stack", .doc = "several adapters of one model as one",
    .about = "The same as PEFT's add_weighted_adapter. cat adds ranks up and is the weighted sum of the adapters to rounding; linear keeps the rank.",
    .example = "danlu finetune stack runs/style runs/facts --weights 1,0.5 --out runs/both",
    .opts = stack_options, .opts_bytes = sizeof(struct stack_opts), .run = run_stack};
