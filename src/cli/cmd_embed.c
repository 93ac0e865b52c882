/* danlu embed: one line is one sentence, one sentence is one vector. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/cmd.h"
#include "cli/encoder_texts.h"
#include "cli/trace.h"
#include "exec/precision.h"
#include "infer/encode.h"
#include "io/safetensors.h"
#include "io/st_config.h"
#include "text/tokenizer.h"

enum { GROUP = 4096 };                         /* sentences between two looks at Ctrl-C and the bar */

struct embed_opts { const char *model, *file, *out, *pool, *normalize, *dtype, *fusion; int64_t max_tokens, rows; bool trace, ref; };

#define AT(f) offsetof(struct embed_opts, f)
static const struct dan_opt options[] = {
    {.name = "model", .type = 'p', .offset = AT(model), .meta = "MODEL",
     .help = "folder of a BERT or RoBERTa model from Hugging Face or sentence-transformers"},
    {.name = "file", .type = 'P', .offset = AT(file), .meta = "FILE", .help = "text, one sentence a line (- or nothing: standard input)"},
    {.name = "out", .letter = 'o', .type = 's', .offset = AT(out), .meta = "FILE",
     .help = "write FILE.safetensors with the tensor 'embeddings' [N,C], or FILE.f32, the numbers alone"},
    {.name = "pool", .type = 'e', .offset = AT(pool), .dflt = "auto", .choices = "auto|mean|cls|max|pooler",
     .help = "how tokens become one vector; auto: as the model's 1_Pooling/config.json says, else mean"},
    {.name = "normalize", .type = 'e', .offset = AT(normalize), .dflt = "auto", .choices = "auto|yes|no", .bare = "yes",
     .alias = "normalise",
     .help = "divide by the Euclidean norm, so that a product of vectors is their cosine; auto: as modules.json says"},
    {.name = "max-tokens", .type = 'i', .offset = AT(max_tokens), .dflt = "0", .meta = "N", .min = 0, .max = INT32_MAX,
     .alias = "max-length|max-seq-length",
     .help = "cut longer sentences, [CLS] and [SEP] counted (0: the model's limit)"},
    {.name = "dtype", .type = 'e', .offset = AT(dtype), .dflt = "f32", .choices = "f32|bf16|auto", .section = "Machine",
     .help = "of matrix products; auto: bf16 where the CPU has it"},
    {.name = "rows", .type = 'i', .offset = AT(rows), .dflt = "0", .meta = "N", .min = 0, .max = 1 << 20, .alias = "batch-tokens",
     .help = "tokens computed together (0: 2048); changes no result"},
    DAN_FUSION_OPTION(struct embed_opts),
    DAN_TRACE_OPTIONS(struct embed_opts),
    {.name = NULL}};

struct job {
    const struct embed_opts *o;
    struct dan_cli *cli;
    struct dan_encoder enc;
    struct dan_tokenizer *tok;
    struct dan_pool *pool;
    struct dan_encode *run;
    struct dan_trace trace;
    struct dan_st_config st;
    char   *text;
    size_t  n_text;
    struct dan_ids ids;                        /* of all sentences, template included */
    int64_t *start;                            /* [n + 1] */
    size_t  n, cap;
    int64_t limit, cut;                        /* tokens of a sentence at most; how many were longer */
    float  *out;                               /* [n, width] */
    double  seconds;                           /* in the model */
};

/* --- the text */

static int read_stdin(struct job *j, struct dan_err *e)
{
    struct dan_str s = {0};
    char buf[1 << 16];
    ssize_t got;
    if (isatty(0)) dan_say(&j->cli->ui, "reading sentences from standard input; Ctrl-D ends them");
    while ((got = read(0, buf, sizeof buf)) > 0) dan_str_append(&s, buf, (size_t)got);
    j->text = s.p;
    j->n_text = s.n;
    if (got < 0) return dan_fail(e, DAN_EIO, "cannot read standard input: %s; give a FILE", strerror(errno));
    return s.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for standard input; give it in smaller parts") : DAN_OK;
}

