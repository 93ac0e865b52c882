/* WordPiece (Schuster, Nakajima 2012; Devlin et al. 2018): words after normalisation, each cut greedily into the longest
 * tokens of the vocabulary.  A word that cannot be cut, or is too long, is [UNK].
 *
 * Words are written to a buffer as they are normalised.  ASCII goes through two small tables, other characters of the basic
 * plane through one of 65536 actions, the rest is computed. */
#include "text/wordpiece.h"
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"

enum { SHORT = 15, SLACK = 16, CONTINUES = 128, LONGEST = 250 };

/* --- the vocabulary */

struct key { uint64_t lo, hi; };

static inline uint64_t low_bytes(uint64_t x, size_t n) { return n >= 8 ? x : x & ((UINT64_C(1) << 8 * n) - 1); }

/* 16 bytes can be read at p; n <= SHORT. */
static inline struct key key_of(const char *p, size_t n, int continues)
{
    struct key k;
    memcpy(&k.lo, p, 8);
    memcpy(&k.hi, p + 8, 8);
    k.lo = low_bytes(k.lo, n);
    k.hi = (n > 8 ? low_bytes(k.hi, n - 8) : 0) | (uint64_t)(n | (size_t)continues) << 56;
    return k;
}

static inline uint64_t hash(struct key k)
{
    uint64_t h = (k.lo ^ k.hi * 0xa0761d6478bd642fu) * 0xe7037ed1a0b428dbu;
    return (h ^ h >> 32) * 0x8ebc6af09c88c6e3u >> 24;
}

static int32_t find_long(const struct dan_wordpiece *w, const char *p, size_t n, int continues)
{
    char key[256];
    int64_t id;
    if (n >= sizeof key) return -1;            /* set_vocab refuses longer tokens */
    key[0] = (char)(continues != 0);
    memcpy(key + 1, p, n);
    return dan_map_get(w->long_piece, key, n + 1, &id) ? (int32_t)id : -1;
}

static inline int32_t find(const struct dan_wordpiece *w, const char *p, size_t n, int continues)
{
    if (n > SHORT) return find_long(w, p, n, continues);
    struct key k = key_of(p, n, continues);
    for (uint64_t i = hash(k) & w->mask;; i = (i + 1) & w->mask) {
        const struct dan_piece *s = &w->piece[i];
        if ((s->lo == k.lo) & (s->hi == k.hi)) return s->id;
        if (s->id < 0) return -1;
    }
}

static int put(struct dan_wordpiece *w, const char *p, size_t n, int continues, int32_t id)
{
    char text[256 + SLACK] = {0};
    if (n > w->longest) w->longest = n;
    if (n > SHORT) {
        text[0] = (char)(continues != 0);
        memcpy(text + 1, p, n);
        return dan_map_put(w->long_piece, text, n + 1, id);
    }
    memcpy(text, p, n);
    struct key k = key_of(text, n, continues);
    uint64_t i = hash(k) & w->mask;
    while (w->piece[i].id >= 0 && (w->piece[i].lo != k.lo || w->piece[i].hi != k.hi)) i = (i + 1) & w->mask;
    w->piece[i] = (struct dan_piece){k.lo, k.hi, id};
    return 0;
}

int dan_wordpiece_set_vocab(struct dan_wordpiece *w, const struct dan_tok_spec *s, struct dan_err *e)
{
    uint64_t cap = 64;
    while (cap < 4 * (uint64_t)s->n) cap *= 2;                 /* each token is a word and perhaps a continuation */
    w->piece = dan_malloc(cap * sizeof *w->piece);
    w->long_piece = dan_map_new();
    w->mask = cap - 1;
    int bad = !w->piece || !w->long_piece;
    for (uint64_t i = 0; i < cap && !bad; i++) w->piece[i] = (struct dan_piece){0, 0, -1};
    for (size_t id = 0; id < s->n && !bad; id++) {
        const struct dan_spec_piece *one = &s->piece[id];
        const char *p = s->bytes.p + one->at;
        size_t n = one->n;
        if (!(one->flags & DAN_PIECE_MODEL) || one->flags & (DAN_PIECE_SPECIAL | DAN_PIECE_UNUSED) || n == 0) continue;
        if (n > LONGEST)
            return dan_fail(e, DAN_EUNSUPPORTED, "model.vocab: the token '%.40s...' has %zu bytes, more than %d; WordPiece tokens are parts "
                            "of words", p, n, LONGEST);
        bad = put(w, p, n, 0, (int32_t)id);
        if (!bad && n > w->prefix_n && memcmp(p, w->prefix, w->prefix_n) == 0)
            bad = put(w, p + w->prefix_n, n - w->prefix_n, CONTINUES, (int32_t)id);
    }
    return bad ? dan_fail(e, DAN_ENOMEM, "out of memory for a vocabulary of %zu tokens", s->n) : DAN_OK;
}

