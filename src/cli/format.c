/* Numbers, dates and text widths for people. */
#include <math.h>
#include <stdio.h>
#include <time.h>
#include <utf8proc.h>
#include "base/utf8.h"
#include "cli/ui.h"

/* x / 1000^k (or 1024^k) with three significant digits. */
static void scaled(double x, double step, const char *const *units, int n_units, char *buf)
{
    int k = 0;
    while (fabs(x) >= step * 0.9995 && k + 1 < n_units) {
        x /= step;
        k++;
    }
    double a = fabs(x);
    int digits = a >= 99.95 || (k == 0 && floor(x) == x) ? 0 : a >= 9.995 ? 1 : 2;
    snprintf(buf, DAN_NUM, "%.*f%s", digits, x, units[k]);
}

const char *dan_fmt_count(double x, char buf[DAN_NUM])
{
    static const char *const units[] = {"", "k", "M", "G", "T", "P"};
    if (isnan(x))
        snprintf(buf, DAN_NUM, "-");
    else if (x != 0 && fabs(x) < 0.01)
        snprintf(buf, DAN_NUM, "%.2g", x);
    else if (fabs(x) < 10000 && floor(x) == x)
        snprintf(buf, DAN_NUM, "%.0f", x);     /* steps and rows are whole: 3000 rather than 3.00k */
    else
        scaled(x, 1000, units, 6, buf);
    return buf;
}

const char *dan_fmt_bytes(double x, char buf[DAN_NUM])
{
    static const char *const units[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB"};
    if (isnan(x) || x < 0)
        snprintf(buf, DAN_NUM, "-");
    else
        scaled(x, 1024, units, 6, buf);
    return buf;
}

const char *dan_fmt_time(double s, char buf[DAN_NUM])
{
    s = s > 0 ? s : 0;
    long long n = s < 9e15 ? llround(s) : 0;
    if (!(s < 9e15))
        snprintf(buf, DAN_NUM, "-");
    else if (s < 0.9995)
        snprintf(buf, DAN_NUM, "%.0fms", s * 1000);
    else if (s < 9.95)
        snprintf(buf, DAN_NUM, "%.1fs", s);
    else if (n < 60)
        snprintf(buf, DAN_NUM, "%llds", n);
    else if (n < 3600)
        snprintf(buf, DAN_NUM, "%lldm%02llds", n / 60, n % 60);
    else if (n < 86400)
        snprintf(buf, DAN_NUM, "%lldh%02lldm", n / 3600, n / 60 % 60);
    else
        snprintf(buf, DAN_NUM, "%lldd%02lldh", n / 86400, n / 3600 % 24);
    return buf;
}

const char *dan_fmt_date(int64_t unix_time, char buf[DAN_NUM])
{
    time_t t = (time_t)unix_time;
    struct tm tm;
    if (unix_time <= 0 || !localtime_r(&t, &tm) || !strftime(buf, DAN_NUM, "%Y-%m-%d %H:%M", &tm))
        snprintf(buf, DAN_NUM, "-");
    return buf;
}

static int width_of(int32_t cp)
{
    return cp < 0 ? 1 : cp < 32 || cp == 127 ? 0 : utf8proc_charwidth(cp);   /* an invalid byte shows as one box */
}

size_t dan_text_fit(const char *s, size_t n, int columns)
{
    size_t i = 0;
    int32_t cp;
    while (i < n) {
        int len = dan_utf8_next(s + i, n - i, &cp);
        columns -= width_of(cp);
        if (columns < 0)
            break;
        i += (size_t)len;
    }
    return i;
}

int dan_text_width(const char *s, size_t n)
{
    int w = 0;
    int32_t cp;
    for (size_t i = 0; i < n;) {
        i += (size_t)dan_utf8_next(s + i, n - i, &cp);
        w += width_of(cp);
    }
    return w;
}
