/* Every command of the generated table: its help names every option, its text follows the house rules,
 * unknown options are refused with the right name.  With DANLU_BIN (or BUILD) the same through the program. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "cli/cmd.h"

typedef void visit(const struct dan_cmd *c, const char *path);

static void walk(const struct dan_cmd *const *cmds, const char *parent, visit *fn)
{
    for (; *cmds; cmds++) {
        char path[128];
        snprintf(path, sizeof path, "%s%s%s", parent, *parent ? " " : "", (*cmds)->name);
        fn(*cmds, path);
        if ((*cmds)->sub)
            walk((*cmds)->sub, path, fn);
    }
}

#define CHECK(x, path, what) do { if (!(x)) fail_msg("danlu %s: %s (%s)", path, what, #x); } while (0)

static void check_value(const struct dan_opt *o, const char *path)
{
    char buf[64];
    if (o->type == 'e') {
        CHECK(dan_choice_at(o, 0, buf, sizeof buf), path, o->name);
        CHECK(!o->dflt || dan_choice_index(o, o->dflt) >= 0, path, o->name);
    }
    if (o->type == 'i' || o->type == 'f')
        CHECK(o->meta, path, o->name);         /* "--lr N" in help */
}

static void check_options(const struct dan_cmd *c, const char *path)
{
    for (const struct dan_opt *o = c->opts; o && o->name; o++) {
        CHECK(strchr("ifbseSpPR", o->type) && o->type, path, o->name);
        CHECK(o->help && *o->help, path, o->name);
        CHECK(o->help[strlen(o->help) - 1] != '.', path, o->name);
        CHECK(o->offset < c->opts_bytes, path, o->name);
        CHECK(!strchr(o->name, '_') && !strchr(o->name, ' '), path, o->name);
        check_value(o, path);
        for (const struct dan_opt *q = dan_common_opts; q->name; q++)
            CHECK(strcmp(q->name, o->name), path, o->name);
        for (const struct dan_opt *q = o + 1; q->name; q++) {
            CHECK(strcmp(q->name, o->name), path, o->name);
            CHECK(!o->letter || q->letter != o->letter, path, o->name);
        }
    }
}

static void check_texts(const struct dan_cmd *c, const char *path)
{
    CHECK(c->doc && islower((unsigned char)c->doc[0]) && c->doc[strlen(c->doc) - 1] != '.', path, "doc");
    CHECK(c->run || c->sub, path, "run");
    if (c->run) {
        CHECK(c->example, path, "example");
        CHECK(!strncmp(c->example, "danlu ", 6) || strstr(c->example, "danlu "), path, "example");
    }
    check_options(c, path);
}

static void check_help(const struct dan_cmd *c, const char *path)
{
    struct dan_str s = {0};
    dan_help_command(c, path, 100, false, &s);
    const struct dan_opt *tables[] = {c->opts, dan_common_opts};
    for (size_t t = 0; t < 2; t++)
        for (const struct dan_opt *o = tables[t]; o && o->name; o++) {
            char name[96];
            if (strchr("pPR", o->type))
                snprintf(name, sizeof name, "\n  %s", o->meta ? o->meta : o->name);
            else
                snprintf(name, sizeof name, "%s%s", o->type == 'b' && o->dflt && !strcmp(o->dflt, "true") ? "--[no-]" : "--", o->name);
            CHECK(strstr(s.p, name), path, name);
        }
    CHECK(!c->example || strstr(s.p, "\nExample\n"), path, "example");
    for (const char *p = s.p; *p; p += strcspn(p, "\n"), p += *p == '\n')
        CHECK(dan_text_width(p, strcspn(p, "\n")) <= 140, path, "line too wide");
    dan_str_release(&s);
}

/* Misspells every named option by its last letter; the parser must offer an option that is as near. */
static void check_suggestions(const struct dan_cmd *c, const char *path)
{
    for (const struct dan_opt *o = c->run ? c->opts : NULL; o && o->name; o++) {
        if (strchr("pPR", o->type) || strlen(o->name) < 4)
            continue;
        struct dan_cli cli = {.arena = dan_arena_new(), .cmds = dan_cmds, .path = path};
        struct dan_err e = {0};
        char wrong[96], *argv[] = {wrong, NULL};
        snprintf(wrong, sizeof wrong, "--%sq", o->name);
        void *opts = dan_arena_alloc(cli.arena, c->opts_bytes + 1);
        CHECK(dan_options_parse(&cli, c, 1, argv, opts, &e) == DAN_EUSAGE, path, wrong);
        CHECK(strstr(e.msg, "unknown option '--") && strstr(e.msg, "did you mean '--"), path, e.msg);
        dan_arena_free(cli.arena);
    }
}

/* All defaults of the table parse (a default that does not is a bug, and aborts). */
static void check_defaults(const struct dan_cmd *c, const char *path)
{
    if (!c->run)
        return;
    struct dan_cli cli = {.arena = dan_arena_new(), .cmds = dan_cmds, .path = path};
    struct dan_err e = {0};
    void *opts = dan_arena_alloc(cli.arena, c->opts_bytes + 1);
    int rc = dan_options_parse(&cli, c, 0, NULL, opts, &e);
    CHECK(rc == DAN_OK || (rc == DAN_EUSAGE && !strncmp(e.msg, "missing ", 8)), path, e.msg);
    json_t *doc = dan_options_to_json(&cli, c, opts);
    CHECK(!strcmp(json_string_value(json_object_get(doc, "command")), path), path, "recipe");
    json_decref(doc);
    dan_arena_free(cli.arena);
}

