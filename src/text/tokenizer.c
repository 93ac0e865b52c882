#include "text/tokenizer.h"
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/decoder.h"
#include "text/pipeline.h"
#include "text/post.h"
#include "text/sp_model.h"
#include "text/wordpiece.h"

void dan_ids_push(struct dan_ids *ids, int32_t id)
{
    if (dan_ids_room(ids, 1)) ids->v[ids->n++] = id;
}

bool dan_ids_grow(struct dan_ids *ids, size_t more)
{
    if (ids->failed || dan_vec_grow(&ids->v, &ids->cap, ids->n + more, sizeof *ids->v) != 0) ids->failed = true;
    return !ids->failed;
}

void dan_ids_release(struct dan_ids *ids)
{
    dan_free(ids->v);
    *ids = (struct dan_ids){0};
}

void dan_spans_push(struct dan_spans *s, size_t from, size_t to)
{
    if (s->n == s->cap && (s->failed || dan_vec_grow(&s->v, &s->cap, s->n + 1, sizeof *s->v) != 0)) {
        s->failed = true;
        return;
    }
    s->v[s->n++] = (struct dan_span){from, to};
}

void dan_spans_release(struct dan_spans *s)
{
    dan_free(s->v);
    *s = (struct dan_spans){0};
}

void dan_tokenizer_free(struct dan_tokenizer *t)
{
    if (!t) return;
    for (size_t i = 0; i < sizeof t->page / sizeof t->page[0]; i++) dan_free(t->page[i]);
    dan_map_free(t->by_bytes);
    dan_wordpiece_free(t->wordpiece);
    dan_huge_free(t->merge, (t->merge_mask + 1) * sizeof *t->merge);
    dan_bpe_release(t);
    dan_sp_free(t->sp);
    dan_pipeline_free(t->pipe);
    dan_decoder_free(t->decoder);
    dan_post_free(t->post);
    dan_added_release(&t->raw);
    dan_added_release(&t->normal);
    for (size_t i = 0; t->added && i < t->n_added; i++) dan_free(t->added[i].shown);
    if (t->spec) dan_tok_spec_release(t->spec);
    dan_free(t->spec);
    dan_ids_release(&t->before);
    dan_ids_release(&t->after);
    json_decref(t->more_templates);
    void *const owned[] = {t->bytes, t->start, t->added, (void *)(uintptr_t)t->split.classes, t->merge_seen, t->byte_pair_rank,
                           t->merge_pair, t->merge_id, t->json, t->config, t->chat_template};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) dan_free(owned[i]);
    dan_free(t);
}

const char *dan_tokenizer_kind(const struct dan_tokenizer *t) { return t->kind->name; }
int32_t  dan_tokenizer_vocab_size(const struct dan_tokenizer *t) { return t->n_vocab; }
int32_t  dan_tokenizer_bos(const struct dan_tokenizer *t) { return t->bos; }
int32_t  dan_tokenizer_eos(const struct dan_tokenizer *t) { return t->eos; }
int32_t  dan_tokenizer_unk(const struct dan_tokenizer *t) { return t->unk; }
uint64_t dan_tokenizer_hash(const struct dan_tokenizer *t) { return t->hash; }
const struct dan_ids *dan_tokenizer_before(const struct dan_tokenizer *t) { return &t->before; }
const struct dan_ids *dan_tokenizer_after(const struct dan_tokenizer *t) { return &t->after; }
const char *dan_tokenizer_chat_template(const struct dan_tokenizer *t) { return t->chat_template; }

const char *dan_tokenizer_assumed(const struct dan_tokenizer *t) { return t->assumed; }

const char *dan_tokenizer_token(const struct dan_tokenizer *t, int32_t id, size_t *n)
{
    *n = 0;
    if (id < 0 || id >= t->n_vocab) return NULL;
    *n = t->start[id + 1] - t->start[id];
    return *n ? t->bytes + t->start[id] : NULL;
}

/* added is sorted by id */
const struct dan_added *dan_tok_added_of(const struct dan_tokenizer *t, int32_t id)
{
    size_t lo = 0, hi = t->n_added;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (t->added[mid].id < id) lo = mid + 1;
        else hi = mid;
    }
    return lo < t->n_added && t->added[lo].id == id ? &t->added[lo] : NULL;
}

