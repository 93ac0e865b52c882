#include "text/words.h"
#include <string.h>
#include "text/impl.h"

/* Per word: entry and index of the map, start and weight in training; per byte: the key, a symbol
 * and an occurrence, which grows as lists double.  Measured 18-24 bytes per byte on English. */
enum { WORD_COST = 80, BYTE_COST = 24, REPORT_BYTES = 1 << 22 };
#define DEFAULT_MAX_BYTES ((size_t)4 << 30)

int dan_train_progress(const struct dan_tok_train_opts *o, const char *stage, int64_t done, int64_t total, struct dan_err *e)
{
    if (!o->progress || o->progress(o->progress_ctx, stage, done, total)) return DAN_OK;
    return dan_fail(e, DAN_ECANCELLED, "tokenizer training cancelled; nothing was written");
}

size_t dan_train_special(const struct dan_tok_train_opts *o, const char *p, size_t n, size_t from, size_t *at)
{
    size_t best = 0;
    *at = n;
    for (size_t k = 0; k < dan_tok_n_special(o); k++) {
        const char *s = dan_tok_special(o, k), *hit = memmem(p + from, n - from, s, strlen(s));
        size_t i = hit ? (size_t)(hit - p) : n;
        if (!hit || i > *at || (i == *at && strlen(s) <= best)) continue;
        *at = i;
        best = strlen(s);
    }
    return best;
}

/* Gives up the rarest words until half of the memory is free again. */
static int prune(struct dan_words *w, struct dan_err *e)
{
    while (w->bytes > w->max_bytes / 2) {
        struct dan_map *keep = dan_map_new();
        size_t bytes = 0;
        w->floor++;
        for (size_t i = 0; keep && i < dan_map_count(w->count); i++) {
            const char *p;
            size_t n;
            int64_t uses;
            dan_map_at(w->count, i, &p, &n, &uses);
            if (uses <= w->floor) {
                w->stats.pruned_words++;
                w->stats.pruned_uses += uses;
            } else if (dan_map_put(keep, p, n, uses) == 0) bytes += WORD_COST + n * BYTE_COST;
            else {
                dan_map_free(keep);
                keep = NULL;
            }
        }
        if (!keep) return dan_fail(e, DAN_ENOMEM, "out of memory for %zu words; lower the memory bound", dan_map_count(w->count));
        dan_map_free(w->count);
        w->count = keep;
        w->bytes = bytes;
    }
    return DAN_OK;
}

static int count_word(struct dan_words *w, const char *p, size_t n, struct dan_err *e)
{
    int64_t *slot = dan_map_slot(w->count, p, n);
    if (!slot) return dan_fail(e, DAN_ENOMEM, "out of memory for %zu words; lower the memory bound", dan_map_count(w->count));
    w->stats.words++;
    if ((*slot)++ > 0) return DAN_OK;
    w->bytes += WORD_COST + n * BYTE_COST;
    return w->bytes > w->max_bytes ? prune(w, e) : DAN_OK;
}

static int count_text(struct dan_words *w, const struct dan_split *split, const char *p, size_t n, struct dan_err *e)
{
    for (size_t i = 0; i < n;) {
        size_t k = dan_split_next(split, p + i, n - i);
        int r = count_word(w, p + i, k, e);
        if (r) return r;
        i += k;
    }
    return DAN_OK;
}

/* Special tokens are never counted: they are there already. */
static int count_document(struct dan_words *w, const struct dan_split *split, const struct dan_tok_train_opts *o, const char *p, size_t n,
                          struct dan_err *e)
{
    w->stats.docs++;
    for (size_t i = 0, at; i < n;) {
        size_t k = dan_train_special(o, p, n, i, &at);
        int r = count_text(w, split, p + i, at - i, e);
        if (r) return r;
        i = at + k;
    }
    return DAN_OK;
}

int dan_words_count(struct dan_words *w, const struct dan_text_source *src, const struct dan_split *split,
                    const struct dan_tok_train_opts *o, struct dan_err *e)
{
    *w = (struct dan_words){.count = dan_map_new(), .max_bytes = o->max_bytes ? o->max_bytes : DEFAULT_MAX_BYTES};
    if (!w->count) return dan_fail(e, DAN_ENOMEM, "out of memory for the word table");
    int64_t reported = 0;
    for (;;) {
        const char *p = NULL;
        size_t n = 0;
        int r = src->next(src->ctx, &p, &n, e);
        if (r || !p) return r ? r : dan_train_progress(o, "read", w->stats.bytes, src->total, e);
        r = count_document(w, split, o, p, n, e);
        w->stats.bytes += (int64_t)n;
        if (!r && w->stats.bytes - reported >= REPORT_BYTES) {
            reported = w->stats.bytes;
            r = dan_train_progress(o, "read", w->stats.bytes, src->total, e);
        }
        if (r) return r;
    }
}

void dan_words_release(struct dan_words *w)
{
    dan_map_free(w->count);
    w->count = NULL;
}
