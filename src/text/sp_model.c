#include "text/sp_model.h"
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/byte_pieces.h"
#include "text/charbpe.h"
#include "text/sp_model_normal.h"
#include "text/spaced.h"
#include "text/unigram.h"

static const char SPACE[] = "\xe2\x96\x81", REPLACEMENT[] = "\xef\xbf\xbd", UNK_SURFACE[] = " \xe2\x81\x87 ";

struct dan_sp_rules *dan_sp_rules_new(enum dan_sp_algorithm algorithm, size_t n)
{
    struct dan_sp_rules *r = dan_calloc(1, sizeof *r);
    if (!r) return NULL;
    r->algorithm = algorithm;
    r->in = (struct dan_sp_normal){.dummy_prefix = true, .remove_spaces = true, .escape_spaces = true};
    r->n_type = n;
    r->type = dan_malloc(n);
    if (r->type) memset(r->type, DAN_SP_NORMAL, n);
    else dan_sp_rules_free(r), r = NULL;
    return r;
}

void dan_sp_rules_free(struct dan_sp_rules *r)
{
    if (!r) return;
    dan_free(r->type);
    dan_str_release(&r->in.charsmap);
    dan_str_release(&r->out.charsmap);
    dan_free(r->unk_surface);
    dan_free(r);
}

struct dan_sp {
    enum dan_sp_algorithm algorithm;
    struct dan_sp_normaliser in, out;
    bool    denormalize;
    struct dan_trie user;
    struct dan_unigram *unigram;
    struct dan_charbpe *bpe;                   /* bpe and char */
    struct dan_trie word;
    int32_t unk;
    bool    byte_fallback;
    struct dan_byte_pieces bytes;
    struct dan_spaced *spaced;                 /* NULL: not word by word */
    bool    drop;                              /* a part is normalised without its first space, which is put before every text */

    size_t  n;
    char   *text, *unk_surface;                /* of all pieces; [n + 1] where each begins; its type */
    size_t *start;
    uint8_t *type;
    const char *space;                         /* how the pieces write it */
    bool    eats_space;                        /* the first space of a decoded text was never in it */
    bool    eats_all;                          /* ... and all that follow it */
};

/* --- making */

static int set_pieces(struct dan_sp *m, const struct dan_tok_spec *s, struct dan_err *e)
{
    size_t total = 0, at = 0;
    for (size_t i = 0; i < s->n; i++) total += s->piece[i].n;
    m->n = s->n;
    m->text = dan_malloc(total);
    m->start = dan_malloc((s->n + 1) * sizeof *m->start);
    m->type = dan_malloc(s->n);
    m->unk_surface = dan_strdup(s->sp->unk_surface ? s->sp->unk_surface : UNK_SURFACE);
    if (!m->text || !m->start || !m->type || !m->unk_surface)
        return dan_fail(e, DAN_ENOMEM, "out of memory for %zu pieces of %zu bytes", s->n, total);
    for (size_t i = 0; i < s->n; i++) {
        m->start[i] = at;
        m->type[i] = i < s->sp->n_type ? s->sp->type[i] : DAN_SP_CONTROL;
        if (m->type[i] > DAN_SP_BYTE) m->type[i] = DAN_SP_CONTROL;        /* no type at all: not for text */
        if (s->piece[i].n) memcpy(m->text + at, s->bytes.p + s->piece[i].at, s->piece[i].n);
        at += s->piece[i].n;
    }
    m->start[s->n] = at;
    return DAN_OK;
}

/* The pieces of some types as a set. */
static int set_trie(const struct dan_sp *m, struct dan_trie *t, unsigned types, struct dan_err *e)
{
    size_t n = 0;
    struct dan_trie_key *key = dan_malloc(m->n * sizeof *key);
    if (!key) return dan_fail(e, DAN_ENOMEM, "out of memory for %zu pieces", m->n);
    for (size_t i = 0; i < m->n; i++)
        if (types >> m->type[i] & 1 && m->start[i + 1] > m->start[i])
            key[n++] = (struct dan_trie_key){m->text + m->start[i], m->start[i + 1] - m->start[i], (int32_t)i};
    int r = n ? dan_trie_build(t, key, n, e) : DAN_OK;
    dan_free(key);
    return r;
}

