/* Text comes in batches, cut where words cannot be joined; the threads count the parts in tables of their own, and after each batch the
 * words go into one table in the order of their first occurrence.  So the order, and what is given up when memory runs
 * short, do not depend on the number of threads. */
#include "text/words.h"
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/threads.h"
#include "text/impl.h"

/* Per word: entry and index of the map, start and weight in training; per byte: the key, a symbol
 * and an occurrence, which grows as lists double.  Measured 18-24 bytes per byte on English. */
enum { WORD_COST = 80, BYTE_COST = 24 };
#define DEFAULT_MAX_BYTES ((size_t)4 << 30)
/* A batch holds so many bytes unless one part is longer; parts are what a thread takes. */
enum { LEAST_BATCH = 1 << 16, MOST_BATCH = 1 << 24, PART = 1 << 16 };

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

/* --- the pre-tokens of a pattern */
static void cut_split(const void *ctx, const char *p, size_t n, struct dan_word_table *t)
{
    size_t end[256], at = 0;
    while (at < n && !t->failed) {
        size_t base = at, k = dan_split_many(ctx, p + at, n - at, end, sizeof end / sizeof end[0]);
        for (size_t i = 0; i < k; i++) {
            dan_word_table_put(t, p + at, base + end[i] - at);
            at = base + end[i];
        }
    }
}

/* A space or newline behind a letter begins a pre-token in every pattern, and none looks back. */
static size_t safe_split(const void *ctx, const char *p, size_t n)
{
    const struct dan_split *s = ctx;
    for (size_t k = n - 1; k > 0; k--) {
        if (p[k] != ' ' && p[k] != '\n') continue;
        size_t from = k - 1, len;
        while (from > 0 && k - from < 4 && ((unsigned char)p[from] & 0xC0) == 0x80) from--;
        if (dan_class_at(s->classes, p + from, k - from, &len) == DAN_CLASS_LETTER && len == k - from) return k;
    }
    return 0;
}

struct dan_cutter dan_cutter_of_split(const struct dan_split *split) { return (struct dan_cutter){split, cut_split, safe_split}; }

/* --- the table of all words */

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

static int count_word(struct dan_words *w, const char *p, size_t n, int64_t times, struct dan_err *e)
{
    int64_t *slot = dan_map_slot(w->count, p, n);
    if (!slot) return dan_fail(e, DAN_ENOMEM, "out of memory for %zu words; lower the memory bound", dan_map_count(w->count));
    w->stats.words += times;
    *slot += times;
    if (*slot > times) return DAN_OK;
    w->bytes += WORD_COST + n * BYTE_COST;
    return w->bytes > w->max_bytes ? prune(w, e) : DAN_OK;
}

/* --- batches */
struct part { size_t at, n; };
struct batch {
    struct dan_words *w;
    const struct dan_cutter *cutter;
    const struct dan_tok_train_opts *o;
    struct dan_str text;
    size_t  full;                              /* bytes at which it is counted */
    struct part *part;
    size_t  n_part, part_cap, taken;
    struct dan_word_table *table;              /* [n_threads] */
    int     n_threads;
};

static void count_parts(void *ctx, int ith, int nth)
{
    struct batch *b = ctx;
    struct dan_word_table *t = &b->table[ith];
    (void)nth;
    for (size_t i; (i = __atomic_fetch_add(&b->taken, 1, __ATOMIC_RELAXED)) < b->n_part && !t->failed;) {
        t->next = (uint64_t)i << 32;
        b->cutter->cut(b->cutter->ctx, b->text.p + b->part[i].at, b->part[i].n, t);
    }
}

struct met { uint64_t first; uint32_t table, index; };

static int by_first(const void *x, const void *y)
{
    uint64_t a = ((const struct met *)x)->first, b = ((const struct met *)y)->first;
    return (a > b) - (a < b);
}

static int take_words(struct batch *b, struct dan_err *e)
{
    size_t n = 0, m = 0;
    for (int t = 0; t < b->n_threads; t++) {
        if (b->table[t].failed) return dan_fail(e, DAN_ENOMEM, "out of memory for the words of %zu bytes of text", b->text.n);
        n += b->table[t].n;
    }
    struct met *met = dan_malloc((n + 1) * sizeof *met);
    if (!met) return dan_fail(e, DAN_ENOMEM, "out of memory for %zu words", n);
    for (int t = 0; t < b->n_threads; t++)
        for (size_t i = 0; i < b->table[t].n; i++) met[m++] = (struct met){b->table[t].seen[i].first, (uint32_t)t, (uint32_t)i};
    qsort(met, n, sizeof *met, by_first);
    int r = DAN_OK;
    for (size_t i = 0; i < n && !r; i++) {
        const struct dan_word_table *t = &b->table[met[i].table];
        const struct dan_word_seen *seen = &t->seen[met[i].index];
        size_t len;
        const char *p = dan_word_table_bytes(t, seen, &len);
        r = count_word(b->w, p, len, seen->count, e);
    }
    dan_free(met);
    return r;
}

