#include "base/utf8.h"

/* RFC 3629, section 4: the length a lead byte announces (0: not a lead byte) and the range of
 * the second byte, which is where overlong forms, surrogates and > U+10FFFF are excluded. */
static int lead_length(unsigned char b)
{
    if (b < 0x80) return 1;
    if (b < 0xC2) return 0;
    return b < 0xE0 ? 2 : b < 0xF0 ? 3 : b < 0xF5 ? 4 : 0;
}

static int second_ok(unsigned char lead, unsigned char b)
{
    unsigned char lo = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned char hi = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    return b >= lo && b <= hi;
}

/* How many of the first n bytes belong to the sequence that p[0] begins (0: none begins). */
static int good_prefix(const unsigned char *p, size_t n, int *length)
{
    *length = lead_length(p[0]);
    if (*length == 0) return 0;
    int k = 1;
    while (k < *length && (size_t)k < n && (k == 1 ? second_ok(p[0], p[1]) : (p[k] & 0xC0) == 0x80)) k++;
    return k;
}

int dan_utf8_next(const char *text, size_t n, int32_t *cp)
{
    const unsigned char *p = (const unsigned char *)text;
    int length;
    if (p[0] < 0x80) {                             /* most characters, at a fifth of the price */
        *cp = p[0];
        return 1;
    }
    if (p[0] >= 0xC2 && p[0] < 0xE0 && n >= 2 && (p[1] & 0xC0) == 0x80) {
        *cp = (p[0] & 0x1F) << 6 | (p[1] & 0x3F);
        return 2;
    }
    if (good_prefix(p, n, &length) != length || length == 0) {
        *cp = -1 - (int32_t)p[0];
        return 1;
    }
    int32_t c = p[0] & (0x7F >> length);
    for (int i = 1; i < length; i++) c = c << 6 | (p[i] & 0x3F);
    *cp = c;
    return length;
}

/* What is no scalar value becomes U+FFFD, except that -1 - byte gives the byte back, so that
 * decoding and encoding any bytes is the identity. */
int dan_utf8_put(int32_t cp, char out[4])
{
    if (cp < 0 && cp >= -256) {
        out[0] = (char)(unsigned char)(-1 - cp);
        return 1;
    }
    if (cp < 0 || cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF)) cp = 0xFFFD;
    int n = cp < 0x80 ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, cp >>= 6) out[i] = (char)(unsigned char)(0x80 | (cp & 0x3F));
    static const unsigned char mark[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    out[0] = (char)(unsigned char)(mark[n] | cp);
    return n;
}

size_t dan_utf8_check(const char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        int32_t cp;
        int k = dan_utf8_next(p + i, n - i, &cp);
        if (cp < 0) return i;
        i += (size_t)k;
    }
    return n;
}

size_t dan_utf8_partial(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    for (size_t k = 1; k <= 3 && k <= n; k++) {
        if ((p[n - k] & 0xC0) == 0x80) continue;
        int length;
        return good_prefix(p + n - k, k, &length) == (int)k && (size_t)length > k ? k : 0;
    }
    return 0;
}
