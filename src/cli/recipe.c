/* Recipes: options from a JSON file, and the resolved options back as JSON to be saved with a run. */
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "cli/cmd.h"

struct target { const struct dan_opt *opt; void *base; uint8_t *origin; };

static bool find_target(struct dan_cli *cli, const struct dan_cmd *cmd, void *opts, const char *key, struct target *t)
{
    for (size_t i = 0; cmd->opts && cmd->opts[i].name; i++)
        if (!strcmp(cmd->opts[i].name, key)) {
            *t = (struct target){&cmd->opts[i], opts, &cli->origin[i]};
            return true;
        }
    for (size_t i = 0; dan_common_opts[i].name; i++)
        if (!strcmp(dan_common_opts[i].name, key) && strcmp(key, "recipe") && strcmp(key, "help")) {
            *t = (struct target){&dan_common_opts[i], cli, &cli->common_origin[i]};
            return true;
        }
    return false;
}

static int unknown_key(const struct dan_cmd *cmd, const char *file, const char *key, struct dan_err *e)
{
    const char *found = NULL;
    int best = 99;
    const struct dan_opt *const tables[] = {cmd->opts, dan_common_opts};
    for (size_t t = 0; t < 2; t++)
        for (const struct dan_opt *o = tables[t]; o && o->name; o++) {
            int d = dan_option_distance(key, o->name, o->alias);
            if (d < best) {
                best = d;
                found = o->name;
            }
        }
    if (found)
        return dan_fail(e, DAN_EUSAGE, "unknown key '%s' in recipe '%s'; did you mean '%s'? 'danlu %s --help' lists all options",
                        key, file, found, cmd->name);
    return dan_fail(e, DAN_EUSAGE, "unknown key '%s' in recipe '%s'; 'danlu %s --help' lists the options", key, file, cmd->name);
}

/* A JSON scalar as a user would write it on the command line; NULL for anything else. */
static const char *as_text(struct dan_arena *a, const json_t *v)
{
    if (json_is_string(v))
        return dan_arena_strdup(a, json_string_value(v));
    if (json_is_integer(v))
        return dan_arena_printf(a, "%lld", (long long)json_integer_value(v));
    if (json_is_real(v))
        return dan_arena_printf(a, "%.17g", json_real_value(v));
    if (json_is_boolean(v))
        return json_is_true(v) ? "true" : "false";
    return NULL;
}

static int set_one(struct dan_cli *cli, const struct target *t, const json_t *v, const char *file, struct dan_err *e)
{
    const char *text = as_text(cli->arena, v);
    const char *label = dan_arena_printf(cli->arena, "'%s' in recipe '%s'", t->opt->name, file);
    if (!text)
        return dan_fail(e, DAN_EUSAGE, "wrong value for '%s' in recipe '%s'; it takes a string, a number, true or false%s",
                        t->opt->name, file, strchr("SR", t->opt->type) ? ", or a list of them" : "");
    return dan_option_set(cli->arena, t->opt, t->base, text, label ? label : t->opt->name, e);
}

static int set_key(struct dan_cli *cli, const struct target *t, const json_t *v, const char *file, struct dan_err *e)
{
    bool list = strchr("SR", t->opt->type) != NULL;
    if (*t->origin == DAN_FROM_COMMAND)
        return DAN_OK;
    *t->origin = DAN_FROM_RECIPE;
    if (list)
        *(struct dan_strings *)((char *)t->base + t->opt->offset) = (struct dan_strings){0};
    if (!list || !json_is_array(v))
        return set_one(cli, t, v, file, e);
    for (size_t i = 0; i < json_array_size(v); i++) {
        int rc = set_one(cli, t, json_array_get(v, i), file, e);
        if (rc)
            return rc;
    }
    return DAN_OK;
}

