/* Tokenizers from parts: a learnt one taken apart and put together again, and Qwen 2's vocabulary from its
 * .tiktoken file against llama.cpp's cases (the pattern of Llama 3's family, NFC, 151643 ids). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/arena.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"
#include "text/impl.h"

static void ok(int r, const struct dan_err *e)
{
    if (r) fail_msg("%d: %s", r, e->msg);
}

static const char *named(struct dan_arena *a, const char *p, size_t n)
{
    struct dan_str s = {0};
    dan_alphabet_put(&s, p, n);
    const char *copy = dan_arena_strdup(a, dan_str_c(&s));
    dan_str_release(&s);
    return copy;
}

static int one_text(void *ctx, const char **p, size_t *n, struct dan_err *e)
{
    const char **left = ctx;
    (void)e;
    *p = *left;
    *n = *left ? strlen(*left) : 0;
    *left = NULL;
    return 0;
}

static void test_together_again(void **state)
{
    (void)state;
    const char *text = "the waiting was the work, the work was the waiting; 炼丹炼丹 <|endoftext|> naïve naïve 12 12";
    const char *left = text;
    struct dan_text_source src = {one_text, &left, 0};
    struct dan_tok_train_opts o = {.vocab_size = 300};
    struct dan_tokenizer *t, *back;
    struct dan_err e = {0};
    struct dan_arena *a = dan_arena_new();
    ok(dan_tokenizer_train_bpe(&src, &o, &t, NULL, &e), &e);
    size_t n = (size_t)dan_tokenizer_vocab_size(t), m;
    const char **token = dan_arena_alloc(a, n * sizeof *token), **merge = dan_arena_alloc(a, n * sizeof *merge);
    uint8_t *added = dan_arena_alloc(a, n);
    for (size_t id = 0; id < n; id++) {
        const char *p = dan_tokenizer_token(t, (int32_t)id, &m);
        added[id] = dan_tokenizer_is_special(t, (int32_t)id);
        token[id] = added[id] ? "<|endoftext|>" : named(a, p, m);
    }
    for (size_t r = 0; r < t->n_merges; r++)
        merge[r] = dan_arena_printf(a, "%s %s", token[t->merge_pair[2 * r]], token[t->merge_pair[2 * r + 1]]);
    struct dan_tokenizer_parts p = {token, added, merge, n, t->n_merges, "gpt-2", (int32_t)n - 1, (int32_t)n - 1, NULL};
    ok(dan_tokenizer_from_parts(&p, &back, &e), &e);
    assert_true(dan_tokenizer_hash(t) == dan_tokenizer_hash(back));
    assert_int_equal(dan_tokenizer_eos(back), dan_tokenizer_eos(t));
    dan_tokenizer_free(back);
    p.split = "martian";
    assert_int_equal(dan_tokenizer_from_parts(&p, &back, &e), DAN_EUNSUPPORTED);
    p.split = "gpt2";
    merge[0] = "nospace";
    assert_int_equal(dan_tokenizer_from_parts(&p, &back, &(struct dan_err){0}), DAN_EFORMAT);
    dan_tokenizer_free(t);
    dan_arena_free(a);
}

/* --- "base64 rank" lines */
static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static size_t base64_decode(const char **p, char *out)
{
    size_t n = 0;
    unsigned bits = 0;
    int have = 0;
    for (int d; (d = base64_digit(**p)) >= 0; (*p)++) {
        bits = bits << 6 | (unsigned)d;
        have += 6;
        if (have >= 8) out[n++] = (char)(bits >> (have -= 8) & 255);
    }
    while (**p == '=') (*p)++;
    return n;
}

/* The two tokens that token p of rank r was made of: BPE of its bytes with the ranks below r. */
static size_t last_cut(const struct dan_map *rank, const char *p, size_t n, int64_t r)
{
    size_t cut[256], parts = n;
    assert_true(n < 255);
    for (size_t i = 0; i <= n; i++) cut[i] = i;
    while (parts > 2) {
        int64_t best = r, v;
        size_t at = 0;
        for (size_t i = 0; i + 2 <= parts; i++)
            if (dan_map_get(rank, p + cut[i], cut[i + 2] - cut[i], &v) && v < best) best = v, at = i;
        if (best == r) return 0;
        memmove(&cut[at + 1], &cut[at + 2], (parts - at - 1) * sizeof *cut);
        parts--;
    }
    return cut[1];
}

