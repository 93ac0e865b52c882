#include "base/err.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/utf8.h"

/* Messages quote what files hold: what would move a terminal's cursor, or is no UTF-8, becomes '?', white space a space. */
static void make_printable(char *p)
{
    int32_t cp;
    for (size_t n = strlen(p), i = 0, k; i < n; i += k) {
        k = (size_t)dan_utf8_next(p + i, n - i, &cp);
        if (cp >= '\t' && cp <= '\r') p[i] = ' ';
        else if (cp < ' ' || (cp >= 0x7f && cp < 0xa0)) memset(p + i, '?', k);
    }
}

int dan_fail(struct dan_err *e, int code, const char *fmt, ...)
{
    if (e && e->code == DAN_OK) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(e->msg, sizeof e->msg, fmt, ap);
        va_end(ap);
        make_printable(e->msg);
        e->code = code;
    }
    return code;
}

_Noreturn void dan_bug(const char *file, int line, const char *what)
{
    fprintf(stderr, "danlu: bug at %s:%d: %s\n", file, line, what);
    abort();
}
