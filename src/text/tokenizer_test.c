/* Round trips, goldens of other libraries, what is refused.  Files: tests/golden/bpe below DANLU_SRC or the
 * current folder, and the tokenizers below DANLU_DATA (../shared/data), skipped aloud when absent. */
#include "text/tokenizer.h"
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/sys.h"
#include "base/utf8.h"

static void ok(int r, const struct dan_err *e)
{
    if (r) fail_msg("%d: %s", r, e->msg);
}

struct list { const char *const *text; const size_t *len; size_t n, at; };
static int list_next(void *ctx, const char **p, size_t *n, struct dan_err *e)
{
    struct list *l = ctx;
    (void)e;
    *p = l->at < l->n ? l->text[l->at] : NULL;
    *n = *p ? (l->len ? l->len[l->at] : strlen(*p)) : 0;
    l->at++;
    return 0;
}

static struct dan_tokenizer *trained(const char *text, size_t n, int32_t vocab, const struct dan_tok_train_opts *more)
{
    struct list l = {&text, &n, 1, 0};
    struct dan_text_source src = {list_next, &l, (int64_t)n};
    struct dan_tok_train_opts o = more ? *more : (struct dan_tok_train_opts){0};
    struct dan_tokenizer *t;
    struct dan_err e = {0};
    o.vocab_size = vocab;
    ok(dan_tokenizer_train_bpe(&src, &o, &t, NULL, &e), &e);
    return t;
}

static struct dan_tokenizer *of_chars(const char *text, const struct dan_tok_train_opts *o)
{
    struct list l = {&text, NULL, 1, 0};
    struct dan_text_source src = {list_next, &l, 0};
    struct dan_tokenizer *t;
    struct dan_err e = {0};
    ok(dan_tokenizer_train_char(&src, o, &t, NULL, &e), &e);
    return t;
}

static const char *const story =
    "The furnace stood in the middle of the yard. It's lit, they're waiting; we'll see in 1987 or 2026.\n\n"
    "  The waiting was the work, the work was the waiting.\t"
    "老师傅说，炼丹要看火候。炼丹要看火候。\r\n naïve café 🙂🙂";

/* Encodes with and without a cache (twice, so that it hits) and decodes. */
static void round_trip(const struct dan_tokenizer *t, struct dan_tok_cache *c, const char *p, size_t n, int flags)
{
    struct dan_ids a = {0}, b = {0};
    struct dan_str s = {0};
    struct dan_err e = {0};
    ok(dan_tokenizer_encode(t, p, n, flags, &a, &e), &e);
    for (int again = 0; again < 2; again++) {
        b.n = 0;
        ok(dan_tok_cache_encode(c, p, n, flags, &b, &e), &e);
        assert_int_equal(a.n, b.n);
        if (a.n) assert_memory_equal(a.v, b.v, a.n * sizeof *a.v);
    }
    dan_tokenizer_decode(t, a.v, a.n, &s);
    assert_int_equal(s.n, n);
    if (n) assert_memory_equal(s.p, p, n);
    dan_ids_release(&a);
    dan_ids_release(&b);
    dan_str_release(&s);
}

/* Random bytes, random ASCII with much white space, random code points with damage. */
static size_t random_text(struct dan_rng *r, char *out, size_t max)
{
    size_t n = dan_rng_below(r, max - 4), i = 0;
    uint64_t style = dan_rng_below(r, 4);
    while (i < n) {
        if (style == 0) out[i++] = (char)dan_rng_below(r, 256);
        else if (style == 1) out[i++] = " \n\t'strevlmd aA1.\xC2\xA0"[dan_rng_below(r, 20)];
        else i += (size_t)dan_utf8_put((int32_t)dan_rng_below(r, style == 2 ? 0x3000 : 0x110000), out + i);
        if (style == 3 && dan_rng_below(r, 8) == 0) out[i - 1] = (char)(0x80 | dan_rng_below(r, 128));
    }
    return i;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct dan_tok_train_opts digits = {.split = "gpt2-digits"}, llama = {.split = "llama3"}, qwen = {.split = "qwen2"};
    size_t n = strlen(story);
    struct dan_tokenizer *t[5] = {trained(story, n, 320, NULL), trained(story, n, 320, &digits), trained(story, n, 320, &llama),
                                  trained(story, n, 320, &qwen)};
    struct dan_rng r = {.seed = 7};
    struct dan_err e = {0};
    char text[400];
    ok(dan_tokenizer_new_bytes(NULL, &t[4], &e), &e);
    for (int k = 0; k < 5; k++) {
        struct dan_tok_cache *c;
        ok(dan_tok_cache_new(t[k], &c, &e), &e);
        round_trip(t[k], c, story, n, 0);
        for (int i = 0; i < 4000; i++) round_trip(t[k], c, text, random_text(&r, text, sizeof text), i & DAN_ENCODE_SPECIAL);
        dan_tok_cache_free(c);
        dan_tokenizer_free(t[k]);
    }
}

