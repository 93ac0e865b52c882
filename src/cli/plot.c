/* Curves in text. */
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "cli/ui.h"

/* Mean of the finite values that fall into bin `i` of `bins`; NAN when there are none. */
static double bin_mean(const double *y, size_t n, size_t i, size_t bins)
{
    size_t lo = i * n / bins, hi = (i + 1) * n / bins, count = 0;
    double sum = 0;
    if (hi == lo)
        hi = lo + 1;
    for (size_t k = lo; k < hi && k < n; k++)
        if (isfinite(y[k])) {
            sum += y[k];
            count++;
        }
    return count ? sum / (double)count : NAN;
}

static bool bin_range(const double *y, size_t n, size_t bins, double *lo, double *hi)
{
    *lo = INFINITY;
    *hi = -INFINITY;
    for (size_t i = 0; i < bins; i++) {
        double v = bin_mean(y, n, i, bins);
        *lo = v < *lo ? v : *lo;
        *hi = v > *hi ? v : *hi;
    }
    return *lo <= *hi;
}

void dan_sparkline(const double *y, size_t n, int width, struct dan_str *out)
{
    static const char *const bars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
    double lo, hi;
    size_t bins = width > 0 && (size_t)width < n ? (size_t)width : n;
    if (width <= 0 || !bin_range(y, n, bins, &lo, &hi))
        return;
    for (size_t i = 0; i < bins; i++) {
        double v = bin_mean(y, n, i, bins), part = hi > lo ? (v - lo) / (hi - lo) : 0;
        dan_str_puts(out, isnan(v) ? " " : bars[(int)(part * 7.999)]);
    }
}

enum { AXIS = 9 };                             /* columns for the numbers and the line beside them */

/* Sets one dot; a Braille cell has 2 x 4 dots, bit order fixed by Unicode (U+2800 + bits). */
static void dot(unsigned char *cell, int cols, int x, int y)
{
    static const unsigned char bit[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    cell[y / 4 * cols + x / 2] |= bit[y % 4][x % 2];
}

/* Draws bins as dots joined vertically, so that steep parts stay connected. */
static void trace(const double *y, size_t n, unsigned char *cell, int cols, int rows, double lo, double hi)
{
    int dots = cols * 2, height = rows * 4, before = -1;
    for (int x = 0; x < dots; x++) {
        double v = bin_mean(y, n, (size_t)x, (size_t)dots);
        if (isnan(v)) {
            before = -1;
            continue;
        }
        int at = (int)((hi - v) / (hi > lo ? hi - lo : 1) * (height - 1) + 0.5);
        int step = before < 0 || before == at ? 0 : before < at ? 1 : -1;
        for (int k = step ? before + step : at; step && k != at; k += step)
            dot(cell, cols, x, k);
        dot(cell, cols, x, at);
        before = at;
    }
}

static void put_row(const unsigned char *cell, int cols, int row, int rows, double lo, double hi, struct dan_str *out)
{
    char utf8[4];
    if (row == 0 || row == rows - 1)
        dan_str_printf(out, "%*.4g ┤", AXIS - 2, row == 0 ? hi : lo);
    else
        dan_str_printf(out, "%*s │", AXIS - 2, "");
    for (int c = 0; c < cols; c++)
        dan_str_append(out, utf8, (size_t)dan_utf8_put(0x2800 + cell[row * cols + c], utf8));
    dan_str_putc(out, '\n');
}

void dan_plot(const double *y, size_t n, int width, int height, struct dan_str *out)
{
    int cols = width - AXIS;
    double lo, hi;
    if (cols < 4 || height < 2 || !bin_range(y, n, (size_t)cols * 2, &lo, &hi))
        return;
    unsigned char *cell = dan_calloc((size_t)cols, (size_t)height);
    if (!cell) {
        out->failed = true;
        return;
    }
    trace(y, n, cell, cols, height, lo, hi);
    for (int r = 0; r < height; r++)
        put_row(cell, cols, r, height, lo, hi, out);
    dan_free(cell);
}
