/* danlu quantize: what is printed, and what is kept beside the weights. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "cli/quantize.h"

/* ---- one tensor ---- */

/* KL with only this tensor's group quantised, in the form that it got; below 0: not measured. */
static double kl_alone(const struct quantize_work *w, const char *name, int *members)
{
    const struct dan_sensitivity *s = &w->sensitivity;
    for (size_t i = 0; i < s->n; i++)
        for (int k = 0; k < s->v[i].n; k++) {
            if (strcmp(s->v[i].name[k], name)) continue;
            int f = 0;
            while (w->chosen && f + 1 < s->n_forms && w->chosen[i] != &w->forms[f]) f++;
            *members = s->v[i].n;
            return s->v[i].kl[f];
        }
    return -1;
}

static double sqnr(double error) { return error > 0 ? -20 * log10(error) : INFINITY; }

static json_t *number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

static json_t *tensor_json(const struct quantize_work *w, const struct dan_applied *a, const char *shape)
{
    int members = 0;
    double kl = kl_alone(w, a->name, &members);
    const struct dan_round_report *r = &a->round;
    json_t *j = json_pack("{s:s,s:s,s:s,s:s,s:I,s:I,s:f,s:s?,s:s?}", "name", a->name, "shape", shape, "before", a->before, "after", a->after,
                          "bytes_before", (json_int_t)a->bytes_before, "bytes_after", (json_int_t)a->bytes_after, "error", a->why ? 0 : r->error,
                          "stayed_because", a->why, "note", a->note[0] ? a->note : NULL);
    if (a->why || !j) return j;
    json_object_set_new(j, "sqnr_db", number(sqnr(r->error)));
    json_object_set_new(j, "rounded_by", json_string(r->kept));
    if (kl >= 0) json_object_set_new(j, "kl_alone", number(kl));
    if (r->loss >= 0) json_object_set_new(j, "loss", number(r->loss));
    if (r->loss_nearest >= 0) json_object_set_new(j, "loss_nearest", number(r->loss_nearest));
    if (r->damp > 0) json_object_set_new(j, "damp", number(r->damp));
    if (r->dead > 0) json_object_set_new(j, "dead_columns", json_integer(r->dead));
    return j;
}

static void say_what_happened(const struct quantize_work *w, const struct dan_applied *a, struct dan_str *out)
{
    const struct dan_round_report *r = &a->round;
    if (a->why) dan_str_puts(out, a->why);
    else if (a->note[0]) dan_str_puts(out, a->note);
    else if (strcmp(r->kept, w->job.method->name)) dan_str_printf(out, "%s was better on this text", r->kept);
    if (r->retries) dan_str_printf(out, "%sdamped by %.2g", out->n ? "; " : "", r->damp);
    if (r->dead) dan_str_printf(out, "%s%lld columns are always 0", out->n ? "; " : "", (long long)r->dead);
}

void quantize_on_tensor(void *ctx, const struct dan_applied *a)
{
    struct quantize_work *w = ctx;
    char shape[64], before[DAN_NUM], after[DAN_NUM], error[DAN_NUM] = "-", db[DAN_NUM] = "-", kl[DAN_NUM] = "-";
    int members = 0;
    double alone = kl_alone(w, a->name, &members);
    struct dan_str why = {0};
    dan_shape_text(&a->shape, shape, sizeof shape);
    if (!a->why) {
        snprintf(error, sizeof error, "%.2g %%", 100 * a->round.error);
        snprintf(db, sizeof db, "%.1f", sqnr(a->round.error));
        if (alone >= 0) snprintf(kl, sizeof kl, "%.2e%s", alone, members > 1 ? "*" : "");
    }
    say_what_happened(w, a, &why);
    dan_table_row(&w->table, (const char *const[]){a->name, shape, a->before, a->after, dan_fmt_bytes((double)a->bytes_before, before),
                                                   dan_fmt_bytes((double)a->bytes_after, after), error, db, kl, dan_str_c(&why)});
    json_array_append_new(w->tensors, tensor_json(w, a, shape));
    dan_str_release(&why);
    w->before += a->bytes_before;
    w->after += a->bytes_after;
    w->n++;
    w->stayed += a->why != NULL;
    if (!a->why && a->round.error > w->worst) w->worst = a->round.error;
}

/* ---- everything ---- */

static json_t *paths_json(const struct dan_strings *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->n; i++) json_array_append_new(list, json_string(s->v[i]));
    return list;
}

static json_t *text_json(const struct dan_strings *paths, const struct dan_sequences *s, uint64_t hash)
{
    char hex[24];
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)hash);
    return json_pack("{s:o,s:I,s:I,s:s}", "files", paths_json(paths), "sequences", (json_int_t)s->n, "tokens", (json_int_t)(s->start[s->n] - s->start[0]),
                     "tokens_hash", hex);
}

json_t *quantize_record(const struct quantize_work *w)
{
    const struct quantize_opts *o = w->o;
    json_t *j = json_pack("{s:s,s:s,s:s,s:s}", "from", o->model, "format", w->chosen ? o->formats : w->form.name, "method", o->method, "activations",
                          w->job.calibrator ? w->job.calibrator->name : "dynamic");
    if (!j) return NULL;
    if (o->budget > 0) json_object_set_new(j, "budget", json_integer(o->budget));
    if (w->job.equaliser == DAN_EQUALISE_SMOOTH) json_object_set_new(j, "alpha", json_real(o->alpha));
    if (w->fit.n) {
        json_object_set_new(j, "calibration", text_json(&o->calibration, &w->fit, w->fit_hash));
        json_object_set(j, "doubts", w->doubts);
    }
    if (w->held.n) {
        json_object_set_new(j, "test", text_json(w->held_out ? &o->calibration : &o->test, &w->held, w->held_hash));
        json_object_set_new(j, "test_is_part_of_calibration", json_boolean(w->held_out));
        json_object_set_new(j, "overlap", json_real(w->overlap));
    }
    return j;
}

