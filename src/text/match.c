#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/impl.h"
#include "text/unicode.h"

int dan_added_put(struct dan_added_set *s, const char *p, size_t n, int64_t value, bool special)
{
    int64_t before;
    if (!s->index) {
        s->index = dan_map_new();
        s->only = (unsigned char)p[0];
    }
    if (!s->index || dan_map_get(s->index, p, n, &before)) return s->index ? 0 : -1;       /* the first of equal texts stays */
    size_t k = 0;
    while (k < s->n_lengths && s->length[k] > n) k++;
    if (k == s->n_lengths || s->length[k] != n) {
        size_t *length = dan_realloc(s->length, (s->n_lengths + 1) * sizeof *length);
        if (!length) return -1;
        s->length = length;
        memmove(length + k + 1, length + k, (s->n_lengths++ - k) * sizeof *length);
        length[k] = n;
    }
    s->begins[(unsigned char)p[0]] = true;
    if (s->only != (unsigned char)p[0]) s->only = -1;
    if (!special) s->ordinary = true;
    return dan_map_put(s->index, p, n, value);
}

void dan_added_release(struct dan_added_set *s)
{
    dan_map_free(s->index);
    dan_free(s->length);
    *s = (struct dan_added_set){0};
}

/* Where the next token may begin; n: nowhere. */
static size_t candidate(const struct dan_added_set *s, const char *p, size_t n, size_t at)
{
    if (s->only >= 0) {
        const char *hit = at < n ? memchr(p + at, s->only, n - at) : NULL;
        return hit ? (size_t)(hit - p) : n;
    }
    while (at < n && !s->begins[(unsigned char)p[at]]) at++;
    return at;
}

static bool marked(const struct dan_added_walk *w, size_t at, size_t n)
{
    for (size_t i = at; w->mark && i < at + n; i++)
        if (w->mark[i]) return true;
    return false;
}

static const struct dan_added *of_length(const struct dan_added_walk *w, size_t at, size_t len)
{
    int64_t i;
    return len <= w->n - at && dan_map_get(w->set->index, w->p + at, len, &i) ? &w->t->added[i] : NULL;
}

/* Does a special token of unmarked bytes begin at one of the bytes [from, to)? */
static bool control_in(const struct dan_added_walk *w, size_t from, size_t to)
{
    for (; from < to; from++)
        for (size_t k = 0; k < w->set->n_lengths && !w->mark[from]; k++) {
            const struct dan_added *a = of_length(w, from, w->set->length[k]);
            if (a && a->special && !marked(w, from, w->set->length[k])) return true;
        }
    return false;
}

/* Marked bytes make no special token, and an ordinary one that they belong to takes no byte of a special one. */
static bool refused(const struct dan_added_walk *w, const struct dan_added *a, size_t at, size_t len)
{
    return marked(w, at, len) && (a->special || control_in(w, at + 1, at + len));
}

static const struct dan_added *found(const struct dan_added_walk *w, size_t at, size_t *len)
{
    for (size_t k = 0; k < w->set->n_lengths; k++) {
        *len = w->set->length[k];
        const struct dan_added *a = of_length(w, at, *len);
        if (a && !refused(w, a, at, *len)) return a;
    }
    return NULL;
}

static size_t char_before(const char *p, size_t at, int32_t *cp)
{
    size_t k = 1;
    while (k < 4 && k < at && ((unsigned char)p[at - k] & 0xC0) == 0x80) k++;
    if ((size_t)dan_utf8_next(p + at - k, k, cp) != k) *cp = -1, k = 1;
    return k;
}

static bool in_word(const struct dan_added_walk *w, size_t from, size_t to)
{
    int32_t cp;
    if (from && (char_before(w->p, from, &cp), dan_uni_is(DAN_UNI_WORD, cp))) return true;
    if (to == w->n) return false;
    dan_utf8_next(w->p + to, w->n - to, &cp);
    return dan_uni_is(DAN_UNI_WORD, cp);
}

const struct dan_added *dan_added_next(struct dan_added_walk *w, size_t *from, size_t *to)
{
    bool special = w->flags & DAN_ENCODE_SPECIAL;
    if (!w->set->index || (!special && !w->set->ordinary)) return NULL;
    while ((w->at = candidate(w->set, w->p, w->n, w->at)) < w->n) {
        size_t len;
        const struct dan_added *a = found(w, w->at, &len);
        if (!a) {
            w->at++;
            continue;
        }
        size_t start = w->at, stop = start + len, k;
        int32_t cp;
        w->at = stop;                          /* also what is not wanted here is passed as a whole */
        if ((a->special && !special) || (a->single_word && in_word(w, start, stop))) continue;
        while (a->lstrip && start > w->from && (k = char_before(w->p, start, &cp), dan_uni_is(DAN_UNI_SPACE, cp))) start -= k;
        if (start < w->from) start = w->from;
        while (a->rstrip && stop < w->n && (k = (size_t)dan_utf8_next(w->p + stop, w->n - stop, &cp), dan_uni_is(DAN_UNI_SPACE, cp))) stop += k;
        *from = start;
        *to = stop;
        w->from = stop;
        if (w->at < stop) w->at = stop;
        return a;
    }
    return NULL;
}
