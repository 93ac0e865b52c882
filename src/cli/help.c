/* Help pages and reference text, made from the tables. */
#include <string.h>
#include "cli/cmd.h"

static const char *const group_titles[DAN_N_GROUPS] = {
    [DAN_GROUP_USE] = "Use a model",
    [DAN_GROUP_TRAIN] = "Train",
    [DAN_GROUP_ALIGN] = "Align with preferences and rewards",
    [DAN_GROUP_MODEL] = "Measure, shrink and convert models",
    [DAN_GROUP_DATA] = "Data and classic methods",
    [DAN_GROUP_LEARN] = "Learn",
    [DAN_GROUP_HOUSE] = "Housekeeping",
};

const char *dan_group_title(int group)
{
    return group >= 0 && group < DAN_N_GROUPS ? group_titles[group] : "";
}

static bool shown_before(const struct dan_cmd *a, const struct dan_cmd *b)
{
    if (a->group != b->group)
        return a->group < b->group;
    return a->rank != b->rank ? a->rank < b->rank : strcmp(a->name, b->name) < 0;
}

/* Selection instead of sorting: no memory, and some thirty commands. */
const struct dan_cmd *dan_cmd_in_order(const struct dan_cmd *const *cmds, size_t i)
{
    for (size_t c = 0; cmds[c]; c++) {
        size_t before = 0;
        for (size_t k = 0; cmds[k]; k++)
            before += shown_before(cmds[k], cmds[c]);
        if (before == i)
            return cmds[c];
    }
    return NULL;
}

static void heading(const char *title, bool colour, struct dan_str *out)
{
    dan_str_printf(out, colour ? "\n\033[1m%s\033[0m\n" : "\n%s\n", title);
}

void dan_help_overview(const struct dan_cmd *const *cmds, bool colour, struct dan_str *out)
{
    const struct dan_cmd *c;
    int group = -1;
    dan_str_puts(out, "danlu trains, quantises and runs language models on CPUs.\n\nusage: danlu COMMAND [ARGS] [--options]\n");
    for (size_t i = 0; (c = dan_cmd_in_order(cmds, i)); i++) {
        if (c->group != group)
            heading(dan_group_title(group = c->group), colour, out);
        dan_str_printf(out, "  %-12s %s\n", c->name, c->doc);
    }
    dan_str_puts(out, "\n'danlu help COMMAND' explains a command with an example; 'danlu --version' prints the version.\n");
}

static bool positional(const struct dan_opt *o) { return strchr("pPR", o->type) != NULL; }

static const char *meta_of(const struct dan_opt *o) { return o->meta ? o->meta : positional(o) ? o->name : "VALUE"; }

/* "a|b|c" of an e option, else its meta. */
static void put_value(const struct dan_opt *o, struct dan_str *out)
{
    char buf[64];
    const char *c;
    if (o->type != 'e') {
        dan_str_puts(out, meta_of(o));
        return;
    }
    for (size_t i = 0; (c = dan_choice_at(o, i, buf, sizeof buf)); i++)
        dan_str_printf(out, "%s%s", i ? "|" : "", c);
}

void dan_help_usage(const struct dan_cmd *cmd, const char *path, struct dan_str *out)
{
    dan_str_printf(out, "danlu %s", path);
    if (cmd->usage) {
        dan_str_printf(out, " %s", cmd->usage);
        return;
    }
    if (cmd->sub)
        dan_str_puts(out, cmd->run ? " [COMMAND]" : " COMMAND");
    for (const struct dan_opt *o = cmd->opts; o && o->name; o++)
        if (positional(o))
            dan_str_printf(out, o->type == 'p' || o->required ? " %s%s" : " [%s%s]", meta_of(o), o->type == 'R' ? "..." : "");
    for (const struct dan_opt *o = cmd->opts; o && o->name; o++)
        if (!positional(o) && o->required)
            dan_str_printf(out, " --%s %s%s", o->name, meta_of(o), o->type == 'S' ? "..." : "");
    dan_str_puts(out, " [--options]");
}

