#include "text/charsmap.h"
#include <stdint.h>
#include <string.h>
#include <utf8proc.h>
#include "base/mem.h"
#include "base/utf8.h"

enum { MOST_TEXT = 1024, MOST_DEPTH = 256 };

struct dan_charsmap {
    uint32_t *unit;
    char     *text;                            /* NUL-terminated strings; one NUL more stands behind them */
    uint32_t  n_units;
    size_t    n_text;
    unsigned char plain[256];
};

/* A unit of Darts-clone: the byte that leads to it (a value has bit 31 set, and no byte), whether a value hangs below it, and
 * the distance to its children, which are found by exclusive or. */
static uint32_t unit_label(uint32_t u) { return u & (UINT32_C(1) << 31 | 0xFF); }
static bool     unit_has_value(uint32_t u) { return u >> 8 & 1; }
static uint32_t unit_offset(uint32_t u) { return u >> 10 << ((u & 1u << 9) >> 6); }

/* From the children at *at to those of byte c: 1 found, 2 found and an entry ends here, 0 no such child. */
static int step(const struct dan_charsmap *m, unsigned char c, uint32_t *at, uint32_t *value)
{
    uint32_t k = *at ^ c;
    if (k >= m->n_units || unit_label(m->unit[k]) != c) return 0;
    *at = k ^ unit_offset(m->unit[k]);
    if (!unit_has_value(m->unit[k]) || *at >= m->n_units) return 1;
    *value = m->unit[*at] & 0x7FFFFFFF;
    return *value < m->n_text ? 2 : 1;
}

static uint32_t root(const struct dan_charsmap *m) { return m->n_units ? unit_offset(m->unit[0]) : 0; }

size_t dan_charsmap_longest(const struct dan_charsmap *m, const char *p, size_t n, const char **to, size_t *to_n)
{
    if (!m) return 0;
    uint32_t at = root(m), value = 0, best = 0;
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        int found = step(m, (unsigned char)p[i], &at, &value);
        if (!found) break;
        if (found == 2) len = i + 1, best = value;
    }
    if (!len) return 0;
    *to = m->text + best;
    *to_n = strlen(*to);
    return len;
}

/* The shortest entry that begins p. */
static bool shortest(const struct dan_charsmap *m, const char *p, size_t n, struct dan_charsmap_part *part)
{
    uint32_t at = root(m), value = 0;
    int found = 1;
    for (size_t i = 0; i < n && p[i] && found == 1; i++) found = step(m, (unsigned char)p[i], &at, &value);
    if (found != 2) return false;
    *part = (struct dan_charsmap_part){n, m->text + value, strlen(m->text + value), false};
    return true;
}

static size_t cluster_length(const char *p, size_t n)
{
    int32_t cp, next, state = 0;
    size_t len = (size_t)dan_utf8_next(p, n, &cp);
    while (cp >= 0 && len < n) {
        if ((unsigned char)p[len] < 0x80 && cp < 0x80 && cp != '\r') break;
        size_t more = (size_t)dan_utf8_next(p + len, n - len, &next);
        if (next < 0 || utf8proc_grapheme_break_stateful(cp, next, &state)) break;
        len += more;
        cp = next;
    }
    return len;
}

/* Characters that are clusters of their own and stay. */
static size_t plain_run(const struct dan_charsmap_walk *w)
{
    size_t i = w->at;
    while (i < w->n && w->m->plain[(unsigned char)w->p[i]] && w->p[i] != '\r' && (i + 1 == w->n || (unsigned char)w->p[i + 1] < 0x80)) i++;
    return i - w->at;
}

bool dan_charsmap_next(struct dan_charsmap_walk *w, struct dan_charsmap_part *part)
{
    if (w->at >= w->n) return false;
    if (w->at >= w->cluster) {
        size_t run = plain_run(w);
        *part = (struct dan_charsmap_part){run, w->p + w->at, run, true};
        w->at += run;
        if (run) return true;
        size_t len = cluster_length(w->p + w->at, w->n - w->at);
        w->cluster = w->at + len;
        if (len < 6 && shortest(w->m, w->p + w->at, len, part)) {
            w->at += len;
            return true;
        }
    }
    int32_t cp;
    size_t len = (size_t)dan_utf8_next(w->p + w->at, w->n - w->at, &cp);
    if (!shortest(w->m, w->p + w->at, len, part)) *part = (struct dan_charsmap_part){len, w->p + w->at, len, true};
    w->at += len;
    return true;
}