static void test_bytes(void **state)
{
    (void)state;
    struct dan_tokenizer *t;
    struct dan_ids ids = {0};
    struct dan_err e = {0};
    ok(dan_tokenizer_new_bytes(NULL, &t, &e), &e);
    assert_string_equal(dan_tokenizer_kind(t), "bytes");
    assert_int_equal(dan_tokenizer_vocab_size(t), 257);
    assert_int_equal(dan_tokenizer_eos(t), 256);
    ok(dan_tokenizer_encode(t, "a\xFF\0<|endoftext|>", 16, DAN_ENCODE_SPECIAL, &ids, &e), &e);
    const int32_t want[] = {97, 255, 0, 256};
    assert_int_equal(ids.n, 4);
    assert_memory_equal(ids.v, want, sizeof want);
    dan_ids_release(&ids);
    dan_tokenizer_free(t);
}

static void test_char(void **state)
{
    (void)state;
    const char *const special[] = {"<|endoftext|>", "<unk>"};
    struct dan_tok_train_opts o = {.special = special, .n_special = 2};
    struct dan_tokenizer *t = of_chars("cab 炼\n", NULL), *u = of_chars("cab 炼\n", &o);
    struct dan_ids ids = {0};
    struct dan_err e = {0};
    assert_int_equal(dan_tokenizer_vocab_size(t), 7);              /* \n, space, a, b, c, 炼, <|endoftext|> */
    ok(dan_tokenizer_encode(t, "ab炼<|endoftext|>c", 19, DAN_ENCODE_SPECIAL, &ids, &e), &e);
    const int32_t want[] = {2, 3, 5, 6, 4};
    assert_int_equal(ids.n, 5);
    assert_memory_equal(ids.v, want, sizeof want);
    assert_int_equal(dan_tokenizer_encode(t, "ab丹", 5, 0, &ids, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "'丹' (U+4E39) at offset 2"));
    e = (struct dan_err){0};
    assert_int_equal(dan_tokenizer_encode(t, "a\xFF", 2, DAN_ENCODE_UNK, &ids, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "0xFF at offset 1"));
    ids.n = 0;
    ok(dan_tokenizer_encode(u, "丹a", 4, DAN_ENCODE_UNK, &ids, &e), &e);
    assert_int_equal(ids.v[0], dan_tokenizer_find_special(u, "<unk>"));
    assert_int_equal(ids.v[1], 2);
    dan_ids_release(&ids);
    dan_tokenizer_free(t);
    dan_tokenizer_free(u);
}

static void test_special_is_opt_in(void **state)
{
    (void)state;
    struct dan_tokenizer *t = trained(story, strlen(story), 300, NULL);
    struct dan_ids plain = {0}, special = {0};
    struct dan_err e = {0};
    const char *text = "a<|endoftext|>b<|endoftext|";
    ok(dan_tokenizer_encode(t, text, strlen(text), 0, &plain, &e), &e);
    ok(dan_tokenizer_encode(t, text, strlen(text), DAN_ENCODE_SPECIAL, &special, &e), &e);
    int in_plain = 0, in_special = 0;
    for (size_t i = 0; i < plain.n; i++) in_plain += plain.v[i] == dan_tokenizer_eos(t);
    for (size_t i = 0; i < special.n; i++) in_special += special.v[i] == dan_tokenizer_eos(t);
    assert_int_equal(in_plain, 0);
    assert_int_equal(in_special, 1);
    assert_int_equal(special.v[1], dan_tokenizer_eos(t));
    assert_true(dan_tokenizer_is_special(t, dan_tokenizer_eos(t)));
    assert_int_equal(dan_tokenizer_find_special(t, "<|nothing|>"), -1);
    dan_ids_release(&plain);
    dan_ids_release(&special);
    dan_tokenizer_free(t);
}

