/* What training counts: distinct words and how often each occurs. */
#ifndef DAN_TEXT_WORDS_H
#define DAN_TEXT_WORDS_H
#include "base/map.h"
#include "text/split.h"
#include "text/tokenizer.h"
#include "text/word_key.h"

struct dan_words {
    struct dan_map *count;                     /* in the order of first occurrence */
    size_t  bytes, max_bytes;                  /* estimate of what the words cost until the end of training */
    int64_t floor;                             /* words seen this often or less were given up */
    struct dan_tok_train_stats stats;
};

/* The words of one thread and one batch of text, words_table.c. */
struct dan_word_seen {
    uint64_t lo, hi;                           /* dan_word_key; of more than 15 bytes: hash, and length with the top byte set */
    uint64_t first;                            /* where in the batch it was first seen */
    uint32_t count, at;                        /* at: in long_bytes */
};
struct dan_word_table {
    struct dan_word_seen *seen;
    size_t n, cap;
    uint32_t *slot;                            /* index + 1, 0 free */
    uint64_t mask;
    struct dan_str long_bytes;
    uint64_t next;                             /* `first` of the next word */
    struct dan_str room;                       /* for the cutter */
    bool failed;
};
/* n > 0 bytes at p; 16 bytes can be read there. */
void dan_word_table_put(struct dan_word_table *t, const char *p, size_t n);
void dan_word_table_clear(struct dan_word_table *t);           /* keeps the memory */
void dan_word_table_release(struct dan_word_table *t);
/* The bytes of a word, valid until the table changes. */
const char *dan_word_table_bytes(const struct dan_word_table *t, const struct dan_word_seen *w, size_t *n);

/* How text is cut into words.  Called by several threads at once. */
struct dan_cutter {
    const void *ctx;
    /* Puts the words of p[n] into the table; 16 bytes can be read behind them.  Out of memory sets t->failed. */
    void   (*cut)(const void *ctx, const char *p, size_t n, struct dan_word_table *t);
    /* The largest k, 0 < k < n, so that p[k] and p[n - k] alone have the words of the whole; 0: there is none. */
    size_t (*safe)(const void *ctx, const char *p, size_t n);
};
/* The pre-tokens of a pattern; split must outlive it. */
struct dan_cutter dan_cutter_of_split(const struct dan_split *split);

/* Reads the whole source, on the threads of o->pool; the result does not depend on their number.  Release with dan_words_release,
 * also after a failure. */
int  dan_words_count(struct dan_words *w, const struct dan_text_source *src, const struct dan_cutter *cutter,
                     const struct dan_tok_train_opts *o, struct dan_err *e);
void dan_words_release(struct dan_words *w);

/* Calls o->progress; DAN_ECANCELLED when it says so. */
int  dan_train_progress(const struct dan_tok_train_opts *o, const char *stage, int64_t done, int64_t total, struct dan_err *e);
/* The first special token of the run at or after `from`: *at and its length, or 0 when there is none. */
size_t dan_train_special(const struct dan_tok_train_opts *o, const char *p, size_t n, size_t from, size_t *at);

#endif
