/* DIR/report.html. */
#include "cli/page.h"
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "cli/run_log.h"
#include "io/html.h"
#include "io/svg.h"

static const char style[] =
    "body{font:15px/1.45 system-ui,sans-serif;max-width:72em;margin:2em auto;padding:0 1em;color:#222;background:#fff}table{border-collapse:collapse;width:100%}"
    "td,th{padding:4px 9px;border-bottom:1px solid #ddd;text-align:left;vertical-align:top;white-space:pre-wrap}pre{background:#f6f6f6;padding:1em;overflow:auto}"
    ".curves{display:grid;grid-template-columns:repeat(auto-fill,minmax(30em,1fr));gap:1em}svg{max-width:100%;height:auto}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}pre{background:#222}td,th{border-color:#444}}";

/* Counters that only rise say nothing as a curve. */
static bool counts(const char *key) { return !strcmp(key, "epoch") || !strcmp(key, "num_tokens") || !strcmp(key, "seconds") || !strcmp(key, "episode"); }

int page_curves(struct dan_str *out, const char *dir, struct dan_err *e)
{
    struct run_log log;
    int rc = run_log_read(dir, &log) ? dan_fail(e, DAN_ENOMEM, "not enough memory for curves") : DAN_OK;
    if (!rc && log.n) dan_str_puts(out, "<div class=\"curves\">\n");
    for (size_t i = 0; i < log.n && !rc; i++) {
        const struct log_column *c = &log.v[i];
        const struct dan_svg_series one = {c->key, c->step, c->y, c->n};
        const char *title = run_log_title(c->key);
        if (c->n < 2 || counts(c->key)) continue;
        dan_str_puts(out, "<div>");
        rc = dan_svg_plot(title ? title : c->key, "step", c->key, &one, 1, out, e);
        dan_str_puts(out, "</div>\n");
    }
    if (log.n) dan_str_puts(out, "</div>\n");
    run_log_release(&log);
    return rc;
}

int page_calibration(struct dan_str *out, const json_t *bins, struct dan_err *e)
{
    enum { MOST = 64 };
    double x[MOST], y[MOST];
    size_t n = json_array_size(bins);
    if (n < 2 || n > MOST) return DAN_OK;
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_array_get(bins, i);
        x[i] = json_number_value(json_object_get(one, "predicted"));
        y[i] = json_number_value(json_object_get(one, "observed"));
    }
    const struct dan_svg_series series[] = {{"observed", x, y, n}, {"as predicted", x, x, n}};
    page_heading(out, "Calibration on held-out pairs");
    dan_str_puts(out, "<div class=\"curves\"><div>");
    int rc = dan_svg_plot("share of pairs in order", "predicted", "observed", series, 2, out, e);
    dan_str_puts(out, "</div></div>\n");
    return rc;
}

static void put_cell(const json_t *v, struct dan_str *out)
{
    dan_str_puts(out, "<td>");
    if (json_is_string(v)) dan_html_put(json_string_value(v), json_string_length(v), out);
    if (json_is_number(v)) dan_str_printf(out, "%.4g", json_number_value(v));
    dan_str_puts(out, "</td>");
}

/* "prompt", "before" and "after" first, as far as there are such, then the others. */
static size_t columns(const json_t *first, const char **key, size_t most)
{
    static const char *const usual[] = {"prompt", "before", "after"};
    const char *name;
    json_t *v;
    size_t n = 0;
    for (size_t k = 0; k < 3; k++)
        if (json_object_get(first, usual[k])) key[n++] = usual[k];
    json_object_foreach((json_t *)first, name, v)
        if (n < most && strcmp(name, usual[0]) && strcmp(name, usual[1]) && strcmp(name, usual[2])) key[n++] = name;
    return n;
}

void page_samples(struct dan_str *out, const json_t *samples)
{
    enum { MOST = 16 };
    const char *key[MOST];
    size_t n = columns(json_array_get(samples, 0), key, MOST), i;
    json_t *one;
    if (!n) return;
    dan_str_puts(out, "<table><tr>");
    for (size_t k = 0; k < n; k++) {
        dan_str_puts(out, "<th>");
        dan_html_put(key[k], strlen(key[k]), out);
        dan_str_puts(out, "</th>");
    }
    dan_str_puts(out, "</tr>\n");
    json_array_foreach((json_t *)samples, i, one) {
        dan_str_puts(out, "<tr>");
        for (size_t k = 0; k < n; k++) put_cell(json_object_get(one, key[k]), out);
        dan_str_puts(out, "</tr>\n");
    }
    dan_str_puts(out, "</table>\n");
}

void page_begin(struct dan_str *out, const char *title)
{
    dan_str_puts(out, "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>");
    dan_html_put(title, strlen(title), out);
    dan_str_printf(out, "</title><style>%s</style>\n<h1>", style);
    dan_html_put(title, strlen(title), out);
    dan_str_puts(out, "</h1>\n");
}

void page_heading(struct dan_str *out, const char *text)
{
    dan_str_puts(out, "<h2>");
    dan_html_put(text, strlen(text), out);
    dan_str_puts(out, "</h2>\n");
}

void page_text(struct dan_str *out, const char *text, size_t n)
{
    dan_str_puts(out, "<pre>");
    dan_html_put(text, n, out);
    dan_str_puts(out, "</pre>\n");
}

int page_write(struct dan_str *out, const char *dir, struct dan_err *e)
{
    struct dan_str path = {0};
    dan_str_puts(out, "</html>\n");
    dan_str_printf(&path, "%s/report.html", dir);
    int rc = out->failed || path.failed ? dan_fail(e, DAN_ENOMEM, "not enough memory for the report") : dan_write_file(path.p, out->p, out->n, e);
    dan_str_release(&path);
    return rc;
}