static void test_detok(void **state)
{
    (void)state;
    struct dan_tokenizer *t;
    struct dan_err e = {0};
    struct dan_str s = {0};
    ok(dan_tokenizer_new_bytes(NULL, &t, &e), &e);
    struct dan_detok d = {.t = t};
    const char *text = "é🙂\xE7\x82x\xF0\x9F";
    for (size_t i = 0; i < strlen(text); i++) {
        dan_detok_push(&d, (unsigned char)text[i], &s);
        if (i == 0) assert_int_equal(s.n, 0);
        if (i >= 1 && i < 5) assert_int_equal(s.n, 2);
        if (i == 5) assert_int_equal(s.n, 6);
    }
    assert_int_equal(s.n, strlen(text) - 2);
    dan_detok_finish(&d, &s);
    assert_int_equal(s.n, strlen(text));
    assert_memory_equal(s.p, text, s.n);
    dan_str_release(&s);
    dan_tokenizer_free(t);
}

/* --- files */
static void read_text(struct dan_str *s, const char *const parts[3])
{
    struct dan_err e = {0};
    char path[1024], *bytes;
    size_t n;
    snprintf(path, sizeof path, "%s%s%s", parts[0], parts[1], parts[2]);
    ok(dan_read_file(path, &bytes, &n, &e), &e);
    dan_str_append(s, bytes, n);
    dan_free(bytes);
}

static void same_tokenizer(const struct dan_tokenizer *a, const struct dan_tokenizer *b)
{
    assert_string_equal(dan_tokenizer_kind(a), dan_tokenizer_kind(b));
    assert_int_equal(dan_tokenizer_vocab_size(a), dan_tokenizer_vocab_size(b));
    assert_int_equal(dan_tokenizer_bos(a), dan_tokenizer_bos(b));
    assert_int_equal(dan_tokenizer_eos(a), dan_tokenizer_eos(b));
    assert_int_equal(dan_tokenizer_unk(a), dan_tokenizer_unk(b));
    assert_true(dan_tokenizer_hash(a) == dan_tokenizer_hash(b));
}

