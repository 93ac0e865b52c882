/* danlu convert: a model in another file format. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/mem.h"
#include "cli/convert.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/sniff.h"
#include "model/gguf_write.h"
#include "model/lora_files.h"

struct convert_opts { const char *src, *dst, *dtype, *tokenizer, *base; int64_t shard_size; bool force, merge; };

#define AT(f) offsetof(struct convert_opts, f)
static const struct dan_opt options[] = {
    {.name = "src", .type = 'p', .offset = AT(src), .meta = "SRC", .help = "model folder, .gguf file or llama2.c .bin"},
    {.name = "dst", .type = 'p', .offset = AT(dst), .meta = "DST", .help = "a name that ends in .gguf, or a folder for the Hugging Face layout"},
    {.name = "dtype", .type = 'e', .offset = AT(dtype), .dflt = "as-is",
     .choices = "as-is|f32|f16|bf16|q8_0|q4_0|q4_1|q5_0|q5_1|q2_k|q3_k|q4_k|q5_k|q6_k|iq4_nl",
     .alias = "outtype|type|to", .help = "storage format of matrices (blocks: only to .gguf)"},
    {.name = "shard-size", .type = 'i', .offset = AT(shard_size), .dflt = "0", .meta = "BYTES", .min = 0, .max = INFINITY,
     .help = "folder: files of at most so many bytes (5G); 0: one file"},
    {.name = "tokenizer", .type = 's', .offset = AT(tokenizer), .meta = "FILE",
     .help = "tokenizer of a llama2.c checkpoint (else tokenizer.bin or tokN.bin beside it)"},
    {.name = "base", .type = 's', .offset = AT(base), .meta = "MODEL", .help = "an adapter: the model it is for (default: the one that its folder names)"},
    {.name = "merge", .type = 'b', .offset = AT(merge), .help = "an adapter to .gguf: the base with it merged in, not the adapter"},
    {.name = "force", .type = 'b', .offset = AT(force), .help = "replace what DST holds"},
    {.name = NULL}};

struct work {
    struct dan_cli *cli;
    const struct convert_opts *o;
    enum dan_file_kind kind;
    const struct dan_dtype *to;                /* NULL: as it is */
    bool to_gguf;
    const char *adapter;                       /* that is merged in; NULL: none */
    json_t *other;                             /* names of tensors whose rows do not fit `to` -> the format they got; NULL: none */
};

/* ---- what is there already ---- */

static bool holds(const char *dir, const char *name)
{
    struct dan_str path = {0};
    dan_path_join(&path, dir, name);
    bool yes = dan_path_exists(dan_str_c(&path));
    dan_str_release(&path);
    return yes;
}

static bool taken(const struct work *w)
{
    if (w->to_gguf) return dan_path_exists(w->o->dst);
    return holds(w->o->dst, "config.json") || holds(w->o->dst, "adapter_config.json") || holds(w->o->dst, "model.safetensors") || holds(w->o->dst, "model.safetensors.index.json");
}

bool convert_same_place(const char *a, const char *b)
{
    char *x = realpath(a, NULL), *y = realpath(b, NULL);
    bool same = x && y && !strcmp(x, y);
    dan_free(x);
    dan_free(y);
    return same;
}

static int check(struct work *w, struct dan_err *e)
{
    const struct convert_opts *o = w->o;
    const char *advice;
    int rc = dan_file_kind(o->src, &w->kind, e);
    if (rc) return rc;
    w->to_gguf = dan_str_ends(o->dst, ".gguf");
    w->to = strcmp(o->dtype, "as-is") ? dan_dtype_find(o->dtype) : NULL;
    advice = dan_file_kind_advice(w->kind);
    if (advice) return dan_fail(e, DAN_EFORMAT, "'%s' is %s: %s", o->src, dan_file_kind_name(w->kind), advice);
    if (w->kind != DAN_FILE_DIR && w->kind != DAN_FILE_GGUF && w->kind != DAN_FILE_LLAMA2C)
        return dan_fail(e, DAN_EUSAGE, "'%s' is %s; give the model's folder, a .gguf or a llama2.c .bin", o->src, dan_file_kind_name(w->kind));
    if (w->to && w->to->block > 1 && !w->to_gguf)
        return dan_fail(e, DAN_EUSAGE, "--dtype %s is for .gguf files; for a folder: danlu quantize MODEL --to %s", w->to->name, w->to->name);
    if (w->to_gguf && o->shard_size) return dan_fail(e, DAN_EUSAGE, "--shard-size is for folders");
    if (convert_same_place(o->src, o->dst)) return dan_fail(e, DAN_EINVAL, "'%s' is source and destination; choose another name", o->dst);
    if (!o->force && taken(w)) return dan_fail(e, DAN_EINVAL, "'%s' already holds a model; choose another name, or add --force", o->dst);
    return DAN_OK;
}