static int read_text(struct job *j, struct dan_err *e)
{
    int rc = !j->o->file || strcmp(j->o->file, "-") == 0 ? read_stdin(j, e) : dan_read_file(j->o->file, &j->text, &j->n_text, e);
    return rc ? rc : enc_check(j->cli, j->o->file, j->text, j->n_text, e);
}

/* A sentence without its end goes to the model whole; what is cut is counted. */
static int add_sentence(struct job *j, struct dan_tok_cache *cache, const char *p, size_t n, struct dan_err *e)
{
    const struct dan_ids *before = dan_tokenizer_before(j->tok), *after = dan_tokenizer_after(j->tok);
    size_t from = j->ids.n;
    if (dan_vec_grow(&j->start, &j->cap, j->n + 2, sizeof *j->start))
        return dan_fail(e, DAN_ENOMEM, "out of memory for %zu sentences", j->n);
    j->start[j->n++] = (int64_t)from;
    for (size_t i = 0; i < before->n; i++) dan_ids_push(&j->ids, before->v[i]);
    int rc = dan_tok_cache_encode(cache, p, n, DAN_ENCODE_UNK, &j->ids, e);
    if (!rc && (int64_t)(j->ids.n - from + after->n) > j->limit) {
        j->ids.n = from + (size_t)j->limit - after->n;
        j->cut++;
    }
    for (size_t i = 0; i < after->n; i++) dan_ids_push(&j->ids, after->v[i]);
    if (!rc && j->ids.n == from) dan_ids_push(&j->ids, dan_tokenizer_eos(j->tok) >= 0 ? dan_tokenizer_eos(j->tok) : 0);
    j->start[j->n] = (int64_t)j->ids.n;
    return rc ? rc : j->ids.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for the ids of %zu sentences", j->n) : DAN_OK;
}

static int read_sentences(struct job *j, struct dan_err *e)
{
    struct dan_tok_cache *cache = NULL;
    int rc = dan_tok_cache_new(j->tok, &cache, e);
    for (size_t i = 0; i < j->n_text && !rc;) {
        const char *end = memchr(j->text + i, '\n', j->n_text - i);
        size_t n = end ? (size_t)(end - (j->text + i)) : j->n_text - i;
        rc = add_sentence(j, cache, j->text + i, n && j->text[i + n - 1] == '\r' ? n - 1 : n, e);
        i += n + 1;
    }
    dan_tok_cache_free(cache);
    if (!rc && j->cut)
        dan_warn(&j->cli->ui, "%lld of %zu sentences are longer than %lld tokens and were cut", (long long)j->cut, j->n,
                 (long long)j->limit);
    return rc;
}

/* --- the model */

static enum dan_prec precision(const struct job *j) { return dan_prec_of(j->o->dtype, dan_isa_mask(j->cli->isa)); }

static enum dan_pooling pooling(const struct job *j)
{
    static const struct { const char *name; enum dan_pooling p; } all[] = {
        {"mean", DAN_POOL_MEAN}, {"cls", DAN_POOL_CLS}, {"max", DAN_POOL_MAX}, {"pooler", DAN_POOL_POOLER}};
    const char *want = strcmp(j->o->pool, "auto") ? j->o->pool : j->st.pooling;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i].name, want) == 0) return all[i].p;
    return DAN_POOL_MEAN;
}

/* The sentence-transformers files matter only for what the command line leaves open. */
static int read_st_config(struct job *j, struct dan_err *e)
{
    if (strcmp(j->o->pool, "auto") && strcmp(j->o->normalize, "auto") && j->o->max_tokens) return DAN_OK;
    return dan_st_config_load(j->o->model, &j->st, e);
}

static int set_limit(struct job *j, struct dan_err *e)
{
    int64_t most = dan_encoder_max_tokens(&j->enc), need = (int64_t)(dan_tokenizer_before(j->tok)->n + dan_tokenizer_after(j->tok)->n);
    j->limit = j->o->max_tokens ? j->o->max_tokens : j->st.max_tokens && j->st.max_tokens < most ? j->st.max_tokens : most;
    if (j->limit > most)
        return dan_fail(e, DAN_EINVAL, "the model takes %lld tokens, --max-tokens says %lld; it never saw positions beyond",
                        (long long)most, (long long)j->limit);
    if (j->limit < need + 1)
        return dan_fail(e, DAN_EINVAL, "--max-tokens %lld leaves no room for text beside %lld special tokens; give more",
                        (long long)j->limit, (long long)need);
    return DAN_OK;
}

