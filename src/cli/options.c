/* argv -> options struct.  Precedence: command line, then recipe, then the table's defaults. */
#include <string.h>
#include "base/sys.h"
#include "cli/cmd.h"

const struct dan_opt dan_common_opts[] = {
    {.name = "help", .letter = 'h', .type = 'b', .offset = offsetof(struct dan_cli, help), .help = "show this and exit"},
    {.name = "json", .type = 'b', .offset = offsetof(struct dan_cli, json), .help = "result as JSON on stdout, for programs"},
    {.name = "quiet", .letter = 'q', .type = 'b', .offset = offsetof(struct dan_cli, quiet),
     .help = "no progress and no notes, only warnings and errors"},
    {.name = "seed", .type = 'i', .offset = offsetof(struct dan_cli, seed), .dflt = "1", .meta = "N",
     .min = 0, .max = INFINITY, .help = "of all random numbers: same seed, same result"},
    {.name = "threads", .type = 'i', .offset = offsetof(struct dan_cli, threads), .dflt = "0", .meta = "N",
     .min = 0, .max = 4096, .help = "0 takes every core; results do not depend on it", .alias = "num-threads|jobs"},
    {.name = "isa", .type = 'e', .offset = offsetof(struct dan_cli, isa), .dflt = "all", .choice_at = dan_isa_at, .meta = "ISA",
     .help = "use at most these instructions: avx512 leaves out AMX tiles", .alias = "cpu"},
    {.name = "recipe", .type = 's', .offset = offsetof(struct dan_cli, recipe), .meta = "FILE.json",
     .help = "take options from a file; the command line wins", .alias = "config"},
    {.name = NULL},
};

struct parse {
    struct dan_cli *cli;
    const struct dan_cmd *cmd;
    void *opts;
    struct dan_err *e;
    const struct dan_opt *list;                /* an S option that takes the values that follow */
    int n_positional;
    const char *first;                         /* of the positionals */
};

/* Where an option lives: its struct and its origin. */
struct slot { const struct dan_opt *opt; void *base; uint8_t *origin; };

static bool named_so(const struct dan_opt *o, const char *name, size_t n)
{
    if (strlen(o->name) == n && !memcmp(o->name, name, n))
        return true;
    for (const char *p = o->alias; p && *p; p += strcspn(p, "|"), p += *p == '|')
        if (strcspn(p, "|") == n && !memcmp(p, name, n))
            return true;
    return false;
}

static bool positional(const struct dan_opt *o) { return strchr("pPR", o->type) != NULL; }

static bool slot_of(const struct parse *p, const struct dan_opt *opt, struct slot *s)
{
    const struct dan_opt *own = p->cmd->opts;
    for (size_t i = 0; own && own[i].name; i++)
        if (opt == &own[i]) {
            *s = (struct slot){opt, p->opts, &p->cli->origin[i]};
            return true;
        }
    *s = (struct slot){opt, p->cli, &p->cli->common_origin[opt - dan_common_opts]};
    return true;
}

/* By name (n bytes) or, with n = 1 and a letter, by letter. */
static bool find_in(const struct dan_opt *o, const char *name, size_t n, bool letter, const struct dan_opt **found)
{
    for (; o && o->name; o++)
        if (!positional(o) && (letter ? o->letter && o->letter == *name : named_so(o, name, n))) {
            *found = o;
            return true;
        }
    return false;
}

static bool find_slot(const struct parse *p, const char *name, size_t n, bool letter, struct slot *s)
{
    const struct dan_opt *o;
    return (find_in(p->cmd->opts, name, n, letter, &o) || find_in(dan_common_opts, name, n, letter, &o)) && slot_of(p, o, s);
}

/* "lernrate" in "learning-rate": the letters in order, and not too many left over. */
static bool abbreviates(const char *given, const char *name)
{
    size_t n = strlen(given), rest = strlen(name);
    for (; *given && *name; name++)
        given += *given == *name;
    return !*given && n >= 4 && n * 2 >= rest;
}