static int set_model(struct dan_sp *m, const struct dan_tok_spec *s, struct dan_err *e)
{
    const unsigned words = 1u << DAN_SP_NORMAL | 1u << DAN_SP_USER_DEFINED;
    m->algorithm = s->sp->algorithm;
    switch (m->algorithm) {
    case DAN_SP_UNIGRAM: return dan_unigram_new(s, &m->unigram, e);
    case DAN_SP_BPE:
    case DAN_SP_CHAR: return dan_charbpe_new(s, &m->bpe, e);
    default: return set_trie(m, &m->word, words, e);
    }
}

static void set_switches(struct dan_sp *m, const struct dan_tok_spec *s)
{
    m->unk = s->unk;
    m->byte_fallback = s->byte_fallback;
    m->denormalize = s->sp->denormalize;
    m->in.suffix = s->sp->suffix;
    m->in.raw_bytes = s->sp->raw_bytes;
    m->space = s->sp->known_only ? " " : SPACE;
    m->eats_space = s->sp->in.dummy_prefix || s->sp->in.remove_spaces;
    m->eats_all = s->sp->in.remove_spaces;
    dan_byte_pieces_set(&m->bytes, s);
}

static bool any_piece(const struct dan_sp *m, enum dan_sp_type type, const char *with)
{
    size_t len = strlen(with);
    for (size_t i = 0; i < m->n; i++)
        if (m->type[i] == type && (!len || memmem(m->text + m->start[i], m->start[i + 1] - m->start[i], with, len))) return true;
    return false;
}

/* Does the model pass between ASCII character c and a space behind it? */
static bool passes(const struct dan_sp *m, unsigned char c)
{
    char text[] = {(char)c, SPACE[0], SPACE[1], SPACE[2]};
    return m->unigram ? dan_unigram_meets(m->unigram, c) : m->bpe && dan_charbpe_cuts(m->bpe, text, 1, 3);
}

/* Where a text may be taken word by word (spaced_rules.c has the proof for steps like these). */
static int set_spaced(struct dan_sp *m, const struct dan_tok_spec *s, struct dan_err *e)
{
    const struct dan_sp_normal *in = &s->sp->in;
    struct dan_spaced_rules rules = {.any = !in->remove_spaces && !in->charsmap.n};
    bool some = false;
    m->drop = in->dummy_prefix;
    if (!in->escape_spaces || s->sp->suffix || s->sp->known_only || (in->remove_spaces && !in->dummy_prefix) || !m->in.fast[' ']) return DAN_OK;
    if (any_piece(m, DAN_SP_UNUSED, "") || any_piece(m, DAN_SP_USER_DEFINED, " ") || any_piece(m, DAN_SP_USER_DEFINED, SPACE)) return DAN_OK;
    if (dan_charsmap_has_inner(m->in.map, ' ')) return DAN_OK;
    for (int c = '!'; c <= '~'; c++) some |= rules.plain[c] = m->in.fast[c] && passes(m, (unsigned char)c);
    return some ? dan_spaced_new(s, &rules, &m->spaced, e) : DAN_OK;
}

int dan_sp_new(const struct dan_tok_spec *s, struct dan_sp **out, struct dan_err *e)
{
    struct dan_sp *m = dan_calloc(1, sizeof *m);
    int r = m ? set_pieces(m, s, e) : dan_fail(e, DAN_ENOMEM, "out of memory for %zu pieces", s->n);
    if (!r) r = set_trie(m, &m->user, 1u << DAN_SP_USER_DEFINED, e);
    if (!r) r = dan_sp_normaliser_init(&m->in, &s->sp->in, &m->user, e);
    if (!r) r = dan_sp_normaliser_init(&m->out, &s->sp->out, NULL, e);
    if (!r) set_switches(m, s);
    if (!r) r = set_model(m, s, e);
    if (!r) r = set_spaced(m, s, e);
    if (r) dan_sp_free(m);
    else *out = m;
    return r;
}

void dan_sp_free(struct dan_sp *m)
{
    if (!m) return;
    dan_sp_normaliser_release(&m->in);
    dan_sp_normaliser_release(&m->out);
    dan_trie_release(&m->user);
    dan_trie_release(&m->word);
    dan_unigram_free(m->unigram);
    dan_charbpe_free(m->bpe);
    dan_spaced_free(m->spaced);
    dan_free(m->text);
    dan_free(m->start);
    dan_free(m->type);
    dan_free(m->unk_surface);
    dan_free(m);
}

