#include "model/score.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "io/json.h"
#include "model/lora.h"

static const char weight[] = "score.weight", classifies[] = "ForSequenceClassification";

/* ---- which head ---- */

static const char *name_of(const char *adapter, char out[DAN_LORA_NAME])
{
    if (adapter && *adapter) snprintf(out, DAN_LORA_NAME, "%s@%s.saved", weight, adapter);
    else snprintf(out, DAN_LORA_NAME, "%s", weight);
    return out;
}

struct dan_tensor *dan_lm_score_of(const struct dan_lm *lm, const char *adapter)
{
    char name[DAN_LORA_NAME];
    return lm->store ? dan_store_find(lm->store, name_of(adapter, name)) : NULL;
}

/* The adapter whose head stands in for the model's: that which learns, if any does, or the last that is on. */
static const struct dan_adapter *owner(const struct dan_lm *lm)
{
    const struct dan_adapter *found = NULL;
    for (int k = 0; k < lm->n_adapters; k++) {
        const struct dan_adapter *a = &lm->adapter[k];
        if (!a->on) continue;
        if (a->trained) return dan_lm_score_of(lm, a->name) ? a : NULL;
        if (dan_lm_score_of(lm, a->name)) found = a;
    }
    return found;
}

bool dan_lm_has_score(const struct dan_lm *lm) { return owner(lm) || dan_lm_score_of(lm, NULL); }

int dan_score_choose(struct dan_graph *g, const struct dan_lm *lm, struct dan_err *e)
{
    char name[DAN_LORA_NAME];
    const struct dan_adapter *a = owner(lm);
    dan_ref p = dan_leaf(g, weight);
    if (!p || !a) return DAN_OK;
    const char *own = dan_arena_printf(g->arena, "%s", name_of(a->name, name));
    if (!own) return dan_fail(e, DAN_ENOMEM, "not enough memory for a name");
    g->node[p].name = own;
    g->node[p].frozen = !a->trained;
    return DAN_OK;
}

int dan_score_check(const struct dan_lm *lm, const struct dan_io *io, struct dan_err *e)
{
    if (io->score && lm->store && !lm->cfg.score && !dan_lm_has_score(lm))
        return dan_fail(e, DAN_EINVAL, "the model has no score head: train one (danlu reward), or open a reward model");
    if ((io->loss || io->logits) && lm->cfg.no_lm_head)
        return dan_fail(e, DAN_EUNSUPPORTED, "the model gives scores, not text: it has no language head (%.40s%s)", lm->model->hf_model_type,
                        ", a reward model");
    return DAN_OK;
}

struct dan_io dan_lm_plain_io(const struct dan_lm *lm)
{
    return (struct dan_io){.max_rows = 1, .lanes = lm->model->time_major, .logits = !lm->cfg.no_lm_head, .score = lm->cfg.score, .max_select = 1};
}

/* ---- adding ---- */

static int check_add(const struct dan_lm *lm, const struct dan_score_opts *o, struct dan_err *e)
{
    bool named = o->adapter && *o->adapter;
    if (!isfinite(o->std) || o->std < 0) return dan_fail(e, DAN_EINVAL, "a score head with weights of deviation %g: use 0 or more", o->std);
    if (named && !dan_lora_find((struct dan_lm *)(uintptr_t)lm, o->adapter)) return dan_fail(e, DAN_EINVAL, "there is no adapter '%.40s'", o->adapter);
    if (dan_lm_score_of(lm, o->adapter))
        return dan_fail(e, DAN_EINVAL, "%s%.40s has a score head already", named ? "adapter " : "the model", named ? o->adapter : "");
    if (o->like && !dan_lm_score_of(lm, o->like)) return dan_fail(e, DAN_EINVAL, "'%.40s' has no score head to begin from", *o->like ? o->like : "the model");
    return DAN_OK;
}

int dan_lm_add_score(struct dan_lm *lm, const struct dan_score_opts *o, struct dan_err *e)
{
    char name[DAN_LORA_NAME];
    const int64_t c = lm->cfg.hidden;
    int rc = check_add(lm, o, e);
    if (!rc) rc = dan_store_add(lm->store, name_of(o->adapter, name), &dan_dtype_f32, DAN_SHAPE(1, c), e);
    if (rc) return rc;
    float *w = dan_store_find(lm->store, name)->data;
    const struct dan_tensor *like = o->like ? dan_lm_score_of(lm, o->like) : NULL;
    struct dan_rng r = {.seed = o->seed, .stream = dan_hash(name, strlen(name), 0)};
    if (like) like->dtype->to_f32(like->data, w, c);
    else for (int64_t i = 0; i < c; i++) w[i] = o->std > 0 ? (float)(o->std * dan_rng_normal(&r)) : 0;
    if (!o->adapter || !*o->adapter) lm->cfg.score = true;
    return DAN_OK;
}

void dan_lm_drop_lm_head(struct dan_lm *lm) { lm->cfg.no_lm_head = true; }

/* ---- folders ---- */

void dan_score_arch(const struct dan_lm *lm, char *out, size_t n)
{
    const char *arch = lm->model->hf_arch, *kind = strstr(arch, "ForCausalLM");
    if (!kind) kind = strstr(arch, "LMHeadModel");
    if (lm->cfg.no_lm_head) snprintf(out, n, "%.*s%s", (int)(kind ? kind - arch : (long)strlen(arch)), arch, classifies);
    else snprintf(out, n, "%s", arch);
}

/* id2label of another size than 1, or num_labels, says what the rows of score.weight are for. */
static int64_t labels(const json_t *config)
{
    const json_t *n = json_object_get(config, "num_labels"), *names = json_object_get(config, "id2label");
    return json_is_integer(n) ? json_integer_value(n) : json_is_object(names) ? (int64_t)json_object_size(names) : 1;
}

static bool says_classifies(const json_t *config)
{
    const char *arch = json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
    return arch && dan_str_ends(arch, classifies);
}

int dan_score_read_config(struct dan_lm *lm, const char *dir, const struct dan_store *file, struct dan_err *e)
{
    struct dan_str path = {0};
    json_t *j = NULL;
    const struct dan_tensor *w = dan_store_find(file, weight);
    dan_str_printf(&path, "%s/config.json", dir);
    int rc = path.failed ? dan_fail(e, DAN_ENOMEM, "not enough memory for a path") : dan_json_read(dan_str_c(&path), &j, e);
    const json_t *bias = json_object_get(j, "reward_bias");
    bool only = !rc && says_classifies(j);
    if (!rc && (only || w) && (labels(j) != 1 || (w && (w->shape.n != 2 || w->shape.d[0] != 1))))
        rc = dan_fail(e, DAN_EUNSUPPORTED, "'%s' sorts texts into %lld classes: danlu reads models with one score (num_labels 1)", dir,
                      (long long)(w && w->shape.n == 2 ? w->shape.d[0] : labels(j)));
    if (!rc && json_is_number(bias)) lm->cfg.reward_bias = json_number_value(bias);
    if (!rc && !isfinite(lm->cfg.reward_bias)) rc = dan_fail(e, DAN_EFORMAT, "'%s': reward_bias is not finite", dan_str_c(&path));
    lm->cfg.score = w != NULL || only;
    lm->cfg.no_lm_head = only && !dan_store_find(file, "lm_head.weight");
    json_decref(j);
    dan_str_release(&path);
    return rc;
}
