/* Unicode's tables -> a precompiled_charsmap. */
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/normal.h"
#include "text/train_file.h"
#include "text/unicode.h"

enum { LAST = 0x10FFFF, NUL_VALUE = 0 };
struct entry { uint32_t key, n_key, to; };     /* offsets in `keys` and `texts` */
struct maker {
    struct entry *entry;
    size_t n, cap;
    struct dan_str keys, texts;                /* texts: NUL-terminated */
    struct dan_flow in, out;
    /* the double array */
    uint32_t *unit;
    uint8_t  *used, *base;                     /* a unit is taken; a node has its children there */
    size_t    n_unit, first[257];              /* first: where a node with so many children looks for room, for each number */
    bool      failed;
};

static void put(struct maker *m, const char *key, size_t n, const char *to, size_t n_to)
{
    if (n == n_to && memcmp(key, to, n) == 0) return;
    if (m->n == m->cap && dan_vec_grow(&m->entry, &m->cap, m->n + 1, sizeof *m->entry)) {
        m->failed = true;
        return;
    }
    m->entry[m->n++] = (struct entry){(uint32_t)m->keys.n, (uint32_t)n, (uint32_t)m->texts.n};
    dan_str_append(&m->keys, key, n);
    dan_str_append(&m->texts, to, n_to);
    dan_str_putc(&m->texts, 0);
    m->failed |= m->keys.failed || m->texts.failed;
}

static size_t encode(const int32_t *cp, size_t n, char *to)
{
    size_t len = 0;
    for (size_t i = 0; i < n; i++) len += (size_t)dan_utf8_put(cp[i], to + len);
    return len;
}

/* The characters, and what NFKC makes of them. */
static void put_nfkc(struct maker *m, const int32_t *cp, size_t n)
{
    char key[4 * DAN_UNI_MOST];
    size_t len = encode(cp, n, key);
    dan_flow_set(&m->in, key, len, 0);
    dan_flow_clear(&m->out);
    dan_form_apply(DAN_FORM_NFKC, &m->in, &m->out);
    m->failed |= m->in.failed || m->out.failed || m->in.s.failed || m->out.s.failed;
    if (!m->failed) put(m, key, len, dan_str_c(&m->out.s), m->out.s.n);
}

/* A character and the ways to write it with what it is composed of: all apart, or the first ones composed. */
static void put_char(struct maker *m, int32_t cp)
{
    int32_t part[DAN_UNI_MOST];
    int n = dan_uni_decompose(cp, false, part, DAN_UNI_MOST);
    put_nfkc(m, &cp, 1);
    while (n > 1) {
        put_nfkc(m, part, (size_t)n);
        int32_t both = dan_uni_compose(part[0], part[1]);
        if (both < 0 || n == 2) break;
        part[0] = both;
        memmove(part + 1, part + 2, (size_t)(n - 2) * sizeof *part);
        n--;
    }
}

static bool is_nmt_space(int32_t cp)
{
    return cp == 9 || cp == 10 || cp == 12 || cp == 13 || cp == 0x1680 || (cp >= 0x200B && cp <= 0x200F) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x2581 || cp == 0xFEFF || cp == 0xFFFD;
}

static bool is_nmt_nothing(int32_t cp)
{
    return (cp >= 1 && cp <= 8) || cp == 11 || (cp >= 14 && cp <= 31) || cp == 0x7F || cp == 0x8F || cp == 0x9F;
}

static void put_all(struct maker *m, bool nmt)
{
    dan_str_putc(&m->texts, NUL_VALUE);
    for (int32_t cp = 1; cp <= LAST && !m->failed; cp++) {
        char key[4];
        int32_t part[DAN_UNI_MOST];
        if (cp >= 0xD800 && cp <= 0xDFFF) continue;
        if (nmt && is_nmt_space(cp)) put(m, key, (size_t)dan_utf8_put(cp, key), " ", 1);
        else if (nmt && is_nmt_nothing(cp)) put(m, key, (size_t)dan_utf8_put(cp, key), "", 0);
        else if (cp >= 0x80 && !(nmt && cp == 0xFF5E) &&
                 (dan_uni_decompose(cp, true, part, DAN_UNI_MOST) != 1 || part[0] != cp)) put_char(m, cp);
    }
}

/* --- the double array, as Darts-clone has it */
static bool grow(struct maker *m, size_t need)
{
    size_t cap[3] = {m->n_unit, m->n_unit, m->n_unit};
    if (need <= m->n_unit) return true;
    if (dan_vec_grow(&m->unit, &cap[0], need, sizeof *m->unit) || dan_vec_grow(&m->used, &cap[1], need, 1) ||
        dan_vec_grow(&m->base, &cap[2], need, 1) || cap[2] > 1 << 21) return false;
    memset(m->unit + m->n_unit, 0, (cap[2] - m->n_unit) * sizeof *m->unit);
    memset(m->used + m->n_unit, 0, cap[2] - m->n_unit);
    memset(m->base + m->n_unit, 0, cap[2] - m->n_unit);
    m->n_unit = cap[2];
    return true;
}