/* --- encoding */

static void put(struct dan_ids *out, struct dan_ids *span, int32_t id, size_t from, size_t to)
{
    dan_ids_push(out, id);
    if (!span) return;
    dan_ids_push(span, (int32_t)from);
    dan_ids_push(span, (int32_t)to);
}

/* A word that the vocabulary lacks: its bytes, or unk, which takes in the words after it that are unknown too. */
static void put_unknown(const struct dan_sp *m, const char *p, size_t from, size_t to, bool *last_unk, struct dan_ids *out,
                        struct dan_ids *span)
{
    if (m->byte_fallback && dan_byte_pieces_all(&m->bytes, p + from, to - from)) {
        for (size_t i = from; i < to; i++) put(out, span, m->bytes.id[(unsigned char)p[i]], from, to);
        return;
    }
    if (m->unk >= 0 && !*last_unk) put(out, span, m->unk, from, to);
    else if (*last_unk && span && !span->failed) span->v[span->n - 1] = (int32_t)to;
    *last_unk = m->unk >= 0;
}

/* Words begin at each space. */
static void encode_words(const struct dan_sp *m, const char *p, size_t n, struct dan_ids *out, struct dan_ids *span)
{
    bool last_unk = false;
    for (size_t from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n && !(n - to >= 3 && memcmp(p + to, SPACE, 3) == 0);) to++;
        int32_t id = dan_trie_find(&m->word, p + from, to - from);
        if (id < 0) put_unknown(m, p, from, to, &last_unk, out, span);
        else put(out, span, id, from, to), last_unk = false;
    }
}

/* --- a text on its way */
struct run {
    const struct dan_sp *m;
    struct dan_tok_cache *cache;
    struct dan_ids *out, *span;
    struct dan_sp_buffer b;
    double till;                               /* unigram: the score before this part */
};

static int encode_normal(struct run *r, const char *p, size_t n, struct dan_err *e)
{
    const struct dan_sp *m = r->m;
    if (m->unigram && r->span) return dan_unigram_encode_spans(m->unigram, p, n, r->out, r->span, e);
    if (m->unigram) return dan_unigram_encode_on(m->unigram, p, n, &r->till, r->out, e);
    if (!m->bpe) return encode_words(m, p, n, r->out, r->span), DAN_OK;
    return r->span ? dan_charbpe_encode_spans(m->bpe, p, n, r->out, r->span, e) : dan_charbpe_encode_cached(m->bpe, r->cache, p, n, r->out, e);
}

static int part(void *ctx, const char *p, size_t n, bool first, struct dan_err *e)
{
    struct run *r = ctx;
    size_t skip = !first && r->m->drop;
    r->b.n = 0;
    int bad = dan_sp_normalise(&r->m->in, p + skip, n - skip, &r->b, e);
    return bad ? bad : encode_normal(r, r->b.p, r->b.n, e);
}

static bool pass(void *ctx, const int32_t *id, size_t n)
{
    struct run *r = ctx;
    return dan_unigram_pass(r->m->unigram, id, n, &r->till);
}

static int word(void *ctx, const char *p, size_t n, bool *sure, struct dan_err *e)
{
    struct run *r = ctx;
    char text[32];
    memcpy(text, SPACE, 3);
    memcpy(text + 3, p + 1, n - 1);
    bool done = r->m->unigram && dan_unigram_word(r->m->unigram, text, n + 2, &r->till, r->out);
    *sure = done || !r->m->unigram;
    return done ? DAN_OK : encode_normal(r, text, n + 2, e);
}

int dan_sp_encode(const struct dan_sp *m, struct dan_tok_cache *cache, const char *p, size_t n, struct dan_ids *out, struct dan_err *e)
{
    struct run r;
    const struct dan_spaced_model by = {&r, part, word, m->unigram ? pass : NULL};
    r.m = m, r.cache = cache, r.out = out, r.span = NULL, r.till = 0;
    dan_sp_buffer_init(&r.b, NULL);
    int bad = m->spaced ? dan_spaced_encode(m->spaced, &by, cache, p, n, out, e) : part(&r, p, n, true, e);
    dan_sp_buffer_release(&r.b);
    return bad;
}