static json_t *interval(double loss, double error)
{
    return json_pack("{s:o,s:[o,o]}", "value", number(exp(loss)), "interval", number(exp(loss - 1.96 * error)), number(exp(loss + 1.96 * error)));
}

static json_t *quality_json(const struct dan_comparison *q)
{
    return json_pack("{s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:f,s:I,s:I}", "perplexity_before", interval(q->base, q->base_error), "perplexity_after",
                     interval(q->loss, q->loss_error), "ratio", interval(q->more, q->more_error), "kl", number(q->kl), "kl_error", number(q->kl_error),
                     "kl_p99", number(q->kl_p99), "kl_max", number(q->kl_max), "same_top", q->same_top, "tokens", (json_int_t)q->tokens, "windows",
                     (json_int_t)q->windows);
}

static json_t *result_json(struct quantize_work *w)
{
    json_t *j = quantize_record(w);
    json_object_set_new(j, "model", json_string(w->o->model));
    json_object_set_new(j, "out", json_string(w->o->out));
    json_object_set_new(j, "bytes_before", json_integer((json_int_t)w->before));
    json_object_set_new(j, "bytes_after", json_integer((json_int_t)w->after));
    json_object_set(j, "tensors", w->tensors);
    if (w->job.calibrator) json_object_set_new(j, "static_products", json_integer((json_int_t)w->n_static));
    if (w->held.n) json_object_set_new(j, "quality", quality_json(&w->quality));
    if (w->chosen) json_object_set_new(j, "kl_predicted", number(w->predicted));
    if (w->o->report)
        json_object_set_new(j, "speed", json_pack("{s:f,s:f,s:f,s:f,s:I,s:s}", "prefill_before", w->speed_before.prefill, "prefill_after", w->speed_after.prefill,
                                                  "decode_before", w->speed_before.decode, "decode_after", w->speed_after.decode, "prefill_rows",
                                                  (json_int_t)w->speed_after.rows, "note", "tokens a second, measured for about a second each"));
    return j;
}

static void print_quality(const struct quantize_work *w, struct dan_str *out)
{
    const struct dan_comparison *q = &w->quality;
    dan_str_printf(out, "perplexity  %.3f (%.3f to %.3f) -> %.3f (%.3f to %.3f); times %.4f (%.4f to %.4f), 95 %% intervals\n", exp(q->base),
                   exp(q->base - 1.96 * q->base_error), exp(q->base + 1.96 * q->base_error), exp(q->loss), exp(q->loss - 1.96 * q->loss_error),
                   exp(q->loss + 1.96 * q->loss_error), exp(q->more), exp(q->more - 1.96 * q->more_error), exp(q->more + 1.96 * q->more_error));
    dan_str_printf(out, "KL          mean %.3g, 99 %% below %.3g, largest %.3g; the likeliest token is the same for %.2f %%\n", q->kl, q->kl_p99, q->kl_max,
                   100 * q->same_top);
    if (w->chosen) dan_str_printf(out, "            predicted %.3g, as if the groups' added up\n", w->predicted);
    dan_str_printf(out, "            over %lld tokens in %lld windows of %s; overlap with the calibration text %.1f %%\n", (long long)q->tokens,
                   (long long)q->windows, w->held_out ? "an eighth of the calibration text that was held back" : "the test text", 100 * w->overlap);
}

static void print_speed(const struct quantize_work *w, struct dan_str *out)
{
    char a[DAN_NUM], b[DAN_NUM], c[DAN_NUM], d[DAN_NUM];
    dan_str_printf(out, "speed       prefill %s -> %s tokens/s (%lld rows), decoding %s -> %s tokens/s; measured for about a second each\n",
                   dan_fmt_count(w->speed_before.prefill, a), dan_fmt_count(w->speed_after.prefill, b), (long long)w->speed_after.rows,
                   dan_fmt_count(w->speed_before.decode, c), dan_fmt_count(w->speed_after.decode, d));
}

int quantize_print(struct quantize_work *w, struct dan_err *e)
{
    struct dan_ui *ui = &w->cli->ui;
    char a[DAN_NUM], b[DAN_NUM];
    if (w->cli->json) return dan_out_json(ui, result_json(w), e);
    struct dan_str out = {0};
    dan_table_print(&w->table, ui->out_tty ? dan_ui_width() : 0, ui->out_colour, &out);
    if (w->sensitivity.n) dan_str_printf(&out, "KL alone: everything else in float, rounded to nearest; * of the group that reads the same input\n");
    dan_str_printf(&out, "weights %s -> %s (%.1f %%); %lld of %lld tensors quantised, largest relative error %.2g %%\n", dan_fmt_bytes((double)w->before, a),
                   dan_fmt_bytes((double)w->after, b), 100 * (double)w->after / (double)w->before, (long long)(w->n - w->stayed), (long long)w->n,
                   100 * w->worst);
    if (w->form.kind == DAN_FORM_FAKE && !w->chosen)
        dan_str_printf(&out, "'%s' has no storage format: the copy holds the rounded values as f32, the bytes are those that it would take\n", w->form.name);
    if (w->job.calibrator) dan_str_printf(&out, "static activations for %zu products, by %s\n", w->n_static, w->job.calibrator->name);
    if (w->held.n) print_quality(w, &out);
    if (w->o->report) print_speed(w, &out);
    int rc = dan_out(ui, dan_str_c(&out), out.n, e);
    dan_str_release(&out);
    if (!rc) dan_say(ui, "wrote '%s'; try it: danlu generate %s --prompt TEXT", w->o->out, w->o->out);
    return rc;
}
