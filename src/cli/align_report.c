/* One report of all stages: what each changed. */
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "cli/align_stages.h"
#include "cli/page.h"
#include "io/json.h"

enum { N_COLUMNS = 6, CELL = 64 };

static double number(const json_t *j, const char *dotted)
{
    const json_t *v = dan_json_at(j, dotted);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

/* "before -> after", or what there is of it. */
static void change(char out[CELL], double before, double after, const char *format)
{
    char a[24] = "", b[24] = "";
    if (isfinite(before)) snprintf(a, sizeof a, format, before);
    if (isfinite(after)) snprintf(b, sizeof b, format, after);
    snprintf(out, CELL, "%s%s%s", a, *a && *b ? " -> " : "", b);
}

/* What the columns are made of: the first pair that a stage's report has. */
struct source { const char *before, *after, *format; };
static const struct source held_loss[] = {{"eval_loss.before", "eval_loss.after", "%.4f"}, {"eval_before.loss", "eval.loss", "%.4f"}, {NULL, NULL, NULL}};
static const struct source accuracy[] = {{"eval_before.rewards/accuracies", "eval.rewards/accuracies", "%.3f"}, {"eval_before.accuracy", "eval.accuracy", "%.3f"}, {"eval.accuracy", "", "%.3f"}, {NULL, NULL, NULL}};
static const struct source reward[] = {{"eval_reward.before.reward", "eval_reward.after.reward", "%.3f"}, {"reward", "", "%.3f"}, {NULL, NULL, NULL}};
static const struct source forgot[] = {{"forgetting.before", "forgetting.after", "%.4f"}, {NULL, NULL, NULL}};

static void cell(char out[CELL], const json_t *report, const struct source *s)
{
    for (*out = 0; s->before && !*out; s++) change(out, number(report, s->before), *s->after ? number(report, s->after) : NAN, s->format);
}

void align_table(const json_t *stages, int width, bool colour, struct dan_str *out)
{
    static const char *const headers[N_COLUMNS] = {"stage", "held-out loss", "pairs in order", "held-out reward", "general loss", "time"};
    struct dan_table t;
    size_t i;
    const json_t *s;
    dan_table_init(&t, "Lrrrrr", headers);
    json_array_foreach((json_t *)stages, i, s) {
        const json_t *report = json_object_get(s, "report");
        char c[4][CELL], took[DAN_NUM];
        double seconds = number(s, "seconds");
        cell(c[0], report, held_loss);
        cell(c[1], report, accuracy);
        cell(c[2], report, reward);
        cell(c[3], report, forgot);
        dan_table_row(&t, (const char *const[]){json_string_value(json_object_get(s, "stage")), c[0], c[1], c[2], c[3], seconds > 0 ? dan_fmt_time(seconds, took) : "before"});
    }
    dan_table_print(&t, width, colour, out);
    dan_table_release(&t);
}

int align_page(const char *title, const char *dir, const struct dan_str *text, const json_t *stages, const json_t *samples, struct dan_err *e)
{
    struct dan_str out = {0};
    size_t i;
    const json_t *s;
    int rc = DAN_OK;
    page_begin(&out, title);
    page_text(&out, dan_str_c(text), text->n);
    if (samples) page_heading(&out, "Answers to held-out prompts, before and after the last stage");
    page_samples(&out, samples);
    json_array_foreach((json_t *)stages, i, s) {
        const char *folder = json_string_value(json_object_get(s, "folder"));
        page_heading(&out, json_string_value(json_object_get(s, "stage")));
        if (!rc) rc = page_curves(&out, folder, e);
    }
    if (!rc) rc = page_write(&out, dir, e);
    dan_str_release(&out);
    return rc;
}