static bool touches_ascii(const struct dan_charsmap *m, unsigned char first)
{
    uint32_t at = root(m), value, below;
    int found = step(m, first, &at, &value);
    if (found != 1) return found == 2;
    for (unsigned c = 0; c < 0xCC; c++) {          /* what begins with U+0300 or above is not cut off (spaced.c) */
        below = at;
        if (step(m, (unsigned char)c, &below, &value)) return true;
    }
    return false;
}

/* want[base]: the unit whose children stand at base is on the way to an entry.  One step towards the root; false: nothing new. */
static bool want_parents(const struct dan_charsmap *m, uint8_t *want)
{
    bool more = false;
    for (uint32_t i = 1; i < m->n_units; i++) {
        uint32_t own = i ^ (m->unit[i] & 0xFF), below = i ^ unit_offset(m->unit[i]);
        if (m->unit[i] >> 31 || own >= m->n_units || below >= m->n_units || !want[below] || want[own]) continue;
        want[own] = more = true;
    }
    return more;
}

/* From every unit with such a child back to the root: units that are not in use look like any other. */
bool dan_charsmap_has_inner(const struct dan_charsmap *m, unsigned char c)
{
    uint8_t *want = m->n_units ? dan_calloc(m->n_units, 1) : NULL;
    if (!want) return m->n_units > 0;
    for (uint32_t i = 1; i < m->n_units; i++) {
        uint32_t own = i ^ (m->unit[i] & 0xFF), child = i ^ unit_offset(m->unit[i]) ^ c;
        if (!(m->unit[i] >> 31) && own < m->n_units && child < m->n_units && unit_label(m->unit[child]) == c) want[own] = 1;
    }
    bool more = true;
    for (int depth = 0; depth < MOST_DEPTH && more; depth++) more = want_parents(m, want);
    bool has = more || (root(m) < m->n_units && want[root(m)]);
    dan_free(want);
    return has;
}

const unsigned char *dan_charsmap_plain(const struct dan_charsmap *m) { return m->plain; }

static uint32_t u32(const unsigned char *p) { return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }

/* Real strings have at most a few dozen bytes; a long one would multiply a text without bound. */
static bool too_long(const char *p, size_t n)
{
    for (size_t i = 0, from = 0; i < n; i++) {
        if (!p[i]) from = i + 1;
        else if (i - from >= MOST_TEXT) return true;
    }
    return false;
}

static int fill(struct dan_charsmap *m, const unsigned char *p, size_t n, struct dan_err *e)
{
    m->unit = dan_malloc((size_t)m->n_units * 4);
    m->n_text = n - 4 - (size_t)m->n_units * 4;
    m->text = dan_malloc(m->n_text + 1);
    if (!m->unit || !m->text) return dan_fail(e, DAN_ENOMEM, "out of memory for a normalisation map of %zu bytes", n);
    for (uint32_t i = 0; i < m->n_units; i++) m->unit[i] = u32(p + 4 + 4 * (size_t)i);
    memcpy(m->text, p + n - m->n_text, m->n_text);
    m->text[m->n_text] = '\0';
    if (too_long(m->text, m->n_text))
        return dan_fail(e, DAN_EFORMAT, "precompiled_charsmap: it replaces something by more than %d bytes; the file is damaged", MOST_TEXT);
    for (unsigned c = 0; c < 128; c++) m->plain[c] = !touches_ascii(m, (unsigned char)c);
    return DAN_OK;
}

static bool sizes_fit(size_t n, const unsigned char *p, struct dan_charsmap *m)
{
    if (!n) return true;
    if (n < 8) return false;
    m->n_units = u32(p) / 4;
    return u32(p) % 4 == 0 && m->n_units && u32(p) <= n - 4;
}

int dan_charsmap_new(const void *blob, size_t n, struct dan_charsmap **out, struct dan_err *e)
{
    struct dan_charsmap *m = dan_calloc(1, sizeof *m);
    if (!m) return dan_fail(e, DAN_ENOMEM, "out of memory for a normalisation map");
    int r;
    if (!sizes_fit(n, blob, m))
        r = dan_fail(e, DAN_EFORMAT, "precompiled_charsmap: its %zu bytes do not hold the trie that it announces; the file is damaged", n);
    else if (n) r = fill(m, blob, n, e);
    else memset(m->plain, 1, 128), r = DAN_OK;
    if (r) dan_charsmap_free(m);
    else *out = m;
    return r;
}

void dan_charsmap_free(struct dan_charsmap *m)
{
    if (!m) return;
    dan_free(m->unit);
    dan_free(m->text);
    dan_free(m);
}