/* A newline ends the line next to another newline (paragraphs) and before a blank or a dash (lists); else it is a blank. */
static bool hard_break(const char *text, const char *p)
{
    return *p == '\n' && (strchr("\n -", p[1]) || (p > text && p[-1] == '\n'));
}

/* Words of `text` with a hanging indent; the cursor stands at column `at`. */
static void put_wrapped(const char *text, int at, int indent, int width, struct dan_str *out)
{
    const char *whole = text;
    bool first = true;
    while (*text) {
        int n = (int)strcspn(text, " \n"), cols = dan_text_width(text, (size_t)n);
        bool breaks = n == 0 && hard_break(whole, text);
        if (breaks || (!first && at + 1 + cols > width)) {
            dan_str_printf(out, "\n%*s", indent, "");
            at = indent;
            first = true;
        }
        if (n) {
            dan_str_printf(out, "%s%.*s", first ? "" : " ", n, text);
            at += cols + !first;
            first = false;
        }
        text += n;
        text += *text == ' ' || breaks || (*text == '\n' && !hard_break(whole, text));
    }
    dan_str_putc(out, '\n');
}

enum { GENEROUS = 1000000 };                   /* limits beyond guard against typing errors; not worth words */

/* "peak learning rate (0 to 1; default 3e-4)" */
static void put_about(const struct dan_opt *o, struct dan_str *out)
{
    struct dan_str notes = {0};
    dan_str_puts(out, o->help ? o->help : "");
    if (o->required && !positional(o))
        dan_str_puts(&notes, "; required");
    if (o->min < o->max && fabs(o->max) < GENEROUS && fabs(o->min) < GENEROUS)
        dan_str_printf(&notes, "; %.15g to %.15g", o->min, o->max);
    else if (o->min < o->max && o->min != 0 && fabs(o->min) < GENEROUS)
        dan_str_printf(&notes, "; at least %.15g", o->min);
    else if (o->min < o->max && fabs(o->max) < GENEROUS)
        dan_str_printf(&notes, "; at most %.15g", o->max);
    if (o->dflt)
        dan_str_printf(&notes, "; default %s", o->type != 'b' ? o->dflt : !strcmp(o->dflt, "true") ? "on" : "off");
    if (notes.n)
        dan_str_printf(out, "%s(%s)", o->help && *o->help ? " " : "", notes.p + 2);
    dan_str_release(&notes);
}

static void put_name(const struct dan_opt *o, struct dan_str *out)
{
    if (positional(o)) {
        dan_str_printf(out, "%s%s", meta_of(o), o->type == 'R' ? "..." : "");
        return;
    }
    if (o->letter)
        dan_str_printf(out, "-%c, ", o->letter);
    dan_str_printf(out, "--%s%s", o->type == 'b' && o->dflt && !strcmp(o->dflt, "true") ? "[no-]" : "", o->name);
    if (o->type != 'b') {
        dan_str_puts(out, o->bare ? "[=" : " ");
        put_value(o, out);
        dan_str_puts(out, o->bare ? "]" : o->type == 'S' ? "..." : "");
    }
}

enum { HELP_COLUMN = 28 };

static void put_option(const struct dan_opt *o, int width, struct dan_str *out)
{
    struct dan_str name = {0}, about = {0};
    put_name(o, &name);
    put_about(o, &about);
    int at = 2 + dan_text_width(dan_str_c(&name), name.n);
    dan_str_printf(out, "  %s", dan_str_c(&name));
    if (at + 2 > HELP_COLUMN) {
        dan_str_putc(out, '\n');
        at = 0;
    }
    dan_str_printf(out, "%*s", HELP_COLUMN - at, "");
    put_wrapped(dan_str_c(&about), HELP_COLUMN, HELP_COLUMN, width, out);
    dan_str_release(&name);
    dan_str_release(&about);
}

