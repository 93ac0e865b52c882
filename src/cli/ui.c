/* Messages, progress and the result stream. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "base/sys.h"
#include "cli/ui.h"

/* UTF-8 unless the locale names another encoding; an unset locale is common in containers whose terminals are UTF-8. */
static bool locale_is_utf8(void)
{
    const char *names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < 3; i++) {
        const char *v = dan_env(names[i]);
        if (v)
            return strcasestr(v, "utf-8") || strcasestr(v, "utf8");
    }
    return true;
}

void dan_ui_init(struct dan_ui *ui)
{
    const char *term = dan_env("TERM");
    bool dumb = term && !strcmp(term, "dumb"), colour = !dan_env("NO_COLOR") && !dumb;
    *ui = (struct dan_ui){.tty = isatty(STDERR_FILENO) && !dumb, .out_tty = isatty(STDOUT_FILENO), .unicode = locale_is_utf8()};
    ui->colour = ui->tty && colour;
    ui->out_colour = ui->out_tty && colour;
}

int dan_ui_width(void)
{
    struct winsize w;
    for (int fd = STDERR_FILENO; fd >= STDOUT_FILENO; fd--)
        if (!ioctl(fd, TIOCGWINSZ, &w) && w.ws_col > 0)
            return w.ws_col;
    return 80;
}

static void draw(struct dan_bar *b, double now)
{
    struct dan_str line = {0};
    dan_bar_render(b, now, dan_ui_width() - 1, &line);
    fprintf(stderr, "\r%s\033[K", dan_str_c(&line));
    fflush(stderr);
    b->drawn = now;
    dan_str_release(&line);
}

static void put_line(struct dan_ui *ui, const char *prefix, const char *colour, const char *text)
{
    if (ui->bar && ui->tty)
        fputs("\r\033[K", stderr);
    fprintf(stderr, "%s%s%s%s\n", ui->colour ? colour : "", prefix, ui->colour && *colour ? "\033[0m" : "", text);
    if (ui->bar && ui->tty)
        draw(ui->bar, dan_now());
}

static void format(struct dan_str *s, const char *fmt, va_list ap)
{
    char small[512];
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(small, sizeof small, fmt, ap);
    if (n < (int)sizeof small) {
        dan_str_puts(s, small);
    } else {
        char *big = malloc((size_t)n + 1);
        if (big)
            vsnprintf(big, (size_t)n + 1, fmt, again);
        dan_str_puts(s, big ? big : small);
        free(big);
    }
    va_end(again);
}

void dan_say(struct dan_ui *ui, const char *fmt, ...)
{
    struct dan_str s = {0};
    va_list ap;
    if (ui->quiet)
        return;
    va_start(ap, fmt);
    format(&s, fmt, ap);
    va_end(ap);
    put_line(ui, "", "", dan_str_c(&s));
    dan_str_release(&s);
}

void dan_warn(struct dan_ui *ui, const char *fmt, ...)
{
    struct dan_str s = {0};
    va_list ap;
    va_start(ap, fmt);
    format(&s, fmt, ap);
    va_end(ap);
    put_line(ui, "warning: ", "\033[33m", dan_str_c(&s));
    dan_str_release(&s);
}

void dan_report(struct dan_ui *ui, const char *who, const struct dan_err *e)
{
    struct dan_str s = {0};
    dan_str_printf(&s, "%s: ", who);
    put_line(ui, dan_str_c(&s), "\033[31m", e->msg);
    dan_str_release(&s);
}

static int out_failed(struct dan_ui *ui, struct dan_err *e)
{
    int why = errno;
    clearerr(stdout);
    if (why == EPIPE) {
        ui->out_closed = true;
        return dan_fail(e, DAN_ECANCELLED, "output closed by its reader");
    }
    return dan_fail(e, DAN_EIO, "cannot write the result to stdout: %s; check the disk it is redirected to", strerror(why));
}

int dan_out(struct dan_ui *ui, const char *bytes, size_t n, struct dan_err *e)
{
    bool apart = ui->bar && ui->tty && ui->out_tty;            /* both on one screen: lift the bar off first */
    if (apart)
        fputs("\r\033[K", stderr);
    return fwrite(bytes, 1, n, stdout) == n ? DAN_OK : out_failed(ui, e);
}

int dan_out_flush(struct dan_ui *ui, struct dan_err *e)
{
    return fflush(stdout) == 0 ? DAN_OK : out_failed(ui, e);
}

int dan_out_json(struct dan_ui *ui, json_t *line, struct dan_err *e)
{
    char *text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(line);
    if (!text)
        return dan_fail(e, DAN_ENOMEM, "cannot write JSON: out of memory or text that is not UTF-8");
    int rc = dan_out(ui, text, strlen(text), e);
    free(text);
    if (!rc)
        rc = dan_out(ui, "\n", 1, e);
    return rc ? rc : dan_out_flush(ui, e);
}

/* --- progress */

enum { REDRAWS_PER_S = 10, PLAIN_EVERY_S = 5 };

void dan_bar_start(struct dan_bar *b, struct dan_ui *ui, const char *title, const char *unit, int64_t done, int64_t total)
{
    double now = dan_now();
    *b = (struct dan_bar){.ui = ui, .title = title, .unit = unit, .first = done, .done = done, .total = total,
                          .started = now, .rate_at = now, .rate_done = done, .said = done};
    ui->bar = b;
    ui->heeds = 1;
    b->drawn = now - (ui->tty ? 1 : 0);        /* the first plain line comes after its time, the first bar at once */
    if (ui->tty && !ui->quiet)
        draw(b, now);
}

