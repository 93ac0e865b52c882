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
#include "data/examples.h"

/* kind, prompt's or dialogue's roles ("su": system, user), and the first answer's text; or the beginning of the error */
static const struct { const char *row; int kind; const char *roles, *answer, *error; } rows[] = {
    {"{\"text\":\"abc\"}", DAN_EXAMPLE_TEXT, "", NULL, NULL},
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}]}", DAN_EXAMPLE_CHAT, "ua", NULL, NULL},
    {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]},"
     "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[]}]}", DAN_EXAMPLE_CHAT, "ua", NULL, NULL},
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}", DAN_EXAMPLE_PROMPT, "u", NULL, NULL},
    {"{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"gpt\",\"value\":\"b\"}],\"system\":\"s\"}", DAN_EXAMPLE_CHAT, "sua", NULL, NULL},
    {"{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"function_call\",\"value\":\"{\\\"name\\\":\\\"f\\\",\\\"arguments\\\":{}}\"},"
     "{\"from\":\"observation\",\"value\":\"1\"},{\"from\":\"gpt\",\"value\":\"b\"}],\"tools\":\"[]\"}", DAN_EXAMPLE_CHAT, "uata", NULL, NULL},
    {"{\"instruction\":\"a\",\"input\":\"x\",\"output\":\"b\"}", DAN_EXAMPLE_CHAT, "ua", NULL, NULL},
    {"{\"instruction\":\"a\",\"input\":\"\",\"response\":\"b\",\"system\":\"s\",\"history\":[[\"q\",\"r\"]]}", DAN_EXAMPLE_CHAT, "suaua", NULL, NULL},
    {"{\"instruction\":\"a\",\"instances\":[{\"input\":\"x\",\"output\":\"b\"}],\"is_classification\":false}", DAN_EXAMPLE_CHAT, "ua", NULL, NULL},
    {"{\"question\":\"a\",\"answer\":\"b\"}", DAN_EXAMPLE_CHAT, "ua", NULL, NULL},
    {"{\"prompt\":\"a\",\"completion\":\"b\"}", DAN_EXAMPLE_CHAT, "ua", NULL, NULL},
    {"{\"prompt\":\"a\"}", DAN_EXAMPLE_PROMPT, "u", NULL, NULL},
    {"{\"prompt\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"a\"}]}", DAN_EXAMPLE_PROMPT, "su", NULL, NULL},
    {"{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\",\"margin\":1.5}", DAN_EXAMPLE_PAIR, "u", "b", NULL},
    {"{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"}],\"chosen\":{\"from\":\"gpt\",\"value\":\"b\"},\"rejected\":{\"from\":\"gpt\",\"value\":\"c\"}}",
     DAN_EXAMPLE_PAIR, "u", "b", NULL},
    {"{\"chosen\":\"\\n\\nHuman: a\\n\\nAssistant: x\\n\\nHuman: y\\n\\nAssistant: b\",\"rejected\":\"\\n\\nHuman: a\\n\\nAssistant: x\\n\\nHuman: y\\n\\nAssistant: c\"}",
     DAN_EXAMPLE_PAIR, "uau", "b", NULL},
    {"{\"chosen\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}],\"rejected\":[{\"role\":\"user\",\"content\":\"a\"},"
     "{\"role\":\"assistant\",\"content\":\"c\"}]}", DAN_EXAMPLE_PAIR, "u", "b", NULL},
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}],\"label\":false}", DAN_EXAMPLE_LABELLED, "u", "b", NULL},
    {"{\"instruction\":\"a\",\"output\":\"b\",\"kto_tag\":true}", DAN_EXAMPLE_LABELLED, "u", "b", NULL},
    {"{\"prompt\":\"a\",\"completions\":[\"b\",\"c\",\"d\"],\"ranks\":[1,3,2]}", DAN_EXAMPLE_RANKED, "u", "b", NULL},
    {"[1]", 0, NULL, NULL, "the row is no JSON object"},
    {"{\"a\":1,\"b\":2}", 0, NULL, NULL, "its fields (a, b) are those of no known format"},
    {"{\"text\":1}", 0, NULL, NULL, "field 'text' is no string"},
    {"{\"messages\":[]}", 0, NULL, NULL, "'messages' is empty"},
    {"{\"messages\":\"a\"}", 0, NULL, NULL, "'messages' is no list of messages"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"owl\",\"content\":\"a\"}]}", 0, NULL, NULL, "message 2 of 'messages' is from 'owl'"},
    {"{\"messages\":[{\"content\":\"a\"}]}", 0, NULL, NULL, "message 1 of 'messages' has no \"role\""},
    {"{\"messages\":[{\"role\":\"user\"}]}", 0, NULL, NULL, "message 1 of 'messages' has no text"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}", 0, NULL, NULL, "part 1 of message 1 of 'messages' is not text"},
    {"{\"messages\":[{\"role\":\"system\",\"content\":\"a\"}]}", 0, NULL, NULL, "the dialogue has no message of the assistant"},
    {"{\"conversations\":[{\"from\":\"function_call\",\"value\":\"f()\"}]}", 0, NULL, NULL, "message 1 of 'conversations' is a function call that is no JSON"},
    {"{\"prompt\":\"a\",\"chosen\":\"b\"}", 0, NULL, NULL, "'chosen' stands without 'rejected'"},
    {"{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"b\"}", 0, NULL, NULL, "'chosen' and 'rejected' are the same"},
    {"{\"chosen\":\"b\",\"rejected\":\"c\"}", 0, NULL, NULL, "there is no prompt"},
    {"{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\",\"margin\":\"x\"}", 0, NULL, NULL, "field 'margin' is no number"},
    {"{\"prompt\":\"a\",\"completion\":\"b\",\"label\":1}", 0, NULL, NULL, "field 'label' is neither true nor false"},
    {"{\"prompt\":\"a\",\"completions\":[\"b\",\"c\"],\"ranks\":[1]}", 0, NULL, NULL, "'ranks' is no list of as many integers"},
    {"{\"instruction\":\"a\",\"output\":5}", 0, NULL, NULL, "'output' is no list of messages"},
    {"{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}],\"tools\":7}", 0, NULL, NULL, "field 'tools' is no list"},
};

