/* The loop of `danlu train`: steps, log, validation, checkpoints, and the end. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/train_run.h"
#include "io/json.h"
#include "io/svg.h"

int curve_add(struct curve *c, double x, double y)
{
    size_t cap = c->cap;
    if (dan_vec_grow(&c->x, &cap, c->n + 1, sizeof *c->x)) return DAN_ENOMEM;
    cap = c->cap;
    if (dan_vec_grow(&c->y, &cap, c->n + 1, sizeof *c->y)) return DAN_ENOMEM;
    c->cap = cap;
    c->x[c->n] = x;
    c->y[c->n++] = y;
    return DAN_OK;
}

/* ---- the log ------------------------------------------------------------------------------- */

static json_t *log_line(const struct dan_step_stats *s, double rate, double val, double in_float)
{
    json_t *j = json_pack("{s:I, s:f, s:f, s:f, s:f, s:f}", "step", (json_int_t)s->step, "loss", s->loss, "lr", s->lr, "grad_norm",
                          s->grad_norm, "tokens_per_second", rate, "epoch", s->epoch);
    if (j && !isnan(val)) json_object_set_new(j, "val_loss", json_real(val));
    if (j && !isnan(val) && !isnan(in_float)) json_object_set_new(j, "val_loss_float", json_real(in_float));
    return j;
}

static int log_step(struct train_run *r, const struct dan_step_stats *s, double rate, double val, struct dan_err *e)
{
    json_t *j = log_line(s, rate, val, r->last_float);
    char *text = j ? json_dumps(j, JSON_REAL_PRECISION(9)) : NULL;
    struct dan_str line = {0};
    if (text) dan_str_printf(&line, "%s\n", text);
    int rc = text ? dan_append_file(train_path(r, "log.jsonl"), dan_str_c(&line), line.n, e)
                  : dan_fail(e, DAN_ENOMEM, "not enough memory for the log");
    if (!rc && r->cli->json) rc = dan_out_json(&r->cli->ui, json_incref(j), e);
    json_decref(j);
    dan_free(text);
    dan_str_release(&line);
    curve_add(&r->loss, (double)s->step, s->loss);
    if (!isnan(val)) curve_add(&r->val_loss, (double)s->step, val);
    return rc;
}

static void remember(struct train_run *r, const char *line, size_t n, int64_t upto, struct dan_str *kept)
{
    json_t *j = json_loadb(line, n, 0, NULL), *step = json_object_get(j, "step"), *loss = json_object_get(j, "loss"),
           *val = json_object_get(j, "val_loss");
    if (json_is_integer(step) && json_integer_value(step) <= upto) {
        dan_str_append(kept, line, n);
        dan_str_putc(kept, '\n');
        if (json_is_number(loss)) curve_add(&r->loss, (double)json_integer_value(step), json_number_value(loss));
        if (json_is_number(val)) curve_add(&r->val_loss, (double)json_integer_value(step), json_number_value(val));
    }
    json_decref(j);
}

/* After a kill the log may be ahead of the checkpoint, or end in half a line. */
static int cut_log(struct train_run *r, int64_t upto, struct dan_err *e)
{
    char *text = NULL;
    size_t n = 0;
    struct dan_str kept = {0};
    const char *path = train_path(r, "log.jsonl");
    if (!dan_path_exists(path)) return DAN_OK;
    int rc = dan_read_file(path, &text, &n, e);
    for (size_t at = 0; !rc && at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        if (!end) break;
        remember(r, text + at, (size_t)(end - text) - at, upto, &kept);
        at = (size_t)(end - text) + 1;
    }
    if (!rc) rc = dan_write_file(path, dan_str_c(&kept), kept.n, e);
    dan_free(text);
    dan_str_release(&kept);
    return rc;
}

static void draw(struct train_run *r)
{
    struct dan_err e = {0};
    struct dan_svg_series s[] = {{"training", r->loss.x, r->loss.y, r->loss.n},
                                 {"validation", r->val_loss.x, r->val_loss.y, r->val_loss.n}};
    char title[200];
    snprintf(title, sizeof title, "%s, %lld layers, hidden %lld", r->lm.model->name, (long long)r->lm.cfg.layers,
             (long long)r->lm.cfg.hidden);
    if (dan_svg_write(train_path(r, "loss.svg"), title, "step", "loss (nats per token)", s, r->val_loss.n ? 2 : 1, &e))
        dan_warn(&r->cli->ui, "%s", e.msg);
}

/* ---- checkpoints --------------------------------------------------------------------------- */

