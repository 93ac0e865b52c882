/* Texts: the same alone and in company, stop strings, ends, held-back bytes, prompts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "infer/generate.h"

enum { N = 5, CONTEXT = 64 };
struct fixture { struct dan_lm lm; struct dan_tokenizer *tok; };

static int setup(void **state)
{
    static struct fixture f;
    struct dan_lm_config cfg = {.context = CONTEXT, .hidden = 32, .layers = 1, .heads = 2, .tied = true, .bos = -1, .eos = -1};
    struct dan_err e = {0};
    if (dan_tokenizer_new_bytes(NULL, &f.tok, &e)) return -1;
    cfg.vocab = dan_tokenizer_vocab_size(f.tok);
    *state = &f;
    return dan_lm_init(&f.lm, dan_model_find("llama"), &cfg, 3, &e);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    dan_lm_release(&f->lm);
    dan_tokenizer_free(f->tok);
    return 0;
}

static struct dan_session *new_session(struct fixture *f, int64_t slots)
{
    struct dan_session *s;
    struct dan_err e = {0};
    if (dan_session_new(&f->lm, &(struct dan_session_opts){.slots = slots, .max_rows = 20}, &s, &e)) fail_msg("%s", e.msg);
    return s;
}

static void begin(struct fixture *f, struct dan_gen *g, const struct dan_gen_opts *o, int slot, int k, const char *prompt)
{
    struct dan_ids ids = {0};
    struct dan_err e = {0};
    if (dan_prompt_encode(f->tok, NULL, prompt, strlen(prompt), &ids, &e) ||
        dan_gen_begin(g, o, f->tok, slot, (uint64_t)k, ids.v, ids.n, &e))
        fail_msg("%s", e.msg);
    dan_ids_release(&ids);
}

static const char *const prompts[N] = {"a", "Hello, world", "", "the end", "1 2 3 4 5 6 7 8 9 10 11 12"};

static void test_company(void **state)
{
    struct fixture *f = *state;
    struct dan_gen_opts o = {.sampling = {.temperature = 0.9, .top_p = 0.9, .seed = 5}, .max_tokens = 20};
    struct dan_gen together[N], alone, *all[N], *one = &alone;
    struct dan_gen_times t = {0};
    struct dan_err e = {0};
    struct dan_session *s = new_session(f, N);
    for (int k = 0; k < N; k++) {
        begin(f, &together[k], &o, k, k, prompts[k]);
        all[k] = &together[k];
    }
    assert_int_equal(dan_gen_run(s, all, N, NULL, &t, &e), 0);
    assert_int_equal(t.new_tokens, N * 20);
    dan_session_free(s);
    s = new_session(f, 1);
    for (int k = 0; k < N; k++) {
        dan_session_reset(s, 0);
        begin(f, &alone, &o, 0, k, prompts[k]);
        assert_int_equal(dan_gen_run(s, &one, 1, NULL, NULL, &e), 0);
        assert_int_equal(alone.ids.n, together[k].ids.n);
        assert_memory_equal(alone.ids.v, together[k].ids.v, alone.ids.n * sizeof *alone.ids.v);
        assert_int_equal(alone.finish, DAN_GEN_LENGTH);
        dan_gen_release(&alone);
        dan_gen_release(&together[k]);
    }
    dan_session_free(s);
}

/* Bytes as tokens, told one by one. */
static void tell(struct dan_gen *g, const char *bytes)
{
    for (; *bytes && g->finish == DAN_GEN_RUNS; bytes++) assert_int_equal(dan_gen_next(g, (uint8_t)*bytes, NULL), 0);
}

static void test_stop(void **state)
{
    struct fixture *f = *state;
    const char *stop[] = {"END", "\n\n"};
    struct dan_gen_opts o = {.sampling = DAN_SAMPLING_PLAIN, .stop = stop, .n_stop = 2};
    struct dan_gen g;
    begin(f, &g, &o, 0, 0, "x");
    tell(&g, "one EN");
    assert_int_equal(dan_gen_ready(&g), 4);    /* "EN" may become a stop string */
    tell(&g, "o ");
    assert_int_equal(dan_gen_ready(&g), 8);
    tell(&g, "two E");
    tell(&g, "NDE");
    assert_int_equal(g.finish, DAN_GEN_STOP);
    assert_string_equal(g.text.p, "one ENo two ");
    assert_int_equal(dan_gen_ready(&g), g.text.n);
    assert_string_equal(dan_finish_name(g.finish), "stop");
    assert_int_equal(dan_gen_tokens_of(&g, g.text.n), 12);
    dan_gen_release(&g);
    begin(f, &g, &o, 0, 0, "x");
    tell(&g, "a\n\n\n");
    assert_int_equal(g.finish, DAN_GEN_STOP);
    assert_string_equal(g.text.p, "a");
    dan_gen_release(&g);
}

