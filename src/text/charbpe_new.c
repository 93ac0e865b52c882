/* The tables of a BPE over characters. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/map.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "text/charbpe_impl.h"
#include "text/sp_model.h"

struct merge { int32_t rank, id, left, right; };
struct merges { struct merge *v; size_t n, cap; };
struct keys { struct dan_trie_key *v; size_t n, cap; };

struct maker {
    struct dan_charbpe *b;
    const struct dan_tok_spec *s;
    struct keys keys;                          /* of the vocabulary, then of characters that only pieces have */
    struct dan_map *extra;                     /* those characters -> symbol */
    int32_t *rank;                             /* [n] by score or id; -1: no piece that merges make */
    struct merges merges;
    bool     no_memory;
};

size_t dan_char_length(enum dan_char_end ends, const char *p, size_t n)
{
    static const unsigned char announced[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
    size_t k = 1;
    int32_t cp;
    if (ends == DAN_CHAR_UTF8) return (size_t)dan_utf8_next(p, n, &cp);
    if (ends == DAN_CHAR_ANNOUNCED) return k = announced[(unsigned char)*p >> 4], k < n ? k : n;
    while (k < n && k < 4 && ((unsigned char)p[k] & 0xC0) == 0x80) k++;
    return k;
}

static enum dan_sp_type sp_type(const struct dan_tok_spec *s, size_t i)
{
    return i < s->sp->n_type ? (enum dan_sp_type)s->sp->type[i] : DAN_SP_CONTROL;
}

/* May piece i come out of characters of a text, at least on the way? */
static bool from_text(const struct dan_tok_spec *s, size_t i)
{
    int flags = s->piece[i].flags;
    if (!(flags & DAN_PIECE_MODEL) || !s->piece[i].n) return false;
    if (s->sp) return sp_type(s, i) == DAN_SP_NORMAL || sp_type(s, i) == DAN_SP_UNUSED;
    return !(flags & (DAN_PIECE_SPECIAL | DAN_PIECE_UNUSED));
}

static const char *text_of(const struct dan_tok_spec *s, size_t i) { return s->bytes.p + s->piece[i].at; }

static void add_key(struct maker *k, struct keys *to, const char *p, size_t n, int32_t value)
{
    if (dan_vec_grow(&to->v, &to->cap, to->n + 1, sizeof *to->v)) k->no_memory = true;
    else to->v[to->n++] = (struct dan_trie_key){p, n, value};
}

/* --- the vocabulary */

static int set_vocab(struct maker *k, struct dan_err *e)
{
    for (size_t i = 0; i < k->s->n; i++)
        if (from_text(k->s, i)) add_key(k, &k->keys, text_of(k->s, i), k->s->piece[i].n, (int32_t)i);
    return k->no_memory ? DAN_OK : dan_trie_build(&k->b->vocab, k->keys.v, k->keys.n, e);
}

/* Characters of pieces that are no pieces: where text is merged by its bytes they take part. */
static int set_extra(struct maker *k, struct dan_err *e)
{
    struct dan_charbpe *b = k->b;
    size_t had = k->keys.n;
    k->extra = dan_map_new();
    k->no_memory = k->no_memory || !k->extra;
    for (size_t i = 0; i < had && !k->no_memory; i++) {
        struct dan_trie_key key = k->keys.v[i];
        for (size_t at = 0, len; at < key.n && !k->no_memory; at += len) {
            int64_t known;
            len = dan_char_length(b->ends, key.p + at, key.n - at);
            if (dan_trie_find(&b->vocab, key.p + at, len) >= 0 || dan_map_get(k->extra, key.p + at, len, &known)) continue;
            add_key(k, &k->keys, key.p + at, len, (int32_t)b->n_symbols);
            k->no_memory = k->no_memory || dan_map_put(k->extra, key.p + at, len, (int64_t)b->n_symbols++);
        }
    }
    if (k->no_memory || k->keys.n == had) return DAN_OK;
    dan_trie_release(&b->vocab);
    return dan_trie_build(&b->vocab, k->keys.v, k->keys.n, e);
}

static int set_user(struct maker *k, struct dan_err *e)
{
    struct keys user = {0};
    for (size_t i = 0; i < k->s->n; i++) {
        if (!(k->s->piece[i].flags & DAN_PIECE_MODEL) || !k->s->piece[i].n || sp_type(k->s, i) != DAN_SP_USER_DEFINED) continue;
        add_key(k, &user, text_of(k->s, i), k->s->piece[i].n, (int32_t)i);
        k->b->user_begins[(unsigned char)*text_of(k->s, i)] = k->b->has_user = true;
    }
    int r = user.n ? dan_trie_build(&k->b->user, user.v, user.n, e) : DAN_OK;
    dan_free(user.v);
    return r;
}

static int set_unused(struct maker *k)
{
    struct dan_charbpe *b = k->b;
    bool any = false;
    for (size_t i = 0; i < k->s->n && !any; i++) any = sp_type(k->s, i) == DAN_SP_UNUSED;
    if (!any) return 0;
    b->unused = dan_calloc(b->n_symbols, 1);
    b->symbol_n = dan_calloc(b->n_symbols, sizeof *b->symbol_n);
    if (!b->unused || !b->symbol_n) return -1;
    for (size_t i = 0; i < k->keys.n; i++) b->symbol_n[k->keys.v[i].value] = (int32_t)k->keys.v[i].n;
    for (size_t i = 0; i < k->s->n; i++) b->unused[i] = sp_type(k->s, i) == DAN_SP_UNUSED;
    return 0;
}

/* --- the merges */

struct scored { double score; int32_t id; };

static int by_score(const void *left, const void *right)
{
    const struct scored *a = left, *b = right;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

/* Pieces of equal score have equal rank: the leftmost of them merges first. */
static int set_ranks(struct maker *k)
{
    size_t n = 0;
    struct scored *v = dan_malloc(k->s->n * sizeof *v);
    k->rank = dan_malloc(k->s->n * sizeof *k->rank);
    if (!v || !k->rank) {
        dan_free(v);
        return -1;
    }
    for (size_t i = 0; i < k->s->n; i++) {
        k->rank[i] = -1;
        if (!from_text(k->s, i)) continue;
        v[n++] = (struct scored){k->s->merges == DAN_MERGES_BY_ID ? -(double)i : k->s->piece[i].score, (int32_t)i};
    }
    if (n) qsort(v, n, sizeof *v, by_score);
    for (size_t i = 0; i < n; i++) k->rank[v[i].id] = i && v[i].score == v[i - 1].score ? k->rank[v[i - 1].id] : (int32_t)i;
    dan_free(v);
    return 0;
}

static void add_merge(struct maker *k, int32_t rank, int32_t id, int32_t left, int32_t right)
{
    if (dan_vec_grow(&k->merges.v, &k->merges.cap, k->merges.n + 1, sizeof *k->merges.v)) k->no_memory = true;
    else k->merges.v[k->merges.n++] = (struct merge){rank, id, left, right};
}

/* The vocabulary with every string turned round; *all holds the bytes. */
static int backward_trie(const struct maker *k, struct dan_trie *t, char **all, struct dan_err *e)
{
    size_t total = 0, at = 0;
    for (size_t i = 0; i < k->keys.n; i++) total += k->keys.v[i].n;
    struct dan_trie_key *key = dan_malloc(k->keys.n * sizeof *key);
    *all = dan_malloc(total);
    if (!key || !*all) {
        dan_free(key);
        return dan_fail(e, DAN_ENOMEM, "out of memory for %zu pieces", k->keys.n);
    }
    for (size_t i = 0; i < k->keys.n; i++) {
        struct dan_trie_key from = k->keys.v[i];
        key[i] = (struct dan_trie_key){*all + at, from.n, from.value};
        for (size_t j = 0; j < from.n; j++) (*all)[at++] = from.p[from.n - 1 - j];
    }
    int r = dan_trie_build(t, key, k->keys.n, e);
    dan_free(key);
    return r;
}

/* Every way to make piece i of two symbols: one walk for all that begin it, one for all that end it.  tail: [n + 1] */
static void split_piece(struct maker *k, const struct dan_trie *backward, size_t i, int32_t *tail)
{
    const char *p = text_of(k->s, i);
    size_t n = k->s->piece[i].n;
    dan_trie_unit at = backward->unit[0];
    for (size_t len = 1; len < n; len++) tail[n - len] = -1;
    for (size_t len = 1; len < n && dan_trie_step(backward, &at, (unsigned char)p[n - len]); len++) tail[n - len] = dan_trie_value(at);
    at = k->b->vocab.unit[0];
    for (size_t len = 1; len < n && dan_trie_step(&k->b->vocab, &at, (unsigned char)p[len - 1]); len++)
        if (dan_trie_value(at) >= 0 && tail[len] >= 0) add_merge(k, k->rank[i], (int32_t)i, dan_trie_value(at), tail[len]);
}

static int find_merges(struct maker *k, struct dan_err *e)
{
    struct dan_trie backward = {0};
    char *all = NULL;
    size_t longest = 0;
    if (set_ranks(k)) return k->no_memory = true, DAN_OK;
    for (size_t i = 0; i < k->s->n; i++) longest = k->s->piece[i].n > longest ? k->s->piece[i].n : longest;
    int32_t *tail = dan_malloc((longest + 1) * sizeof *tail);
    int r = tail ? backward_trie(k, &backward, &all, e) : dan_fail(e, DAN_ENOMEM, "out of memory for %zu pieces", k->s->n);
    for (size_t i = 0; i < k->s->n && !r && !k->no_memory; i++)
        if (k->rank[i] >= 0) split_piece(k, &backward, i, tail);
    dan_trie_release(&backward);
    dan_free(all);
    dan_free(tail);
    return r;
}

/* What a listed pair makes: the left text, then the right without its continuing prefix. */
static int32_t joined(const struct maker *k, int32_t left, int32_t right, struct dan_str *text)
{
    const struct dan_spec_piece *l = &k->s->piece[left], *r = &k->s->piece[right];
    size_t skip = r->n < k->b->prefix_n ? r->n : k->b->prefix_n;
    dan_str_clear(text);
    dan_str_append(text, k->s->bytes.p + l->at, l->n);
    dan_str_append(text, k->s->bytes.p + r->at + skip, r->n - skip);
    return text->failed || !text->n ? -1 : dan_trie_find(&k->b->vocab, text->p, text->n);
}

static int list_merges(struct maker *k, struct dan_err *e)
{
    struct dan_str text = {0};
    int r = DAN_OK;
    for (size_t i = 0; i < k->s->n_merges && !r && !text.failed && !k->no_memory; i++) {
        int32_t left = k->s->merge[2 * i], right = k->s->merge[2 * i + 1];
        if (left < 0 || right < 0 || (size_t)left >= k->s->n || (size_t)right >= k->s->n || i >= INT32_MAX)
            r = dan_fail(e, DAN_EFORMAT, "merge %zu of '%s' names a token that does not exist; the file is damaged", i, k->s->where);
        else {
            int32_t id = joined(k, left, right, &text);
            if (id >= 0) add_merge(k, (int32_t)i, id, left, right);      /* else a special token would come out, or nothing */
        }
    }
    k->no_memory = k->no_memory || text.failed;
    dan_str_release(&text);
    return r;
}

static int set_pairs(struct maker *k)
{
    struct dan_charbpe *b = k->b;
    uint64_t cap = 16;
    while (cap < 2 * (uint64_t)k->merges.n) cap *= 2;
    b->mask = cap - 1;
    b->seen_mask = 8 * cap - 1;
    b->pair_bytes = cap * sizeof *b->pair;
    b->pair = dan_huge_alloc(b->pair_bytes);           /* looked up at random */
    b->seen = dan_calloc((8 * cap + 63) / 64, sizeof *b->seen);
    if (!b->pair || !b->seen) return -1;
    memset(b->pair, 0xFF, b->pair_bytes);
    for (size_t i = 0; i < k->merges.n; i++) {
        struct merge m = k->merges.v[i];
        uint64_t key = dan_charbpe_key(m.left, m.right), h = dan_merge_hash(key), at = h & b->mask, bit = h >> 36 & b->seen_mask;
        b->seen[bit >> 6] |= UINT64_C(1) << (bit & 63);
        while (b->pair[at].key != UINT64_MAX && b->pair[at].key != key) at = (at + 1) & b->mask;
        b->pair[at] = (struct dan_charbpe_pair){key, m.rank, m.id};      /* of a pair listed twice the later counts */
    }
    return 0;
}

/* --- where a text may be cut */

static void put_join(struct dan_charbpe *b, uint32_t left, uint32_t right)
{
    if ((left | right) < 128) {
        b->ascii_joins[left][right >> 3] |= (uint8_t)(1 << (right & 7));
        return;
    }
    uint64_t key = (uint64_t)left << 32 | right, i = dan_merge_hash(key) & b->joins_mask;
    while (b->joins[i] != UINT64_MAX && b->joins[i] != key) i = (i + 1) & b->joins_mask;
    b->joins[i] = key;
}

static int set_joins(struct maker *k)
{
    struct dan_charbpe *b = k->b;
    size_t chars = 0;
    uint64_t cap = 16;
    b->cuts = !b->prefix_n && !b->suffix_n && !b->unused;
    if (!b->cuts) return 0;
    b->own = dan_calloc(b->n, sizeof *b->own);
    uint8_t *result = b->own ? dan_calloc(k->s->n, 1) : NULL;
    if (!result) return -1;
    for (size_t i = 0; i < k->merges.n; i++) {
        int32_t id = k->merges.v[i].id;
        if (!result[id]) chars += k->s->piece[id].n;
        result[id] = 1;
    }
    while (cap < 2 * (uint64_t)chars && cap < UINT64_C(1) << 40) cap *= 2;
    b->joins_mask = cap - 1;
    b->joins = dan_malloc(cap * sizeof *b->joins);
    if (b->joins) memset(b->joins, 0xFF, cap * sizeof *b->joins);
    for (size_t i = 0; i < k->s->n && b->joins; i++) {
        if (!result[i]) continue;
        const char *p = text_of(k->s, i);
        size_t n = k->s->piece[i].n, len = dan_char_length(b->ends, p, n);
        for (size_t at = 0, next; at + len < n; at += len, len = next) {
            next = dan_char_length(b->ends, p + at + len, n - at - len);
            put_join(b, dan_char_pack(p + at, len), dan_char_pack(p + at + len, next));
        }
    }
    dan_free(result);
    return b->joins ? 0 : -1;
}

/* --- all of it */

static void set_switches(struct dan_charbpe *b, const struct dan_tok_spec *s)
{
    b->n = b->n_symbols = s->n;
    b->unk = s->unk;
    b->by_text = s->sp && !s->sp->known_only;
    b->byte_fallback = s->byte_fallback;
    b->fuse_unk = s->fuse_unk || b->by_text;
    b->ignore_merges = s->ignore_merges && !s->sp;
    b->ends = !s->sp ? DAN_CHAR_UTF8 : s->sp->known_only ? DAN_CHAR_CONTINUED : DAN_CHAR_ANNOUNCED;
    b->first_alone = s->sp && s->sp->known_only && s->sp->in.dummy_prefix;
    memcpy(b->prefix, s->prefix, sizeof b->prefix);
    memcpy(b->suffix, s->suffix, sizeof b->suffix);
    b->prefix_n = strnlen(b->prefix, sizeof b->prefix);
    b->suffix_n = strnlen(b->suffix, sizeof b->suffix);
    dan_byte_pieces_set(&b->bytes, s);
}

static int check_scores(const struct dan_tok_spec *s, struct dan_err *e)
{
    for (size_t i = 0; i < s->n && s->merges == DAN_MERGES_BY_SCORE; i++)
        if (s->piece[i].flags & DAN_PIECE_MODEL && isnan(s->piece[i].score))
            return dan_fail(e, DAN_EFORMAT, "piece %zu of '%s' has a score that is no number; the file is damaged", i, s->where);
    return DAN_OK;
}

static int make(struct maker *k, struct dan_err *e)
{
    struct dan_charbpe *b = k->b;
    bool listed = k->s->merges == DAN_MERGES_LISTED || (k->s->sp && k->s->sp->algorithm == DAN_SP_CHAR);
    set_switches(b, k->s);
    int r = check_scores(k->s, e);
    if (!r) r = set_vocab(k, e);
    if (!r && b->by_text && !k->no_memory) r = set_extra(k, e);
    if (!r && k->s->sp && !k->no_memory) r = set_user(k, e);
    if (!r && b->by_text && !k->no_memory) k->no_memory = set_unused(k) != 0;
    if (!r && !k->no_memory) r = listed ? list_merges(k, e) : find_merges(k, e);
    if (!r && !k->no_memory) k->no_memory = set_pairs(k) || set_joins(k);
    for (int c = 0; c < 128 && !r && !k->no_memory; c++) {
        char byte = (char)c;
        b->ascii[c] = dan_trie_find(&b->vocab, &byte, 1);
    }
    return !r && k->no_memory ? dan_fail(e, DAN_ENOMEM, "out of memory for a vocabulary of %zu pieces", k->s->n) : r;
}

static void maker_release(struct maker *k)
{
    dan_map_free(k->extra);
    dan_free(k->keys.v);
    dan_free(k->rank);
    dan_free(k->merges.v);
}

int dan_charbpe_new(const struct dan_tok_spec *s, struct dan_charbpe **out, struct dan_err *e)
{
    struct maker k = {.b = dan_calloc(1, sizeof *k.b), .s = s};
    if (!k.b) return dan_fail(e, DAN_ENOMEM, "out of memory for a vocabulary of %zu pieces", s->n);
    int r = make(&k, e);
    maker_release(&k);
    if (r) dan_charbpe_free(k.b);
    else *out = k.b;
    return r;
}

void dan_charbpe_free(struct dan_charbpe *b)
{
    if (!b) return;
    dan_trie_release(&b->vocab);
    dan_trie_release(&b->user);
    if (b->pair) dan_huge_free(b->pair, b->pair_bytes);
    dan_free(b->seen);
    dan_free(b->joins);
    dan_free(b->symbol_n);
    dan_free(b->unused);
    dan_free((void *)b->own);
    dan_free(b);
}

static int by_rank(const void *left, const void *right)
{
    const struct merge *a = left, *b = right;
    if (a->rank != b->rank) return a->rank < b->rank ? -1 : 1;
    if (a->id != b->id) return a->id < b->id ? -1 : 1;
    return (a->left > b->left) - (a->left < b->left);
}

int dan_charbpe_list_merges(const struct dan_tok_spec *s, int32_t **merge, size_t *n, struct dan_err *e)
{
    struct maker k = {.b = dan_calloc(1, sizeof *k.b), .s = s};
    if (!k.b) return dan_fail(e, DAN_ENOMEM, "out of memory for a vocabulary of %zu pieces", s->n);
    set_switches(k.b, s);
    int r = check_scores(s, e);
    if (!r) r = set_vocab(&k, e);
    if (!r && !k.no_memory) r = find_merges(&k, e);
    if (k.merges.n > 1) qsort(k.merges.v, k.merges.n, sizeof *k.merges.v, by_rank);
    int32_t *list = r || k.no_memory ? NULL : dan_malloc(2 * k.merges.n * sizeof *list);
    for (size_t i = 0; i < k.merges.n && list; i++) list[2 * i] = k.merges.v[i].left, list[2 * i + 1] = k.merges.v[i].right;
    if (!r && !list) r = dan_fail(e, DAN_ENOMEM, "out of memory for %zu merges", k.merges.n);
    if (!r) *merge = list, *n = k.merges.n;
    maker_release(&k);
    dan_charbpe_free(k.b);
    return r;
}
