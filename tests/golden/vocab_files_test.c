/* Vocabulary files that people have, in the formats that they have: with DANLU_DATA the GGUF vocabularies and golden ids of llama.cpp
 * (46 texts each); always: our own rank files against tiktoken's ids (make_tiktoken_golden.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"
#include "text/tokenizer.h"

static void ok(int r, const struct dan_err *e)
{
    if (r) fail_msg("%d: %s", r, e->msg);
}

static struct dan_tokenizer *load(const char *path)
{
    struct dan_tokenizer *t = NULL;
    struct dan_err e = {0};
    ok(dan_tokenizer_load(path, &t, &e), &e);
    return t;
}

static const char *in(char path[700], const char *name)
{
    const char *data = dan_env("DANLU_DATA");
    snprintf(path, 700, "%s/tokenizer/%s", data ? data : "../shared/data", name);
    return path;
}

static bool absent(const char *path)
{
    if (dan_path_exists(path)) return false;
    print_message("skipped: no '%s' (set DANLU_DATA)\n", path);
    return true;
}

static void check(const char *where, size_t k, const struct dan_tokenizer *t, const char *p, size_t n, const int32_t *want, size_t m)
{
    struct dan_ids ids = {0};
    struct dan_err e = {0};
    ok(dan_tokenizer_encode(t, p, n, 0, &ids, &e), &e);
    if (ids.n != m || (m && memcmp(ids.v, want, m * sizeof *want) != 0)) {
        for (size_t i = 0; i < ids.n || i < m; i++) print_message("%d %d\n", i < ids.n ? ids.v[i] : -1, i < m ? want[i] : -1);
        fail_msg("%s: text %zu '%.*s': %zu ids, expected %zu (danlu's and expected above)", where, k, (int)n, p, ids.n, m);
    }
    dan_ids_release(&ids);
}

/* --- llama.cpp's: texts separated by a line of their own, ids a line for each */

#define SEPARATOR "\n__ggml_vocab_test__\n"

static size_t numbers(char **at, int32_t *id)
{
    size_t n = 0;
    for (char *end = strchr(*at, '\n'); *at < end; n++) id[n] = (int32_t)strtol(*at, at, 10);
    ++*at;
    return n;
}

static size_t all_texts(const char *name, const struct dan_tokenizer *t)
{
    char path[700], file[100], *inp, *out;
    struct dan_err e = {0};
    size_t n, k = 0;
    snprintf(file, sizeof file, "ggml-vocab/ggml-vocab-%s.gguf.inp", name);
    ok(dan_read_file(in(path, file), &inp, &n, &e), &e);
    snprintf(file, sizeof file, "ggml-vocab/ggml-vocab-%s.gguf.out", name);
    ok(dan_read_file(in(path, file), &out, &n, &e), &e);
    char *at = inp, *line = out;
    for (char *end; *line && (end = strstr(at, SEPARATOR)) != NULL; k++, at = end + strlen(SEPARATOR)) {
        int32_t id[4096];
        size_t m = numbers(&line, id);
        check(name, k, t, at, (size_t)(end - at), id, m);
    }
    dan_free(inp);
    dan_free(out);
    return k;
}

static void check_file(const char *file, const char *name)
{
    char path[700];
    if (absent(in(path, file))) return;
    struct dan_tokenizer *t = load(path);
    assert_int_equal(all_texts(name, t), 46);
    dan_tokenizer_free(t);
}

static void test_gguf(void **state)
{
    (void)state;
    check_file("ggml-vocab/ggml-vocab-gpt-2.gguf", "gpt-2");
    check_file("ggml-vocab/ggml-vocab-bert-bge.gguf", "bert-bge");
    check_file("ggml-vocab/ggml-vocab-llama-spm.gguf", "llama-spm");
}

/* The same vocabularies in other formats have the same ids. */
static void test_same_vocabulary(void **state)
{
    (void)state;
    check_file("gpt2/tokenizer.json", "gpt-2");
    check_file("gpt2/encoder.json", "gpt-2");
    check_file("qwen/qwen.tiktoken", "qwen2");
    check_file("llama2/tokenizer.model", "llama-spm");
    check_file("bert/bert-base-uncased.vocab.txt", "bert-bge");
}

/* --- our own rank files */

static void golden(char path[700], const char *name)
{
    snprintf(path, 700, "%.*s/tiktoken/%s", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__, name);
}

static size_t ids_of(const json_t *list, int32_t *id)
{
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v) id[i] = (int32_t)json_integer_value(v);
    return json_array_size(list);
}

/* Lines of NAME.jsonl with this pattern (NULL: all); returns how many.  key: of the ids. */
static size_t check_lines(const char *name, const char *pattern, const char *key, const struct dan_tokenizer *t, size_t *same)
{
    char path[700], line[8192];
    size_t n = 0;
    golden(path, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    for (; fgets(line, sizeof line, f); n++) {
        json_t *j = json_loads(line, JSON_ALLOW_NUL, NULL), *text = json_object_get(j, "text");
        const char *of = json_string_value(json_object_get(j, "pattern"));
        int32_t id[2048];
        size_t m = ids_of(json_object_get(j, key), id);
        if (same) *same += json_equal(json_object_get(j, "ids"), json_object_get(j, "listed"));
        if (pattern && strcmp(of, pattern) != 0) n--;
        else check(name, n, t, json_string_value(text), json_string_length(text), id, m);
        json_decref(j);
    }
    fclose(f);
    return n;
}

/* The pattern comes with the name of the file: the same ranks under two names. */
static struct dan_tokenizer *load_as(const char *dir, const char *file, const char *name)
{
    char path[700], *bytes;
    struct dan_err e = {0};
    size_t n;
    golden(path, file);
    ok(dan_read_file(path, &bytes, &n, &e), &e);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    ok(dan_write_file(path, bytes, n, &e), &e);
    dan_free(bytes);
    return load(path);
}

static void test_ranks(void **state)
{
    (void)state;
    char dir[] = "/tmp/danlu_ranks_XXXXXX";
    struct dan_err e = {0};
    assert_non_null(mkdtemp(dir));
    struct dan_tokenizer *t = load_as(dir, "small.tiktoken", "unknown.tiktoken");
    assert_int_equal(check_lines("small.jsonl", "cl100k_base", "ids", t, NULL), 87);
    dan_tokenizer_free(t);
    t = load_as(dir, "small.tiktoken", "r50k_base.tiktoken");
    assert_int_equal(check_lines("small.jsonl", "r50k_base", "ids", t, NULL), 87);
    assert_int_equal(dan_tokenizer_find_special(t, "<|endoftext|>"), 50256);
    dan_tokenizer_free(t);
    ok(dan_remove_tree(dir, &e), &e);
}

/* Rank BPE and BPE by the list of merges that can be recovered are two algorithms. */
static void test_ranks_are_not_a_list(void **state)
{
    (void)state;
    char path[700];
    size_t same = 0;
    golden(path, "differ.tiktoken");
    struct dan_tokenizer *t = load(path);
    assert_int_equal(check_lines("differ.jsonl", NULL, "ids", t, &same), 7);
    assert_int_equal(same, 3);
    dan_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gguf), cmocka_unit_test(test_same_vocabulary), cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_ranks_are_not_a_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
