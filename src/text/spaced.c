#include "text/spaced.h"
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/known_words.h"

enum { MANY = 64, WORD_MOST = DAN_WORD_MOST - 1 };     /* parts at a time; bytes of a word without its space */
static const char SPACE[] = "\xe2\x96\x81";

struct dan_spaced {
    uint8_t plain[256];
    bool any;
    struct dan_known_words known;
};

/* --- making */

static bool is_plain(const struct dan_spaced *w, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!w->plain[(unsigned char)p[i]]) return false;
    return n > 0;
}

/* hi 0: the piece is no space with a plain word. */
static struct dan_word_key word_key(const struct dan_spaced *w, const struct dan_tok_spec *s, size_t i)
{
    char copy[16] = {' '};
    const char *p = s->bytes.p + s->piece[i].at;
    size_t n = s->piece[i].flags & DAN_PIECE_MODEL ? s->piece[i].n : 0;
    if (n <= 3 || n - 3 > WORD_MOST || memcmp(p, SPACE, 3) != 0 || !is_plain(w, p + 3, n - 3)) return (struct dan_word_key){0, 0};
    memcpy(copy + 1, p + 3, n - 3);
    return dan_word_key(copy, n - 2);
}

int dan_spaced_new(const struct dan_tok_spec *s, const struct dan_spaced_rules *rules, struct dan_spaced **out, struct dan_err *e)
{
    size_t n = 0;
    struct dan_spaced *w = dan_calloc(1, sizeof *w);
    for (int c = 0; c < 128 && w; c++) w->plain[c] = rules->plain[c] && c != ' ';
    for (size_t i = 0; i < s->n && w; i++) n += word_key(w, s, i).hi != 0;
    if (!w || dan_known_init(&w->known, n)) {
        dan_free(w);
        return dan_fail(e, DAN_ENOMEM, "out of memory for the words of %zu pieces", s->n);
    }
    w->any = rules->any;
    for (size_t i = 0; i < s->n; i++) {
        struct dan_word_key k = word_key(w, s, i);
        if (k.hi) dan_known_put(&w->known, k, (int32_t)i);
    }
    *out = w;
    return DAN_OK;
}

void dan_spaced_free(struct dan_spaced *w)
{
    if (!w) return;
    dan_known_release(&w->known);
    dan_free(w);
}

/* --- cutting */

static inline bool plain_at(const struct dan_spaced *w, const char *p, size_t i) { return w->plain[(unsigned char)p[i]]; }

/* Is before the space p[i], which is not the last byte, a cut?  What begins with U+0300 or above (0xCC) may take the character behind the space
 * with it, and a later step both. */
static inline bool is_cut(const struct dan_spaced *w, const char *p, size_t n, size_t i)
{
    if (!plain_at(w, p, i - 1)) return false;
    return w->any || (plain_at(w, p, i + 1) && (i + 2 >= n || (unsigned char)p[i + 2] < 0xCC));
}

/* Where bytes are no UTF-8, a model may take as many for a character as the first of them announces: does one reach across p[i]?  Only where nothing
 * is taken away (any): else such a text is not cut at all. */
static bool is_inside(const char *p, size_t i)
{
    return (i >= 2 && (unsigned char)p[i - 2] >= 0xE0) || (i >= 3 && (unsigned char)p[i - 3] >= 0xF0);
}

/* The first cut at i or behind, i > 0; n: none. */
static size_t next_cut(const struct dan_spaced *w, const char *p, size_t n, size_t i)
{
    const char *space;
    for (; i + 1 < n && (space = memchr(p + i, ' ', n - 1 - i)) != NULL; i++) {
        i = (size_t)(space - p);
        if (is_cut(w, p, n, i) && !is_inside(p, i)) return i;
    }
    return n;
}

struct batch { size_t n, from[MANY + 1]; struct dan_word_key key[MANY]; bool plain[MANY]; };      /* hi 0: too long for a key */