static void qwen_parts(struct dan_arena *a, const char *text, struct dan_tokenizer_parts *out)
{
    enum { MOST = 160000 };
    struct dan_map *rank = dan_map_new();
    const char **token = dan_arena_alloc(a, MOST * sizeof *token), **merge = dan_arena_alloc(a, MOST * sizeof *merge);
    char raw[512];
    for (const char *p = text; *p && out->n < MOST; out->n++) {
        size_t n = base64_decode(&p, raw);
        assert_int_equal(strtol(p, NULL, 10), out->n);
        p = strchr(p, '\n') + 1;
        dan_map_put(rank, raw, n, (int64_t)out->n);
        token[out->n] = named(a, raw, n);
    }
    for (size_t r = 0; r < out->n; r++) {
        const char *p;
        size_t n;
        dan_map_at(rank, r, &p, &n, NULL);
        size_t cut = n > 1 ? last_cut(rank, p, n, (int64_t)r) : 0;
        if (cut) merge[out->n_merges++] = dan_arena_printf(a, "%s %s", named(a, p, cut), named(a, p + cut, n - cut));
    }
    out->token = token;
    out->merge = merge;
    dan_map_free(rank);
}

static char *data_text(const char *name)
{
    char path[1024], *bytes;
    size_t n;
    const char *dir = dan_env("DANLU_DATA") ? dan_env("DANLU_DATA") : "../shared/data";
    snprintf(path, sizeof path, "%s/tokenizer/%s", dir, name);
    return dan_read_file(path, &bytes, &n, NULL) == 0 ? bytes : NULL;
}

static int run_cases(const struct dan_tokenizer *t, const char *inp, const char *out)
{
    static const char mark[] = "\n__ggml_vocab_test__\n";
    int cases = 0;
    for (const char *text = inp, *line = out; line && *line; cases++) {
        const char *end = strstr(text, mark), *eol = strchr(line, '\n');
        struct dan_ids ids = {0};
        struct dan_err e = {0};
        size_t n = end ? (size_t)(end - text) : strlen(text), k = 0;
        ok(dan_tokenizer_encode(t, text, n, 0, &ids, &e), &e);
        for (char *stop; line < (eol ? eol : line + strlen(line)); line = stop, k++) {
            long want = strtol(line, &stop, 10);
            if (stop == line) break;
            if (eol && stop > eol) break;
            if (k >= ids.n || ids.v[k] != want) fail_msg("case %d, token %zu: other than %ld in '%.*s'", cases, k, want, (int)n, text);
        }
        assert_int_equal(k, ids.n);
        dan_ids_release(&ids);
        text = end ? end + sizeof mark - 1 : text + n;
        line = eol ? eol + 1 : NULL;
    }
    return cases;
}

static void test_qwen2(void **state)
{
    (void)state;
    char *vocab = data_text("qwen/qwen.tiktoken"), *inp = data_text("ggml-vocab/ggml-vocab-qwen2.gguf.inp"),
         *out = data_text("ggml-vocab/ggml-vocab-qwen2.gguf.out");
    if (!vocab || !inp || !out) skip();
    struct dan_arena *a = dan_arena_new();
    struct dan_tokenizer_parts p = {.split = "qwen2", .bos = -1, .eos = -1};
    struct dan_tokenizer *t;
    struct dan_err e = {0};
    qwen_parts(a, vocab, &p);
    assert_int_equal(p.n, 151643);
    ok(dan_tokenizer_from_parts(&p, &t, &e), &e);
    assert_int_equal(run_cases(t, inp, out), 46);
    /* NFC: e + combining acute is é */
    struct dan_ids one = {0}, two = {0};
    ok(dan_tokenizer_encode(t, "caf\u00e9 \xFF", 7, 0, &one, &e), &e);
    ok(dan_tokenizer_encode(t, "cafe\u0301 \xFF", 8, 0, &two, &e), &e);
    assert_int_equal(one.n, two.n);
    assert_memory_equal(one.v, two.v, one.n * sizeof *one.v);
    dan_ids_release(&one);
    dan_ids_release(&two);
    dan_tokenizer_free(t);
    dan_arena_free(a);
    dan_free(vocab);
    dan_free(inp);
    dan_free(out);
}

/* NFC as `tokenizers` has it: marks that are younger than Unicode 9 do not move. */
static void test_nfc(void **state)
{
    (void)state;
    static const struct { const char *text, *form; } rows[] = {
        {"e\xCC\x81", "\xC3\xA9"}, {"a\xE0\xA3\xA3\xE0\xB4\xBC", "a\xE0\xA3\xA3\xE0\xB4\xBC"}, {"a\xCC\x81\xCC\xA3", "\xE1\xBA\xA1\xCC\x81"},
        {"e\xFF\xCC\x81", "e\xFF\xCC\x81"}, {"\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", "\xED\x95\x9C"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct dan_str s = {0};
        dan_nfc_text(rows[i].text, strlen(rows[i].text), &s);
        assert_string_equal(dan_str_c(&s), rows[i].form);
        dan_str_release(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_together_again), cmocka_unit_test(test_qwen2), cmocka_unit_test(test_nfc)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