static int name_distance(const char *given, const char *name)
{
    int d = dan_str_distance(given, name);
    if (dan_str_starts(name, given) && strlen(given) >= 3)
        return 1;
    if (d > 2 && abbreviates(given, name))
        return 2;
    return d < (int)strlen(name) ? d : 99;     /* "epochs" has nothing of "eps" but what is left when all else goes */
}

int dan_option_distance(const char *given, const char *name, const char *alias)
{
    int best = name_distance(given, name), limit = strlen(given) < 4 ? 1 : (int)strlen(given) / 3 + 1;
    for (const char *p = alias; p && *p; p += strcspn(p, "|"), p += *p == '|') {
        char one[64];
        size_t n = strcspn(p, "|");
        if (n >= sizeof one)
            continue;
        memcpy(one, p, n);
        one[n] = 0;
        int d = name_distance(given, one);
        best = d < best ? d : best;
    }
    return best <= limit ? best : 99;
}

static void nearest_in(const struct dan_opt *o, const char *given, int *best, const struct dan_opt **found)
{
    for (; o && o->name; o++) {
        int d = positional(o) ? 99 : dan_option_distance(given, o->name, o->alias);
        if (d < *best) {
            *best = d;
            *found = o;
        }
    }
}

static const struct dan_opt *nearest(const struct dan_cmd *cmd, const char *name, size_t n)
{
    char given[64] = "";
    n = n < sizeof given ? n : sizeof given - 1;
    memcpy(given, name, n);
    given[n] = 0;
    const struct dan_opt *found = NULL;
    int best = 99;
    nearest_in(cmd->opts, given, &best, &found);
    nearest_in(dan_common_opts, given, &best, &found);
    return found;
}

const struct dan_opt *dan_option_find(const struct dan_cmd *cmd, const char *name, size_t n, const struct dan_opt **near)
{
    const struct dan_opt *o = NULL;
    *near = NULL;
    if (!find_in(cmd->opts, name, n, false, &o) && !find_in(dan_common_opts, name, n, false, &o))
        *near = nearest(cmd, name, n);
    return o;
}

static int unknown_option(const struct parse *p, const char *arg, size_t name_len)
{
    const char *name = arg + strspn(arg, "-");
    const struct dan_opt *found = nearest(p->cmd, name, name_len);
    int shown = (int)(name - arg + (ptrdiff_t)name_len);
    if (found)
        return dan_fail(p->e, DAN_EUSAGE, "unknown option '%.*s'; did you mean '--%s'? '--help' lists all options",
                        shown, arg, found->name);
    return dan_fail(p->e, DAN_EUSAGE, "unknown option '%.*s'; 'danlu help %s' lists the options", shown, arg, p->cli->path);
}

static int set_slot(const struct parse *p, const struct slot *s, const char *text)
{
    char label[96];
    const char *meta = s->opt->meta ? s->opt->meta : s->opt->name;
    snprintf(label, sizeof label, positional(s->opt) ? "%s" : "'--%s'", positional(s->opt) ? meta : s->opt->name);
    if (*s->origin != DAN_FROM_COMMAND && strchr("SR", s->opt->type))
        *(struct dan_strings *)((char *)s->base + s->opt->offset) = (struct dan_strings){0};   /* replaces the recipe's list */
    *s->origin = DAN_FROM_COMMAND;
    return dan_option_set(p->cli->arena, s->opt, s->base, text, label, p->e);
}

static bool is_option(const char *arg)
{
    return arg[0] == '-' && arg[1] && !strchr(".0123456789", arg[1]);   /* "-" is stdin, "-1" a number */
}

/* `eq` is the text after '=', NULL when there is none. */
static int take_value(struct parse *p, const struct slot *s, const char *eq, int argc, char **argv, int *i)
{
    if (eq || s->opt->bare)
        return set_slot(p, s, eq ? eq : s->opt->bare);
    if (*i + 1 >= argc || is_option(argv[*i + 1])) {
        const char *meta = s->opt->meta ? s->opt->meta : "VALUE", *name = s->opt->name;
        if (*i + 1 >= argc)
            return dan_fail(p->e, DAN_EUSAGE, "missing value after '--%s'; write '--%s %s'", name, name, meta);
        return dan_fail(p->e, DAN_EUSAGE, "missing value after '--%s', before '%s'; a value that begins with a dash is written '--%s=%s'",
                        name, argv[*i + 1], name, argv[*i + 1]);
    }
    if (s->opt->type == 'S')
        p->list = s->opt;                      /* and what follows, up to the next option */
    return set_slot(p, s, argv[++*i]);
}

