/* Ids with the bytes that they stand for; many texts at once; one text or two with their control tokens. */
#include <string.h>
#include "base/mem.h"
#include "base/threads.h"
#include "text/normal.h"
#include "text/pipeline.h"
#include "text/post.h"
#include "text/sp_model.h"

/* --- offsets where the pipeline is not the way: the lengths of tokens add up */
struct spans { const struct dan_tokenizer *t; const uint8_t *mark; int flags; struct dan_ids *out; struct dan_spans *span; struct dan_err *e; };

/* The ids from `before` on are tokens of f, one after the other. */
static void by_length(const struct spans *s, const struct dan_flow *f, size_t before)
{
    size_t at = 0;
    for (size_t i = before; i < s->out->n; i++) {
        size_t n;
        dan_tokenizer_token(s->t, s->out->v[i], &n);
        size_t to = at + n <= f->s.n ? at + n : f->s.n;
        struct dan_span where = dan_flow_where(f, at, to);
        dan_spans_push(s->span, where.from, where.to);
        at = to;
    }
}

/* Characters, unknown ones too, are one id each. */
static void by_char(const struct spans *s, const struct dan_flow *f, size_t before)
{
    size_t at = 0;
    int32_t cp;
    for (size_t i = before; i < s->out->n && at < f->s.n; i++) {
        size_t to = at + dan_flow_char(f->s.p + at, f->s.n - at, &cp);
        struct dan_span where = dan_flow_where(f, at, to);
        dan_spans_push(s->span, where.from, where.to);
        at = to;
    }
}

static int plain(const struct spans *s, const char *p, size_t from, size_t to)
{
    struct dan_flow f = {.track = true}, form = {.track = true};
    size_t before = s->out->n;
    dan_flow_set(&f, p + from, to - from, from);
    if (s->t->nfc) dan_form_apply(DAN_FORM_NFC, &f, &form);
    else dan_flow_copy(&form, &f, 0, f.s.n);
    int r = dan_flow_check(&form, s->e);
    if (!r) r = s->t->kind->encode(s->t, NULL, dan_str_c(&form.s), 0, form.s.n, s->flags, s->out, s->e);
    if (!r && s->t->kind == &dan_tok_char) by_char(s, &form, before);
    else if (!r) by_length(s, &form, before);
    dan_flow_release(&f);
    dan_flow_release(&form);
    return r;
}

static int sentencepiece(const struct spans *s, const char *p, size_t from, size_t to)
{
    struct dan_ids pair = {0};
    int r = dan_sp_encode_spans(s->t->sp, p + from, to - from, s->out, &pair, s->e);
    for (size_t i = 0; i + 1 < pair.n; i += 2) dan_spans_push(s->span, from + (size_t)pair.v[i], from + (size_t)pair.v[i + 1]);
    if (!r && pair.failed) r = dan_fail(s->e, DAN_ENOMEM, "out of memory for the offsets of %zu bytes", to - from);
    dan_ids_release(&pair);
    return r;
}

static int between(const struct spans *s, const char *p, size_t from, size_t to)
{
    return s->t->sp ? sentencepiece(s, p, from, to) : plain(s, p, from, to);
}

static int around(const struct spans *s, const struct dan_added_set *set, const char *p, size_t from, size_t to,
                  int (*rest)(const struct spans *s, const char *p, size_t from, size_t to))
{
    struct dan_added_walk w = {.t = s->t, .set = set, .p = p + from, .n = to - from, .flags = s->flags, .mark = s->mark ? s->mark + from : NULL};
    const struct dan_added *a;
    size_t at = 0, start, stop;
    int r = DAN_OK;
    while (!r && (a = dan_added_next(&w, &start, &stop)) != NULL) {
        if (start > at) r = rest(s, p, from + at, from + start);
        if (!r) {
            dan_ids_push(s->out, a->id);
            dan_spans_push(s->span, from + start, from + stop);
        }
        at = stop;
    }
    return r || from + at == to ? r : rest(s, p, from + at, to);
}

static int normal(const struct spans *s, const char *p, size_t from, size_t to) { return around(s, &s->t->normal, p, from, to, between); }

int dan_tokenizer_encode_marked(const struct dan_tokenizer *t, const char *bytes, const uint8_t *mark, size_t n, int flags,
                                struct dan_ids *out, struct dan_spans *span, struct dan_err *e)
{
    struct spans s = {t, mark, flags, out, span, e};
    int r = t->pipe ? dan_pipeline_encode_marked(t, bytes, mark, n, flags, out, span, e)
                    : around(&s, &t->raw, bytes, 0, n, t->normal.index ? normal : between);
    if (!r && (out->failed || span->failed)) r = dan_fail(e, DAN_ENOMEM, "out of memory for the ids of %zu bytes", n);
    return r;
}

int dan_tokenizer_encode_offsets(const struct dan_tokenizer *t, const char *bytes, size_t n, int flags, struct dan_ids *out,
                                 struct dan_spans *span, struct dan_err *e)
{
    size_t before = out->n, span_before = span->n;
    int r = dan_tokenizer_encode_marked(t, bytes, NULL, n, flags, out, span, e);
    if (!r) dan_post_trim(t->post, t, bytes, out, before, span, span_before);
    return r;
}

/* --- many texts */
struct batch {
    const struct dan_tokenizer *t;
    const struct dan_bytes *text;
    size_t n;
    int64_t next;                              /* taken with an atomic add: results do not depend on who takes what */
    int flags;
    struct dan_ids *out;
    int64_t first;                             /* lowest number that failed */
    struct dan_err err;
    int32_t lock;
};

static void note(struct batch *b, int64_t i, const struct dan_err *e)
{
    while (__atomic_exchange_n(&b->lock, 1, __ATOMIC_ACQUIRE)) {}
    if (i < b->first) {
        b->first = i;
        b->err = *e;
    }
    __atomic_store_n(&b->lock, 0, __ATOMIC_RELEASE);
}

static void work(void *ctx, int ith, int nth)
{
    (void)ith, (void)nth;
    struct batch *b = ctx;
    struct dan_tok_cache *cache = NULL;
    int64_t i;
    dan_tok_cache_new(b->t, &cache, NULL);     /* without one it is only slower */
    while ((i = __atomic_fetch_add(&b->next, 1, __ATOMIC_RELAXED)) < (int64_t)b->n) {
        struct dan_err e = {0};
        if (dan_encode_all(b->t, cache, b->text[i].p, b->text[i].n, b->flags, &b->out[i], &e)) note(b, i, &e);
    }
    dan_tok_cache_free(cache);
}

int dan_tokenizer_encode_batch(const struct dan_tokenizer *t, struct dan_pool *pool, const struct dan_bytes *text, size_t n, int flags,
                               struct dan_ids *out, struct dan_err *e)
{
    struct batch b = {.t = t, .text = text, .n = n, .flags = flags, .out = out, .first = INT64_MAX};
    dan_pool_run(pool, work, &b);
    return b.err.code ? dan_fail(e, b.err.code, "text %lld: %s", (long long)b.first, b.err.msg) : DAN_OK;
}

/* --- control tokens */
int dan_tokenizer_join(const struct dan_tokenizer *t, const struct dan_ids *a, const struct dan_ids *b, struct dan_ids *out,
                       struct dan_ids *types, struct dan_err *e)
{
    dan_post_join(t->post, a, b, out, types);
    return out->failed || (types && types->failed) ? dan_fail(e, DAN_ENOMEM, "out of memory for the ids of two texts") : DAN_OK;
}
