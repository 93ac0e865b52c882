/* A text is read character by character and cut where no merge can cross: between two characters that no piece has side by
 * side.  What lies between two cuts is short (a word) and is merged in arrays on the stack; longer runs take a heap. */
#include "text/charbpe.h"
#include <string.h>
#include "base/mem.h"
#include "text/charbpe_impl.h"
#include "text/rank_queue.h"
#include "text/word_key.h"

enum { SHORT = 64, NO_RANK = INT32_MAX, UNKNOWN = -1, DEEPEST = 100, OWN = 1 };
#define CHAIN_END UINT32_MAX

/* --- what comes out */

struct writer {
    const struct dan_charbpe *b;
    const char *p;
    size_t n;
    struct dan_ids *out, *span;
    bool last_unk;                             /* the last id stands for something unknown, and may take in more */
    bool any_unk;                              /* something was unknown: not to be remembered */
};

static void put(struct writer *w, int32_t id, size_t from, size_t to)
{
    dan_ids_push(w->out, id);
    w->last_unk = false;
    if (!w->span) return;
    dan_ids_push(w->span, (int32_t)from);
    dan_ids_push(w->span, (int32_t)to);
}

static void put_unk(struct writer *w, size_t from, size_t to)
{
    if (w->last_unk && w->b->fuse_unk) {
        if (w->span && !w->span->failed) w->span->v[w->span->n - 1] = (int32_t)to;
        return;
    }
    if (w->b->unk < 0) return;
    put(w, w->b->unk, from, to);
    w->last_unk = true;
}

/* A character that the vocabulary lacks, where characters merge by their text. */
static void put_missing(struct writer *w, size_t from, size_t to)
{
    w->any_unk = true;
    if (!w->b->byte_fallback || !dan_byte_pieces_all(&w->b->bytes, w->p + from, to - from)) {
        put_unk(w, from, to);
        return;
    }
    for (size_t i = from; i < to; i++) put(w, w->b->bytes.id[(unsigned char)w->p[i]], from, to);
}

static void put_symbol(struct writer *w, int32_t symbol, size_t from, size_t to)
{
    if (symbol < 0 || (size_t)symbol >= w->b->n) put_missing(w, from, to);
    else put(w, symbol, from, to);
}

/* --- symbols of a run of characters */

/* Bytes at p of a user-defined piece, 0: none. */
static size_t user_piece(const struct dan_charbpe *b, const char *p, size_t n, int32_t *id)
{
    return b->has_user && b->user_begins[(unsigned char)*p] ? dan_trie_longest(&b->user, p, n, id) : 0;
}

/* The length of the character at w->p[at] of a run that ends at `end`.  The space that llama2.c puts before a text stands alone. */
static inline size_t char_at(const struct writer *w, size_t at, size_t end)
{
    if ((unsigned char)w->p[at] < 128 && w->b->ends != DAN_CHAR_CONTINUED) return 1;
    return w->b->first_alone && at == 0 ? 1 : dan_char_length(w->b->ends, w->p + at, end - at);
}

static int32_t symbol_of(const struct dan_charbpe *b, const char *p, size_t n)
{
    if (n == 1 && (unsigned char)*p < 128) return b->ascii[(unsigned char)*p];
    return dan_trie_find(&b->vocab, p, n);
}

/* With a prefix for all but the first character of the run and a suffix for the last. */
static int32_t dressed(const struct dan_charbpe *b, const char *p, size_t n, bool first, bool last, char *text, size_t *text_n)
{
    size_t k = 0;
    if (!first) memcpy(text, b->prefix, b->prefix_n), k = b->prefix_n;
    memcpy(text + k, p, n), k += n;
    if (last) memcpy(text + k, b->suffix, b->suffix_n), k += b->suffix_n;
    *text_n = k;
    return dan_trie_find(&b->vocab, text, k);
}

/* Symbol i begins at from[i] and ends where the next begins. */
struct symbols { int32_t *id; uint32_t *from; uint32_t n; };

