/* Chat templates: what comes out, what is marked, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "text/jinja.h"

static const char vars[] = "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.  \"},{\"role\":\"user\",\"content\":\" Hi \\u00e9\"}],"
                           "\"d\":{\"b\":1,\"a\":[true,null,1.5]},\"l\":[3,1,2],\"s\":\"<|x|>\"}";

static int render(const char *t, const struct dan_jinja_opts *o, struct dan_jinja_out *out, struct dan_err *e)
{
    json_t *user = json_loads(vars, 0, NULL);
    assert_non_null(user);
    int rc = dan_jinja_render(t, strlen(t), NULL, user, o, out, e);
    json_decref(user);
    return rc;
}

/* Right sides are what jinja2 3.1.6 in the environment of transformers 5 gives. */
static const char *const shows[][2] = {
    {"{{ 1/2 }} {{ -7//2 }} {{ -7%3 }} {{ 2**10 }} {{ 1e16 }} {{ 0.1+0.2 }} {{ 1.0 }} {{ 1e-5 }}", "0.5 -4 2 1024 1e+16 0.30000000000000004 1.0 1e-05"},
    {"{{ d }} {{ d|tojson }} {{ (1,) }} {{ \"it's\" }} {{ [\"it's\"] }}", "{'b': 1, 'a': [True, None, 1.5]} {\"b\": 1, \"a\": [true, null, 1.5]} (1,) it's [\"it's\"]"},
    {"a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "a\n  b\nc"},
    {"a  {%- if true -%}  b  {%- endif -%}  c {{- 1 -}} d {#- x -#} e", "abc1de"},
    {"{% set ns = namespace(x=1) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "7"},
    {"{% set x = 1 %}{% for i in l %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}", "2221"},
    {"{% macro m(a, b=2) %}[{{ a }}{{ b }}]{% endmacro %}{{ m(1) }}{{ m(1, b=3) }}{{ m() }}", "[12][13][2]"},
    {"{% for i in range(10) %}{% if i == 3 %}{% continue %}{% endif %}{% if i == 6 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01245"},
    {"{% for i in range(5) if i is odd %}{{ loop.index }}{{ i }}{{ loop.last }}{% endfor %}", "11False23True"},
    {"{{ nope }}|{{ nope|default('x') }}|{{ nope is defined }}|{{ d.zz }}", "|x|False|"},
    {"{{ l|sort }} {{ l|sort|reverse|list }} {{ l[::-1] }} {{ l|join(', ') }} {{ l|select('odd')|list }}", "[1, 2, 3] [3, 2, 1] [2, 1, 3] 3, 1, 2 [3, 1]"},
    {"{{ 'a b  c '.split(None, 1) }} {{ ' a b c'.rsplit(None, 1) }} {{ 'a,b,c'.rsplit(',', 1) }}", "['a', 'b  c '] [' a b', 'c'] ['a,b', 'c']"},
    {"{{ '%5.1f|%-4s|%05d|%x|%%' % (2.25, 'a', -7, 255) }} {{ '%s-%r' | format('é', 'é') }} {{ '%(a)s' % {'a': 1} }}", "  2.2|a   |-0007|ff|% é-'é' 1"},
    {"{{ '{:>4}|{:^5}|{:.2f}|{:,}'.format('a', 'b', 1.005, 1234567) }} {{ '{1}{0}{x!r}'.format(1, 2, x='y') }} {{ '{:+}'.format(3.0) }}",
     "   a|  b  |1.00|1,234,567 21'y' +3.0"},
    {"{% set j = joiner('/') %}{% for i in l %}{{ j() }}{{ i }}{% if loop.changed(i > 1) %}!{% endif %}{% endfor %}", "3!/1!/2!"},
    {"{% macro m(a, b=2, c=3) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(*[7, 8]) }} {{ m(1, **{'c': 9}) }}", "783 129"},
    {"{{ none|selectattr('x')|list }} {{ none|map('upper')|list }} {{ 'a b c d'|truncate(5, true, '..', 0) }} {{ 'ab'|center(5) }}| {{ range(5)|slice(2)|list }}",
     "[] [] a b..   ab | [[0, 1, 2], [3, 4]]"},
    {"{{ 'a.b.c'.partition('.') }} {{ 'a.b.c'.rpartition('.') }} {{ '-7'.zfill(4) }} {{ 'x'.rjust(3, '*') }} {{ 'Ab'.isupper() }} {{ 2.0 is even }}",
     "('a', '.', 'b.c') ('a.b', '.', 'c') -007 **x False True"},
    {"{% raw %}{{ a }}{% endraw %}{{ 'y' if 0 else 'z' }}{{ 1 < 2 < 3 }}", "{{ a }}zTrue"},
};

static void test_shows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shows / sizeof *shows; i++) {
        struct dan_jinja_out out = {0};
        struct dan_err e = {0};
        if (render(shows[i][0], NULL, &out, &e)) fail_msg("%s: %s", shows[i][0], e.msg);
        assert_string_equal(dan_str_c(&out.text), shows[i][1]);
        dan_jinja_out_release(&out);
    }
}

