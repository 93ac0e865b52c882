/* All substrings of the words that occur twice or more, from a suffix array.  No piece is longer than `most` characters, so
 * suffixes need to be in order by their first most + 1 characters only: three-way radix quicksort (Bentley, Sedgewick 1997)
 * does that in O(n log n + n most), whatever the text. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/impl.h"
#include "text/train_unigram.h"

struct candidate { int64_t score; uint32_t at, n; };
struct node { uint32_t depth, at; int64_t uses; };              /* an open interval of suffixes that share `depth` characters */
struct seeds {
    const struct dan_sp_training *t;
    int32_t  *text;                            /* words one after the other, 0 behind each and for what is not covered */
    uint32_t *suffix, *word;                   /* word: where each begins, [n_word + 1] */
    int64_t  *uses;
    size_t    n, n_suffix, n_word, depth;
    struct candidate *best;
    size_t    n_best, cap, most;
};

static int read_words(struct seeds *s, struct dan_err *e)
{
    const struct dan_map *words = s->t->words.count;
    size_t total = 0, len;
    s->n_word = dan_map_count(words);
    for (size_t k = 0; k < s->n_word; k++, total += len + 1) dan_map_at(words, k, NULL, &len, NULL);
    if (total >= UINT32_MAX)
        return dan_fail(e, DAN_EINVAL, "too many different words: %zu bytes of them, at most 4 Gi; lower the memory bound", total);
    s->text = dan_malloc((total + 1) * sizeof *s->text);
    s->word = dan_malloc((s->n_word + 1) * sizeof *s->word);
    s->uses = dan_malloc((s->n_word + 1) * sizeof *s->uses);
    if (!s->text || !s->word || !s->uses) return dan_fail(e, DAN_ENOMEM, "out of memory for %zu words; lower the memory bound", s->n_word);
    for (size_t k = 0; k < s->n_word; k++) {
        const char *p;
        dan_map_at(words, k, &p, &len, &s->uses[k]);
        s->word[k] = (uint32_t)s->n;
        for (size_t i = 0; i < len;) {
            int32_t cp;
            i += (size_t)dan_utf8_next(p + i, len - i, &cp);
            s->text[s->n] = dan_sp_covered(s->t, cp) ? cp : 0;
            s->n_suffix += s->text[s->n++] != 0;
        }
        s->text[s->n++] = 0;
    }
    s->word[s->n_word] = (uint32_t)s->n;
    return DAN_OK;
}

/* --- the suffix array */
static void swap(uint32_t *a, size_t i, size_t j)
{
    uint32_t x = a[i];
    a[i] = a[j], a[j] = x;
}


static int32_t median(int32_t a, int32_t b, int32_t c)
{
    return a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
}

static int32_t pivot(const struct seeds *s, const uint32_t *a, size_t n, size_t d)
{
    const int32_t *x = s->text + d;
    size_t k = n / 8;
    if (n < 64) return median(x[a[0]], x[a[n / 2]], x[a[n - 1]]);
    return median(median(x[a[0]], x[a[k]], x[a[2 * k]]), median(x[a[3 * k]], x[a[4 * k]], x[a[5 * k]]),
                  median(x[a[6 * k]], x[a[7 * k]], x[a[n - 1]]));
}

/* Suffixes a[n] agree in their first d characters.  Depth of recursion: d, and log n, as the middle part goes on in the loop and
 * of the outer parts the larger. */
static void sort(const struct seeds *s, uint32_t *a, size_t n, size_t d)
{
    while (n > 1 && d < s->depth) {
        int32_t v = pivot(s, a, n, d);
        size_t i = 0, lt = 0, gt = n;
        while (i < gt) {
            int32_t c = s->text[a[i] + d];
            if (c < v) swap(a, lt++, i++);
            else if (c > v) swap(a, i, --gt);
            else i++;
        }
        size_t n_mid = gt - lt, n_right = n - gt;
        if (v != 0) sort(s, a + lt, n_mid, d + 1);
        if (lt < n_right) {
            sort(s, a, lt, d);
            a += gt, n = n_right;
        } else {
            sort(s, a + gt, n_right, d);
            n = lt;
        }
    }
}

static size_t common(const struct seeds *s, uint32_t x, uint32_t y)
{
    size_t k = 0;
    while (k < s->depth && s->text[x + k] && s->text[x + k] == s->text[y + k]) k++;
    return k;
}

/* --- candidates, the best `most` of them */
static int by_score(const void *x, const void *y)
{
    const struct candidate *a = x, *b = y;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return (a->at > b->at) - (a->at < b->at);
}