/* Llama 3 has three ids that end a text: each does. */
static void test_several_eos(void **state)
{
    struct fixture *f = *state;
    int32_t eos[] = {dan_tokenizer_eos(f->tok), '!', '?'};
    struct dan_gen_opts o = {.sampling = DAN_SAMPLING_PLAIN, .max_tokens = 9, .eos = eos, .n_eos = 3};
    for (int k = 0; k < 3; k++) {
        struct dan_gen g;
        begin(f, &g, &o, 0, 0, "x");
        tell(&g, "ab");
        dan_gen_next(&g, eos[k], NULL);
        assert_int_equal(g.finish, DAN_GEN_EOS);
        assert_string_equal(g.text.p, "ab");
        dan_gen_release(&g);
    }
}

static void test_ends(void **state)
{
    struct fixture *f = *state;
    int32_t eos[] = {dan_tokenizer_eos(f->tok)};
    struct dan_gen_opts o = {.sampling = DAN_SAMPLING_PLAIN, .max_tokens = 3, .eos = eos, .n_eos = 1};
    struct dan_gen g;
    assert_true(eos[0] >= 0);
    begin(f, &g, &o, 0, 0, "x");
    tell(&g, "ab");
    dan_gen_next(&g, eos[0], NULL);
    assert_int_equal(g.finish, DAN_GEN_EOS);
    assert_string_equal(g.text.p, "ab");
    assert_int_equal(dan_gen_new_tokens(&g), 3);
    dan_gen_release(&g);
    begin(f, &g, &o, 0, 0, "x");
    tell(&g, "a\xE4\xBD\xA0");                 /* max_tokens cuts the character */
    assert_int_equal(g.finish, DAN_GEN_LENGTH);
    assert_string_equal(g.text.p, "a\xE4\xBD");
    dan_gen_release(&g);
    o.max_tokens = 0;
    begin(f, &g, &o, 0, 0, "x");
    tell(&g, "a\xE4\xBD");
    assert_int_equal(dan_gen_ready(&g), 1);    /* half a character waits */
    tell(&g, "\xA0");
    assert_int_equal(dan_gen_ready(&g), 4);
    dan_gen_release(&g);
    assert_int_equal(dan_gen_begin(&g, &o, f->tok, 0, 0, NULL, 0, NULL), DAN_EINVAL);
}

/* A full context ends a text with length and nothing slides; a prompt that is too long is refused. */
static void test_context(void **state)
{
    struct fixture *f = *state;
    struct dan_gen_opts o = {.sampling = {.temperature = 0}, .ignore_eos = true};
    struct dan_gen g, *one = &g;
    struct dan_err e = {0};
    struct dan_session *s = new_session(f, 1);
    begin(f, &g, &o, 0, 0, "0123456789");
    assert_int_equal(dan_gen_run(s, &one, 1, NULL, NULL, &e), 0);
    assert_int_equal(g.finish, DAN_GEN_LENGTH);
    assert_int_equal(dan_session_length(s, 0), CONTEXT);
    assert_int_equal(g.ids.n, CONTEXT + 1);    /* the last token needs no room */
    dan_gen_release(&g);
    char longer[CONTEXT + 2];
    memset(longer, 'x', sizeof longer);
    longer[CONTEXT + 1] = 0;
    dan_session_reset(s, 0);
    begin(f, &g, &o, 0, 0, longer);
    assert_int_equal(dan_gen_run(s, &one, 1, NULL, NULL, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "shorten the prompt"));
    dan_gen_release(&g);
    dan_session_free(s);
}

struct heard { struct dan_str text; int calls; };
static void hear(void *ctx, const struct dan_gen *g, const char *bytes, size_t n)
{
    (void)g;
    dan_str_append(&((struct heard *)ctx)->text, bytes, n);
}
static bool five_times(void *ctx) { return ++((struct heard *)ctx)->calls <= 5; }

static void test_cancel(void **state)
{
    struct fixture *f = *state;
    struct heard h = {0};
    struct dan_gen_opts o = {.sampling = {.temperature = 0}, .ignore_eos = true};
    struct dan_gen_hooks hooks = {hear, five_times, &h};
    struct dan_gen g, *one = &g;
    struct dan_session *s = new_session(f, 1);
    begin(f, &g, &o, 0, 0, "0123456789");
    assert_int_equal(dan_gen_run(s, &one, 1, &hooks, NULL, NULL), 0);
    assert_int_equal(g.finish, DAN_GEN_CANCELLED);
    assert_int_equal(dan_gen_new_tokens(&g), 5);
    assert_int_equal(h.text.n, g.text.n);
    assert_memory_equal(dan_str_c(&h.text), dan_str_c(&g.text), g.text.n);
    dan_str_release(&h.text);
    dan_gen_release(&g);
    dan_session_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_company), cmocka_unit_test(test_stop),   cmocka_unit_test(test_ends), cmocka_unit_test(test_several_eos),
        cmocka_unit_test(test_context), cmocka_unit_test(test_cancel),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
