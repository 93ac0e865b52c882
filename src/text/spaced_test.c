/* Word by word against step by step: small random vocabularies under every kind of normaliser and pre-tokenizer that spaced_rules.c
 * knows, and some that it must refuse; SentencePiece models against their own way with offsets, which does not cut. */
#include "text/spaced.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/rng.h"
#include "text/pipeline.h"
#include "text/sp_model.h"
#include "text/spec.h"

#define M "\xe2\x96\x81"
#define ESCAPE STRING(" ", M)
#define LLAMA SEQ(PREPEND "," ESCAPE)
#define REGEX(regex, by) "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"" regex "\"},\"content\":\"" by "\"}"
#define META(scheme, split) "{\"type\":\"Metaspace\",\"replacement\":\"" M "\",\"prepend_scheme\":\"" scheme "\",\"split\":" split "}"
#define SEQ(steps) "{\"type\":\"Sequence\",\"normalizers\":[" steps "]}"
#define STRING(what, by) "{\"type\":\"Replace\",\"pattern\":{\"String\":\"" what "\"},\"content\":\"" by "\"}"
#define STRIP(left, right) "{\"type\":\"Strip\",\"strip_left\":" left ",\"strip_right\":" right "}"
#define PREPEND "{\"type\":\"Prepend\",\"prepend\":\"" M "\"}"
#define TYPE(name) "{\"type\":\"" name "\"}"
#define NFKC_SQUEEZED TYPE("NFKC") "," REGEX(" {2,}", " ")
#define IDLE "{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":\"MergedWithPrevious\",\"invert\":false}"
#define WORDS "{\"type\":\"Sequence\",\"pretokenizers\":[" TYPE("WhitespaceSplit") "," META("always", "true") "]}"

static const struct { const char *name, *normalizer, *pre_tokenizer; bool bpe, unigram, ignore; } rows[] = {
    {"llama 2", LLAMA, "null", true, true, false},
    {"llama 2, whole pieces first", LLAMA, "null", false, true, true},
    {"escape only", ESCAPE, "null", true, true, false},
    {"escape and an idle split", ESCAPE, IDLE, true, true, false},
    {"metaspace first", "null", META("first", "false"), true, true, false},
    {"metaspace always", "null", META("always", "false"), true, true, false},
    {"metaspace never", "null", META("never", "false"), true, true, false},
    {"metaspace, split", "null", META("first", "true"), true, true, true},
    {"squeezed", SEQ(NFKC_SQUEEZED), META("always", "true"), true, true, true},
    {"squeezed, trimmed", SEQ(NFKC_SQUEEZED "," STRIP("true", "true")), META("first", "true"), true, true, false},
    {"right trimmed", SEQ(TYPE("Nmt") "," STRIP("false", "true") "," REGEX(" {2,}", M)), META("always", "true"), true, true, false},
    {"words", TYPE("NFD"), WORDS, true, true, false},
    {"lower case", SEQ(STRING("ab", " c") "," TYPE("NFKD") "," TYPE("StripAccents") "," TYPE("Lowercase")), META("always", "true"), true, true, false},
    {"composed, then taken away", SEQ(TYPE("NFC") "," STRING("\xC3\xA9", "")), META("always", "true"), true, true, false},
    {"composed, then a space", SEQ(TYPE("NFKC") "," STRING("\xC3\xA9", " ") "," STRIP("true", "true")), META("always", "true"), true, true, false},
    {"characters taken away, no split", SEQ(TYPE("Nmt")), META("always", "false"), true, true, false},
    {"sentencepiece", SEQ(REGEX("\\\\A +| +\\\\z", "") "," REGEX(" {2,}", " ") "," ESCAPE "," REGEX("\\\\A" M, M M)), META("always", "false"), true, true, false},
    {"our own", SEQ(REGEX("\\\\A +", "") "," REGEX(" {2,}", " ") "," ESCAPE "," REGEX(M "+\\\\z", "") "," PREPEND), "null", true, true, false},
    {"no: trimmed, nothing put in front", SEQ(STRIP("true", "false") "," ESCAPE), "null", false, false, false},
    {"no: two in front", SEQ(PREPEND "," PREPEND "," ESCAPE), "null", false, false, false},
    {"no: spaces come back", SEQ(ESCAPE "," STRING("b", " ")), "null", false, false, false},
    {"no: across a space", SEQ(STRING("a b", "c") "," ESCAPE), "null", false, false, false},
    {"no: spaces stay", "null", "null", false, false, false},
    {"no: another pattern", SEQ(REGEX("a.", "c") "," ESCAPE), "null", false, false, false},
};
enum { N_ROWS = sizeof rows / sizeof *rows, N_CHARS = 13 };

static void ok(int r, const struct dan_err *e)
{
    if (r) fail_msg("%d: %s", r, e->msg);
}

/* --- vocabularies: characters, then random pairs; U+2581 only at the beginning, or, crossing, anywhere */
struct vocab { char text[100][40]; int pair[100][2], n; };

