/* SentencePiece models against its own ids, offsets and text (tests/golden/make_sentencepiece_golden.py); damaged files; with DANLU_DATA:
 * Llama 2's and llama2.c's tokenizers. */
#include "text/sp_model.h"
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

static char golden[512], scratch[64];

static void ok(int r, const struct dan_err *e)
{
    if (r) fail_msg("%d: %s", r, e->msg);
}

static const char *golden_path(const char *name)
{
    static char path[700];
    snprintf(path, sizeof path, "%s/%s", golden, name);
    return path;
}

typedef int reader(const char *path, struct dan_tok_spec *s, struct dan_err *e);

static struct dan_sp *open_model(reader *read, const char *path, struct dan_tok_spec *s)
{
    struct dan_sp *m = NULL;
    struct dan_err e = {0};
    dan_tok_spec_init(s, DAN_SPEC_BPE, path);
    ok(read(path, s, &e), &e);
    ok(dan_sp_new(s, &m, &e), &e);
    return m;
}

static void unhex(const json_t *j, struct dan_str *out)
{
    const char *p = json_string_value(j);
    dan_str_clear(out);
    for (size_t i = 0; p[i]; i += 2) {
        char two[3] = {p[i], p[i + 1], 0};
        dan_str_putc(out, (char)strtol(two, NULL, 16));
    }
}

static bool same_ids(const struct dan_ids *ids, const json_t *want)
{
    bool same = ids->n == json_array_size(want);
    for (size_t i = 0; i < ids->n && same; i++) same = ids->v[i] == json_integer_value(json_array_get(want, i));
    return same;
}

static void check_text(const struct dan_sp *m, const struct dan_ids *ids, const json_t *want)
{
    struct dan_str text = {0}, right = {0};
    unhex(want, &right);
    dan_sp_decode(m, ids->v, ids->n, false, &text);
    assert_int_equal(text.n, right.n);
    if (text.n) assert_memory_equal(text.p, right.p, right.n);
    dan_str_release(&text);
    dan_str_release(&right);
}

/* Without and with a cache, twice, so that it hits; with offsets. */
static void check_case(const struct dan_sp *m, struct dan_tok_cache *cache, const char *name, const json_t *c)
{
    struct dan_str text = {0};
    struct dan_err e = {0};
    unhex(json_array_get(c, 0), &text);
    for (int way = 0; way < 4; way++) {
        struct dan_ids ids = {0}, span = {0};
        if (way == 3) ok(dan_sp_encode_spans(m, dan_str_c(&text), text.n, &ids, &span, &e), &e);
        else ok(dan_sp_encode(m, way ? cache : NULL, dan_str_c(&text), text.n, &ids, &e), &e);
        if (!same_ids(&ids, json_array_get(c, 1))) fail_msg("%s: wrong ids of '%s', way %d", name, dan_str_c(&text), way);
        check_text(m, &ids, json_array_get(c, 2));
        for (size_t i = 1; i < span.n; i += 2) assert_in_range(span.v[i], span.v[i - 1], text.n);
        dan_ids_release(&ids);
        dan_ids_release(&span);
    }
    dan_str_release(&text);
}

static void check_spans(const struct dan_sp *m, const json_t *c)
{
    struct dan_str text = {0};
    struct dan_ids ids = {0}, span = {0};
    struct dan_err e = {0};
    const json_t *want = json_array_get(c, 1);
    unhex(json_array_get(c, 0), &text);
    ok(dan_sp_encode_spans(m, dan_str_c(&text), text.n, &ids, &span, &e), &e);
    assert_int_equal(span.n, 2 * json_array_size(want));
    for (size_t i = 0; i < span.n; i++)
        assert_int_equal(span.v[i], json_integer_value(json_array_get(json_array_get(want, i / 2), i % 2)));
    dan_ids_release(&ids);
    dan_ids_release(&span);
    dan_str_release(&text);
}

static void check_decode(const struct dan_sp *m, const json_t *c)
{
    struct dan_ids ids = {0};
    size_t i;
    json_t *id;
    json_array_foreach(json_array_get(c, 0), i, id) dan_ids_push(&ids, (int32_t)json_integer_value(id));
    check_text(m, &ids, json_array_get(c, 1));
    dan_ids_release(&ids);
}