void dan_wordpiece_free(struct dan_wordpiece *w)
{
    if (!w) return;
    dan_free(w->piece);
    dan_map_free(w->long_piece);
    dan_free(w->action);
    dan_free(w);
}

uint64_t dan_wordpiece_hash(const struct dan_wordpiece *w, uint64_t h)
{
    if (!w) return h;
    const uint64_t all[] = {(uint64_t)(w->clean | w->chinese << 1 | w->strip << 2 | w->lower << 3), w->max_chars, (uint64_t)w->unk};
    return dan_hash(w->prefix, w->prefix_n, dan_hash(all, sizeof all, h));
}

/* --- one word */

/* p: a word of n > 0 bytes with SLACK readable bytes behind it. */
static void cut(const struct dan_wordpiece *w, const char *p, size_t n, struct dan_ids *out)
{
    size_t mark = out->n;
    for (size_t at = 0; at < n;) {
        size_t len = n - at < w->longest ? n - at : w->longest;
        int32_t id = -1;
        for (; len; len--) {
            if (at + len < n && ((unsigned char)p[at + len] & 0xC0) == 0x80) continue;      /* inside a character */
            id = find(w, p + at, len, at ? CONTINUES : 0);
            if (id >= 0) break;
        }
        if (id < 0) {
            out->n = mark;
            dan_ids_push(out, w->unk);
            return;
        }
        dan_ids_push(out, id);
        at += len;
    }
}

/* What cannot be cut at once may be remembered; slots are keyed by the normalised word. */
static void cut_cached(const struct dan_wordpiece *w, struct dan_tok_cache *cache, const char *p, size_t n, struct dan_ids *out)
{
    if (!cache || n > SHORT) {
        cut(w, p, n, out);
        return;
    }
    struct dan_word_key k = dan_word_key(p, n);
    const int32_t *id;
    size_t before = out->n, known = dan_cache_find(cache, k, &id);
    for (size_t i = 0; i < known; i++) dan_ids_push(out, id[i]);
    if (known) return;
    cut(w, p, n, out);
    if (!out->failed) dan_cache_put(cache, k, out->v + before, out->n - before);
}

/* --- words of a text */

struct words {
    const struct dan_wordpiece *w;
    struct dan_tok_cache *cache;
    struct dan_ids *out;
    char  *buf;
    size_t n, cap, chars, run;                 /* run: where the marks begin that may change places */
    bool   failed;
};

static void end_word(struct words *s)
{
    if (s->n) {
        int32_t whole = s->chars <= s->w->max_chars && s->n <= SHORT ? find(s->w, s->buf, s->n, 0) : -1;
        if (whole >= 0) dan_ids_push(s->out, whole);
        else if (s->chars > s->w->max_chars) dan_ids_push(s->out, s->w->unk);
        else cut_cached(s->w, s->cache, s->buf, s->n, s->out);
    }
    s->n = s->chars = s->run = 0;
}

static bool room(struct words *s, size_t more)
{
    if (s->n + more + SLACK <= s->cap) return true;
    if (s->failed || dan_vec_grow(&s->buf, &s->cap, s->n + more + SLACK, 1)) s->failed = true;
    return !s->failed;
}

static void put_char(struct words *s, int32_t cp)
{
    if (++s->chars > s->w->max_chars || !room(s, 4)) return;   /* the rest of a word that is [UNK] already */
    s->n += (size_t)dan_utf8_put(cp, s->buf + s->n);
}