static bool fits(const struct maker *m, size_t base, const unsigned char *label, size_t n)
{
    if (m->base[base]) return false;
    for (size_t i = 0; i < n; i++)
        if (m->used[base ^ label[i]]) return false;
    return true;
}

/* Where the children of a node go; 0: out of memory. */
static size_t find_base(struct maker *m, const unsigned char *label, size_t n)
{
    if (!grow(m, 256)) return 0;
    for (size_t at = m->first[n];; at++) {
        size_t base = at ^ label[0];
        if (!grow(m, (at | 255) + 1)) return 0;
        if (!base || m->used[at] || !fits(m, base, label, n)) continue;
        m->first[n] = at;
        return base;
    }
}

static const unsigned char *key_at(const struct maker *m, size_t i) { return (const unsigned char *)m->keys.p + m->entry[i].key; }

/* The entries [lo, hi) share their first d bytes, which lead to the unit `at`. */
static void lay(struct maker *m, size_t lo, size_t hi, size_t d, size_t at)
{
    unsigned char label[256];
    size_t n = 0;
    bool ends = m->entry[lo].n_key == d;
    if (ends) label[n++] = 0;
    for (size_t i = lo + ends; i < hi; i++)
        if (i == lo + ends || key_at(m, i)[d] != label[n - 1]) label[n++] = key_at(m, i)[d];
    size_t base = find_base(m, label, n);
    if (!base) {
        m->failed = true;
        return;
    }
    m->base[base] = 1;
    m->unit[at] |= (uint32_t)(base ^ at) << 10 | (ends ? 1u << 8 : 0);
    for (size_t i = 0; i < n; i++) {
        m->used[base ^ label[i]] = 1;
        m->unit[base ^ label[i]] = i == 0 && ends ? m->entry[lo].to | UINT32_C(1) << 31 : label[i];
    }
    for (size_t i = lo + ends, k = ends, end; i < hi && !m->failed; i = end, k++) {
        for (end = i; end < hi && key_at(m, end)[d] == label[k]; end++) {}
        lay(m, i, end, d + 1, base ^ label[k]);
    }
}

struct sorted { const char *p; struct entry e; };

static int by_key(const void *x, const void *y)
{
    const struct sorted *a = x, *b = y;
    int c = memcmp(a->p, b->p, a->e.n_key < b->e.n_key ? a->e.n_key : b->e.n_key);
    return c ? c : (a->e.n_key > b->e.n_key) - (a->e.n_key < b->e.n_key);
}

/* Bytewise, each key once. */
static void sort_entries(struct maker *m)
{
    struct sorted *s = dan_malloc((m->n + 1) * sizeof *s);
    if (!s || m->failed) {
        m->failed = true;
        dan_free(s);
        return;
    }
    for (size_t i = 0; i < m->n; i++) s[i] = (struct sorted){m->keys.p + m->entry[i].key, m->entry[i]};
    qsort(s, m->n, sizeof *s, by_key);
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++)
        if (i == 0 || by_key(&s[i - 1], &s[i])) m->entry[n++] = s[i].e;
    m->n = n;
    dan_free(s);
}

static void put_le(struct dan_str *out, uint32_t v)
{
    for (int i = 0; i < 4; i++) dan_str_putc(out, (char)(unsigned char)(v >> 8 * i));
}

int dan_charsmap_make(const char *rule, struct dan_str *out, struct dan_err *e)
{
    bool nmt = strcmp(rule, "nmt_nfkc") == 0;
    if (!nmt && strcmp(rule, "nfkc") != 0) return dan_fail(e, DAN_EINVAL, "unknown normalisation '%s'; use nmt_nfkc, nfkc or none", rule);
    struct maker m = {0};
    put_all(&m, nmt);
    sort_entries(&m);
    if (!m.failed && grow(&m, 256)) {
        m.used[0] = 1;
        lay(&m, 0, m.n, 0, 0);
    } else m.failed = true;
    if (!m.failed) {
        put_le(out, (uint32_t)(m.n_unit * 4));
        for (size_t i = 0; i < m.n_unit; i++) put_le(out, m.unit[i]);
        dan_str_append(out, m.texts.p, m.texts.n);
    }
    bool failed = m.failed || out->failed;
    dan_flow_release(&m.in);
    dan_flow_release(&m.out);
    dan_str_release(&m.keys);
    dan_str_release(&m.texts);
    void *const owned[] = {m.entry, m.unit, m.used, m.base};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) dan_free(owned[i]);
    return failed ? dan_fail(e, DAN_ENOMEM, "out of memory for the normalisation '%s'", rule) : DAN_OK;
}
