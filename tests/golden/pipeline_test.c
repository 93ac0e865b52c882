/* Every part of tokenizer.json's schema against Hugging Face `tokenizers`: tests/golden/make_pipeline_golden.py.  Ids, offsets, decodes
 * whole and id by id, pairs; then the same from what danlu writes itself. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"
#include "base/threads.h"
#include "text/spec.h"

static const char *folder(void)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/tests/golden/pipeline", dan_env("DANLU_SRC") ? dan_env("DANLU_SRC") : ".");
    return path;
}

static bool same_ids(const struct dan_ids *ids, const json_t *want)
{
    bool same = ids->n == json_array_size(want);
    for (size_t i = 0; i < ids->n && same; i++) same = ids->v[i] == json_integer_value(json_array_get(want, i));
    return same;
}

static void wrong(const json_t *c, const char *what)
{
    fail_msg("%s: other %s for '%s'", json_string_value(json_object_get(c, "tokenizer")), what, json_string_value(json_object_get(c, "text")));
}

/* What is no UTF-8 is U+FFFD in the library's text, in runs that differ by implementation: compared up to the first. */
static void same_text(const json_t *c, const struct dan_str *got, const char *key)
{
    const json_t *want = json_object_get(c, key);
    const char *p = json_string_value(want), *lost = p ? strstr(p, "\xEF\xBF\xBD") : NULL;
    size_t n = lost ? (size_t)(lost - p) : json_string_length(want);
    if (want && (got->n < n || (!lost && got->n != n) || (n && memcmp(got->p, p, n) != 0))) wrong(c, key);
}

static void check_decode(const struct dan_tokenizer *t, const json_t *c, const struct dan_ids *encoded)
{
    struct dan_ids ids = {0};
    struct dan_str whole = {0}, stream = {0}, plain = {0};
    struct dan_detok d = {.t = t};
    const json_t *other = json_object_get(c, "decode_ids");
    for (size_t i = 0; i < (other ? json_array_size(other) : encoded->n); i++)
        dan_ids_push(&ids, other ? (int32_t)json_integer_value(json_array_get(other, i)) : encoded->v[i]);
    dan_tokenizer_decode(t, ids.v, ids.n, &whole);
    dan_tokenizer_decode_plain(t, ids.v, ids.n, &plain);
    for (size_t i = 0; i < ids.n; i++) dan_detok_push(&d, ids.v[i], &stream);
    dan_detok_finish(&d, &stream);
    assert_int_equal(whole.n, stream.n);
    if (whole.n) assert_memory_equal(whole.p, stream.p, whole.n);
    same_text(c, &whole, "decode");
    same_text(c, &plain, "plain");
    dan_ids_release(&ids);
    dan_str_release(&whole);
    dan_str_release(&stream);
    dan_str_release(&plain);
}

static void check_spans(const json_t *c, const struct dan_spans *span)
{
    const json_t *want = json_object_get(c, "offsets");
    for (size_t i = 0; i < span->n && json_is_array(want); i++) {
        const json_t *one = json_array_get(want, i);
        if ((json_int_t)span->v[i].from != json_integer_value(json_array_get(one, 0)) ||
            (json_int_t)span->v[i].to != json_integer_value(json_array_get(one, 1)))
            wrong(c, "offsets");
    }
}

static void check_case(const struct dan_tokenizer *t, const json_t *c)
{
    const json_t *text = json_object_get(c, "text"), *pair = json_object_get(c, "pair");
    const char *p = json_string_value(text);
    size_t n = json_string_length(text);
    const int flags = DAN_ENCODE_SPECIAL | DAN_ENCODE_UNK;
    struct dan_ids ids = {0}, again = {0}, both = {0}, types = {0};
    struct dan_spans span = {0};
    struct dan_err e = {0};
    if (dan_tokenizer_encode(t, p, n, flags, &ids, &e)) fail_msg("%s", e.msg);
    if (!same_ids(&ids, json_object_get(c, "ids"))) wrong(c, "ids");
    if (dan_tokenizer_encode_offsets(t, p, n, flags, &again, &span, &e)) fail_msg("%s", e.msg);
    if (!same_ids(&again, json_object_get(c, "ids"))) wrong(c, "ids with offsets");
    assert_int_equal(span.n, ids.n);
    check_spans(c, &span);
    assert_int_equal(dan_tokenizer_join(t, &ids, &ids, &both, &types, &e), 0);
    if (pair && (!same_ids(&both, pair) || !same_ids(&types, json_object_get(c, "types")))) wrong(c, "pair");
    check_decode(t, c, &ids);
    dan_ids_release(&ids);
    dan_ids_release(&again);
    dan_ids_release(&both);
    dan_ids_release(&types);
    dan_spans_release(&span);
}

/* rewrite: through dan_spec_to_json first. */
static struct dan_tokenizer *load(const char *name, bool rewrite)
{
    char path[700];
    struct dan_tokenizer *t = NULL;
    struct dan_err e = {0};
    snprintf(path, sizeof path, "%s/%s.json", folder(), name);
    if (!rewrite) {
        if (dan_tokenizer_load(path, &t, &e)) fail_msg("%s", e.msg);
        return t;
    }
    struct dan_tok_spec s, again;
    struct dan_str text = {0};
    dan_tok_spec_init(&s, DAN_SPEC_BPE, name);
    dan_tok_spec_init(&again, DAN_SPEC_BPE, name);
    if (dan_spec_from_json(path, &s, &e) || dan_spec_to_json(&s, &text, &e)) fail_msg("%s", e.msg);
    if (dan_spec_of_json_text(text.p, text.n, &again, &e) || dan_tok_build(&again, &t, &e)) fail_msg("%s", e.msg);
    dan_tok_spec_release(&s);
    dan_tok_spec_release(&again);
    dan_str_release(&text);
    return t;
}

