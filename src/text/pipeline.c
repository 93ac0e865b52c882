#include "text/pipeline.h"
#include <string.h>
#include "base/mem.h"
#include "io/json.h"
#include "text/charbpe.h"
#include "text/pretok.h"
#include "text/spaced_rules.h"
#include "text/unigram.h"

struct model;
struct dan_pipeline {
    struct dan_normal *normal;
    struct dan_pretok *pre;
    const struct model *model;
    struct dan_charbpe *charbpe;
    struct dan_unigram *unigram;
    char   prefix[32];                         /* WordPiece */
    size_t prefix_n, max_chars, longest;
    int32_t unk;
    struct dan_spaced *spaced;                 /* NULL: not word by word */
    struct dan_spaced_way way;
};

/* One text on its way. */
struct run {
    const struct dan_tokenizer *t;
    const struct dan_pipeline *p;
    struct dan_tok_cache *cache;
    const uint8_t *mark;                       /* of the original text, or NULL */
    int flags;
    struct dan_ids *out;
    struct dan_spans *span;                    /* or NULL */
    struct dan_err *e;
    struct dan_flow text, spare;               /* normalised, between two added tokens */
    struct dan_cutting cut;
    struct dan_ids pairs;                      /* from, to of each id in its piece */
    struct dan_str marks;                      /* of text */
    bool in_parts;                             /* word by word, from byte `base` of the original on */
    size_t base, whole, made;                  /* in parts: bytes of the text, and of the normal forms of its parts so far */
    double till;                               /* where a unigram model sees a text whole: the score before this part */
};

/* --- models: the ids of one piece; r->pairs: where in the piece, if r->span */
struct model {
    enum dan_spec_model of;
    bool bytes;
    int (*encode)(struct run *r, const char *p, size_t n);
};

static void at(struct run *r, size_t from, size_t to)
{
    dan_ids_push(&r->pairs, (int32_t)from);
    dan_ids_push(&r->pairs, (int32_t)to);
}

static int encode_bytes(struct run *r, const char *p, size_t n)
{
    size_t before = r->out->n, from = 0;
    int bad = dan_bpe_merge(r->t, p, n, r->flags, r->out, r->e);
    if (bad || !r->span) return bad;
    for (size_t i = before; i < r->out->n; i++) {
        size_t len;
        dan_tokenizer_token(r->t, r->out->v[i], &len);
        at(r, from, from + len <= n ? from + len : n);
        from += len;
    }
    return DAN_OK;
}

static int encode_chars(struct run *r, const char *p, size_t n)
{
    if (r->span) return dan_charbpe_encode_spans(r->p->charbpe, p, n, r->out, &r->pairs, r->e);
    return dan_charbpe_encode_cached(r->p->charbpe, r->cache, p, n, r->out, r->e);
}

static int encode_unigram(struct run *r, const char *p, size_t n)
{
    if (r->span) return dan_unigram_encode_spans(r->p->unigram, p, n, r->out, &r->pairs, r->e);
    if (!r->in_parts || !r->p->way.whole) r->till = 0;
    return dan_unigram_encode_on(r->p->unigram, p, n, &r->till, r->out, r->e);
}

static int unknown(struct run *r, const char *p, size_t n)
{
    if (r->p->unk < 0)
        return dan_fail(r->e, DAN_EINVAL, "'%.*s' is not in the vocabulary, and this tokenizer has no token for what is unknown; use another "
                        "tokenizer", (int)(n < 60 ? n : 60), p);
    dan_ids_push(r->out, r->p->unk);
    if (r->span) at(r, 0, n);
    return DAN_OK;
}

static int encode_whole(struct run *r, const char *p, size_t n)
{
    int64_t id;
    if (!dan_map_get(r->t->by_bytes, p, n, &id)) return unknown(r, p, n);
    dan_ids_push(r->out, (int32_t)id);
    if (r->span) at(r, 0, n);
    return DAN_OK;
}

