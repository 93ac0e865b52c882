/* BPE over characters and unigram as models of their own, against `tokenizers` (tests/golden/make_sentencepiece_golden.py); long texts;
 * lists of merges. */
#include "text/charbpe.h"
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/file.h"
#include "base/mem.h"
#include "text/sp_model.h"
#include "text/unigram.h"

static char golden[512];

static void ok(int r, const struct dan_err *e)
{
    if (r) fail_msg("%d: %s", r, e->msg);
}

static int32_t id_of(const json_t *vocab, const json_t *token)
{
    size_t i;
    json_t *t;
    json_array_foreach(vocab, i, t)
        if (json_equal(t, token)) return (int32_t)i;
    fail_msg("no token '%s'", json_string_value(token));
    return -1;
}

static void read_vocab(const json_t *vocab, struct dan_tok_spec *s)
{
    size_t i;
    json_t *t;
    struct dan_err e = {0};
    json_array_foreach(vocab, i, t) {
        const json_t *text = json_is_array(t) ? json_array_get(t, 0) : t;
        ok(dan_tok_spec_put(s, (int64_t)i, json_string_value(text), json_string_length(text), json_number_value(json_array_get(t, 1)),
                            DAN_PIECE_MODEL, &e), &e);
    }
}

static void read_spec(const json_t *line, struct dan_tok_spec *s)
{
    const json_t *vocab = json_object_get(line, "vocab"), *merges = json_object_get(line, "merges");
    bool bpe = strcmp(json_string_value(json_object_get(line, "type")), "BPE") == 0;
    dan_tok_spec_init(s, bpe ? DAN_SPEC_BPE : DAN_SPEC_UNIGRAM, "golden");
    s->unk = (int32_t)json_integer_value(json_object_get(line, "unk"));
    s->byte_fallback = json_is_true(json_object_get(line, "byte_fallback"));
    s->fuse_unk = json_is_true(json_object_get(line, "fuse_unk"));
    s->ignore_merges = json_is_true(json_object_get(line, "ignore_merges"));
    snprintf(s->prefix, sizeof s->prefix, "%s", bpe ? json_string_value(json_object_get(line, "prefix")) : "");
    snprintf(s->suffix, sizeof s->suffix, "%s", bpe ? json_string_value(json_object_get(line, "suffix")) : "");
    read_vocab(vocab, s);
    s->n_merges = json_array_size(merges);
    s->merge = dan_malloc(2 * s->n_merges * sizeof *s->merge);
    for (size_t i = 0; i < 2 * s->n_merges; i++) s->merge[i] = id_of(vocab, json_array_get(json_array_get(merges, i / 2), i % 2));
}

struct model { struct dan_charbpe *bpe; struct dan_unigram *unigram; };

static void encode(const struct model *m, const char *p, size_t n, struct dan_ids *ids, struct dan_ids *span)
{
    struct dan_err e = {0};
    if (m->bpe) ok(span ? dan_charbpe_encode_spans(m->bpe, p, n, ids, span, &e) : dan_charbpe_encode(m->bpe, p, n, ids, &e), &e);
    else ok(span ? dan_unigram_encode_spans(m->unigram, p, n, ids, span, &e) : dan_unigram_encode(m->unigram, p, n, ids, &e), &e);
}

static void check_case(const struct model *m, const json_t *c)
{
    const json_t *text = json_array_get(c, 0), *want = json_array_get(c, 1);
    for (int way = 0; way < 2; way++) {
        struct dan_ids ids = {0}, span = {0};
        encode(m, json_string_value(text), json_string_length(text), &ids, way ? &span : NULL);
        bool same = ids.n == json_array_size(want);
        for (size_t i = 0; i < ids.n && same; i++) same = ids.v[i] == json_integer_value(json_array_get(want, i));
        if (!same) fail_msg("wrong ids of '%s'", json_string_value(text));
        if (way) assert_int_equal(span.n, 2 * ids.n);
        dan_ids_release(&ids);
        dan_ids_release(&span);
    }
}

static void check_line(const json_t *line)
{
    struct dan_tok_spec s;
    struct model m = {0};
    struct dan_err e = {0};
    size_t i;
    json_t *c;
    read_spec(line, &s);
    ok(s.model == DAN_SPEC_BPE ? dan_charbpe_new(&s, &m.bpe, &e) : dan_unigram_new(&s, &m.unigram, &e), &e);
    dan_tok_spec_release(&s);                  /* the model keeps nothing of it */
    json_array_foreach(json_object_get(line, "cases"), i, c) check_case(&m, c);
    dan_charbpe_free(m.bpe);
    dan_unigram_free(m.unigram);
}

static void test_golden(void **state)
{
    (void)state;
    char *bytes;
    size_t n, lines = 0;
    struct dan_err e = {0};
    ok(dan_read_file(golden, &bytes, &n, &e), &e);
    for (size_t i = 0; i < n; lines++) {
        const char *end = memchr(bytes + i, '\n', n - i);
        json_t *j = json_loadb(bytes + i, (size_t)(end - bytes) - i, 0, NULL);
        assert_non_null(j);
        check_line(j);
        json_decref(j);
        i = (size_t)(end - bytes) + 1;
    }
    assert_int_equal(lines, 34);
    dan_free(bytes);
}

