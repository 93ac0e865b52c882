#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/file.h"
#include "cli/cmd.h"

struct demo { const char *model, *out, *kind, *dtype, *name, *report; int64_t steps; double lr; bool tied, fast; struct dan_strings data; };

static const char *dtype_at(size_t i)
{
    static const char *const names[] = {"bf16", "f32", NULL};
    return names[i];
}

static const struct dan_opt demo_options[] = {
    {.name = "model", .type = 'p', .offset = offsetof(struct demo, model), .meta = "MODEL", .help = "model folder"},
    {.name = "out", .type = 'P', .offset = offsetof(struct demo, out), .meta = "OUT", .help = "where to write"},
    {.name = "steps", .letter = 'n', .type = 'i', .offset = offsetof(struct demo, steps), .dflt = "2k", .min = 1, .max = INFINITY},
    {.name = "lr", .type = 'f', .offset = offsetof(struct demo, lr), .dflt = "3e-4", .min = 0, .max = 1,
     .alias = "learning-rate"},
    {.name = "tied", .type = 'b', .offset = offsetof(struct demo, tied), .dflt = "true"},
    {.name = "fast", .letter = 'f', .type = 'b', .offset = offsetof(struct demo, fast)},
    {.name = "kind", .type = 'e', .offset = offsetof(struct demo, kind), .choices = "cosine|linear|wsd", .dflt = "cosine"},
    {.name = "dtype", .type = 'e', .offset = offsetof(struct demo, dtype), .choice_at = dtype_at},
    {.name = "data", .type = 'S', .offset = offsetof(struct demo, data), .dflt = "one two"},
    {.name = "name", .letter = 'o', .type = 's', .offset = offsetof(struct demo, name)},
    {.name = "report", .type = 's', .offset = offsetof(struct demo, report), .meta = "RULES", .bare = "on"},
    {.name = NULL},
};
static int nothing(const void *opts, struct dan_cli *cli, struct dan_err *e) { (void)opts; (void)cli; (void)e; return DAN_OK; }

struct rest { struct dan_strings files; };
static const struct dan_opt rest_options[] = {
    {.name = "files", .type = 'R', .offset = offsetof(struct rest, files), .meta = "FILE", .required = true, .help = "files"},
    {.name = NULL},
};
static const struct dan_cmd demo = {.name = "demo", .doc = "a demo", .example = "danlu demo m", .opts = demo_options,
                                    .opts_bytes = sizeof(struct demo), .run = nothing};
static const struct dan_cmd rest = {.name = "rest", .doc = "takes files", .opts = rest_options, .opts_bytes = sizeof(struct rest),
                                    .run = nothing};
static const struct dan_cmd group = {.name = "group", .doc = "has commands below",
                                     .about = "One paragraph that is\nwrapped at forty columns.\n\nAnother.\n- a point\n- another point",
                                     .sub = (const struct dan_cmd *const[]){&demo, &rest, NULL}};
/* A command of its own that has others below it, as finetune. */
static const struct dan_cmd both = {.name = "both", .doc = "does and has", .example = "danlu both m\ndanlu both demo m", .opts = demo_options, .opts_bytes = sizeof(struct demo),
                                    .run = nothing, .sub = (const struct dan_cmd *const[]){&demo, &rest, NULL}};
static const struct dan_cmd *const cmds[] = {&both, &demo, &group, &rest, NULL};

struct parsed { struct dan_cli cli; struct dan_err e; const void *opts; int rc; };