static void test_texts(void **state)       { (void)state; walk(dan_cmds, "", check_texts); }
static void test_help(void **state)        { (void)state; walk(dan_cmds, "", check_help); }
static void test_suggestions(void **state) { (void)state; walk(dan_cmds, "", check_suggestions); }
static void test_defaults(void **state)    { (void)state; walk(dan_cmds, "", check_defaults); }

static void test_order(void **state)
{
    (void)state;
    size_t n = 0, seen = 0;
    while (dan_cmds[n])
        n++;
    while (dan_cmd_in_order(dan_cmds, seen))
        seen++;
    assert_int_equal(seen, n);                 /* no two commands share a place */
    for (size_t i = 0; i < n; i++)
        assert_ptr_equal(dan_cmd_find(dan_cmds, dan_cmds[i]->name), dan_cmds[i]);
}

/* --- the program itself */

static const char *program(void)
{
    static char path[512];
    const char *bin = getenv("DANLU_BIN"), *build = getenv("BUILD");
    if (bin)
        return bin;
    snprintf(path, sizeof path, "%s/danlu", build ? build : "build");
    return access(path, X_OK) ? NULL : path;
}

/* Exit code; stdout and stderr in *out, at most n - 1 bytes. */
static int run(const char *args, char *out, size_t n)
{
    char line[1024];
    snprintf(line, sizeof line, "{ '%s' %s; } 2>&1", program(), args);
    FILE *f = popen(line, "r");
    size_t got = fread(out, 1, n - 1, f);
    out[got] = 0;
    while (fread(line, 1, sizeof line, f) > 0)
        ;
    int status = pclose(f);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

static void check_program(const struct dan_cmd *c, const char *path)
{
    char args[256], out[16384];
    snprintf(args, sizeof args, "%s --help", path);
    CHECK(run(args, out, sizeof out) == 0, path, out);
    CHECK(strstr(out, "usage: danlu ") && strstr(out, "--recipe"), path, out);
    snprintf(args, sizeof args, "help %s", path);
    CHECK(run(args, out, sizeof out) == 0 && strstr(out, "usage: danlu "), path, out);
    if (!c->run)
        return;
    snprintf(args, sizeof args, "%s --thread 1", path);
    CHECK(run(args, out, sizeof out) == 2, path, out);
    CHECK(strstr(out, "unknown option '--thread'; did you mean '--threads'?"), path, out);
}

static void test_program(void **state)
{
    (void)state;
    char out[65536];
    if (!program()) {
        print_message("no program: set DANLU_BIN\n");
        skip();
    }
    walk(dan_cmds, "", check_program);
    assert_int_equal(run("--version", out, sizeof out), 0);
    assert_true(!strncmp(out, "danlu ", 6));
    assert_int_equal(run("", out, sizeof out), 2);
    assert_int_equal(run("help", out, sizeof out), 0);
    for (size_t i = 0; dan_cmds[i]; i++)
        assert_non_null(strstr(out, dan_cmds[i]->doc));
    assert_int_equal(run("hlep", out, sizeof out), 2);
    assert_non_null(strstr(out, "unknown command 'hlep'; did you mean 'help'?"));
    assert_int_equal(run("help --json 2>/dev/null", out, sizeof out), 0);
    json_t *doc = json_loads(out, 0, NULL);
    assert_true(json_is_array(json_object_get(doc, "commands")));
    json_decref(doc);
    assert_int_equal(run("help --markdown > /dev/full", out, sizeof out), 1);
    assert_non_null(strstr(out, "cannot write the result to stdout"));
}

static void test_completion(void **state)
{
    (void)state;
    char out[4096];
    if (!program())
        skip();
    assert_int_equal(run("completion bash | bash -n", out, sizeof out), 0);
    assert_int_equal(run("completion tcsh", out, sizeof out), 2);
    assert_non_null(strstr(out, "unknown shell 'tcsh'"));
    assert_int_equal(run("completion bash > /tmp/danlu-completion.$$ && bash -c '. /tmp/danlu-completion.'$$'; "
                         "COMP_WORDS=(danlu runs sh); COMP_CWORD=2; _danlu; echo got:${COMPREPLY[*]}; "
                         "COMP_WORDS=(danlu runs list --li); COMP_CWORD=3; _danlu; echo got:${COMPREPLY[*]}; "
                         "COMP_WORDS=(danlu he); COMP_CWORD=1; _danlu; echo got:${COMPREPLY[*]}'; rm -f /tmp/danlu-completion.$$",
                         out, sizeof out), 0);
    assert_string_equal(out, "got:show\ngot:--limit\ngot:help\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts), cmocka_unit_test(test_help), cmocka_unit_test(test_suggestions), cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_order), cmocka_unit_test(test_program), cmocka_unit_test(test_completion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