/* A text so long that float sums lose their last bits and SentencePiece counts from 0 again. */
static void check_long(const struct dan_sp *m, const json_t *c)
{
    struct dan_str one = {0}, text = {0};
    struct dan_ids ids = {0};
    struct dan_err e = {0};
    unhex(json_array_get(c, 0), &one);
    for (json_int_t i = 0; i < json_integer_value(json_array_get(c, 1)); i++) dan_str_append(&text, one.p, one.n);
    ok(dan_sp_encode(m, NULL, text.p, text.n, &ids, &e), &e);
    assert_int_equal(ids.n, json_integer_value(json_array_get(c, 2)));
    assert_int_equal(dan_crc32(0, ids.v, ids.n * sizeof *ids.v), json_integer_value(json_array_get(c, 3)));
    dan_ids_release(&ids);
    dan_str_release(&one);
    dan_str_release(&text);
}

static void check_model(const json_t *line)
{
    struct dan_tok_spec s;
    struct dan_tok_cache *cache = NULL;
    struct dan_err e = {0};
    char name[64];
    size_t i;
    json_t *c;
    snprintf(name, sizeof name, "%s.model", json_string_value(json_object_get(line, "model")));
    struct dan_sp *m = open_model(dan_spec_from_sentencepiece, golden_path(name), &s);
    ok(dan_tok_cache_new(NULL, &cache, &e), &e);
    dan_tok_spec_release(&s);                  /* the model keeps nothing of it */
    json_array_foreach(json_object_get(line, "cases"), i, c) check_case(m, cache, name, c);
    json_array_foreach(json_object_get(line, "spans"), i, c) check_spans(m, c);
    json_array_foreach(json_object_get(line, "decode"), i, c) check_decode(m, c);
    check_long(m, json_object_get(line, "long"));
    dan_tok_cache_free(cache);
    dan_sp_free(m);
}

/* Calls with each line of a file of the golden folder, read as JSON. */
static void each_line(const char *name, void (*check)(const json_t *line))
{
    char *bytes;
    size_t n, lines = 0;
    struct dan_err e = {0};
    ok(dan_read_file(golden_path(name), &bytes, &n, &e), &e);
    for (size_t i = 0; i < n; lines++) {
        const char *end = memchr(bytes + i, '\n', n - i);
        size_t len = end ? (size_t)(end - bytes) - i : n - i;
        json_t *j = json_loadb(bytes + i, len, JSON_ALLOW_NUL, NULL);
        assert_non_null(j);
        check(j);
        json_decref(j);
        i += len + 1;
    }
    assert_true(lines >= 10);
    dan_free(bytes);
}

static void test_golden(void **state) { (void)state, each_line("cases.jsonl", check_model); }

/* One id after the other gives the same text, but for bytes that are no UTF-8. */
static void test_stream(void **state)
{
    (void)state;
    struct dan_tok_spec s;
    struct dan_sp *m = open_model(dan_spec_from_sentencepiece, golden_path("bpe_bytes.model"), &s);
    struct dan_ids ids = {0};
    struct dan_err e = {0};
    struct dan_str all = {0}, one = {0};
    struct dan_sp_detok d = {0};
    const char text[] = " Hello \xe7\x81\xab\xe5\x80\x99 \xf0\x9f\x99\x82 the end";
    ok(dan_sp_encode(m, NULL, text, sizeof text - 1, &ids, &e), &e);
    dan_sp_decode(m, ids.v, ids.n, false, &all);
    for (size_t i = 0; i < ids.n; i++) dan_sp_detok_push(m, &d, ids.v[i], false, &one);
    assert_string_equal(dan_str_c(&all), text);
    assert_string_equal(dan_str_c(&one), text);
    dan_str_clear(&all);
    dan_sp_decode(m, (const int32_t[]){1, -5, 1 << 30}, 3, true, &all);
    assert_string_equal(dan_str_c(&all), "<s>");
    dan_str_release(&all);
    dan_str_release(&one);
    dan_ids_release(&ids);
    dan_sp_free(m);
    dan_tok_spec_release(&s);
}

