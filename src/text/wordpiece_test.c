/* WordPiece against tokenizers' own ids (tests/golden/make_wordpiece_golden.py) under every setting of the normalizer; vocab.txt,
 * decoding, templates, what is refused.  With DANLU_DATA: BERT's real vocabularies. */
#include "text/tokenizer.h"
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
#include "base/rng.h"
#include "base/sys.h"
#include "base/utf8.h"

static char dir[64], golden[512];

static void ok(int r, const struct dan_err *e)
{
    if (r) fail_msg("%d: %s", r, e->msg);
}

static const char *at(const char *folder, const char *name)
{
    static char path[4][600];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[0], "%s/%s", folder, name);
    return path[turn];
}

static struct dan_tokenizer *load(const char *path)
{
    struct dan_tokenizer *t = NULL;
    struct dan_err e = {0};
    ok(dan_tokenizer_load(path, &t, &e), &e);
    return t;
}

static json_t *golden_json(void)
{
    json_t *j = json_load_file(at(golden, "tokenizer.json"), 0, NULL);
    assert_non_null(j);
    return j;
}

static void write_json(const json_t *j, const char *name) { assert_int_equal(json_dump_file(j, at(dir, name), 0), 0); }

/* With and without a cache, twice, so that it hits. */
static void check_ids(const struct dan_tokenizer *t, struct dan_tok_cache *c, const char *p, size_t n, const json_t *want)
{
    struct dan_err e = {0};
    for (int way = 0; way < 3; way++) {
        struct dan_ids ids = {0};
        ok(way ? dan_tok_cache_encode(c, p, n, DAN_ENCODE_SPECIAL, &ids, &e) : dan_tokenizer_encode(t, p, n, DAN_ENCODE_SPECIAL, &ids, &e),
           &e);
        bool same = ids.n == json_array_size(want);
        for (size_t i = 0; i < ids.n && same; i++) same = ids.v[i] == json_integer_value(json_array_get(want, i));
        if (!same) fail_msg("'%.*s' (way %d): %zu ids, %zu expected, or others", (int)n, p, way, ids.n, json_array_size(want));
        dan_ids_release(&ids);
    }
}

static void check_setting(const json_t *line)
{
    json_t *j = golden_json(), *norm = json_object_get(j, "normalizer"), *one;
    size_t i;
    json_object_set(norm, "clean_text", json_object_get(line, "clean"));
    json_object_set(norm, "handle_chinese_chars", json_object_get(line, "chinese"));
    json_object_set(norm, "strip_accents", json_object_get(line, "strip"));
    json_object_set(norm, "lowercase", json_object_get(line, "lower"));
    write_json(j, "tokenizer.json");
    struct dan_tokenizer *t = load(dir);
    struct dan_tok_cache *c;
    struct dan_err e = {0};
    ok(dan_tok_cache_new(t, &c, &e), &e);
    json_array_foreach(json_object_get(line, "cases"), i, one)
        check_ids(t, c, json_string_value(json_array_get(one, 0)), json_string_length(json_array_get(one, 0)), json_array_get(one, 1));
    dan_tok_cache_free(c);
    dan_tokenizer_free(t);
    json_decref(j);
    unlink(at(dir, "tokenizer.json"));
}

static void test_golden(void **state)
{
    (void)state;
    char *bytes;
    size_t n, lines = 0;
    struct dan_err e = {0};
    ok(dan_read_file(at(golden, "cases.jsonl"), &bytes, &n, &e), &e);
    for (char *save, *line = strtok_r(bytes, "\n", &save); line; line = strtok_r(NULL, "\n", &save), lines++) {
        json_t *j = json_loads(line, JSON_ALLOW_NUL, NULL);
        assert_non_null(j);
        check_setting(j);
        json_decref(j);
    }
    assert_int_equal(lines, 24);
    dan_free(bytes);
}

static void expect(const struct dan_tokenizer *t, const char *text, int flags, const int32_t *want, size_t n)
{
    struct dan_ids ids = {0};
    struct dan_err e = {0};
    ok(dan_tokenizer_encode(t, text, strlen(text), flags, &ids, &e), &e);
    if (ids.n != n || (n && memcmp(ids.v, want, n * sizeof *want))) fail_msg("'%s': %zu ids, %zu expected, or others", text, ids.n, n);
    dan_ids_release(&ids);
}

