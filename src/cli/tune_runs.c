/* A fine-tuning run in the runs database (io/runs.h).  A database that does not work ends no run. */
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/sys.h"
#include "cli/tune.h"
#include "io/json.h"

void tune_runs_start(struct tune *t)
{
    struct dan_err e = {0};
    struct dan_str recipe = {0};
    struct dan_cli *cli = t->cli;
    char cpu[160];
    dan_cpu_describe(cpu, sizeof cpu);
    if (t->all) dan_recipe_text(cli, t->all, &recipe, NULL);
    t->record = (struct dan_run){.command = cli->path, .dir = t->o.out, .model = t->m.lm.model->name, .recipe = dan_arena_strdup(cli->arena, dan_str_c(&recipe)),
                                 .version = DANLU_VERSION, .cpu = dan_arena_strdup(cli->arena, cpu), .params = t->tuner ? dan_tuner_params(t->tuner) : 0,
                                 .steps = t->first_step, .seed = cli->seed, .final_loss = NAN, .val_loss = NAN};
    if (dan_runs_open(cli->home, &t->runs, &e) || dan_runs_start(t->runs, &t->record, &t->run_id, &e))
        dan_warn(&cli->ui, "this run is not in the runs database: %s", e.msg);
    dan_str_release(&recipe);
}

static double number(const json_t *line, const char *const *keys, double otherwise)
{
    for (; *keys; keys++) {
        const json_t *v = dan_json_at(line, *keys);
        if (json_is_number(v)) return json_number_value(v);
    }
    return otherwise;
}

void tune_runs_line(struct tune *t, const json_t *line)
{
    static const char *const step[] = {"step", NULL}, *const loss[] = {"loss", "loss/policy_avg", NULL}, *const tokens[] = {"num_tokens", NULL}, *const val[] = {"eval_loss.after", "eval.loss", NULL};   /* of the report */
    struct dan_run *r = &t->record;
    r->steps = (int64_t)number(line, step, (double)r->steps);
    r->tokens = (int64_t)number(line, tokens, (double)r->tokens);
    r->final_loss = number(line, loss, r->final_loss);
    r->val_loss = number(line, val, r->val_loss);
}

void tune_runs_end(struct tune *t, const char *status)
{
    if (!t->runs) return;
    dan_runs_update(t->runs, t->run_id, &t->record, NULL);
    dan_runs_finish(t->runs, t->run_id, status, NULL);
    dan_runs_close(t->runs);
    t->runs = NULL;
}