/* Where the part that begins with the space p[at] ends. */
static inline size_t part_end(const struct dan_spaced *w, const char *p, size_t n, size_t at, bool *plain)
{
    size_t i = at + 1;
    while (i < n && plain_at(w, p, i)) i++;
    *plain = i > at + 1 && (i == n || (p[i] == ' ' && i + 1 < n && is_cut(w, p, n, i)));
    return *plain ? i : next_cut(w, p, n, i);
}

static inline struct dan_word_key key_at(const char *p, size_t n, size_t at, size_t len)
{
    char copy[16] = {0};
    if (len > DAN_WORD_MOST) return (struct dan_word_key){0, 0};
    if (n - at >= sizeof copy) return dan_word_key(p + at, len);
    memcpy(copy, p + at, len);
    return dan_word_key(copy, len);
}

/* The parts from `at` on, and the places of their keys on the way to the processor. */
static void gather(const struct dan_spaced *w, const struct dan_tok_cache *cache, const char *p, size_t n, size_t at, struct batch *b)
{
    for (b->n = 0; at < n && b->n < MANY; b->n++) {
        size_t end = part_end(w, p, n, at, &b->plain[b->n]);
        struct dan_word_key k = key_at(p, n, at, end - at);
        b->key[b->n] = k;
        b->from[b->n] = at;
        at = end;
        if (!k.hi) continue;
        if (cache) __builtin_prefetch(dan_cache_set(cache, k));
        else if (b->plain[b->n]) __builtin_prefetch(&w->known.slot[dan_known_first(&w->known, k)]);
    }
    b->from[b->n] = at;
}

/* --- encoding */

struct run {
    const struct dan_spaced *w;
    const struct dan_spaced_model *m;
    struct dan_tok_cache *cache;
    const char *p;
    size_t n;
    struct dan_ids *out;
    struct dan_err *e;
};

static bool take(const struct run *r, const int32_t *id, size_t n)
{
    if (!n || (r->m->pass && !r->m->pass(r->m->ctx, id, n))) return false;
    memcpy(r->out->v + r->out->n, id, n * sizeof *id);
    r->out->n += n;
    return true;
}

static inline bool remembered(const struct run *r, struct dan_word_key k, bool plain)
{
    const int32_t *id;
    int32_t one;
    if (!k.hi) return false;
    if (r->cache) {
        size_t m = dan_cache_find(r->cache, k, &id);
        return take(r, id, m);
    }
    return plain && dan_known_own(&r->w->known, k, &one) && take(r, &one, 1);
}

static int encode_part(const struct run *r, size_t from, size_t to, struct dan_word_key k, bool plain)
{
    size_t before = r->out->n;
    bool word = plain && k.hi, sure = !r->m->pass && (plain || to < r->n);
    int bad = word ? r->m->word(r->m->ctx, r->p + from, to - from, &sure, r->e) : r->m->part(r->m->ctx, r->p + from, to - from, false, r->e);
    if (bad || !k.hi || r->out->failed) return bad;
    const int32_t *id = r->out->v + before;
    if (word) dan_known_learn(&r->w->known, k, id, sure ? r->out->n - before : 0);
    if (r->cache && sure) dan_cache_put(r->cache, k, id, r->out->n - before);
    return DAN_OK;
}

int dan_spaced_encode(const struct dan_spaced *w, const struct dan_spaced_model *m, struct dan_tok_cache *cache, const char *p, size_t n,
                      struct dan_ids *out, struct dan_err *e)
{
    struct run r = {w, m, cache, p, n, out, e};
    struct batch b;
    bool cuts = w->any || dan_utf8_check(p, n) == n;       /* what is no character may come near to a space when others fall away */
    size_t at = !n ? 0 : cuts ? next_cut(w, p, n, 1) : n;
    int bad = m->part(m->ctx, p, at, true, e);
    for (; at < n && !bad && !out->failed; at = b.from[b.n]) {
        gather(w, cache, p, n, at, &b);
        for (size_t i = 0; i < b.n && !bad && dan_ids_room(out, DAN_CACHE_IDS); i++)
            if (!remembered(&r, b.key[i], b.plain[i])) bad = encode_part(&r, b.from[i], b.from[i + 1], b.key[i], b.plain[i]);
    }
    return bad;
}
