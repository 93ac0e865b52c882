/* danlu align --set STAGE.OPTION=VALUE: what can be known to be wrong is said before hours of work. */
#include <string.h>
#include "cli/align_stages.h"

#define AT(f) offsetof(struct align_opts, f)
static const struct align_kind kinds[] = {
    {.name = "sft", .command = "finetune", .data = AT(sft), .give = "--sft CHATS"},
    {.name = "reward", .command = "reward", .methods = "ppo|grpo|rloo|dr_grpo|best", .data = AT(pairs), .give = "--pairs PAIRS"},
    {.name = "ppo", .command = "ppo", .methods = "ppo"},
    {.name = "grpo", .command = "grpo", .methods = "grpo|rloo|dr_grpo"},
    {.name = "best", .command = "best", .methods = "best"},
    {.name = "tune", .command = "finetune", .methods = "best"},
    {.name = "dpo", .command = "dpo", .methods = "dpo"},
    {.name = NULL}};

const struct align_kind *align_kind(const char *name, size_t n)
{
    for (const struct align_kind *k = kinds; k->name; k++)
        if (strlen(k->name) == n && !memcmp(k->name, name, n)) return k;
    return NULL;
}

static bool among(const char *list, const char *name)
{
    for (size_t n = strlen(name); *list; list += strcspn(list, "|"), list += *list == '|')
        if (strcspn(list, "|") == n && !memcmp(list, name, n)) return true;
    return false;
}

static int check_runs(const struct align_opts *o, const struct align_kind *k, const char *set, struct dan_err *e)
{
    const char *method = align_method(o);
    if (k->methods && !among(k->methods, method))
        return dan_fail(e, DAN_EUSAGE, "--set '%s': there is no stage %s with --method %s; add --method %.*s", set, k->name, method, (int)strcspn(k->methods, "|"), k->methods);
    if (k->data && !((const struct dan_strings *)(const void *)((const char *)o + k->data))->n)
        return dan_fail(e, DAN_EUSAGE, "--set '%s': there is no stage %s without its data; add %s", set, k->name, k->give);
    return DAN_OK;
}

/* The options that align gives, and relies on. */
static bool is_own(const char *option)
{
    static const char *const own[] = {"help", "json", "out", "resume", NULL};
    for (int i = 0; own[i]; i++)
        if (!strcmp(own[i], option)) return true;
    return false;
}

/* Into a struct that nobody reads: of the command, or of all commands. */
static int check_value(const struct align *a, const struct dan_cmd *cmd, const struct dan_opt *opt, const char *set, const char *value, struct dan_err *e)
{
    struct dan_arena *arena = a->cli->arena;
    size_t bytes = cmd->opts_bytes > sizeof(struct dan_cli) ? cmd->opts_bytes : sizeof(struct dan_cli);
    void *nowhere = dan_arena_alloc(arena, bytes);
    const char *label = dan_arena_printf(arena, "--set '%s'", set);
    if (!nowhere || !label) return dan_fail(e, DAN_ENOMEM, "not enough memory to start");
    memset(nowhere, 0, bytes);
    return dan_option_set(arena, opt, nowhere, value, label, e);
}

/* --no-FLAG, as from the shell. */
static const struct dan_opt *find_flag(const struct dan_cmd *cmd, const char *name, size_t n)
{
    const struct dan_opt *near, *opt = n > 3 && !memcmp(name, "no-", 3) ? dan_option_find(cmd, name + 3, n - 3, &near) : NULL;
    return opt && opt->type == 'b' ? opt : NULL;
}

static int check_option(const struct align *a, const struct align_kind *k, const char *set, struct dan_err *e)
{
    const struct dan_cmd *cmd = dan_cmd_find(a->cli->cmds, k->command);
    const char *name = set + strlen(k->name) + 1, *eq = strchr(name, '=');
    size_t n = eq ? (size_t)(eq - name) : strlen(name);
    const struct dan_opt *near = NULL, *opt = cmd ? dan_option_find(cmd, name, n, &near) : NULL;
    if (!opt && cmd && !eq && find_flag(cmd, name, n)) return DAN_OK;
    if (!opt && near) return dan_fail(e, DAN_EUSAGE, "--set '%s': unknown option '%.*s' of danlu %s; did you mean '%s.%s'?", set, (int)n, name, k->command, k->name, near->name);
    if (!opt) return dan_fail(e, DAN_EUSAGE, "--set '%s': unknown option '%.*s'; 'danlu help %s' lists the options", set, (int)n, name, k->command);
    if (is_own(opt->name)) return dan_fail(e, DAN_EUSAGE, "--set '%s': danlu align gives --%s itself; leave it out", set, opt->name);
    const char *value = eq ? eq + 1 : opt->type == 'b' ? "true" : opt->bare;
    if (!value) return dan_fail(e, DAN_EUSAGE, "--set '%s' lacks a value; write %s.%s=%s", set, k->name, opt->name, opt->meta ? opt->meta : "VALUE");
    return check_value(a, cmd, opt, set, value, e);
}

int align_check_set(const struct align *a, struct dan_err *e)
{
    int rc = DAN_OK;
    for (size_t i = 0; i < a->o->set.n && !rc; i++) {
        const char *s = a->o->set.v[i];
        size_t n = strcspn(s, ".=");
        const struct align_kind *k = s[n] == '.' && s[n + 1] ? align_kind(s, n) : NULL;
        if (!k)
            return dan_fail(e, DAN_EUSAGE, "--set '%s' is no STAGE.OPTION=VALUE; stages are sft, reward, ppo, grpo (that of rloo and dr_grpo too), best (and tune, which learns from its "
                                           "answers), dpo", s);
        rc = check_runs(a->o, k, s, e);
        if (!rc) rc = check_option(a, k, s, e);
    }
    return rc;
}