static void test_save_load(void **state)
{
    (void)state;
    const char *const special[] = {"<|endoftext|>", "<unk>", "<|é|>"};
    struct dan_tok_train_opts plain = {0}, qwen = {.split = "qwen2", .special = special, .n_special = 3},
                              digits = {.split = "gpt2-digits"}, chars = {.special = special, .n_special = 3};
    struct dan_tokenizer *t[5] = {trained(story, strlen(story), 300, &plain), trained(story, strlen(story), 300, &qwen),
                                  trained(story, strlen(story), 300, &digits), of_chars(story, &chars)};
    struct dan_err e = {0};
    char dir[] = "/tmp/danlu-tokenizer-XXXXXX";
    assert_non_null(mkdtemp(dir));
    ok(dan_tokenizer_new_bytes(NULL, &t[4], &e), &e);
    for (int k = 0; k < 5; k++) {
        struct dan_tokenizer *back, *twice;
        ok(dan_tokenizer_save(t[k], dir, &e), &e);
        ok(dan_tokenizer_load(dir, &back, &e), &e);
        same_tokenizer(t[k], back);
        ok(dan_tokenizer_save(back, dir, &e), &e);
        ok(dan_tokenizer_load(dir, &twice, &e), &e);
        same_tokenizer(t[k], twice);
        dan_tokenizer_free(back);
        dan_tokenizer_free(twice);
        dan_tokenizer_free(t[k]);
    }
    ok(dan_remove_tree(dir, &e), &e);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct { const char *json, *says; } bad[] = {
        {"{\"model\": {\"type\": \"Unigram\"}}", "model.vocab is missing"},
        {"{\"model\": {\"type\": \"WordPiece\"}}", "model.vocab is missing"},
        {"{\"model\": {\"type\": \"Quantum\"}}", "model.type 'Quantum'"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {}, \"merges\": []}}", "model.vocab is empty"},
        {"{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\"}}", "model.vocab is missing"},
        {"{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\", \"dropout\": 0.1, \"vocab\": {\"a\": 0}, \"merges\": []}}",
         "model.dropout is 0.1"},
        {"{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": -1}}}", "bad id -1"},
        {"{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 16000000}}}",
         "bad id 16000000"},
        {"{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 0}}}",
         "bad id 0"},
        {"{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}}}",
         "model.merges is missing"},
        {"{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a b\"]}}",
         "merge 0 names 'b'"},
        {"{\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [7]}}",
         "merge 0 is not two tokens"},
        {"{\"normalizer\": {\"type\": \"Lower\"}, \"model\": {\"type\": \"WordLevel\", \"vocab\": {\"a\": 0}, \"unk_token\": \"a\"}}",
         "normalizer.type 'Lower'"},
        {"{\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"Regex\": \"(\"}, \"content\": \"\"}, \"model\": {\"type\": \"WordLevel\", \"vocab\": {\"a\": 0}, \"unk_token\": \"a\"}}",
         "an unfinished group ("},
        {"{\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"?\"}, \"model\": {\"type\": \"WordLevel\", \"vocab\": {\"a\": 0}, \"unk_token\": \"a\"}}",
         "not base64"},
        {"{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(?~a)\"}, \"behavior\": \"Isolated\"}, \"model\": {\"type\": \"WordLevel\", \"vocab\": {\"a\": 0}, \"unk_token\": \"a\"}}",
         "a group of a kind"},
        {"{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"String\": \"a\"}, \"behavior\": \"Eaten\"}, \"model\": {\"type\": \"WordLevel\", \"vocab\": {\"a\": 0}, \"unk_token\": \"a\"}}",
         "behavior 'Eaten'"},
        {"{\"pre_tokenizer\": {\"type\": \"Metaspace\"}, \"model\": {\"type\": \"WordLevel\", \"vocab\": {\"a\": 0}, \"unk_token\": \"a\"}}",
         "pre_tokenizer.replacement"},
        {"{\"decoder\": {\"type\": \"Echo\"}, \"model\": {\"type\": \"WordLevel\", \"vocab\": {\"a\": 0}, \"unk_token\": \"a\"}}",
         "decoder.type 'Echo'"},
        {"{\"post_processor\": {\"type\": \"BertProcessing\", \"sep\": [\"s\", 7], \"cls\": [\"c\", 0]}, \"model\": {\"type\": \"WordLevel\", \"vocab\": {\"a\": 0}, \"unk_token\": \"a\"}}",
         "post_processor adds token 7"},
        {"{\"added_tokens\": [{\"id\": 1, \"content\": \"\"}], \"model\": {\"type\": \"WordLevel\", \"vocab\": {\"a\": 0}, \"unk_token\": \"a\"}}",
         "added token 0 has no content"},
        {"{}", "no 'model'"},
    };
    char path[] = "/tmp/danlu-tokenizer-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct dan_err e = {0};
        struct dan_tokenizer *t = NULL;
        ok(dan_write_file(path, bad[i].json, strlen(bad[i].json), &e), &e);
        assert_true(dan_tokenizer_load(path, &t, &e) < 0);
        assert_null(t);
        if (!strstr(e.msg, bad[i].says)) fail_msg("'%s' instead of '%s'", e.msg, bad[i].says);
    }
    unlink(path);
}

/* --- goldens of Hugging Face tokenizers: tests/golden/make_bpe_golden.py */
static const char *source_dir(void) { return dan_env("DANLU_SRC") ? dan_env("DANLU_SRC") : "."; }
static const char *data_dir(void) { return dan_env("DANLU_DATA") ? dan_env("DANLU_DATA") : "../shared/data"; }

