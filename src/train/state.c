/* Checkpoints of a run: weights, optimiser state, step. */
#include <jansson.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "train/trainer_impl.h"

/* Shares the slot "m:a+b+c" as "m:a", "m:b", "m:c": the rows of a joined weight follow one another. */
static int share_parts(const struct dan_trainer *t, const char *slot, struct dan_store *s, struct dan_err *e)
{
    const size_t kind = strcspn(slot, ":") + 1;
    float *at = dan_store_find(t->slots, slot)->data;
    struct dan_str name = {0};
    int rc = DAN_OK;
    for (const char *p = slot + kind; *p && !rc;) {
        size_t n = strcspn(p, "+");
        dan_str_clear(&name);
        dan_str_printf(&name, "%.*s%.*s", (int)kind, slot, (int)n, p);
        const struct dan_tensor *w = name.failed ? NULL : dan_store_find(t->lm->store, dan_str_c(&name) + kind);
        rc = w ? dan_store_share(s, dan_str_c(&name), t->slots, slot, e) : dan_fail(e, DAN_ENOMEM, "not enough memory for a name");
        if (rc) break;
        int64_t count = dan_shape_count(&w->shape);
        *dan_store_find(s, dan_str_c(&name)) = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(count), at);
        at += count;
        p += n + (p[n] == '+');
    }
    dan_str_release(&name);
    return rc;
}

/* One store with "w:" weights and the slots, sharing memory with the trainer.  What fusion joined is saved by its
 * parts, so that a checkpoint does not depend on it. */
static int gather(const struct dan_trainer *t, struct dan_store **out, struct dan_err *e)
{
    struct dan_store *s;
    int rc = dan_store_new(&s, e);
    if (rc) return rc;
    struct dan_str name = {0};
    for (size_t i = 0; i < dan_store_count(t->lm->store) && !rc; i++) {
        const char *w = dan_store_name(t->lm->store, i);
        if (strchr(w, '+')) continue;
        dan_str_clear(&name);
        dan_str_printf(&name, "w:%s", w);
        rc = dan_store_share(s, dan_str_c(&name), t->lm->store, w, e);
    }
    for (size_t i = 0; i < dan_store_count(t->slots) && !rc; i++)
        if (!dan_str_starts(dan_store_name(t->slots, i), "sum:"))
            rc = share_parts(t, dan_store_name(t->slots, i), s, e);
    dan_str_release(&name);
    if (rc) dan_store_free(s);
    else *out = s;
    return rc;
}

int dan_trainer_save(const struct dan_trainer *t, const char *out_dir, const char *extra_json, int keep, struct dan_err *e)
{
    struct dan_store *s = NULL;
    struct dan_str path = {0};
    dan_checkpoint_path(out_dir, t->step, &path);
    json_t *extra = extra_json ? json_loads(extra_json, 0, NULL) : NULL;
    json_t *state = json_pack("{s:I, s:I, s:s, s:s, s:o}", "step", (json_int_t)t->step, "seed", (json_int_t)t->o.seed,
                              "model", t->lm->model->name, "optimizer", t->o.optim->name, "extra", extra ? extra : json_object());
    char *text = state ? json_dumps(state, JSON_INDENT(1)) : NULL;
    int rc = text ? gather(t, &s, e) : dan_fail(e, DAN_ENOMEM, "not enough memory to write a checkpoint");
    if (!rc) rc = dan_checkpoint_save(dan_str_c(&path), s, text, e);
    if (!rc && keep > 0) rc = dan_checkpoint_prune(out_dir, keep, e);
    dan_store_free(s);
    dan_free(text);
    json_decref(state);
    dan_str_release(&path);
    return rc;
}

static int check_state(const struct dan_trainer *t, const char *json, int64_t *step_out, char **extra_json, struct dan_err *e)
{
    json_t *state = json_loads(json, 0, NULL);
    json_int_t step = -1, seed = 0;
    const char *model = "", *optim = "";
    json_t *extra = NULL;
    int rc = DAN_OK;
    if (!state ||
        json_unpack(state, "{s:I, s:I, s:s, s:s, s:o}", "step", &step, "seed", &seed, "model", &model, "optimizer", &optim, "extra",
                    &extra) ||
        step < 0)
        rc = dan_fail(e, DAN_EFORMAT, "the checkpoint's state.json is not danlu's; use another checkpoint");
    else if (strcmp(model, t->lm->model->name) || strcmp(optim, t->o.optim->name) || (uint64_t)seed != t->o.seed)
        rc = dan_fail(e, DAN_EINVAL, "the checkpoint was made with --model %s, --optimizer %s, --seed %lld; give the same to resume", model,
                      optim, (long long)seed);
    *step_out = step;
    if (!rc && !(*extra_json = json_dumps(extra, 0))) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for the state of a checkpoint");
    json_decref(state);
    return rc;
}

int dan_trainer_resume(struct dan_trainer *t, const char *checkpoint, char **extra_json, struct dan_err *e)
{
    struct dan_store *saved = NULL, *mine = NULL;
    char *json = NULL, *extra = NULL;
    int64_t step = 0;
    int rc = dan_checkpoint_load(checkpoint, &saved, &json, e);
    if (!rc) rc = check_state(t, json, &step, &extra, e);         /* first: its message is the better one */
    if (!rc) rc = gather(t, &mine, e);
    if (!rc) rc = dan_store_restore(mine, saved, e);
    if (!rc) t->step = step;
    if (!rc) t->rounds = dan_qat_on(&t->o.qat) && step > t->o.qat.start;      /* at the start itself scales are set anew, alike */
    if (!rc && extra_json) *extra_json = extra;
    else dan_free(extra);
    dan_store_free(saved);
    dan_store_free(mine);
    dan_free(json);
    return rc;
}
