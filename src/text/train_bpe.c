/* Training byte-level BPE.  The alphabet is the 256 bytes, in the order of their names in GPT-2's alphabet. */
#include <string.h>
#include "base/mem.h"
#include "text/impl.h"
#include "text/learn.h"
#include "text/words.h"

static int lay_bytes(struct dan_learner *l, int32_t sym_of[256])
{
    unsigned char order[256];
    dan_alphabet_order(order);
    for (int i = 0; i < 256; i++) {
        char c = (char)order[i];
        if (dan_learner_symbol(l, &c, 1) != i) return -1;
        sym_of[order[i]] = i;
    }
    return 0;
}

static int start_learner(struct dan_learner *l, const struct dan_words *w, struct dan_err *e)
{
    int32_t sym_of[256], *sym = NULL;
    size_t cap = 0;
    int r = lay_bytes(l, sym_of) == 0 ? DAN_OK : dan_fail(e, DAN_ENOMEM, "out of memory for an alphabet");
    for (size_t k = 0; k < dan_map_count(w->count) && !r; k++) {
        const char *p;
        size_t n;
        int64_t uses;
        dan_map_at(w->count, k, &p, &n, &uses);
        if (dan_vec_grow(&sym, &cap, n + 1, sizeof *sym)) r = dan_fail(e, DAN_ENOMEM, "out of memory for a word of %zu bytes", n);
        for (size_t i = 0; i < n && !r; i++) sym[i] = sym_of[(unsigned char)p[i]];
        if (!r) r = dan_learner_word(l, sym, n, uses, e);
    }
    dan_free(sym);
    return r;
}

/* --- the tokenizer that comes out */
static int make_tokenizer(struct dan_learner *l, const struct dan_split *split, const struct dan_tok_train_opts *o, struct dan_tokenizer **out,
                          struct dan_err *e)
{
    size_t n_special = dan_tok_n_special(o), n = l->n_tok + n_special;
    struct dan_tokenizer *t = dan_tok_new(&dan_tok_bpe);
    struct dan_tok_entry *entry = dan_calloc(n, sizeof *entry);
    if (t) t->split = *split;
    int r = DAN_OK;
    if (!t || !entry || !(t->split.classes = dan_classes_new(&t->split))) r = dan_fail(e, DAN_ENOMEM, "out of memory for the new tokenizer");
    for (size_t i = 0; i < n && !r; i++) {
        if (i < l->n_tok) entry[i] = (struct dan_tok_entry){l->bytes.p + l->start[i], l->start[i + 1] - l->start[i], 0};
        else entry[i] = (struct dan_tok_entry){dan_tok_special(o, i - l->n_tok), strlen(dan_tok_special(o, i - l->n_tok)), 1};
    }
    if (!r) r = dan_tok_set_vocab(t, entry, n, e);
    if (!r) r = dan_tok_set_merges(t, l->merge, l->n_merge, "training", e), l->merge = NULL;
    dan_free(entry);
    if (r) {
        dan_tokenizer_free(t);
        return r;
    }
    t->bos = t->eos = dan_tokenizer_find_special(t, DAN_END_OF_TEXT);
    dan_tok_finish(t);
    *out = t;
    return DAN_OK;
}

static int check_opts(const struct dan_tok_train_opts *o, struct dan_split *split, struct dan_err *e)
{
    int r = dan_tok_check_special(o, e);
    if (r) return r;
    size_t least = 256 + dan_tok_n_special(o);
    if (o->vocab_size < (int32_t)least)
        return dan_fail(e, DAN_EINVAL, "vocabulary of %d is too small; byte-level BPE needs at least %zu (256 bytes, %zu special "
                        "tokens)", o->vocab_size, least, least - 256);
    const struct dan_split *s = dan_split_named(o->split ? o->split : "gpt2");
    if (!s) return dan_fail(e, DAN_EINVAL, "unknown split '%s'; use gpt2, gpt2-digits, llama3, qwen2, qwen35, o200k or tekken", o->split);
    *split = *s;
    split->classes = dan_classes_new(split);
    return split->classes ? DAN_OK : dan_fail(e, DAN_ENOMEM, "out of memory for training a tokenizer");
}

int dan_tokenizer_train_bpe(const struct dan_text_source *src, const struct dan_tok_train_opts *o, struct dan_tokenizer **out,
                            struct dan_tok_train_stats *stats, struct dan_err *e)
{
    struct dan_split split = {0};
    struct dan_words words = {0};
    struct dan_learner l = {0};
    int r = check_opts(o, &split, e);
    struct dan_cutter cutter = dan_cutter_of_split(&split);
    if (!r) r = dan_words_count(&words, src, &cutter, o, e);
    if (!r && words.stats.distinct == 0) r = dan_fail(e, DAN_EINVAL, "no text to train a tokenizer on; give files with text");
    if (!r) r = start_learner(&l, &words, e);
    dan_words_release(&words);
    if (!r) r = dan_learner_run(&l, (size_t)o->vocab_size - dan_tok_n_special(o), o->min_pair_count > 0 ? o->min_pair_count : 2, o,
                                &words.stats, e);
    if (!r) r = make_tokenizer(&l, &split, o, out, e);
    if (stats && !r) *stats = words.stats;
    dan_learner_release(&l);
    dan_free((void *)(uintptr_t)split.classes);
    return r;
}