static void check_case(const struct dan_tokenizer *t, const char *text, size_t n, const json_t *want)
{
    struct dan_ids ids = {0};
    struct dan_str back = {0};
    struct dan_err e = {0};
    ok(dan_tokenizer_encode(t, text, n, DAN_ENCODE_SPECIAL, &ids, &e), &e);
    bool same = ids.n == json_array_size(want);
    for (size_t i = 0; i < ids.n && same; i++) same = ids.v[i] == json_integer_value(json_array_get(want, i));
    if (!same) fail_msg("other ids for '%.*s'", (int)n, text);
    dan_tokenizer_decode(t, ids.v, ids.n, &back);
    assert_int_equal(back.n, n);
    if (n) assert_memory_equal(back.p, text, n);
    dan_ids_release(&ids);
    dan_str_release(&back);
}

static void test_golden_encode(void **state)
{
    (void)state;
    struct dan_tokenizer *t;
    struct dan_err e = {0};
    struct dan_str cases = {0};
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/golden/bpe/tokenizer.json", source_dir());
    if (!dan_path_exists(path)) skip();
    ok(dan_tokenizer_load(path, &t, &e), &e);
    read_text(&cases, (const char *[]){source_dir(), "/tests/golden/bpe/", "cases.jsonl"});
    int n = 0;
    for (char *line = cases.p, *end; (end = strchr(line, '\n')) != NULL; line = end + 1, n++) {
        json_t *c = json_loadb(line, (size_t)(end - line), JSON_ALLOW_NUL, NULL);
        assert_non_null(c);
        const json_t *text = json_object_get(c, "text");
        check_case(t, json_string_value(text), json_string_length(text), json_object_get(c, "ids"));
        json_decref(c);
    }
    assert_true(n > 50);
    dan_str_release(&cases);
    dan_tokenizer_free(t);
}

/* The same corpus and size give the same merges: token k of ours is token k + 1 of theirs, whose id 0 is special. */
static void test_golden_train(void **state)
{
    (void)state;
    struct dan_tokenizer *theirs;
    struct dan_err e = {0};
    struct dan_str corpus = {0};
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/golden/bpe/tokenizer.json", source_dir());
    if (!dan_path_exists(path)) skip();
    ok(dan_tokenizer_load(path, &theirs, &e), &e);
    read_text(&corpus, (const char *[]){source_dir(), "/tests/golden/bpe/", "corpus.txt"});
    struct dan_tok_train_opts o = {.min_pair_count = 1};
    struct dan_tokenizer *ours = trained(corpus.p, corpus.n, dan_tokenizer_vocab_size(theirs), &o);
    assert_int_equal(dan_tokenizer_vocab_size(ours), dan_tokenizer_vocab_size(theirs));
    for (int32_t id = 0; id + 1 < dan_tokenizer_vocab_size(ours); id++) {
        size_t n, m;
        const char *p = dan_tokenizer_token(ours, id, &n), *q = dan_tokenizer_token(theirs, id + 1, &m);
        if (n != m || memcmp(p, q, n) != 0) fail_msg("token %d is '%.*s', theirs '%.*s'", id, (int)n, p, (int)m, q);
    }
    dan_str_release(&corpus);
    dan_tokenizer_free(ours);
    dan_tokenizer_free(theirs);
}

/* llama.cpp's vocabulary cases: texts separated by a marker, one line of ids each. */
static void run_vocab_cases(const struct dan_tokenizer *t, const char *name, size_t at_least)
{
    static const char mark[] = "\n__ggml_vocab_test__\n";
    struct dan_str inp = {0}, out = {0};
    read_text(&inp, (const char *[]){data_dir(), "/tokenizer/ggml-vocab/ggml-vocab-", name});
    inp.n = strlen(inp.p);
    char other[64];
    snprintf(other, sizeof other, "%.*s.out", (int)(strlen(name) - 4), name);
    read_text(&out, (const char *[]){data_dir(), "/tokenizer/ggml-vocab/ggml-vocab-", other});
    char *text = inp.p, *line = out.p;
    size_t n = 0;
    for (; line && *line; n++) {
        char *end = strstr(text, mark), *eol = strchr(line, '\n');
        size_t len = end ? (size_t)(end - text) : strlen(text);
        json_t *want = json_array();
        for (char *q = line; q < (eol ? eol : line + strlen(line));) {
            char *stop;
            long id = strtol(q, &stop, 10);
            if (stop == q) break;
            json_array_append_new(want, json_integer(id));
            q = stop;
            while (*q == ' ') q++;
        }
        check_case(t, text, len, want);
        json_decref(want);
        text = end ? end + sizeof mark - 1 : text + len;
        line = eol ? eol + 1 : NULL;
    }
    assert_true(n >= at_least);
    dan_str_release(&inp);
    dan_str_release(&out);
}

