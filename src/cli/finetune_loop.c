/* The steps of `danlu finetune`. */
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/finetune.h"

static int log_step(struct finetune *f, const struct dan_sft_stats *s, double lr, struct dan_err *e)
{
    json_t *j = json_pack("{s:I,s:f,s:f,s:f,s:f,s:I}", "step", (json_int_t)s->step, "loss", s->loss, "learning_rate", lr, "grad_norm", s->grad_norm, "epoch",
                          s->epoch, "num_tokens", (json_int_t)f->tokens);
    if (j && s->replayed) json_object_set_new(j, "replay_loss", json_real(s->replay_loss));
    char *text = j ? json_dumps(j, JSON_REAL_PRECISION(9)) : NULL;
    struct dan_str line = {0};
    if (text) dan_str_printf(&line, "%s\n", text);
    int rc = text && !line.failed ? dan_append_file(finetune_path(f, "log.jsonl"), dan_str_c(&line), line.n, e)
                                  : dan_fail(e, DAN_ENOMEM, "not enough memory for the log");
    json_decref(j);
    dan_free(text);
    dan_str_release(&line);
    return rc;
}

int finetune_loop(struct finetune *f, struct dan_err *e)
{
    double lr = f->o.lr > 0 ? f->o.lr : f->o.lora_rank ? 2e-4 : 2e-5;
    struct dan_schedule_args at = {lr, f->o.min_lr >= 0 ? f->o.min_lr : lr / 10, f->o.warmup, f->steps, 0.2};
    const struct dan_schedule *schedule = dan_schedule_find(f->o.schedule);
    struct dan_bar bar;
    struct dan_sft_stats s;
    double start = dan_now();
    int rc = dan_mkdirs(f->o.out, e);
    dan_bar_start(&bar, &f->cli->ui, "finetune", "step", 0, f->steps);
    for (int64_t step = 0; step < f->steps && !rc && !f->cli->stop; step++) {
        double now = dan_schedule_at(schedule, &at, step);
        rc = dan_sft_step(&f->sft, now, &s, e);
        if (rc) break;
        f->tokens += s.ids;
        f->last_loss = s.loss;
        rc = log_step(f, &s, now, e);
        dan_bar_update(&bar, step + 1, "loss %.4f", s.loss);
    }
    dan_bar_finish(&bar);
    f->train_seconds = dan_now() - start;
    if (!rc && f->cli->stop) dan_warn(&f->cli->ui, "stopped after step %lld of %lld; what was learnt so far is saved", (long long)dan_tuner_steps(f->tuner), (long long)f->steps);
    return rc;
}