static int apply_object(struct dan_cli *cli, const struct dan_cmd *cmd, void *opts, json_t *doc, const char *file, struct dan_err *e)
{
    const char *key;
    json_t *v;
    json_object_foreach(doc, key, v) {
        struct target t;
        int rc = DAN_OK;
        if (!strcmp(key, "command")) {
            if (!json_is_string(v) || strcmp(json_string_value(v), cli->path))
                return dan_fail(e, DAN_EUSAGE, "recipe '%s' is for '%s', not for '%s'; run 'danlu %s --recipe %s'", file,
                                json_is_string(v) ? json_string_value(v) : "?", cli->path,
                                json_is_string(v) ? json_string_value(v) : "COMMAND", file);
        } else if (!find_target(cli, cmd, opts, key, &t)) {
            return unknown_key(cmd, file, key, e);
        } else {
            rc = set_key(cli, &t, v, file, e);
        }
        if (rc)
            return rc;
    }
    return DAN_OK;
}

int dan_recipe_apply(struct dan_cli *cli, const struct dan_cmd *cmd, void *opts, const char *file, struct dan_err *e)
{
    char *bytes;
    size_t n;
    json_error_t at;
    int rc = dan_read_file(file, &bytes, &n, e);
    if (rc)
        return rc;
    json_t *doc = json_loadb(bytes, n, JSON_REJECT_DUPLICATES, &at);
    dan_free(bytes);
    if (!doc)
        return dan_fail(e, DAN_EFORMAT, "recipe '%s' is not JSON: line %d, column %d: %s; correct it there", file, at.line, at.column,
                        at.text);
    if (json_is_object(doc))
        rc = apply_object(cli, cmd, opts, doc, file, e);
    else
        rc = dan_fail(e, DAN_EFORMAT, "recipe '%s' is not an object; write {\"option\": value, ...}", file);
    json_decref(doc);
    return rc;
}

static json_t *list_to_json(const struct dan_strings *l)
{
    json_t *a = json_array();
    for (size_t i = 0; i < l->n; i++)
        json_array_append_new(a, json_string(l->v[i]));
    return a;
}

/* NULL: nothing to save (an unset string). */
static json_t *value_to_json(const struct dan_opt *o, const void *base)
{
    const void *field = (const char *)base + o->offset;
    const struct dan_strings *list = field;
    const char *text;
    switch (o->type) {
    case 'i': return json_integer(*(const int64_t *)field);
    case 'f': return json_real(*(const double *)field);
    case 'b': return json_boolean(*(const bool *)field);
    case 'S': case 'R': return list->n ? list_to_json(list) : NULL;
    default:
        text = *(const char *const *)field;
        return text ? json_string(text) : NULL;
    }
}

json_t *dan_options_to_json(const struct dan_cli *cli, const struct dan_cmd *cmd, const void *opts)
{
    json_t *doc = json_object();
    if (!doc)
        return NULL;
    json_object_set_new(doc, "command", json_string(cli->path ? cli->path : cmd->name));
    for (const struct dan_opt *o = cmd->opts; o && o->name; o++) {
        json_t *v = value_to_json(o, opts);
        if (v)
            json_object_set_new(doc, o->name, v);
    }
    json_object_set_new(doc, "seed", json_integer(cli->seed));
    return doc;
}

int dan_recipe_text(const struct dan_cli *cli, const void *opts, struct dan_str *out, struct dan_err *e)
{
    json_t *doc = dan_options_to_json(cli, cli->cmd, opts);
    /* 15 digits: any decimal of up to 15 digits comes back to the same double, and 3e-4 stays readable. */
    char *text = doc ? json_dumps(doc, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(doc);
    if (!text)
        return dan_fail(e, DAN_ENOMEM, "cannot write the recipe: out of memory or an option that is not UTF-8");
    dan_str_puts(out, text);
    dan_str_putc(out, '\n');
    free(text);                                /* jansson's own allocation */
    return out->failed ? dan_fail(e, DAN_ENOMEM, "out of memory while writing the recipe") : DAN_OK;
}
