#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "base/sys.h"
#include "cli/ui.h"

static void test_counts(void **state)
{
    (void)state;
    static const struct { double x; const char *want; } cases[] = {
        {0, "0"}, {7, "7"}, {0.5, "0.50"}, {3.14159, "3.14"}, {999, "999"}, {999.7, "1.00k"}, {1000, "1000"}, {1234, "1234"},
        {1234.5, "1.23k"},
        {12345, "12.3k"}, {123456, "123k"}, {1234567, "1.23M"}, {124e6, "124M"}, {-15000, "-15.0k"}, {7e9, "7.00G"}, {0.001, "0.001"},
    };
    char buf[DAN_NUM];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(dan_fmt_count(cases[i].x, buf), cases[i].want);
    assert_string_equal(dan_fmt_count(NAN, buf), "-");
}

static void test_bytes(void **state)
{
    (void)state;
    char buf[DAN_NUM];
    assert_string_equal(dan_fmt_bytes(0, buf), "0 B");
    assert_string_equal(dan_fmt_bytes(1023, buf), "1023 B");
    assert_string_equal(dan_fmt_bytes(1024, buf), "1.00 KiB");
    assert_string_equal(dan_fmt_bytes(3.4 * 1024 * 1024 * 1024, buf), "3.40 GiB");
    assert_string_equal(dan_fmt_bytes(-1, buf), "-");
}

static void test_times(void **state)
{
    (void)state;
    static const struct { double s; const char *want; } cases[] = {
        {0, "0ms"}, {0.25, "250ms"}, {3.21, "3.2s"}, {42, "42s"}, {59.6, "1m00s"}, {125, "2m05s"}, {3600, "1h00m"}, {11220, "3h07m"},
        {180000, "2d02h"}, {-5, "0ms"}, {INFINITY, "-"},
    };
    char buf[DAN_NUM];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(dan_fmt_time(cases[i].s, buf), cases[i].want);
}

static void test_width(void **state)
{
    (void)state;
    assert_int_equal(dan_text_width("abc", 3), 3);
    assert_int_equal(dan_text_width("丹炉", 6), 4);
    assert_int_equal(dan_text_width("e\xcc\x81", 3), 1);       /* e + combining acute */
    assert_int_equal(dan_text_width("\xff", 1), 1);
    assert_int_equal(dan_text_fit("丹炉x", 7, 3), 3);          /* the second would need column 4 */
    assert_int_equal(dan_text_fit("abc", 3, 10), 3);
}

static void test_table(void **state)
{
    (void)state;
    struct dan_table t;
    struct dan_str out = {0};
    dan_table_init(&t, "lr", (const char *const[]){"name", "n"});
    dan_table_row(&t, (const char *const[]){"丹炉", "12"});
    dan_table_row(&t, (const char *const[]){"longer name", NULL});
    dan_table_print(&t, 0, false, &out);
    assert_string_equal(out.p, "name          n\n丹炉         12\nlonger name    \n");
    dan_str_clear(&out);
    dan_table_print(&t, 12, false, &out);
    assert_string_equal(out.p, "name       n\n丹炉      12\nlonger …    \n");
    dan_str_release(&out);
    dan_table_release(&t);
}

static void test_sparkline(void **state)
{
    (void)state;
    struct dan_str out = {0};
    dan_sparkline((double[]){0, 1, 2, 3, 4, 5, 6, 7}, 8, 20, &out);
    assert_string_equal(out.p, "▁▂▃▄▅▆▇█");
    dan_str_clear(&out);
    dan_sparkline((double[]){1, NAN, 1}, 3, 20, &out);
    assert_string_equal(out.p, "▁ ▁");
    dan_str_clear(&out);
    dan_sparkline((double[]){NAN}, 1, 20, &out);
    assert_string_equal(dan_str_c(&out), "");
    dan_str_release(&out);
}

static void test_plot(void **state)
{
    (void)state;
    struct dan_str out = {0};
    double y[100];
    for (int i = 0; i < 100; i++)
        y[i] = 5 - 0.04 * i;
    dan_plot(y, 100, 30, 4, &out);
    int rows = 0;
    for (const char *p = out.p; *p; p++)
        rows += *p == '\n';
    assert_int_equal(rows, 4);
    size_t line = strcspn(out.p, "\n");
    assert_int_equal(dan_text_width(out.p, line), 30);
    assert_non_null(strstr(out.p, "⠉") ? out.p : strstr(out.p, "⠑"));  /* it begins at the top left */
    dan_str_clear(&out);
    dan_plot((double[]){2, 2, 2}, 3, 30, 4, &out);             /* flat: no division by zero */
    assert_true(out.n > 0);
    dan_str_release(&out);
}

static void test_bar(void **state)
{
    (void)state;
    struct dan_ui ui = {.unicode = true, .quiet = true};
    struct dan_bar b;
    struct dan_str out = {0};
    dan_bar_start(&b, &ui, "train", "steps", 0, 200);
    dan_bar_update(&b, 50, "loss %.2f", 2.5);
    b.rate = 10;
    b.rate_at = b.started = 1000;
    dan_bar_render(&b, 1000, 100, &out);
    assert_string_equal(out.p, "train  25% ▕███████▌                      ▏ 50/200 steps · 10 steps/s · 15s left · loss 2.50");
    dan_str_clear(&out);
    dan_bar_render(&b, 1000, 0, &out);                         /* plain: no bar, no limit */
    assert_string_equal(out.p, "train  25% 50/200 steps · 10 steps/s · 15s left · loss 2.50");
    for (int width = 1; width < 120; width++) {                /* never wider than the terminal, never half a character */
        dan_str_clear(&out);
        dan_bar_render(&b, 1000, width, &out);
        assert_true(dan_text_width(out.p, out.n) <= width);
    }
    ui.unicode = false;
    b.total = 0;
    dan_str_clear(&out);
    dan_bar_render(&b, 1003, 80, &out);
    assert_string_equal(out.p, "train 50 steps, 10 steps/s, 3.0s, loss 2.50");
    dan_bar_finish(&b);
    assert_null(ui.bar);
    dan_str_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts), cmocka_unit_test(test_bytes), cmocka_unit_test(test_times), cmocka_unit_test(test_width),
        cmocka_unit_test(test_table), cmocka_unit_test(test_sparkline), cmocka_unit_test(test_plot), cmocka_unit_test(test_bar),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