/* An average that forgets with a time constant of 10 s; measured at most 10 times a second. */
static void measure(struct dan_bar *b, double now)
{
    double dt = now - b->rate_at;
    if (dt < 0.1)
        return;
    double fresh = (double)(b->done - b->rate_done) / dt, keep = b->rate > 0 ? 10 / (10 + dt) : 0;
    double age = now - b->started;
    if (age < 10)                              /* young: plain mean, or one slow first step would linger */
        b->rate = (double)(b->done - b->first) / age;
    else
        b->rate = keep * b->rate + (1 - keep) * fresh;
    b->rate_at = now;
    b->rate_done = b->done;
}

static void plain_line(struct dan_bar *b, double now)
{
    struct dan_str line = {0};
    dan_bar_render(b, now, 0, &line);
    fprintf(stderr, "%s\n", dan_str_c(&line));
    dan_str_release(&line);
    b->drawn = now;
    b->said = b->done;
}

/* Plain progress: every 10 % of a known total, but not within 5 s; every 30 s in any case. */
static bool plain_due(const struct dan_bar *b, double now)
{
    double since = now - b->drawn;
    return since >= PLAIN_EVERY_S && (since >= 6 * PLAIN_EVERY_S || b->total <= 0 || (b->done - b->said) * 10 >= b->total);
}

void dan_bar_update(struct dan_bar *b, int64_t done, const char *fmt, ...)
{
    double now = dan_now();
    va_list ap;
    b->done = done;
    if (fmt) {
        va_start(ap, fmt);
        vsnprintf(b->text, sizeof b->text, fmt, ap);
        va_end(ap);
    }
    measure(b, now);
    if (b->ui->quiet)
        return;
    if (b->ui->tty && now - b->drawn >= 1.0 / REDRAWS_PER_S)
        draw(b, now);
    else if (!b->ui->tty && plain_due(b, now))
        plain_line(b, now);
}

void dan_bar_finish(struct dan_bar *b)
{
    double now = dan_now(), age = now - b->started;
    if (age > 0)
        b->rate = (double)(b->done - b->first) / age;          /* the last line tells the whole run's rate */
    b->ui->bar = NULL;
    if (b->ui->quiet)
        return;
    if (!b->ui->tty) {
        plain_line(b, now);
        return;
    }
    draw(b, now);
    fputc('\n', stderr);
}

static void put_bar(const struct dan_bar *b, int columns, struct dan_str *out)
{
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    double part = b->total > 0 ? (double)b->done / (double)b->total : 0;
    part = part < 0 ? 0 : part > 1 ? 1 : part;
    int filled = (int)(part * columns * 8), used = filled / 8;
    for (int i = 0; i < used; i++)
        dan_str_puts(out, b->ui->unicode ? "█" : "#");
    if (b->ui->unicode && filled % 8 && used < columns) {
        dan_str_puts(out, eighths[filled % 8]);
        used++;
    }
    dan_str_printf(out, "%*s", columns - used, "");
}

/* "1200/10k steps · 3.1 steps/s · 2m05s left · loss 2.31" */
static void put_facts(const struct dan_bar *b, double now, struct dan_str *out)
{
    char num[DAN_NUM];
    const char *gap = b->ui->unicode ? " · " : ", ";
    dan_str_printf(out, "%s", dan_fmt_count((double)b->done, num));
    if (b->total > 0)
        dan_str_printf(out, "/%s", dan_fmt_count((double)b->total, num));
    dan_str_printf(out, " %s", b->unit);
    if (b->rate > 0)
        dan_str_printf(out, "%s%s %s/s", gap, dan_fmt_count(b->rate, num), b->unit);
    if (b->total > b->done && b->rate > 0)
        dan_str_printf(out, "%s%s left", gap, dan_fmt_time((double)(b->total - b->done) / b->rate - (now - b->rate_at), num));
    else
        dan_str_printf(out, "%s%s", gap, dan_fmt_time(now - b->started, num));
    if (b->text[0])
        dan_str_printf(out, "%s%s", gap, b->text);
}

void dan_bar_render(const struct dan_bar *b, double now, int width, struct dan_str *out)
{
    struct dan_str facts = {0};
    size_t begin = out->n;
    put_facts(b, now, &facts);
    dan_str_printf(out, "%s ", b->title);
    if (b->total > 0)
        dan_str_printf(out, "%3d%% ", (int)(100.0 * (double)b->done / (double)b->total));
    int room = width - dan_text_width(out->p + begin, out->n - begin) - dan_text_width(dan_str_c(&facts), facts.n) - 3;
    if (width > 0 && b->total > 0 && room >= 5) {
        dan_str_puts(out, b->ui->unicode ? "▕" : "[");
        put_bar(b, room > 30 ? 30 : room, out);
        dan_str_puts(out, b->ui->unicode ? "▏ " : "] ");
    }
    dan_str_puts(out, dan_str_c(&facts));
    if (width > 0 && out->p) {                 /* a line that wraps cannot be redrawn */
        out->n = begin + dan_text_fit(out->p + begin, out->n - begin, width);
        out->p[out->n] = 0;
    }
    dan_str_release(&facts);
}