/* Splits `line` at blanks and parses it. */
static void parse(struct parsed *p, const char *line)
{
    static char words[512];
    char *argv[32] = {(char[]){"danlu"}}, *save;
    int argc = 1;
    *p = (struct parsed){.cli = {.arena = dan_arena_new(), .cmds = cmds}};
    snprintf(words, sizeof words, "%s", line);
    for (char *w = strtok_r(words, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    p->rc = dan_cli_parse(&p->cli, argc, argv, &p->opts, &p->e);
}

static void refused(const char *line, const char *message_part)
{
    struct parsed p;
    parse(&p, line);
    if (p.rc != DAN_EUSAGE || !strstr(p.e.msg, message_part))
        print_error("'%s' gave %d '%s', wanted '%s'\n", line, p.rc, p.e.msg, message_part);
    assert_int_equal(p.rc, DAN_EUSAGE);
    assert_non_null(strstr(p.e.msg, message_part));
    dan_arena_free(p.cli.arena);
}

static void test_defaults(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "demo m");
    const struct demo *d = p.opts;
    assert_int_equal(p.rc, DAN_OK);
    assert_string_equal(d->model, "m");
    assert_null(d->out);
    assert_int_equal(d->steps, 2000);
    assert_true(d->lr == 3e-4);
    assert_true(d->tied);
    assert_false(d->fast);
    assert_string_equal(d->kind, "cosine");
    assert_null(d->dtype);
    assert_int_equal(d->data.n, 2);
    assert_string_equal(d->data.v[1], "two");
    assert_int_equal(p.cli.seed, 1);
    assert_false(dan_given(&p.cli, "lr"));
    dan_arena_free(p.cli.arena);
}

static void test_values(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "demo m o --steps=1.5M --learning-rate 0.5 --no-tied -f --kind wsd --dtype f32 --data a b c --data=d --data e f -o- "
              "--seed 7 --threads 3 --json -q");
    const struct demo *d = p.opts;
    if (p.rc)
        print_error("%s\n", p.e.msg);
    assert_int_equal(p.rc, DAN_OK);
    assert_string_equal(d->out, "o");
    assert_int_equal(d->steps, 1500000);
    assert_true(d->lr == 0.5);
    assert_false(d->tied);
    assert_true(d->fast);
    assert_string_equal(d->kind, "wsd");
    assert_string_equal(d->dtype, "f32");
    assert_ptr_equal(d->dtype, dtype_at(1));   /* the table's own text */
    assert_int_equal(d->data.n, 6);
    const char *want[] = {"a", "b", "c", "d", "e", "f"};
    for (int i = 0; i < 6; i++)
        assert_string_equal(d->data.v[i], want[i]);
    assert_string_equal(d->name, "-");
    assert_int_equal(p.cli.seed, 7);
    assert_int_equal(p.cli.threads, 3);
    assert_true(p.cli.json && p.cli.quiet);
    assert_true(dan_given(&p.cli, "lr") && dan_given(&p.cli, "seed") && !dan_given(&p.cli, "recipe"));
    dan_arena_free(p.cli.arena);
}

static void test_double_dash(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "group rest a --json -- --b -c");
    const struct rest *r = p.opts;
    assert_int_equal(p.rc, DAN_OK);
    assert_string_equal(p.cli.path, "group rest");
    assert_int_equal(r->files.n, 3);
    assert_string_equal(r->files.v[1], "--b");
    assert_string_equal(r->files.v[2], "-c");
    dan_arena_free(p.cli.arena);
    parse(&p, "demo --data a b -- m");
    assert_int_equal(p.rc, DAN_OK);
    assert_string_equal(((const struct demo *)p.opts)->model, "m");
    dan_arena_free(p.cli.arena);
}

static void test_help_wins(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "demo --lernrate --help");
    assert_int_equal(p.rc, DAN_OK);
    assert_true(p.cli.help);
    dan_arena_free(p.cli.arena);
}

static void test_refusals(void **state)
{
    (void)state;
    refused("demo m --lernrate 1", "unknown option '--lernrate'; did you mean '--lr'?");
    refused("demo m --step=3", "unknown option '--step'; did you mean '--steps'?");
    refused("demo m --zzzzzz", "unknown option '--zzzzzz'; 'danlu help demo' lists the options");
    refused("demo m --sede 3", "did you mean '--seed'?");
    refused("demo m -x", "unknown option '-x'");
    refused("demo m --no-lr", "unknown option '--no-lr'");
    refused("demo m --steps", "missing value after '--steps'");
    refused("demo m --name --fast", "missing value after '--name', before '--fast'");
    refused("demo m --steps ten", "wrong value 'ten' for '--steps'; it takes an integer of at least 1");
    refused("demo m --steps 0", "at least 1");
    refused("demo m --steps 1.5", "wrong value '1.5'");
    refused("demo m --steps 9223372036854775808", "wrong value");
    refused("demo m --steps 9300000000G", "wrong value");
    refused("demo m --lr 2", "a number between 0 and 1");
    refused("demo m --lr nan", "wrong value 'nan'");
    refused("demo m --lr inf", "wrong value 'inf'");
    refused("demo m --kind cosin", "one of cosine, linear, wsd; did you mean 'cosine'?");
    refused("demo m --fast=maybe", "it takes true or false");
    refused("demo", "missing argument MODEL (model folder); example: danlu demo m");
    refused("demo a b c", "one argument too many: 'c'");
    refused("rest", "missing argument FILE");
    refused("dmeo", "unknown command 'dmeo'; did you mean 'demo'?");
    refused("qqqqqq", "unknown command 'qqqqqq'; 'danlu help' lists the commands");
    refused("group", "'danlu group' needs one of: demo, rest");
    refused("group dmo", "unknown command 'group dmo'; did you mean 'group demo'?");
    refused("both dmeo a b", "unknown command 'both dmeo'; did you mean 'both demo'?");
    refused("both model out more", "one argument too many: 'more'");
    refused("qed", "unknown command 'qed'; 'danlu help'");      /* short names: one letter may differ */
    refused("demo m --xlyr 3", "unknown option '--xlyr'; 'danlu help demo'");     /* not --lr: nothing of it would be left */
    refused("--json demo", "option '--json' stands before a command");
    refused("", "no command given");
}