/* Without an unk an unknown character is an error; the offsets of what came before it are still those of the text. */
static void test_no_unk(void **state)
{
    (void)state;
    struct dan_tok_spec s;
    struct dan_sp *m = NULL;
    struct dan_ids ids = {0}, span = {0};
    struct dan_err e = {0};
    dan_tok_spec_init(&s, DAN_SPEC_UNIGRAM, "small");
    ok(dan_tok_spec_put(&s, 0, "a", 1, -1, DAN_PIECE_MODEL, &e), &e);
    s.sp = dan_sp_rules_new(DAN_SP_UNIGRAM, 1);
    assert_non_null(s.sp);
    ok(dan_sp_rules_to_json(&s, &e), &e);
    ok(dan_sp_new(&s, &m, &e), &e);
    assert_int_equal(dan_sp_encode_spans(m, "a a a a aaa", 11, &ids, &span, &e), DAN_EINVAL);
    assert_int_equal(span.n, 2 * ids.n);
    for (size_t i = 0; i < span.n; i++) assert_in_range(span.v[i], 0, 11);
    dan_ids_release(&ids);
    dan_ids_release(&span);
    dan_sp_free(m);
    dan_tok_spec_release(&s);
}

static void test_spec(void **state)
{
    (void)state;
    struct dan_tok_spec s;
    struct dan_sp *m = open_model(dan_spec_from_sentencepiece, golden_path("bpe_bytes.model"), &s);
    assert_int_equal(s.model, DAN_SPEC_BPE);
    assert_int_equal(s.merges, DAN_MERGES_BY_SCORE);
    assert_int_equal(s.n, 460);
    assert_int_equal(s.unk, 0);
    assert_int_equal(s.bos, 1);
    assert_int_equal(s.eos, 2);
    assert_int_equal(s.pad, -1);
    assert_true(s.byte_fallback);
    assert_int_equal(s.piece[1].flags, DAN_PIECE_MODEL | DAN_PIECE_ADDED | DAN_PIECE_SPECIAL);
    char *text = json_dumps(s.normalizer, JSON_COMPACT);
    assert_string_equal(text, "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":"
                        "\"\xe2\x96\x81\"},{\"type\":\"Prepend\",\"prepend\":\"\xe2\x96\x81\"}]}");
    free(text);
    dan_sp_free(m);
    dan_tok_spec_release(&s);
}

/* --- damage */

static void write_scratch(const char *p, size_t n)
{
    struct dan_err e = {0};
    ok(dan_write_file(scratch, p, n, &e), &e);
}

/* Whatever it says, it says it in order. */
static int try_model(reader *read, const char *p, size_t n)
{
    struct dan_tok_spec s;
    struct dan_sp *m = NULL;
    struct dan_err e = {0};
    write_scratch(p, n);
    dan_tok_spec_init(&s, DAN_SPEC_BPE, scratch);
    int r = read(scratch, &s, &e);
    if (!r) r = dan_sp_new(&s, &m, &e);
    assert_int_equal(r != 0, e.msg[0] != 0);
    if (m) {
        struct dan_ids ids = {0};
        dan_sp_encode(m, NULL, "Hello \xe7\x81\xab the<sep>ab\xff", 18, &ids, &e);
        dan_ids_release(&ids);
    }
    dan_sp_free(m);
    dan_tok_spec_release(&s);
    return r;
}

static void damage(const char *name)
{
    char *bytes;
    size_t n;
    struct dan_err e = {0};
    struct dan_rng rng = {7, 0, 0};
    ok(dan_read_file(golden_path(name), &bytes, &n, &e), &e);
    assert_int_equal(try_model(dan_spec_from_sentencepiece, bytes, n), DAN_OK);
    for (size_t cut = 0; cut < n; cut += n / 60 + 1) try_model(dan_spec_from_sentencepiece, bytes, cut);
    for (int i = 0; i < 150; i++) {
        size_t at = dan_rng_u32(&rng) % n;
        char was = bytes[at];
        bytes[at] = (char)dan_rng_u32(&rng);
        try_model(dan_spec_from_sentencepiece, bytes, n);
        bytes[at] = was;
    }
    dan_free(bytes);
}

static void test_damage(void **state)
{
    (void)state;
    damage("unigram.model");
    damage("bpe_bytes.model");
    damage("bpe_unused.model");
    damage("word.model");
}