static void test_gpt2(void **state)
{
    (void)state;
    struct dan_tokenizer *t;
    struct dan_err e = {0};
    char path[1024];
    snprintf(path, sizeof path, "%s/tokenizer/gpt2/tokenizer.json", data_dir());
    if (!dan_path_exists(path)) skip();
    ok(dan_tokenizer_load(path, &t, &e), &e);
    assert_int_equal(dan_tokenizer_vocab_size(t), 50257);
    assert_int_equal(dan_tokenizer_eos(t), 50256);
    run_vocab_cases(t, "gpt-2.gguf.inp", 46);
    dan_tokenizer_free(t);
}

/* --- training: against the obvious algorithm, bounded memory, runs, special tokens */
struct naive { int32_t sym[4096]; int n; };

static int naive_count(const struct naive *w, int n_words, int32_t a, int32_t b)
{
    int c = 0;
    for (int k = 0; k < n_words; k++)
        for (int i = 0; i + 1 < w[k].n; i++) c += w[k].sym[i] == a && w[k].sym[i + 1] == b;
    return c;
}

static void naive_merge(struct naive *w, int32_t a, int32_t b, int32_t c)
{
    int m = 0;
    for (int i = 0; i < w->n; i++) {
        bool pair = i + 1 < w->n && w->sym[i] == a && w->sym[i + 1] == b;
        w->sym[m++] = pair ? c : w->sym[i];
        i += pair;
    }
    w->n = m;
}

/* Words of letters only; ids in the order of the bytes' names, which is alphabetic for them. */
static void test_train_naive(void **state)
{
    (void)state;
    struct dan_rng r = {.seed = 3};
    for (int round = 0; round < 20; round++) {
        char text[2000];
        static struct naive w[2000];
        int n_words = 0;
        size_t n = 0;
        for (; n < 1500; n_words++) {
            w[n_words].n = 0;
            int len = 1 + (int)dan_rng_below(&r, 12);
            if (n) text[n++] = '\n';
            for (int i = 0; i < len; i++) {
                text[n] = (char)('a' + (int)dan_rng_below(&r, 3));
                w[n_words].sym[w[n_words].n++] = text[n++] - '!';
            }
        }
        struct dan_tokenizer *t = trained(text, n, 256 + 1 + 40, NULL);
        for (int32_t id = 256; id < 296; id++) {
            int best = 0;
            int32_t ba = 0, bb = 0;
            for (int32_t a = 0; a < id; a++)
                for (int32_t b = 0; b < id; b++) {
                    if ((a < 256 && (a < 'a' - '!' || a > 'c' - '!')) || (b < 256 && (b < 'a' - '!' || b > 'c' - '!'))) continue;
                    int c = naive_count(w, n_words, a, b);
                    if (c > best) best = c, ba = a, bb = b;
                }
            for (int k = 0; k < n_words; k++) naive_merge(&w[k], ba, bb, id);
            size_t x, y, z;
            const char *p = dan_tokenizer_token(t, ba, &x), *q = dan_tokenizer_token(t, bb, &y), *c = dan_tokenizer_token(t, id, &z);
            assert_int_equal(x + y, z);
            assert_memory_equal(c, p, x);
            assert_memory_equal(c + x, q, y);
        }
        dan_tokenizer_free(t);
    }
}

