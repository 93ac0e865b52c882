/* Masks where a template has no {% generation %} blocks, what is found out about templates, and templates as files.  Ids and texts: tests/golden/chat_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "text/chat_template.h"

static const char *const special[] = {"<s>", "</s>", "<u>", "<a>", "<think>", "<e>"};

static struct dan_tokenizer *tokenizer(void)
{
    struct dan_tok_train_opts o = {.special = special, .n_special = sizeof special / sizeof *special};
    struct dan_tokenizer *t;
    struct dan_err e = {0};
    if (dan_tokenizer_new_bytes(&o, &t, &e)) fail_msg("%s", e.msg);
    return t;
}

static void open(struct dan_chat_template *by, const struct dan_tokenizer *t, const char *text)
{
    struct dan_err e = {0};
    *by = (struct dan_chat_template){0};
    if (dan_chat_template_open(by, t, "plain", NULL, &e)) fail_msg("%s", e.msg);
    dan_free(by->text);
    by->text = dan_strdup(text);
    assert_non_null(by->text);
    by->n = strlen(text);
}

/* What is learnt of (user q, assistant ans, user q, assistant ans), in words; turns as "n lost inexact unended". */
static const struct mask { const char *template, *learnt; int64_t lost, inexact, unended; } masks[] = {
    {"{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}</s>\n{% endfor %}{% if add_generation_prompt %}<a>{% endif %}", "ans</s>ans</s>", 0, 0, 0},
    {"{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}{{ '<e></s>' if m.role == 'assistant' }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}",
     "ans<e></s>ans<e></s>", 0, 0, 0},
    {"{% for m in messages %}<{{ m.role[0] }}>{{ '<think></think>' if loop.last and m.role == 'assistant' }}{{ m.content }}</s>{% endfor %}"
     "{% if add_generation_prompt %}<a>{% endif %}", "ans</s><think></think>ans</s>", 0, 1, 0},
    {"{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}", "ansans", 0, 0, 2},
    {"{% for m in messages %}<{{ m.role[0] }}>{{ m.content if m.role == 'user' or loop.last }}</s>{% endfor %}{% if add_generation_prompt %}<a>{% endif %}",
     "ans</s>", 1, 0, 0},
    {"{% for m in messages %}<{{ m.role[0] }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}</s>{% endgeneration %}{% else %}{{ m.content }}</s>"
     "{% endif %}{% endfor %}", "ans</s>ans</s>", 0, 0, 0},
};

static void test_masks(void **state)
{
    (void)state;
    struct dan_tokenizer *t = tokenizer();
    json_t *messages = json_pack("[{ssss},{ssss},{ssss},{ssss}]", "role", "user", "content", "q", "role", "assistant", "content", "ans", "role", "user",
                                 "content", "q", "role", "assistant", "content", "ans");
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        struct dan_chat_template by;
        struct dan_chat_input in = {.messages = messages};
        struct dan_chat_out out = {0};
        struct dan_chat_turns turns;
        struct dan_str learnt = {0};
        struct dan_err e = {0};
        open(&by, t, masks[i].template);
        if (dan_chat_render(&by, &in, &out, &e) || dan_chat_mask(&by, &in, &out, &turns, &e)) fail_msg("%zu: %s", i, e.msg);
        for (size_t k = 0; k < out.ids.n; k++)
            if (out.learn.p[k]) dan_tokenizer_decode(t, &out.ids.v[k], 1, &learnt);
        assert_string_equal(dan_str_c(&learnt), masks[i].learnt);
        assert_true(turns.n == 2 && turns.lost == masks[i].lost && turns.inexact == masks[i].inexact && turns.unended == masks[i].unended);
        dan_str_release(&learnt);
        dan_chat_out_release(&out);
        dan_chat_template_release(&by);
    }
    json_decref(messages);
    dan_tokenizer_free(t);
}

static void test_traits(void **state)
{
    (void)state;
    static const struct { const char *template, *stop, *text; bool prefix, trained, system; } all[] = {
        {"{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<a>{% endif %}", "</s>", "", true, true, true},
        {"{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}", "<u>", "", true, false, true},
        {"{% for m in messages if m.role != 'system' %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}", "", "\n\nuser:",
         true, false, false},
        {"{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}</s>{% endfor %}{{ messages|length }}{% if add_generation_prompt %}<a>{% endif %}", "</s>", "", false, true, true},
    };
    struct dan_tokenizer *t = tokenizer();
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct dan_chat_template by;
        struct dan_chat_traits x = {0};
        struct dan_err e = {0};
        size_t n;
        open(&by, t, all[i].template);
        if (dan_chat_traits_of(&by, false, 0, &x, &e)) fail_msg("%zu: %s", i, e.msg);
        const char *stop = dan_tokenizer_token(t, x.stop, &n);
        if (n != strlen(all[i].stop) || (n && memcmp(stop, all[i].stop, n))) fail_msg("%zu: stop %d", i, x.stop);
        assert_string_equal(dan_str_c(&x.stop_text), all[i].text);
        if (x.prefix_preserving != all[i].prefix || x.stop_trained != all[i].trained || x.takes_system != all[i].system) fail_msg("%zu: other traits", i);
        dan_chat_traits_release(&x);
        dan_chat_template_release(&by);
    }
    dan_tokenizer_free(t);
}

