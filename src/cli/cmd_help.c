/* danlu help [COMMAND...] */
#include <string.h>
#include "cli/cmd.h"

struct help_opts { struct dan_strings command; bool markdown; };

static const struct dan_opt options[] = {
    {.name = "command", .type = 'R', .offset = offsetof(struct help_opts, command), .meta = "COMMAND",
     .help = "the command to explain, with its sub-command if it has any"},
    {.name = "markdown", .type = 'b', .offset = offsetof(struct help_opts, markdown),
     .help = "the reference page of all commands"},
    {.name = NULL},
};

static int page(const struct help_opts *o, struct dan_cli *cli, struct dan_str *out, struct dan_err *e)
{
    const struct dan_cmd *const *cmds = cli->cmds;
    const struct dan_cmd *c = NULL;
    struct dan_str path = {0};
    int rc = DAN_OK;
    for (size_t i = 0; i < o->command.n && !rc; i++) {
        c = dan_cmd_find(cmds, o->command.v[i]);
        if (!c)
            rc = dan_cmd_unknown(cmds, path.n ? path.p : NULL, o->command.v[i], e);
        else
            dan_str_printf(&path, "%s%s", i ? " " : "", c->name);
        cmds = c ? c->sub : NULL;
    }
    if (!rc)
        dan_help_command(c, dan_str_c(&path), cli->ui.out_tty ? dan_ui_width() : 100, cli->ui.out_colour, out);
    dan_str_release(&path);
    return rc;
}

static json_t *names(const struct dan_cmd *const *cmds)
{
    const struct dan_cmd *c;
    json_t *list = json_array();
    for (size_t i = 0; (c = dan_cmd_in_order(cmds, i)); i++)
        json_array_append_new(list, json_pack("{s:s,s:s,s:s}", "command", c->name, "doc", c->doc, "group", dan_group_title(c->group)));
    return json_pack("{s:o}", "commands", list);
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    const struct help_opts *o = opts;
    struct dan_str out = {0};
    int rc = DAN_OK;
    if (cli->json && !o->command.n)
        return dan_out_json(&cli->ui, names(cli->cmds), e);
    if (o->markdown)
        dan_help_markdown(cli->cmds, &out);
    else if (o->command.n)
        rc = page(o, cli, &out, e);
    else
        dan_help_overview(cli->cmds, cli->ui.out_colour, &out);
    if (!rc)
        rc = dan_out(&cli->ui, dan_str_c(&out), out.n, e);
    dan_str_release(&out);
    return rc;
}

const struct dan_cmd dan_cmd_help = {
    .name = "help", .doc = "explain the commands", .group = DAN_GROUP_HOUSE, .rank = 1,
    .example = "danlu help runs",
    .opts = options, .opts_bytes = sizeof(struct help_opts), .run = run,
};