static void add_symbol(struct symbols *s, int32_t id, uint32_t n)
{
    s->id[s->n++] = id;
    s->from[s->n] = s->from[s->n - 1] + n;
}

/* What `tokenizers` does with a character that is no piece.  An unk waits for the next known character, bytes do not: they come
 * before it. */
struct waiting { bool any; uint32_t n; };

static void settle(const struct dan_charbpe *b, struct symbols *s, struct waiting *unk)
{
    if (unk->any) add_symbol(s, b->unk, unk->n);
    *unk = (struct waiting){0};
}

/* text: the character as it was looked for; n: its own bytes. */
static void add_unknown(const struct dan_charbpe *b, struct symbols *s, struct waiting *unk, const char *text, size_t text_n, size_t n)
{
    if (b->byte_fallback && dan_byte_pieces_all(&b->bytes, text, text_n)) {
        for (size_t i = 0; i < text_n; i++) add_symbol(s, b->bytes.id[(unsigned char)text[i]], 1);
        return;
    }
    if (b->unk < 0) return;
    if (!b->fuse_unk) settle(b, s, unk);
    *unk = (struct waiting){true, unk->n + (uint32_t)n};
}

/* How many symbols n bytes can become: more than n where prefix and suffix become bytes too. */
static size_t most_symbols(const struct dan_charbpe *b, size_t n)
{
    return n + (b->byte_fallback ? n * b->prefix_n + b->suffix_n : 0);
}

/* Arrays hold most_symbols(n), from one more.  The run is w->p[begin, begin + n), from counts from its beginning. */
static void read_symbols(const struct writer *w, size_t begin, size_t n, struct symbols *s)
{
    const struct dan_charbpe *b = w->b;
    const char *p = w->p + begin;
    struct waiting unk = {0};
    char text[sizeof b->prefix + sizeof b->suffix + 8];
    s->n = s->from[0] = 0;
    for (size_t i = 0, len, text_n; i < n; i += len) {
        const char *as = p + i;
        int32_t id;
        len = text_n = b->unused ? user_piece(b, p + i, n - i, &id) : 0;
        if (!len) {
            len = text_n = char_at(w, begin + i, begin + n);
            if (b->prefix_n || b->suffix_n) id = dressed(b, p + i, len, i == 0, i + len == n, text, &text_n), as = text;
            else id = symbol_of(b, p + i, len);
        }
        if (id < 0 && !b->by_text) {
            add_unknown(b, s, &unk, as, text_n, len);
            continue;
        }
        settle(b, s, &unk);
        add_symbol(s, id, (uint32_t)len);
    }
    settle(b, s, &unk);
}

static void write_symbols(struct writer *w, const struct symbols *s, size_t base)
{
    for (uint32_t i = 0; i < s->n; i++) put_symbol(w, s->id[i], base + s->from[i], base + s->from[i + 1]);
}

/* --- short runs */

static int32_t rank_of(const struct dan_charbpe *b, int32_t left, int32_t right)
{
    const struct dan_charbpe_pair *m = left < 0 || right < 0 ? NULL : dan_charbpe_find(b, left, right);
    return m ? m->rank : NO_RANK;
}

static void take_out(int32_t *v, uint32_t at, uint32_t n) { memmove(v + at, v + at + 1, (n - at - 1) * sizeof *v); }

/* rank[i] is of the pair (i, i + 1); the last is NO_RANK. */
static void merge_short(const struct dan_charbpe *b, struct symbols *s, int32_t *rank)
{
    if (!s->n) return;
    for (uint32_t i = 0; i + 1 < s->n; i++) rank[i] = rank_of(b, s->id[i], s->id[i + 1]);
    rank[s->n - 1] = NO_RANK;
    for (;;) {
        uint32_t at = 0;
        for (uint32_t i = 1; i < s->n; i++) at = rank[i] < rank[at] ? i : at;
        if (rank[at] == NO_RANK) return;
        s->id[at] = dan_charbpe_find(b, s->id[at], s->id[at + 1])->id;
        take_out(s->id, at + 1, s->n);
        take_out((int32_t *)s->from, at + 1, s->n + 1);
        take_out(rank, at, s->n);
        s->n--;
        rank[at] = at + 1 < s->n ? rank_of(b, s->id[at], s->id[at + 1]) : NO_RANK;
        if (at > 0) rank[at - 1] = rank_of(b, s->id[at - 1], s->id[at]);
    }
}