static void put_options(const struct dan_cmd *cmd, int width, bool colour, struct dan_str *out)
{
    bool any = false;
    for (const struct dan_opt *o = cmd->opts; o && o->name; o++)
        if (positional(o)) {
            if (!any)
                heading("Arguments", colour, out);
            any = true;
            put_option(o, width, out);
        }
    any = false;
    for (const struct dan_opt *o = cmd->opts; o && o->name; o++)
        if (!positional(o)) {
            if (o->section || !any)
                heading(o->section ? o->section : "Options", colour, out);
            any = true;
            put_option(o, width, out);
        }
    heading("Common options", colour, out);
    for (const struct dan_opt *o = dan_common_opts; o->name; o++)
        put_option(o, width, out);
}

static void put_lines(const char *text, const char *indent, struct dan_str *out)
{
    for (; text && *text; text += strcspn(text, "\n"), text += *text == '\n')
        dan_str_printf(out, "%s%.*s\n", indent, (int)strcspn(text, "\n"), text);
}

void dan_help_command(const struct dan_cmd *cmd, const char *path, int width, bool colour, struct dan_str *out)
{
    dan_str_printf(out, "danlu %s: %s\n\nusage: ", path, cmd->doc);
    dan_help_usage(cmd, path, out);
    dan_str_putc(out, '\n');
    if (cmd->about) {
        dan_str_putc(out, '\n');
        put_wrapped(cmd->about, 0, 0, width, out);
    }
    if (cmd->sub) {
        heading("Commands", colour, out);
        for (size_t i = 0; cmd->sub[i]; i++)
            dan_str_printf(out, "  %-12s %s\n", cmd->sub[i]->name, cmd->sub[i]->doc);
        dan_str_printf(out, "\n'danlu help %s COMMAND' explains one of them.\n", path);
    }
    put_options(cmd, width, colour, out);
    if (cmd->example) {
        heading("Example", colour, out);
        put_lines(cmd->example, "  ", out);
    }
}

static void markdown_options(const struct dan_opt *o, struct dan_str *out)
{
    if (!o || !o->name)
        return;
    dan_str_puts(out, "| option | meaning |\n|---|---|\n");
    for (; o->name; o++) {
        struct dan_str cell = {0};
        put_name(o, &cell);
        dan_str_puts(&cell, "` | ");
        put_about(o, &cell);
        dan_str_puts(out, "| `");
        for (const char *p = dan_str_c(&cell); *p; p++)        /* a bar inside `code` would end the cell */
            dan_str_printf(out, *p == '|' && p > cell.p && p[-1] != ' ' ? "\\%c" : "%c", *p);
        dan_str_puts(out, " |\n");
        dan_str_release(&cell);
    }
    dan_str_putc(out, '\n');
}

static void markdown_command(const struct dan_cmd *cmd, const char *path, const char *hashes, struct dan_str *out)
{
    dan_str_printf(out, "%s danlu %s\n\n%s\n\n```\n", hashes, path, cmd->doc);
    dan_help_usage(cmd, path, out);
    dan_str_puts(out, "\n```\n\n");
    if (cmd->about)
        dan_str_printf(out, "%s\n\n", cmd->about);
    markdown_options(cmd->opts, out);
    if (cmd->example) {
        dan_str_puts(out, "Example:\n\n```sh\n");
        put_lines(cmd->example, "", out);
        dan_str_puts(out, "```\n\n");
    }
    for (size_t i = 0; cmd->sub && cmd->sub[i]; i++) {
        struct dan_str deeper = {0};
        dan_str_printf(&deeper, "%s %s", path, cmd->sub[i]->name);
        markdown_command(cmd->sub[i], dan_str_c(&deeper), "###", out);
        dan_str_release(&deeper);
    }
}

void dan_help_markdown(const struct dan_cmd *const *cmds, struct dan_str *out)
{
    const struct dan_cmd *c;
    dan_str_puts(out, "# Commands\n\nMade by `danlu help --markdown` from the option tables.\n\nEvery command takes:\n\n");
    markdown_options(dan_common_opts, out);
    for (size_t i = 0; (c = dan_cmd_in_order(cmds, i)); i++)
        markdown_command(c, c->name, "##", out);
}
