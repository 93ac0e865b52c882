#include "text/sp_model_normal.h"
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"

enum { BLOW_UP = 64 };                         /* U+FDFA becomes 33 bytes of 3 */
static const char SPACE[] = "\xe2\x96\x81", REPLACEMENT[] = "\xef\xbf\xbd";

static bool begins_user_piece(const struct dan_trie *user, unsigned char c)
{
    dan_trie_unit at = user && user->n ? user->unit[0] : 0;
    return user && user->n && dan_trie_step(user, &at, c);
}

int dan_sp_normaliser_init(struct dan_sp_normaliser *m, const struct dan_sp_normal *how, const struct dan_trie *user, struct dan_err *e)
{
    *m = (struct dan_sp_normaliser){.user = user && user->n ? user : NULL, .dummy_prefix = how->dummy_prefix,
                                    .remove_spaces = how->remove_spaces, .escape_spaces = how->escape_spaces};
    int r = dan_charsmap_new(how->charsmap.p, how->charsmap.n, &m->map, e);
    for (unsigned c = 0; c < 128 && !r; c++) m->fast[c] = dan_charsmap_plain(m->map)[c] && !begins_user_piece(user, (unsigned char)c);
    return r;
}

void dan_sp_normaliser_release(struct dan_sp_normaliser *m)
{
    dan_charsmap_free(m->map);
    m->map = NULL;
}

void dan_sp_buffer_init(struct dan_sp_buffer *b, struct dan_ids *map)
{
    b->p = b->own;
    b->heap = NULL;
    b->n = 0;
    b->cap = sizeof b->own;
    b->map = map;
    b->failed = false;
}

void dan_sp_buffer_release(struct dan_sp_buffer *b) { dan_free(b->heap); }

static bool reserve(struct dan_sp_buffer *b, size_t more)
{
    if (more <= b->cap - b->n) return true;
    size_t cap = b->heap ? b->cap : 0;
    bool own = !b->heap;
    if (b->failed || dan_vec_grow(&b->heap, &cap, b->n + more, 1)) {
        b->failed = true;
        return false;
    }
    if (own) memcpy(b->heap, b->own, b->n);
    b->p = b->heap;
    b->cap = cap;
    return true;
}

static void append(struct dan_sp_buffer *b, const char *p, size_t n, size_t from)
{
    if (!reserve(b, n)) return;
    memcpy(b->p + b->n, p, n);
    b->n += n;
    for (size_t i = 0; i < n && b->map; i++) dan_ids_push(b->map, (int32_t)from);
}

static void put_space(const struct dan_sp_normaliser *m, struct dan_sp_buffer *b, size_t from)
{
    if (m->escape_spaces) append(b, SPACE, 3, from);
    else append(b, " ", 1, from);
}

/* What stands at p[n], n > 0, normalised: its length, and what it becomes. */
static size_t prefix(const struct dan_sp_normaliser *m, const char *p, size_t n, const char **to, size_t *to_n)
{
    int32_t value, cp;
    size_t len = m->user ? dan_trie_longest(m->user, p, n, &value) : 0;
    if (!len) {
        len = dan_charsmap_longest(m->map, p, n, to, to_n);
        if (len) return len;
        len = (size_t)dan_utf8_next(p, n, &cp);
        if (cp < 0 && !m->raw_bytes) return *to = REPLACEMENT, *to_n = 3, 1;
    }
    *to = p;
    *to_n = len;
    return len;
}

/* Bytes of p that stay as they are, up to a space or something that needs a look. */
static size_t plain_run(const struct dan_sp_normaliser *m, const char *p, size_t n)
{
    size_t k = 0;
    while (k < n && m->fast[(unsigned char)p[k]] && p[k] != ' ') k++;
    return k && k < n && (unsigned char)p[k] >= 128 ? k - 1 : k;          /* the last may change with what follows */
}

static void put_run(struct dan_sp_buffer *b, const char *p, size_t n, size_t from)
{
    if (!b->map) {
        append(b, p, n, from);
        return;
    }
    for (size_t i = 0; i < n; i++) append(b, p + i, 1, from + i);
}

static void put_part(const struct dan_sp_normaliser *m, struct dan_sp_buffer *b, const char *p, size_t n, size_t from)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] == ' ') put_space(m, b, from);
        else append(b, p + i, 1, from);
}

/* One part of the text at p[at]; *space: the part before ended with a space that swallows those that follow. */
static size_t put_next(const struct dan_sp_normaliser *m, const char *p, size_t n, size_t at, bool *space, struct dan_sp_buffer *b)
{
    size_t len = plain_run(m, p + at, n - at);
    if (p[at] == ' ' && m->fast[' '] && (at + 1 == n || (unsigned char)p[at + 1] < 128)) {
        if (!*space) put_space(m, b, at);
        *space = m->remove_spaces;
        return 1;
    }
    if (len) {
        put_run(b, p + at, len, at);
        *space = false;
        return len;
    }
    const char *to;
    size_t to_n;
    len = prefix(m, p + at, n - at, &to, &to_n);
    while (*space && to_n && *to == ' ') to++, to_n--;
    if (to_n) {
        put_part(m, b, to, to_n, at);
        *space = m->remove_spaces && to[to_n - 1] == ' ';
    }
    return len;
}

static size_t leading_spaces(const struct dan_sp_normaliser *m, const char *p, size_t n)
{
    size_t at = 0, to_n;
    const char *to;
    while (at < n) {
        size_t len = prefix(m, p + at, n - at, &to, &to_n);
        if (to_n != 1 || *to != ' ') break;
        at += len;
    }
    return at;
}

/* Takes trailing spaces away; returns where the text that remains ends. */
static size_t trim(const struct dan_sp_normaliser *m, struct dan_sp_buffer *b, size_t end)
{
    const char *space = m->escape_spaces ? SPACE : " ";
    size_t len = strlen(space);
    while (b->n >= len && memcmp(b->p + b->n - len, space, len) == 0) {
        b->n -= len;
        if (!b->map || b->map->failed) continue;
        end = (size_t)b->map->v[b->n];
        b->map->n = b->n;
    }
    return end;
}

int dan_sp_normalise(const struct dan_sp_normaliser *m, const char *p, size_t n, struct dan_sp_buffer *b, struct dan_err *e)
{
    if (b->map && n > INT32_MAX) return dan_fail(e, DAN_EINVAL, "a text of %zu bytes is too long for offsets; cut it below 2 GiB", n);
    size_t at = m->remove_spaces ? leading_spaces(m, p, n) : 0;
    if (at == n) return DAN_OK;
    if (m->dummy_prefix && !m->suffix) put_space(m, b, at);
    bool space = m->remove_spaces;
    size_t most = n < SIZE_MAX / BLOW_UP / 2 ? BLOW_UP * n + (1 << 20) : SIZE_MAX;
    while (at < n && !b->failed && b->n <= most) at += put_next(m, p, n, at, &space, b);
    if (b->n > most)
        return dan_fail(e, DAN_EFORMAT, "the normalisation map makes more than %d bytes of each byte of the text; the tokenizer's file is "
                        "damaged", BLOW_UP);
    if (m->remove_spaces) at = trim(m, b, at);
    if (m->dummy_prefix && m->suffix) put_space(m, b, at);
    if (b->map) dan_ids_push(b->map, (int32_t)at);
    return b->failed || (b->map && b->map->failed) ? dan_fail(e, DAN_ENOMEM, "out of memory to normalise %zu bytes", n) : DAN_OK;
}
