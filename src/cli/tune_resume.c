/* Fine-tuning that stops and goes on: recipe, checkpoints, log.
 *
 * OUT/recipe.json has the options; a checkpoint's state.json {"command", "step", "tuner_steps", "now", "data", "model", "extra"}, now: the time that templates
 * were told, data and model: checksums of what the run began with. */
#include <string.h>
#include "align/sft_data.h"
#include "align/tuner_state.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/tune.h"
#include "io/checkpoint.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "model/lora.h"

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory to go on with a run"); }

/* ---- the recipe ---- */

/* What may change, which is said; what changes no weight is not even said.  All else stays as it was. */
static const char *const may_change[] = {"steps", "epochs", "lr",  "min-lr", "warmup", "schedule", "weight-decay",
                                         "beta1", "beta2",  "eps", "clip",   "fusion", "rows",     NULL};
static const char *const harmless[] = {"save-every", "keep", "remat", "resume", "out", NULL};

static bool listed(const char *const *list, const char *name)
{
    while (*list && strcmp(*list, name)) list++;
    return *list != NULL;
}

static int compare_option(struct dan_cli *cli, const char *name, const json_t *now, const json_t *was, struct dan_err *e)
{
    char *a = now ? json_dumps(now, JSON_ENCODE_ANY | JSON_REAL_PRECISION(12)) : NULL, *b = was ? json_dumps(was, JSON_ENCODE_ANY | JSON_REAL_PRECISION(12)) : NULL;
    bool same = a && b ? !strcmp(a, b) : !a && !b;
    int rc = DAN_OK;
    if (!same && !listed(may_change, name))
        rc = dan_fail(e, DAN_EUSAGE, "--%s %s cannot change in a run that goes on (it was %s); leave it out, or start a new run with another --out", name, a ? a : "",
                      b ? b : "not set");
    else if (!same)
        dan_say(&cli->ui, "resume   with --%s %s instead of %s: the weights will differ from those of a run without the change", name, a ? a : "", b ? b : "nothing");
    dan_free(a);
    dan_free(b);
    return rc;
}

static int compare_recipe(struct dan_cli *cli, const void *opts, const char *file, struct dan_err *e)
{
    json_t *was = NULL, *now = dan_options_to_json(cli, cli->cmd, opts);
    int rc = now ? dan_json_read(file, &was, e) : no_memory(e);
    for (size_t i = 0; cli->cmd->opts[i].name && !rc; i++) {
        const char *name = cli->cmd->opts[i].name;
        if (cli->origin[i] == DAN_FROM_COMMAND && !listed(harmless, name)) rc = compare_option(cli, name, json_object_get(now, name), json_object_get(was, name), e);
    }
    if (!rc && dan_given(cli, "seed")) rc = compare_option(cli, "seed", json_object_get(now, "seed"), json_object_get(was, "seed"), e);
    json_decref(was);
    json_decref(now);
    return rc;
}

/* `danlu finetune --resume DIR`: the folder of the run, where there is no --out. */
static void take_folder(struct dan_cli *cli, struct tune_opts *o)
{
    if (o->out || !o->model) return;
    o->out = o->model;
    o->model = NULL;
    for (size_t i = 0; cli->cmd->opts[i].name; i++)
        if (!strcmp(cli->cmd->opts[i].name, "model")) cli->origin[i] = DAN_FROM_DEFAULT;
}

int tune_recipe(struct dan_cli *cli, void *opts, struct tune_opts *o, struct dan_err *e)
{
    if (!o->resume) return DAN_OK;
    take_folder(cli, o);
    const char *out = o->out, *file = out ? dan_arena_printf(cli->arena, "%s/recipe.json", out) : NULL;
    if (!out) return dan_fail(e, DAN_EUSAGE, "which run is to go on? write danlu %s --resume FOLDER, the folder that was its --out", cli->path);
    if (!file) return no_memory(e);
    if (!dan_path_exists(file)) return dan_fail(e, DAN_EIO, "there is no run in '%s' to resume; check --out, or start without --resume", out);
    int rc = compare_recipe(cli, opts, file, e);
    if (!rc) rc = dan_recipe_apply(cli, cli->cmd, opts, file, e);
    o->out = out;                              /* the folder may have been moved */
    o->resume = true;
    return rc;
}

