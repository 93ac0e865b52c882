/* What danlu align runs: for each stage the arguments of a command, and that command. */
#include "cli/align_stages.h"
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"
#include "io/json.h"

const char *align_method(const struct align_opts *o)
{
    if (strcmp(o->method, "auto")) return o->method;
    return o->reward.n || o->prompts.n || o->ptx.n || !o->pairs.n ? "ppo" : "dpo";
}

/* ---- arguments ---- */

enum { MAX_ARGS = 512 };
struct args { struct dan_arena *arena; const char *v[MAX_ARGS]; int n; bool failed; };

static void add(struct args *a, const char *arg)
{
    a->failed = a->failed || !arg || a->n >= MAX_ARGS - 1;
    if (!a->failed) a->v[a->n++] = arg;
}

static void option(struct args *a, const char *name, const char *value)
{
    if (value) add(a, dan_arena_printf(a->arena, "--%s=%s", name, value));
}

/* One option with several values; files may not begin with a dash. */
static void options(struct args *a, const char *name, const struct dan_strings *v)
{
    for (size_t i = 0; i < v->n; i++) option(a, name, v->v[i]);
}

static const char *const stage_names[] = {"sft", "reward", "ppo", "grpo", "best", "tune", "dpo", NULL};

/* STAGE.OPTION=VALUE of this stage. */
static void settings(struct args *a, const struct align_opts *o, const char *stage)
{
    size_t n = strlen(stage);
    for (size_t i = 0; i < o->set.n; i++)
        if (!strncmp(o->set.v[i], stage, n) && o->set.v[i][n] == '.') add(a, dan_arena_printf(a->arena, "--%s", o->set.v[i] + n + 1));
}

int align_check_set(const struct align *a, struct dan_err *e)
{
    for (size_t i = 0; i < a->o->set.n; i++) {
        const char *s = a->o->set.v[i], *dot = strchr(s, '.'), *eq = strchr(s, '=');
        bool known = false;
        for (int k = 0; stage_names[k] && dot; k++) known = known || (strlen(stage_names[k]) == (size_t)(dot - s) && !strncmp(stage_names[k], s, (size_t)(dot - s)));
        if (!known || (eq && eq < dot) || !dot[1])
            return dan_fail(e, DAN_EUSAGE, "--set '%s' is no STAGE.OPTION=VALUE; stages are sft, reward, ppo, grpo, best (and tune, which learns from its answers), dpo", s);
    }
    return DAN_OK;
}

static void common(struct args *a, const struct align *g, const char *dir, bool merge)
{
    const struct align_opts *o = g->o;
    option(a, "template", o->template);
    if (o->lora_rank) add(a, dan_arena_printf(a->arena, "--lora-rank=%lld", (long long)o->lora_rank));
    if (o->lora_rank && merge) add(a, "--merge");
    option(a, "out", dir);
}

static void machine(struct args *a, const struct dan_cli *cli)
{
    if (cli->quiet) add(a, "--quiet");
    add(a, dan_arena_printf(a->arena, "--seed=%lld", (long long)cli->seed));
    if (cli->threads) add(a, dan_arena_printf(a->arena, "--threads=%lld", (long long)cli->threads));
    option(a, "isa", cli->isa);
}

/* ---- one stage ---- */

struct stage { const char *name, *command, *dir, *report; struct args args; };   /* report: file name in dir */

static char *beside(const struct align *g, const char *dir, const char *name) { return dan_arena_printf(g->cli->arena, "%s/%s", dir, name); }

/* DIR/arguments.json: what the stage was told.  A folder that was made by other arguments is not gone on with. */
static int same_arguments(const struct stage *s, const char *path, bool *same, struct dan_err *e)
{
    json_t *was = NULL, *now = json_array();
    for (int i = 0; i < s->args.n; i++) json_array_append_new(now, json_string(s->args.v[i]));
    json_t *all = json_pack("{s:s,s:o}", "command", s->command, "arguments", now);
    int rc = all ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for a stage");
    *same = false;
    if (!rc && dan_path_exists(path)) {
        rc = dan_json_read(path, &was, e);
        *same = !rc && json_equal(was, all);
        if (!rc && !*same)
            rc = dan_fail(e, DAN_EUSAGE, "stage %s in '%s' was made with other options; give another --out, or remove that folder and those of the stages behind it", s->name, s->dir);
    } else if (!rc) {
        rc = dan_mkdirs(s->dir, e);
        if (!rc) rc = dan_json_write(path, all, e);
    }
    json_decref(was);
    json_decref(all);
    return rc;
}

/* The command, as from the shell; options that all commands have are as they were afterwards. */
static int call(struct align *g, const struct dan_cmd *cmd, struct args *args, struct dan_err *e)
{
    struct dan_cli *cli = g->cli, before = *cli;
    const char *path = cli->path;
    void *opts = dan_arena_alloc(cli->arena, cmd->opts_bytes);
    char **argv = dan_arena_alloc(cli->arena, sizeof *argv * MAX_ARGS);
    if (!opts || !argv) return dan_fail(e, DAN_ENOMEM, "not enough memory for a stage");
    for (int i = 0; i < args->n; i++)
        if (!(argv[i] = dan_arena_strdup(cli->arena, args->v[i]))) return dan_fail(e, DAN_ENOMEM, "not enough memory for a stage");
    cli->path = NULL;
    int rc = dan_options_parse(cli, cmd, args->n, argv, opts, e);
    cli->path = cmd->name;
    cli->ui.quiet = before.quiet;
    if (!rc) rc = cmd->run(opts, cli, e);
    sig_atomic_t stop = cli->stop;
    struct dan_ui ui = cli->ui;
    *cli = before;
    cli->stop = stop;
    cli->ui = ui;
    cli->path = path;
    if (!rc && stop) return dan_fail(e, DAN_ECANCELLED, "stopped; the same command goes on");
    return rc;
}

