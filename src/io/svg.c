#include "io/svg.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "io/html.h"

enum { WIDTH = 760, HEIGHT = 420, LEFT = 68, RIGHT = 20, TOP = 44, BOTTOM = 52, BINS = 400, MAX_SERIES = 6, MAX_TICKS = 20 };

/* Okabe and Ito's palette: told apart by colour-blind readers too. */
static const char *const colours[MAX_SERIES] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"};

struct frame { double x0, x1, y0, y1; bool log_y, empty; };

static double sx(const struct frame *f, double x)
{
    return LEFT + (x - f->x0) / (f->x1 - f->x0) * (WIDTH - LEFT - RIGHT);
}

static double sy(const struct frame *f, double y)
{
    double part = f->log_y ? log(y / f->y0) / log(f->y1 / f->y0) : (y - f->y0) / (f->y1 - f->y0);
    return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM);
}

static void widen(double *lo, double *hi, bool log_scale)
{
    double pad = log_scale ? pow(*hi / *lo, 0.04) : (*hi - *lo) * 0.05;
    if (*hi <= *lo)                            /* one value: a band around it */
        pad = *lo != 0 ? fabs(*lo) * 0.1 : 1;
    *lo = log_scale ? *lo / pad : *lo - pad;
    *hi = log_scale ? *hi * pad : *hi + pad;
}

/* Within 1e150 no sum, ratio or step of the drawing overflows; a loss beyond is as good as infinite. */
static bool usable(const struct dan_svg_series *s, size_t i) { return fabs(s->x[i]) < 1e150 && fabs(s->y[i]) < 1e150; }

static struct frame frame_of(const struct dan_svg_series *s, size_t n_series)
{
    struct frame f = {INFINITY, -INFINITY, INFINITY, -INFINITY, false, true};
    for (size_t k = 0; k < n_series; k++)
        for (size_t i = 0; i < s[k].n; i++)
            if (usable(&s[k], i)) {
                f.empty = false;
                f.x0 = fmin(f.x0, s[k].x[i]);
                f.x1 = fmax(f.x1, s[k].x[i]);
                f.y0 = fmin(f.y0, s[k].y[i]);
                f.y1 = fmax(f.y1, s[k].y[i]);
            }
    if (f.empty)
        return (struct frame){0, 1, 0, 1, false, true};
    f.log_y = f.y0 > 1e-150 && f.y1 / f.y0 >= 20;
    widen(&f.y0, &f.y1, f.log_y);
    if (f.x1 <= f.x0)
        widen(&f.x0, &f.x1, false);
    return f;
}

/* 1, 2 or 5 times a power of ten, so that about `want` steps cover the range. */
static double nice_step(double range, int want)
{
    double raw = range / want, power = pow(10, floor(log10(raw))), part = raw / power;
    return power * (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10);
}

/* 20000 -> 20k; %g keeps the rest short. */
static void put_number(double v, struct dan_str *out)
{
    double a = fabs(v);
    if (a >= 1e9)
        dan_str_printf(out, "%.6gG", v / 1e9);
    else if (a >= 1e6)
        dan_str_printf(out, "%.6gM", v / 1e6);
    else if (a >= 1e4)
        dan_str_printf(out, "%.6gk", v / 1e3);
    else
        dan_str_printf(out, "%.6g", a < 1e-12 ? 0 : v);
}

static void y_tick(const struct frame *f, double v, struct dan_str *out)
{
    double y = sy(f, v);
    dan_str_printf(out, "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", LEFT, y, WIDTH - RIGHT,
                   LEFT - 8, y + 4);
    put_number(v, out);
    dan_str_puts(out, "</text>\n");
}

static void x_tick(const struct frame *f, double v, struct dan_str *out)
{
    double x = sx(f, v);
    dan_str_printf(out, "<path class=\"grid\" d=\"M%.1f %dV%d\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", x, TOP,
                   HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 18);
    put_number(v, out);
    dan_str_puts(out, "</text>\n");
}

static void log_ticks(const struct frame *f, struct dan_str *out)
{
    double decades = log10(f->y1 / f->y0), every = ceil(decades / 8);
    static const double parts[] = {1, 2, 5};
    for (double d = floor(log10(f->y0)); d <= log10(f->y1); d += every)
        for (int k = 0; k < (decades > 3 ? 1 : 3); k++) {
            double v = parts[k] * pow(10, d);
            if (v >= f->y0 && v <= f->y1)
                y_tick(f, v, out);
        }
}

static void ticks(const struct frame *f, struct dan_str *out)
{
    double step = nice_step(f->x1 - f->x0, 7), first = ceil(f->x0 / step);
    for (int k = 0; k < MAX_TICKS && (first + k) * step <= f->x1; k++)     /* a product: no error adds up */
        x_tick(f, (first + k) * step, out);
    if (f->log_y) {
        log_ticks(f, out);
        return;
    }
    step = nice_step(f->y1 - f->y0, 6);
    first = ceil(f->y0 / step);
    for (int k = 0; k < MAX_TICKS && (first + k) * step <= f->y1; k++)
        y_tick(f, (first + k) * step, out);
}

struct bin { double x, mean, lo, hi; size_t n; };

/* Bin i of m of a series: points by index, so that rising x stays rising. */
static struct bin bin_of(const struct dan_svg_series *s, size_t i, size_t m)
{
    struct bin b = {0, 0, INFINITY, -INFINITY, 0};
    for (size_t k = i * s->n / m; k < (i + 1) * s->n / m; k++)
        if (usable(s, k)) {
            b.x += s->x[k];
            b.mean += s->y[k];
            b.lo = fmin(b.lo, s->y[k]);
            b.hi = fmax(b.hi, s->y[k]);
            b.n++;
        }
    if (b.n) {
        b.x /= (double)b.n;
        b.mean /= (double)b.n;
    }
    return b;
}