bool dan_tokenizer_is_special(const struct dan_tokenizer *t, int32_t id)
{
    const struct dan_added *a = dan_tok_added_of(t, id);
    return a && a->special;
}

int32_t dan_tokenizer_find_special(const struct dan_tokenizer *t, const char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i < t->n_added; i++)
        if (t->added[i].n == n && memcmp(t->added[i].p, text, n) == 0) return t->added[i].id;
    return -1;
}

int32_t dan_tokenizer_added(const struct dan_tokenizer *t, size_t i) { return i < t->n_added ? t->added[i].id : -1; }

/* A token as the decoder gets it. */
static const char *shown(const struct dan_tokenizer *t, int32_t id, size_t *n)
{
    const struct dan_added *a = dan_tok_added_of(t, id);
    if (!a || !a->shown) return dan_tokenizer_token(t, id, n);
    *n = strlen(a->shown);
    return a->shown;
}

static void decode_chain(const struct dan_tokenizer *t, const int32_t *ids, size_t n, bool special, struct dan_str *out)
{
    struct dan_decoding *g = dan_decoding_new(t->decoder);
    if (!g) {
        out->failed = true;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        size_t len;
        const char *p = shown(t, ids[i], &len);
        if (p && (special || !dan_tokenizer_is_special(t, ids[i]))) dan_decoding_push(g, p, len, out);
    }
    dan_decoding_finish(g, out);
    dan_decoding_free(g);
}

static void decode(const struct dan_tokenizer *t, const int32_t *ids, size_t n, bool special, struct dan_str *out)
{
    if (t->sp) dan_sp_decode(t->sp, ids, n, special, out);
    else if (t->decoder) decode_chain(t, ids, n, special, out);
    else
        for (size_t i = 0; i < n; i++) {
            size_t len;
            const char *p = dan_tokenizer_token(t, ids[i], &len);
            if (p && (special || !dan_tokenizer_is_special(t, ids[i]))) dan_str_append(out, p, len);
        }
}

void dan_tokenizer_decode(const struct dan_tokenizer *t, const int32_t *ids, size_t n, struct dan_str *out) { decode(t, ids, n, true, out); }

void dan_tokenizer_decode_plain(const struct dan_tokenizer *t, const int32_t *ids, size_t n, struct dan_str *out)
{
    decode(t, ids, n, false, out);
}

/* --- one id at a time */
/* The text of one more token, as far as it is certain. */
static void next_text(struct dan_detok *d, int32_t id, struct dan_str *out)
{
    size_t n;
    const char *p = d->t->decoder ? shown(d->t, id, &n) : dan_tokenizer_token(d->t, id, &n);
    if (!p) return;
    if (d->t->sp) {
        struct dan_sp_detok s = {d->past_start, d->ate_space, d->any};
        dan_sp_detok_push(d->t->sp, &s, id, !d->skip_special, out);
        d->past_start = s.past_start, d->ate_space = s.ate_space, d->any = s.any;
    } else if (d->t->decoder) {
        if (!d->state) d->state = dan_decoding_new(d->t->decoder);
        if (d->state) dan_decoding_push(d->state, p, n, out);
        else out->failed = true;
    } else dan_str_append(out, p, n);
}

/* Bytes at the end that may be the beginning of a character wait. */
static void hold(struct dan_detok *d, size_t before, struct dan_str *out)
{
    d->n_held = 0;
    if (out->failed || out->n == before) return;
    size_t wait = dan_utf8_partial(out->p + before, out->n - before);
    memcpy(d->held, out->p + out->n - wait, wait);
    d->n_held = (int)wait;
    out->n -= wait;
    out->p[out->n] = 0;
}

void dan_detok_push(struct dan_detok *d, int32_t id, struct dan_str *out)
{
    if (d->skip_special && dan_tokenizer_is_special(d->t, id)) return;
    size_t before = out->n;
    dan_str_append(out, d->held, (size_t)d->n_held);
    next_text(d, id, out);
    hold(d, before, out);
}

void dan_detok_finish(struct dan_detok *d, struct dan_str *out)
{
    dan_str_append(out, d->held, (size_t)d->n_held);
    d->n_held = 0;
    d->past_start = d->ate_space = d->any = false;
    if (d->state) dan_decoding_finish(d->state, out);
    dan_decoding_free(d->state);
    d->state = NULL;
}
