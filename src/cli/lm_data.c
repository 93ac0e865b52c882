/* Text -> tokenizer and token shards. */
#include "cli/lm_data.h"
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "data/text.h"

struct reading { struct dan_text *text; struct dan_bar bar; struct dan_cli *cli; const char *stage; bool open; };

static int next_document(void *ctx, const char **p, size_t *n, struct dan_err *e)
{
    struct dan_document doc;
    struct reading *r = ctx;
    int rc = dan_text_next(r->text, &doc, e);
    if (!rc) *p = doc.p;
    if (!rc) *n = doc.n;
    return rc;
}

static bool show(void *ctx, const char *stage, int64_t done, int64_t total)
{
    struct reading *r = ctx;
    if (!r->stage || strcmp(r->stage, stage)) {
        if (r->open) dan_bar_finish(&r->bar);
        dan_bar_start(&r->bar, &r->cli->ui, strcmp(stage, "read") ? "merges" : "count words", strcmp(stage, "read") ? "token" : "B", 0, total);
        r->open = true;
        r->stage = stage;
    }
    dan_bar_update(&r->bar, done, "%s", "");
    return !r->cli->stop;
}

static int train_tokenizer(struct dan_cli *cli, const struct lm_data_opts *o, struct dan_text *text, int64_t bytes, struct dan_tokenizer **tok, struct dan_err *e)
{
    struct reading r = {.text = text, .cli = cli};
    struct dan_text_source src = {next_document, &r, bytes};
    struct dan_tok_train_opts t = {.vocab_size = (int32_t)o->vocab, .progress = show, .progress_ctx = &r};
    struct dan_tok_train_stats stats = {0};
    int rc;
    if (strcmp(o->tokenizer, "bytes") == 0) return dan_tokenizer_new_bytes(NULL, tok, e);
    if (strcmp(o->tokenizer, "char") == 0) rc = dan_tokenizer_train_char(&src, &t, tok, &stats, e);
    else rc = dan_tokenizer_train_bpe(&src, &t, tok, &stats, e);
    if (r.open) dan_bar_finish(&r.bar);
    if (!rc && strcmp(o->tokenizer, "bpe") == 0 && dan_tokenizer_vocab_size(*tok) < o->vocab)
        dan_say(&cli->ui, "note     the text has only enough repeated pairs for a vocabulary of %d (asked for %lld)", dan_tokenizer_vocab_size(*tok), (long long)o->vocab);
    if (!rc && stats.pruned_words)
        dan_warn(&cli->ui, "%lld rare words were left out of the vocabulary's training to bound memory", (long long)stats.pruned_words);
    return rc;
}

static bool is_kind(const char *name) { return !strcmp(name, "bpe") || !strcmp(name, "char") || !strcmp(name, "bytes"); }

struct encoding { struct dan_tok_cache *cache; struct dan_ids ids; };

static int encode(void *ctx, const char *bytes, size_t n, struct dan_token_list *out, struct dan_err *e)
{
    struct encoding *x = ctx;
    x->ids.n = 0;
    int rc = dan_tok_cache_encode(x->cache, bytes, n, 0, &x->ids, e);
    if (rc) return rc;
    if (x->ids.failed || dan_vec_grow(&out->p, &out->cap, out->n + x->ids.n, sizeof *out->p)) return dan_fail(e, DAN_ENOMEM, "not enough memory to encode %zu bytes", n);
    memcpy(out->p + out->n, x->ids.v, sizeof *out->p * x->ids.n);
    out->n += x->ids.n;
    return DAN_OK;
}

static bool show_shards(void *ctx, int64_t done, int64_t total)
{
    struct reading *r = ctx;
    if (!r->open) dan_bar_start(&r->bar, &r->cli->ui, "encode", "B", 0, total);
    r->open = true;
    dan_bar_update(&r->bar, done, "%s", "");
    return !r->cli->stop;
}

static int write_shards(struct dan_cli *cli, const struct lm_data_opts *o, struct dan_text *text, const struct dan_tokenizer *tok, struct dan_err *e)
{
    struct encoding x = {0};
    struct reading r = {.text = text, .cli = cli};
    struct dan_shard_stats stats;
    struct dan_encoder enc = {encode, &x, dan_tokenizer_vocab_size(tok), dan_tokenizer_eos(tok), dan_tokenizer_hash(tok), 0};
    struct dan_shard_opts so = {.val_fraction = o->val_fraction, .seed = (uint64_t)cli->seed, .progress = show_shards, .progress_ctx = &r};
    int rc = dan_tok_cache_new(tok, &x.cache, e);
    if (!rc) rc = dan_shards_write(text, &enc, o->data_dir, &so, &stats, e);
    if (r.open) dan_bar_finish(&r.bar);
    dan_tok_cache_free(x.cache);
    dan_ids_release(&x.ids);
    return rc;
}

int lm_data_make(struct dan_cli *cli, const struct lm_data_opts *o, struct dan_tokenizer **tok, struct dan_err *e)
{
    struct dan_text_opts to = {.field = o->field, .allow_invalid = o->allow_invalid};
    struct dan_text_stats stats;
    struct dan_text *text = NULL;
    if (!is_kind(o->tokenizer) && !dan_path_exists(o->tokenizer))
        return dan_fail(e, DAN_EUSAGE, "there is no tokenizer '%s'; use char, bytes, bpe, or the folder of an existing one", o->tokenizer);
    int rc = dan_text_open(o->paths.v, o->paths.n, &to, &text, e);
    if (!rc) rc = dan_text_count(text, &stats, e);
    if (!rc && !is_kind(o->tokenizer)) rc = dan_tokenizer_load(o->tokenizer, tok, e);
    else if (!rc) rc = train_tokenizer(cli, o, text, stats.bytes, tok, e);
    if (!rc) dan_text_rewind(text);
    if (!rc) rc = dan_tokenizer_save(*tok, o->model_dir, e);
    if (!rc) rc = write_shards(cli, o, text, *tok, e);
    dan_text_free(text);
    return rc;
}
