#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "base/utf8.h"

static int is_scalar(int32_t cp) { return cp < 0xD800 || cp > 0xDFFF; }

static void every_code_point_round_trips(void **state)
{
    (void)state;
    for (int32_t cp = 0; cp <= 0x10FFFF; cp++) {
        char b[4];
        int32_t back;
        int n = dan_utf8_put(cp, b);
        if (dan_utf8_next(b, (size_t)n, &back) != n || back != (is_scalar(cp) ? cp : 0xFFFD))
            fail_msg("U+%04X became U+%04X", (unsigned)cp, (unsigned)back);
        for (int k = 1; k < n; k++)
            if (dan_utf8_partial(b, (size_t)k) != (size_t)k || dan_utf8_next(b, (size_t)k, &back) != 1 || back >= 0)
                fail_msg("U+%04X: its first %d bytes", (unsigned)cp, k);
        if (dan_utf8_partial(b, (size_t)n) != 0) fail_msg("U+%04X is complete", (unsigned)cp);
    }
}

/* Every sequence of two, three and four bytes that is valid encodes what it decodes to. */
static void only_shortest_forms_decode(void **state)
{
    (void)state;
    for (uint32_t u = 0; u < 1u << 24; u += 1 + (u >> 16 < 0xC0 ? 0xFFFF : 0)) {
        char b[4] = {(char)(u >> 16), (char)(u >> 8), (char)u, (char)0x80}, c[4];
        int32_t cp;
        int n = dan_utf8_next(b, 4, &cp);
        int ok = cp < 0 ? n == 1 && cp == -1 - (int32_t)(u >> 16)
                        : is_scalar(cp) && dan_utf8_put(cp, c) == n && memcmp(b, c, (size_t)n) == 0;
        if (!ok)
            fail_msg("%06X 80 decoded to %d, length %d", (unsigned)u, (int)cp, n);
    }
}

static void invalid_sequences(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\x80", "\xBF", "\xC0\xAF", "\xC1\xBF", "\xC2", "\xC2-", "\xE0\x80\xAF", "\xE0\x9F\xBF", "\xE2\x82",
        "\xED\xA0\x80", "\xED\xBF\xBF", "\xF0\x80\x80\xAF", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", "\xFE", "\xFF", "\xF0\x9F\x98",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int32_t cp;
        char back[4];
        assert_int_equal(dan_utf8_next(bad[i], strlen(bad[i]), &cp), 1);
        assert_int_equal(cp, -1 - (int32_t)(unsigned char)bad[i][0]);
        assert_int_equal(dan_utf8_put(cp, back), 1);
        assert_int_equal(back[0], bad[i][0]);
        char text[16] = "ok";
        memcpy(text + 2, bad[i], strlen(bad[i]));
        assert_int_equal(dan_utf8_check(text, 2 + strlen(bad[i])), 2);
    }
    assert_int_equal(dan_utf8_check("gr\xC3\xBC\xC3\x9F", 6), 6);
    assert_int_equal(dan_utf8_check("", 0), 0);
}

static void partial_ends(void **state)
{
    (void)state;
    const struct { const char *text; size_t n; } t[] = {
        {"", 0}, {"abc", 0}, {"a\xE4", 1}, {"a\xE4\xBD", 2}, {"a\xE4\xBD\xA0", 0}, {"\xF0\x9F\x98", 3},
        {"\xE0\x80", 0}, {"\xED\xA0", 0}, {"\x80\x80\x80", 0}, {"\xC2\x80\x80", 0}, {"\xFF", 0}, {"\xF4\x90", 0},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        assert_int_equal(dan_utf8_partial(t[i].text, strlen(t[i].text)), t[i].n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_round_trips),
        cmocka_unit_test(only_shortest_forms_decode),
        cmocka_unit_test(invalid_sequences),
        cmocka_unit_test(partial_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
