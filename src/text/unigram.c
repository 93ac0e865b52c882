/* The best path to each position is kept while a text is read from the left (Viterbi).  Where no piece reaches beyond a
 * position, all paths meet there: what lies before is written out, and the memory used again, so that a text of any length
 * needs only as much as its longest stretch that pieces overlap. */
#include "text/unigram.h"
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "text/byte_pieces.h"
#include "text/sp_model.h"
#include "text/trie.h"

enum { ON_STACK = 1024, ENOUGH = 128, NONE = -2 };     /* ENOUGH: bytes after which a meeting of all paths is used */
enum { SURE_BYTES = 17, SURE_IDS = 8 };        /* U+2581 and a word of 14 */
static const double UNK_PENALTY = 10, FAR = 100000;    /* both libraries'; SentencePiece's */
/* Below FAR, a sum of up to 17 floats is off by at most 17 * 2^-8 = 0.07, below FAR_DOUBLE one of doubles by 17 * 2^-24 = 1e-6: paths that
 * are further apart than twice that keep their order whatever they begin with. */
static const double FAR_DOUBLE = 1e9, APART = 0.25, APART_DOUBLE = 1e-4;

struct dan_unigram {
    struct dan_trie trie;
    double *score;                             /* by id */
    double  unk_score, far;                    /* far: above what sure parts add to a score */
    int32_t unk;                               /* -1: none */
    size_t  longest;                           /* bytes of a piece */
    bool    sp, byte_fallback;
    struct dan_byte_pieces bytes;
    bool    meets[128];
};

/* --- making */

static bool in_trie(const struct dan_tok_spec *s, size_t id)
{
    if (s->sp) return id < s->sp->n_type && (s->sp->type[id] == DAN_SP_NORMAL || s->sp->type[id] == DAN_SP_USER_DEFINED);
    int flags = s->piece[id].flags;
    return flags & DAN_PIECE_MODEL && !(flags & (DAN_PIECE_SPECIAL | DAN_PIECE_UNUSED));
}

/* SentencePiece's score of a user-defined piece: above 0, which no other is. */
static double user_score(size_t n) { return (float)(0.1 * ((double)n - 1)); }

static int set_scores(struct dan_unigram *u, const struct dan_tok_spec *s, struct dan_err *e)
{
    double least = u->sp ? 3.40282346638528859812e+38 : INFINITY;
    for (size_t i = 0; i < s->n; i++) {
        const struct dan_spec_piece *p = &s->piece[i];
        if (!(p->flags & DAN_PIECE_MODEL)) continue;
        u->score[i] = u->sp ? (double)(float)p->score : p->score;
        if (!isfinite(u->score[i]))
            return dan_fail(e, DAN_EFORMAT, "piece %zu ('%.*s') of '%s' has a score that is no finite number; the file is damaged", i,
                            (int)(p->n < 40 ? p->n : 40), s->bytes.p + p->at, s->where);
        if (fabs(u->score[i]) * (2 * SURE_BYTES) > u->far) u->far = fabs(u->score[i]) * (2 * SURE_BYTES);
        if (u->sp && (i >= s->sp->n_type || s->sp->type[i] != DAN_SP_NORMAL)) continue;
        if (u->score[i] < least) least = u->score[i];
    }
    u->unk_score = u->sp ? (double)((float)least - (float)UNK_PENALTY) : least - UNK_PENALTY;
    for (size_t i = 0; i < s->n && u->sp; i++)
        if (i < s->sp->n_type && s->sp->type[i] == DAN_SP_USER_DEFINED) u->score[i] = user_score(s->piece[i].n);
    return DAN_OK;
}

static int set_trie(struct dan_unigram *u, const struct dan_tok_spec *s, struct dan_err *e)
{
    struct dan_trie_key *key = dan_malloc(s->n * sizeof *key);
    size_t n = 0;
    if (!key) return dan_fail(e, DAN_ENOMEM, "out of memory for %zu pieces", s->n);
    for (size_t i = 0; i < s->n; i++) {
        const struct dan_spec_piece *p = &s->piece[i];
        if (!p->n || !in_trie(s, i)) continue;
        key[n++] = (struct dan_trie_key){s->bytes.p + p->at, p->n, (int32_t)i};
        if (p->n > u->longest) u->longest = p->n;
    }
    int r = dan_trie_build(&u->trie, key, n, e);
    dan_free(key);
    return r;
}

