/* The command line: one command per file `cmd_NAME.c`, described by one const struct, from which
 * parsing, help, completion and the reference pages are made.
 *
 *     struct count_opts { int64_t n; const char *dir; };
 *     static const struct dan_opt count_options[] = {
 *         {.name = "dir", .type = 'p', .offset = offsetof(struct count_opts, dir), .meta = "DIR", .help = "folder to count"},
 *         {.name = "top", .type = 'i', .offset = offsetof(struct count_opts, n), .dflt = "10", .meta = "N",
 *          .min = 1, .max = INFINITY, .help = "how many to show"},
 *         {.name = NULL}};
 *     static int count_run(const void *opts, struct dan_cli *cli, struct dan_err *e) { const struct count_opts *o = opts; ... }
 *     const struct dan_cmd dan_cmd_count = {
 *         .name = "count", .doc = "count words in a folder", .example = "danlu count texts --top 5", .group = DAN_GROUP_DATA,
 *         .opts = count_options, .opts_bytes = sizeof(struct count_opts), .run = count_run};
 */
#ifndef DAN_CLI_CMD_H
#define DAN_CLI_CMD_H
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "cli/ui.h"

#ifndef DANLU_VERSION
#define DANLU_VERSION "unknown"                /* the Makefile passes the file VERSION */
#endif

struct dan_strings { const char **v; size_t n; };

/* type  field          meaning
 *  i    int64_t        --steps 10k      (k M G: thousand, million, billion; Ki Mi Gi: powers of 1024; 1e6)
 *  f    double         --lr 3e-4
 *  b    bool           --flag, --no-flag, --flag=true
 *  s    const char *   --out DIR        (NULL when neither given nor defaulted)
 *  e    const char *   --dtype bf16     (one of `choices` or `choice_at`)
 *  S    dan_strings    --data A B --data C
 *  p P  const char *   positional, required / optional
 *  R    dan_strings    the remaining positionals, none or more (last in the table) */
struct dan_opt {
    const char *name, *help;                   /* name without dashes; also the recipe's key.  NULL ends the table */
    char        type;
    uint16_t    offset;                        /* of the field in the options struct */
    const char *dflt;                          /* as a user would write it; S: separated by spaces; NULL: 0, false, NULL, empty */
    const char *meta;                          /* "FILE", "N": what help calls the value */
    const char *bare;                          /* s: the value of --name alone; another one then needs --name=VALUE */
    const char *choices;                       /* e: "adamw|sgd|lion" */
    const char *(*choice_at)(size_t i);        /* e: the i-th name of a generated table, NULL at its end */
    const char *alias;                         /* "learning-rate|learn-rate": accepted, and heard by "did you mean" */
    double      min, max;                      /* i f: inclusive, checked when min < max; INFINITY leaves an end open */
    char        letter;                        /* 'o' allows -o */
    bool        required;                      /* also for R and S: at least one */
    const char *section;                       /* heading in help that begins at this option */
};

enum dan_group {                               /* order of the groups in `danlu help` */
    DAN_GROUP_USE,                             /* chat generate serve embed ask translate classify */
    DAN_GROUP_TRAIN,                           /* train finetune tokenizer word2vec ngram */
    DAN_GROUP_ALIGN,                           /* reward ppo dpo grpo align */
    DAN_GROUP_MODEL,                           /* quantize convert inspect estimate eval bench */
    DAN_GROUP_DATA,                            /* data recommend pca minimize */
    DAN_GROUP_LEARN,                           /* lesson interview prompt */
    DAN_GROUP_HOUSE,                           /* runs doctor help completion */
    DAN_N_GROUPS
};

enum { DAN_MAX_OPTS = 160 };                   /* per command */
enum dan_origin { DAN_FROM_DEFAULT, DAN_FROM_RECIPE, DAN_FROM_COMMAND };

struct dan_cli;
struct dan_cmd {
    const char *name, *doc;                    /* "train"; one line, lower case, no full stop */
    const char *about;                         /* paragraphs for --help, or NULL */
    const char *usage;                         /* after the name; NULL: made from the options */
    const char *example;                       /* works as it stands; several lines allowed */
    const struct dan_opt *opts;                /* NULL: none of its own */
    size_t      opts_bytes;
    int       (*run)(const void *opts, struct dan_cli *cli, struct dan_err *e);
    const struct dan_cmd *const *sub;          /* NULL-terminated; `static const` structs of the same file */
    int         group, rank;                   /* rank orders commands within a group, low first, then by name */
};
extern const struct dan_cmd *const dan_cmds[]; /* generated; NULL-terminated */