static int open_model(struct job *j, struct dan_err *e)
{
    enum dan_prec prec = precision(j);
    bool normal = strcmp(j->o->normalize, "auto") ? strcmp(j->o->normalize, "yes") == 0 : false;
    int rc = dan_pool_new((int)j->cli->threads, &j->pool, e);
    if (!rc) rc = dan_encoder_load(&j->enc, j->o->model, prec, e);
    if (!rc) rc = dan_tokenizer_load(j->o->model, &j->tok, e);
    if (!rc && dan_tokenizer_vocab_size(j->tok) > j->enc.cfg.vocab)
        rc = dan_fail(e, DAN_EINVAL, "the tokenizer of '%s' has %d tokens, the model %lld; do they belong together?", j->o->model,
                      dan_tokenizer_vocab_size(j->tok), (long long)j->enc.cfg.vocab);
    if (!rc) rc = read_st_config(j, e);
    if (!rc) rc = set_limit(j, e);
    j->trace.ui = &j->cli->ui;
    struct dan_encode_opts o = {.pooling = pooling(j), .normalize = strcmp(j->o->normalize, "auto") ? normal : j->st.normalize,
                                .max_rows = j->o->rows, .prec = prec, .pool = j->pool, .ref = j->o->ref, .fusion = j->o->fusion,
                                .cpu_mask = dan_isa_mask(j->cli->isa), .trace = j->o->trace ? dan_trace_node : NULL,
                                .trace_ctx = &j->trace};
    return rc ? rc : dan_encode_new(&j->enc, &o, &j->run, e);
}

/* --- the work */

static int embed_all(struct job *j, struct dan_err *e)
{
    struct dan_bar bar;
    int64_t width = dan_encode_width(j->run);
    double from = dan_now();
    int rc = DAN_OK;
    j->out = dan_malloc(j->n * (size_t)width * sizeof *j->out + 1);
    if (!j->out)
        return dan_fail(e, DAN_ENOMEM, "out of memory for %zu vectors of %lld numbers; embed the text in parts", j->n, (long long)width);
    dan_bar_start(&bar, &j->cli->ui, "embed", "token", 0, (int64_t)j->ids.n);
    for (size_t i = 0; i < j->n && !rc; i += GROUP) {
        struct dan_sentences x = {j->ids.v, NULL, j->start + i, (int64_t)(j->n - i < GROUP ? j->n - i : GROUP)};
        rc = dan_encode_run(j->run, &x, j->out + i * (size_t)width, e);
        if (!rc) dan_bar_update(&bar, x.start[x.n], "%s", "");
        if (!rc && j->cli->stop) rc = dan_fail(e, DAN_ECANCELLED, "interrupted; nothing was written");
    }
    dan_bar_finish(&bar);
    j->seconds = dan_now() - from;
    return rc;
}

static int write_vectors(const struct job *j, struct dan_err *e)
{
    int64_t width = dan_encode_width(j->run);
    struct dan_tensor t = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE((int64_t)j->n, width), j->out);
    if (dan_str_ends(j->o->out, ".f32")) return dan_write_file(j->o->out, j->out, j->n * (size_t)width * sizeof *j->out, e);
    if (!dan_str_ends(j->o->out, ".safetensors"))
        return dan_fail(e, DAN_EUSAGE, "--out '%s' has no known ending; use .safetensors or .f32", j->o->out);
    return dan_safetensors_save_list(j->o->out, &(struct dan_named){"embeddings", &t}, 1, NULL, 0, e);
}

static void put_vector(const float *x, int64_t n, struct dan_str *s)
{
    for (int64_t i = 0; i < n; i++) dan_str_printf(s, "%s%.9g", i ? "," : "", (double)x[i]);
}