/* Pieces of one byte each and the powers of "a" up to 16, the longest the best. */
static void powers(struct dan_tok_spec *s, enum dan_spec_model model)
{
    struct dan_err e = {0};
    const char text[] = "aaaaaaaaaaaaaaaa";
    dan_tok_spec_init(s, model, "powers");
    s->merges = DAN_MERGES_BY_SCORE;
    ok(dan_tok_spec_put(s, 0, "<unk>", 5, 0, DAN_PIECE_MODEL | DAN_PIECE_SPECIAL, &e), &e);
    s->unk = 0;
    for (int64_t i = 1, n = 1; n <= 16; n *= 2, i++) ok(dan_tok_spec_put(s, i, text, (size_t)n, -0.1 * (double)n, DAN_PIECE_MODEL, &e), &e);
}

static void test_long(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    char *text = dan_malloc(N + 3);
    memset(text, 'a', N);
    memcpy(text + N, "bcd", 3);
    for (int way = 0; way < 2; way++) {
        struct dan_tok_spec s;
        struct model m = {0};
        struct dan_ids ids = {0}, span = {0};
        struct dan_err e = {0};
        powers(&s, way ? DAN_SPEC_BPE : DAN_SPEC_UNIGRAM);
        s.fuse_unk = true;
        ok(way ? dan_charbpe_new(&s, &m.bpe, &e) : dan_unigram_new(&s, &m.unigram, &e), &e);
        encode(&m, text, N + 3, &ids, &span);
        assert_true(ids.n > N / 16 - 1);
        assert_int_equal(ids.v[ids.n - 1], 0);
        assert_int_equal(span.v[span.n - 2], N);
        assert_int_equal(span.v[span.n - 1], N + 3);
        for (size_t i = 0; i + 2 < span.n; i += 2) assert_int_equal(span.v[i + 1], span.v[i + 2]);
        dan_ids_release(&ids);
        dan_ids_release(&span);
        dan_charbpe_free(m.bpe);
        dan_unigram_free(m.unigram);
        dan_tok_spec_release(&s);
    }
    dan_free(text);
}

static void test_list(void **state)
{
    (void)state;
    struct dan_tok_spec s;
    struct dan_err e = {0};
    int32_t *merge = NULL;
    size_t n = 0;
    powers(&s, DAN_SPEC_BPE);
    ok(dan_charbpe_list_merges(&s, &merge, &n, &e), &e);
    assert_int_equal(n, 4);
    for (int32_t i = 0; i < 4; i++) assert_true(merge[2 * i] == i + 1 && merge[2 * i + 1] == i + 1);
    dan_free(merge);
    dan_tok_spec_release(&s);
}

/* Nothing that is unknown, no merge of what does not exist. */
static void test_refused(void **state)
{
    (void)state;
    struct dan_tok_spec s;
    struct dan_unigram *u = NULL;
    struct dan_charbpe *b = NULL;
    struct dan_ids ids = {0};
    struct dan_err e = {0};
    powers(&s, DAN_SPEC_UNIGRAM);
    s.unk = -1;
    ok(dan_unigram_new(&s, &u, &e), &e);
    assert_int_equal(dan_unigram_encode(u, "ab", 2, &ids, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "no unk token"));
    dan_unigram_free(u);
    s.merges = DAN_MERGES_LISTED;
    s.merge = dan_malloc(2 * sizeof *s.merge);
    s.n_merges = 1;
    s.merge[0] = 1;
    s.merge[1] = 99;
    e = (struct dan_err){0};
    assert_int_equal(dan_charbpe_new(&s, &b, &e), DAN_EFORMAT);
    dan_tok_spec_release(&s);
    dan_ids_release(&ids);
}

/* A special token's text stays text. */
static void test_special(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        struct dan_tok_spec s;
        struct model m = {0};
        struct dan_ids ids = {0};
        struct dan_err e = {0};
        powers(&s, way ? DAN_SPEC_BPE : DAN_SPEC_UNIGRAM);
        ok(dan_tok_spec_put(&s, 6, "aaa", 3, 5, DAN_PIECE_MODEL | DAN_PIECE_ADDED | DAN_PIECE_SPECIAL, &e), &e);
        ok(way ? dan_charbpe_new(&s, &m.bpe, &e) : dan_unigram_new(&s, &m.unigram, &e), &e);
        encode(&m, "aaa", 3, &ids, NULL);
        assert_int_equal(ids.n, 2);
        assert_true(ids.v[0] != 6 && ids.v[1] != 6);
        dan_ids_release(&ids);
        dan_charbpe_free(m.bpe);
        dan_unigram_free(m.unigram);
        dan_tok_spec_release(&s);
    }
}

int main(void)
{
    snprintf(golden, sizeof golden, "%.*s/../../tests/golden/sentencepiece/models.jsonl", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_long), cmocka_unit_test(test_list),
                                       cmocka_unit_test(test_refused), cmocka_unit_test(test_special)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
