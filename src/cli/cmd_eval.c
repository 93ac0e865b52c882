/* danlu eval: loss, perplexity and bits per byte of a model on text. */
#include <math.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/adapter_options.h"
#include "cli/trace.h"
#include "data/text.h"
#include "infer/eval.h"

struct eval_opts { const char *model, *field, *shards, *fusion, *kv_type; struct dan_strings data, adapters; int64_t context, batch, stride; bool allow_invalid, trace, ref; };

#define AT(f) offsetof(struct eval_opts, f)
static const struct dan_opt options[] = {
    {.name = "model", .type = 'p', .offset = AT(model), .meta = "MODEL", .help = "model folder"},
    DAN_ADAPTER_OPTION(struct eval_opts),
    {.name = "data", .type = 'S', .offset = AT(data), .meta = "PATH", .help = "text files, .jsonl files or folders"},
    {.name = "shards", .type = 's', .offset = AT(shards), .meta = "DIR", .help = "the validation split in a run's data folder instead of --data (default: MODEL/data)"},
    {.name = "field", .type = 's', .offset = AT(field), .dflt = "text", .meta = "NAME", .help = "field of .jsonl rows that holds the text"},
    {.name = "allow-invalid", .type = 'b', .offset = AT(allow_invalid), .help = "accept invalid UTF-8"},
    {.name = "context",
     .type = 'i',
     .offset = AT(context),
     .dflt = "0",
     .meta = "N",
     .min = 0,
     .max = INT32_MAX,
     .section = "Protocol",
     .help = "tokens of a window (0: the model's context, 2048 at most)"},
    {.name = "stride",
     .type = 'i',
     .offset = AT(stride),
     .dflt = "0",
     .meta = "N",
     .min = 0,
     .max = INT32_MAX,
     .help = "sliding windows that advance by N tokens (0: non-overlapping windows)"},
    {.name = "batch",
     .type = 'i',
     .offset = AT(batch),
     .dflt = "0",
     .meta = "N",
     .min = 0,
     .max = 65536,
     .help = "windows computed together (0: about 2048 tokens); changes no result"},
    DAN_TRACE_OPTIONS(struct eval_opts),
    DAN_FUSION_OPTION(struct eval_opts),
    DAN_KV_OPTION(struct eval_opts),
    {.name = NULL}};

struct corpus { struct dan_ids ids; int64_t *doc; size_t n_docs, cap; int64_t bytes; };

static int add_document(struct corpus *c, const struct lm_files *m, struct dan_tok_cache *cache, const struct dan_document *d,
                        struct dan_err *e)
{
    if (dan_vec_grow(&c->doc, &c->cap, c->n_docs + 1, sizeof *c->doc))
        return dan_fail(e, DAN_ENOMEM, "not enough memory for another document");
    c->doc[c->n_docs++] = (int64_t)c->ids.n;
    for (size_t i = 0; i < m->prefix.n; i++) dan_ids_push(&c->ids, m->prefix.v[i]);
    int rc = dan_tok_cache_encode(cache, d->p, d->n, DAN_ENCODE_UNK, &c->ids, e);
    if (!rc && dan_tokenizer_eos(m->tok) >= 0) dan_ids_push(&c->ids, dan_tokenizer_eos(m->tok));
    if (!rc && c->ids.failed) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for the ids of the text");
    c->bytes += (int64_t)d->n;
    return rc;
}

static int read_corpus(struct corpus *c, const struct eval_opts *o, const struct lm_files *m, struct dan_err *e)
{
    struct dan_text_opts to = {.field = o->field, .allow_invalid = o->allow_invalid};
    struct dan_text *text = NULL;
    struct dan_tok_cache *cache = NULL;
    struct dan_document d = {.p = ""};
    int rc = dan_text_open(o->data.v, o->data.n, &to, &text, e);
    if (!rc) rc = dan_tok_cache_new(m->tok, &cache, e);
    while (!rc && d.p) {
        rc = dan_text_next(text, &d, e);
        if (!rc && d.p) rc = add_document(c, m, cache, &d, e);
    }
    dan_tok_cache_free(cache);
    dan_text_free(text);
    return rc;
}

struct show { struct dan_cli *cli; struct dan_bar bar; };

static bool progress(void *ctx, int64_t done, int64_t total)
{
    struct show *s = ctx;
    (void)total;
    dan_bar_update(&s->bar, done, "%s", "");
    return !s->cli->stop;
}

