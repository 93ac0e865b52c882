/* danlu completion bash|zsh|fish: scripts made from the option tables. */
#include <string.h>
#include "cli/cmd.h"

struct completion_opts { const char *shell; };

static const struct dan_opt options[] = {
    {.name = "shell", .type = 'p', .offset = offsetof(struct completion_opts, shell), .meta = "SHELL", .help = "bash, zsh or fish"},
    {.name = NULL},
};

static bool named(const struct dan_opt *o) { return !strchr("pPR", o->type); }

static void put_choices(const struct dan_opt *o, struct dan_str *out)
{
    char buf[64];
    const char *c;
    for (size_t i = 0; (c = dan_choice_at(o, i, buf, sizeof buf)); i++)
        dan_str_printf(out, "%s%s", i ? " " : "", c);
}

/* Inside '...' of a shell script. */
static void put_quoted(const char *text, struct dan_str *out)
{
    for (; *text; text++)
        dan_str_puts(out, *text == '\'' ? "'\\''" : (char[]){*text, 0});
}

static void put_words(const struct dan_cmd *c, struct dan_str *out)
{
    const struct dan_opt *const tables[] = {c->opts, dan_common_opts};
    for (size_t i = 0; c->sub && c->sub[i]; i++)
        dan_str_printf(out, "%s ", c->sub[i]->name);
    for (size_t t = 0; t < 2; t++)
        for (const struct dan_opt *o = tables[t]; o && o->name; o++)
            if (named(o))
                dan_str_printf(out, "--%s ", o->name);
}

/* case arms "path) words=...;;" for a command and those below it */
static void bash_words(const struct dan_cmd *c, const char *path, struct dan_str *out)
{
    dan_str_printf(out, "    '%s') words='", path);
    put_words(c, out);
    dan_str_puts(out, "';;\n");
    for (size_t i = 0; c->sub && c->sub[i]; i++) {
        struct dan_str deeper = {0};
        dan_str_printf(&deeper, "%s %s", path, c->sub[i]->name);
        bash_words(c->sub[i], dan_str_c(&deeper), out);
        dan_str_release(&deeper);
    }
}

static void bash_choices(const struct dan_cmd *c, const char *path, struct dan_str *out)
{
    for (const struct dan_opt *o = c->opts; o && o->name; o++)
        if (o->type == 'e' && named(o)) {
            dan_str_printf(out, "    '%s --%s') words='", path, o->name);
            put_choices(o, out);
            dan_str_puts(out, "';;\n");
        }
    for (size_t i = 0; c->sub && c->sub[i]; i++) {
        struct dan_str deeper = {0};
        dan_str_printf(&deeper, "%s %s", path, c->sub[i]->name);
        bash_choices(c->sub[i], dan_str_c(&deeper), out);
        dan_str_release(&deeper);
    }
}

/* A function that sets `words` for the path of commands in $1 and the word before in $2; sh, so that
 * bash and zsh share it. */
static void put_function(const struct dan_cmd *const *cmds, struct dan_str *out)
{
    const struct dan_cmd *c;
    dan_str_puts(out, "_danlu_words() {\n    case \"$1 $2\" in\n");
    for (size_t i = 0; (c = dan_cmd_in_order(cmds, i)); i++)
        bash_choices(c, c->name, out);
    dan_str_puts(out, "    *) case \"$1\" in\n    '') words='");
    for (size_t i = 0; (c = dan_cmd_in_order(cmds, i)); i++)
        dan_str_printf(out, "%s ", c->name);
    dan_str_puts(out, "--help --version';;\n");
    for (size_t i = 0; (c = dan_cmd_in_order(cmds, i)); i++)
        bash_words(c, c->name, out);
    dan_str_puts(out, "    *) words='';;\n    esac;;\n    esac\n}\n");
}

/* The path is the words before the first option, as far as they name commands. */
static const char bash_tail[] =
    "_danlu() {\n"
    "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} path='' words='' i w\n"
    "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
    "        w=${COMP_WORDS[i]}\n"
    "        [[ $w == -* ]] && break\n"
    "        _danlu_words \"$path\" ''\n"
    "        [[ \" $words \" == *\" $w \"* ]] || break\n"
    "        path=${path:+$path }$w\n"
    "    done\n"
    "    _danlu_words \"$path\" \"$prev\"\n"
    "    if [[ $path == help* ]]; then path=''; _danlu_words '' ''; fi\n"
    "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
    "    [[ ${#COMPREPLY[@]} -gt 0 ]] || COMPREPLY=($(compgen -f -- \"$cur\"))\n"
    "}\n"
    "complete -o filenames -F _danlu danlu\n";