static size_t count_chars(const char *p, size_t n)
{
    int32_t cp;
    size_t k = 0;
    for (size_t i = 0; i < n; k++) i += dan_flow_char(p + i, n - i, &cp);
    return k;
}

/* The longest piece at p[from], a continuation behind the first; its bytes, 0: none. */
static size_t longest_piece(const struct run *r, const char *p, size_t n, size_t from, struct dan_str *key, int32_t *id)
{
    size_t skip = from ? r->p->prefix_n : 0, len = n - from;
    int64_t found;
    if (len + skip > r->p->longest) len = r->p->longest > skip ? r->p->longest - skip : 0;
    dan_str_clear(key);
    dan_str_append(key, r->p->prefix, skip);
    dan_str_append(key, p + from, len);
    if (key->failed) return 0;
    for (; len; len--) {
        if (from + len < n && ((unsigned char)p[from + len] & 0xC0) == 0x80) continue;      /* inside a character */
        if (dan_map_get(r->t->by_bytes, key->p, skip + len, &found)) return *id = (int32_t)found, len;
    }
    return 0;
}

/* Greedy, the slow, obvious way: wordpiece.c is the fast one for BERT's own parts. */
static int encode_wordpiece(struct run *r, const char *p, size_t n)
{
    size_t ids = r->out->n, pairs = r->pairs.n, len;
    struct dan_str key = {0};
    int32_t id = -1;
    if (count_chars(p, n) > r->p->max_chars) return unknown(r, p, n);
    for (size_t from = 0; from < n; from += len) {
        len = longest_piece(r, p, n, from, &key, &id);
        if (len == 0) {
            bool failed = key.failed;
            dan_str_release(&key);
            r->out->n = ids;
            r->pairs.n = pairs;
            return failed ? dan_fail(r->e, DAN_ENOMEM, "out of memory for a word of %zu bytes", n) : unknown(r, p, n);
        }
        dan_ids_push(r->out, id);
        if (r->span) at(r, from, from + len);
    }
    dan_str_release(&key);
    return DAN_OK;
}

static const struct model models[] = {
    {DAN_SPEC_BPE, true, encode_bytes}, {DAN_SPEC_BPE, false, encode_chars}, {DAN_SPEC_UNIGRAM, false, encode_unigram},
    {DAN_SPEC_WORDPIECE, false, encode_wordpiece}, {DAN_SPEC_WORDLEVEL, false, encode_whole},
};

const struct dan_tok_kind dan_tok_pipeline_bpe = {.name = "bpe"}, dan_tok_pipeline_unigram = {.name = "unigram"},
                          dan_tok_pipeline_wordpiece = {.name = "wordpiece"}, dan_tok_pipeline_wordlevel = {.name = "wordlevel"};

/* --- a text */
/* The ids of a short piece depend on its bytes alone.  BPE over characters remembers in its own way; DAN_ENCODE_UNK makes others of bytes. */
static bool may_remember(const struct run *r, size_t n)
{
    bool flagged = r->p->model->bytes && r->flags & DAN_ENCODE_UNK;
    return r->cache && !r->span && n <= DAN_WORD_MOST && !r->p->charbpe && !flagged && !(r->in_parts && r->p->way.whole);
}

static int remembered_piece(struct run *r, const char *p, size_t n)
{
    char copy[16] = {0};
    const int32_t *id;
    memcpy(copy, p, n);
    struct dan_word_key key = dan_word_key(copy, n);
    size_t m = dan_cache_find(r->cache, key, &id), before = r->out->n;
    for (size_t i = 0; i < m; i++) dan_ids_push(r->out, id[i]);
    int bad = m ? DAN_OK : r->p->model->encode(r, p, n);
    if (!m && !bad && !r->out->failed) dan_cache_put(r->cache, key, r->out->v + before, r->out->n - before);
    return bad;
}