static void test_one_example(void **state)
{
    (void)state;
    struct parsed p;
    parse(&p, "both");
    assert_int_equal(p.rc, DAN_EUSAGE);
    assert_non_null(strstr(p.e.msg, "example: danlu both m"));
    assert_null(strstr(p.e.msg, "danlu both demo"));
    dan_arena_free(p.cli.arena);
}

static void test_ints(void **state)
{
    (void)state;
    static const struct { const char *text; bool ok; int64_t v; } cases[] = {
        {"0", true, 0}, {"-12", true, -12}, {"10k", true, 10000}, {"3K", true, 3000}, {"2M", true, 2000000}, {"4Ki", true, 4096},
        {"1G", true, 1000000000}, {"1B", true, 1000000000}, {"1e6", true, 1000000}, {"2.5k", true, 2500}, {"1.005k", true, 1005},
        {"9223372036854775807", true, INT64_MAX},
        {"", false, 0}, {"k", false, 0}, {"1kk", false, 0}, {" 1", false, 0}, {"1 ", false, 0}, {"0x10", false, 0},
        {"-0X1", false, 0}, {"1.0001k", false, 0},
        {"--1", false, 0}, {"1e30", false, 0}, {"1m", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t v = 0;
        bool ok = dan_parse_int(cases[i].text, &v);
        if (ok != cases[i].ok || (ok && v != cases[i].v))
            fail_msg("'%s' gave %d %lld", cases[i].text, ok, (long long)v);
    }
}

static void with_recipe(struct parsed *p, const char *json, const char *line)
{
    static char path[64], full[512];
    struct dan_err e = {0};
    snprintf(path, sizeof path, "/tmp/danlu-options-test-%d.json", (int)getpid());
    assert_int_equal(dan_write_file(path, json, strlen(json), &e), DAN_OK);
    snprintf(full, sizeof full, "%s --recipe %s", line, path);
    parse(p, full);
    unlink(path);
}

static void test_recipe(void **state)
{
    (void)state;
    struct parsed p;
    with_recipe(&p, "{\"command\": \"demo\", \"model\": \"m\", \"lr\": 0.25, \"steps\": \"3k\", \"tied\": false, \"seed\": 9,"
                    "\"data\": [\"x\", \"y\"], \"kind\": \"wsd\"}", "demo --lr 0.5 --data z");
    const struct demo *d = p.opts;
    if (p.rc)
        print_error("%s\n", p.e.msg);
    assert_int_equal(p.rc, DAN_OK);
    assert_string_equal(d->model, "m");
    assert_true(d->lr == 0.5);                 /* the command line wins */
    assert_int_equal(d->steps, 3000);
    assert_false(d->tied);
    assert_int_equal(p.cli.seed, 9);
    assert_int_equal(d->data.n, 1);            /* a list is replaced, not mixed */
    assert_string_equal(d->data.v[0], "z");
    assert_true(dan_given(&p.cli, "kind"));
    dan_arena_free(p.cli.arena);

    /* later, from run: what was given stays, the rest is filled in */
    static const char json[] = "{\"lr\": 0.25, \"steps\": 5, \"data\": \"r\"}";
    char path[64];
    snprintf(path, sizeof path, "/tmp/danlu-options-test-%d.json", (int)getpid());
    assert_int_equal(dan_write_file(path, json, sizeof json - 1, &p.e), DAN_OK);
    parse(&p, "demo m --lr 0.5 --data a");
    assert_int_equal(dan_recipe_apply(&p.cli, &demo, (void *)p.opts, path, &p.e), DAN_OK);
    d = p.opts;
    assert_true(d->lr == 0.5 && d->steps == 5 && d->data.n == 1);
    assert_string_equal(d->data.v[0], "a");
    unlink(path);
    dan_arena_free(p.cli.arena);
}

static void recipe_refused(const char *json, int code, const char *part)
{
    struct parsed p;
    with_recipe(&p, json, "demo m");
    if (!strstr(p.e.msg, part))
        print_error("'%s' gave '%s'\n", json, p.e.msg);
    assert_int_equal(p.rc, code);
    assert_non_null(strstr(p.e.msg, part));
    dan_arena_free(p.cli.arena);
}

static void test_recipe_refusals(void **state)
{
    (void)state;
    recipe_refused("{\"stps\": 3}", DAN_EUSAGE, "unknown key 'stps' in recipe");
    recipe_refused("{\"stps\": 3}", DAN_EUSAGE, "did you mean 'steps'?");
    recipe_refused("{\"steps\": {}}", DAN_EUSAGE, "wrong value for 'steps'");
    recipe_refused("{\"steps\": -3}", DAN_EUSAGE, "it takes an integer of at least 1");
    recipe_refused("{\"command\": \"rest\"}", DAN_EUSAGE, "is for 'rest', not for 'demo'");
    recipe_refused("{\"steps\": 3,}", DAN_EFORMAT, "line 1");
    recipe_refused("[]", DAN_EFORMAT, "not an object");
    recipe_refused("{\"lr\": 0.1, \"lr\": 0.2}", DAN_EFORMAT, "duplicate");
    struct parsed p;
    parse(&p, "demo m --recipe /nowhere/at/all.json");
    assert_int_equal(p.rc, DAN_EIO);
    dan_arena_free(p.cli.arena);
}

/* What is saved repeats the run: parse, save, parse the saved text, save again. */
static void test_round_trip(void **state)
{
    (void)state;
    struct parsed p, q;
    struct dan_str a = {0}, b = {0};
    parse(&p, "demo m --lr 0.1234567 --steps 9007199254740993 --no-tied --data a b --seed 5");
    assert_int_equal(p.rc, DAN_OK);
    assert_int_equal(dan_recipe_text(&p.cli, p.opts, &a, &p.e), DAN_OK);
    with_recipe(&q, a.p, "demo");
    assert_int_equal(q.rc, DAN_OK);
    assert_int_equal(dan_recipe_text(&q.cli, q.opts, &b, &q.e), DAN_OK);
    assert_string_equal(a.p, b.p);
    assert_true(((const struct demo *)q.opts)->lr == 0.1234567);
    assert_non_null(strstr(a.p, "\"command\": \"demo\""));
    dan_str_release(&a);
    dan_str_release(&b);
    dan_arena_free(p.cli.arena);
    dan_arena_free(q.cli.arena);
}

/* An option that may stand alone takes no word behind it. */
static void test_bare(void **state)
{
    static const struct { const char *line, *report; } cases[] = {
        {"demo m", NULL}, {"demo m --report", "on"}, {"demo --report m", "on"}, {"demo m --report --fast", "on"}, {"demo m --report=-x,y", "-x,y"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct parsed p;
        parse(&p, cases[i].line);
        assert_int_equal(p.rc, DAN_OK);
        const struct demo *o = p.opts;
        assert_string_equal(o->model, "m");
        assert_true(cases[i].report ? o->report && !strcmp(o->report, cases[i].report) : !o->report);
        dan_arena_free(p.cli.arena);
    }
}

static void test_help_text(void **state)
{
    (void)state;
    struct dan_str s = {0};
    dan_help_command(&demo, "demo", 80, false, &s);
    assert_non_null(strstr(s.p, "usage: danlu demo MODEL [OUT] [--options]"));
    assert_non_null(strstr(s.p, "(0 to 1; default 3e-4)"));
    assert_non_null(strstr(s.p, "--kind cosine|linear|wsd"));
    assert_non_null(strstr(s.p, "--dtype bf16|f32"));
    assert_non_null(strstr(s.p, "--[no-]tied"));
    assert_non_null(strstr(s.p, "--report[=RULES]"));
    assert_non_null(strstr(s.p, "Example\n  danlu demo m\n"));
    assert_null(strchr(s.p, '\033'));
    dan_str_clear(&s);
    dan_help_command(&group, "group", 40, false, &s);
    assert_non_null(strstr(s.p, "\nOne paragraph that is wrapped at forty\ncolumns.\n\nAnother.\n- a point\n- another point\n"));
    assert_non_null(strstr(s.p, "usage: danlu group COMMAND"));
    dan_str_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults), cmocka_unit_test(test_values), cmocka_unit_test(test_double_dash),
        cmocka_unit_test(test_help_wins), cmocka_unit_test(test_refusals), cmocka_unit_test(test_one_example), cmocka_unit_test(test_ints),
        cmocka_unit_test(test_recipe), cmocka_unit_test(test_recipe_refusals), cmocka_unit_test(test_round_trip), cmocka_unit_test(test_bare),
        cmocka_unit_test(test_help_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