static int offer(struct seeds *s, uint32_t at, size_t n, int64_t uses)
{
    if (n < 2 || uses < 2 || !dan_sp_valid(s->t, s->text + at, n)) return 0;
    if (s->n_best >= 2 * s->most) {
        qsort(s->best, s->n_best, sizeof *s->best, by_score);
        s->n_best = s->most;
    }
    if (s->n_best == s->cap && dan_vec_grow(&s->best, &s->cap, s->n_best + 1, sizeof *s->best)) return -1;
    s->best[s->n_best++] = (struct candidate){uses * (int64_t)n, at, (uint32_t)n};
    return 0;
}

/* Uses of the word in which a suffix stands. */
static int64_t uses_at(const struct seeds *s, uint32_t at)
{
    size_t lo = 0, hi = s->n_word;
    while (hi - lo > 1) {
        size_t mid = (lo + hi) / 2;
        if (s->word[mid] <= at) lo = mid;
        else hi = mid;
    }
    return s->uses[lo];
}

/* Intervals of suffixes with a common prefix are the inner nodes of the suffix tree; the end of a word is a node too. */
static int collect(struct seeds *s)
{
    struct node *open = dan_malloc((s->depth + 2) * sizeof *open);
    size_t top = 0;
    int r = open ? 0 : -1;
    if (open) open[0] = (struct node){0};
    for (size_t i = 0; i < s->n_suffix && !r; i++) {
        uint32_t at = s->suffix[i];
        size_t share = i + 1 < s->n_suffix ? common(s, at, s->suffix[i + 1]) : 0, own = 0;
        while (own < s->depth && s->text[at + own]) own++;
        int64_t uses = uses_at(s, at);
        if (own > open[top].depth) open[++top] = (struct node){(uint32_t)own, at, uses};
        else open[top].uses += uses;
        while (!r && open[top].depth > share) {
            struct node done = open[top--];
            r = offer(s, done.at, done.depth, done.uses);
            if (open[top].depth < share) open[++top] = (struct node){(uint32_t)share, done.at, 0};
            open[top].uses += done.uses;
        }
    }
    dan_free(open);
    return r;
}

static int find(struct seeds *s, struct dan_err *e)
{
    s->suffix = dan_malloc((s->n_suffix + 1) * sizeof *s->suffix);
    if (!s->suffix) return dan_fail(e, DAN_ENOMEM, "out of memory for %zu characters of words; lower the memory bound", s->n);
    for (size_t i = 0, k = 0; i < s->n; i++)
        if (s->text[i]) s->suffix[k++] = (uint32_t)i;
    sort(s, s->suffix, s->n_suffix, 0);
    if (collect(s)) return dan_fail(e, DAN_ENOMEM, "out of memory for seeds; lower the memory bound");
    if (s->n_best) qsort(s->best, s->n_best, sizeof *s->best, by_score);
    if (s->n_best > s->most) s->n_best = s->most;
    return DAN_OK;
}

static int put(struct dan_pieces *out, const int32_t *cp, size_t n, int64_t score)
{
    char text[4 * DAN_MOST_PIECE_CHARS];
    size_t len = 0;
    for (size_t i = 0; i < n; i++) len += (size_t)dan_utf8_put(cp[i], text + len);
    return dan_pieces_put(out, text, len, (double)score);
}

int dan_unigram_seeds(const struct dan_sp_training *t, size_t most, struct dan_pieces *out, struct dan_err *e)
{
    struct seeds s = {.t = t, .depth = t->most + 1, .most = most > t->n_chars ? most - t->n_chars : 0};
    double sum = 0;
    int failed = 0, r = read_words(&s, e);
    if (!r && s.most) r = find(&s, e);
    for (size_t i = 0; i < t->n_chars && !r; i++) failed |= put(out, &t->chars[i].cp, 1, t->chars[i].count);
    for (size_t i = 0; i < s.n_best && !r; i++) failed |= put(out, s.text + s.best[i].at, s.best[i].n, s.best[i].score);
    for (size_t i = 0; i < out->n; i++) sum += out->v[i].score;
    for (size_t i = 0; i < out->n; i++) out->v[i].score = log(out->v[i].score / sum);
    void *const owned[] = {s.text, s.suffix, s.word, s.uses, s.best};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) dan_free(owned[i]);
    return failed ? dan_fail(e, DAN_ENOMEM, "out of memory for seeds; lower the memory bound") : r;
}