static int take_long(struct parse *p, int argc, char **argv, int *i)
{
    const char *name = argv[*i] + 2, *eq = strchr(name, '=');
    size_t n = eq ? (size_t)(eq - name) : strlen(name);
    struct slot s;
    eq = eq ? eq + 1 : NULL;
    if (find_slot(p, name, n, false, &s)) {
        if (s.opt->type == 'b')
            return set_slot(p, &s, eq ? eq : "true");
        return take_value(p, &s, eq, argc, argv, i);
    }
    if (!eq && dan_str_starts(name, "no-") && find_slot(p, name + 3, n - 3, false, &s) && s.opt->type == 'b')
        return set_slot(p, &s, "false");
    return unknown_option(p, argv[*i], n);
}

/* -q, -o FILE, -oFILE */
static int take_letter(struct parse *p, int argc, char **argv, int *i)
{
    const char *arg = argv[*i];
    struct slot s;
    if (!find_slot(p, arg + 1, 1, true, &s))
        return unknown_option(p, arg, strlen(arg + 1));
    if (s.opt->type != 'b')
        return take_value(p, &s, arg[2] ? arg + 2 + (arg[2] == '=') : NULL, argc, argv, i);
    if (arg[2])
        return unknown_option(p, arg, strlen(arg + 1));
    return set_slot(p, &s, "true");
}

static const struct dan_opt *nth_positional(const struct dan_cmd *cmd, int i)
{
    for (const struct dan_opt *o = cmd->opts; o && o->name; o++)
        if (positional(o) && (o->type == 'R' || i-- == 0))
            return o;
    return NULL;
}

/* "finetune marge ADAPTER": a command that was meant, not a model of that name. */
static bool resembles(const struct dan_cmd *const *cmds, const char *name)
{
    for (; *cmds; cmds++)
        if (dan_option_distance(name, (*cmds)->name, NULL) < 99) return true;
    return false;
}

static int unexpected(const struct parse *p, const char *arg)
{
    if (dan_cmd_find(p->cmd->sub, arg))
        return dan_fail(p->e, DAN_EUSAGE, "command '%s' stands after an option; write 'danlu %s %s' first, then options", arg,
                        p->cli->path, arg);
    if (p->cmd->sub && (p->n_positional == 0 || resembles(p->cmd->sub, p->first)))
        return dan_cmd_unknown(p->cmd->sub, p->cli->path, p->n_positional ? p->first : arg, p->e);
    if (p->n_positional == 0)
        return dan_fail(p->e, DAN_EUSAGE, "unexpected argument '%s'; 'danlu %s' takes only options, see '--help'", arg, p->cli->path);
    return dan_fail(p->e, DAN_EUSAGE, "one argument too many: '%s'; quote arguments that contain blanks, or see '--help'", arg);
}

static int take_positional(struct parse *p, const char *arg)
{
    struct slot s;
    const struct dan_opt *o = p->list ? p->list : nth_positional(p->cmd, p->n_positional);
    if (!o || !slot_of(p, o, &s))
        return unexpected(p, arg);
    if (!p->list && p->n_positional++ == 0)
        p->first = arg;
    return set_slot(p, &s, arg);
}

static int take_all(struct parse *p, int argc, char **argv)
{
    int rc = DAN_OK;
    for (int i = 0; i < argc && !rc; i++) {
        if (!strcmp(argv[i], "--")) {
            p->list = NULL;
            while (++i < argc && !rc)
                rc = take_positional(p, argv[i]);
        } else if (is_option(argv[i])) {
            p->list = NULL;
            rc = argv[i][1] == '-' ? take_long(p, argc, argv, &i) : take_letter(p, argc, argv, &i);
        } else {
            rc = take_positional(p, argv[i]);
        }
    }
    return rc;
}