static int count_batch(struct batch *b, int64_t total, struct dan_err *e)
{
    static const char padding[DAN_WORD_MOST + 1];
    dan_str_append(&b->text, padding, sizeof padding);
    if (b->text.failed) return dan_fail(e, DAN_ENOMEM, "out of memory for %zu bytes of text", b->text.n);
    b->taken = 0;
    if (b->n_part) dan_pool_run(b->o->pool, count_parts, b);
    int r = take_words(b, e);
    for (int t = 0; t < b->n_threads; t++) dan_word_table_clear(&b->table[t]);
    dan_str_clear(&b->text);
    b->n_part = 0;
    return r ? r : dan_train_progress(b->o, "read", b->w->stats.bytes, total, e);
}

/* How much of p[n] is one part. */
static size_t part_of(const struct dan_cutter *c, const char *p, size_t n)
{
    for (size_t take = PART; take < n; take *= 2) {
        size_t k = c->safe(c->ctx, p, take);
        if (k) return k;
    }
    return n;
}

static int put_text(struct batch *b, const char *p, size_t n, int64_t total, struct dan_err *e)
{
    for (size_t i = 0, k; i < n; i += k) {
        k = part_of(b->cutter, p + i, n - i);
        if (k > UINT32_MAX / 2)
            return dan_fail(e, DAN_EINVAL, "a document has %zu bytes in which no word ends; cut it into parts of at most 2 GiB", k);
        if (dan_vec_grow(&b->part, &b->part_cap, b->n_part + 1, sizeof *b->part)) return dan_fail(e, DAN_ENOMEM, "out of memory for a text");
        b->part[b->n_part++] = (struct part){b->text.n, k};
        dan_str_append(&b->text, p + i, k);
        int r = b->text.n >= b->full ? count_batch(b, total, e) : DAN_OK;
        if (r) return r;
    }
    return DAN_OK;
}

/* Special tokens are never counted: they are there already. */
static int put_document(struct batch *b, const char *p, size_t n, int64_t total, struct dan_err *e)
{
    int r = DAN_OK;
    b->w->stats.docs++;
    b->w->stats.bytes += (int64_t)n;
    for (size_t i = 0, at; i < n && !r;) {
        size_t k = dan_train_special(b->o, p, n, i, &at);
        r = put_text(b, p + i, at - i, total, e);
        i = at + k;
    }
    return r;
}

static int read_source(struct batch *b, const struct dan_text_source *src, struct dan_err *e)
{
    for (;;) {
        const char *p = NULL;
        size_t n = 0;
        int r = src->next(src->ctx, &p, &n, e);
        if (!r && !p) return count_batch(b, src->total, e);
        if (!r) r = put_document(b, p, n, src->total, e);
        if (r) return r;
    }
}

static size_t batch_bytes(size_t max_bytes)
{
    size_t n = max_bytes / 64;
    return n < LEAST_BATCH ? LEAST_BATCH : n > MOST_BATCH ? MOST_BATCH : n;
}

int dan_words_count(struct dan_words *w, const struct dan_text_source *src, const struct dan_cutter *cutter,
                    const struct dan_tok_train_opts *o, struct dan_err *e)
{
    *w = (struct dan_words){.count = dan_map_new(), .max_bytes = o->max_bytes ? o->max_bytes : DEFAULT_MAX_BYTES};
    struct batch b = {.w = w, .cutter = cutter, .o = o, .full = batch_bytes(w->max_bytes),
                      .n_threads = o->pool ? dan_pool_size(o->pool) : 1};
    b.table = dan_calloc((size_t)b.n_threads, sizeof *b.table);
    int r = w->count && b.table ? read_source(&b, src, e) : dan_fail(e, DAN_ENOMEM, "out of memory for the word table");
    for (int t = 0; b.table && t < b.n_threads; t++) dan_word_table_release(&b.table[t]);
    dan_free(b.table);
    dan_free(b.part);
    dan_str_release(&b.text);
    w->stats.distinct = w->count ? (int64_t)dan_map_count(w->count) : 0;
    return r;
}

void dan_words_release(struct dan_words *w)
{
    dan_map_free(w->count);
    w->count = NULL;
}
