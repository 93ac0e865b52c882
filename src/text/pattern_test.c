/* Patterns: the hand-written scanners cut as PCRE2 does with their own patterns, on random Unicode; what differs between Oniguruma and
 * PCRE2 is translated; what cannot be run is refused by name. */
#include "text/pattern.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "text/split.h"

#define GPT2 "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

static struct dan_pattern *pattern(const char *text)
{
    struct dan_pattern *x = NULL;
    struct dan_err e = {0};
    if (dan_pattern_new(text, strlen(text), false, "test", &x, &e)) fail_msg("%s", e.msg);
    return x;
}

/* White space, letters, digits and signs that the patterns name, and anything at all. */
static size_t random_text(struct dan_rng *r, char *out, size_t most)
{
    static const char *const often[] = {" ", " ", "\n", "\r", "\t", "\xC2\xA0", "\xE3\x80\x80", "'", "'s", "'LL", "'\xC5\xBF", "a", "Z", "\xC3\xA9", "7", "\xD9\xA3",
                                        ".", "-", "/", "\n/", "ABC", "\xC7\x85", "\xCA\xB0", "\xE7\x82\xBC", "\xCC\x81"};
    size_t n = 0, to = dan_rng_below(r, most - 8);
    while (n < to) {
        if (dan_rng_below(r, 4)) {
            const char *s = often[dan_rng_below(r, sizeof often / sizeof *often)];
            memcpy(out + n, s, strlen(s));
            n += strlen(s);
            continue;
        }
        int32_t cp = (int32_t)dan_rng_below(r, dan_rng_below(r, 2) ? 0x3000 : 0x110000);
        if (cp < 0xD800 || cp >= 0xE000) n += (size_t)dan_utf8_put(cp, out + n);
    }
    return n;
}

static void test_scanners(void **state)
{
    (void)state;
    static const struct { const char *name, *regex; } of[] = {{"gpt2", GPT2}, {"llama3", NULL}, {"qwen2", NULL}, {"qwen35", NULL}, {"o200k", NULL},
                                                               {"tekken", NULL}};
    struct dan_rng r = {.seed = 11};
    struct dan_pattern_room room = {0};
    struct dan_parts parts = {0};
    struct dan_err e = {0};
    char text[120];
    for (size_t k = 0; k < sizeof of / sizeof *of; k++) {
        struct dan_split split = *dan_split_named(of[k].name);
        struct dan_pattern *x = pattern(of[k].regex ? of[k].regex : split.regex);
        split.classes = dan_classes_new(&split);
        assert_non_null(split.classes);
        for (int round = 0; round < 20000; round++) {
            size_t n = random_text(&r, text, sizeof text), at = 0;
            parts.n = 0;
            assert_int_equal(dan_pattern_cut(x, &room, text, n, &parts, &e), 0);
            for (size_t i = 0; i < parts.n && n; i++) {
                if (!parts.v[i].match) fail_msg("%s leaves out bytes [%zu, %zu) of '%.*s'", of[k].name, parts.v[i].from, parts.v[i].to, (int)n, text);
                at += dan_split_next(&split, text + at, n - at);
                if (at != parts.v[i].to) fail_msg("%s cuts '%.*s' at %zu, its pattern at %zu", of[k].name, (int)n, text, at, parts.v[i].to);
            }
        }
        dan_pattern_free(x);
        dan_free((void *)(uintptr_t)split.classes);
    }
    dan_parts_release(&parts);
    dan_pattern_room_release(&room);
}

/* How often a pattern matches in a text, and the bytes that it matches in all. */
static void test_syntax(void **state)
{
    (void)state;
    static const struct { const char *regex, *text; size_t matches, bytes; } rows[] = {
        {"\\h+", "12 ab xyz 0F", 3, 6}, {"\\v", "\n\x0b", 1, 1}, {"(?m:a.b)", "a\nb", 1, 3}, {"a.b", "a\nb", 0, 0}, {"^b", "a\nb", 1, 1},
        {"a{2}+", "aaaaa", 1, 4}, {"a{,2}b", "aab ab b", 3, 6}, {"a**", "aaa", 1, 3}, {"x(?i)y|z", "xY Z xZ", 2, 4}, {"[a[bc]]+", "abcd", 1, 3},
        {"[a-z&&[^aeiou]]+", "banana", 3, 3}, {"[^a-c&&[b-d]]+", "abcd", 2, 2}, {"\\s", "\xE1\xA0\x8E\xC2\x85", 1, 2}, {"[[:^digit:]]+", "a1b", 2, 2},
        {"\\p{^L}", "a1", 1, 1}, {"\\p{Uppercase_Letter}", "aBC", 2, 2}, {"[\\w-.]+", "a-b.c!", 1, 5}, {"(?<=a)b", "ab cb", 1, 1}, {"[\\S&&\\D]", "1a ", 1, 1},
        {"\\u00e9|\\x{e8}", "\xC3\xA9\xC3\xA8", 2, 4}, {"\\bb", "b ab", 1, 1}, {"a++b", "aab", 1, 3}, {"\\p{Han}+", "a\xE7\x82\xBC", 1, 3},
    };
    struct dan_pattern_room room = {0};
    struct dan_err e = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dan_pattern *x = pattern(rows[i].regex);
        struct dan_parts parts = {0};
        size_t matches = 0, bytes = 0;
        assert_int_equal(dan_pattern_cut(x, &room, rows[i].text, strlen(rows[i].text), &parts, &e), 0);
        for (size_t k = 0; k < parts.n; k++) {
            matches += parts.v[k].match && parts.v[k].to > parts.v[k].from;
            bytes += parts.v[k].match ? parts.v[k].to - parts.v[k].from : 0;
        }
        if (matches != rows[i].matches || bytes != rows[i].bytes) fail_msg("'%s': %zu matches, %zu bytes", rows[i].regex, matches, bytes);
        dan_parts_release(&parts);
        dan_pattern_free(x);
    }
    dan_pattern_room_release(&room);
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"(", ")", "[", "[a", "(?~a)", "(*FAIL)", "\\", "\\p{L", "\\xff", "(?<=a+)b", "*a", "(?{x})", "[[:what:]]", "a\\Cb"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct dan_pattern *x = NULL;
        struct dan_err e = {0};
        if (!dan_pattern_new(bad[i], strlen(bad[i]), false, "the key", &x, &e)) fail_msg("'%s' is taken", bad[i]);
        assert_non_null(strstr(e.msg, "the key"));
    }
    struct dan_str deep = {0};
    struct dan_pattern *x = NULL;
    for (int i = 0; i < 10000; i++) dan_str_putc(&deep, '(');
    assert_true(dan_pattern_new(deep.p, deep.n, false, "the key", &x, NULL) < 0);
    dan_str_release(&deep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scanners), cmocka_unit_test(test_syntax), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