static int model_piece(struct run *r, struct dan_span piece)
{
    const struct dan_flow *f = &r->cut.text;
    const char *p = f->s.p + piece.from;
    size_t n = piece.to - piece.from;
    r->pairs.n = 0;
    int bad = may_remember(r, n) ? remembered_piece(r, p, n) : r->p->model->encode(r, p, n);
    for (size_t i = 0; r->span && i + 1 < r->pairs.n; i += 2) {
        size_t from = piece.from + (size_t)r->pairs.v[i], to = piece.from + (size_t)r->pairs.v[i + 1];
        struct dan_span where = dan_flow_where(f, from, to);
        dan_spans_push(r->span, where.from, where.to);
    }
    if (!bad && r->pairs.failed) bad = dan_fail(r->e, DAN_ENOMEM, "out of memory for the offsets of a text");
    return bad;
}

/* Bytes [from, to) of the normalised text, without added tokens. */
static int pieces(struct run *r, size_t from, size_t to)
{
    struct dan_cutting *c = &r->cut;
    dan_flow_clear(&c->text);
    c->text.base = r->text.base;
    dan_flow_copy(&c->text, &r->text, from, to);
    c->piece.n = 0;
    dan_spans_push(&c->piece, 0, c->text.s.n);
    int bad = dan_flow_check(&c->text, r->e);
    if (!bad) bad = dan_pretok_apply(r->p->pre, c, r->e);
    for (size_t i = 0; i < c->piece.n && !bad; i++)
        if (c->piece.v[i].to > c->piece.v[i].from) bad = model_piece(r, c->piece.v[i]);
    return bad;
}

static void token(struct run *r, const struct dan_added *a, size_t from, size_t to)
{
    dan_ids_push(r->out, a->id);
    if (r->span) dan_spans_push(r->span, from, to);
}

/* A byte of normalised text is marked if one of those that it came from is. */
static int carry_marks(struct run *r)
{
    dan_str_clear(&r->marks);
    for (size_t i = 0; i < r->text.s.n; i++) {
        size_t from = r->text.at[i].from, to = r->text.at[i].to;
        while (from < to && !r->mark[from]) from++;
        dan_str_putc(&r->marks, from < to);
    }
    return r->marks.failed ? dan_fail(r->e, DAN_ENOMEM, "out of memory to normalise a text of %zu bytes", r->text.s.n) : DAN_OK;
}

/* p[n] begins at byte `from` of the original. */
static int step_by_step(struct run *r, const char *p, size_t n, size_t from)
{
    dan_flow_set(&r->text, p, n, from);
    int bad = dan_flow_check(&r->text, r->e);
    if (!bad) bad = dan_normal_apply(r->p->normal, &r->cut.room, &r->text, &r->spare, r->e);
    r->made += r->text.s.n;
    if (!bad && r->in_parts) bad = dan_normal_check(r->whole, r->made, r->e);
    if (!bad && r->mark) bad = carry_marks(r);
    if (bad || r->text.s.n == 0) return bad;
    struct dan_added_walk w = {.t = r->t, .set = &r->t->normal, .p = r->text.s.p, .n = r->text.s.n, .flags = r->flags,
                               .mark = r->mark ? (const uint8_t *)r->marks.p : NULL};
    const struct dan_added *a;
    size_t done = 0, start, stop;
    while (!bad && (a = dan_added_next(&w, &start, &stop)) != NULL) {
        if (start > done) bad = pieces(r, done, start);
        struct dan_span where = dan_flow_where(&r->text, start, stop);
        if (!bad) token(r, a, where.from, where.to);
        done = stop;
    }
    return bad || done == w.n ? bad : pieces(r, done, w.n);
}

/* --- word by word */
static int part(void *ctx, const char *p, size_t n, bool first, struct dan_err *e)
{
    (void)e;
    struct run *r = ctx;
    size_t skip = !first && r->p->way.drop;
    return step_by_step(r, p + skip, n - skip, first ? r->base : 0);
}

static bool counts(const struct run *r) { return r->p->unigram && r->p->way.whole; }

static bool pass(void *ctx, const int32_t *id, size_t n)
{
    struct run *r = ctx;
    return dan_unigram_pass(r->p->unigram, id, n, &r->till);
}

