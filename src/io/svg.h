/* Curves as self-contained SVG: no scripts, no fonts, readable on white and dark pages. */
#ifndef DAN_IO_SVG_H
#define DAN_IO_SVG_H
#include <stddef.h>
#include "base/err.h"
#include "base/str.h"

struct dan_svg_series {
    const char   *name;                        /* in the legend */
    const double *x, *y;                       /* n each, x rising; points beyond 1e150 or not finite are left out */
    size_t        n;
};

/* Appends one plot of up to 6 series.  The y axis is logarithmic when all values are positive and the
 * largest is at least 20 times the smallest.  A series of more than 400 points is drawn as the mean of
 * each of 400 bins over a pale band from the least to the largest value of the bin.
 * Text is escaped.  A plot without points says so. */
int dan_svg_plot(const char *title, const char *x_label, const char *y_label,
                 const struct dan_svg_series *series, size_t n_series, struct dan_str *out, struct dan_err *e);
/* The same to a file, all or nothing. */
int dan_svg_write(const char *path, const char *title, const char *x_label, const char *y_label,
                  const struct dan_svg_series *series, size_t n_series, struct dan_err *e);

#endif