/* Marks as a string of t and u. */
static void marks(const char *template, const char *text, const char *want)
{
    struct dan_jinja_out out = {0};
    struct dan_err e = {0};
    if (render(template, NULL, &out, &e)) fail_msg("%s", e.msg);
    assert_string_equal(dan_str_c(&out.text), text);
    assert_int_equal(out.mark.n, strlen(want));
    for (size_t i = 0; i < out.mark.n; i++) assert_int_equal(out.mark.p[i], want[i] == 'u');
    dan_jinja_out_release(&out);
}

static void test_marks(void **state)
{
    (void)state;
    marks("[{{ s }}]", "[<|x|>]", "tuuuuut");
    marks("{{ '<' ~ s[1:3]|upper ~ '>' }}", "<|X>", "tuut");
    marks("{{ 'a-b'|replace('-', s) }}", "a<|x|>b", "tuuuuut");
    marks("{{ [s, 'k']|join('+') }}", "<|x|>+k", "uuuuutt");
    marks("{{ {'k': s}|tojson }}", "{\"k\": \"<|x|>\"}", "tttttttuuuuutt");
    marks("{% set v %}a{{ s }}{% endset %}{{ v|trim }}", "a<|x|>", "tuuuuu");
    marks("{{ '<|' + messages[1].role + '|>' }}", "<|user|>", "tttttttt");
}

static void test_generation(void **state)
{
    (void)state;
    struct dan_jinja_out out = {0};
    assert_int_equal(render("ab{% generation %}cd{{ 1 }}{% endgeneration %}e", NULL, &out, NULL), 0);
    assert_string_equal(dan_str_c(&out.text), "abcd1e");
    assert_int_equal(out.generation.n, 1);
    assert_int_equal(out.generation.v[0].from, 2);
    assert_int_equal(out.generation.v[0].to, 5);
    dan_jinja_out_release(&out);
}

/* Written by a user, control text is text; written by the template, it is a token. */
static void test_ids(void **state)
{
    (void)state;
    static const char *const special[] = {"<|end|>", "<|x|>"};
    struct dan_tok_train_opts o = {.special = special, .n_special = 2};
    struct dan_tokenizer *t;
    struct dan_err e = {0};
    struct dan_jinja_out out = {0};
    struct dan_ids ids = {0};
    struct dan_spans at = {0};
    if (dan_tokenizer_new_bytes(&o, &t, &e)) fail_msg("%s", e.msg);
    if (render("<|x|>{{ s }}<|{{ 'end' }}|>", NULL, &out, &e) ||
        dan_tokenizer_encode_marked(t, out.text.p, (const uint8_t *)out.mark.p, out.text.n, DAN_ENCODE_SPECIAL, &ids, &at, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(ids.n, 7);
    assert_int_equal(ids.v[0], dan_tokenizer_find_special(t, "<|x|>"));
    for (int i = 0; i < 5; i++) assert_int_equal(ids.v[i + 1], "<|x|>"[i]);
    assert_int_equal(ids.v[6], dan_tokenizer_find_special(t, "<|end|>"));
    dan_ids_release(&ids);
    dan_spans_release(&at);
    dan_jinja_out_release(&out);
    dan_tokenizer_free(t);
}

static const char *const refused[][2] = {
    {"\n\n{{ raise_exception('no ' ~ 1) }}", "line 3: the template refuses: no 1"},
    {"{{ '\\Uf3eef6ee' }}", "is no character"},
    {"{{ 1.0000000000000000000000000000000000000000000000000000000000000e5 }}", "a number has more than 63 characters"},
    {"{{ nope.x }}", "'nope' is undefined"},
    {"{{ 'a' + 1 }}", "'+' does not go with str and int"},
    {"{{ l.append(1) }}", "would change a list"},
    {"{% for i in l %}", "ends before 'endfor'"},
    {"{{ 'a' * 1000000000 }}", "longer than"},
    {"{{ range(1000000000) }}", "more than 100000"},
    {"{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", "steps"},
    {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested too deeply"},
    {"{% set ns = namespace(x='ab') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", "longer than"},
    {"{{ 9223372036854775807 + 1 }}", "64 bits"},
    {"{{ ''|nofilter }}", "there is no filter 'nofilter'"},
    {"{{ strftime_now('%Y') }}", "'strftime_now' is undefined"},
    {"{% include 'x' %}", "there is no statement 'include'"},
    {"{{ ", "not closed"},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct dan_jinja_out out = {0};
        struct dan_err e = {0};
        struct dan_jinja_opts few = {.max_steps = 1000000, .max_output = 1 << 20};
        if (!render(refused[i][0], &few, &out, &e)) fail_msg("'%s' went through", refused[i][0]);
        if (!strstr(e.msg, refused[i][1])) fail_msg("'%s': '%s'", refused[i][0], e.msg);
        dan_jinja_out_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shows),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_generation),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
