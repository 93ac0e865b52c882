/* See adapter_options.h. */
#include "cli/adapter_options.h"
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "model/lora_files.h"
#include "text/chat_template.h"

int adapter_spec(struct dan_arena *a, const char *spec, const char **path, double *weight, struct dan_err *e)
{
    const char *colon = strrchr(spec, ':');
    *path = spec;
    *weight = 1;
    if (!colon || colon == spec || dan_path_exists(spec) || !dan_parse_num(colon + 1, weight)) return DAN_OK;
    *path = dan_arena_printf(a, "%.*s", (int)(colon - spec), spec);
    return *path ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for a path");
}

static size_t last_part(const char *path, const char **from)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    *from = path + n;
    while (*from > path && (*from)[-1] != '/') (*from)--;
    return n - (size_t)(*from - path);
}

void adapter_name(const struct dan_lm *lm, const char *path, char out[sizeof((struct dan_adapter *)0)->name])
{
    enum { MOST = 27 };                        /* leaves room for a number */
    const char *from;
    size_t n = last_part(path, &from);
    if (n > 5 && !strncmp(from + n - 5, ".gguf", 5)) n -= 5;
    if (n > MOST) n = MOST;
    for (size_t i = 0; i < n; i++) out[i] = strchr("@+.:/ ", from[i]) ? '_' : from[i];
    out[n] = 0;
    for (int k = 2; k < 1000 && (!n || dan_lora_find((struct dan_lm *)(uintptr_t)lm, out)); k++) {
        snprintf(out + n, 5, "-%u", (unsigned)k % 1000u);
        if (!n) break;
    }
}

/* An adapter that learned over a quantised base is another function over this one. */
static void warn_base(struct dan_cli *cli, const struct lm_files *m, const char *path)
{
    struct dan_str format = {0};
    if (!dan_path_is_dir(path) || dan_lora_base_format(path, &format, NULL) || !format.n) {
        dan_str_release(&format);
        return;
    }
    bool same = false;
    for (size_t i = 0; i < dan_store_count(m->lm.store); i++) same |= !strcmp(dan_store_at(m->lm.store, i)->dtype->name, dan_str_c(&format));
    if (!same)
        dan_warn(&cli->ui, "'%s' learned over a base in %s, and '%s' is none: what it computes here is near to what was trained, not the same", path, dan_str_c(&format), m->dir);
    dan_str_release(&format);
}

int adapters_load(struct dan_cli *cli, struct lm_files *m, const struct dan_strings *specs, struct dan_err *e)
{
    int rc = DAN_OK;
    for (size_t i = 0; i < specs->n && !rc; i++) {
        const char *path;
        double weight;
        char name[sizeof((struct dan_adapter *)0)->name];
        rc = adapter_spec(cli->arena, specs->v[i], &path, &weight, e);
        if (rc) break;
        if (!dan_path_exists(path)) return dan_fail(e, DAN_EIO, "there is no adapter '%s'; give a folder with adapter_config.json, or a .gguf", path);
        adapter_name(&m->lm, path, name);
        rc = dan_lora_load(&m->lm, path, name, e);
        if (rc) break;
        dan_lora_find(&m->lm, name)->scale *= weight;
        warn_base(cli, m, path);
    }
    return rc ? rc : dan_lora_refresh(&m->lm, NULL, m->pool, e);
}

int adapters_template(struct dan_cli *cli, struct lm_files *m, const struct dan_strings *specs, struct dan_err *e)
{
    int rc = DAN_OK;
    bool alone = specs->n == 1 && m->lm.n_adapters == 1;       /* MODEL may be an adapter, too */
    for (size_t i = 0; i < specs->n && !rc; i++) {
        const char *path;
        double weight;
        struct dan_str file = {0};
        rc = adapter_spec(cli->arena, specs->v[i], &path, &weight, e);
        if (!rc) rc = dan_chat_template_find(path, &file, e);
        if (!rc && file.n && alone) rc = dan_chat_template_take(m->tok, path, &m->own_template, e);
        else if (!rc && file.n) dan_warn(&cli->ui, "'%s' learned with a chat template of its own, which is not used beside other adapters: --template %s does", path, file.p);
        dan_str_release(&file);
    }
    return rc;
}

static void list_names(const struct dan_lm *lm, struct dan_str *say)
{
    dan_str_puts(say, lm->n_adapters ? "adapters: " : "no adapters; --adapter DIR opens some");
    for (int k = 0; k < lm->n_adapters; k++) dan_str_printf(say, "%s%s", k ? ", " : "", lm->adapter[k].name);
}

/* "NAME" or "NAME:W" of n letters. */
static int switch_one(struct dan_session *s, const struct dan_lm *lm, const char *word, size_t n, bool apply, struct dan_err *e)
{
    char text[64];
    double weight = 1;
    snprintf(text, sizeof text, "%.*s", (int)(n < sizeof text ? n : sizeof text - 1), word);
    char *colon = strchr(text, ':');
    if (colon && !dan_parse_num(colon + 1, &weight)) return dan_fail(e, DAN_EINVAL, "'%s' has no weight behind the colon: write NAME:0.5", text);
    if (colon) *colon = 0;
    if (!dan_lora_find((struct dan_lm *)(uintptr_t)lm, text)) {
        struct dan_str names = {0};
        list_names(lm, &names);
        dan_fail(e, DAN_EINVAL, "there is no adapter '%s'; %s", text, dan_str_c(&names));
        dan_str_release(&names);
        return DAN_EINVAL;
    }
    return apply ? dan_session_adapter(s, 0, text, weight, e) : DAN_OK;
}

int adapters_switch(struct dan_session *s, const struct dan_lm *lm, const char *words, struct dan_str *say, struct dan_err *e)
{
    bool off = !strcmp(words, "off");
    int rc = DAN_OK;
    if (!*words || !lm->n_adapters) {
        list_names(lm, say);
        return DAN_OK;
    }
    for (int apply = 0; apply < 2 && !rc; apply++) {             /* all names are known before anything changes */
        if (apply) rc = dan_session_adapter(s, 0, NULL, 0, e);
        for (const char *p = words; *p && !off && !rc; p += strspn(p, " ")) {
            size_t n = strcspn(p, " ");
            rc = switch_one(s, lm, p, n, apply, e);
            p += n;
        }
    }
    dan_str_printf(say, off ? "adapters are off" : "adapter %s", words);
    return rc;
}