static int word(void *ctx, const char *p, size_t n, bool *sure, struct dan_err *e)
{
    (void)e;
    struct run *r = ctx;
    char text[32] = "\xe2\x96\x81";
    memcpy(text + 3, p + 1, n - 1);
    bool done = counts(r) && dan_unigram_word(r->p->unigram, text, n + 2, &r->till, r->out);
    *sure = done || !counts(r);
    return done ? DAN_OK : r->p->model->encode(r, text, n + 2);
}

/* Tokens that are found in normalised text need that text. */
static bool is_spaced(const struct run *r)
{
    const struct dan_added_set *s = &r->t->normal;
    return r->p->spaced && !r->span && !r->mark && !(s->index && (s->ordinary || r->flags & DAN_ENCODE_SPECIAL));
}

static int between(struct run *r, const char *p, size_t n, size_t from)
{
    const struct dan_spaced_model m = {r, part, word, counts(r) ? pass : NULL};
    r->in_parts = is_spaced(r);
    r->base = from;
    r->whole = n;
    r->made = 0;
    r->till = 0;
    return r->in_parts ? dan_spaced_encode(r->p->spaced, &m, r->cache, p, n, r->out, r->e) : step_by_step(r, p, n, from);
}

static int whole(struct run *r, const char *p, size_t n)
{
    struct dan_added_walk w = {.t = r->t, .set = &r->t->raw, .p = p, .n = n, .flags = r->flags, .mark = r->mark};
    const struct dan_added *a;
    size_t done = 0, start, stop;
    int bad = DAN_OK;
    while (!bad && (a = dan_added_next(&w, &start, &stop)) != NULL) {
        if (start > done) bad = between(r, p + done, start - done, done);
        if (!bad) token(r, a, start, stop);
        done = stop;
    }
    return bad || done == n ? bad : between(r, p + done, n - done, done);
}

static int encode_text(struct run *r, const char *p, size_t n)
{
    r->text.track = r->spare.track = r->cut.text.track = r->cut.spare.track = r->span || r->mark || dan_pretok_tracks(r->p->pre);
    int bad = whole(r, p, n);
    dan_flow_release(&r->text);
    dan_flow_release(&r->spare);
    dan_cutting_release(&r->cut);
    dan_ids_release(&r->pairs);
    dan_str_release(&r->marks);
    if (!bad && (r->out->failed || (r->span && r->span->failed))) bad = dan_fail(r->e, DAN_ENOMEM, "out of memory for the ids of %zu bytes", n);
    return bad;
}

int dan_pipeline_encode(const struct dan_tokenizer *t, struct dan_tok_cache *cache, const char *p, size_t n, int flags, struct dan_ids *out,
                        struct dan_spans *span, struct dan_err *e)
{
    struct run r = {.t = t, .p = t->pipe, .cache = cache, .flags = flags, .out = out, .span = span, .e = e};
    return encode_text(&r, p, n);
}

int dan_pipeline_encode_marked(const struct dan_tokenizer *t, const char *p, const uint8_t *mark, size_t n, int flags, struct dan_ids *out,
                               struct dan_spans *span, struct dan_err *e)
{
    struct run r = {.t = t, .p = t->pipe, .mark = mark, .flags = flags, .out = out, .span = span, .e = e};
    return encode_text(&r, p, n);
}

/* --- making one */
/* Tokens that are found in normalised text are looked for in their own normal form. */
static int normalize_added(struct dan_tokenizer *t, struct dan_pipeline *p, struct dan_err *e)
{
    struct dan_flow text = {0}, spare = {0};
    struct dan_pattern_room room = {0};
    int r = DAN_OK;
    dan_added_release(&t->normal);
    for (size_t i = 0; i < t->n_added && !r; i++) {
        struct dan_added *a = &t->added[i];
        if (!a->normalized) continue;
        dan_flow_set(&text, a->p, a->n, 0);
        r = dan_normal_apply(p->normal, &room, &text, &spare, e);
        if (!r && text.s.n && dan_added_put(&t->normal, text.s.p, text.s.n, (int64_t)i, a->special))
            r = dan_fail(e, DAN_ENOMEM, "out of memory for %zu added tokens", t->n_added);
        if (!r && (text.s.n != a->n || memcmp(dan_str_c(&text.s), a->p, a->n) != 0) && !(a->shown = dan_strdup(dan_str_c(&text.s))))
            r = dan_fail(e, DAN_ENOMEM, "out of memory for %zu added tokens", t->n_added);
    }
    dan_flow_release(&text);
    dan_flow_release(&spare);
    dan_pattern_room_release(&room);
    return r;
}

