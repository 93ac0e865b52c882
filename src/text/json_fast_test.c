/* The one-pass reader against jansson: the same texts, ids, scores and merges; whatever jansson refuses is refused, also in
 * files that were damaged at random. */
#include "text/json_fast.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/rng.h"
#include "io/json.h"

static json_t *parse(const char *p, size_t n)
{
    struct dan_err e = {0};
    json_t *j = NULL;
    return dan_json_parse("test", p, n, DAN_JSON_MAX_DEPTH, &j, &e) ? NULL : j;
}

static bool same_text(const json_t *j, const char *p, size_t n)
{
    return json_is_string(j) && json_string_length(j) == n && memcmp(json_string_value(j), p, n) == 0;
}

static bool same_vocab(const struct dan_json_fast *f, const json_t *vocab)
{
    size_t n = f->scored ? json_array_size(vocab) : json_object_size(vocab);
    bool same = n == f->n_words;
    for (size_t i = 0; i < f->n_words && same; i++) {
        const struct dan_json_word *w = &f->word[i];
        if (f->scored) {
            json_t *pair = json_array_get(vocab, i);
            same = same_text(json_array_get(pair, 0), w->p, w->n) && json_number_value(json_array_get(pair, 1)) == w->score &&
                   json_array_size(pair) == 2;
        } else same = json_integer_value(json_object_getn(vocab, w->p, w->n)) == w->id;
    }
    return same;
}

static bool same_merges(const struct dan_json_fast *f, const json_t *list)
{
    bool same = json_array_size(list) == f->n_merges;
    for (size_t i = 0; i < f->n_merges && same; i++) {
        const struct dan_json_merge *m = &f->merge[i];
        const json_t *j = json_array_get(list, i);
        same = m->p[1] ? json_array_size(j) == 2 && same_text(json_array_get(j, 0), m->p[0], m->n[0]) &&
                         same_text(json_array_get(j, 1), m->p[1], m->n[1])
                       : same_text(j, m->p[0], m->n[0]);
    }
    return same;
}

/* 1: read and the same; 0: left to jansson.  Fails when it took what jansson refuses or reads otherwise. */
static int check(const char *p, size_t n)
{
    struct dan_json_fast f;
    if (!dan_json_fast(p, n, &f)) {
        assert_null(f.word);
        return 0;
    }
    json_t *whole = parse(p, n), *rest = parse(f.rest.p, f.rest.n);
    const json_t *model = json_object_get(whole, "model");
    if ((whole != NULL) != (rest != NULL)) fail_msg("one reads it, the other does not: %.*s", (int)(n > 500 ? 500 : n), p);
    if (whole && (!same_vocab(&f, json_object_get(model, "vocab")) || !same_merges(&f, json_object_get(model, "merges"))))
        fail_msg("read otherwise: %.*s", (int)(n > 500 ? 500 : n), p);
    if (whole) {
        json_object_set_new(json_object_get(whole, "model"), "vocab", f.scored ? json_array() : json_object());
        if (f.has_merges) json_object_set_new(json_object_get(whole, "model"), "merges", json_array());
        if (f.has_vocab && !json_equal(whole, rest)) fail_msg("the rest differs: %.*s", (int)(n > 500 ? 500 : n), p);
    }
    int took = whole != NULL;
    json_decref(whole);
    json_decref(rest);
    dan_json_fast_release(&f);
    return took;
}

static const char *const good[] = {
    ("{\"version\":\"1.0\",\"added_tokens\":[{\"id\":7,\"content\":\"<s>\"}],\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,"
    "\"\\u0120t\":3,\"\\\"\":4,\"\\\\n\":5,\"\\ud83d\\ude00\":6,\"\xC4\xA0\":10},\"merges\":[\"a b\",[\"\\u0120\",\"t\"]]},\"z\":null}"),
    "{ \"model\" : { \"merges\" : [ ] , \"vocab\" : [ [ \"<unk>\" , 0 ] , [ \"\xE2\x96\x81x\" , -1.25e-1 ] , [\"x\", -0.5] ] , \"unk_id\" : 0 } }",
    "{\"model\":{\"vocab\":{},\"merges\":[]}}",
    "{\"a\":[[{\"model\":{\"vocab\":1}}]],\"model\":{\"dropout\":null,\"vocab\":{\"vocab\":0,\"merges\":1}}}\n",
};

static void test_reads(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_int_equal(check(good[i], strlen(good[i])), 1);
}

static void test_left_to_jansson(void **state)
{
    (void)state;
    static const char *const odd[] = {
        "", "{", "[]", "{\"model\":{\"vocab\":{\"a\":0,\"a\":1}}}", "{\"model\":{\"vocab\":{\"a\":0},\"vocab\":{\"b\":0}}}",
        "{\"model\":{\"vocab\":{\"a\":1.0}}}", "{\"model\":{\"vocab\":{\"a\":01}}}", "{\"model\":{\"vocab\":{\"a\":-1}}}",
        "{\"model\":{\"vocab\":{\"a\":99999999999}}}", "{\"model\":{\"vocab\":{\"\\u0000\":1}}}", "{\"model\":{\"vocab\":{\"\\ud800\":1}}}",
        "{\"model\":{\"vocab\":{\"\xFF\":1}}}", "{\"model\":{\"vocab\":{\"a\n\":1}}}", "{\"model\":{\"vocab\":{\"a\":1,}}}",
        "{\"model\":{\"vocab\":[[\"a\",1e999]]}}", "{\"model\":{\"vocab\":[[\"a\",.5]]}}", "{\"model\":{\"vocab\":[[\"a\",1.]]}}",
        "{\"model\":{\"vocab\":[[\"a\",0x1]]}}", "{\"model\":{\"merges\":[[\"a\"]]}}", "{\"model\":{\"merges\":[1]}}",
    };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        if (check(odd[i], strlen(odd[i])) != 0) fail_msg("taken: %s", odd[i]);
}

/* Every byte exchanged, left out or doubled. */
static void test_damaged(void **state)
{
    (void)state;
    static const char bytes[] = "\"\\{}[],:0159-.eEu \n\tab\xC4\xA0\xFF";
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        size_t n = strlen(good[i]);
        char *p = dan_malloc(n + 2);
        assert_non_null(p);
        for (size_t at = 0; at < n; at++) {
            for (size_t k = 0; k < sizeof bytes; k++) {
                memcpy(p, good[i], n);
                p[at] = bytes[k];
                check(p, n);
                memcpy(p + at + 1, good[i] + at, n - at);
                check(p, n + 1);
            }
            memcpy(p, good[i], at);
            memcpy(p + at, good[i] + at + 1, n - at - 1);
            check(p, n - 1);
            check(good[i], at);
        }
        dan_free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reads), cmocka_unit_test(test_left_to_jansson),
                                       cmocka_unit_test(test_damaged)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
