/* danlu runs [list | show ID | rm ID] */
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/cmd.h"
#include "cli/run_log.h"
#include "io/runs.h"

struct runs_opts { int64_t limit; struct dan_strings ids; };

static const struct dan_opt list_options[] = {
    {.name = "limit", .letter = 'n', .type = 'i', .offset = offsetof(struct runs_opts, limit), .dflt = "20", .meta = "N",
     .min = 0, .max = INFINITY, .help = "show the newest N runs, 0 all"},
    {.name = NULL},
};

static const struct dan_opt id_options[] = {
    {.name = "id", .type = 'R', .offset = offsetof(struct runs_opts, ids), .meta = "ID", .required = true,
     .help = "number of a run, first column of 'danlu runs'"},
    {.name = NULL},
};

static json_t *loss_json(double loss) { return isfinite(loss) ? json_real(loss) : json_null(); }

static json_t *run_json(const struct dan_run *r)
{
    json_t *recipe = json_loads(r->recipe, 0, NULL);
    return json_pack("{s:I,s:s,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o,s:s,s:s,s:s,s:o}", "id", (json_int_t)r->id,
                     "command", r->command, "status", r->status, "dir", r->dir, "model", r->model, "started", (json_int_t)r->started,
                     "ended", (json_int_t)r->ended, "steps", (json_int_t)r->steps, "params", (json_int_t)r->params,
                     "tokens", (json_int_t)r->tokens, "seed", (json_int_t)r->seed, "final_loss", loss_json(r->final_loss),
                     "val_loss", loss_json(r->val_loss), "version", r->version, "host", r->host, "cpu", r->cpu,
                     "recipe", recipe ? recipe : json_null());
}

static const char *loss_text(double loss, char buf[DAN_NUM])
{
    snprintf(buf, DAN_NUM, isfinite(loss) ? "%.4f" : "-", loss);
    return buf;
}

static const char *lasted(const struct dan_run *r, char buf[DAN_NUM])
{
    int64_t end = r->ended ? r->ended : dan_unix_time();
    if (!r->ended && strcmp(r->status, "running"))
        return "-";                            /* nobody saw it die */
    return dan_fmt_time((double)(end - r->started), buf);
}

/* Without the year: the table fits 90 columns. */
static const char *short_date(int64_t t, char buf[DAN_NUM]) { return dan_fmt_date(t, buf) + (t > 0 ? 5 : 0); }

static void add_row(struct dan_table *t, const struct dan_run *r)
{
    char id[DAN_NUM], when[DAN_NUM], took[DAN_NUM], params[DAN_NUM], steps[DAN_NUM], loss[DAN_NUM], val[DAN_NUM];
    snprintf(id, sizeof id, "%lld", (long long)r->id);
    dan_table_row(t, (const char *const[]){id, short_date(r->started, when), r->command, r->status, lasted(r, took), r->model,
                                           r->params ? dan_fmt_count((double)r->params, params) : "-",
                                           dan_fmt_count((double)r->steps, steps), loss_text(r->final_loss, loss),
                                           loss_text(r->val_loss, val), r->dir});
}

static int print_table(struct dan_cli *cli, const struct dan_run *runs, size_t n, struct dan_err *e)
{
    static const char *const headers[] = {"ID", "started", "command", "status", "took", "model", "params", "steps", "loss",
                                          "val", "folder"};
    struct dan_table t;
    struct dan_str out = {0};
    dan_table_init(&t, "rLLLrlrrrrl", headers);
    for (size_t i = 0; i < n; i++)
        add_row(&t, &runs[i]);
    dan_table_print(&t, cli->ui.out_tty ? dan_ui_width() : 0, cli->ui.out_colour, &out);
    int rc = dan_out(&cli->ui, dan_str_c(&out), out.n, e);
    dan_table_release(&t);
    dan_str_release(&out);
    return rc;
}

static int list_all(struct dan_runs *db, const struct runs_opts *o, struct dan_cli *cli, struct dan_err *e)
{
    struct dan_run *runs;
    size_t n;
    int rc = dan_runs_list(db, o->limit, cli->arena, &runs, &n, e);
    for (size_t i = 0; i < n && !rc && cli->json; i++)
        rc = dan_out_json(&cli->ui, run_json(&runs[i]), e);
    if (rc || cli->json)
        return rc;
    if (!n) {
        dan_say(&cli->ui, "no runs in '%s' yet; 'danlu train' makes the first", cli->home);
        return DAN_OK;
    }
    return print_table(cli, runs, n, e);
}

static void put_curves(const struct dan_run *r, struct dan_str *out)
{
    struct run_log log;
    run_log_read(r->dir, &log);
    for (size_t i = 0; i < log.n; i++) {
        const char *title = run_log_title(log.v[i].key);
        if (!title || log.v[i].n < 2) continue;
        dan_str_printf(out, "\n%s\n", title);
        dan_plot(log.v[i].y, log.v[i].n, 76, 10, out);
    }
    run_log_release(&log);
}

