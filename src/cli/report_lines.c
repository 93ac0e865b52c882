#include "cli/report_lines.h"
#include <math.h>

void report_skipped(struct dan_ui *ui, int64_t rows, const int64_t *skipped, const char *const *names, int n, const struct dan_str *told)
{
    int64_t all = 0;
    struct dan_str line = {0};
    for (int k = 0; k < n; k++) {
        all += skipped[k];
        if (skipped[k]) dan_str_printf(&line, "%s%lld %s", line.n ? ", " : "", (long long)skipped[k], names[k]);
    }
    if (all)
        dan_warn(ui, "%lld of %lld rows were skipped: %s\n%.*s", (long long)all, (long long)rows, dan_str_c(&line), (int)(told->n ? told->n - 1 : 0), dan_str_c(told));
    dan_str_release(&line);
}

void report_skipped_rows(struct dan_ui *ui, const struct dan_sft_data *d, const char *other)
{
    const char *names[DAN_N_SKIPS];
    for (int k = 0; k < DAN_N_SKIPS; k++) names[k] = other && k == DAN_SKIP_OTHER_KIND ? other : dan_skip_name((enum dan_skip)k);
    report_skipped(ui, d->rows, d->skipped, names, DAN_N_SKIPS, &d->told);
}

void report_change(json_t *j, struct dan_str *text, const char *key, const char *what, int width, const struct dan_sft_data *d, const double *before, const double *after)
{
    if (!d->n) return;
    struct dan_change c = dan_paired_change(d, before, after);
    json_object_set_new(j, key, json_pack("{s:f,s:f,s:f,s:f,s:I}", "before", c.before, "after", c.after, "change", c.change, "standard_error", isfinite(c.error) ? c.error : 0,
                                          "sequences", (json_int_t)c.n));
    dan_str_printf(text, "%-*s %.4f -> %.4f nats per token (%+.4f, 95 %% interval %+.4f to %+.4f, %lld sequences)\n", width, what, c.before, c.after, c.change,
                   c.change - 1.96 * c.error, c.change + 1.96 * c.error, (long long)c.n);
}
