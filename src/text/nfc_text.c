/* NFC of a whole text, for byte-level BPE.  Nearly all characters of nearly all texts are in it already, whatever stands beside them:
 * those are copied, and only the others, with the character before them, are looked at one by one. */
#include "base/utf8.h"
#include "text/impl.h"
#include "text/normal.h"

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

/* Appends the NFC form of n bytes as `tokenizers` has it, whose marks are those of Unicode 9; invalid bytes stay as they are. */
static void put_any(const char *p, size_t n, struct dan_str *out)
{
    struct dan_flow in = {0}, form = {0};
    dan_flow_set(&in, p, n, 0);
    dan_form_apply(DAN_FORM_NFC, &in, &form);
    dan_str_append(out, dan_str_c(&form.s), form.s.n);
    out->failed = out->failed || in.failed || form.failed;
    dan_flow_release(&in);
    dan_flow_release(&form);
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