static void run(bool rewrite)
{
    char path[700], *bytes, name[64] = "";
    size_t n, cases = 0;
    struct dan_tokenizer *t = NULL;
    snprintf(path, sizeof path, "%s/cases.jsonl", folder());
    if (dan_read_file(path, &bytes, &n, NULL)) skip();
    for (char *line = bytes, *end; (end = strchr(line, '\n')) != NULL; line = end + 1, cases++) {
        json_t *c = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL, NULL);
        assert_non_null(c);
        const char *of = json_string_value(json_object_get(c, "tokenizer"));
        if (strcmp(of, name) != 0) {
            dan_tokenizer_free(t);
            t = load(of, rewrite);
            snprintf(name, sizeof name, "%s", of);
        }
        check_case(t, c);
        json_decref(c);
    }
    assert_true(cases > 150);
    dan_tokenizer_free(t);
    dan_free(bytes);
}

static void test_golden(void **state)
{
    (void)state;
    run(false);
}

static void test_rewritten(void **state)
{
    (void)state;
    run(true);
}

/* Threads change nothing; what is pushed in pieces gives the ids of the whole. */
static void test_batch_and_stream(void **state)
{
    (void)state;
    static const char *const names[] = {"gpt2", "qwen2", "bert", "llama2", "unigram"};
    struct dan_str text = {0};
    struct dan_err e = {0};
    struct dan_pool *pool;
    for (int i = 0; i < 4000; i++) dan_str_printf(&text, "The furnace %d stood  \n\n in the yard,\nit's lit; naïve 火候.\tx\n", i);
    assert_int_equal(dan_pool_new(3, &pool, &e), 0);
    for (size_t k = 0; k < 5; k++) {
        struct dan_tokenizer *t = load(names[k], false);
        struct dan_ids whole = {0}, stream = {0}, out[20] = {{0}};
        struct dan_bytes part[20];
        struct dan_tok_stream *s;
        assert_int_equal(dan_tokenizer_encode(t, text.p, text.n, 0, &whole, &e), 0);
        assert_int_equal(dan_tok_stream_new(t, 0, &s, &e), 0);
        for (size_t i = 0, m; i < text.n; i += m) {
            m = text.n - i < 7777 ? text.n - i : 7777;
            assert_int_equal(dan_tok_stream_push(s, text.p + i, m, &stream, &e), 0);
        }
        assert_int_equal(dan_tok_stream_finish(s, &stream, &e), 0);
        dan_tok_stream_free(s);
        assert_int_equal(whole.n, stream.n);
        assert_memory_equal(whole.v, stream.v, whole.n * sizeof *whole.v);
        for (int i = 0; i < 20; i++) part[i] = (struct dan_bytes){text.p + 100 * i, 300};
        assert_int_equal(dan_tokenizer_encode_batch(t, pool, part, 20, 0, out, &e), 0);
        for (int i = 0; i < 20; i++) {
            struct dan_ids one = {0};
            assert_int_equal(dan_tokenizer_encode(t, part[i].p, part[i].n, 0, &one, &e), 0);
            assert_int_equal(one.n, out[i].n);
            assert_memory_equal(one.v, out[i].v, one.n * sizeof *one.v);
            dan_ids_release(&one);
            dan_ids_release(&out[i]);
        }
        dan_ids_release(&whole);
        dan_ids_release(&stream);
        dan_tokenizer_free(t);
    }
    dan_pool_free(pool);
    dan_str_release(&text);
}

/* A pattern that backtracks without end is an error in seconds; a normaliser that blows texts up too. */
static void test_hostile(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(a+)+[bd]\"}, \"behavior\": \"Isolated\"}, ",
        "{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(x+x+)+y|(a|aa)+$\"}, \"behavior\": \"Isolated\"}, ",
        "{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Replace\", \"pattern\": {\"String\": \"a\"}, \"content\": "
        "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}, {\"type\": \"Replace\", \"pattern\": {\"String\": \"a\"}, \"content\": "
        "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}]}, ",
    };
    struct dan_str text = {0};
    for (int i = 0; i < 20000; i++) dan_str_putc(&text, 'a');
    dan_str_putc(&text, 'c');
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct dan_str json = {0};
        struct dan_tok_spec s;
        struct dan_tokenizer *t = NULL;
        struct dan_ids ids = {0};
        struct dan_err e = {0};
        dan_str_printf(&json, "%s\"model\": {\"type\": \"WordLevel\", \"vocab\": {\"a\": 0, \"<unk>\": 1}, \"unk_token\": \"<unk>\"}}", bad[i]);
        dan_tok_spec_init(&s, DAN_SPEC_BPE, "hostile");
        if (dan_spec_of_json_text(json.p, json.n, &s, &e) || dan_tok_build(&s, &t, &e)) fail_msg("%s", e.msg);
        double from = dan_now();
        int r = dan_tokenizer_encode(t, text.p, text.n, 0, &ids, &e);
        assert_true(dan_now() - from < 60);
        if (i != 1) assert_int_equal(r, DAN_EINVAL);
        dan_ids_release(&ids);
        dan_tokenizer_free(t);
        dan_tok_spec_release(&s);
        dan_str_release(&json);
    }
    dan_str_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_rewritten), cmocka_unit_test(test_batch_and_stream),
                                       cmocka_unit_test(test_hostile)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
