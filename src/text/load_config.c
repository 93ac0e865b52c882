/* tokenizer_config.json, special_tokens_map.json, chat_template.jinja, additional_chat_templates. */
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "io/json.h"
#include "text/load.h"

/* A token is "text" or {"content": "text"}; -1 when absent or not in the vocabulary. */
static int32_t token_id(const struct dan_tokenizer *t, const json_t *config, const char *key)
{
    const json_t *v = json_object_get(config, key);
    const char *text = json_is_string(v) ? json_string_value(v) : dan_json_name(v, "content");
    if (!*text) return -1;
    int32_t id = dan_tokenizer_find_special(t, text);
    int64_t found;
    return id < 0 && dan_map_get(t->by_bytes, text, strlen(text), &found) ? (int32_t)found : id;
}

static void take_tokens(struct dan_tokenizer *t, const json_t *config)
{
    if (t->bos < 0) t->bos = token_id(t, config, "bos_token");
    if (t->eos < 0) t->eos = token_id(t, config, "eos_token");
    if (t->unk < 0) t->unk = token_id(t, config, "unk_token");
    if (t->pad < 0) t->pad = token_id(t, config, "pad_token");
}

/* A string, or a list of {"name", "template"} of which "default" counts. */
static int take_template(struct dan_tokenizer *t, const json_t *v)
{
    size_t i;
    const json_t *one;
    if (json_is_array(v)) {
        const json_t *list = v;
        v = NULL;
        json_array_foreach(list, i, one) if (strcmp(dan_json_name(one, "name"), "default") == 0) v = json_object_get(one, "template");
    }
    if (!json_is_string(v)) return 0;
    t->chat_template = dan_strdup(json_string_value(v));
    return t->chat_template ? 0 : -1;
}

static int config_file(struct dan_tokenizer *t, const char *path, bool keep, struct dan_err *e)
{
    char *bytes;
    size_t n;
    json_t *config;
    int r = dan_read_file(path, &bytes, &n, e);
    if (r) return r;
    r = dan_json_parse(path, bytes, n, DAN_JSON_MAX_DEPTH, &config, e);
    if (r) {
        dan_free(bytes);
        return r;
    }
    take_tokens(t, config);
    if (keep && take_template(t, json_object_get(config, "chat_template")) != 0)
        r = dan_fail(e, DAN_ENOMEM, "out of memory for the chat template of '%s'", path);
    json_decref(config);
    if (keep) {
        t->config = bytes;
        t->config_n = n;
    } else dan_free(bytes);
    return r;
}

static int config_at(struct dan_tokenizer *t, const char *dir, const char *name, struct dan_err *e)
{
    struct dan_str path = {0};
    dan_path_join(&path, dir, name);
    int r = DAN_OK;
    size_t n;
    if (path.failed) r = dan_fail(e, DAN_ENOMEM, "out of memory for the name of '%s'", name);
    else if (dan_path_exists(path.p) && strcmp(name, "chat_template.jinja") == 0) {
        dan_free(t->chat_template);
        t->chat_template = NULL;
        r = dan_read_file(path.p, &t->chat_template, &n, e);
        t->template_file = r == DAN_OK;
    } else if (dan_path_exists(path.p)) r = config_file(t, path.p, strcmp(name, "tokenizer_config.json") == 0, e);
    dan_str_release(&path);
    return r;
}

/* NAME.jinja of additional_chat_templates. */
static int more_template(struct dan_tokenizer *t, const char *dir, const char *name, struct dan_err *e)
{
    static const char end[] = ".jinja";
    size_t n = strlen(name), bytes;
    struct dan_str path = {0};
    char *text = NULL;
    if (n < sizeof end || strcmp(name + n + 1 - sizeof end, end)) return DAN_OK;
    dan_path_join(&path, dir, name);
    int r = path.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for the name of '%s'", name) : dan_read_file(path.p, &text, &bytes, e);
    if (!r && !t->more_templates) t->more_templates = json_object();
    json_t *v = r ? NULL : json_stringn(text, bytes);
    if (!r && !v) r = dan_fail(e, DAN_EFORMAT, "'%s' is no chat template: it is not UTF-8", path.p);
    else if (!r && json_object_setn_new(t->more_templates, name, n + 1 - sizeof end, v)) r = dan_fail(e, DAN_EFORMAT, "the name of '%s' is not UTF-8", path.p);
    dan_free(text);
    dan_str_release(&path);
    return r;
}

static int more_templates(struct dan_tokenizer *t, const char *dir, struct dan_err *e)
{
    struct dan_str path = {0};
    char **names;
    size_t n;
    dan_path_join(&path, dir, DAN_MORE_TEMPLATES);
    int r = path.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for the name of '%s'", DAN_MORE_TEMPLATES) : DAN_OK;
    if (!r && dan_path_is_dir(path.p) && !(r = dan_list_dir(path.p, &names, &n, e))) {
        for (size_t i = 0; i < n && !r; i++) r = more_template(t, path.p, names[i], e);
        dan_free_list(names, n);
    }
    dan_str_release(&path);
    return r;
}

int dan_tok_load_config(struct dan_tokenizer *t, const char *dir, struct dan_err *e)
{
    static const char *const names[] = {"tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"};
    for (size_t i = 0; i < 3; i++) {
        int r = config_at(t, dir, names[i], e);
        if (r) return r;
    }
    return more_templates(t, dir, e);
}