static void test_train_bounded(void **state)
{
    (void)state;
    struct dan_str s = {0};
    for (int i = 0; i < 30000; i++) {
        dan_str_puts(&s, " the waiting");
        for (int k = i; k; k /= 26) dan_str_putc(&s, (char)('a' + k % 26));
    }
    const char *text = s.p;
    struct list l = {&text, &s.n, 1, 0};
    struct dan_text_source src = {list_next, &l, 0};
    struct dan_tok_train_opts o = {.vocab_size = 300, .max_bytes = 1 << 20};
    struct dan_tok_train_stats st;
    struct dan_tokenizer *t;
    struct dan_err e = {0};
    ok(dan_tokenizer_train_bpe(&src, &o, &t, &st, &e), &e);
    assert_true(st.pruned_words > 0 && st.pruned_uses >= st.pruned_words);
    assert_int_equal(st.bytes, s.n);
    assert_int_equal(st.words, 60000);
    size_t n;
    bool found = false;
    for (int32_t id = 256; id < dan_tokenizer_vocab_size(t); id++) {
        const char *p = dan_tokenizer_token(t, id, &n);
        found = found || (n == 4 && memcmp(p, " the", 4) == 0);
    }
    assert_true(found);
    dan_str_release(&s);
    dan_tokenizer_free(t);
}

static bool stop_at_once(void *ctx, const char *stage, int64_t done, int64_t total)
{
    (void)ctx, (void)stage, (void)done, (void)total;
    return false;
}

static void test_train_refused(void **state)
{
    (void)state;
    const char *text = "aaa";
    struct list l = {&text, NULL, 1, 0};
    struct dan_text_source src = {list_next, &l, 0};
    struct dan_tokenizer *t = NULL;
    struct dan_err e = {0};
    struct dan_tok_train_opts small = {.vocab_size = 100}, stop = {.vocab_size = 300, .progress = stop_at_once},
                              split = {.vocab_size = 300, .split = "martian"};
    assert_int_equal(dan_tokenizer_train_bpe(&src, &small, &t, NULL, &e), DAN_EINVAL);
    e = (struct dan_err){0};
    assert_int_equal(dan_tokenizer_train_bpe(&src, &stop, &t, NULL, &e), DAN_ECANCELLED);
    e = (struct dan_err){0};
    assert_int_equal(dan_tokenizer_train_bpe(&src, &split, &t, NULL, &e), DAN_EINVAL);
    e = (struct dan_err){0};
    l.at = 1;
    assert_int_equal(dan_tokenizer_train_char(&src, NULL, &t, NULL, &e), DAN_EINVAL);
    assert_null(t);
}

/* Neither training nor encoding may be quadratic in a run without a break. */
static void test_long_runs(void **state)
{
    (void)state;
    static const char *const unit[] = {"a", " ", "炼", "ab", "\xFF", "="};
    struct dan_tokenizer *t = trained(story, strlen(story), 300, NULL);
    struct dan_tok_cache *c;
    struct dan_err e = {0};
    ok(dan_tok_cache_new(t, &c, &e), &e);
    for (size_t k = 0; k < sizeof unit / sizeof unit[0]; k++) {
        struct dan_str s = {0};
        while (s.n < 1 << 20) dan_str_puts(&s, unit[k]);
        double from = dan_now();
        round_trip(t, c, s.p, s.n, 0);
        struct dan_tokenizer *learnt = trained(s.p, s.n, 280, NULL);
        round_trip(learnt, c, "", 0, 0);
        assert_true(dan_now() - from < 30);    /* seconds; quadratic would be hours */
        dan_tokenizer_free(learnt);
        dan_str_release(&s);
    }
    dan_tok_cache_free(c);
    dan_tokenizer_free(t);
}

/* What a special token says is never part of a word. */
static void test_specials_never_learnt(void **state)
{
    (void)state;
    const char *text = "<|endoftext|>ab<|endoftext|>ab<|endoftext|>ab";
    struct dan_tokenizer *t = trained(text, strlen(text), 300, NULL);
    size_t n;
    assert_int_equal(dan_tokenizer_vocab_size(t), 258);            /* 256 bytes, "ab", the special token */
    assert_memory_equal(dan_tokenizer_token(t, 256, &n), "ab", 2);
    dan_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_bytes), cmocka_unit_test(test_char),
        cmocka_unit_test(test_special_is_opt_in), cmocka_unit_test(test_detok), cmocka_unit_test(test_save_load),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_golden_encode), cmocka_unit_test(test_golden_train),
        cmocka_unit_test(test_gpt2), cmocka_unit_test(test_train_naive), cmocka_unit_test(test_train_bounded),
        cmocka_unit_test(test_train_refused), cmocka_unit_test(test_long_runs), cmocka_unit_test(test_specials_never_learnt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
