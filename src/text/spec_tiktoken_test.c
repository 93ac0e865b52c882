/* .tiktoken files: strict lines, what is known of a family by name and by size, added tokens from the config beside it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/file.h"
#include "text/spec.h"
#include "text/tokenizer.h"

static char dir[64];

static const char *put(const char *name, const char *text)
{
    static char path[256];
    struct dan_err e = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(dan_write_file(path, text, strlen(text), &e), 0);
    return path;
}

static int read_spec(const char *name, const char *text, struct dan_tok_spec *s, struct dan_err *e)
{
    const char *path = put(name, text);
    *e = (struct dan_err){0};
    dan_tok_spec_init(s, DAN_SPEC_BPE, path);
    return dan_spec_from_tiktoken(path, s, e);
}

static void test_reads(void **state)
{
    (void)state;
    struct dan_tok_spec s;
    struct dan_err e;
    assert_int_equal(read_spec("mine.tiktoken", "YQ== 0\r\nYg== 1\nYWI= 3\n\n/+8B 5", &s, &e), 0);
    assert_int_equal(s.n, 6);
    assert_int_equal(s.piece[2].flags, 0);     /* a hole */
    assert_int_equal(s.piece[5].n, 3);
    assert_memory_equal(s.bytes.p + s.piece[5].at, "\xFF\xEF\x01", 3);
    assert_true(s.byte_level && s.ignore_merges && s.merges == DAN_MERGES_BY_ID);
    assert_non_null(s.assumed);
    dan_tok_spec_release(&s);
}

