/* BPE over characters as SentencePiece trains it: the i-th merge has the score -i, characters follow. */
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/impl.h"
#include "text/learn.h"
#include "text/train_pieces.h"

static bool may_join(const void *ctx, const char *a, size_t n_a, const char *b, size_t n_b)
{
    int32_t cp[DAN_MOST_PIECE_CHARS + 1];
    const struct dan_sp_training *t = ctx;
    size_t n = 0;
    for (size_t i = 0; i < n_a && n <= t->most; n++) i += (size_t)dan_utf8_next(a + i, n_a - i, &cp[n]);
    for (size_t i = 0; i < n_b && n <= t->most; n++) i += (size_t)dan_utf8_next(b + i, n_b - i, &cp[n]);
    return dan_sp_valid(t, cp, n);
}

/* Symbols of a word's characters, -1 for what is not covered. */
static int word_symbols(const struct dan_sp_training *t, struct dan_learner *l, const char *p, size_t n, int32_t *sym, size_t *n_sym)
{
    size_t m = 0;
    for (size_t i = 0, len; i < n; i += len, m++) {
        int32_t cp;
        len = (size_t)dan_utf8_next(p + i, n - i, &cp);
        sym[m] = -1;
        if (dan_sp_covered(t, cp) && (sym[m] = dan_learner_symbol(l, p + i, len)) < 0) return -1;
    }
    *n_sym = m;
    return 0;
}

static int start(const struct dan_sp_training *t, struct dan_learner *l, struct dan_err *e)
{
    int32_t *sym = NULL;
    size_t cap = 0, n_sym = 0;
    int r = DAN_OK;
    for (size_t i = 0; i < t->n_chars && !r; i++) {
        char text[4];
        if (dan_learner_symbol(l, text, (size_t)dan_utf8_put(t->chars[i].cp, text)) < 0)
            r = dan_fail(e, DAN_ENOMEM, "out of memory for %zu characters", t->n_chars);
    }
    for (size_t k = 0; k < dan_map_count(t->words.count) && !r; k++) {
        const char *p;
        size_t n;
        int64_t uses;
        dan_map_at(t->words.count, k, &p, &n, &uses);
        if (dan_vec_grow(&sym, &cap, n + 1, sizeof *sym) || word_symbols(t, l, p, n, sym, &n_sym))
            r = dan_fail(e, DAN_ENOMEM, "out of memory for a word of %zu bytes", n);
        if (!r) r = dan_learner_word(l, sym, n_sym, uses, e);
    }
    dan_free(sym);
    return r;
}

/* The merges' texts in order, each once, then the characters. */
static int take_pieces(const struct dan_sp_training *t, const struct dan_learner *l, struct dan_pieces *to)
{
    int64_t first;
    for (size_t i = 0; i < l->n_merge; i++) {
        size_t n;
        const char *p = dan_learner_text(l, l->made[i], &n);
        if (!dan_map_get(l->known, p, n, &first) || first != l->made[i]) continue;       /* another pair made it before */
        if (dan_pieces_put(to, p, n, -(double)to->n)) return -1;
    }
    for (size_t i = 0; i < t->n_chars; i++) {
        char text[4];
        size_t n = (size_t)dan_utf8_put(t->chars[i].cp, text);
        if (dan_pieces_put(to, text, n, -(double)to->n)) return -1;
    }
    return 0;
}

int dan_tokenizer_train_spbpe(const struct dan_text_source *src, const struct dan_tok_train_opts *o, struct dan_tokenizer **out,
                              struct dan_tok_train_stats *stats, struct dan_err *e)
{
    struct dan_sp_training t;
    struct dan_learner l = {.by_text = true, .allowed = may_join, .allowed_ctx = &t};
    struct dan_pieces pieces = {0};
    int r = dan_sp_training_read(&t, src, o, e);
    if (!r) r = start(&t, &l, e);
    if (!r) r = dan_learner_run(&l, dan_sp_training_room(&t), o->min_pair_count > 0 ? o->min_pair_count : 1, o, &t.words.stats, e);
    if (!r && take_pieces(&t, &l, &pieces)) r = dan_fail(e, DAN_ENOMEM, "out of memory for the new tokenizer");
    if (!r) r = dan_sp_training_build(&t, DAN_SP_BPE, &pieces, out, e);
    if (!r && stats) *stats = t.words.stats;
    dan_pieces_release(&pieces);
    dan_learner_release(&l);
    dan_sp_training_release(&t);
    return r;
}