/* --- long runs: a doubly linked list over symbols, and the pairs that wait.  One is alive when the pair at its position still has its rank. */

struct split { int32_t left, right; };         /* how an unused piece was last seen to come about */

struct chain {
    const struct dan_charbpe *b;
    struct symbols s;
    int32_t  *rank;
    uint32_t *next, *prev;
    struct dan_rank_queue q;
    struct split *unused;                      /* by symbol; NULL: the model has no unused pieces */
    bool      failed;
};

static void rank_again(struct chain *c, uint32_t at)
{
    uint32_t j = c->next[at];
    c->rank[at] = NO_RANK;
    if (j == CHAIN_END || c->s.id[at] < 0 || c->s.id[j] < 0) return;
    const struct dan_charbpe_pair *m = dan_charbpe_find(c->b, c->s.id[at], c->s.id[j]);
    if (!m) return;
    c->rank[at] = m->rank;
    dan_queue_put(&c->q, m->rank, at);
    c->failed |= c->q.failed;
    if (c->unused && c->b->unused[m->id]) c->unused[m->id] = (struct split){c->s.id[at], c->s.id[j]};
}

/* SentencePiece looks at the pair before first, and the last look at an unused piece counts. */
static void join(struct chain *c, uint32_t at)
{
    uint32_t gone = c->next[at], after = c->next[gone];
    c->s.id[at] = dan_charbpe_find(c->b, c->s.id[at], c->s.id[gone])->id;
    c->rank[gone] = NO_RANK;
    c->next[at] = after;
    if (after != CHAIN_END) c->prev[after] = at;
    if (c->prev[at] != CHAIN_END) rank_again(c, c->prev[at]);
    rank_again(c, at);
}

static void chain_run(struct chain *c)
{
    uint32_t n = c->s.n;
    for (uint32_t i = 0; i < n; i++) {
        c->next[i] = i + 1 < n ? i + 1 : CHAIN_END;
        c->prev[i] = i ? i - 1 : CHAIN_END;
    }
    for (uint32_t i = 0; i < n && !c->failed; i++) rank_again(c, i);
    while (c->q.n_heap && !c->failed) {
        uint64_t top = dan_queue_take(&c->q);
        uint32_t at = (uint32_t)top;
        if (c->rank[at] == (int32_t)(top >> 32)) join(c, at);
    }
}

/* An unused piece is taken apart as it came about, and its parts again, but not deeper than SentencePiece does. */
struct part { int32_t symbol; uint32_t depth; };
struct parts { struct part *v; size_t n, cap; };

static int write_unused(struct writer *w, const struct chain *c, int32_t symbol, size_t from, size_t to, struct parts *open)
{
    const struct dan_charbpe *b = w->b;
    struct part it = {symbol, 0};
    for (open->n = 0;;) {
        bool unused = it.symbol >= 0 && b->unused[it.symbol] && it.depth <= DEEPEST;
        if (unused && c->unused[it.symbol].left >= 0) {
            if (dan_vec_grow(&open->v, &open->cap, open->n + 1, sizeof *open->v)) return -1;
            open->v[open->n++] = (struct part){c->unused[it.symbol].right, it.depth + 1};
            it = (struct part){c->unused[it.symbol].left, it.depth + 1};
            continue;
        }
        size_t end = open->n ? from + (size_t)b->symbol_n[it.symbol] : to;
        put_symbol(w, unused ? UNKNOWN : it.symbol, from, end);
        if (!open->n) return 0;
        from = end;
        it = open->v[--open->n];
    }
}

