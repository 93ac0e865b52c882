#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/file.h"
#include "base/str.h"
#include "base/sys.h"
#include "data/text.h"

static char dir[] = "/tmp/danlu-text-XXXXXX";

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    return dan_remove_tree(dir, NULL);
}

static const char *in_dir(const char *name)
{
    static char p[400];
    snprintf(p, sizeof p, "%s/%s", dir, name);
    return p;
}

static const char *put(const char *name, const char *text, size_t n)
{
    assert_int_equal(dan_write_file(in_dir(name), text, n, NULL), DAN_OK);
    return in_dir(name);
}

/* All documents of a path, "[...]" each; or the message. */
static void walk(const char *path, const struct dan_text_opts *o, struct dan_str *out)
{
    struct dan_text *t = NULL;
    struct dan_err e = {0};
    struct dan_document d;
    dan_str_clear(out);
    int rc = dan_text_open(&path, 1, o, &t, &e);
    while (!rc && !(rc = dan_text_next(t, &d, &e)) && d.p) dan_str_printf(out, "%lld:[%.*s]", (long long)d.line, (int)d.n, d.p);
    if (rc) dan_str_printf(out, "error: %s", e.msg);
    dan_text_free(t);
}

#define LIT(s) s, sizeof(s) - 1
static const struct row { const char *name, *text; size_t n; const char *gives; bool allow; } rows[] = {
    {"a.txt", LIT("one\ntwo\n"), "1:[one\ntwo\n]", false},
    {"a.txt", LIT("\xef\xbb\xbf" "bom"), "1:[bom]", false},
    {"a.txt", LIT("one\n<|endoftext|>\ntwo\nthree\n<|endoftext|>\n"), "1:[one]3:[two\nthree]", false},
    {"a.txt", LIT("one\r\n<|endoftext|>\r\n\r\n<|endoftext|>\r\nx <|endoftext|>\n"), "1:[one]5:[x <|endoftext|>\n]", false},
    {"a.txt", LIT("<|endoftext|>\none<|endoftext|>"), "2:[one<|endoftext|>]", false},
    {"a.jsonl", LIT("{\"text\": \"a\\nb\"}\n\n{\"text\":\" \"}\n{\"x\":1,\"text\":\"\xe4\xb8\xb9\"}"), "1:[a\nb]4:[\xe4\xb8\xb9]", false},
    {"a.jsonl", LIT("{\"text\":\"a\"}\n{\"text\":\"b\""), "line 2", false},
    {"a.jsonl", LIT("{\"text\":\"a\"}\n{\"body\":\"b\",\"n\":1}"), "no field 'text' in line 2", false},
    {"a.jsonl", LIT("{\"text\":7}"), "is no string", false},
    {"a.jsonl", LIT("[1]"), "no JSON object", false},
    {"a.jsonl", LIT("{\"messages\":[]}"), "'messages'", false},
    {"a.jsonl", LIT("{\"instruction\":\"x\"}"), "'instruction'", false},
    {"a.txt", LIT("ab\ncd\xff" "e"), "at byte 5, line 2", false},
    {"a.txt", LIT("ab\ncd\xff" "e"), "1:[ab\ncd\xff" "e]", true},
    {"a.txt", LIT("ab\0cd"), "byte 2 is NUL", false},
    {"a.txt", LIT("ab\1\2\3\4cd"), "control characters", true},
    {"a.txt", LIT("\x1f\x8b\x08xxxx"), "gunzip", false},
    {"a.txt", LIT("\xff\xfe" "a\0"), "UTF-16", true},
    {"a.txt", LIT(""), "is empty", false},
    {"a.json", LIT("[]"), ".jsonl", false},
    {"a.py", LIT("x = 1\n"), "1:[x = 1\n]", false},
    {"a.txt", LIT("  \n\t\n"), "", false},
};

static void test_documents(void **state)
{
    (void)state;
    struct dan_str got = {0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *r = &rows[i];
        walk(put(r->name, r->text, r->n), &(struct dan_text_opts){.allow_invalid = r->allow}, &got);
        bool is_docs = r->gives[0] >= '0' && r->gives[0] <= '9';
        if (is_docs ? strcmp(dan_str_c(&got), r->gives) != 0 : !strstr(dan_str_c(&got), r->gives))
            fail_msg("row %zu gives %s", i, dan_str_c(&got));
        unlink(in_dir(r->name));
    }
    walk(in_dir("missing.txt"), NULL, &got);
    assert_non_null(strstr(got.p, "no such file"));
    dan_str_release(&got);
}

static void test_field(void **state)
{
    (void)state;
    struct dan_str got = {0};
    put("a.jsonl", LIT("{\"body\":\"x\"}\n"));
    walk(in_dir("a.jsonl"), &(struct dan_text_opts){.field = "body"}, &got);
    assert_string_equal(got.p, "1:[x]");
    unlink(in_dir("a.jsonl"));
    dan_str_release(&got);
}

static void test_directory(void **state)
{
    (void)state;
    struct dan_str got = {0};
    struct dan_text *t;
    struct dan_text_stats s;
    struct dan_err e = {0};
    assert_int_equal(dan_mkdirs(in_dir("d/b"), NULL), DAN_OK);
    walk(in_dir("d"), NULL, &got);
    assert_non_null(strstr(got.p, "no text in"));
    put("d/c.TXT", LIT("3"));
    put("d/b/x.md", LIT("2\n"));
    put("d/a.jsonl", LIT("{\"text\":\"1\"}\n"));
    put("d/.hidden.txt", LIT("no"));
    put("d/prog.c", LIT("no"));
    put("d/empty.txt", LIT(""));
    put("d/huge.txt", LIT(" \n<|endoftext|>\n4\n"));
    walk(in_dir("d"), NULL, &got);
    assert_string_equal(got.p, "1:[1]1:[2\n]1:[3]3:[4\n]");
    const char *path = in_dir("d");
    assert_int_equal(dan_text_open(&path, 1, NULL, &t, &e), DAN_OK);
    for (int i = 0; i < 2; i++) {              /* counts the same again */
        assert_int_equal(dan_text_count(t, &s, &e), DAN_OK);
        assert_int_equal(s.docs, 4);
        assert_int_equal(s.bytes, 6);
        assert_int_equal(s.longest, 2);
        assert_int_equal(s.blank, 2);          /* the empty file and the blank document */
    }
    dan_text_free(t);
    put("d/z.txt", LIT("\xc3"));
    path = in_dir("d");
    assert_int_equal(dan_text_open(&path, 1, NULL, &t, &e), DAN_OK);
    assert_int_equal(dan_text_count(t, &s, &e), DAN_EFORMAT);
    assert_non_null(strstr(e.msg, "z.txt"));
    dan_text_free(t);
    dan_str_release(&got);
}

static void test_real_text(void **state)
{
    (void)state;
    const char *data = dan_env("DANLU_DATA");
    char p[512];
    const char *path = p;
    struct dan_text *t;
    struct dan_text_stats s;
    struct dan_err e = {0};
    snprintf(p, sizeof p, "%s/text/en/tinystories_train.txt", data ? data : "../shared/data");
    if (!dan_path_exists(p)) skip();
    assert_int_equal(dan_text_open(&path, 1, NULL, &t, &e), DAN_OK);
    assert_int_equal(dan_text_count(t, &s, &e), DAN_OK);
    assert_in_range(s.docs, 2000, 2001);       /* 2000 separator lines */
    dan_text_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_documents), cmocka_unit_test(test_field), cmocka_unit_test(test_directory), cmocka_unit_test(test_real_text),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
