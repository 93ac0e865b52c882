#include "io/html.h"

static void put(char c, struct dan_str *out)
{
    switch (c) {
    case '&': dan_str_puts(out, "&amp;"); break;
    case '<': dan_str_puts(out, "&lt;"); break;
    case '>': dan_str_puts(out, "&gt;"); break;
    case '"': dan_str_puts(out, "&quot;"); break;
    default: dan_str_putc(out, c);
    }
}

void dan_html_put(const char *s, size_t n, struct dan_str *out)
{
    for (size_t i = 0; i < n; i++) put(s[i], out);
}

void dan_html_line(const char *s, struct dan_str *out)
{
    for (; *s; s++) put((unsigned char)*s < ' ' ? ' ' : *s, out);
}