static void chain_write(struct chain *c, struct writer *w, size_t base)
{
    struct parts open = {0};
    for (uint32_t i = 0, next; i != CHAIN_END && c->s.n && !c->failed; i = next) {
        next = c->next[i];
        size_t from = base + c->s.from[i], to = base + c->s.from[next == CHAIN_END ? c->s.n : next];
        if (c->unused) c->failed = write_unused(w, c, c->s.id[i], from, to, &open) != 0;
        else put_symbol(w, c->s.id[i], from, to);
    }
    dan_free(open.v);
}

static void chain_release(struct chain *c)
{
    dan_free(c->s.id);
    dan_free(c->s.from);
    dan_free(c->rank);
    dan_free(c->next);
    dan_free(c->prev);
    dan_queue_release(&c->q);
    dan_free(c->unused);
}

static int merge_long(struct writer *w, size_t from, size_t n, struct dan_err *e)
{
    const struct dan_charbpe *b = w->b;
    size_t m = most_symbols(b, n) + 1;
    if (m >= INT32_MAX) return dan_fail(e, DAN_EINVAL, "a run of %zu bytes without a break is too long; cut the text below 2 GiB", n);
    struct chain c = {.b = b, .s = {dan_malloc(m * 4), dan_malloc(m * 4), 0}, .rank = dan_malloc(m * 4), .next = dan_malloc(m * 4),
                      .prev = dan_malloc(m * 4)};
    dan_queue_init(&c.q);
    c.failed = !c.s.id || !c.s.from || !c.rank || !c.next || !c.prev;
    if (b->unused && !c.failed) {
        c.unused = dan_malloc(b->n_symbols * sizeof *c.unused);
        c.failed = !c.unused;
        if (c.unused) memset(c.unused, 0xFF, b->n_symbols * sizeof *c.unused);
    }
    if (!c.failed) {
        read_symbols(w, from, n, &c.s);
        chain_run(&c);
        chain_write(&c, w, from);
    }
    chain_release(&c);
    return c.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for a run of %zu bytes without a break; cut the text", n) : DAN_OK;
}

/* --- runs */

/* The piece that has the bytes of the run, if there is one. */
static int32_t whole_run(const struct writer *w, size_t from, size_t n)
{
    bool may = w->b->own && !(w->b->first_alone && from == 0);
    int32_t id = may ? dan_trie_find(&w->b->vocab, w->p + from, n) : -1;
    return (size_t)id < w->b->n ? id : -1;
}

static int merge_run(struct writer *w, size_t from, size_t n, struct dan_err *e)
{
    int32_t id[SHORT], rank[SHORT], piece = -1;
    uint32_t at[SHORT + 1];
    struct symbols s = {id, at, 0};
    if (w->b->unused || most_symbols(w->b, n) > SHORT) return merge_long(w, from, n, e);
    piece = whole_run(w, from, n);
    if (piece >= 0 && atomic_load_explicit(&w->b->own[piece], memory_order_relaxed) == OWN) {
        put(w, piece, from, from + n);
        return DAN_OK;
    }
    read_symbols(w, from, n, &s);
    merge_short(w->b, &s, rank);
    write_symbols(w, &s, from);
    if (piece >= 0 && s.n == 1 && s.id[0] == piece) atomic_store_explicit(&w->b->own[piece], OWN, memory_order_relaxed);
    return DAN_OK;
}

/* 16 bytes can be read where the run is not at the end of the text. */
static struct dan_word_key key_of(const struct writer *w, size_t from, size_t n)
{
    char text[16] = {0};
    if (w->n - from >= sizeof text) return dan_word_key(w->p + from, n);
    memcpy(text, w->p + from, n);
    return dan_word_key(text, n);
}