static void test_refuses(void **state)
{
    (void)state;
    static const struct { const char *text, *says; } bad[] = {
        {"", "no ranks"}, {"\n\n", "no ranks"}, {"YQ==0\n", "line 1"}, {"YQ= 0\n", "line 1"}, {"YQ== 0\nYR== 1\n", "line 2"}, {"Y*== 0\n", "line 1"},
        {"YQ==  0\n", "line 1"}, {"YQ== -1\n", "line 1"}, {"YQ== 0x\n", "line 1"}, {" 0\n", "line 1"}, {"YQ== \n", "line 1"}, {"==== 0\n", "line 1"},
        {"YQ== 0\nYg== 0\n", "rank 0 is there twice"}, {"YQ== 0\nYQ== 1\n", "token of rank 1 is there twice"}, {"YQ== 999999999\n", "too large"},
        {"YQ== 9999999999999999999999\n", "line 1"}, {"\x1f\x8b\x08", "unpack"}, {"YQ=a 0\n", "line 1"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct dan_tok_spec s;
        struct dan_err e;
        if (read_spec("bad.tiktoken", bad[i].text, &s, &e) == 0) fail_msg("read: %s", bad[i].text);
        if (!strstr(e.msg, bad[i].says)) fail_msg("'%s' for %s", e.msg, bad[i].text);
        dan_tok_spec_release(&s);
    }
}

static const char *text_of(const struct dan_tok_spec *s, size_t id)
{
    static char text[64];
    assert_true(id < s->n && s->piece[id].n < sizeof text);
    memcpy(text, s->bytes.p + s->piece[id].at, s->piece[id].n);
    text[s->piece[id].n] = 0;
    return text;
}

static void test_families(void **state)
{
    (void)state;
    static const struct { const char *name; size_t n; int32_t bos, eos; size_t id; const char *text; } family[] = {
        {"cl100k_base.tiktoken", 100277, -1, 100257, 100276, "<|endofprompt|>"}, {"r50k_base.tiktoken", 50257, -1, 50256, 50256, "<|endoftext|>"},
        {"o200k_base.tiktoken", 200019, -1, 199999, 200018, "<|endofprompt|>"},
        {"o200k_harmony.tiktoken", 201088, 199998, 199999, 201087, "<|reserved_201087|>"}, {"qwen.tiktoken", 151851, -1, 151643, 151850, "<|extra_204|>"},
    };
    for (size_t i = 0; i < sizeof family / sizeof *family; i++) {
        struct dan_tok_spec s;
        struct dan_err e;
        if (read_spec(family[i].name, "YQ== 0\nYg== 1\n", &s, &e)) fail_msg("%s", e.msg);
        assert_int_equal(s.n, family[i].n);
        assert_int_equal(s.bos, family[i].bos);
        assert_int_equal(s.eos, family[i].eos);
        assert_string_equal(text_of(&s, family[i].id), family[i].text);
        assert_true(s.piece[family[i].id].flags & DAN_PIECE_SPECIAL);
        assert_null(s.assumed);
        dan_tok_spec_release(&s);
    }
}

/* Llama 3's file is called tokenizer.model: 128,000 ranks tell it. */
static void test_by_size(void **state)
{
    (void)state;
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct dan_str text = {0};
    struct dan_tok_spec s;
    struct dan_err e;
    for (unsigned i = 0; i < 128000; i++)
        dan_str_printf(&text, "%c%c%c%c %u\n", digits[i >> 18 & 63], digits[i >> 12 & 63], digits[i >> 6 & 63], digits[i & 63], i);
    assert_false(text.failed);
    assert_true(dan_spec_is_tiktoken(text.p, text.n));
    if (read_spec("tokenizer.model", text.p, &s, &e)) fail_msg("%s", e.msg);
    assert_int_equal(s.n, 128256);
    assert_string_equal(text_of(&s, 128009), "<|eot_id|>");
    assert_string_equal(text_of(&s, 128255), "<|reserved_special_token_247|>");
    assert_non_null(s.post_processor);
    dan_tok_spec_release(&s);
    dan_str_release(&text);
    assert_false(dan_spec_is_tiktoken("\n\x05<unk>", 7));
    assert_false(dan_spec_is_tiktoken("", 0));
}

static void test_config(void **state)
{
    (void)state;
    struct dan_tok_spec s;
    struct dan_err e;
    put("tokenizer_config.json", "{\"eos_token\":\"<end>\",\"added_tokens_decoder\":{\"7\":{\"content\":\"<end>\",\"special\":true},"
                                 "\"8\":{\"content\":\"<tool>\",\"special\":false,\"lstrip\":true}}}");
    if (read_spec("mine.tiktoken", "YQ== 0\nYg== 1\n", &s, &e)) fail_msg("%s", e.msg);
    assert_int_equal(s.eos, 7);
    assert_int_equal(s.piece[7].flags, DAN_PIECE_ADDED | DAN_PIECE_SPECIAL);
    assert_int_equal(s.piece[8].flags, DAN_PIECE_ADDED | DAN_PIECE_LSTRIP);
    dan_tok_spec_release(&s);
    put("tokenizer_config.json", "{\"added_tokens_decoder\":{\"16777215\":{\"content\":\"<end>\"}}}");
    assert_int_not_equal(read_spec("mine.tiktoken", "YQ== 0\nYg== 1\n", &s, &e), 0);
    dan_tok_spec_release(&s);
}

static int begin(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/danlu_tiktoken_XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    struct dan_err e = {0};
    return dan_remove_tree(dir, &e);
}

/* Qwen has an end and no beginning, and so has the tokenizer, though the end is GPT-2's token for both. */
static void test_no_beginning(void **state)
{
    (void)state;
    struct dan_err e = {0};
    struct dan_tokenizer *t;
    assert_int_equal(dan_tokenizer_load(put("qwen.tiktoken", "YQ== 0\nYg== 1\nYWI= 2\n"), &t, &e), 0);
    assert_int_equal(dan_tokenizer_bos(t), -1);
    assert_int_equal(dan_tokenizer_eos(t), 151643);
    dan_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reads), cmocka_unit_test(test_no_beginning), cmocka_unit_test(test_refuses), cmocka_unit_test(test_families),
                                       cmocka_unit_test(test_by_size), cmocka_unit_test(test_config)};
    return cmocka_run_group_tests(tests, begin, end);
}