/* Between c and U+2581: does a piece have both, is either no piece?  A piece that is unk itself could take in what is on the other side. */
static void set_meets(struct dan_unigram *u, const struct dan_tok_spec *s)
{
    static const char space[] = "\xe2\x96\x81";
    bool fit = dan_trie_find(&u->trie, space, 3) >= 0 && !(u->unk >= 0 && (size_t)u->unk < s->n && in_trie(s, (size_t)u->unk));
    for (int c = 0; c < 128; c++) {
        char one = (char)c;
        u->meets[c] = fit && dan_trie_find(&u->trie, &one, 1) >= 0;
    }
    for (size_t i = 0; i < s->n; i++) {
        const char *p = s->bytes.p + s->piece[i].at, *end = p + s->piece[i].n;
        if (!s->piece[i].n || !in_trie(s, i)) continue;
        for (const char *at = p; (at = memmem(at, (size_t)(end - at), space, 3)) != NULL; at++)
            if (at > p && (unsigned char)at[-1] < 128) u->meets[(unsigned char)at[-1]] = false;
    }
}

int dan_unigram_new(const struct dan_tok_spec *s, struct dan_unigram **out, struct dan_err *e)
{
    struct dan_unigram *u = dan_calloc(1, sizeof *u);
    if (u) u->score = dan_calloc(s->n, sizeof *u->score);
    int r = u && u->score ? DAN_OK : dan_fail(e, DAN_ENOMEM, "out of memory for %zu pieces", s->n);
    if (!r) {
        u->sp = s->sp != NULL;
        u->unk = s->unk;
        u->byte_fallback = s->byte_fallback;
        dan_byte_pieces_set(&u->bytes, s);
        r = set_scores(u, s, e);
    }
    if (!r) r = set_trie(u, s, e);
    if (!r) set_meets(u, s);
    if (r) dan_unigram_free(u);
    else *out = u;
    return r;
}

void dan_unigram_free(struct dan_unigram *u)
{
    if (!u) return;
    dan_trie_release(&u->trie);
    dan_free(u->score);
    dan_free(u);
}

/* --- what comes out */

struct writer {
    const struct dan_unigram *u;
    const char *p;
    struct dan_ids *out, *span;
    size_t  unk_from;                          /* of the run of unknown characters that is open */
    bool    in_unk, no_unk;
};

static void put(struct writer *w, int32_t id, size_t from, size_t to)
{
    dan_ids_push(w->out, id);
    if (!w->span) return;
    dan_ids_push(w->span, (int32_t)from);
    dan_ids_push(w->span, (int32_t)to);
}

static void end_unk(struct writer *w, size_t at)
{
    const struct dan_unigram *u = w->u;
    const char *run = w->p + w->unk_from;
    size_t n = at - w->unk_from;
    w->in_unk = false;
    int32_t id = u->sp ? -1 : dan_trie_find(&u->trie, run, n);
    if (id < 0 && u->byte_fallback && dan_byte_pieces_all(&u->bytes, run, n)) {
        for (size_t i = 0; i < n; i++) put(w, u->bytes.id[(unsigned char)run[i]], w->unk_from, at);
        return;
    }
    if (id < 0) id = u->unk;
    if (id < 0) w->no_unk = true;
    else put(w, id, w->unk_from, at);
}

static void emit(struct writer *w, int32_t id, size_t from, size_t to)
{
    if (id != w->u->unk) {
        if (w->in_unk) end_unk(w, from);
        put(w, id, from, to);
        return;
    }
    /* SentencePiece gives each character its bytes, and only then joins what is unknown */
    if (w->in_unk && w->u->sp && w->u->byte_fallback) end_unk(w, from);
    if (!w->in_unk) w->unk_from = from;
    w->in_unk = true;
}

/* --- the search */

struct node { double score; uint32_t start; int32_t id; };     /* best path to here: its last piece, and where that begins */

struct search {
    struct node *node, *heap;
    size_t  cap, base;                         /* node[k] is position base + k */
    uint32_t at, reach;                        /* of node: the position whose pieces are looked up; the last that is set */
};

