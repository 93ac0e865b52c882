/* The loop that all kinds of BPE training share: the most frequent adjacent pair becomes a symbol, again and again. */
#ifndef DAN_TEXT_LEARN_H
#define DAN_TEXT_LEARN_H
#include "base/map.h"
#include "text/tokenizer.h"

struct dan_learn_pair;
struct dan_learn_candidate;
struct dan_learner {
    /* How pairs are chosen and joined; set before the first word. */
    bool    by_text;                           /* ties: fewest characters, then the lower text (SentencePiece), and two pairs that make one
                                                * text stay two symbols; else ties go to the lower ids (Hugging Face) */
    const char *strip;                         /* WordPiece: "##", taken off the right half where it begins with it; or NULL */
    /* May a and b be joined at all?  NULL: always. */
    bool  (*allowed)(const void *ctx, const char *a, size_t n_a, const char *b, size_t n_b);
    const void *allowed_ctx;

    int32_t  *sym;
    size_t    n_sym, sym_cap;
    int64_t  *weight;                          /* per word */
    size_t    n_word, word_cap;
    struct dan_learn_pair *pair;
    size_t    n_pair, pair_cap;
    uint32_t *slot;                            /* hash of pairs: index + 1, 0 free */
    uint64_t  slot_mask;
    struct dan_learn_candidate *heap;
    size_t    n_heap, heap_cap;
    uint32_t *gained;                          /* pairs that gained places in this merge */
    size_t    n_gained, gained_cap;
    struct dan_str bytes;                      /* of all symbols */
    size_t   *start;                           /* [n_tok + 1] into bytes */
    uint32_t *units;                           /* [n_tok] how many places of a word it takes */
    size_t    n_tok, start_cap, units_cap;
    size_t    n_text;                          /* different texts among the symbols */
    struct dan_map *known;                     /* bytes -> symbol, the first of that text */
    int32_t  *merge;                           /* [n_merge][2] symbols */
    int32_t  *made;                            /* [n_merge] what came out */
    size_t    n_merge, merge_cap, made_cap;
};

/* The symbol of n bytes that takes one place, made when it is new; -1: out of memory. */
int32_t dan_learner_symbol(struct dan_learner *l, const char *p, size_t n);
/* A word of n symbols of one place each, seen `weight` times. */
int  dan_learner_word(struct dan_learner *l, const int32_t *sym, size_t n, int64_t weight, struct dan_err *e);
/* Merges until there are n_texts different texts, or no pair occurs `least` times. */
int  dan_learner_run(struct dan_learner *l, size_t n_texts, int64_t least, const struct dan_tok_train_opts *o,
                     struct dan_tok_train_stats *s, struct dan_err *e);
void dan_learner_release(struct dan_learner *l);
static inline const char *dan_learner_text(const struct dan_learner *l, int32_t s, size_t *n)
{
    *n = l->start[s + 1] - l->start[s];
    return l->bytes.p + l->start[s];
}

#endif