/* A text's control tokens are text unless the caller allows them. */
static void test_special(void **state)
{
    (void)state;
    struct dan_tokenizer *t = load(golden);
    struct dan_ids ids = {0};
    struct dan_err e = {0};
    expect(t, "[MASK]", DAN_ENCODE_SPECIAL, (const int32_t[]){4}, 1);
    ok(dan_tokenizer_encode(t, "[MASK]", 6, 0, &ids, &e), &e);
    for (size_t i = 0; i < ids.n; i++) assert_int_not_equal(ids.v[i], 4);
    assert_true(ids.n >= 3);
    dan_ids_release(&ids);
    assert_string_equal(dan_tokenizer_kind(t), "wordpiece");
    assert_int_equal(dan_tokenizer_unk(t), 1);
    assert_int_equal(dan_tokenizer_before(t)->n, 1);
    assert_int_equal(dan_tokenizer_before(t)->v[0], 2);
    assert_int_equal(dan_tokenizer_after(t)->n, 1);
    assert_int_equal(dan_tokenizer_after(t)->v[0], 3);
    dan_tokenizer_free(t);
}

/* vocab.txt means the same as tokenizer.json, and saving writes the latter. */
static void test_vocab_txt(void **state)
{
    (void)state;
    char *bytes;
    size_t n;
    struct dan_err e = {0};
    ok(dan_read_file(at(golden, "vocab.txt"), &bytes, &n, &e), &e);
    ok(dan_write_file(at(dir, "vocab.txt"), bytes, n, &e), &e);
    dan_free(bytes);
    struct dan_tokenizer *a = load(golden), *b = load(dir);
    assert_true(dan_tokenizer_hash(a) == dan_tokenizer_hash(b));
    assert_int_equal(dan_tokenizer_after(b)->v[0], 3);
    dan_tokenizer_free(b);
    ok(dan_write_file(at(dir, "tokenizer_config.json"), "{\"do_lower_case\": false}", 24, &e), &e);
    b = load(dir);
    assert_false(dan_tokenizer_hash(a) == dan_tokenizer_hash(b));
    ok(dan_tokenizer_save(b, dir, &e), &e);
    assert_true(dan_path_exists(at(dir, "tokenizer.json")));
    struct dan_tokenizer *c = load(dir);
    assert_true(dan_tokenizer_hash(b) == dan_tokenizer_hash(c));
    dan_tokenizer_free(a);
    dan_tokenizer_free(b);
    dan_tokenizer_free(c);
    unlink(at(dir, "tokenizer.json"));
    ok(dan_write_file(at(dir, "vocab.txt"), "a\n\xFF\n", 4, &e), &e);
    assert_int_equal(dan_tokenizer_load(dir, &a, &e), DAN_EFORMAT);
    assert_non_null(strstr(e.msg, "not UTF-8"));
    e = (struct dan_err){0};
    ok(dan_write_file(at(dir, "vocab.txt"), "a\nb\n", 4, &e), &e);
    assert_int_equal(dan_tokenizer_load(dir, &a, &e), DAN_EFORMAT);
    assert_non_null(strstr(e.msg, "[UNK]"));
    unlink(at(dir, "vocab.txt"));
    unlink(at(dir, "tokenizer_config.json"));
}

static void test_decode(void **state)
{
    (void)state;
    struct dan_tokenizer *t = load(golden);
    struct dan_ids ids = {0};
    struct dan_str s = {0};
    struct dan_err e = {0};
    const char *text = "The patient monk, waiting in the yard.";
    ok(dan_tokenizer_encode(t, text, strlen(text), 0, &ids, &e), &e);
    dan_tokenizer_decode(t, ids.v, ids.n, &s);
    assert_string_equal(s.p, "the patient monk, waiting in the yard.");
    dan_str_release(&s);
    dan_ids_release(&ids);
    dan_tokenizer_free(t);
}