static void roles_of(const json_t *messages, char *out, size_t n)
{
    size_t i;
    const json_t *m;
    *out = 0;
    json_array_foreach((json_t *)(uintptr_t)messages, i, m)
        if (i + 1 < n) snprintf(out + i, n - i, "%c", *json_string_value(json_object_get(m, "role")));
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dan_err e = {0};
        struct dan_example ex;
        char roles[16];
        json_t *row = json_loads(rows[i].row, 0, NULL);
        assert_non_null(row);
        int rc = dan_example_from(row, &ex, &e);
        if (rows[i].error) {
            if (!rc || strncmp(e.msg, rows[i].error, strlen(rows[i].error))) fail_msg("%s: '%s', expected '%s...'", rows[i].row, e.msg, rows[i].error);
        } else if (rc) {
            fail_msg("%s: %s", rows[i].row, e.msg);
        } else {
            roles_of(ex.messages, roles, sizeof roles);
            if ((int)ex.kind != rows[i].kind || strcmp(roles, rows[i].roles)) fail_msg("%s: kind %d, roles %s", rows[i].row, ex.kind, roles);
            if (rows[i].answer)
                assert_string_equal(json_string_value(json_object_get(json_array_get(json_array_get(ex.answers, 0), 0), "content")), rows[i].answer);
            dan_example_release(&ex);
        }
        json_decref(row);
    }
}

/* Every prefix of a row that is JSON is read or refused, and nothing else happens. */
static void test_broken_rows(void **state)
{
    (void)state;
    static const char *const odd[] = {"null", "0", "\"x\"", "[]", "{}", "[[]]", "[{}]", "[null]", "true"};
    static const char *const fields[] = {"text", "messages", "conversations", "instruction", "input", "output", "history", "system", "prompt", "completion",
                                         "chosen", "rejected", "completions", "ranks", "label", "tools", "instances", "question", "answer", "margin"};
    enum { N = sizeof fields / sizeof *fields, ODD = sizeof odd / sizeof *odd };
    for (int a = 0; a < N; a++)
        for (int b = 0; b < N; b++)
            for (int k = 0; k < ODD * ODD; k++) {
                char text[128];
                struct dan_err e = {0};
                struct dan_example ex;
                snprintf(text, sizeof text, "{\"%s\":%s,\"%s\":%s}", fields[a], odd[k % ODD], fields[b], odd[k / ODD]);
                json_t *row = json_loads(text, 0, NULL);
                if (!dan_example_from(row, &ex, &e)) dan_example_release(&ex);
                else assert_true(*e.msg);
                json_decref(row);
            }
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void test_files(void **state)
{
    (void)state;
    char dir[] = "/tmp/danlu-examples-XXXXXX", path[3][64];
    assert_non_null(mkdtemp(dir));
    for (int i = 0; i < 3; i++) snprintf(path[i], sizeof path[i], "%s/%c.%s", dir, 'a' + i, i == 1 ? "json" : i == 2 ? "txt" : "jsonl");
    write_file(path[0], "{\"text\":\"one\"}\n\n{\"text\":2}\n{broken\n{\"text\":\"three\"}");
    write_file(path[1], "[{\"text\":\"four\"},\n {\"prompt\":\"p\"}]");
    write_file(path[2], "not data");
    static const struct { const char *text; int64_t line; const char *error; } want[] = {
        {"one", 1, NULL}, {NULL, 3, "line 3 of"}, {NULL, 4, "invalid JSON in"}, {"three", 5, NULL}, {"four", 1, NULL}, {NULL, 2, NULL}};
    struct dan_examples *x;
    struct dan_err e = {0};
    struct dan_example ex;
    const char *paths[] = {dir};
    bool more;
    assert_int_equal(dan_examples_open(paths, 1, &x, &e), DAN_OK);
    for (int round = 0; round < 2; round++, dan_examples_rewind(x)) {
        for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
            e = (struct dan_err){0};
            int rc = dan_examples_next(x, &ex, &more, &e);
            assert_true(more);
            assert_int_equal(ex.line, want[i].line);
            assert_int_equal(!rc, !want[i].error);
            if (want[i].error) assert_non_null(strstr(e.msg, want[i].error));
            if (want[i].text) assert_memory_equal(ex.text, want[i].text, ex.text_bytes);
        }
        assert_int_equal(dan_examples_next(x, &ex, &more, &e), DAN_OK);
        assert_false(more);
    }
    dan_examples_free(x);
    for (int i = 0; i < 3; i++) remove(path[i]);
    remove(dir);
}

