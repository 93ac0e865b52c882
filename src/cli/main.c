/* danlu: reads the command line, runs one command, turns its outcome into an exit code:
 * 0 done, 1 failed, 2 wrong usage, 130 interrupted. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/sys.h"
#include "cli/cmd.h"

/* The program's only mutable global: a signal handler has no other way to find its flags. */
static struct dan_cli *running;

static void last_words(int fd, const char *text) { if (write(fd, text, strlen(text)) < 0) _exit(1); }

/* Reading a file for minutes looks at no flag and loses nothing when it ends. */
static void on_signal(int sig)
{
    (void)sig;
    if (running->stop)
        _exit(130);                            /* asked twice: at once */
    if (!running->ui.heeds) {
        if (running->json) last_words(STDOUT_FILENO, "{\"error\":{\"message\":\"interrupted\",\"exit\":130}}\n");
        last_words(STDERR_FILENO, "danlu: interrupted\n");
        _exit(130);
    }
    running->stop = 1;
}

/* A mapped file became shorter, or its disk failed.  What was read is gone: there is nothing to go on with. */
static void on_lost_page(int sig)
{
    static const char text[] = "danlu: a file that was being read became shorter, or its disk failed: leave it alone while danlu runs\n";
    (void)sig;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(2);
    _exit(1);
}

static void catch_signals(struct dan_cli *cli)
{
    struct sigaction stop = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, ignore = {.sa_handler = SIG_IGN}, hangup, lost = {.sa_handler = on_lost_page};
    running = cli;
    sigemptyset(&stop.sa_mask);
    sigemptyset(&ignore.sa_mask);
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    if (!sigaction(SIGHUP, NULL, &hangup) && hangup.sa_handler != SIG_IGN)
        sigaction(SIGHUP, &stop, NULL);        /* a closed terminal; nohup's wish is kept */
    sigaction(SIGBUS, &lost, NULL);
    sigaction(SIGPIPE, &ignore, NULL);         /* a closed pipe or socket is an error of that write, not the end of a run */
    sigaction(SIGXFSZ, &ignore, NULL);        /* so is a file size limit (ulimit -f) */
}

static const char *find_home(struct dan_arena *a)
{
    const char *own = dan_env("DANLU_HOME"), *user = dan_env("HOME");
    if (own)
        return own;
    return user ? dan_arena_printf(a, "%s/.danlu", user) : NULL;
}

static int exit_code(int rc)
{
    switch (rc) {
    case DAN_OK: return 0;
    case DAN_EUSAGE: return 2;
    case DAN_ECANCELLED: return 130;
    default: return 1;
    }
}

static int finish(struct dan_cli *cli, int rc, struct dan_err *e)
{
    struct dan_str who = {0};
    if (!rc)
        rc = dan_out_flush(&cli->ui, e);
    if (cli->ui.out_closed)
        return 0;                              /* `| head` has seen what it wanted */
    if (!rc)
        return 0;
    dan_str_printf(&who, "danlu%s%s", cli->cmd ? " " : "", cli->cmd ? cli->path : "");
    if (!e->code)
        dan_fail(e, rc, rc == DAN_ECANCELLED ? "interrupted" : "failed without a message; please report this as a bug");
    if (cli->json)
        dan_out_json(&cli->ui, json_pack("{s:{s:s,s:i}}", "error", "message", e->msg, "exit", exit_code(rc)), NULL);
    dan_report(&cli->ui, dan_str_c(&who), e);
    dan_str_release(&who);
    return exit_code(rc);
}

/* An option that stands before --json may be what is wrong. */
static bool wants_json(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
        if (!strcmp(argv[i], "--json"))
            return true;
    return false;
}

static int print(struct dan_cli *cli, struct dan_str *text, struct dan_err *e)
{
    int rc = dan_out(&cli->ui, dan_str_c(text), text->n, e);
    dan_str_release(text);
    return rc;
}

static int run(struct dan_cli *cli, int argc, char **argv, struct dan_err *e)
{
    struct dan_str text = {0};
    const void *opts = NULL;
    char *help[] = {argv[0], "help", NULL};
    if (argc > 1 && (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V"))) {
        dan_str_printf(&text, "danlu %s\n", DANLU_VERSION);
        return print(cli, &text, e);
    }
    if (argc == 1 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        if (argc == 1)
            dan_say(&cli->ui, "no command given; this is what there is:\n");
        return run(cli, 2, help, e);
    }
    int rc = dan_cli_parse(cli, argc, argv, &opts, e);
    if (rc) {
        cli->json = cli->json || wants_json(argc, argv);
        return rc;
    }
    cli->ui.quiet = cli->quiet;
    if (cli->help) {
        dan_help_command(cli->cmd, cli->path, cli->ui.out_tty ? dan_ui_width() : 100, cli->ui.out_colour, &text);
        return print(cli, &text, e);
    }
    return cli->cmd->run(opts, cli, e);
}

int main(int argc, char **argv)
{
    struct dan_cli cli = {.cmds = dan_cmds, .arena = dan_arena_new()};
    struct dan_err e = {0};
    if (!cli.arena)
        return 1;
    dan_ui_init(&cli.ui);
    cli.home = find_home(cli.arena);
    catch_signals(&cli);
    int code = finish(&cli, run(&cli, argc, argv, &e), &e);
    if (argc == 1 && !code) code = 2;          /* nothing was asked for */
    dan_arena_free(cli.arena);
    return code;
}
