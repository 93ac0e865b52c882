/* 64 characters at a time against one pre-token at a time, for every pattern: random texts of the characters that the patterns
 * distinguish, with and without long runs, invalid UTF-8, every length; with DANLU_DATA: real text. */
#include "text/split.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/sys.h"

static const char *const names[] = {"gpt2", "gpt2-digits", "llama3", "qwen2", "qwen35", "o200k"};
enum { N_NAMES = sizeof names / sizeof *names, MAX = 200 };
static uint8_t *classes[N_NAMES];

static struct dan_split named(int i)
{
    struct dan_split s = *dan_split_named(names[i]);
    s.classes = classes[i];
    return s;
}

/* The text ends where p[n] ends: a copy, so that a sanitizer sees what is read behind it. */
static void check(const struct dan_split *s, const char *text, size_t n)
{
    size_t end[MAX], at = 0;
    char *p = dan_malloc(n + !n);
    assert_non_null(p);
    memcpy(p, text, n);
    for (size_t from = 0; from < n; from = at) {
        size_t m = dan_split_many(s, p + from, n - from, end, MAX);
        assert_true(m > 0 && m <= MAX);
        for (size_t i = 0; i < m; i++) {
            size_t want = at + dan_split_next(s, p + at, n - at);
            if (from + end[i] != want)
                fail_msg("%s: at %zu: %zu, expected %zu in '%.*s'", s->name, at, from + end[i], want, (int)(n - at > 150 ? 150 : n - at), p + at);
            at = want;
        }
    }
    dan_free(p);
}

static const char *const parts[] = {
    " ", " ", " ", "\n", "\r\n", "\t", "\xC2\xA0", "\xE3\x80\x80", "\xE2\x80\xA8", "a", "s", "re", "Word", "S", "LL", "\xC3\xA9", "\xE4\xB8\xAD", "\xC5\xBF",
    "1", "23", "4567890", "\xC2\xB2", "\xD9\xA3", "'", "'s", "'ve", "'T", "'\xC5\xBF", ".", "(", "!?", "\xEF\xBC\x8C", "\xF0\x9F\x98\x80", "\xCC\x81", "\xFF", "\xE4\xB8",
    "\xED\xA0\x80", "\xF4\x90\x80\x80", "  ", "\n\n",
};
enum { N_PARTS = sizeof parts / sizeof *parts };

/* run: how often the same part comes again, at most */
static void random_texts(int times, int most, int run)
{
    struct dan_rng r = {.seed = (uint64_t)run};
    char text[8192];
    for (int k = 0; k < times; k++) {
        size_t n = 0;
        for (int parts_left = (int)dan_rng_below(&r, (uint32_t)most); parts_left > 0; parts_left--) {
            const char *part = parts[dan_rng_below(&r, k % 3 ? N_PARTS : 24)];
            for (int again = run > 1 ? (int)dan_rng_below(&r, (uint32_t)run) : 1; again > 0 && n + 16 < sizeof text; again--) {
                memcpy(text + n, part, strlen(part));
                n += strlen(part);
            }
        }
        for (int i = 0; i < N_NAMES; i++) {
            struct dan_split s = named(i);
            check(&s, text, n);
        }
    }
}

static void test_random(void **state)
{
    (void)state;
    random_texts(30000, 12, 1);
    random_texts(6000, 150, 1);
    random_texts(2000, 100, 9);
    random_texts(300, 20, 200);
}

static void test_real(void **state)
{
    (void)state;
    static const char *const files[] = {"text/en/tinyshakespeare.txt", "text/zh/novels/xiyouji.txt", "tokenizer/minimind/tokenizer.json"};
    const char *data = dan_env("DANLU_DATA");
    char path[600];
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        struct dan_err e = {0};
        struct dan_mapping m;
        snprintf(path, sizeof path, "%s/%s", data ? data : "../shared/data", files[f]);
        if (!dan_path_exists(path)) {
            print_message("skipped: no '%s' (set DANLU_DATA)\n", path);
            continue;
        }
        assert_int_equal(dan_map_file(path, &m, &e), 0);
        for (int i = 0; i < N_NAMES; i++) {
            struct dan_split s = named(i);
            check(&s, m.p, m.n);
        }
        dan_unmap_file(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random), cmocka_unit_test(test_real)};
    for (int i = 0; i < N_NAMES; i++)
        if (!(classes[i] = dan_classes_new(dan_split_named(names[i])))) return 1;
    int bad = cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = 0; i < N_NAMES; i++) dan_free(classes[i]);
    return bad;
}