/* What a command is given.  Everything here lives until the program ends. */
struct dan_cli {
    bool        help, json, quiet;             /* the common options */
    int64_t     seed, threads;                 /* threads 0: one per usable core */
    const char *recipe, *isa;                  /* isa: base/sys.h, dan_isa_mask */
    /* Set by the first SIGINT, SIGTERM or SIGHUP: finish the step, write a checkpoint, return DAN_ECANCELLED.
     * System calls restart; only poll() and sleeps return early.  The second signal exits at once, and so does the first
     * before ui.heeds is set, as the first progress bar does: what reads files looks at no flag. */
    volatile sig_atomic_t stop;
    struct dan_arena *arena;
    struct dan_ui     ui;
    const char *home;                          /* DANLU_HOME or ~/.danlu; NULL when neither is known */
    const struct dan_cmd *const *cmds;
    const struct dan_cmd *cmd;                 /* the one that runs */
    const char *path;                          /* its name with parents: "tokenizer train" */
    uint8_t     origin[DAN_MAX_OPTS], common_origin[DAN_MAX_OPTS];   /* enum dan_origin per option */
};
extern const struct dan_opt dan_common_opts[]; /* offsets into struct dan_cli */

/* --- options.c */
/* argv[0] is the program.  Finds the command, fills *opts (from cli->arena) from defaults, recipe and
 * command line, in rising order.  With --help in argv: sets cli->help and checks nothing else.
 * cli->arena and cli->cmds must be set.  Fails with DAN_EUSAGE. */
int  dan_cli_parse(struct dan_cli *cli, int argc, char **argv, const void **opts, struct dan_err *e);
/* The same for a command that is known; argv[0] is its first argument. */
int  dan_options_parse(struct dan_cli *cli, const struct dan_cmd *cmd, int argc, char **argv, void *opts, struct dan_err *e);
bool dan_given(const struct dan_cli *cli, const char *option);    /* on the command line or in the recipe */
/* The option of that name or alias (n bytes), the command's own or a common one; NULL: none, and *near is what may be meant, or NULL. */
const struct dan_opt *dan_option_find(const struct dan_cmd *cmd, const char *name, size_t n, const struct dan_opt **near);
const struct dan_cmd *dan_cmd_find(const struct dan_cmd *const *cmds, const char *name);   /* NULL when there is none */
/* Fails with "unknown command ..." and the nearest name. */
int  dan_cmd_unknown(const struct dan_cmd *const *cmds, const char *parent, const char *name, struct dan_err *e);
/* One value as text into its field; `label` is what messages call it.  Lists are appended to. */
int  dan_option_set(struct dan_arena *a, const struct dan_opt *opt, void *base, const char *text, const char *label,
                    struct dan_err *e);
/* How well `given` fits a name or its aliases: edit distance, or 99 when too far to suggest. */
int  dan_option_distance(const char *given, const char *name, const char *alias);
bool dan_parse_int(const char *s, int64_t *v);
bool dan_parse_num(const char *s, double *v);
const char *dan_choice_at(const struct dan_opt *opt, size_t i, char *buf, size_t n);   /* i-th choice; NULL at the end */
int  dan_choice_index(const struct dan_opt *opt, const char *value);                    /* -1 when there is none */

/* --- recipe.c */
/* Sets options from {"option": value, ...}; "command" must name this command.  Unknown keys are refused.
 * An option that the command line gave keeps its value, so a command may call this from run (--resume). */
int  dan_recipe_apply(struct dan_cli *cli, const struct dan_cmd *cmd, void *opts, const char *file, struct dan_err *e);
/* The resolved recipe: {"command", every option with its value, "seed"}; the caller decrefs.  NULL: out of memory. */
json_t *dan_options_to_json(const struct dan_cli *cli, const struct dan_cmd *cmd, const void *opts);
/* The same as text (indented, newline at the end), which repeats the run with --recipe. */
int  dan_recipe_text(const struct dan_cli *cli, const void *opts, struct dan_str *out, struct dan_err *e);

/* --- help.c: everything is appended to *out; width in columns */
void dan_help_overview(const struct dan_cmd *const *cmds, bool colour, struct dan_str *out);
void dan_help_command(const struct dan_cmd *cmd, const char *path, int width, bool colour, struct dan_str *out);
void dan_help_usage(const struct dan_cmd *cmd, const char *path, struct dan_str *out);   /* one line, no newline */
void dan_help_markdown(const struct dan_cmd *const *cmds, struct dan_str *out);
/* Commands in the order help shows them; returns the i-th of the list or NULL at the end. */
const struct dan_cmd *dan_cmd_in_order(const struct dan_cmd *const *cmds, size_t i);
const char *dan_group_title(int group);

#endif
