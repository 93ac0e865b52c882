/* What training counts: distinct pre-tokens and how often each occurs. */
#ifndef DAN_TEXT_WORDS_H
#define DAN_TEXT_WORDS_H
#include "base/map.h"
#include "text/split.h"
#include "text/tokenizer.h"

struct dan_words {
    struct dan_map *count;                     /* in the order of first occurrence */
    size_t  bytes, max_bytes;                  /* estimate of what the words cost until the end of training */
    int64_t floor;                             /* words seen this often or less were given up */
    struct dan_tok_train_stats stats;
};

/* Reads the whole source.  Release with dan_words_release, also after a failure. */
int  dan_words_count(struct dan_words *w, const struct dan_text_source *src, const struct dan_split *split,
                     const struct dan_tok_train_opts *o, struct dan_err *e);
void dan_words_release(struct dan_words *w);

/* Calls o->progress; DAN_ECANCELLED when it says so. */
int  dan_train_progress(const struct dan_tok_train_opts *o, const char *stage, int64_t done, int64_t total, struct dan_err *e);
/* The first special token of the run at or after `from`: *at and its length, or 0 when there is none. */
size_t dan_train_special(const struct dan_tok_train_opts *o, const char *p, size_t n, size_t from, size_t *at);

#endif