static void put_band(const struct frame *f, const struct dan_svg_series *s, const char *colour, struct dan_str *out)
{
    bool any = false;
    dan_str_printf(out, "<path fill=\"%s\" fill-opacity=\"0.18\" d=\"", colour);
    for (size_t i = 0; i < 2 * BINS; i++) {    /* along the tops, and back along the bottoms */
        struct bin b = bin_of(s, i < BINS ? i : 2 * BINS - 1 - i, BINS);
        if (b.n) {
            dan_str_printf(out, "%s%.1f %.1f", any ? "L" : "M", sx(f, b.x), sy(f, i < BINS ? b.hi : b.lo));
            any = true;
        }
    }
    dan_str_puts(out, "Z\"/>\n");
}

static void put_series(const struct frame *f, const struct dan_svg_series *s, const char *colour, struct dan_str *out)
{
    size_t m = s->n > BINS ? BINS : s->n, n_points = 0;
    if (s->n > BINS)
        put_band(f, s, colour, out);
    dan_str_printf(out, "<path class=\"line\" stroke=\"%s\" d=\"", colour);
    for (size_t i = 0; i < m; i++) {
        struct bin b = bin_of(s, i, m);
        if (b.n)
            dan_str_printf(out, "%s%.1f %.1f", n_points++ ? "L" : "M", sx(f, b.x), sy(f, b.mean));
    }
    dan_str_puts(out, "\"/>\n");
    for (size_t i = 0; n_points <= 40 && i < m; i++) {         /* few points are measurements one wants to see */
        struct bin b = bin_of(s, i, m);
        if (b.n)
            dan_str_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.6\" fill=\"%s\"/>\n", sx(f, b.x), sy(f, b.mean), colour);
    }
}

/* Last finite value, for the legend; NAN when there is none. */
static double last_value(const struct dan_svg_series *s)
{
    for (size_t i = s->n; i-- > 0;)
        if (usable(s, i))
            return s->y[i];
    return NAN;
}

static void put_legend(const struct dan_svg_series *s, size_t n_series, struct dan_str *out)
{
    for (size_t k = 0; k < n_series; k++) {
        int y = TOP + 18 + (int)k * 18;
        double last = last_value(&s[k]);
        dan_str_printf(out, "<path class=\"line\" stroke=\"%s\" d=\"M%d %dh18\"/><text x=\"%d\" y=\"%d\" text-anchor=\"end\">", colours[k],
                       WIDTH - RIGHT - 28, y - 4, WIDTH - RIGHT - 34, y);
        dan_html_line(s[k].name, out);
        if (isfinite(last))
            dan_str_printf(out, " %.4g", last);
        dan_str_puts(out, "</text>\n");
    }
}

static void put_head(const char *title, struct dan_str *out)
{
    dan_str_printf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\">\n<title>",
                   WIDTH, HEIGHT, WIDTH, HEIGHT);
    dan_html_line(title, out);
    dan_str_puts(out, "</title>\n<style>text{font:12px system-ui,sans-serif;fill:#444}.title{font-size:15px;font-weight:600;fill:#111}"
                      ".grid{stroke:#e3e3e3}.line{fill:none;stroke-width:1.8;stroke-linejoin:round}</style>\n");
    dan_str_printf(out, "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n<text class=\"title\" x=\"%d\" y=\"26\">", WIDTH, HEIGHT, LEFT);
    dan_html_line(title, out);
    dan_str_puts(out, "</text>\n");
}

static void put_labels(const struct frame *f, const char *x_label, const char *y_label, struct dan_str *out)
{
    dan_str_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12);
    dan_html_line(x_label, out);
    dan_str_printf(out, "</text>\n<text x=\"16\" y=\"%d\" text-anchor=\"middle\" transform=\"rotate(-90 16 %d)\">",
                   (TOP + HEIGHT - BOTTOM) / 2, (TOP + HEIGHT - BOTTOM) / 2);
    dan_html_line(y_label, out);
    dan_str_puts(out, f->log_y ? " (log)</text>\n" : "</text>\n");
}

int dan_svg_plot(const char *title, const char *x_label, const char *y_label,
                 const struct dan_svg_series *series, size_t n_series, struct dan_str *out, struct dan_err *e)
{
    if (n_series > MAX_SERIES)
        return dan_fail(e, DAN_EINVAL, "too many curves in one plot: %zu; at most %d", n_series, MAX_SERIES);
    struct frame f = frame_of(series, n_series);
    put_head(title, out);
    put_labels(&f, x_label, y_label, out);
    if (f.empty)
        dan_str_printf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">no values yet</text>\n", WIDTH / 2, HEIGHT / 2);
    else
        ticks(&f, out);
    for (size_t k = 0; k < n_series && !f.empty; k++)
        put_series(&f, &series[k], colours[k], out);
    dan_str_printf(out, "<path fill=\"none\" stroke=\"#888\" d=\"M%d %dV%dH%d\"/>\n", LEFT, TOP, HEIGHT - BOTTOM, WIDTH - RIGHT);
    put_legend(series, n_series, out);
    dan_str_puts(out, "</svg>\n");
    return out->failed ? dan_fail(e, DAN_ENOMEM, "out of memory while drawing '%s'", title) : DAN_OK;
}

int dan_svg_write(const char *path, const char *title, const char *x_label, const char *y_label,
                  const struct dan_svg_series *series, size_t n_series, struct dan_err *e)
{
    struct dan_str out = {0};
    int rc = dan_svg_plot(title, x_label, y_label, series, n_series, &out, e);
    if (!rc)
        rc = dan_write_file(path, out.p, out.n, e);
    dan_str_release(&out);
    return rc;
}
