/* What people see.  Everything here goes to stderr; stdout is only for a command's result.
 * Bars and colours need a terminal; elsewhere progress is plain lines. */
#ifndef DAN_CLI_UI_H
#define DAN_CLI_UI_H
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"
#include "base/str.h"

struct dan_bar;
struct dan_ui {
    bool tty, colour, unicode, quiet;          /* of stderr */
    bool out_tty, out_colour;                  /* of stdout */
    bool out_closed;                           /* the reader of stdout went away (`| head`) */
    struct dan_bar *bar;                       /* the one on the screen now */
    volatile sig_atomic_t heeds;               /* cli->stop is looked at from here on: a first signal is a wish.  Before, it ends the program */
};
/* NO_COLOR, TERM and the locale decide. */
void dan_ui_init(struct dan_ui *ui);
int  dan_ui_width(void);                       /* columns of the terminal at stderr, else stdout; 80 when there is none */

/* One line each, newline added; a bar steps aside.  say: not with --quiet. */
void dan_say(struct dan_ui *ui, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void dan_warn(struct dan_ui *ui, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void dan_report(struct dan_ui *ui, const char *who, const struct dan_err *e);   /* "danlu train: message" in red */

/* Progress.  `total` 0: unknown.  `done` may start above 0 (resumed work).  One bar at a time. */
struct dan_bar {
    struct dan_ui *ui;
    const char *title, *unit;
    int64_t first, done, total;
    double  started, drawn;                    /* dan_now() */
    double  rate, rate_at;                     /* units per second, smoothed over ~10 s; when last measured */
    int64_t rate_done, said;                   /* progress at that time; at the last plain line */
    char    text[160];
};
void dan_bar_start(struct dan_bar *b, struct dan_ui *ui, const char *title, const char *unit, int64_t done, int64_t total);
void dan_bar_update(struct dan_bar *b, int64_t done, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void dan_bar_finish(struct dan_bar *b);        /* leaves the last state as a line */
/* One line of the bar at time `now` for `width` columns, no newline. */
void dan_bar_render(const struct dan_bar *b, double now, int width, struct dan_str *out);

/* The result, on stdout. */
int  dan_out(struct dan_ui *ui, const char *bytes, size_t n, struct dan_err *e);
int  dan_out_json(struct dan_ui *ui, json_t *line, struct dan_err *e);   /* one line, flushed; takes `line` over */
int  dan_out_flush(struct dan_ui *ui, struct dan_err *e);    /* DAN_EIO: disk full; DAN_ECANCELLED: reader went away */

/* Numbers for people, into the caller's buffer, which is returned: 1234, 1.23M, 3.40 GiB, 2m05s. */
enum { DAN_NUM = 32 };
const char *dan_fmt_count(double x, char buf[DAN_NUM]);
const char *dan_fmt_bytes(double x, char buf[DAN_NUM]);
const char *dan_fmt_time(double seconds, char buf[DAN_NUM]);
const char *dan_fmt_date(int64_t unix_time, char buf[DAN_NUM]);   /* local, "2025-01-31 14:05" */

/* Terminal columns of UTF-8 text (wide CJK 2, combining 0; control characters 0). */
int  dan_text_width(const char *s, size_t n);
/* Bytes of s that fit in `columns`. */
size_t dan_text_fit(const char *s, size_t n, int columns);

/* Aligned columns.  `align` has one letter per column: l left, L left and never cut, r right. */
struct dan_table { struct dan_str cells; size_t n_cols, n_cells; const char *align; };
void dan_table_init(struct dan_table *t, const char *align, const char *const *headers);
void dan_table_row(struct dan_table *t, const char *const *cells);         /* copies; NULL cell: "" */
/* Appends the lines; when wider than `width` (0: no limit) the widest l column is cut with "…". */
void dan_table_print(const struct dan_table *t, int width, bool colour, struct dan_str *out);
void dan_table_release(struct dan_table *t);

/* Curves; values that are not finite leave a gap. */
void dan_sparkline(const double *y, size_t n, int width, struct dan_str *out);          /* ▁▂▃▄▅▆▇█ */
/* Braille plot with a y axis, `width` x `height` characters, newline after each row. */
void dan_plot(const double *y, size_t n, int width, int height, struct dan_str *out);

#endif
