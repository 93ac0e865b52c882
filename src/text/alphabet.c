/* GPT-2's encoder.py, bytes_to_unicode: bytes that print stand for themselves, the 68 others get the
 * code points from U+0100 on, in order. */
#include "base/utf8.h"
#include "text/impl.h"

static bool prints(int b) { return (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF); }

int32_t dan_byte_to_char(unsigned char b)
{
    if (prints(b)) return b;
    return 0x100 + (b <= 0x20 ? b : b <= 0xA0 ? b - 0x7F + 0x21 : 0x43);
}

int dan_char_to_byte(int32_t cp)
{
    if (cp < 0x100) return cp >= 0 && prints(cp) ? cp : -1;
    cp -= 0x100;
    return cp <= 0x20 ? cp : cp <= 0x42 ? cp - 0x21 + 0x7F : cp == 0x43 ? 0xAD : -1;
}

void dan_alphabet_put(struct dan_str *out, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c[4];
        int k = dan_utf8_put(dan_byte_to_char((unsigned char)p[i]), c);
        dan_str_append(out, c, (size_t)k);
    }
}

size_t dan_alphabet_get(const char *text, size_t n, char *out)
{
    size_t m = 0;
    for (size_t i = 0; i < n;) {
        int32_t cp;
        i += (size_t)dan_utf8_next(text + i, n - i, &cp);
        int b = dan_char_to_byte(cp);
        if (b < 0) {                           /* as ByteLevel's decoder: then none of it is read as bytes */
            for (size_t k = 0; k < n; k++) out[k] = text[k];
            return n;
        }
        out[m++] = (char)(unsigned char)b;
    }
    return m;
}

void dan_alphabet_order(unsigned char order[256])
{
    int m = 0;
    for (int32_t cp = 0; m < 256; cp++) {
        int b = dan_char_to_byte(cp);
        if (b >= 0) order[m++] = (unsigned char)b;
    }
}