/* Any bytes: no crash, ids in range; a byte that is no UTF-8 counts as U+FFFD, which clean_text removes. */
static void test_any_bytes(void **state)
{
    (void)state;
    struct dan_tokenizer *t = load(golden);
    struct dan_rng r = {.seed = 3};
    struct dan_err e = {0};
    struct dan_ids a = {0}, b = {0};
    char text[300], clean[1200];
    for (int k = 0; k < 20000; k++) {
        size_t n = dan_rng_below(&r, sizeof text), m = 0;
        for (size_t i = 0; i < n; i++) {
            if (k & 1) text[i] = (char)dan_rng_below(&r, 256);
            else text[i] = "ab \xCC\x81\xE7\x81\xAB\xF0\x9D.\x85\xA5#"[dan_rng_below(&r, 14)];
        }
        for (size_t i = 0; i < n;) {
            int32_t cp;
            i += (size_t)dan_utf8_next(text + i, n - i, &cp);
            m += (size_t)dan_utf8_put(cp < 0 ? 0xFFFD : cp, clean + m);
        }
        a.n = b.n = 0;
        ok(dan_tokenizer_encode(t, text, n, 0, &a, &e), &e);
        ok(dan_tokenizer_encode(t, clean, m, 0, &b, &e), &e);
        assert_int_equal(a.n, b.n);
        for (size_t i = 0; i < a.n; i++) assert_true(a.v[i] == b.v[i] && a.v[i] >= 0 && a.v[i] < dan_tokenizer_vocab_size(t));
    }
    char *long_word = dan_malloc(1 << 20);
    memset(long_word, 'x', 1 << 20);
    a.n = 0;
    ok(dan_tokenizer_encode(t, long_word, 1 << 20, 0, &a, &e), &e);
    assert_int_equal(a.n, 1);
    assert_int_equal(a.v[0], 1);
    dan_free(long_word);
    dan_ids_release(&a);
    dan_ids_release(&b);
    dan_tokenizer_free(t);
}

static void refused(const char *path, const char *key, json_t *value, const char *part)
{
    json_t *j = golden_json();
    char first[40];
    struct dan_tokenizer *t;
    struct dan_err e = {0};
    snprintf(first, sizeof first, "%.*s", (int)strcspn(path, "."), path);
    json_object_set_new(*first ? json_object_get(j, first) : j, key, value);
    write_json(j, "tokenizer.json");
    assert_int_not_equal(dan_tokenizer_load(dir, &t, &e), 0);
    if (!strstr(e.msg, part)) fail_msg("%s", e.msg);
    json_decref(j);
    unlink(at(dir, "tokenizer.json"));
}

static void test_refused(void **state)
{
    (void)state;
    refused("normalizer", "type", json_string("NFQC"), "normalizer.type 'NFQC'");
    refused("pre_tokenizer", "type", json_string("Whitespaces"), "pre_tokenizer.type 'Whitespaces'");
    refused("model", "unk_token", json_string("[NONE]"), "unk_token '[NONE]'");
    refused("model", "max_input_chars_per_word", json_integer(-1), "max_input_chars_per_word");
    refused("model", "continuing_subword_prefix", json_string("################################"), "continuing_subword_prefix");
    refused("post_processor", "cls", json_pack("[s,i]", "[CLS]", 99999), "post_processor adds token 99999");
}

/* BERT's own vocabularies: words that everybody knows. */
static void test_real(void **state)
{
    (void)state;
    const char *data = dan_env("DANLU_DATA");
    char path[600];
    snprintf(path, sizeof path, "%s/tokenizer/bert/bert-base-uncased.vocab.txt", data ? data : "../shared/data");
    if (!dan_path_exists(path)) {
        print_message("skipped: no %s\n", path);
        return;
    }
    struct dan_tokenizer *t = load(path);
    assert_int_equal(dan_tokenizer_vocab_size(t), 30522);
    expect(t, "Hello, world! Unaffable.", 0, (const int32_t[]){7592, 1010, 2088, 999, 14477, 20961, 3468, 1012}, 8);
    expect(t, "Caf\u00e9 \u4e2d\u6587", 0, (const int32_t[]){7668, 1746, 1861}, 3);
    dan_tokenizer_free(t);
}

int main(void)
{
    snprintf(golden, sizeof golden, "%.*s/../../tests/golden/wordpiece", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
    snprintf(dir, sizeof dir, "/tmp/danlu-wordpiece-XXXXXX");
    if (!mkdtemp(dir)) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_special), cmocka_unit_test(test_vocab_txt),
                                       cmocka_unit_test(test_decode), cmocka_unit_test(test_any_bytes), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_real)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(dir);
    return failed;
}