static void refused(reader *read, const char *p, size_t n, int code) { assert_int_equal(try_model(read, p, n), code); }

static void test_refused(void **state)
{
    (void)state;
    refused(dan_spec_from_sentencepiece, "", 0, DAN_EFORMAT);
    refused(dan_spec_from_sentencepiece, "x", 1, DAN_EFORMAT);
    refused(dan_spec_from_sentencepiece, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11, DAN_EFORMAT);
    refused(dan_spec_from_sentencepiece, "\x0a\x03\x0a\x01" "a", 5, DAN_EFORMAT);                       /* no unk */
    refused(dan_spec_from_sentencepiece, "\x0a\x05\x0a\x01u\x18\x02\x0a\x05\x0a\x01u\x18\x02", 14, DAN_EFORMAT);        /* two */
    refused(dan_spec_from_sentencepiece, "\x0a\x05\x0a\x01u\x18\x07", 7, DAN_EUNSUPPORTED);             /* type 7 */
    refused(dan_spec_from_sentencepiece, "\x0a\x05\x0a\x01u\x18\x02\x12\x02\x18\x09", 11, DAN_EUNSUPPORTED);    /* model_type 9 */
    refused(dan_spec_from_sentencepiece, "\x0a\x05\x0a\x01u\x18\x02\x12\x03\x98\x02\x01", 12, DAN_EFORMAT);     /* byte_fallback */
    refused(dan_spec_from_sentencepiece, "\x0a\x08\x0a\x01u\x15\x00\x00\xc0\x7f", 10, DAN_EFORMAT);     /* a score that is NaN */
    refused(dan_spec_from_llama2c, "", 0, DAN_EFORMAT);
    refused(dan_spec_from_llama2c, "\x07\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff", 12, DAN_EFORMAT);
    assert_int_equal(try_model(dan_spec_from_sentencepiece, "\x0a\x05\x0a\x01u\x18\x02\x0a\x03\x0a\x01" "a", 12), DAN_OK);
}

/* --- real files */

static bool data_path(const char *name, char path[600])
{
    const char *data = dan_env("DANLU_DATA");
    snprintf(path, 600, "%s/%s", data ? data : "../shared/data", name);
    if (dan_path_exists(path)) return true;
    print_message("skipped: no %s\n", path);
    return false;
}

static void expect(const struct dan_sp *m, const char *text, const int32_t *want, size_t n)
{
    struct dan_ids ids = {0};
    struct dan_err e = {0};
    ok(dan_sp_encode(m, NULL, text, strlen(text), &ids, &e), &e);
    assert_int_equal(ids.n, n);
    assert_memory_equal(ids.v, want, n * sizeof *want);
    dan_ids_release(&ids);
}

/* The same vocabulary in both formats. */
static void test_llama2(void **state)
{
    (void)state;
    static const char *const name[] = {"tokenizer/llama2/tokenizer.model", "tokenizer/llama2/tokenizer.bin"};
    static reader *const read[] = {dan_spec_from_sentencepiece, dan_spec_from_llama2c};
    for (int i = 0; i < 2; i++) {
        struct dan_tok_spec s;
        char path[600];
        if (!data_path(name[i], path)) return;
        struct dan_sp *m = open_model(read[i], path, &s);
        expect(m, "I believe the meaning of life is", (const int32_t[]){306, 4658, 278, 6593, 310, 2834, 338}, 7);
        expect(m, "Hello\n\xe7\x81\xab", (const int32_t[]){15043, 13, 31313}, 3);
        expect(m, "\xf0\x9f\x99\x82", (const int32_t[]){29871, 243, 162, 156, 133}, 5);
        dan_sp_free(m);
        dan_tok_spec_release(&s);
    }
}

int main(void)
{
    snprintf(golden, sizeof golden, "%.*s/../../tests/golden/sentencepiece", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
    snprintf(scratch, sizeof scratch, "/tmp/danlu-sp-XXXXXX");
    int fd = mkstemp(scratch);
    if (fd < 0) return 1;
    close(fd);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_stream), cmocka_unit_test(test_no_unk),
                                       cmocka_unit_test(test_spec), cmocka_unit_test(test_damage), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_llama2)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(scratch);
    return failed;
}