static void make_vocab(struct vocab *v, struct dan_rng *r, bool crossing)
{
    static const char *const chars[N_CHARS] = {M, "a", "b", "c", "d", "A", "B", ".", ",", "'", "\xC3\xA9", "\xE4\xB8\xAD", "1"};
    v->n = 0;
    for (; v->n < N_CHARS; v->n++) snprintf(v->text[v->n], sizeof v->text[0], "%s", chars[v->n]);
    for (int tries = 0; tries < 400 && v->n < 90; tries++) {
        int a = (int)dan_rng_below(r, (uint32_t)v->n), b = (int)dan_rng_below(r, (uint32_t)v->n), k = 0;
        char to[sizeof v->text[0]] = "";
        bool spaced = strstr(v->text[b], M) && strcmp(v->text[a], M) != 0;
        if ((spaced && !crossing) || strlen(v->text[a]) + strlen(v->text[b]) > 20) continue;
        memcpy(to, v->text[a], strlen(v->text[a]));
        memcpy(to + strlen(to), v->text[b], strlen(v->text[b]));
        while (k < v->n && strcmp(v->text[k], to) != 0) k++;
        if (k < v->n) continue;
        memcpy(v->text[v->n], to, sizeof to);
        v->pair[v->n][0] = a, v->pair[v->n++][1] = b;
    }
}

static void put_json(struct dan_str *s, const struct vocab *v, int row, bool unigram, struct dan_rng *r)
{
    const char *comma = "";
    dan_str_printf(s, "{\"normalizer\":%s,\"pre_tokenizer\":%s,\"model\":{\"type\":\"%s\",%s\"vocab\":", rows[row].normalizer, rows[row].pre_tokenizer,
                   unigram ? "Unigram" : "BPE", unigram ? "\"unk_id\":0," : "\"unk_token\":\"<unk>\",\"fuse_unk\":true,");
    dan_str_puts(s, unigram ? "[[\"<unk>\",0]" : "{\"<unk>\":0");
    for (int i = 0; i < v->n; i++) {
        int score = (int)dan_rng_below(r, 40);
        if (unigram) dan_str_printf(s, ",[\"%s\",%g]", v->text[i], i < N_CHARS ? -12 - 0.1 * score : -2 - 0.25 * score);
        else dan_str_printf(s, ",\"%s\":%d", v->text[i], i + 1);
    }
    dan_str_puts(s, unigram ? "]" : "},\"merges\":[");
    for (int i = N_CHARS; i < v->n && !unigram; i++, comma = ",")
        dan_str_printf(s, "%s[\"%s\",\"%s\"]", comma, v->text[v->pair[i][0]], v->text[v->pair[i][1]]);
    dan_str_printf(s, "%s%s},\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true}]}", unigram ? "" : "]",
                   rows[row].ignore ? ",\"ignore_merges\":true" : "");
}

static struct dan_tokenizer *make(int row, bool unigram, bool crossing, struct dan_rng *r)
{
    struct vocab v;
    struct dan_str s = {0};
    struct dan_tok_spec spec;
    struct dan_tokenizer *t;
    struct dan_err e = {0};
    make_vocab(&v, r, crossing);
    put_json(&s, &v, row, unigram, r);
    dan_tok_spec_init(&spec, DAN_SPEC_BPE, "test");
    ok(dan_spec_of_json_text(dan_str_c(&s), s.n, &spec, &e), &e);
    ok(dan_tok_build(&spec, &t, &e), &e);
    dan_tok_spec_release(&spec);
    dan_str_release(&s);
    return t;
}

/* --- texts */
static size_t random_text(struct dan_rng *r, char *out, size_t most)
{
    static const char *const parts[] = {" ", " ", " ", " ", " ", "  ", "\n", "\t", M, "a", "b", "c", "d", "ab", "abc", "cab", "dad", "bad", "A", "aB",
                                        ".", ",", "'", "1",
                                        "\xC3\xA9", "e\xCC\x81", "\xCC\x81", "\xE4\xB8\xAD", "\xE3\x80\x80", "\xEF\xBC\xA1", "z", "\xFF", "\xE4\xB8", "\xF0\x01",
                                        "abcdabcdabcdabcdabcd", "<unk>"};
    size_t n = 0;
    for (int k = (int)dan_rng_below(r, 30); k > 0 && n + 32 < most; k--) {
        const char *part = parts[dan_rng_below(r, dan_rng_below(r, 3) ? 24 : sizeof parts / sizeof *parts)];
        memcpy(out + n, part, strlen(part));
        n += strlen(part);
    }
    return n;
}

static void same(const char *how, const char *name, const struct dan_ids *a, const struct dan_ids *b, const char *p, size_t n)
{
    if (a->n != b->n || (a->n && memcmp(a->v, b->v, a->n * sizeof *a->v) != 0))
        fail_msg("%s, %s: %zu and %zu ids of '%.*s'", name, how, a->n, b->n, (int)n, p);
}

