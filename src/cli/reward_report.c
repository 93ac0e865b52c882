/* What a reward model's evaluation says, as text and as JSON. */
#include <stdio.h>
#include "cli/report_lines.h"
#include "cli/reward_cmd.h"

static json_t *level_json(const struct dan_rm_level *l)
{
    return json_pack("{s:f,s:f,s:I,s:f,s:[f,f]}", "from", l->from, "to", l->to, "pairs", (json_int_t)l->pairs, "accuracy", l->accuracy, "interval", l->low, l->high);
}

static json_t *levels_json(const struct dan_rm_level *l, int n)
{
    json_t *a = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(a, level_json(&l[i]));
    return a;
}

static json_t *calibration_json(const struct dan_rm_report *r)
{
    json_t *a = json_array();
    for (int b = 0; b < DAN_RM_BINS; b++)
        if (r->calibration[b].pairs)
            json_array_append_new(a, json_pack("{s:f,s:f,s:f,s:f,s:I}", "from", 0.5 + 0.5 * b / DAN_RM_BINS, "to", 0.5 + 0.5 * (b + 1) / DAN_RM_BINS, "predicted",
                                               r->calibration[b].predicted, "observed", r->calibration[b].observed, "pairs", (json_int_t)r->calibration[b].pairs));
    return a;
}

json_t *reward_report_json(const struct dan_rm_report *r)
{
    json_t *j = json_pack("{s:f,s:f,s:[f,f],s:s,s:f,s:f,s:f,s:f,s:f,s:f,s:f,s:I,s:I,s:I}", "loss", r->loss, "accuracy", r->accuracy, "accuracy_interval", r->low, r->high, "interval",
                          r->clustered ? "bootstrap over prompts" : "wilson", "margin", r->margin, "mean_reward", r->mean, "std_reward", r->spread, "min_reward", r->min,
                          "max_reward", r->max, "rewards/chosen", r->preferred, "rewards/rejected", r->other, "pairs", (json_int_t)r->pairs, "prompts", (json_int_t)r->groups,
                          "answers", (json_int_t)r->answers);
    if (!j) return NULL;
    json_object_set_new(j, "length", json_pack("{s:f,s:f,s:f,s:f}", "correlation", r->length, "mean_tokens", r->tokens, "longer_preferred_by_data", r->longer_data,
                                               "longer_preferred_by_model", r->longer_model));
    json_object_set_new(j, "ece", json_real(r->ece));
    json_object_set_new(j, "calibration", calibration_json(r));
    if (r->n_levels) json_object_set_new(j, r->by == DAN_BY_MARGIN ? "by_margin" : "by_ranks_apart", levels_json(r->level, r->n_levels));
    json_object_set_new(j, "by_difference", levels_json(r->sure, r->n_sure));
    return j;
}

static void add_level(struct dan_table *t, const char *what, const struct dan_rm_level *l)
{
    char span[60], pairs[24], accuracy[24], interval[40];
    if (l->from == l->to) snprintf(span, sizeof span, "%.4g", l->from);
    else snprintf(span, sizeof span, "%.3g to %.3g", l->from, l->to);
    snprintf(pairs, sizeof pairs, "%lld", (long long)l->pairs);
    snprintf(accuracy, sizeof accuracy, "%.3f", l->accuracy);
    snprintf(interval, sizeof interval, "%.3f to %.3f", l->low, l->high);
    dan_table_row(t, (const char *const[]){what, span, pairs, accuracy, interval});
}

static void put_levels(const struct dan_rm_report *r, bool colour, struct dan_str *out)
{
    struct dan_table t;
    dan_table_init(&t, "llrrr", (const char *const[]){"by", "of", "pairs", "accuracy", "95 % interval"});
    for (int i = 0; i < r->n_levels; i++) add_level(&t, r->by == DAN_BY_MARGIN ? "margin of the row" : "ranks apart", &r->level[i]);
    for (int i = 0; i < r->n_sure; i++) add_level(&t, "difference of rewards", &r->sure[i]);
    dan_table_print(&t, 0, colour, out);
    dan_table_release(&t);
}

static void put_calibration(const struct dan_rm_report *r, bool colour, struct dan_str *out)
{
    struct dan_table t;
    dan_table_init(&t, "lrrr", (const char *const[]){"sure of its choice", "pairs", "predicted", "observed"});
    for (int b = 0; b < DAN_RM_BINS; b++) {
        const struct dan_rm_bin *c = &r->calibration[b];
        char span[40], pairs[24], predicted[24], observed[24];
        if (!c->pairs) continue;
        snprintf(span, sizeof span, "%.2f to %.2f", 0.5 + 0.5 * b / DAN_RM_BINS, 0.5 + 0.5 * (b + 1) / DAN_RM_BINS);
        snprintf(pairs, sizeof pairs, "%lld", (long long)c->pairs);
        snprintf(predicted, sizeof predicted, "%.3f", c->predicted);
        snprintf(observed, sizeof observed, "%.3f", c->observed);
        dan_table_row(&t, (const char *const[]){span, pairs, predicted, observed});
    }
    dan_table_print(&t, 0, colour, out);
    dan_table_release(&t);
}

void reward_report_text(const struct dan_rm_report *r, const char *what, bool colour, struct dan_str *out)
{
    dan_str_printf(out, "%-11s accuracy %.3f (95 %% interval %.3f to %.3f, %s), loss %.4f, %lld pairs of %lld prompts\n", what, r->accuracy, r->low, r->high,
                   r->clustered ? "bootstrap over prompts" : "Wilson", r->loss, (long long)r->pairs, (long long)r->groups);
    dan_str_printf(out, "rewards     better %+.3f, worse %+.3f, difference %+.3f; all: mean %+.3f, spread %.3f, %+.3f to %+.3f\n", r->preferred, r->other, r->margin, r->mean,
                   r->spread, r->min, r->max);
    dan_str_printf(out, "length      correlation with reward %+.3f; the longer answer is preferred by the data in %.0f %%, by the model in %.0f %%\n", r->length,
                   100 * r->longer_data, 100 * r->longer_model);
    dan_str_printf(out, "calibration expected error %.3f\n\n", r->ece);
    put_levels(r, colour, out);
    dan_str_puts(out, "\n");
    put_calibration(r, colour, out);
}

void reward_report_warn(const struct dan_rm_report *r, struct dan_ui *ui)
{
    if (r->low <= 0.5) dan_warn(ui, "the interval of the accuracy holds 0.5: on these pairs the model is no better than guessing");
    if (r->length > 0.7 || r->length < -0.7)
        dan_warn(ui, "rewards go with length (correlation %+.2f): a policy that maximises them will write %s answers", r->length, r->length > 0 ? "longer" : "shorter");
}

void reward_tell_skipped(struct dan_ui *ui, const struct dan_sft_data *d) { report_skipped_rows(ui, d, "without answers to compare"); }