static int print(struct dan_cli *cli, const struct eval_opts *o, const struct corpus *c, const struct dan_eval_result *r, double seconds,
                 struct dan_err *e)
{
    double bpb = r->nats / log(2) / (double)c->bytes;
    if (cli->json)
        return dan_out_json(&cli->ui,
                            json_pack("{s:s,s:f,s:o,s:f,s:I,s:I,s:I,s:s,s:I,s:f}", "model", o->model, "loss", r->loss, "perplexity",
                                      isfinite(r->perplexity) ? json_real(r->perplexity) : json_null(), "bits_per_byte", bpb, "tokens", (json_int_t)r->tokens, "bytes", (json_int_t)c->bytes,
                                      "documents", (json_int_t)c->n_docs, "protocol", r->protocol, "context", (json_int_t)r->context,
                                      "seconds", seconds),
                            e);
    struct dan_str s = {0};
    dan_str_printf(&s,
                   "loss           %.4f nats per token\nperplexity     %.3f\nbits per byte  %.4f\ntext           %lld tokens to predict, "
                   "%lld bytes, %zu documents\nprotocol       %s\n",
                   r->loss, r->perplexity, bpb, (long long)r->tokens, (long long)c->bytes, c->n_docs, r->protocol);
    int rc = dan_out(&cli->ui, dan_str_c(&s), s.n, e);
    dan_str_release(&s);
    return rc;
}

/* The validation split that training wrote; its ids must be this tokenizer's. */
static int open_split(struct dan_cli *cli, const struct eval_opts *o, const struct lm_files *m, struct corpus *c, struct dan_shards **text,
                      struct dan_err *e)
{
    const char *dir = o->shards ? o->shards : dan_arena_printf(cli->arena, "%s/data", o->model);
    if (!o->shards && !dan_path_is_dir(dir)) return dan_fail(e, DAN_EUSAGE, "nothing to evaluate on; give --data FILE, or --shards DIR of a training run");
    int rc = dan_shards_open(dir, "val", text, e);
    if (rc) return rc;
    if (dan_shards_hash(*text) != dan_tokenizer_hash(m->tok)) {
        dan_shards_free(*text);
        return dan_fail(e, DAN_EINVAL, "the tokens in '%s' were made with another tokenizer; give the text with --data", dir);
    }
    c->bytes = dan_shards_bytes(*text);
    c->n_docs = (size_t)dan_shards_docs(*text);
    return DAN_OK;
}

static int evaluate(struct dan_cli *cli, const struct eval_opts *o, struct lm_files *m, struct corpus *c, struct dan_err *e)
{
    struct dan_shards *text = NULL;
    struct dan_eval_result r;
    struct show show = {.cli = cli};
    struct dan_trace trace = {.ui = &cli->ui};
    struct dan_eval_opts eo = {
        .context = o->context, .batch = o->batch, .stride = o->stride, .pool = m->pool, .cpu_mask = dan_isa_mask(cli->isa), .progress = progress, .progress_ctx = &show, .ref = o->ref, .fusion = o->fusion, .kv_type = o->kv_type,
        .trace = o->trace ? dan_trace_node : NULL, .trace_ctx = &trace};
    int rc = o->data.n ? dan_shards_of(c->ids.v, (int64_t)c->ids.n, c->doc, (int64_t)c->n_docs, dan_tokenizer_eos(m->tok), &text, e)
                       : open_split(cli, o, m, c, &text, e);
    if (rc) return rc;
    double t0 = dan_now();
    dan_bar_start(&show.bar, &cli->ui, "eval", "token", 0, dan_shards_tokens(text) - dan_shards_docs(text));
    rc = dan_eval(&m->lm, text, &eo, &r, e);
    dan_bar_finish(&show.bar);
    dan_shards_free(text);
    if (!rc && !isfinite(r.loss))
        rc = dan_fail(e, DAN_EFORMAT, "the loss of '%s' is no finite number: its weights are damaged, or too large for their format", o->model);
    return rc ? rc : print(cli, o, c, &r, dan_now() - t0, e);
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    const struct eval_opts *o = opts;
    struct lm_files m = {0};
    struct corpus c = {0};
    int rc = lm_open(cli, o->model, true, &m, e);
    if (!rc) rc = adapters_load(cli, &m, &o->adapters, e);
    if (!rc && o->data.n) rc = read_corpus(&c, o, &m, e);
    if (!rc && o->data.n && c.n_docs == 0) rc = dan_fail(e, DAN_EINVAL, "the data holds no text; look at the files of --data");
    if (!rc) rc = evaluate(cli, o, &m, &c, e);
    dan_ids_release(&c.ids);
    dan_free(c.doc);
    lm_close(&m);
    return rc;
}

const struct dan_cmd dan_cmd_eval = {.name = "eval",
                                     .doc = "measure a model's perplexity on text",
                                     .group = DAN_GROUP_MODEL,
                                     .rank = 4,
                                     .about = "Every token but the first of each document is predicted once. Perplexities compare only "
                                              "between models with one tokenizer and one\n"
                                              "protocol; bits per byte also between tokenizers. The protocol is part of the output.",
                                     .example =
                                         "danlu eval runs/book\ndanlu eval runs/book --data book.txt\ndanlu eval runs/book --data book.txt --stride 64 --json",
                                     .opts = options,
                                     .opts_bytes = sizeof(struct eval_opts),
                                     .run = run};
