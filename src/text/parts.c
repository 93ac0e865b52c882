#include <string.h>
#include "base/mem.h"
#include "text/impl.h"

/* raw holds the longest merge. */
static int parts_pairs(const struct dan_tokenizer *t, const struct dan_tokenizer_parts *p, int32_t *pair, char *raw, struct dan_err *e)
{
    for (size_t r = 0; r < p->n_merges; r++) {
        const char *m = p->merge[r], *space = strchr(m, ' ');
        pair[2 * r] = space ? dan_tok_id_of(t, m, (size_t)(space - m), raw) : -1;
        pair[2 * r + 1] = space ? dan_tok_id_of(t, space + 1, strlen(space + 1), raw) : -1;
        if (pair[2 * r] < 0 || pair[2 * r + 1] < 0)
            return dan_fail(e, DAN_EFORMAT, "merge %zu '%.80s' is not two tokens of the vocabulary; the file is damaged", r, m);
    }
    return DAN_OK;
}

static size_t longest(const struct dan_tokenizer_parts *p)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n_merges; i++) n = strlen(p->merge[i]) > n ? strlen(p->merge[i]) : n;
    return n;
}

static int parts_merges(struct dan_tokenizer *t, const struct dan_tokenizer_parts *p, struct dan_err *e)
{
    int32_t *pair = dan_malloc((p->n_merges + 1) * 2 * sizeof *pair);
    char *raw = dan_malloc(longest(p) + 1);
    int r = pair && raw ? parts_pairs(t, p, pair, raw, e) : dan_fail(e, DAN_ENOMEM, "out of memory for %zu merges", p->n_merges);
    dan_free(raw);
    if (!r) return dan_tok_set_merges(t, pair, p->n_merges, "merges", e);
    dan_free(pair);
    return r;
}

static int parts_vocab(struct dan_tokenizer *t, const struct dan_tokenizer_parts *p, struct dan_err *e)
{
    size_t total = 0;
    for (size_t i = 0; i < p->n; i++) total += strlen(p->token[i]);
    struct dan_tok_entry *entry = dan_calloc(p->n + 1, sizeof *entry);
    char *raw = dan_malloc(total + 1), *at = raw;
    int r = entry && raw ? DAN_OK : dan_fail(e, DAN_ENOMEM, "out of memory for a vocabulary of %zu tokens", p->n);
    for (size_t i = 0; i < p->n && !r; i++) {
        size_t n = strlen(p->token[i]);
        uint8_t added = p->added ? p->added[i] : 0;
        if (added) entry[i] = (struct dan_tok_entry){p->token[i], n, n ? added : 0};
        else entry[i] = (struct dan_tok_entry){at, dan_alphabet_get(p->token[i], n, at), 0};
        at += entry[i].added ? 0 : entry[i].n;
    }
    if (!r) r = dan_tok_set_vocab(t, entry, p->n, e);
    dan_free(entry);
    dan_free(raw);
    return r;
}

int dan_tokenizer_from_parts(const struct dan_tokenizer_parts *p, struct dan_tokenizer **out, struct dan_err *e)
{
    const struct dan_split *split = dan_split_named(p->split ? p->split : "gpt2");
    if (!split)
        return dan_fail(e, DAN_EUNSUPPORTED, "pre-tokenizer '%s' is not supported yet; danlu knows gpt2, gpt2-digits, llama3, qwen2, qwen35, o200k and tekken",
                        p->split);
    struct dan_tokenizer *t = dan_tok_new(&dan_tok_bpe);
    if (!t) return dan_fail(e, DAN_ENOMEM, "out of memory for a tokenizer");
    t->split = *split;
    t->split.classes = dan_classes_new(&t->split);
    t->nfc = strcmp(split->name, "qwen2") == 0 || strcmp(split->name, "qwen35") == 0;
    t->ignore_merges = strcmp(split->name, "llama3") == 0;          /* GGUF does not say; Llama 3's own file does */
    int r = t->split.classes ? parts_vocab(t, p, e) : dan_fail(e, DAN_ENOMEM, "out of memory for a tokenizer");
    if (!r) r = parts_merges(t, p, e);
    if (!r) r = dan_bpe_prepare(t, e);
    if (!r && p->chat_template && !(t->chat_template = dan_strdup(p->chat_template))) r = dan_fail(e, DAN_ENOMEM, "out of memory");
    if (r) {
        dan_tokenizer_free(t);
        return r;
    }
    t->bos = p->bos;
    t->eos = p->eos;
    dan_tok_finish(t);
    *out = t;
    return DAN_OK;
}