static int save_checkpoint(struct train_run *r, struct dan_err *e)
{
    int64_t step = dan_trainer_done(r->trainer);
    if (r->last_saved == step) return DAN_OK;
    char extra[160];
    if (isnan(r->best)) snprintf(extra, sizeof extra, "{\"bad_evals\": %lld}", (long long)r->bad_evals);
    else
        snprintf(extra, sizeof extra, "{\"best\": %.17g, \"bad_evals\": %lld, \"best_saved\": %s}", r->best, (long long)r->bad_evals,
                 r->best_saved ? "true" : "false");
    struct dan_err why = {0};
    int rc = dan_trainer_save(r->trainer, r->o.out, extra, (int)r->o.keep, &why);
    if (!rc) {
        r->last_saved = step;
        return DAN_OK;
    }
    if (r->last_saved >= 0)
        return dan_fail(e, why.code,
                        "%s; training stops at step %lld, and the checkpoint of step %lld is intact: make room and go on with --resume",
                        why.msg, (long long)step, (long long)r->last_saved);
    return dan_fail(e, why.code, "%s; training stops at step %lld with no checkpoint written", why.msg, (long long)step);
}

static int save_model(struct train_run *r, struct dan_err *e)
{
    dan_trainer_swap_ema(r->trainer);
    int rc = dan_lm_save(&r->lm, r->o.out, e);
    if (!rc && dan_trainer_rounds(r->trainer)) rc = qat_save(r->cli, &r->lm, &r->t.qat, r->o.out, dan_trainer_done(r->trainer) >= r->o.steps, e);
    dan_trainer_swap_ema(r->trainer);
    return rc;
}

static int save_last(struct train_run *r, struct dan_err *e)
{
    r->best_saved = false;                     /* the folder holds the newest weights, which may not be the best */
    return save_model(r, e);
}

/* ---- validation and early stopping --------------------------------------------------------- */

static int validate(struct train_run *r, int64_t batches, double *val, bool *stop, struct dan_err *e)
{
    int rc = dan_trainer_eval(r->trainer, batches, val, NULL, e);
    bool begins = dan_trainer_rounds(r->trainer) && isnan(r->last_float) && r->first_step <= r->t.qat.start;
    if (!rc && dan_trainer_rounds(r->trainer)) rc = dan_trainer_eval_float(r->trainer, batches, &r->last_float, NULL, e);
    if (rc) return rc;
    if (begins) r->best = NAN;                 /* what was best in float is not comparable */
    r->last_val = *val;
    bool better = isnan(r->best) || *val < r->best;
    if (better) r->best = *val;
    if (better) r->best_saved = r->o.patience > 0;
    r->bad_evals = better ? 0 : r->bad_evals + 1;
    if (r->o.patience <= 0) return DAN_OK;
    *stop = r->bad_evals >= r->o.patience;
    return better ? save_model(r, e) : DAN_OK;
}

/* ---- the loop ------------------------------------------------------------------------------ */

static void start_record(struct train_run *r)
{
    struct dan_err e = {0};
    struct dan_str recipe = {0};
    char cpu[160];
    dan_cpu_describe(cpu, sizeof cpu);
    dan_recipe_text(r->cli, &r->o, &recipe, NULL);
    r->record = (struct dan_run){.command = "train",
                                 .dir = r->o.out,
                                 .model = r->lm.model->name,
                                 .recipe = dan_arena_strdup(r->cli->arena, dan_str_c(&recipe)),
                                 .version = DANLU_VERSION,
                                 .cpu = dan_arena_strdup(r->cli->arena, cpu),
                                 .params = dan_lm_n_params(&r->lm),
                                 .seed = (int64_t)r->t.seed,
                                 .final_loss = NAN,
                                 .val_loss = NAN};
    if (dan_runs_open(r->cli->home, &r->runs, &e) || dan_runs_start(r->runs, &r->record, &r->run_id, &e))
        dan_warn(&r->cli->ui, "this run is not in the runs database: %s", e.msg);
    dan_str_release(&recipe);
}

static int save_recipe(struct train_run *r, struct dan_err *e)
{
    struct dan_str text = {0};
    struct train_opts o = r->o;
    o.resume = o.graph = o.trace = false;      /* what one call asked for, not what the run is */
    o.dump_after = NULL;
    int rc = dan_recipe_text(r->cli, &o, &text, e);
    if (!rc) rc = dan_write_file(train_path(r, "recipe.json"), dan_str_c(&text), text.n, e);
    dan_str_release(&text);
    return rc;
}

static double rate_of(int64_t tokens, double seconds) { return seconds > 0 ? (double)tokens / seconds : 0; }