static const char zsh_tail[] =
    "_danlu() {\n"
    "    local prev=${words[CURRENT-1]} path_='' i w list\n"
    "    local -a line; line=(\"${words[@]}\")\n"
    "    for ((i = 2; i < CURRENT; i++)); do\n"
    "        w=${line[i]}\n"
    "        [[ $w == -* ]] && break\n"
    "        list=$(_danlu_list \"$path_\" '')\n"
    "        [[ \" $list \" == *\" $w \"* ]] || break\n"
    "        path_=${path_:+$path_ }$w\n"
    "    done\n"
    "    list=$(_danlu_list \"$path_\" \"$prev\")\n"
    "    compadd -- ${=list}\n"
    "    _files\n"
    "}\n"
    "_danlu_list() { local words=''; _danlu_words \"$1\" \"$2\"; print -r -- \"$words\" }\n"
    "if [ \"$funcstack[1]\" = \"_danlu\" ]; then _danlu \"$@\"; else compdef _danlu danlu; fi\n";

static void put_bash(const struct dan_cmd *const *cmds, struct dan_str *out)
{
    dan_str_puts(out, "# danlu for bash: source <(danlu completion bash)\n");
    put_function(cmds, out);
    dan_str_puts(out, bash_tail);
}

static void put_zsh(const struct dan_cmd *const *cmds, struct dan_str *out)
{
    dan_str_puts(out, "#compdef danlu\n# danlu for zsh: source <(danlu completion zsh), or save as _danlu in a folder of $fpath\n");
    put_function(cmds, out);
    dan_str_puts(out, zsh_tail);
}

static void fish_option(const struct dan_opt *o, const char *condition, struct dan_str *out)
{
    dan_str_printf(out, "complete -c danlu -n '%s' -l %s", condition, o->name);
    if (o->letter)
        dan_str_printf(out, " -s %c", o->letter);
    if (o->type == 'e') {
        dan_str_puts(out, " -x -a '");
        put_choices(o, out);
        dan_str_puts(out, "'");
    } else if (o->type != 'b') {
        dan_str_puts(out, o->type == 's' || o->type == 'S' ? " -r -F" : " -x");
    }
    dan_str_puts(out, " -d '");
    put_quoted(o->help ? o->help : "", out);
    dan_str_puts(out, "'\n");
}

static void fish_command(const struct dan_cmd *c, const char *condition, struct dan_str *out)
{
    for (const struct dan_opt *o = c->opts; o && o->name; o++)
        if (named(o))
            fish_option(o, condition, out);
    for (size_t i = 0; c->sub && c->sub[i]; i++) {
        struct dan_str deeper = {0};
        dan_str_printf(out, "complete -c danlu -n '%s' -a %s -d '", condition, c->sub[i]->name);
        put_quoted(c->sub[i]->doc, out);
        dan_str_puts(out, "'\n");
        dan_str_printf(&deeper, "%s; and __fish_seen_subcommand_from %s", condition, c->sub[i]->name);
        fish_command(c->sub[i], dan_str_c(&deeper), out);
        dan_str_release(&deeper);
    }
}

static void put_fish(const struct dan_cmd *const *cmds, struct dan_str *out)
{
    const struct dan_cmd *c;
    dan_str_puts(out, "# danlu for fish: danlu completion fish | source\n");
    for (size_t i = 0; (c = dan_cmd_in_order(cmds, i)); i++) {
        struct dan_str seen = {0};
        dan_str_printf(out, "complete -c danlu -n __fish_use_subcommand -f -a %s -d '", c->name);
        put_quoted(c->doc, out);
        dan_str_puts(out, "'\n");
        dan_str_printf(&seen, "__fish_seen_subcommand_from %s", c->name);
        fish_command(c, dan_str_c(&seen), out);
        dan_str_release(&seen);
    }
    for (const struct dan_opt *o = dan_common_opts; o->name; o++)
        fish_option(o, "not __fish_use_subcommand", out);
}

static const struct { const char *name; void (*put)(const struct dan_cmd *const *cmds, struct dan_str *out); } shells[] = {
    {"bash", put_bash}, {"zsh", put_zsh}, {"fish", put_fish},
};

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    const struct completion_opts *o = opts;
    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++)
        if (!strcmp(o->shell, shells[i].name)) {
            struct dan_str out = {0};
            shells[i].put(cli->cmds, &out);
            int rc = dan_out(&cli->ui, dan_str_c(&out), out.n, e);
            dan_str_release(&out);
            return rc;
        }
    return dan_fail(e, DAN_EUSAGE, "unknown shell '%s'; there are scripts for bash, zsh and fish", o->shell);
}

const struct dan_cmd dan_cmd_completion = {
    .name = "completion", .doc = "print a completion script for your shell", .group = DAN_GROUP_HOUSE, .rank = 2,
    .about = "For bash, put 'source <(danlu completion bash)' into ~/.bashrc; for zsh, 'source <(danlu completion zsh)' into "
             "~/.zshrc after compinit; for fish, run 'danlu completion fish > ~/.config/fish/completions/danlu.fish'.",
    .example = "danlu completion bash > danlu.bash",
    .opts = options, .opts_bytes = sizeof(struct completion_opts), .run = run,
};
