/* Unigram training (Kudo 2018): far too many pieces at first, then expectation and maximisation, and those go without which the text
 * stays nearly as likely, until the vocabulary has its size.  Constants and order as in SentencePiece. */
#include "text/train_unigram.h"
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/impl.h"

enum { SEEDS = 1000000, SUB_ITERATIONS = 2 };
static const double SHRINK = 0.75, HEADROOM = 1.1, CHAR_STEP = 0.0001;

static int shrink(struct dan_em *m, struct dan_pieces *p, size_t room, const struct dan_tok_train_opts *o, struct dan_err *e)
{
    size_t want = (size_t)((double)room * HEADROOM);
    int64_t seeds = (int64_t)p->n, total = seeds > (int64_t)want ? seeds - (int64_t)want : 0;
    double objective;
    for (;;) {
        int r = dan_train_progress(o, "prune", seeds - (int64_t)p->n < total ? seeds - (int64_t)p->n : total, total, e);
        for (int i = 0; i < SUB_ITERATIONS && !r; i++) {
            r = dan_em_round(m, p, &objective, e);
            if (!r) r = dan_train_progress(o, "prune", seeds - (int64_t)p->n < total ? seeds - (int64_t)p->n : total, total, e);
        }
        if (r) return r;
        if (p->n <= want) return dan_train_progress(o, "prune", total, total, e);
        size_t next = (size_t)((double)p->n * SHRINK), had = p->n;
        r = dan_em_prune(m, p, next > want ? next : want, e);
        if (r) return r;
        if (p->n == had) return DAN_OK;        /* nothing can go */
    }
}

static double least_score(const struct dan_pieces *p)
{
    double least = 0;
    for (size_t i = 0; i < p->n; i++) least = p->v[i].score < least ? p->v[i].score : least;
    return least;
}

/* All characters, then what scores highest. */
static int choose(const struct dan_sp_training *t, const struct dan_pieces *from, struct dan_pieces *to)
{
    size_t room = dan_sp_training_room(t), n;
    double least = least_score(from), penalty = 0;
    struct dan_map *index = dan_map_new();
    int failed = !index;
    for (size_t i = 0; i < from->n && !failed; i++)
        failed = dan_map_put(index, from->bytes.p + from->v[i].at, from->v[i].n, (int64_t)i) != 0;
    for (size_t i = 0; i < t->n_chars && !failed; i++) {
        char text[4];
        int64_t k;
        n = (size_t)dan_utf8_put(t->chars[i].cp, text);
        if (dan_map_get(index, text, n, &k)) failed = dan_pieces_put(to, text, n, from->v[k].score);
        else {
            failed = dan_pieces_put(to, text, n, least + penalty);
            penalty += CHAR_STEP;
        }
    }
    for (size_t i = 0; i < from->n && to->n < room && !failed; i++) {
        const char *p = from->bytes.p + from->v[i].at;
        int32_t cp;
        if ((size_t)dan_utf8_next(p, from->v[i].n, &cp) < from->v[i].n) failed = dan_pieces_put(to, p, from->v[i].n, from->v[i].score);
    }
    dan_map_free(index);
    return failed ? failed : dan_pieces_sort(to);
}

static int train(struct dan_sp_training *t, const struct dan_tok_train_opts *o, struct dan_tokenizer **out, struct dan_err *e)
{
    struct dan_pieces seeds = {0}, final = {0};
    struct dan_em *m = NULL;
    size_t room = dan_sp_training_room(t), n_seeds = o->seeds > 0 ? (size_t)o->seeds : SEEDS;
    if (n_seeds < 2 * room) n_seeds = 2 * room;
    if (n_seeds > DAN_TRIE_MOST)
        return dan_fail(e, DAN_EINVAL, "%zu seeds are too many; at most %d, and at least twice the vocabulary", n_seeds, (int)DAN_TRIE_MOST);
    int r = dan_train_progress(o, "seed", 0, 0, e);
    if (!r) r = dan_unigram_seeds(t, n_seeds, &seeds, e);
    if (!r) r = dan_em_new(&t->words, o->pool, &m, e);
    if (!r) r = shrink(m, &seeds, room, o, e);
    if (!r && (dan_pieces_sort(&seeds) || choose(t, &seeds, &final))) r = dan_fail(e, DAN_ENOMEM, "out of memory for the new tokenizer");
    if (!r) r = dan_sp_training_build(t, DAN_SP_UNIGRAM, &final, out, e);
    dan_em_free(m);
    dan_pieces_release(&seeds);
    dan_pieces_release(&final);
    return r;
}

int dan_tokenizer_train_unigram(const struct dan_text_source *src, const struct dan_tok_train_opts *o, struct dan_tokenizer **out,
                                struct dan_tok_train_stats *stats, struct dan_err *e)
{
    struct dan_sp_training t;
    int r = dan_sp_training_read(&t, src, o, e);
    if (!r) r = train(&t, o, out, e);
    if (!r && stats) *stats = t.words.stats;
    dan_sp_training_release(&t);
    return r;
}
