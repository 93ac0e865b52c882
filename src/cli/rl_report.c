/* What runs that learn from their own answers log and report. */
#include <math.h>
#include <string.h>
#include "align/policy.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/report_lines.h"
#include "cli/rl_options.h"
#include "io/json.h"

enum { SHOWN = 3, SHOWN_BYTES = 70, REPORTED = 20 };

static void add(json_t *j, const char *name, double x) { json_object_set_new(j, name, isfinite(x) ? json_real(x) : json_null()); }

/* Mean and unbiased deviation of what is a number among x[n]. */
static int64_t spread(const double *x, size_t n, double *mean, double *std)
{
    double sum = 0, squares = 0;
    int64_t k = 0;
    for (size_t i = 0; i < n; i++)
        if (!isnan(x[i])) sum += x[i], k++;
    *mean = k ? sum / (double)k : NAN;
    for (size_t i = 0; i < n; i++)
        if (!isnan(x[i])) squares += (x[i] - *mean) * (x[i] - *mean);
    *std = k > 1 ? sqrt(squares / (double)(k - 1)) : 0;
    return k;
}

static void log_groups(json_t *j, const struct dan_rollouts *said, const double *total)
{
    size_t groups = said->samples ? said->n / (size_t)said->samples : 0, flat = 0, scored = 0;
    double mean, std, stds = 0;
    for (size_t g = 0; g < groups; g++) {
        if (!spread(total + g * (size_t)said->samples, (size_t)said->samples, &mean, &std)) continue;
        stds += std;
        flat += dan_group_flat(total + g * (size_t)said->samples, said->samples);
        scored++;
    }
    spread(total, said->n, &mean, &std);
    add(j, "reward", mean);
    add(j, "reward_std", scored ? stds / (double)scored : NAN);
    add(j, "frac_reward_zero_std", scored ? (double)flat / (double)scored : NAN);
}

static void log_lengths(json_t *j, const struct dan_rollouts *said)
{
    double sum = 0, least = INFINITY, most = 0, ended = 0, ended_sum = 0;
    for (size_t i = 0; i < said->n; i++) {
        double n = (double)dan_said_tokens(&said->v[i]);
        sum += n;
        least = fmin(least, n);
        most = fmax(most, n);
        ended += said->v[i].ended;
        ended_sum += said->v[i].ended ? n : 0;
    }
    add(j, "completions/mean_length", sum / (double)said->n);
    add(j, "completions/min_length", least);
    add(j, "completions/max_length", most);
    add(j, "completions/clipped_ratio", 1 - ended / (double)said->n);
    add(j, "completions/mean_terminated_length", ended > 0 ? ended_sum / ended : NAN);
    add(j, "rollout_tokens_per_second", said->seconds > 0 ? (double)said->tokens / said->seconds : NAN);
}

void rl_log_answers(const struct rl *r, json_t *j, const struct dan_rollouts *said, const double *total, const double *each)
{
    log_groups(j, said, total);
    for (size_t i = 0; i < r->rewards.n; i++) {
        struct dan_str name = {0};
        double mean, std;
        spread(each + i * said->n, said->n, &mean, &std);
        dan_str_printf(&name, "rewards/%s/mean", dan_rewards_name(&r->rewards, i));
        add(j, dan_str_c(&name), mean);
        dan_str_clear(&name);
        dan_str_printf(&name, "rewards/%s/std", dan_rewards_name(&r->rewards, i));
        add(j, dan_str_c(&name), std);
        dan_str_release(&name);
    }
    log_lengths(j, said);
}

static json_t *held_json(const struct rl_held *h)
{
    return json_pack("{s:f,s:f,s:f,s:f,s:I}", "reward", h->mean, "standard_error", h->error, "ended", h->ended, "mean_length", h->tokens, "answers", (json_int_t)h->n);
}

static json_t *sample_json(const struct rl *r, size_t i)
{
    const struct dan_said *a = &r->before.said.v[i], *b = &r->after.said.v[i];
    json_t *j = json_pack("{s:o,s:o,s:o,s:s,s:I}", "prompt", dan_json_string_of(a->prompt->last, strlen(a->prompt->last)), "before", dan_json_string_of(a->text, a->text_n), "after",
                          dan_json_string_of(b->text, b->text_n), "file", a->prompt->file, "line", (json_int_t)a->prompt->line);
    if (!j) return NULL;
    add(j, "reward_before", r->before.score[i]);
    add(j, "reward_after", r->after.score[i]);
    return j;
}

static int write_samples(const struct rl *r, struct dan_err *e)
{
    struct dan_str all = {0}, path = {0};
    int bad = 0;
    for (size_t i = 0; i < r->before.said.n && !bad; i++) {
        json_t *j = sample_json(r, i);
        bad = !j || dan_json_text(j, &all);
        dan_str_putc(&all, '\n');
        json_decref(j);
    }
    dan_path_join(&path, r->t->o.out, "samples.jsonl");
    int rc = bad || all.failed || path.failed ? dan_fail(e, DAN_ENOMEM, "not enough memory for samples") : dan_write_file(dan_str_c(&path), dan_str_c(&all), all.n, e);
    dan_str_release(&all);
    dan_str_release(&path);
    return rc;
}

/* One line, not cut inside a character. */
static void show(struct dan_str *out, const char *label, const char *p, size_t n, double reward)
{
    size_t k = n < SHOWN_BYTES ? n : SHOWN_BYTES;
    while (k > 0 && k < n && ((unsigned char)p[k] & 0xc0) == 0x80) k--;
    dan_str_puts(out, label);
    for (size_t i = 0; i < k; i++) dan_str_putc(out, (unsigned char)p[i] < ' ' ? ' ' : p[i]);
    if (k < n) dan_str_puts(out, " ...");
    if (isfinite(reward)) dan_str_printf(out, "  (%.3g)", reward);
    dan_str_putc(out, '\n');
}

static void show_samples(const struct rl *r, struct dan_str *out)
{
    for (size_t i = 0; i < r->before.said.n && i < SHOWN; i++) {
        const struct dan_said *a = &r->before.said.v[i], *b = &r->after.said.v[i];
        show(out, "prompt    ", a->prompt->last, strlen(a->prompt->last), NAN);
        show(out, "  before  ", a->text, a->text_n, r->before.score[i]);
        show(out, "  after   ", b->text, b->text_n, r->after.score[i]);
    }
}

int rl_report(struct rl *r, json_t *report, struct dan_str *text, struct dan_err *e)
{
    if (r->held.n) {
        json_object_set_new(report, "eval_reward", json_pack("{s:o,s:o}", "before", held_json(&r->before), "after", held_json(&r->after)));
        dan_str_printf(text, "held-out reward  %.4f -> %.4f (standard errors %.4f, %.4f; %lld prompts); ended %.1f %% -> %.1f %%, tokens %.1f -> %.1f\n", r->before.mean,
                       r->after.mean, r->before.error, r->after.error, (long long)r->after.n, 100 * r->before.ended, 100 * r->after.ended, r->before.tokens, r->after.tokens);
        show_samples(r, text);
        json_t *shown = json_array();
        for (size_t i = 0; shown && i < r->before.said.n && i < REPORTED; i++) json_array_append_new(shown, sample_json(r, i));
        json_object_set_new(report, "samples", shown);
    }
    report_change(report, text, "forgetting", "forgetting", 16, &r->text, r->text_before, r->text_after);
    return r->held.n ? write_samples(r, e) : DAN_OK;
}
