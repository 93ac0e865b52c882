#include "base/err.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int dan_fail(struct dan_err *e, int code, const char *fmt, ...)
{
    if (e && e->code == DAN_OK) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(e->msg, sizeof e->msg, fmt, ap);
        va_end(ap);
        e->code = code;
    }
    return code;
}

_Noreturn void dan_bug(const char *file, int line, const char *what)
{
    fprintf(stderr, "danlu: bug at %s:%d: %s\n", file, line, what);
    abort();
}
