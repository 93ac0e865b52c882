/* What an adapter's folder says of its base: which model, and in which storage format the adapter learned over it. */
#include <math.h>
#include <string.h>
#include "base/file.h"
#include "base/str.h"
#include "io/json.h"
#include "model/gguf_write.h"
#include "model/lora_files.h"
#include "model/quantize.h"

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for an adapter"); }

static int open_config(const char *dir, struct dan_str *path, json_t **c, struct dan_err *e)
{
    dan_path_join(path, dir, "adapter_config.json");
    return path->failed ? no_memory(e) : dan_json_read(path->p, c, e);
}

int dan_lora_base_model(const char *dir, struct dan_str *out, struct dan_err *e)
{
    struct dan_str path = {0}, beside = {0};
    json_t *c = NULL;
    int rc = open_config(dir, &path, &c, e);
    const char *base = rc ? NULL : json_string_value(json_object_get(c, "base_model_name_or_path"));
    if (!rc && !base) rc = dan_fail(e, DAN_EFORMAT, "'%s' names no base model (base_model_name_or_path)", dan_str_c(&path));
    if (!rc) dan_str_printf(&beside, "%s/../%s", dir, base);
    if (!rc && dan_path_exists(base)) dan_str_puts(out, base);
    else if (!rc && *base != '/' && dan_path_exists(dan_str_c(&beside))) dan_str_puts(out, dan_str_c(&beside));
    else if (!rc) rc = dan_fail(e, DAN_EIO, "the adapter '%s' is of the model '%s', which is not there: put it there, or change base_model_name_or_path", dir, base);
    json_decref(c);
    dan_str_release(&path);
    dan_str_release(&beside);
    return rc;
}

/* ---- its reward's bias ---- */

static const char bias_key[] = "reward_bias";

int dan_lora_reward_bias(const char *adapter, double *bias, struct dan_err *e)
{
    struct dan_str path = {0};
    json_t *c = NULL;
    int rc = dan_lora_is(adapter) ? open_config(adapter, &path, &c, e) : DAN_OK;
    const json_t *v = json_object_get(c, bias_key);
    if (v && (!json_is_number(v) || !isfinite(json_number_value(v)))) rc = dan_fail(e, DAN_EFORMAT, "'%s' in '%s' is no number", bias_key, path.p);
    else if (v) *bias = json_number_value(v);
    json_decref(c);
    dan_str_release(&path);
    return rc;
}

int dan_lora_save_reward_bias(const char *dir, double bias, struct dan_err *e)
{
    struct dan_str path = {0};
    json_t *c = NULL;
    int rc = open_config(dir, &path, &c, e);
    if (!rc) rc = json_object_set_new(c, bias_key, json_real(bias)) ? no_memory(e) : dan_json_write(path.p, c, e);
    json_decref(c);
    dan_str_release(&path);
    return rc;
}

/* ---- its format ---- */

/* PEFT warns of keys in adapter_config.json that it does not know, so this stands in a file of its own. */
static const char base_file[] = "danlu_adapter.json";

int dan_lora_save_base_format(const char *dir, const char *format, struct dan_err *e)
{
    struct dan_str path = {0};
    json_t *j = json_pack("{s:s}", "base_format", format);
    dan_path_join(&path, dir, base_file);
    int rc = !j || path.failed ? no_memory(e) : dan_json_write(dan_str_c(&path), j, e);
    json_decref(j);
    dan_str_release(&path);
    return rc;
}

int dan_lora_base_format(const char *dir, struct dan_str *out, struct dan_err *e)
{
    struct dan_str path = {0};
    json_t *j = NULL;
    if (!dan_path_is_dir(dir)) return DAN_OK;
    dan_path_join(&path, dir, base_file);
    int rc = path.failed ? no_memory(e) : DAN_OK;
    if (!rc && dan_path_exists(dan_str_c(&path))) rc = dan_json_read(dan_str_c(&path), &j, e);
    const char *format = json_string_value(json_object_get(j, "base_format"));
    if (format) dan_str_puts(out, format);
    if (!rc && out->failed) rc = no_memory(e);
    json_decref(j);
    dan_str_release(&path);
    return rc;
}

/* As in QLoRA, and so that embeddings and logits keep their precision. */
static const char *keeps(void *ctx, const char *name)
{
    (void)ctx;
    return dan_str_starts(name, "blk.") ? NULL : "embeddings and head stay as they are";
}

int dan_lora_quantise(struct dan_lm *lm, const char *format, struct dan_pool *pool, struct dan_err *e)
{
    const struct dan_dtype *to;
    struct dan_quantize_opts o = {.pool = pool, .keep = keeps};
    int rc = dan_quant_format(format, &to, e);
    return rc ? rc : dan_lm_quantize_with(lm, to, &o, e);
}

int dan_lora_quantise_base(struct dan_lm *lm, const char *adapter, struct dan_pool *pool, bool *done, struct dan_err *e)
{
    struct dan_str format = {0};
    int rc = dan_lora_base_format(adapter, &format, e);
    *done = !rc && format.n && !dan_quant_already(lm);
    if (*done) rc = dan_lora_quantise(lm, dan_str_c(&format), pool, e);
    dan_str_release(&format);
    return rc;
}

int dan_lora_merge_into(struct dan_lm *lm, const char *adapter, struct dan_pool *pool, struct dan_err *e)
{
    bool rounded;
    int rc = dan_lora_quantise_base(lm, adapter, pool, &rounded, e);
    if (!rc && rounded) rc = dan_lm_cast(lm, &dan_dtype_f32, &dan_dtype_f32, e);
    if (!rc) rc = dan_lora_load(lm, adapter, "default", e);
    if (!rc) rc = dan_lora_merge(lm, "default", 1, e);
    if (!rc) rc = dan_lora_reward_bias(adapter, &lm->cfg.reward_bias, e);
    return rc ? rc : dan_lora_drop(lm, e);
}