/* One line per sentence: its numbers, or an object with its number, tokens and vector. */
static int print_vectors(struct job *j, struct dan_err *e)
{
    int64_t width = dan_encode_width(j->run);
    struct dan_str s = {0};
    int rc = DAN_OK;
    for (size_t i = 0; i < j->n && !rc; i++) {
        dan_str_clear(&s);
        long long tokens = j->start[i + 1] - j->start[i];
        if (j->cli->json) dan_str_printf(&s, "{\"index\":%zu,\"tokens\":%lld,\"embedding\":[", i, tokens);
        put_vector(j->out + i * (size_t)width, width, &s);
        dan_str_puts(&s, j->cli->json ? "]}\n" : "\n");
        if (s.failed) rc = dan_fail(e, DAN_ENOMEM, "out of memory for a line of %lld numbers", (long long)width);
        else rc = dan_out(&j->cli->ui, s.p, s.n, e);
    }
    dan_str_release(&s);
    return rc;
}

static void say_rate(const struct job *j)
{
    char a[DAN_NUM], b[DAN_NUM], c[DAN_NUM];
    double s = j->seconds > 0 ? j->seconds : 1e-9;
    dan_say(&j->cli->ui, "%zu sentences, %s tokens in %s: %s sentences/s", j->n, dan_fmt_count((double)j->ids.n, a),
            dan_fmt_time(j->seconds, b),
            dan_fmt_count((double)j->n / s, c));
}

/* With --out and --json: what was done. */
static int print_summary(struct job *j, struct dan_err *e)
{
    return dan_out_json(&j->cli->ui, json_pack("{s:s,s:I,s:I,s:I,s:I,s:f}", "out", j->o->out, "sentences", (json_int_t)j->n, "width",
                                               (json_int_t)dan_encode_width(j->run), "tokens", (json_int_t)j->ids.n, "cut",
                                               (json_int_t)j->cut, "seconds", j->seconds), e);
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct job j = {.o = opts, .cli = cli};
    if (j.o->out && !dan_str_ends(j.o->out, ".f32") && !dan_str_ends(j.o->out, ".safetensors"))
        return dan_fail(e, DAN_EUSAGE, "--out '%s' has no known ending; use .safetensors or .f32", j.o->out);
    int rc = dan_fusion_check(j.o->fusion, e);
    if (!rc) rc = open_model(&j, e);
    if (!rc) rc = read_text(&j, e);
    if (!rc) rc = read_sentences(&j, e);
    if (!rc && !j.n) rc = dan_fail(e, DAN_EINVAL, "there is no sentence in '%s'; give text, one sentence a line",
                                   j.o->file ? j.o->file : "-");
    if (!rc) rc = embed_all(&j, e);
    if (!rc) rc = j.o->out ? write_vectors(&j, e) : print_vectors(&j, e);
    if (!rc && j.o->out && cli->json) rc = print_summary(&j, e);
    if (!rc) say_rate(&j);
    dan_encode_free(j.run);
    dan_encoder_release(&j.enc);
    dan_tokenizer_free(j.tok);
    dan_pool_free(j.pool);
    dan_ids_release(&j.ids);
    dan_free(j.start);
    dan_free(j.text);
    dan_free(j.out);
    return rc;
}

const struct dan_cmd dan_cmd_embed = {
    .name = "embed", .doc = "turn sentences into vectors", .group = DAN_GROUP_USE, .rank = 3,
    .about = "One line is one sentence; the vectors come out in the same order. Sentences are computed together without padding, so mixed "
             "lengths cost what their tokens cost, and a vector does not depend on its company or on --threads.\n\n"
             "Without --out each line of the result is one vector, its numbers separated by commas; with --json an object with \"index\", "
             "\"tokens\" and \"embedding\" (with --out: one object that says how much was done). An empty line gives the vector of an "
             "empty sentence.",
    .example = "danlu embed all-MiniLM-L6-v2 sentences.txt --out vectors.safetensors\n"
               "echo \"two red elixirs\" | danlu embed all-MiniLM-L6-v2 --json",
    .opts = options, .opts_bytes = sizeof(struct embed_opts), .run = run};