static inline double sum(const struct dan_unigram *u, double a, double b) { return u->sp ? (double)((float)a + (float)b) : a + b; }

static inline void offer(struct search *v, uint32_t to, double score, int32_t id)
{
    while (v->reach < to) v->node[++v->reach].id = NONE;
    struct node *t = &v->node[to];
    if (t->id != NONE && !(score > t->score)) return;
    t->score = score;
    t->start = v->at;
    t->id = id;
}

/* The length that the first byte announces, as SentencePiece takes it: bytes that are no UTF-8 are characters too. */
static inline size_t char_length(const char *p, size_t n)
{
    static const unsigned char length[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
    size_t k = length[(unsigned char)*p >> 4];
    return k < n ? k : n;
}

/* SentencePiece counts from 0 again before a float gets too coarse. */
static inline void count_anew(const struct dan_unigram *u, struct search *v)
{
    double offset = v->node[v->at].score;
    if (!u->sp || (offset >= -FAR && offset <= FAR)) return;
    v->node[v->at].score = 0;
    for (uint32_t k = v->at + 1; k <= v->reach; k++)
        if (v->node[k].id != NONE) v->node[k].score = sum(u, v->node[k].score, -offset);
}

/* All pieces that begin at p; returns the length of the character there. */
static inline size_t look_up(const struct dan_unigram *u, struct search *v, const char *p, size_t n)
{
    const dan_trie_unit *unit = u->trie.unit;
    dan_trie_unit at = unit[0];
    count_anew(u, v);
    double till = v->node[v->at].score;
    size_t whole = char_length(p, n);
    bool single = false;
    for (size_t k = 0; k < n;) {
        unsigned char c = (unsigned char)p[k];
        at = unit[(uint32_t)at ^ c];
        if ((at >> 32 & 511) != c) break;
        k++;
        int32_t id = dan_trie_value(at);
        if (id < 0) continue;
        offer(v, v->at + (uint32_t)k, sum(u, u->score[id], till), id);
        single |= k == whole;
    }
    if (!single) offer(v, v->at + (uint32_t)whole, sum(u, u->unk_score, till), u->unk);
    return whole;
}

/* All paths meet at v->at: writes what lies before it and begins anew there. */
static void write_out(struct search *v, struct writer *w)
{
    uint32_t end = v->at, to = end, from = end ? v->node[end].start : 0;
    while (to) {                               /* turns the links round */
        uint32_t before = v->node[from].start;
        v->node[from].start = to;
        to = from;
        from = before;
    }
    for (uint32_t k = 0; k != end; k = to) {
        to = v->node[k].start;
        emit(w, v->node[to].id, v->base + k, v->base + to);
    }
    v->node[0] = (struct node){.score = v->node[end].score, .id = NONE};
    v->base += end;
    v->at = v->reach = 0;
}

static int room(struct search *v, size_t need)
{
    if (need <= v->cap) return 0;
    bool on_stack = !v->heap;
    size_t cap = on_stack ? 0 : v->cap;
    if (need >= UINT32_MAX || dan_vec_grow(&v->heap, &cap, need, sizeof *v->heap)) return -1;
    if (on_stack) memcpy(v->heap, v->node, (v->reach + 1) * sizeof *v->node);
    v->node = v->heap;
    v->cap = cap;
    return 0;
}

static int search(struct search *v, struct writer *w, size_t n)
{
    while (v->base + v->at < n) {
        if (v->at == v->reach && v->at >= ENOUGH) write_out(v, w);
        size_t pos = v->base + v->at;
        if (room(v, v->at + w->u->longest + 8)) return -1;
        v->at += (uint32_t)look_up(w->u, v, w->p + pos, n - pos);
    }
    write_out(v, w);
    if (w->in_unk) end_unk(w, n);
    return 0;
}

static int encode(const struct dan_unigram *u, const char *p, size_t n, double *till, struct dan_ids *out, struct dan_ids *span,
                  struct dan_err *e)
{
    struct node stack[ON_STACK];
    struct search v = {.node = stack, .cap = ON_STACK};
    struct writer w = {.u = u, .p = p, .out = out, .span = span};
    stack[0] = (struct node){.score = *till, .id = NONE};
    int bad = search(&v, &w, n);
    if (!bad) *till = v.node[0].score;
    dan_free(v.heap);
    if (bad) return dan_fail(e, DAN_ENOMEM, "out of memory for a run of %zu bytes that pieces overlap; cut the text", n);
    if (w.no_unk)
        return dan_fail(e, DAN_EINVAL, "the text has a character that is not in the vocabulary, and this tokenizer has no unk token; "
                        "use only characters of the vocabulary, or a tokenizer with an unk_id");
    return DAN_OK;
}

int dan_unigram_encode_spans(const struct dan_unigram *u, const char *p, size_t n, struct dan_ids *out, struct dan_ids *span,
                             struct dan_err *e)
{
    double till = 0;
    return encode(u, p, n, &till, out, span, e);
}

int dan_unigram_encode(const struct dan_unigram *u, const char *p, size_t n, struct dan_ids *out, struct dan_err *e)
{
    double till = 0;
    return encode(u, p, n, &till, out, NULL, e);
}

int dan_unigram_encode_on(const struct dan_unigram *u, const char *p, size_t n, double *till, struct dan_ids *out, struct dan_err *e)
{
    return encode(u, p, n, till, out, NULL, e);
}

/* --- parts whose ids are sure */

bool dan_unigram_meets(const struct dan_unigram *u, unsigned char c) { return c < 128 && u->meets[c]; }

struct peak { double best, second; int32_t id; uint8_t from; };        /* of paths to a position */

static void offer_sure(struct peak *to, double score, int32_t id, size_t from)
{
    if (score > to->best) *to = (struct peak){score, to->best, id, (uint8_t)from};
    else if (score > to->second) to->second = score;
}

/* All pieces that begin at p[at]; the length of the character there, 0: it is unknown. */
static size_t look_up_sure(const struct dan_unigram *u, struct peak *v, const char *p, size_t at, size_t n)
{
    size_t whole = char_length(p + at, n - at), known = 0;
    dan_trie_unit unit = u->trie.unit[0];
    for (size_t k = at; k < n && dan_trie_step(&u->trie, &unit, (unsigned char)p[k]); k++) {
        int32_t id = dan_trie_value(unit);
        if (id < 0) continue;
        offer_sure(&v[k + 1], u->score[id] + v[at].best, id, at);
        if (k + 1 == at + whole) known = whole;
    }
    return known;
}

/* The ids of a part of known characters, if they are the same whatever the score before it.  How many; 0: not sure. */
static size_t sure_ids(const struct dan_unigram *u, const char *p, size_t n, int32_t id[SURE_IDS])
{
    struct peak v[SURE_BYTES + 1];
    double apart = u->sp ? APART : APART_DOUBLE;
    size_t m = 0;
    if (n == 0 || n > SURE_BYTES) return 0;
    for (size_t i = 0; i <= n; i++) v[i] = (struct peak){-INFINITY, -INFINITY, NONE, 0};
    v[0].best = 0;
    for (size_t at = 0, len; at < n; at += len)
        if ((len = look_up_sure(u, v, p, at, n)) == 0) return 0;
    for (size_t at = n; at; at = v[at].from, m++)
        if (m == SURE_IDS || v[at].id == u->unk || !(v[at].best - v[at].second > apart)) return 0;
    for (size_t at = n, k = m; at; at = v[at].from) id[--k] = v[at].id;
    return m;
}

bool dan_unigram_pass(const struct dan_unigram *u, const int32_t *id, size_t n, double *till)
{
    if (!(fabs(*till) + u->far < (u->sp ? FAR : FAR_DOUBLE))) return false;
    double t = *till;
    for (size_t i = 0; i < n; i++) t = sum(u, u->score[id[i]], t);
    *till = t;
    return true;
}

bool dan_unigram_word(const struct dan_unigram *u, const char *p, size_t n, double *till, struct dan_ids *out)
{
    int32_t id[SURE_IDS];
    size_t m = sure_ids(u, p, n, id);
    if (!m || !dan_unigram_pass(u, id, m, till)) return false;
    for (size_t i = 0; i < m; i++) dan_ids_push(out, id[i]);
    return true;
}