/* ---- folder to folder: any architecture, tensors as they are named ---- */

static bool is_real(const struct dan_dtype *t) { return t == &dan_dtype_f32 || t == &dan_dtype_f16 || t == &dan_dtype_bf16 || t == &dan_dtype_f64; }

/* Every row through f32; `made` owns the copy. */
static int cast_tensor(const struct dan_dtype *to, const char *name, const struct dan_tensor **t, struct dan_store *made, struct dan_err *e)
{
    const struct dan_tensor *from = *t;
    if (!to || from->dtype == to || !is_real(from->dtype)) return DAN_OK;
    int64_t n = dan_cols(from);
    float *tmp = dan_malloc((size_t)n * sizeof *tmp);
    int rc = tmp ? dan_store_add(made, name, to, from->shape, e) : dan_fail(e, DAN_ENOMEM, "out of memory converting '%s'", name);
    if (!rc) *t = dan_store_find(made, name);
    for (int64_t r = 0; r < dan_rows(from) && !rc; r++) {
        from->dtype->to_f32(dan_row(from, r), tmp, n);
        to->from_f32(tmp, dan_row(*t, r), n);
    }
    dan_free(tmp);
    return rc;
}

static int copy_tensors(struct work *w, const struct dan_store *from, struct dan_err *e)
{
    size_t n = dan_store_count(from);
    struct dan_store *made = NULL;
    struct dan_named *list = dan_calloc(n + 1, sizeof *list);
    int rc = list ? dan_store_new(&made, e) : dan_fail(e, DAN_ENOMEM, "out of memory for %zu tensors", n);
    for (size_t i = 0; i < n && !rc; i++) {
        list[i] = (struct dan_named){dan_store_name(from, i), dan_store_at(from, i)};
        rc = cast_tensor(w->to, list[i].name, &list[i].t, made, e);
    }
    if (!rc) rc = dan_safetensors_save_dir(w->o->dst, list, n, w->o->shard_size, e);
    dan_store_free(made);
    dan_free(list);
    return rc;
}

/* config.json as it is, but for the type that it names. */
static int copy_config(struct work *w, struct dan_err *e)
{
    static const char *const keys[] = {"torch_dtype", "dtype"};
    const char *name = !w->to ? NULL : w->to == &dan_dtype_bf16 ? "bfloat16" : w->to == &dan_dtype_f16 ? "float16" : "float32";
    struct dan_str from = {0}, to = {0};
    json_t *j = NULL;
    dan_path_join(&from, w->o->src, "config.json");
    dan_path_join(&to, w->o->dst, "config.json");
    int rc = from.failed || to.failed ? dan_fail(e, DAN_ENOMEM, "out of memory copying config.json") : DAN_OK;
    if (!rc && !name) rc = convert_copy_file(from.p, to.p, e);
    else if (!rc && !(rc = dan_json_read(from.p, &j, e))) {
        for (int i = 0; i < 2; i++)
            if (json_object_get(j, keys[i])) json_object_set_new(j, keys[i], json_string(name));
        rc = dan_json_write(to.p, j, e);
    }
    json_decref(j);
    dan_str_release(&from);
    dan_str_release(&to);
    return rc;
}

static int dir_to_dir(struct work *w, struct dan_err *e)
{
    struct dan_store *from = NULL;
    int rc = dan_safetensors_open(w->o->src, &from, e);
    if (!rc) rc = dan_mkdirs(w->o->dst, e);
    if (!rc) rc = copy_config(w, e);
    if (!rc) rc = dan_lm_copy_beside(w->o->src, w->o->dst, e);
    if (!rc) rc = copy_tensors(w, from, e);
    dan_store_free(from);
    return rc;
}

/* ---- through a family ---- */