/* Files that hold no rows end the reading at once: *more is false. */
static void refused(const char *path, const char *error)
{
    struct dan_examples *x;
    struct dan_err e = {0};
    struct dan_example ex;
    bool more;
    assert_int_equal(dan_examples_open(&path, 1, &x, &e), DAN_OK);
    assert_int_not_equal(dan_examples_next(x, &ex, &more, &e), DAN_OK);
    assert_false(more);
    if (!strstr(e.msg, error)) fail_msg("'%s' instead of '%s'", e.msg, error);
    dan_examples_free(x);
}

static void test_no_rows(void **state)
{
    (void)state;
    char path[] = "/tmp/danlu-examples-XXXXXX", *long_start = malloc(70001);
    int fd = mkstemp(path);
    assert_true(fd >= 0 && long_start);
    close(fd);
    write_file(path, "");
    refused(path, "is empty");
    write_file(path, " \n\n");
    refused(path, "all of it is blank");
    write_file(path, "\x1f\x8b\x08 and so on");
    refused(path, "compressed (gzip), not plain text: unpack it first");
    write_file(path, "PAR1 and so on");
    refused(path, "a Parquet file");
    memset(long_start, 'x', 70000);            /* text as far as one looks, then a hole of a terabyte */
    long_start[70000] = 0;
    write_file(path, long_start);
    if (!truncate(path, (off_t)1 << 40)) refused(path, "line 1 of");
    write_file(path, "\n");
    if (!truncate(path, (off_t)1 << 40)) refused(path, "binary");
    remove(path);
    free(long_start);
}

/* The real sets, where they are: every row is read. */
static void test_real_data(void **state)
{
    (void)state;
    static const struct { const char *name; int kind; } sets[] = {
        {"instruct/alpaca_en.jsonl", DAN_EXAMPLE_CHAT}, {"instruct/toolcall_en.jsonl", DAN_EXAMPLE_CHAT}, {"instruct/self_instruct_seed.jsonl", DAN_EXAMPLE_CHAT},
        {"instruct/gpteacher_roleplay.jsonl", DAN_EXAMPLE_CHAT}, {"preference/dpo_en_demo.jsonl", DAN_EXAMPLE_PAIR}, {"preference/dpo_zh_demo.jsonl", DAN_EXAMPLE_PAIR},
        {"preference/hh_harmless_dev.jsonl", DAN_EXAMPLE_PAIR}, {"preference/kto_en_demo.jsonl", DAN_EXAMPLE_LABELLED}, {"math/gsm8k_train.jsonl", DAN_EXAMPLE_CHAT},
    };
    const char *data = getenv("DANLU_DATA");
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        char path[512];
        struct dan_examples *x;
        struct dan_err e = {0};
        struct dan_example ex;
        bool more = true;
        int64_t n = 0, bad = 0;
        snprintf(path, sizeof path, "%s/%s", data ? data : "../shared/data", sets[i].name);
        if (!dan_path_exists(path)) continue;
        const char *paths[] = {path};
        assert_int_equal(dan_examples_open(paths, 1, &x, &e), DAN_OK);
        for (;;) {
            e = (struct dan_err){0};
            int rc = dan_examples_next(x, &ex, &more, &e);
            if (!more) break;
            n++;
            bad += rc != 0;
            if (rc && !strstr(e.msg, "are the same")) fail_msg("%s", e.msg);
            if (!rc && (int)ex.kind != sets[i].kind) fail_msg("line %lld of %s: kind %d", (long long)ex.line, path, ex.kind);
        }
        assert_int_equal(e.code, DAN_OK);
        assert_true(n > 100 && bad * 50 < n);
        dan_examples_free(x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_broken_rows), cmocka_unit_test(test_files), cmocka_unit_test(test_no_rows),
                                       cmocka_unit_test(test_real_data)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