/* Defaults are written in the table as a user would write them; a default that does not parse is a bug. */
static int set_default(struct dan_arena *a, const struct dan_opt *o, void *base)
{
    struct dan_err e = {0};
    int rc = DAN_OK;
    if (o->type == 'S' || o->type == 'R') {
        for (const char *p = o->dflt; *p && !rc; p += strspn(p, " ")) {
            size_t n = strcspn(p, " ");
            rc = dan_option_set(a, o, base, dan_arena_printf(a, "%.*s", (int)n, p), "default", &e);
            p += n;
        }
    } else {
        rc = dan_option_set(a, o, base, o->dflt, "default", &e);
    }
    DAN_ASSERT(rc == DAN_OK || rc == DAN_ENOMEM);
    return rc;
}

static int set_defaults(struct dan_arena *a, const struct dan_opt *o, void *base)
{
    int rc = DAN_OK;
    for (; o && o->name && !rc; o++)
        if (o->dflt)
            rc = set_default(a, o, base);
    return rc;
}

/* --resume: what else is needed is in the run's own recipe. */
static bool goes_on(const struct parse *p)
{
    for (const struct dan_opt *o = p->cmd->opts; o && o->name; o++)
        if (!strcmp(o->name, "resume") && o->type == 'b') return *(const bool *)((const char *)p->opts + o->offset);
    return false;
}

static int check_required(const struct parse *p)
{
    if (goes_on(p)) return DAN_OK;
    for (const struct dan_opt *o = p->cmd->opts; o && o->name; o++) {
        const void *field = (const char *)p->opts + o->offset;
        bool list = strchr("SR", o->type) != NULL, given = p->cli->origin[o - p->cmd->opts] != DAN_FROM_DEFAULT || o->dflt;
        if (!(o->type == 'p' || o->required) || (list ? ((const struct dan_strings *)field)->n > 0 : given))
            continue;
        const char *meta = o->meta ? o->meta : o->name, *example = p->cmd->example ? p->cmd->example : "see '--help'";
        int line = (int)strcspn(example, "\n");
        if (positional(o))
            return dan_fail(p->e, DAN_EUSAGE, "missing argument %s (%s); example: %.*s", meta, o->help, line, example);
        return dan_fail(p->e, DAN_EUSAGE, "missing option '--%s %s' (%s); example: %.*s", o->name, o->meta ? o->meta : "VALUE", o->help, line, example);
    }
    return DAN_OK;
}

/* One pass: defaults, recipe when its name is known already, command line. */
static int one_pass(struct parse *p, const char *recipe, int argc, char **argv)
{
    if (p->cmd->opts_bytes)
        memset(p->opts, 0, p->cmd->opts_bytes);
    memset(p->cli->origin, DAN_FROM_DEFAULT, sizeof p->cli->origin);
    memset(p->cli->common_origin, DAN_FROM_DEFAULT, sizeof p->cli->common_origin);
    p->n_positional = 0;
    p->list = NULL;
    if (set_defaults(p->cli->arena, p->cmd->opts, p->opts) || set_defaults(p->cli->arena, dan_common_opts, p->cli))
        return dan_fail(p->e, DAN_ENOMEM, "out of memory while reading options; close other programs and try again");
    if (recipe) {
        int rc = dan_recipe_apply(p->cli, p->cmd, p->opts, recipe, p->e);
        if (rc)
            return rc;
    }
    return take_all(p, argc, argv);
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--"); i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            return true;
    return false;
}

int dan_options_parse(struct dan_cli *cli, const struct dan_cmd *cmd, int argc, char **argv, void *opts, struct dan_err *e)
{
    struct parse p = {.cli = cli, .cmd = cmd, .opts = opts, .e = e};
    size_t n = 0;
    while (cmd->opts && cmd->opts[n].name)
        n++;
    DAN_ASSERT(n <= DAN_MAX_OPTS);
    cli->cmd = cmd;
    if (!cli->path)
        cli->path = cmd->name;
    if (wants_help(argc, argv)) {
        cli->help = true;
        return DAN_OK;
    }
    int rc = one_pass(&p, NULL, argc, argv);
    if (!rc && cli->recipe)
        rc = one_pass(&p, cli->recipe, argc, argv);
    return rc ? rc : check_required(&p);
}