/* Matrices with rows that are no multiple of a block. */
static void note_others(struct work *w, const struct dan_lm *lm)
{
    size_t n = 0;
    const char *first = NULL, *type = NULL;
    for (size_t i = 0; w->to && i < dan_store_count(lm->store); i++) {
        const struct dan_tensor *t = dan_store_at(lm->store, i);
        const char *name = dan_store_name(lm->store, i);
        if (t->shape.n < 2 || t->dtype == &dan_dtype_f32 || dan_cols(t) % w->to->block == 0) continue;
        if (!w->other) w->other = json_object();
        json_object_set_new(w->other, name, json_string(t->dtype->name));
        if (!first) first = name, type = t->dtype->name;
        n++;
    }
    if (n) dan_say(&w->cli->ui, "rows of %zu tensors are no multiple of %d: stored as %s, not %s ('%s', ...)", n, w->to->block, type, w->to->name, first);
}

static int to_gguf(struct work *w, struct dan_lm *lm, struct dan_err *e)
{
    struct dan_gguf_out *out = NULL;
    int rc = dan_lm_cast(lm, w->to, &dan_dtype_f32, e);
    if (!rc) note_others(w, lm);
    if (!rc) rc = dan_gguf_out_new(&out, e);
    if (!rc) rc = dan_lm_gguf_keys(lm, out, e);
    if (!rc) rc = convert_tokenizer_to_gguf(&w->cli->ui, w->o->src, w->kind, w->o->tokenizer, w->adapter, lm, out, e);
    if (!rc) rc = dan_lm_save_gguf(lm, out, w->o->dst, e);
    dan_gguf_out_free(out);
    return rc;
}

/* Blocks become f32 in a folder, which others read too; but for q8_0, integers and scales that they can at least see. */
static int open_blocks(struct dan_lm *lm, struct dan_err *e)
{
    bool any = false;
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        const struct dan_dtype *t = dan_store_at(lm->store, i)->dtype;
        any |= t->block > 1 && t != &dan_dtype_q8_0;
    }
    return any ? dan_lm_cast(lm, &dan_dtype_f32, &dan_dtype_f32, e) : DAN_OK;
}

static int to_dir(struct work *w, struct dan_lm *lm, struct dan_err *e)
{
    int rc = w->to ? dan_lm_cast(lm, w->to, w->to, e) : open_blocks(lm, e);
    if (!rc && !w->to) rc = dan_lm_narrow_vectors(lm, e);
    if (!rc) rc = dan_lm_save_shards(lm, w->o->dst, w->o->shard_size, e);
    return rc ? rc : convert_tokenizer_to_dir(&w->cli->ui, w->o->src, w->kind, w->o->tokenizer, w->adapter, lm, w->o->dst, e);
}

static int report(struct work *w, struct dan_err *e)
{
    if (w->cli->json)
        return dan_out_json(&w->cli->ui, json_pack("{s:s,s:s,s:s,s:s,s:O*}", "src", w->o->src, "dst", w->o->dst, "from", dan_file_kind_name(w->kind), "dtype",
                                                   w->o->dtype, "other_dtypes", w->other), e);
    dan_say(&w->cli->ui, "wrote '%s'; look at it: danlu inspect %s", w->o->dst, w->o->dst);
    return DAN_OK;
}

/* ---- an adapter: in the other format, or its base model with it merged in ---- */

static int find_base(struct work *w, struct dan_str *out, struct dan_err *e)
{
    if (w->o->base) dan_str_puts(out, w->o->base);
    else if (!dan_path_is_dir(w->o->src)) return dan_fail(e, DAN_EUSAGE, "'%s' is an adapter and does not say for which model: give --base MODEL", w->o->src);
    return out->failed ? dan_fail(e, DAN_ENOMEM, "not enough memory for a path") : w->o->base ? DAN_OK : dan_lora_base_model(w->o->src, out, e);
}

static int merge_adapter(struct work *w, const struct convert_opts *o, struct dan_lm *lm, struct dan_err *e)
{
    struct dan_str base = {0};
    struct convert_opts of_base = *o;
    int rc = find_base(w, &base, e);
    if (!rc) rc = dan_file_kind(dan_str_c(&base), &w->kind, e);
    if (!rc) rc = dan_lm_load(lm, dan_str_c(&base), true, e);
    if (!rc) rc = dan_lora_merge_into(lm, o->src, NULL, e);
    of_base.src = dan_str_c(&base);
    w->o = &of_base;
    w->adapter = o->src;
    if (!rc) rc = w->to_gguf ? to_gguf(w, lm, e) : to_dir(w, lm, e);
    w->o = o;
    dan_str_release(&base);
    return rc;
}