/* Without a cache, with one that fills, and in the way that knows offsets. */
static void check(const struct dan_tokenizer *t, const char *name, struct dan_tok_cache *cache, const char *p, size_t n)
{
    struct dan_ids fast = {0}, cached = {0}, slow = {0};
    struct dan_spans span = {0};
    struct dan_err e = {0};
    ok(dan_tokenizer_encode(t, p, n, 0, &fast, &e), &e);
    ok(dan_tok_cache_encode(cache, p, n, 0, &cached, &e), &e);
    ok(dan_tokenizer_encode_marked(t, p, NULL, n, 0, &slow, &span, &e), &e);
    same("without a cache", name, &fast, &slow, p, n);
    same("with a cache", name, &cached, &slow, p, n);
    dan_ids_release(&fast);
    dan_ids_release(&cached);
    dan_ids_release(&slow);
    dan_spans_release(&span);
}

static void texts(const struct dan_tokenizer *t, const char *name, struct dan_rng *r, int times)
{
    char text[700];
    struct dan_tok_cache *cache;
    struct dan_err e = {0};
    ok(dan_tok_cache_new(t, &cache, &e), &e);
    for (int i = 0; i < times; i++) check(t, name, cache, text, random_text(r, text, sizeof text));
    dan_tok_cache_free(cache);
}

static void test_rows(void **state)
{
    (void)state;
    for (int row = 0; row < N_ROWS; row++)
        for (int k = 0; k < 4; k++) {
            struct dan_rng r = {.seed = (uint64_t)(100 * row + k)};
            bool unigram = k & 1, crossing = k & 2;
            struct dan_tokenizer *t = make(row, unigram, crossing, &r);
            if (!crossing && dan_pipeline_by_words(t->pipe) != (unigram ? rows[row].unigram : rows[row].bpe))
                fail_msg("'%s' is %staken word by word", rows[row].name, dan_pipeline_by_words(t->pipe) ? "" : "not ");
            texts(t, rows[row].name, &r, 250);
            dan_tokenizer_free(t);
        }
}

/* The bound on what a normaliser may make holds for the text, not for each part of it. */
static void test_growth(void **state)
{
    (void)state;
    struct dan_str s = {0};
    struct dan_tok_spec spec;
    struct dan_tokenizer *t;
    struct dan_ids out = {0};
    struct dan_err e = {0};
    dan_str_puts(&s, "{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"\\u0001\"},\"content\":\"");
    for (int i = 0; i < 500000; i++) dan_str_putc(&s, 'b');
    dan_str_puts(&s, "\"},\"pre_tokenizer\":" META("always", "true") ",\"model\":{\"type\":\"BPE\",\"unk_token\":\"a\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[]},"
                 "\"added_tokens\":[]}");
    dan_tok_spec_init(&spec, DAN_SPEC_BPE, "test");
    ok(dan_spec_of_json_text(dan_str_c(&s), s.n, &spec, &e), &e);
    ok(dan_tok_build(&spec, &t, &e), &e);
    assert_true(dan_pipeline_by_words(t->pipe));
    ok(dan_tokenizer_encode(t, "a a\x01" "b a\x01" "b", 9, 0, &out, &e), &e);
    assert_int_equal(dan_tokenizer_encode(t, "a a\x01" "b a\x01" "b a\x01" "b", 13, 0, &out, &e), DAN_EINVAL);
    dan_tok_spec_release(&spec);
    dan_tokenizer_free(t);
    dan_ids_release(&out);
    dan_str_release(&s);
}

static void test_sentencepiece(void **state)
{
    (void)state;
    static const char *const names[] = {"bpe", "bpe_bytes", "bpe_unused", "bpe_user", "char", "unigram", "unigram_suffix", "unigram_unused",
                                        "unigram_user", "word"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[600];
        struct dan_tokenizer *t;
        struct dan_err e = {0};
        struct dan_rng r = {.seed = i};
        snprintf(path, sizeof path, "%.*s/../../tests/golden/sentencepiece/%s.model", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__,
                 names[i]);
        ok(dan_tokenizer_load(path, &t, &e), &e);
        texts(t, names[i], &r, 1000);
        dan_tokenizer_free(t);
    }
}

/* So long that SentencePiece counts its scores anew, several times, on the way. */
static void test_long(void **state)
{
    (void)state;
    struct dan_rng r = {.seed = 5};
    struct dan_str s = {0};
    char path[600], text[700];
    struct dan_tokenizer *t;
    struct dan_tok_cache *cache;
    struct dan_err e = {0};
    snprintf(path, sizeof path, "%.*s/../../tests/golden/sentencepiece/unigram.model", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
    ok(dan_tokenizer_load(path, &t, &e), &e);
    ok(dan_tok_cache_new(t, &cache, &e), &e);
    while (s.n < 300000) {
        dan_str_append(&s, text, random_text(&r, text, sizeof text));
        dan_str_puts(&s, " the furnace and the waiting stood in the yard,");
    }
    check(t, "unigram, long", cache, s.p, s.n);
    check(t, "unigram, long again", cache, s.p, s.n);
    dan_str_release(&s);
    dan_tok_cache_free(cache);
    dan_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_growth), cmocka_unit_test(test_sentencepiece), cmocka_unit_test(test_long)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
