#include "text/unicode.h"
#include <stddef.h>
#include <utf8proc.h>
#include "text/bert_unicode.h"
#include "text/uni_tables.h"

static const struct dan_range *find(const struct dan_range *r, size_t n, int32_t cp)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (r[mid].last < cp) lo = mid + 1;
        else hi = mid;
    }
    return lo < n && r[lo].first <= cp ? &r[lo] : NULL;
}

#define TABLE(t) {t, sizeof t / sizeof *t}
static const struct { const struct dan_range *r; size_t n; } table[] = {
    [DAN_UNI_CONTROL] = TABLE(bert_control), [DAN_UNI_SPACE] = TABLE(bert_space), [DAN_UNI_PUNCT] = TABLE(bert_punct),
    [DAN_UNI_CHINESE] = TABLE(bert_chinese), [DAN_UNI_ACCENT] = TABLE(bert_accent), [DAN_UNI_MARK] = TABLE(uni_mark),
    [DAN_UNI_NUMERIC] = TABLE(uni_numeric), [DAN_UNI_WORD] = TABLE(uni_word),
    [DAN_UNI_LETTER] = TABLE(uni_letter), [DAN_UNI_NUMBER] = TABLE(uni_number),
};

const struct dan_range *dan_uni_ranges(enum dan_uni what, size_t *n)
{
    *n = table[what].n;
    return table[what].r;
}

bool dan_uni_is(enum dan_uni what, int32_t cp) { return cp >= 0 && find(table[what].r, table[what].n, cp); }

/* Composed characters that are younger than Unicode 9 stay as they are. */
static const struct dan_range young[] = {{0x105C0, 0x105FF, 0}, {0x11380, 0x113CF, 0}, {0x11938, 0x11938, 0}, {0x16120, 0x1612F, 0},
                                         {0x16D60, 0x16D6F, 0}};

int dan_uni_decompose(int32_t cp, bool compat, int32_t *out, int n)
{
    int last = 0;
    out[0] = cp;
    if (cp < 0x80 || find(young, sizeof young / sizeof *young, cp)) return 1;
    compat = compat && find(uni_compat, sizeof uni_compat / sizeof *uni_compat, cp);
    utf8proc_ssize_t m = utf8proc_decompose_char(cp, out, n, UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0), &last);
    return m >= 1 && m <= n ? (int)m : (out[0] = cp, 1);
}

int dan_uni_mark(int32_t cp)
{
    const struct dan_range *r = find(bert_mark, sizeof bert_mark / sizeof *bert_mark, cp);
    return r ? r->value : 0;
}

/* Marks younger than Unicode 9 have no class yet: neither do they move nor do others move across them. */
int dan_uni_class(int32_t cp)
{
    if (cp < 0x300) return 0;
    int c = utf8proc_get_property(cp)->combining_class;
    return c && (dan_uni_is(DAN_UNI_MARK, cp) || dan_uni_mark(cp)) ? c : 0;
}

int32_t dan_uni_compose(int32_t a, int32_t b)
{
    int32_t pair[2] = {a, b};
    if (a < 0 || b < 0x300 || utf8proc_normalize_utf32(pair, 2, UTF8PROC_COMPOSE | UTF8PROC_STABLE) != 1) return -1;
    return find(young, sizeof young / sizeof *young, pair[0]) ? -1 : pair[0];
}

int dan_uni_lower(int32_t cp, int32_t out[2])
{
    out[0] = cp, out[1] = 0x307;
    if (cp == 0x130) return out[0] = 'i', 2;               /* the only letter whose lower case has two characters */
    const struct dan_range *r = find(bert_lower, sizeof bert_lower / sizeof *bert_lower, cp);
    if (cp >= 0) out[0] = r ? cp + r->value : utf8proc_tolower(cp);
    return 1;
}

int dan_uni_script(int32_t cp)
{
    const struct dan_range *r = find(uni_script, sizeof uni_script / sizeof *uni_script, cp);
    return r ? r->value : 0;
}
