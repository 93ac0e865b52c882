#include "io/st_config.h"
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "io/json.h"

/* The file as an object; a list is put under "list".  *out stays NULL when there is no such file. */
static int read_file(const char *dir, const char *name, json_t **out, struct dan_err *e)
{
    struct dan_str path = {0}, text = {0};
    char *bytes = NULL;
    size_t n = 0;
    dan_path_join(&path, dir, name);
    int rc = path.failed ? dan_fail(e, DAN_ENOMEM, "out of memory reading '%s'", name) : DAN_OK;
    if (!rc && !dan_path_exists(path.p)) {
        dan_str_release(&path);
        return DAN_OK;
    }
    if (!rc) rc = dan_read_file(path.p, &bytes, &n, e);
    if (!rc) {
        bool list = n && bytes[strspn(bytes, " \t\r\n")] == '[';
        dan_str_puts(&text, list ? "{\"list\":" : "");
        dan_str_append(&text, bytes, n);
        dan_str_puts(&text, list ? "}" : "");
        rc = text.failed ? dan_fail(e, DAN_ENOMEM, "out of memory reading '%s'", path.p)
                         : dan_json_parse(path.p, text.p, text.n, DAN_JSON_MAX_DEPTH, out, e);
    }
    dan_free(bytes);
    dan_str_release(&text);
    dan_str_release(&path);
    return rc;
}

static const struct { const char *key, *pooling; } modes[] = {
    {"pooling_mode_cls_token", "cls"}, {"pooling_mode_mean_tokens", "mean"}, {"pooling_mode_max_tokens", "max"},
    {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"}, {"pooling_mode_weightedmean_tokens", "weightedmean"},
    {"pooling_mode_lasttoken", "lasttoken"}};

static int set_pooling(struct dan_st_config *c, const char *file, const char *mode, struct dan_err *e)
{
    if (c->pooling[0])
        return dan_fail(e, DAN_EUNSUPPORTED, "'%s' joins two poolings, '%s' and '%.30s', which is not supported yet; choose one with "
                        "--pool", file, c->pooling, mode);
    if (strcmp(mode, "cls") && strcmp(mode, "mean") && strcmp(mode, "max"))
        return dan_fail(e, DAN_EUNSUPPORTED, "'pooling_mode' is '%.40s' in '%s'; danlu knows mean, cls and max: choose one with --pool",
                        mode, file);
    snprintf(c->pooling, sizeof c->pooling, "%s", mode);
    return DAN_OK;
}

static int read_pooling(const char *dir, const char *folder, struct dan_st_config *c, struct dan_err *e)
{
    json_t *j = NULL;
    char file[256];
    snprintf(file, sizeof file, "%.200s/config.json", folder);
    int rc = read_file(dir, file, &j, e);
    if (!rc && !j) rc = dan_fail(e, DAN_EFORMAT, "'%s/%s' is missing, which modules.json names; is the model complete?", dir, file);
    const json_t *mode = json_object_get(j, "pooling_mode");
    if (!rc && json_is_string(mode)) rc = set_pooling(c, file, json_string_value(mode), e);
    if (!rc && json_is_array(mode))
        rc = dan_fail(e, DAN_EUNSUPPORTED, "'pooling_mode' in '%s' is a list, which is not supported yet; choose one with --pool", file);
    for (size_t i = 0; i < sizeof modes / sizeof *modes && !rc && !mode; i++)
        if (json_is_true(json_object_get(j, modes[i].key))) rc = set_pooling(c, file, modes[i].pooling, e);
    if (!rc && !c->pooling[0]) rc = set_pooling(c, file, "mean", e);
    json_decref(j);
    return rc;
}

/* A folder of the model itself: no way out of it. */
static bool plain_name(const char *s) { return s[0] && s[0] != '/' && !strstr(s, ".."); }

static int read_module(const char *dir, const json_t *module, struct dan_st_config *c, struct dan_err *e)
{
    const char *type = json_string_value(json_object_get(module, "type")), *path = json_string_value(json_object_get(module, "path"));
    const char *name = type ? strrchr(type, '.') : NULL;
    name = name ? name + 1 : type ? type : "";
    if (strcmp(name, "Transformer") == 0) return DAN_OK;
    if (strcmp(name, "Pooling") == 0 && path && plain_name(path)) return read_pooling(dir, path, c, e);
    if (strcmp(name, "Normalize") == 0) {
        c->normalize = true;
        return DAN_OK;
    }
    return dan_fail(e, DAN_EUNSUPPORTED, "the module '%.80s' in the modules.json of '%s' is not supported; danlu knows Transformer, "
                    "Pooling and Normalize", type ? type : "?", dir);
}

int dan_st_config_load(const char *dir, struct dan_st_config *out, struct dan_err *e)
{
    json_t *modules = NULL, *limits = NULL, *one;
    size_t i;
    *out = (struct dan_st_config){0};
    int rc = read_file(dir, "modules.json", &modules, e);
    json_array_foreach(json_object_get(modules, "list"), i, one) {
        if (rc) break;
        rc = read_module(dir, one, out, e);
    }
    if (!rc) rc = read_file(dir, "sentence_bert_config.json", &limits, e);
    if (!rc) dan_json_int(json_object_get(limits, "max_seq_length"), &out->max_tokens);
    if (out->max_tokens < 0) out->max_tokens = 0;
    json_decref(modules);
    json_decref(limits);
    return rc;
}