static int make_model(struct dan_pipeline *p, const struct dan_tok_spec *s, struct dan_err *e)
{
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (models[i].of == s->model && models[i].bytes == (s->byte_level && s->model == DAN_SPEC_BPE)) p->model = &models[i];
    p->unk = s->unk;
    p->max_chars = s->max_chars > 0 ? (size_t)s->max_chars : 0;
    p->prefix_n = strlen(s->prefix);
    memcpy(p->prefix, s->prefix, sizeof p->prefix);
    for (size_t i = 0; i < s->n; i++)
        if (s->piece[i].n > p->longest) p->longest = s->piece[i].n;
    if (p->model->encode == encode_chars) return dan_charbpe_new(s, &p->charbpe, e);
    return p->model->encode == encode_unigram ? dan_unigram_new(s, &p->unigram, e) : DAN_OK;
}

static int make_spaced(struct dan_pipeline *p, const struct dan_tok_spec *s, struct dan_err *e)
{
    if (!dan_spaced_fits(s, p->normal, p->charbpe, p->unigram, &p->way)) return DAN_OK;
    return dan_spaced_new(s, &p->way.rules, &p->spaced, e);
}

int dan_pipeline_new(struct dan_tokenizer *t, const struct dan_tok_spec *s, struct dan_pipeline **out, struct dan_err *e)
{
    struct dan_pipeline *p = dan_calloc(1, sizeof *p);
    int r = p ? dan_normal_new(s->normalizer, s->where, &p->normal, e) : dan_fail(e, DAN_ENOMEM, "out of memory for a tokenizer");
    if (!r) r = dan_pretok_new(s->pre_tokenizer, s->where, s->byte_level, &p->pre, e);
    if (!r) r = make_model(p, s, e);
    if (!r) r = make_spaced(p, s, e);
    if (!r) r = normalize_added(t, p, e);
    if (r) dan_pipeline_free(p);
    else *out = p;
    return r;
}

void dan_pipeline_free(struct dan_pipeline *p)
{
    if (!p) return;
    dan_normal_free(p->normal);
    dan_pretok_free(p->pre);
    dan_charbpe_free(p->charbpe);
    dan_unigram_free(p->unigram);
    dan_spaced_free(p->spaced);
    dan_free(p);
}

bool dan_pipeline_by_words(const struct dan_pipeline *p) { return p && p->spaced; }

static uint64_t hash_json(const json_t *j, uint64_t h)
{
    struct dan_str text = {0};
    if (j && !json_is_null(j)) dan_json_text(j, &text);
    h = dan_hash(dan_str_c(&text), text.n, h);
    dan_str_release(&text);
    return h;
}

uint64_t dan_pipeline_hash(const struct dan_tok_spec *s, uint64_t h)
{
    h = hash_json(s->pre_tokenizer, hash_json(s->normalizer, h));
    const int64_t all[] = {(int64_t)s->model, s->byte_fallback, s->fuse_unk, s->ignore_merges, s->unk, s->max_chars, s->byte_level};
    h = dan_hash(all, sizeof all, h);
    h = dan_hash(s->prefix, strlen(s->prefix), h);
    h = dan_hash(s->suffix, strlen(s->suffix), h);
    if (s->n_merges) h = dan_hash(s->merge, s->n_merges * 2 * sizeof *s->merge, h);
    for (size_t i = 0; i < s->n && s->model == DAN_SPEC_UNIGRAM; i++) h = dan_hash(&s->piece[i].score, sizeof s->piece[i].score, h);
    return h;
}