static int mark_at(const struct words *s, size_t at)
{
    int32_t cp;
    struct dan_bert_char c[DAN_BERT_MOST];
    bool alone;
    dan_utf8_next(s->buf + at, s->n - at, &cp);
    return dan_bert_expand(s->w, cp, c, &alone) ? c[0].mark : 0;
}

/* Canonical order: a mark goes before those of a higher class since the last character that is no mark. */
static void put_mark(struct words *s, int32_t cp, int mark)
{
    size_t before = s->n, at = s->run;
    put_char(s, cp);
    size_t len = s->n - before;
    char own[4];
    if (!len) return;
    memcpy(own, s->buf + before, len);
    while (at < before && mark_at(s, at) <= mark)
        for (at++; at < before && ((unsigned char)s->buf[at] & 0xC0) == 0x80;) at++;
    memmove(s->buf + at + len, s->buf + at, before - at);
    memcpy(s->buf + at, own, len);
}

static void put_one(struct words *s, struct dan_bert_char c)
{
    switch (c.kind) {
    case DAN_BERT_WORD:
        if (c.mark) put_mark(s, c.cp, c.mark);
        else {
            put_char(s, c.cp);
            s->run = s->n;
        }
        break;
    case DAN_BERT_ALONE:
        end_word(s);
        put_char(s, c.cp);
        end_word(s);
        break;
    case DAN_BERT_SPACE: end_word(s); break;
    case DAN_BERT_SEAL: s->run = s->n; break;
    default: break;
    }
}

static void put_slow(struct words *s, int32_t cp)
{
    struct dan_bert_char c[DAN_BERT_MOST];
    bool alone;
    int n = dan_bert_expand(s->w, cp, c, &alone);
    if (alone) end_word(s);
    for (int i = 0; i < n; i++) put_one(s, c[i]);
    if (alone) end_word(s);
}

/* Bytes that are no UTF-8 stand for U+FFFD, as when the text is read as Unicode first. */
static size_t put_other(struct words *s, const char *p, size_t n)
{
    int32_t cp;
    int len = dan_utf8_next(p, n, &cp);
    if (cp < 0) cp = 0xFFFD;
    uint32_t a = cp < 65536 ? s->w->action[cp] : dan_bert_action(s->w, cp);
    if (dan_bert_kind(a) == DAN_BERT_SLOW) put_slow(s, cp);
    else put_one(s, (struct dan_bert_char){dan_bert_point(a), (uint8_t)dan_bert_kind(a), 0});
    return (size_t)len;
}

static size_t put_ascii(struct words *s, const char *p, size_t n)
{
    const unsigned char *kind = s->w->ascii, *low = s->w->ascii_low;
    unsigned char c = (unsigned char)p[0];
    if (kind[c] != DAN_BERT_WORD) return put_one(s, (struct dan_bert_char){low[c], kind[c], 0}), 1;
    size_t k = 0;
    if (!room(s, n < 64 ? n : 64)) return n;
    char *to = s->buf + s->n;
    do to[k] = (char)low[c], k++;
    while (k < n && k < 64 && (c = (unsigned char)p[k]) < 128 && kind[c] == DAN_BERT_WORD);
    s->n += k;
    s->chars += k;
    s->run = s->n;
    return k;
}

static int encode(const struct dan_tokenizer *t, struct dan_tok_cache *cache, const char *p, size_t from, size_t to, int flags,
                  struct dan_ids *out, struct dan_err *e)
{
    (void)flags;                               /* [UNK] is part of the algorithm */
    struct words s = {.w = t->wordpiece, .cache = cache, .out = out};
    for (size_t i = from; i < to && !s.failed;)
        i += (unsigned char)p[i] < 128 ? put_ascii(&s, p + i, to - i) : put_other(&s, p + i, to - i);
    end_word(&s);
    dan_free(s.buf);
    return s.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for a word of %zu bytes", s.n) : DAN_OK;
}

const struct dan_tok_kind dan_tok_wordpiece = {.name = "wordpiece", .encode = encode};
