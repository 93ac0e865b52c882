/* Each allocation fails once, on the way from a file to ids and back: an error, or the same result; nothing is lost. */
#include "base/count_allocs.h"
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "text/charbpe.h"
#include "text/sp_model.h"

static char golden[512];

static int use(const struct dan_sp *m, struct dan_ids *ids, struct dan_str *text, struct dan_err *e)
{
    struct dan_ids span = {0};
    static const char word[] = "Hello \xe7\x81\xab the<sep>ab\xff 12", part[] = "the furnace and the yard ";
    char all[6000];
    size_t n = 0;
    for (; n + sizeof part + sizeof word < sizeof all; n += sizeof part - 1) memcpy(all + n, part, sizeof part - 1);
    memcpy(all + n, word, sizeof word - 1);
    int r = dan_sp_encode_spans(m, all, n + sizeof word - 1, ids, &span, e);
    if (!r && (ids->failed || span.failed)) r = dan_fail(e, DAN_ENOMEM, "out of memory");
    if (!r) dan_sp_decode(m, ids->v, ids->n, true, text);
    if (!r && text->failed) r = dan_fail(e, DAN_ENOMEM, "out of memory");
    dan_ids_release(&span);
    return r;
}

static int once(const char *path, struct dan_ids *ids, struct dan_err *e)
{
    struct dan_tok_spec s;
    struct dan_sp *m = NULL;
    struct dan_str text = {0};
    int32_t *merge = NULL;
    size_t n;
    dan_tok_spec_init(&s, DAN_SPEC_BPE, path);
    int r = dan_spec_from_sentencepiece(path, &s, e);
    if (!r) r = dan_sp_new(&s, &m, e);
    if (!r) r = use(m, ids, &text, e);
    if (!r && s.merges == DAN_MERGES_BY_SCORE) r = dan_charbpe_list_merges(&s, &merge, &n, e);
    dan_free(merge);
    dan_sp_free(m);
    dan_str_release(&text);
    dan_tok_spec_release(&s);
    return r;
}

static void fail_each(const char *name)
{
    char path[700];
    struct dan_ids right = {0};
    struct dan_err e = {0};
    snprintf(path, sizeof path, "%s/%s.model", golden, name);
    if (!count_allocs) skip();
    assert_int_equal(once(path, &right, &e), DAN_OK);
    int64_t before = heap_live;
    for (int64_t k = 1;; k++) {
        struct dan_ids ids = {0};
        e = (struct dan_err){0};
        heap_calls = 0;
        heap_fail_at = k;
        int r = once(path, &ids, &e);
        bool reached = heap_calls >= k;
        heap_fail_at = 0;
        if (r) assert_true(r == DAN_ENOMEM || r == DAN_EIO || strstr(e.msg, "memory"));
        else assert_true(ids.n == right.n && memcmp(ids.v, right.v, ids.n * sizeof *ids.v) == 0);
        dan_ids_release(&ids);
        if (heap_live != before) fail_msg("%s: allocation %lld fails and %lld stay", name, (long long)k, (long long)(heap_live - before));
        if (!reached) break;
    }
    dan_ids_release(&right);
}

static void test_unigram(void **state) { (void)state, fail_each("unigram_user"); }
static void test_bpe(void **state) { (void)state, fail_each("bpe_user"); }
static void test_unused(void **state) { (void)state, fail_each("bpe_unused"); }
static void test_word(void **state) { (void)state, fail_each("word"); }

int main(void)
{
    snprintf(golden, sizeof golden, "%.*s/../../tests/golden/sentencepiece", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_unigram), cmocka_unit_test(test_bpe), cmocka_unit_test(test_unused),
                                       cmocka_unit_test(test_word)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