static int keep_report(struct align *g, const struct stage *s, double seconds, struct dan_err *e)
{
    json_t *report = NULL;
    int rc = dan_json_read(beside(g, s->dir, s->report), &report, e);
    json_t *j = json_pack("{s:s,s:s,s:s,s:f,s:o}", "stage", s->name, "command", s->command, "folder", s->dir, "seconds", seconds, "report", report ? report : json_null());
    return json_array_append_new(g->stages, j) && !rc ? dan_fail(e, DAN_ENOMEM, "not enough memory for the report") : rc;
}

static int run_stage(struct align *g, struct stage *s, struct dan_err *e)
{
    const struct dan_cmd *cmd = dan_cmd_find(g->cli->cmds, s->command);
    const char *told = beside(g, s->dir, "arguments.json"), *report = beside(g, s->dir, s->report), *recipe = beside(g, s->dir, "recipe.json");
    bool same;
    if (!cmd || s->args.failed || !told || !report || !recipe) return dan_fail(e, DAN_ENOMEM, "not enough memory for stage %s", s->name);
    int rc = same_arguments(s, told, &same, e);
    if (rc) return rc;
    if (same && dan_path_exists(report)) {
        dan_say(&g->cli->ui, "== %s: done before, in '%s'", s->name, s->dir);
        return keep_report(g, s, 0, e);
    }
    dan_say(&g->cli->ui, "== %s: danlu %s, into '%s'", s->name, s->command, s->dir);
    if (same && dan_path_exists(recipe)) add(&s->args, "--resume");
    machine(&s->args, g->cli);
    double start = dan_now();
    rc = call(g, cmd, &s->args, e);
    return rc ? rc : keep_report(g, s, dan_now() - start, e);
}

static struct stage begin(const struct align *g, const char *name, const char *command)
{
    struct stage s = {.name = name, .command = command, .report = "report.json", .args = {.arena = g->cli->arena}};
    s.dir = dan_arena_printf(g->cli->arena, "%s/%zu-%s", g->o->out, json_array_size(g->stages) + 1, name);
    add(&s.args, g->model);
    s.args.failed = s.args.failed || !s.dir;
    return s;
}

/* ---- the stages ---- */

static int sft(struct align *g, struct dan_err *e)
{
    struct stage s = begin(g, "sft", "finetune");
    options(&s.args, "data", &g->o->sft);
    options(&s.args, "forget-eval", &g->o->forget);
    common(&s.args, g, s.dir, true);
    settings(&s.args, g->o, "sft");
    int rc = run_stage(g, &s, e);
    g->model = s.dir;
    return rc;
}

static int reward(struct align *g, const char **dir, struct dan_err *e)
{
    struct stage s = begin(g, "reward", "reward");
    options(&s.args, "data", &g->o->pairs);
    common(&s.args, g, s.dir, false);
    settings(&s.args, g->o, "reward");
    *dir = s.dir;
    return run_stage(g, &s, e);
}

static int dpo(struct align *g, struct dan_err *e)
{
    struct stage s = begin(g, "dpo", "dpo");
    options(&s.args, "data", &g->o->pairs);
    common(&s.args, g, s.dir, true);
    settings(&s.args, g->o, "dpo");
    int rc = run_stage(g, &s, e);
    g->model = s.dir;
    return rc;
}

static void rewards(struct args *a, const struct align *g, const char *model)
{
    if (model) add(a, dan_arena_printf(a->arena, "--reward=model:%s", model));
    options(a, "reward", &g->o->reward);
    options(a, "data", g->o->prompts.n ? &g->o->prompts : g->o->pairs.n ? &g->o->pairs : &g->o->sft);
}

static int policy(struct align *g, const char *method, const char *model, struct dan_err *e)
{
    bool ppo = !strcmp(method, "ppo");
    struct stage s = begin(g, method, ppo ? "ppo" : "grpo");
    rewards(&s.args, g, model);
    options(&s.args, "forget-eval", &g->o->forget);
    if (ppo) options(&s.args, "ptx", &g->o->ptx);
    if (ppo) option(&s.args, "value", model);
    else option(&s.args, "variant", method);
    common(&s.args, g, s.dir, true);
    settings(&s.args, g->o, ppo ? "ppo" : "grpo");
    int rc = run_stage(g, &s, e);
    g->model = s.dir;
    return rc;
}

static int best(struct align *g, const char *model, struct dan_err *e)
{
    struct stage s = begin(g, "best", "best");
    rewards(&s.args, g, model);
    option(&s.args, "template", g->o->template);
    option(&s.args, "out", beside(g, s.dir, "best.jsonl"));
    settings(&s.args, g->o, "best");
    s.report = "best.jsonl.report.json";
    int rc = run_stage(g, &s, e);
    if (rc) return rc;
    struct stage t = begin(g, "tune", "finetune");
    option(&t.args, "data", beside(g, s.dir, "best.jsonl"));
    options(&t.args, "forget-eval", &g->o->forget);
    common(&t.args, g, t.dir, true);
    settings(&t.args, g->o, "tune");
    rc = run_stage(g, &t, e);
    g->model = t.dir;
    return rc;
}

int align_run(struct align *g, struct dan_err *e)
{
    const char *method = align_method(g->o), *model = NULL;
    int rc = g->o->sft.n ? sft(g, e) : DAN_OK;
    if (rc || !strcmp(method, "dpo")) return rc ? rc : dpo(g, e);
    if (g->o->pairs.n) rc = reward(g, &model, e);
    if (rc) return rc;
    return strcmp(method, "best") ? policy(g, method, model, e) : best(g, model, e);
}