static int after_step(struct train_run *r, struct dan_bar *bar, const struct dan_step_stats *s, double rate, bool *stop, struct dan_err *e)
{
    bool last = s->step >= r->o.steps, due = r->o.eval_every > 0 && s->step % r->o.eval_every == 0;
    double val = NAN;
    int rc = DAN_OK;
    if (r->val && (due || last)) rc = validate(r, last && r->o.patience <= 0 ? 0 : r->o.eval_batches, &val, stop, e);
    if (!rc) rc = log_step(r, s, rate, val, e);
    char v[40] = "", f[DAN_NUM];
    if (!isnan(r->last_val)) snprintf(v, sizeof v, "  val %.3f", r->last_val);
    dan_bar_update(bar, s->step, "loss %.3f%s  lr %.1e  %s tok/s", s->loss, v, s->lr, dan_fmt_count(rate, f));
    r->record.steps = s->step;
    r->record.tokens += s->tokens;
    r->record.final_loss = s->loss;
    r->record.val_loss = r->last_val;
    if (!rc && r->o.save_every > 0 && s->step % r->o.save_every == 0 && !last) rc = save_checkpoint(r, e);
    if (!rc && !isnan(val) && r->runs) dan_runs_update(r->runs, r->run_id, &r->record, NULL);
    if (!rc && !isnan(val)) draw(r);
    return rc;
}

static int steps(struct train_run *r, struct dan_bar *bar, struct dan_err *e)
{
    bool stop = r->o.patience > 0 && r->bad_evals >= r->o.patience;        /* resumed after an early stop */
    int rc = DAN_OK;
    while (!rc && !stop && dan_trainer_done(r->trainer) < r->o.steps) {
        if (r->cli->stop) {
            rc = save_checkpoint(r, e);
            return rc ? rc
                      : dan_fail(e, DAN_ECANCELLED,
                                 "interrupted at step %lld; a checkpoint is written: go on with danlu train --resume --out %s",
                                 (long long)dan_trainer_done(r->trainer), r->o.out);
        }
        struct dan_step_stats s;
        double t0 = dan_now();                 /* validation and checkpoints are not training time */
        rc = dan_trainer_step(r->trainer, &s, e);
        if (!rc) rc = after_step(r, bar, &s, rate_of(s.tokens, dan_now() - t0), &stop, e);
    }
    if (!rc && stop)
        dan_say(&r->cli->ui,
                "early stop after %lld validations without improvement; the best weights are saved (a higher --patience goes on)",
                (long long)r->bad_evals);
    return rc;
}

static void farewell(struct train_run *r)
{
    char a[DAN_NUM], b[DAN_NUM];
    struct dan_ui *ui = &r->cli->ui;
    /* tokens to predict in the whole split, also when --eval-batches looked at a part: all but each document's first */
    double targets = r->val ? (double)(dan_shards_tokens(r->val) - dan_shards_docs(r->val)) : 0;
    if (!isnan(r->last_val) && targets > 0)
        dan_say(ui, "result   validation loss %.4f, perplexity %.2f, %.3f bits per byte", r->last_val, exp(r->last_val),
                r->last_val * targets / log(2) / (double)dan_shards_bytes(r->val));
    if (!isnan(r->last_float))
        dan_say(ui, "float    validation loss %.4f with the same weights unrounded, perplexity %.2f", r->last_float, exp(r->last_float));
    if (r->o.patience > 0 && r->best_saved)
        dan_say(ui, "best     validation loss %.4f: the model has the weights of that validation", r->best);
    dan_say(ui, "memory   peak %s resident, %s expected", dan_fmt_bytes((double)dan_peak_rss(), a), dan_fmt_bytes((double)r->expected_peak, b));
    dan_say(ui, "saved    %s (loss.svg, log.jsonl)", r->o.out);
}

int train_loop(struct train_run *r, struct dan_err *e)
{
    r->first_step = dan_trainer_done(r->trainer);
    r->last_saved = r->o.resume && r->first_step > 0 ? r->first_step : -1;
    if (r->first_step > r->o.steps)
        return dan_fail(e, DAN_EUSAGE, "--steps %lld is fewer than the %lld steps this run has done; give a larger --steps to go on",
                        (long long)r->o.steps, (long long)r->first_step);
    if (r->first_step == r->o.steps)
        dan_say(&r->cli->ui, "note     the run has all its %lld steps; a larger --steps goes on", (long long)r->o.steps);
    int rc = save_recipe(r, e);
    if (!rc) rc = cut_log(r, r->first_step, e);
    if (rc) return rc;
    start_record(r);
    struct dan_bar bar;
    dan_bar_start(&bar, &r->cli->ui, "train", "step", r->first_step, r->o.steps);
    rc = steps(r, &bar, e);
    dan_bar_finish(&bar);
    if (r->loss.n) draw(r);
    if (!rc && !(r->o.patience > 0 && r->best_saved)) rc = save_last(r, e);
    if (!rc && r->o.save_every > 0) rc = save_checkpoint(r, e);
    dan_runs_update(r->runs, r->run_id, &r->record, NULL);
    dan_runs_finish(r->runs, r->run_id, rc == DAN_OK ? "finished" : rc == DAN_ECANCELLED ? "interrupted" : "failed", NULL);
    if (!rc) farewell(r);
    return rc;
}
