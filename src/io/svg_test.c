#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/file.h"
#include "base/mem.h"
#include "io/svg.h"

static char *plot(const struct dan_svg_series *s, size_t n)
{
    struct dan_str out = {0};
    struct dan_err e = {0};
    assert_int_equal(dan_svg_plot("a <b> & \"c\"", "step", "loss", s, n, &out, &e), DAN_OK);
    assert_null(strstr(out.p, "nan"));
    assert_null(strstr(out.p, "inf"));
    return out.p;
}

static void count(const char *s, const char *what, int want)
{
    int n = 0;
    for (; (s = strstr(s, what)); s += strlen(what))
        n++;
    assert_int_equal(n, want);
}

static void test_linear(void **state)
{
    (void)state;
    double x[] = {0, 10, 20}, y[] = {3, 2.5, 2}, v[] = {3.1, NAN, 2.2};
    struct dan_svg_series s[] = {{"train", x, y, 3}, {"val<", x, v, 3}};
    char *svg = plot(s, 2);
    assert_non_null(strstr(svg, "a &lt;b&gt; &amp; &quot;c&quot;"));
    assert_non_null(strstr(svg, "val&lt; 2.2"));
    assert_null(strstr(svg, "(log)"));
    count(svg, "<circle", 5);                  /* the NAN is left out */
    count(svg, "</svg>", 1);
    dan_free(svg);
}

static void test_log(void **state)
{
    (void)state;
    double x[1000], y[1000];
    for (int i = 0; i < 1000; i++) {
        x[i] = i;
        y[i] = 100 * exp(-0.01 * i);
    }
    char *svg = plot(&(struct dan_svg_series){"train", x, y, 1000}, 1);
    assert_non_null(strstr(svg, "loss (log)"));
    count(svg, "fill-opacity", 1);             /* many points: a band, no circles */
    count(svg, "<circle", 0);
    dan_free(svg);
}

static void test_odd_data(void **state)
{
    (void)state;
    double one[] = {5}, zero[] = {0}, far[] = {1e17, 1e17 + 16}, tiny[] = {1e-140, 1e140};
    double huge[] = {1e-300, 1e300}, bad[] = {NAN, INFINITY};
    char *svg = plot(NULL, 0);
    assert_non_null(strstr(svg, "no values yet"));
    dan_free(svg);
    dan_free(plot(&(struct dan_svg_series){"one", one, one, 1}, 1));
    dan_free(plot(&(struct dan_svg_series){"zero", zero, zero, 1}, 1));
    dan_free(plot(&(struct dan_svg_series){"far", far, far, 2}, 1));
    dan_free(plot(&(struct dan_svg_series){"wide", far, huge, 2}, 1));
    dan_free(plot(&(struct dan_svg_series){"wider", far, tiny, 2}, 1));
    svg = plot(&(struct dan_svg_series){"bad", bad, bad, 2}, 1);
    assert_non_null(strstr(svg, "no values yet"));
    dan_free(svg);
}

static void test_write(void **state)
{
    (void)state;
    char path[64], *bytes;
    size_t n;
    double x[] = {1, 2}, y[] = {2, 1};
    struct dan_svg_series s = {"train", x, y, 2};
    struct dan_err e = {0};
    snprintf(path, sizeof path, "/tmp/danlu-svg-test-%d.svg", (int)getpid());
    assert_int_equal(dan_svg_write(path, "t", "x", "y", &s, 1, &e), DAN_OK);
    assert_int_equal(dan_read_file(path, &bytes, &n, &e), DAN_OK);
    assert_true(n > 500 && !strncmp(bytes, "<svg", 4));
    dan_free(bytes);
    unlink(path);
    assert_true(dan_svg_write("/no/such/folder/x.svg", "t", "x", "y", &s, 1, &e) != DAN_OK);
    e = (struct dan_err){0};
    struct dan_str out = {0};
    assert_int_equal(dan_svg_plot("t", "x", "y", &s, 7, &out, &e), DAN_EINVAL);
    dan_str_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear), cmocka_unit_test(test_log), cmocka_unit_test(test_odd_data), cmocka_unit_test(test_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
