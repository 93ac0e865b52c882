/* tokenizer.json in one pass.  A vocabulary of 150,000 tokens and as many merges cost a JSON tree 150 ms and more before anything is
 * known; here they come as views of the text, and the rest, a few kB, goes to jansson. */
#ifndef DAN_TEXT_JSON_FAST_H
#define DAN_TEXT_JSON_FAST_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/str.h"

struct dan_json_word { const char *p; size_t n; int64_t id; double score; };   /* model.vocab: {text: id}, or [[text, score], ...], id = position */
struct dan_json_merge { const char *p[2]; size_t n[2]; };                      /* model.merges: [a, b]; p[1] NULL: the text "a b" */

struct dan_json_fast {
    struct dan_json_word *word;
    struct dan_json_merge *merge;
    size_t n_words, n_merges;
    bool has_vocab, has_merges, scored;        /* scored: vocab is the list of pairs with scores */
    struct dan_str rest;                       /* the same file with an empty vocab and empty merges, to be parsed strictly */
    char *own;                                 /* texts that had escapes */
    size_t own_n, word_cap, merge_cap;
};

/* p[n]: the whole file; the views point into it.  False: something is unusual (damaged, a key twice, an id that is no plain
 * number, a name with escapes among the keys, out of memory) and jansson must read, or refuse, everything; *out is empty then.  What is
 * taken here is checked as strictly as jansson does: UTF-8, escapes, no control characters, no text twice. */
bool dan_json_fast(const char *p, size_t n, struct dan_json_fast *out);
void dan_json_fast_release(struct dan_json_fast *f);

#endif