/* A .gguf has no place to say so. */
static int tell_format(const struct work *w, struct dan_err *e)
{
    struct dan_str format = {0};
    int rc = dan_lora_base_format(w->o->src, &format, e);
    if (!rc && format.n)
        dan_warn(&w->cli->ui, "'%s' learned over its base quantised to %s: use '%s' over that base quantised to %s, too, or write the model that was trained (--merge)", w->o->src,
                 dan_str_c(&format), w->o->dst, dan_str_c(&format));
    dan_str_release(&format);
    return rc;
}

static int convert_adapter(struct work *w, struct dan_lm *lm, struct dan_err *e)
{
    struct dan_str base = {0};
    int rc = tell_format(w, e);
    if (!rc) rc = find_base(w, &base, e);
    if (!rc) rc = dan_lm_load(lm, dan_str_c(&base), false, e);
    if (!rc) rc = dan_lora_load(lm, w->o->src, "default", e);
    if (!rc) rc = w->to_gguf ? dan_lora_save_gguf(lm, "default", w->o->dst, e) : dan_lora_save(lm, "default", w->o->dst, dan_str_c(&base), e);
    dan_str_release(&base);
    return rc;
}

/* A folder to a folder has always been the merged model; from and to a file the adapter stays one unless --merge. */
static int from_adapter(struct work *w, struct dan_lm *lm, struct dan_err *e)
{
    bool same_kind = w->to_gguf == dan_lora_is_gguf(w->o->src);
    if (w->o->merge || same_kind) return merge_adapter(w, w->o, lm, e);
    if (w->to || w->o->shard_size) return dan_fail(e, DAN_EUSAGE, "--dtype and --shard-size are for models; an adapter's matrices stay floats (--merge writes the model)");
    return convert_adapter(w, lm, e);
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct work w = {.cli = cli, .o = opts};
    struct dan_lm lm = {0};
    int rc = check(&w, e);
    if (rc) return rc;
    if (dan_lora_is(w.o->src) || dan_lora_is_gguf(w.o->src)) rc = from_adapter(&w, &lm, e);
    else if (w.kind == DAN_FILE_DIR && !w.to_gguf) rc = dir_to_dir(&w, e);
    else if (!(rc = dan_lm_load_stored(&lm, w.o->src, e))) rc = w.to_gguf ? to_gguf(&w, &lm, e) : to_dir(&w, &lm, e);
    dan_lm_release(&lm);
    if (!rc) rc = report(&w, e);
    json_decref(w.other);
    return rc;
}

const struct dan_cmd dan_cmd_convert = {
    .name = "convert",
    .doc = "write a model in another file format",
    .group = DAN_GROUP_MODEL,
    .rank = 1,
    .about = "From a Hugging Face folder (safetensors), a GGUF file or a llama2.c checkpoint to a GGUF file or a folder, tokenizer included.\n"
             "Tensors keep their values and, unless --dtype says otherwise, their storage format; there and back gives the same bytes.\n"
             "--dtype q*: rounded as llama.cpp does without an importance matrix. Rows that are no multiple of the format's block get another\n"
             "format, as there: q5_0 for q4_k, q5_1 for q5_k, q8_0 for q6_k, iq4_nl for q2_k and q3_k; f16 where even 32 does not divide them.\n"
             "From folder to folder, tensors are only split or joined (--shard-size), for any architecture. A PEFT adapter's folder becomes an adapter as\n"
             "GGUF, which llama.cpp's --lora takes, and back (--base); to a folder, or with --merge, its base model with the adapter merged in (in f32; a\n"
             "quantised base is dequantised first).",
    .example = "danlu convert runs/book book.gguf --dtype q8_0\ndanlu convert model.gguf model-hf\ndanlu convert stories15M.bin stories --tokenizer tokenizer.bin",
    .opts = options,
    .opts_bytes = sizeof(struct convert_opts),
    .run = run};
