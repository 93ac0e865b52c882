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

static void common(struct args *a, const struct align *g, const char *dir, bool merge)
{
    const struct align_opts *o = g->o;
    option(a, "template", o->template);
    if (o->lora_rank) add(a, dan_arena_printf(a->arena, "--lora-rank=%lld", (long long)o->lora_rank));
    if (o->lora_rank && merge) add(a, "--merge");
    option(a, "out", dir);
}

/* What the result does not depend on: a stage goes on with another. */
static void machine(struct args *a, const struct dan_cli *cli)
{
    if (cli->quiet) add(a, "--quiet");
    if (cli->json) add(a, "--json");
    if (cli->threads) add(a, dan_arena_printf(a->arena, "--threads=%lld", (long long)cli->threads));
    if (dan_given(cli, "isa")) option(a, "isa", cli->isa);
}

/* ---- one stage ---- */

/* name: of the folder; report, partial: file names in dir, partial (or NULL) is one that a stopped command leaves and does not go on with. */
struct stage { const char *name, *dir, *report, *partial; const struct align_kind *kind; struct args args; };

/* STAGE.OPTION=VALUE of this stage. */
static void settings(struct stage *s, const struct align_opts *o)
{
    const char *stage = s->kind->name;
    size_t n = strlen(stage);
    for (size_t i = 0; i < o->set.n; i++)
        if (!strncmp(o->set.v[i], stage, n) && o->set.v[i][n] == '.') add(&s->args, dan_arena_printf(s->args.arena, "--%s", o->set.v[i] + n + 1));
}

static char *beside(const struct align *g, const char *dir, const char *name) { return dan_arena_printf(g->cli->arena, "%s/%s", dir, name); }

/* DIR/arguments.json: what the stage was told. */
static json_t *arguments(const struct stage *s)
{
    json_t *list = json_array();
    for (int i = 0; i < s->args.n; i++) json_array_append_new(list, json_string(s->args.v[i]));
    return json_pack("{s:s,s:o}", "command", s->kind->command, "arguments", list);
}

/* A folder that was made by other arguments is not gone on with. */
static int same_arguments(const struct stage *s, const char *told, struct dan_err *e)
{
    json_t *was = NULL, *now = arguments(s);
    int rc = now ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for a stage");
    if (!rc && dan_path_exists(told)) rc = dan_json_read(told, &was, e);
    if (!rc && !json_equal(was, now))
        rc = dan_fail(e, DAN_EUSAGE, "stage %s in '%s' was made with other options; give another --out, or remove that folder and those of the stages behind it", s->name, s->dir);
    json_decref(was);
    json_decref(now);
    return rc;
}

/* A stage of which there is nothing yet, or nothing to go on with.  A file in a folder that was never told anything is not ours to remove. */
static int start_over(const struct align *g, const struct stage *s, const char *told, struct dan_err *e)
{
    const char *partial = s->partial && dan_path_exists(told) ? beside(g, s->dir, s->partial) : NULL;
    json_t *now = arguments(s);
    int rc = now ? dan_mkdirs(s->dir, e) : dan_fail(e, DAN_ENOMEM, "not enough memory for a stage");
    if (!rc && partial && dan_path_exists(partial)) rc = dan_remove_tree(partial, e);
    if (!rc) rc = dan_json_write(told, now, e);
    json_decref(now);
    return rc;
}

/* The command, as from the shell; options that all commands have are as they were afterwards. */
static int call(struct align *g, const struct dan_cmd *cmd, struct args *args, struct dan_err *e)
{
    struct dan_cli *cli = g->cli, before = *cli;
    void *opts = dan_arena_alloc(cli->arena, cmd->opts_bytes);
    char **argv = dan_arena_alloc(cli->arena, sizeof *argv * MAX_ARGS);
    if (!opts || !argv) return dan_fail(e, DAN_ENOMEM, "not enough memory for a stage");
    for (int i = 0; i < args->n; i++)
        if (!(argv[i] = dan_arena_strdup(cli->arena, args->v[i]))) return dan_fail(e, DAN_ENOMEM, "not enough memory for a stage");
    cli->path = NULL;
    cli->recipe = NULL;                        /* that of align is none of the stage's */
    int rc = dan_options_parse(cli, cmd, args->n, argv, opts, e);
    cli->path = cmd->name;
    cli->ui.quiet = before.quiet;
    if (!rc) rc = cmd->run(opts, cli, e);
    sig_atomic_t stop = cli->stop;
    struct dan_ui ui = cli->ui;
    *cli = before;
    cli->stop = stop;
    cli->ui = ui;
    if (!rc && stop) return dan_fail(e, DAN_ECANCELLED, "stopped; the same command goes on");
    if (rc == DAN_ECANCELLED && e->code) {     /* the stage's command says how the stage alone goes on */
        struct dan_err why = *e;
        *e = (struct dan_err){0};
        dan_fail(e, rc, "%s; the same danlu align command does that, and the stages after it", why.msg);
    }
    return rc;
}