static void put_recipe(const struct dan_run *r, struct dan_str *out)
{
    json_t *recipe = json_loads(r->recipe, 0, NULL);
    char *text = recipe ? json_dumps(recipe, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(recipe);
    if (text)
        dan_str_printf(out, "\nrecipe\n%s\n", text);
    free(text);                                /* jansson's own allocation */
}

static void describe(const struct dan_run *r, struct dan_str *out)
{
    char a[DAN_NUM], b[DAN_NUM];
    dan_str_printf(out, "run %lld: danlu %s, %s\n", (long long)r->id, r->command, r->status);
    dan_str_printf(out, "  folder   %s\n  model    %s, %s parameters\n", r->dir, r->model,
                   r->params ? dan_fmt_count((double)r->params, a) : "-");
    dan_str_printf(out, "  time     %s, %s\n", dan_fmt_date(r->started, a), lasted(r, b));
    dan_str_printf(out, "  trained  %s steps, %s tokens, seed %lld\n", dan_fmt_count((double)r->steps, a),
                   dan_fmt_count((double)r->tokens, b), (long long)r->seed);
    dan_str_printf(out, "  loss     %s, validation %s\n", loss_text(r->final_loss, a), loss_text(r->val_loss, b));
    dan_str_printf(out, "  machine  %s, %s, danlu %s\n", r->host, r->cpu, r->version);
    put_curves(r, out);
    put_recipe(r, out);
}

static int show_one(struct dan_runs *db, int64_t id, struct dan_cli *cli, struct dan_err *e)
{
    struct dan_run run;
    struct dan_str out = {0};
    int rc = dan_runs_get(db, id, cli->arena, &run, e);
    if (rc)
        return rc;
    if (cli->json)
        return dan_out_json(&cli->ui, run_json(&run), e);
    describe(&run, &out);
    rc = dan_out(&cli->ui, dan_str_c(&out), out.n, e);
    dan_str_release(&out);
    return rc;
}

static int remove_one(struct dan_runs *db, int64_t id, struct dan_cli *cli, struct dan_err *e)
{
    int rc = dan_runs_remove(db, id, e);
    if (rc)
        return rc;
    dan_say(&cli->ui, "run %lld is taken off the list; its folder stays", (long long)id);
    return cli->json ? dan_out_json(&cli->ui, json_pack("{s:I}", "removed", (json_int_t)id), e) : DAN_OK;
}

static int each_id(struct dan_runs *db, const struct runs_opts *o, struct dan_cli *cli, struct dan_err *e,
                   int (*act)(struct dan_runs *db, int64_t id, struct dan_cli *cli, struct dan_err *e))
{
    int64_t id;
    int rc = DAN_OK;
    for (size_t i = 0; i < o->ids.n && !rc; i++)
        rc = dan_parse_int(o->ids.v[i], &id) ? act(db, id, cli, e)
           : dan_fail(e, DAN_EUSAGE, "wrong run '%s'; it takes a number, the first column of 'danlu runs'", o->ids.v[i]);
    return rc;
}

static int list_run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct dan_runs *db;
    int rc = dan_runs_open(cli->home, &db, e);
    if (!rc)
        rc = list_all(db, opts, cli, e);
    dan_runs_close(db);
    return rc;
}

static int show_run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct dan_runs *db;
    int rc = dan_runs_open(cli->home, &db, e);
    if (!rc)
        rc = each_id(db, opts, cli, e, show_one);
    dan_runs_close(db);
    return rc;
}

static int rm_run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct dan_runs *db;
    int rc = dan_runs_open(cli->home, &db, e);
    if (!rc)
        rc = each_id(db, opts, cli, e, remove_one);
    dan_runs_close(db);
    return rc;
}

static const struct dan_cmd list_cmd = {
    .name = "list", .doc = "list runs, newest first", .example = "danlu runs list --limit 5",
    .opts = list_options, .opts_bytes = sizeof(struct runs_opts), .run = list_run,
};
static const struct dan_cmd show_cmd = {
    .name = "show", .doc = "show a run: its facts, loss curve and recipe", .example = "danlu runs show 3",
    .opts = id_options, .opts_bytes = sizeof(struct runs_opts), .run = show_run,
};
static const struct dan_cmd rm_cmd = {
    .name = "rm", .doc = "take a run off the list; its folder stays", .example = "danlu runs rm 3",
    .opts = id_options, .opts_bytes = sizeof(struct runs_opts), .run = rm_run,
};

const struct dan_cmd dan_cmd_runs = {
    .name = "runs", .doc = "list training runs and show what they did", .group = DAN_GROUP_HOUSE, .rank = 0,
    .about = "Every training run is recorded in DANLU_HOME/runs.db (default ~/.danlu/runs.db). A run that was killed is shown as "
             "interrupted. To repeat a run, give the recipe.json of its folder to --recipe.",
    .example = "danlu runs\ndanlu runs --json | jq .val_loss",
    .opts = list_options, .opts_bytes = sizeof(struct runs_opts), .run = list_run,
    .sub = (const struct dan_cmd *const[]){&list_cmd, &show_cmd, &rm_cmd, NULL},
};
