/* NFC of a whole text, for byte-level BPE.  Nearly all characters of nearly all texts are in it already, whatever stands beside them:
 * those are copied, and only the others, with the character before them, are given to utf8proc. */
#include <utf8proc.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/impl.h"

/* Class 0, NFC_Quick_Check=Yes, never the second part of a composition (Unicode 14; python3's unicodedata). */
static bool is_settled(int32_t cp)
{
    static const struct { int32_t first, last; } range[] = {
        {0x4E00, 0x9FFF}, {0x0000, 0x02FF}, {0x3030, 0x3098}, {0x2E80, 0x3029}, {0xFF00, 0xFFEF}, {0xAC00, 0xD7A3}, {0x0388, 0x0482},
        {0x048A, 0x0590}, {0x2010, 0x20CF}, {0x309B, 0x4DFF}, {0x2150, 0x2328}, {0x232B, 0x2ADB}, {0x2ADD, 0x2CEE}, {0x0375, 0x037D},
        {0xA000, 0xA66E}, {0x1F000, 0x1FBFF}, {0x20000, 0x2F7FF},
    };
    for (size_t i = 0; i < sizeof range / sizeof *range; i++)
        if (cp >= range[i].first && cp <= range[i].last) return true;
    return false;
}

/* Where p stops being settled (n: nowhere), and *last, where its last settled character begins. */
static size_t settled(const char *p, size_t n, size_t *last)
{
    size_t i = 0;
    int32_t cp;
    *last = 0;
    while (i < n) {
        size_t len = 1;
        if ((unsigned char)p[i] >= 0x80) {
            len = (size_t)dan_utf8_next(p + i, n - i, &cp);
            if (!is_settled(cp)) break;
        }
        *last = i;
        i += len;
    }
    return i;
}

static size_t unsettled(const char *p, size_t n)
{
    size_t i = 0;
    int32_t cp;
    for (size_t len; i < n; i += len) {
        len = (size_t)dan_utf8_next(p + i, n - i, &cp);
        if (is_settled(cp)) break;
    }
    return i;
}

/* Appends the NFC form of n > 0 valid bytes. */
static void put_run(const char *p, size_t n, struct dan_str *out)
{
    const utf8proc_option_t how = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    const utf8proc_uint8_t *from = (const utf8proc_uint8_t *)p;
    utf8proc_ssize_t m = utf8proc_decompose(from, (utf8proc_ssize_t)n, NULL, 0, how);
    int32_t *cp = m < 0 ? NULL : dan_malloc(((size_t)m + 1) * sizeof *cp);
    if (cp) m = utf8proc_decompose(from, (utf8proc_ssize_t)n, cp, m, how);
    if (cp && m >= 0) m = utf8proc_reencode(cp, m, how);           /* in place */
    if (cp && m >= 0) dan_str_append(out, cp, (size_t)m);
    else out->failed = true;
    dan_free(cp);
}

/* Invalid bytes stay as they are between the valid runs. */
static void put_any(const char *p, size_t n, struct dan_str *out)
{
    for (size_t i = 0; i < n;) {
        size_t good = dan_utf8_check(p + i, n - i);
        if (good) put_run(p + i, good, out);
        i += good;
        if (i < n) dan_str_putc(out, p[i++]);
    }
}

bool dan_nfc_is_settled(const char *p, size_t n)
{
    size_t last;
    return settled(p, n, &last) == n;
}

void dan_nfc_text(const char *p, size_t n, struct dan_str *out)
{
    for (size_t i = 0; i < n && !out->failed;) {
        size_t last, end = settled(p + i, n - i, &last);
        if (i + end == n) last = end;
        dan_str_append(out, p + i, last);
        size_t more = end - last + unsettled(p + i + end, n - i - end);
        put_any(p + i + last, more, out);
        i += last + more;
    }
}