bool dan_given(const struct dan_cli *cli, const char *option)
{
    const struct dan_opt *own = cli->cmd->opts;
    for (size_t i = 0; own && own[i].name; i++)
        if (!strcmp(own[i].name, option))
            return cli->origin[i] != DAN_FROM_DEFAULT;
    for (size_t i = 0; dan_common_opts[i].name; i++)
        if (!strcmp(dan_common_opts[i].name, option))
            return cli->common_origin[i] != DAN_FROM_DEFAULT;
    dan_bug(__FILE__, __LINE__, option);       /* no such option in this command's table */
}

const struct dan_cmd *dan_cmd_find(const struct dan_cmd *const *cmds, const char *name)
{
    for (; cmds && *cmds; cmds++)
        if (!strcmp((*cmds)->name, name))
            return *cmds;
    return NULL;
}

int dan_cmd_unknown(const struct dan_cmd *const *cmds, const char *parent, const char *name, struct dan_err *e)
{
    const char *found = NULL;
    int best = 99;
    for (; cmds && *cmds; cmds++) {
        int d = dan_option_distance(name, (*cmds)->name, NULL);
        if (d < best) {
            best = d;
            found = (*cmds)->name;
        }
    }
    const char *gap = parent ? " " : "";
    parent = parent ? parent : "";
    if (found)
        return dan_fail(e, DAN_EUSAGE, "unknown command '%s%s%s'; did you mean '%s%s%s'? 'danlu help' lists all commands",
                        parent, gap, name, parent, gap, found);
    return dan_fail(e, DAN_EUSAGE, "unknown command '%s%s%s'; 'danlu help%s%s' lists the commands", parent, gap, name, gap, parent);
}

/* Walks down into sub-commands; *skip becomes the number of words used. */
static int find_command(struct dan_cli *cli, int argc, char **argv, int *skip, struct dan_err *e)
{
    if (argc < 2)
        return dan_fail(e, DAN_EUSAGE, "no command given; 'danlu help' lists all commands");
    if (is_option(argv[1]))
        return dan_fail(e, DAN_EUSAGE, "option '%s' stands before a command; write 'danlu COMMAND %s'", argv[1], argv[1]);
    cli->cmd = dan_cmd_find(cli->cmds, argv[1]);
    cli->path = argv[1];
    if (!cli->cmd)
        return dan_cmd_unknown(cli->cmds, NULL, argv[1], e);
    int i = 2;
    for (const struct dan_cmd *sub; i < argc && (sub = dan_cmd_find(cli->cmd->sub, argv[i])); i++) {
        cli->cmd = sub;
        cli->path = dan_arena_printf(cli->arena, "%s %s", cli->path, argv[i]);
        if (!cli->path)
            return dan_fail(e, DAN_ENOMEM, "out of memory while reading options; close other programs and try again");
    }
    *skip = i;
    return DAN_OK;
}

static int missing_sub(const struct dan_cli *cli, struct dan_err *e)
{
    struct dan_str names = {0};
    for (size_t i = 0; cli->cmd->sub[i]; i++)
        dan_str_printf(&names, "%s%s", i ? ", " : "", cli->cmd->sub[i]->name);
    dan_fail(e, DAN_EUSAGE, "'danlu %s' needs one of: %s", cli->path, dan_str_c(&names));
    dan_str_release(&names);
    return DAN_EUSAGE;
}

int dan_cli_parse(struct dan_cli *cli, int argc, char **argv, const void **opts, struct dan_err *e)
{
    int skip = 0, rc = find_command(cli, argc, argv, &skip, e);
    if (rc)
        return rc;
    if (!cli->cmd->run && !wants_help(argc - skip, argv + skip)) {
        if (skip < argc && !is_option(argv[skip]))
            return dan_cmd_unknown(cli->cmd->sub, cli->path, argv[skip], e);
        return missing_sub(cli, e);
    }
    void *o = dan_arena_alloc(cli->arena, cli->cmd->opts_bytes ? cli->cmd->opts_bytes : 1);
    if (!o)
        return dan_fail(e, DAN_ENOMEM, "out of memory while reading options; close other programs and try again");
    *opts = o;
    return dan_options_parse(cli, cli->cmd, argc - skip, argv + skip, o, e);
}
