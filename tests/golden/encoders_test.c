/* encoders/: `danlu fill` and `danlu classify` on tiny encoders with heads, against transformers: single texts and pairs, one
 * and many labels, numbers, labels of tokens, masks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"

static const double TOLERANCE = 1e-5;
static const struct { const char *name, *tokenizer, *command; } cases[] = {
    {"distilbert_classes", "bert/vocab.txt", "classify --top 0"},     {"distilbert_words", "bert/vocab.txt", "fill --top 3"},
    {"bert_pair", "bert/vocab.txt", "classify --top 0 --pair"},       {"bert_many", "bert/vocab.txt", "classify --top 0"},
    {"bert_number", "bert/vocab.txt", "classify --top 0"},            {"bert_tokens", "bert/vocab.txt", "classify --top 0"},
    {"roberta_pair", "roberta/tokenizer.json", "classify --top 0 --pair"},
    {"roberta_tokens", "roberta/tokenizer.json", "classify --top 0"}, {"roberta_words", "roberta/tokenizer.json", "fill --top 3"},
    {"xlm_roberta_words", "roberta/tokenizer.json", "fill --top 3"},
};

/* What is in `want` is in `got`: numbers nearly, the rest exactly; spaces around tokens are the decoder's business. */
static bool same(const json_t *want, const json_t *got)
{
    const char *key;
    json_t *v;
    size_t i;
    if (json_is_number(want)) return json_is_number(got) && fabs(json_number_value(want) - json_number_value(got)) < TOLERANCE * fmax(1, fabs(json_number_value(want)));
    if (json_is_string(want)) {
        const char *a = json_string_value(want), *b = json_string_value(got);
        if (!b) return false;
        a += strspn(a, " ");
        b += strspn(b, " ");
        return strcmp(a, b) == 0;
    }
    if (json_is_array(want)) {
        if (json_array_size(want) != json_array_size(got)) return false;
        json_array_foreach((json_t *)want, i, v) if (!same(v, json_array_get(got, i))) return false;
        return true;
    }
    json_object_foreach((json_t *)want, key, v) if (!same(v, json_object_get(got, key))) return false;
    return json_is_object(got);
}

static void link_in(const char *dir, const char *root, const char *file)
{
    char from[600], to[600];
    snprintf(from, sizeof from, "%s/%s", root, file);
    snprintf(to, sizeof to, "%s/%s", dir, strrchr(file, '/') + 1);
    char *whole = realpath(from, NULL);
    assert_non_null(whole);
    if (symlink(whole, to)) fail_msg("cannot link %s", from);
    free(whole);
}

static void check_case(const char *danlu, const char *root, const char *name, const char *tokenizer, const char *command)
{
    char dir[] = "/tmp/danlu-encoders-XXXXXX", file[300], line[2000], path[600], want[1 << 14], got[1 << 14];
    static const char *const parts[] = {"config.json", "model.safetensors"};
    assert_non_null(mkdtemp(dir));
    for (int i = 0; i < 2; i++) {
        snprintf(file, sizeof file, "encoders/%s/%s", name, parts[i]);
        link_in(dir, root, file);
    }
    link_in(dir, root, tokenizer);
    snprintf(line, sizeof line, "%s %.*s %s%s --json --quiet --data %s/encoders/%s/texts.txt", danlu, (int)strcspn(command, " "), command, dir,
             command + strcspn(command, " "), root, name);
    snprintf(path, sizeof path, "%s/encoders/%s/expected.jsonl", root, name);
    FILE *expected = fopen(path, "r"), *out = popen(line, "r");
    assert_true(expected && out);
    while (fgets(want, sizeof want, expected)) {
        if (!fgets(got, sizeof got, out)) fail_msg("%s: the output ends early: %s", name, line);
        json_t *a = json_loads(want, 0, NULL), *b = json_loads(got, 0, NULL);
        if (!a || !b || !same(a, b)) fail_msg("%s: expected %sgot %s", name, want, got);
        json_decref(a);
        json_decref(b);
    }
    assert_null(fgets(got, sizeof got, out));
    assert_int_equal(pclose(out), 0);
    fclose(expected);
    dan_remove_tree(dir, NULL);
}

static void test_commands(void **state)
{
    (void)state;
    const char *danlu = getenv("DANLU_BIN");
    char root[400];
    if (!danlu) skip();
    snprintf(root, sizeof root, "%.*s", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_case(danlu, root, cases[i].name, cases[i].tokenizer, cases[i].command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_commands)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