static int keep_report(struct align *g, const struct stage *s, double seconds, struct dan_err *e)
{
    json_t *report = NULL;
    int rc = dan_json_read(beside(g, s->dir, s->report), &report, e);
    json_t *j = json_pack("{s:s,s:s,s:s,s:f,s:o}", "stage", s->name, "command", s->kind->command, "folder", s->dir, "seconds", seconds, "report", report ? report : json_null());
    return json_array_append_new(g->stages, j) && !rc ? dan_fail(e, DAN_ENOMEM, "not enough memory for the report") : rc;
}

static int run_stage(struct align *g, struct stage *s, struct dan_err *e)
{
    const struct dan_cmd *cmd = dan_cmd_find(g->cli->cmds, s->kind->command);
    const char *told = beside(g, s->dir, "arguments.json"), *report = beside(g, s->dir, s->report), *recipe = beside(g, s->dir, "recipe.json");
    if (!cmd || s->args.failed || !told || !report || !recipe) return dan_fail(e, DAN_ENOMEM, "not enough memory for stage %s", s->name);
    bool done = dan_path_exists(report), begun = dan_path_exists(recipe);
    int rc = done || begun ? same_arguments(s, told, e) : start_over(g, s, told, e);
    if (rc) return rc;
    if (done) {
        dan_say(&g->cli->ui, "== %s: done before, in '%s'", s->name, s->dir);
        return keep_report(g, s, 0, e);
    }
    dan_say(&g->cli->ui, "== %s: danlu %s, into '%s'", s->name, s->kind->command, s->dir);
    if (begun) add(&s->args, "--resume");
    machine(&s->args, g->cli);
    double start = dan_now();
    rc = call(g, cmd, &s->args, e);
    return rc ? rc : keep_report(g, s, dan_now() - start, e);
}

/* kind: sft, reward, ...; name: of its folder. */
static struct stage begin(const struct align *g, const char *kind, const char *name)
{
    struct stage s = {.name = name, .kind = align_kind(kind, strlen(kind)), .report = "report.json", .args = {.arena = g->cli->arena}};
    s.dir = dan_arena_printf(g->cli->arena, "%s/%zu-%s", g->o->out, json_array_size(g->stages) + 1, name);
    add(&s.args, g->model);
    add(&s.args, dan_arena_printf(s.args.arena, "--seed=%lld", (long long)g->cli->seed));
    s.args.failed = s.args.failed || !s.dir;
    return s;
}

/* ---- the stages ---- */

static int sft(struct align *g, struct dan_err *e)
{
    struct stage s = begin(g, "sft", "sft");
    options(&s.args, "data", &g->o->sft);
    options(&s.args, "forget-eval", &g->o->forget);
    common(&s.args, g, s.dir, true);
    settings(&s, g->o);
    int rc = run_stage(g, &s, e);
    g->model = s.dir;
    return rc;
}

static int reward(struct align *g, const char **dir, struct dan_err *e)
{
    struct stage s = begin(g, "reward", "reward");
    options(&s.args, "data", &g->o->pairs);
    common(&s.args, g, s.dir, false);
    settings(&s, g->o);
    *dir = s.dir;
    return run_stage(g, &s, e);
}

static int dpo(struct align *g, struct dan_err *e)
{
    struct stage s = begin(g, "dpo", "dpo");
    options(&s.args, "data", &g->o->pairs);
    common(&s.args, g, s.dir, true);
    settings(&s, g->o);
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
    struct stage s = begin(g, ppo ? "ppo" : "grpo", method);
    rewards(&s.args, g, model);
    options(&s.args, "forget-eval", &g->o->forget);
    if (ppo) options(&s.args, "ptx", &g->o->ptx);
    if (ppo) option(&s.args, "value", model);
    else option(&s.args, "variant", method);
    common(&s.args, g, s.dir, true);
    settings(&s, g->o);
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
    settings(&s, g->o);
    s.report = "best.jsonl.report.json";
    s.partial = "best.jsonl";
    int rc = run_stage(g, &s, e);
    if (rc) return rc;
    struct stage t = begin(g, "tune", "tune");
    option(&t.args, "data", beside(g, s.dir, "best.jsonl"));
    options(&t.args, "forget-eval", &g->o->forget);
    common(&t.args, g, t.dir, true);
    settings(&t, g->o);
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