int dan_sp_encode_spans(const struct dan_sp *m, const char *p, size_t n, struct dan_ids *out, struct dan_ids *span, struct dan_err *e)
{
    struct dan_ids map = {0};
    struct run r;
    size_t before = span->n;
    r.m = m, r.cache = NULL, r.out = out, r.span = span, r.till = 0;
    dan_sp_buffer_init(&r.b, &map);
    int bad = part(&r, p, n, true, e);
    for (size_t i = before; i < span->n; i++) span->v[i] = map.v[span->v[i]];          /* also of what came before a failure */
    dan_sp_buffer_release(&r.b);
    dan_ids_release(&map);
    return bad;
}

/* --- decoding */

static void put_text(const struct dan_sp *m, const char *p, size_t n, struct dan_str *out)
{
    size_t len = strlen(m->space);
    for (size_t i = 0, k; i < n; i = k) {
        for (k = i; k < n && !(n - k >= len && memcmp(p + k, m->space, len) == 0);) k++;
        dan_str_append(out, p + i, k - i);
        if (k == n) return;
        dan_str_putc(out, ' ');
        k += len;
    }
}

static void put_piece(const struct dan_sp *m, struct dan_sp_detok *d, int32_t id, struct dan_str *out)
{
    const char *p = m->text + m->start[id];
    size_t n = m->start[id + 1] - m->start[id], len = strlen(m->space);
    if (!d->past_start && m->eats_space && n >= len && memcmp(p, m->space, len) == 0) {
        p += len;
        n -= len;
        d->ate_space = !m->eats_all;
    }
    put_text(m, p, n, out);
}

void dan_sp_detok_push(const struct dan_sp *m, struct dan_sp_detok *d, int32_t id, bool control, struct dan_str *out)
{
    if (id < 0 || (size_t)id >= m->n) return;
    size_t before = out->n;
    const char *p = m->text + m->start[id];
    size_t n = m->start[id + 1] - m->start[id];
    int byte = m->type[id] == DAN_SP_BYTE ? dan_byte_of_piece(p, n) : -1;
    if (byte < 0) {
        if (d->ate_space || d->any) d->past_start = true;
        d->ate_space = false;
    }
    if (byte >= 0) dan_str_putc(out, (char)byte);
    else if (m->type[id] == DAN_SP_UNKNOWN) dan_str_puts(out, m->unk_surface);
    else if (m->type[id] != DAN_SP_CONTROL) put_piece(m, d, id, out);
    else if (control) dan_str_append(out, p, n);
    d->any |= out->n > before;
}

static bool is_byte(const struct dan_sp *m, int32_t id)
{
    return id >= 0 && (size_t)id < m->n && m->type[id] == DAN_SP_BYTE;
}

/* Bytes of pieces that are no UTF-8 become U+FFFD each. */
static void mend(struct dan_str *out, size_t from)
{
    struct dan_str bytes = {0};
    if (out->failed || dan_utf8_check(out->p + from, out->n - from) == out->n - from) return;
    dan_str_append(&bytes, out->p + from, out->n - from);
    out->n = from;
    for (size_t i = 0, len; i < bytes.n; i += len) {
        int32_t cp;
        len = (size_t)dan_utf8_next(bytes.p + i, bytes.n - i, &cp);
        if (cp < 0) dan_str_append(out, REPLACEMENT, 3);
        else dan_str_append(out, bytes.p + i, len);
    }
    out->failed |= bytes.failed;
    dan_str_release(&bytes);
}

static void denormalise(const struct dan_sp *m, struct dan_str *out, size_t from)
{
    struct dan_sp_buffer b;
    if (out->failed || out->n == from) return;
    dan_sp_buffer_init(&b, NULL);
    if (dan_sp_normalise(&m->out, out->p + from, out->n - from, &b, NULL)) out->failed = true;
    out->n = from;
    dan_str_append(out, b.p, b.n);
    dan_sp_buffer_release(&b);
}

void dan_sp_decode(const struct dan_sp *m, const int32_t *ids, size_t n, bool control, struct dan_str *out)
{
    struct dan_sp_detok d = {0};
    size_t start = out->n;
    for (size_t i = 0; i < n;) {
        size_t before = out->n, k = i;
        while (k < n && is_byte(m, ids[k])) dan_sp_detok_push(m, &d, ids[k++], control, out);
        if (k == i) dan_sp_detok_push(m, &d, ids[k++], control, out);
        else if (out->n > before) mend(out, before);
        i = k;
    }
    if (m->denormalize) denormalise(m, out, start);
}