static int save_recipe(const struct tune *t, struct dan_err *e)
{
    struct dan_str text = {0}, path = {0};
    json_t *j = dan_options_to_json(t->cli, t->cli->cmd, t->all);
    char *dump = NULL;
    if (j) json_object_set_new(j, "resume", json_false());
    if (j) dump = json_dumps(j, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    dan_path_join(&path, t->o.out, "recipe.json");
    if (dump) dan_str_printf(&text, "%s\n", dump);
    int rc = !dump || text.failed || path.failed ? no_memory(e) : dan_write_file(dan_str_c(&path), dan_str_c(&text), text.n, e);
    json_decref(j);
    dan_free(dump);
    dan_str_release(&text);
    dan_str_release(&path);
    return rc;
}

/* ---- what the run began with ---- */

void tune_fingerprint_bytes(struct tune *t, const void *bytes, size_t n) { t->data_crc = dan_crc32(t->data_crc, bytes, n); }

void tune_fingerprint(struct tune *t, const struct dan_sft_data *d)
{
    tune_fingerprint_bytes(t, &d->n, sizeof d->n);
    for (size_t i = 0; i < d->n; i++) {
        const struct dan_sft_row *r = &d->v[i];
        tune_fingerprint_bytes(t, &r->n, sizeof r->n);
        tune_fingerprint_bytes(t, r->ids, (size_t)r->n * sizeof *r->ids);
        tune_fingerprint_bytes(t, r->learn, (size_t)r->n);
        tune_fingerprint_bytes(t, &r->desirable, sizeof r->desirable);
    }
}

/* Names, and of every tensor some bytes spread over it: another model is told at once, without reading it whole. */
void tune_fingerprint_model(struct tune *t)
{
    enum { PIECES = 16, PIECE = 64 };
    const struct dan_store *s = t->m.lm.store;
    t->model_crc = 0;
    for (size_t i = 0; i < dan_store_count(s); i++) {
        const struct dan_tensor *x = dan_store_at(s, i);
        const char *name = dan_store_name(s, i);
        size_t n = dan_tensor_bytes(x), step = n / PIECES;
        t->model_crc = dan_crc32(t->model_crc, name, strlen(name));
        for (int k = 0; k < PIECES; k++) {
            size_t at = step * (size_t)k, left = n - at;
            t->model_crc = dan_crc32(t->model_crc, (const char *)x->data + at, left < PIECE ? left : PIECE);
        }
    }
}

/* ---- going on ---- */

static int read_state(struct tune *t, const char *text, struct dan_err *e)
{
    json_int_t now;
    const char *command;
    int rc = dan_json_parse("the state of a checkpoint", text, strlen(text), DAN_JSON_MAX_DEPTH, &t->state, e);
    if (rc) return rc;
    if (json_unpack(t->state, "{s:s, s:I, s:I, s:I, s:I}", "command", &command, "step", &(json_int_t){0}, "now", &now, "data", &(json_int_t){0}, "model",
                    &(json_int_t){0}))
        return dan_fail(e, DAN_EFORMAT, "the checkpoint in '%s' is none of fine-tuning; use another one", t->o.out);
    if (strcmp(command, t->cli->path))
        return dan_fail(e, DAN_EUSAGE, "the run in '%s' is one of danlu %s, not of danlu %s", t->o.out, command, t->cli->path);
    t->now = now;
    return DAN_OK;
}

int tune_find_checkpoint(struct tune *t, struct dan_err *e)
{
    struct dan_str path = {0}, skipped = {0};
    char *text = NULL;
    t->now = dan_unix_time();
    t->last_saved = -1;
    if (!t->o.resume) return DAN_OK;
    int rc = dan_checkpoint_latest(t->o.out, &path, &skipped, e);
    if (skipped.n) dan_warn(&t->cli->ui, "%s", dan_str_c(&skipped));
    if (!rc && path.n) rc = dan_checkpoint_load(dan_str_c(&path), &t->saved, &text, e);
    if (!rc && path.n) rc = read_state(t, text, e);
    if (!rc) dan_say(&t->cli->ui, path.n ? "resume   from %s" : "resume   no checkpoint yet: starting from step 0", dan_str_c(&path));
    dan_free(text);
    dan_str_release(&path);
    dan_str_release(&skipped);
    return rc;
}

static int gather(const struct tune *t, struct dan_store **out, struct dan_err *e)
{
    int rc = dan_store_new(out, e);
    for (size_t i = 0; i < t->n_parts && !rc; i++) rc = dan_tuner_gather(t->part[i].tuner, t->part[i].lm, t->part[i].prefix, *out, e);
    return rc;
}

static int64_t integer(const struct tune *t, const char *name) { return json_integer_value(json_object_get(t->state, name)); }

static int check_origin(const struct tune *t, struct dan_err *e)
{
    if ((uint32_t)integer(t, "model") != t->model_crc)
        return dan_fail(e, DAN_EINVAL, "the model '%s' is not the one that the run in '%s' began with; put it back, or start a new run", t->o.model, t->o.out);
    if ((uint32_t)integer(t, "data") != t->data_crc)
        return dan_fail(e, DAN_EINVAL, "the data (or the template, or the tokenizer) is not what the run in '%s' began with; put it back, or start a new run", t->o.out);
    return DAN_OK;
}

static int restore(struct tune *t, struct dan_err *e)
{
    struct dan_store *mine = NULL;
    int rc = check_origin(t, e);
    if (!rc) rc = gather(t, &mine, e);
    if (!rc) rc = dan_store_restore(mine, t->saved, e);
    dan_store_free(mine);
    for (size_t i = 0; i < t->n_parts && !rc; i++) rc = dan_lora_refresh((struct dan_lm *)(uintptr_t)t->part[i].lm, NULL, t->m.pool, e);
    for (size_t i = 0; i < t->n_parts && !rc; i++) dan_tuner_set_steps(t->part[i].tuner, integer(t, "step"));
    json_t *steps = json_object_get(t->state, "tuner_steps");
    for (size_t i = 0; i < t->n_parts && !rc && steps; i++) dan_tuner_set_steps(t->part[i].tuner, json_integer_value(json_array_get(steps, i)));
    return rc;
}

/* After a kill the log may be ahead of the checkpoint, or end in half a line. */
static int cut_log(const struct tune *t, struct dan_err *e)
{
    struct dan_str path = {0}, kept = {0};
    char *text = NULL;
    size_t n = 0;
    dan_path_join(&path, t->o.out, "log.jsonl");
    int rc = path.failed ? no_memory(e) : dan_path_exists(dan_str_c(&path)) ? dan_read_file(dan_str_c(&path), &text, &n, e) : DAN_OK;
    for (size_t at = 0; !rc && at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        if (!end) break;
        json_t *j = json_loadb(text + at, (size_t)(end - text) - at, 0, NULL);
        const json_t *step = json_object_get(j, "step");
        if (json_is_integer(step) && json_integer_value(step) <= t->first_step) dan_str_append(&kept, text + at, (size_t)(end - text) - at + 1);
        json_decref(j);
        at = (size_t)(end - text) + 1;
    }
    if (!rc && text) rc = kept.failed ? no_memory(e) : dan_write_file(dan_str_c(&path), dan_str_c(&kept), kept.n, e);
    dan_free(text);
    dan_str_release(&path);
    dan_str_release(&kept);
    return rc;
}

int tune_begin(struct tune *t, const struct tune_part *parts, size_t n, struct dan_err *e)
{
    t->part = parts;
    t->n_parts = n;
    int rc = t->saved ? restore(t, e) : DAN_OK;
    if (rc) return rc;
    t->first_step = t->saved ? integer(t, "step") : 0;
    t->extra = json_object_get(t->state, "extra");
    t->last_saved = t->saved ? t->first_step : -1;
    dan_store_free(t->saved);
    t->saved = NULL;
    if (t->first_step > t->steps)
        return dan_fail(e, DAN_EUSAGE, "--steps %lld is fewer than the %lld steps this run has done; give a larger --steps to go on", (long long)t->steps,
                        (long long)t->first_step);
    rc = cut_log(t, e);
    if (!rc && t->all) rc = save_recipe(t, e);
    if (!rc) tune_runs_start(t);
    return rc;
}

/* ---- saving ---- */

static json_t *steps_of(const struct tune *t)
{
    json_t *a = json_array();
    for (size_t i = 0; i < t->n_parts; i++) json_array_append_new(a, json_integer(dan_tuner_steps(t->part[i].tuner)));
    return a;
}

static int save(struct tune *t, int64_t step, const json_t *extra, struct dan_err *e)
{
    struct dan_store *s = NULL;
    struct dan_str path = {0};
    json_t *state = json_pack("{s:s, s:I, s:o, s:I, s:I, s:I, s:O?}", "command", t->cli->path, "step", (json_int_t)step, "tuner_steps", steps_of(t), "now",
                              (json_int_t)t->now, "data", (json_int_t)t->data_crc, "model", (json_int_t)t->model_crc, "extra", extra);
    char *text = state ? json_dumps(state, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) : NULL;
    dan_checkpoint_path(t->o.out, step, &path);
    int rc = text && !path.failed ? gather(t, &s, e) : no_memory(e);
    if (!rc) rc = dan_checkpoint_save(dan_str_c(&path), s, text, e);
    if (!rc) rc = dan_checkpoint_prune(t->o.out, (int)t->o.keep, e);
    if (!rc) t->last_saved = step;
    dan_store_free(s);
    dan_free(text);
    json_decref(state);
    dan_str_release(&path);
    return rc;
}

int tune_step_done(struct tune *t, int64_t step, json_t *extra, struct dan_err *e)
{
    bool due = t->o.save_every > 0 && step % t->o.save_every == 0 && step < t->steps;
    int rc = due ? save(t, step, extra, e) : DAN_OK;
    json_decref(extra);
    return rc;
}

int tune_interrupted(struct tune *t, int64_t step, json_t *extra, struct dan_err *e)
{
    int rc = t->last_saved == step ? DAN_OK : save(t, step, extra, e);
    json_decref(extra);
    return rc ? rc
              : dan_fail(e, DAN_ECANCELLED, "interrupted at step %lld of %lld; a checkpoint is written: go on with danlu %s --resume %s", (long long)step,
                         (long long)t->steps, t->cli->path, t->o.out);
}

void tune_resume_release(struct tune *t)
{
    dan_store_free(t->saved);
    json_decref(t->state);
}