static void test_refused(void **state)
{
    (void)state;
    struct dan_tokenizer *t = tokenizer();
    struct dan_chat_template by = {0};
    struct dan_chat_out out = {0};
    struct dan_err e = {0};
    assert_int_equal(dan_chat_template_open(&by, t, "/nowhere/x.jinja", NULL, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "chatml"));
    dan_chat_template_release(&by);
    open(&by, t, "x");
    json_t *bad = json_pack("[s]", "hello");
    struct dan_chat_input in = {.messages = bad};
    e = (struct dan_err){0};
    assert_int_equal(dan_chat_render(&by, &in, &out, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "message 0"));
    in.messages = NULL;
    assert_int_equal(dan_chat_render(&by, &in, &out, NULL), DAN_EINVAL);
    json_decref(bad);
    dan_chat_out_release(&out);
    dan_chat_template_release(&by);
    dan_tokenizer_free(t);
}

static void render(const struct dan_chat_template *by, const json_t *messages, struct dan_chat_out *out)
{
    struct dan_chat_input in = {.messages = messages, .open = true};
    struct dan_err e = {0};
    *out = (struct dan_chat_out){0};
    if (dan_chat_render(by, &in, out, &e)) fail_msg("%s", e.msg);
}

/* Every built-in one with <s> before it, in a file and back: the same ids, as the tokenizer's own template. */
static void test_file(void **state)
{
    (void)state;
    char dir[] = "/tmp/danlu-chat-XXXXXX";
    const char *name;
    bool found = true;
    struct dan_err e = {0};
    struct dan_tokenizer *t = tokenizer();
    struct dan_ids before = {0};
    dan_ids_push(&before, dan_tokenizer_find_special(t, "<s>"));
    assert_non_null(mkdtemp(dir));
    json_t *messages = json_pack("[{ssss},{ssss},{ssss}]", "role", "user", "content", "q", "role", "assistant", "content", "ans", "role", "user", "content", "q");
    assert_int_equal(dan_chat_template_take(t, dir, &found, &e), DAN_OK);
    assert_false(found);
    for (size_t i = 0; (name = dan_chat_builtin_at(i)); i++) {
        struct dan_chat_template by = {0}, back = {0};
        struct dan_chat_out a, b, c;
        if (dan_chat_template_open(&by, t, name, &before, &e)) fail_msg("%s", e.msg);
        render(&by, messages, &a);
        if (dan_chat_template_settle(&by, &e) || dan_chat_template_settle(&by, &e) || dan_chat_template_save(&by, dir, &e)) fail_msg("%s", e.msg);
        render(&by, messages, &b);
        if (dan_chat_template_take(t, dir, &found, &e) || dan_chat_template_open(&back, t, NULL, &before, &e)) fail_msg("%s", e.msg);
        render(&back, messages, &c);
        assert_true(found && !back.builtin && a.ids.n == b.ids.n && a.ids.n == c.ids.n && a.ids.v[0] == before.v[0]);
        assert_memory_equal(a.ids.v, b.ids.v, a.ids.n * sizeof *a.ids.v);
        assert_memory_equal(a.ids.v, c.ids.v, a.ids.n * sizeof *a.ids.v);
        dan_chat_out_release(&a);
        dan_chat_out_release(&b);
        dan_chat_out_release(&c);
        dan_chat_template_release(&by);
        dan_chat_template_release(&back);
    }
    json_decref(messages);
    dan_ids_release(&before);
    dan_tokenizer_free(t);
    assert_int_equal(dan_remove_tree(dir, &e), DAN_OK);
}

static void test_builtin(void **state)
{
    (void)state;
    struct dan_tokenizer *t = tokenizer();
    const char *name;
    for (size_t i = 0; (name = dan_chat_builtin_at(i)); i++) {
        struct dan_chat_template by = {0};
        struct dan_chat_traits x = {0};
        struct dan_err e = {0};
        if (dan_chat_template_open(&by, t, name, NULL, &e) || dan_chat_traits_of(&by, false, 0, &x, &e)) fail_msg("%s: %s", name, e.msg);
        if (!x.prefix_preserving || !x.takes_system) fail_msg("%s: other traits", name);
        dan_chat_traits_release(&x);
        dan_chat_template_release(&by);
    }
    assert_string_equal(dan_chat_builtin_for(t), "plain");
    dan_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_masks), cmocka_unit_test(test_traits), cmocka_unit_test(test_refused), cmocka_unit_test(test_file), cmocka_unit_test(test_builtin)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