/* Only runs without unknown characters: those depend on what stands beside them. */
static int cached_run(struct writer *w, struct dan_tok_cache *cache, size_t from, size_t n, struct dan_err *e)
{
    struct dan_word_key key = key_of(w, from, n);
    const int32_t *id;
    size_t m = dan_cache_find(cache, key, &id);
    if (m) {
        for (size_t i = 0; i < m; i++) dan_ids_push(w->out, id[i]);
        w->last_unk = false;
        return DAN_OK;
    }
    size_t before = w->out->n;
    w->any_unk = false;
    int r = merge_run(w, from, n, e);
    if (r || w->any_unk || w->last_unk || w->out->failed || w->out->n == before) return r;
    dan_cache_put(cache, key, w->out->v + before, w->out->n - before);
    return DAN_OK;
}

static int run(struct writer *w, struct dan_tok_cache *cache, size_t from, size_t to, struct dan_err *e)
{
    if (from == to) return DAN_OK;
    return cache && to - from <= DAN_WORD_MOST ? cached_run(w, cache, from, to - from, e) : merge_run(w, from, to - from, e);
}

/* In the manner of `tokenizers` what happens to a character that is no piece depends on its neighbours: not cut there. */
static bool cut_between(const struct dan_charbpe *b, const char *p, size_t left_n, size_t right_n)
{
    if (dan_charbpe_joins(b, dan_char_pack(p, left_n), dan_char_pack(p + left_n, right_n))) return false;
    return b->by_text || (symbol_of(b, p, left_n) >= 0 && symbol_of(b, p + left_n, right_n) >= 0);
}

static bool is_piece(const struct dan_charbpe *b, const char *p, size_t n)
{
    int32_t symbol = symbol_of(b, p, n);
    return symbol >= 0 && (size_t)symbol < b->n;
}

bool dan_charbpe_cuts(const struct dan_charbpe *b, const char *p, size_t left_n, size_t right_n)
{
    return b->cuts && !b->ignore_merges && is_piece(b, p, left_n) && is_piece(b, p + left_n, right_n) && cut_between(b, p, left_n, right_n);
}

static int encode(struct writer *w, struct dan_tok_cache *cache, struct dan_err *e)
{
    size_t n = w->n;
    const struct dan_charbpe *b = w->b;
    size_t from = 0, last = 0;                 /* the run; its last character's length */
    int r = DAN_OK;
    if (b->unused) return run(w, NULL, 0, n, e);           /* what an unused piece came from counts for the whole text */
    for (size_t i = 0, len; i < n && !r; i += len) {
        int32_t id;
        len = user_piece(b, w->p + i, n - i, &id);
        if (len) {
            r = run(w, cache, from, i, e);
            put(w, id, i, i + len);
            from = i + len;
            last = 0;
            continue;
        }
        len = char_at(w, i, n);
        if (last && b->cuts && cut_between(b, w->p + i - last, last, len)) {
            r = run(w, cache, from, i, e);
            from = i;
        }
        last = len;
    }
    return r ? r : run(w, cache, from, n, e);
}

/* The whole text as a piece: ignore_merges. */
static int32_t whole(const struct dan_charbpe *b, const char *p, size_t n)
{
    return b->ignore_merges && n ? dan_trie_find(&b->vocab, p, n) : -1;
}

int dan_charbpe_encode_cached(const struct dan_charbpe *b, struct dan_tok_cache *cache, const char *p, size_t n, struct dan_ids *out,
                              struct dan_err *e)
{
    struct writer w = {.b = b, .p = p, .n = n, .out = out};
    int32_t id = whole(b, p, n);
    if (id < 0) return encode(&w, cache, e);
    put(&w, id, 0, n);
    return DAN_OK;
}

int dan_charbpe_encode(const struct dan_charbpe *b, const char *p, size_t n, struct dan_ids *out, struct dan_err *e)
{
    return dan_charbpe_encode_cached(b, NULL, p, n, out, e);
}

int dan_charbpe_encode_spans(const struct dan_charbpe *b, const char *p, size_t n, struct dan_ids *out, struct dan_ids *span,
                             struct dan_err *e)
{
    struct writer w = {.b = b, .p = p, .n = n, .out = out, .span = span};
    int32_t id = whole(b, p, n);
    if (id < 0) return encode(&w, NULL, e);
    put(&w, id, 0, n);
    return DAN_OK;
}
