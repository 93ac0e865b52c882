#include "text/tokenizer.h"
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/impl.h"
#include "text/wordpiece.h"

void dan_ids_push(struct dan_ids *ids, int32_t id)
{
    if (ids->n == ids->cap && (ids->failed || dan_vec_grow(&ids->v, &ids->cap, ids->n + 1, sizeof *ids->v) != 0)) {
        ids->failed = true;
        return;
    }
    ids->v[ids->n++] = id;
}

void dan_ids_release(struct dan_ids *ids)
{
    dan_free(ids->v);
    *ids = (struct dan_ids){0};
}

void dan_tokenizer_free(struct dan_tokenizer *t)
{
    if (!t) return;
    for (size_t i = 0; i < sizeof t->page / sizeof t->page[0]; i++) dan_free(t->page[i]);
    dan_map_free(t->by_bytes);
    dan_wordpiece_free(t->wordpiece);
    dan_ids_release(&t->before);
    dan_ids_release(&t->after);
    void *const owned[] = {t->bytes, t->start, t->added, t->by_length, (void *)(uintptr_t)t->split.classes, t->merge, t->byte_pair_rank,
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

const char *dan_tokenizer_token(const struct dan_tokenizer *t, int32_t id, size_t *n)
{
    *n = 0;
    if (id < 0 || id >= t->n_vocab) return NULL;
    *n = t->start[id + 1] - t->start[id];
    return *n ? t->bytes + t->start[id] : NULL;
}

/* added is sorted by id */
static const struct dan_added *added_of(const struct dan_tokenizer *t, int32_t id)
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
    const struct dan_added *a = added_of(t, id);
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

void dan_tokenizer_decode(const struct dan_tokenizer *t, const int32_t *ids, size_t n, struct dan_str *out)
{
    if (t->wordpiece) {
        dan_wordpiece_decode(t, ids, n, out);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        size_t len;
        const char *p = dan_tokenizer_token(t, ids[i], &len);
        if (p) dan_str_append(out, p, len);
    }
}

void dan_detok_push(struct dan_detok *d, int32_t id, struct dan_str *out)
{
    if (d->skip_special && dan_tokenizer_is_special(d->t, id)) return;
    size_t n, before = out->n;
    const char *p = dan_tokenizer_token(d->t, id, &n);
    if (!p) return;
    dan_str_append(out, d->held, (size_t)d->n_held);
    dan_str_append(out, p, n);
    d->n_held = 0;
    if (out->failed) return;
    size_t wait = dan_utf8_partial(out->p + before, out->n - before);
    memcpy(d->held, out->p + out->n - wait, wait);
    d->n_held = (int)wait;
    out->n -= wait;
    out->p[out->n] = 0;
}

void dan_detok_finish(struct dan_detok *d, struct dan_str *out)
{
    dan_str_append(out, d->held, (size_t)d->n_held);
    d->n_held = 0;
}
