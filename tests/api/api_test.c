/* The public API as a C program would use it: nothing but danlu.h. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <danlu.h>

static char dir[] = "/tmp/danlu-api-XXXXXX";
static char model[64];

/* A model made by the program itself. */
static int make_model(void **state)
{
    char cmd[600];
    const char *bin = getenv("DANLU_BIN") ? getenv("DANLU_BIN") : "build/danlu";
    (void)state;
    if (!mkdtemp(dir)) return -1;
    snprintf(model, sizeof model, "%s/m", dir);
    snprintf(cmd, sizeof cmd,
             "for i in $(seq 200); do echo the old furnace is red and the monk waits; done > %s/t.txt && DANLU_HOME=%s '%s' train --quiet --data %s/t.txt "
             "--tokenizer bytes --layers 1 --hidden 32 --heads 2 --context 32 --batch 4 --steps 60 --warmup 5 --lr 1e-2 --out %s", dir, dir, bin, dir, model);
    return system(cmd);
}

static int drop(void **state)
{
    char cmd[100];
    (void)state;
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    return system(cmd);
}

struct text { char p[4096]; size_t n, stop_at; };

static int add(void *ctx, const char *bytes, size_t n)
{
    struct text *t = ctx;
    assert_true(t->n + n < sizeof t->p);
    memcpy(t->p + t->n, bytes, n);
    t->n += n;
    return t->stop_at && t->n >= t->stop_at;
}

static void use(void **state)
{
    danlu_model *m = NULL;
    char err[300] = "", back[64];
    int32_t ids[64];
    float logits[300];
    struct text a = {0}, b = {0}, c = {.stop_at = 3};
    danlu_sampling s = danlu_sampling_default();
    (void)state;
    s.max_tokens = 20;
    if (danlu_open(model, 2, &m, err, sizeof err)) fail_msg("%s", err);
    assert_true(danlu_vocab_size(m) == 257 && danlu_context(m) == 32 && danlu_n_params(m) > 1000);
    assert_int_equal(danlu_encode(m, "the old", 7, ids, 64, err, sizeof err), 7);
    assert_int_equal(danlu_decode(m, ids, 7, back, sizeof back), 7);
    assert_string_equal(back, "the old");
    assert_int_equal(danlu_logits(m, ids, 7, logits, err, sizeof err), 0);
    assert_true(danlu_generate(m, "the old", &s, add, &a, err, sizeof err) > 0);
    assert_true(danlu_generate(m, "the old", &s, add, &b, err, sizeof err) > 0);
    assert_true(a.n == b.n && memcmp(a.p, b.p, a.n) == 0);
    assert_true(danlu_generate(m, "the old", &s, add, &c, err, sizeof err) > 0);
    assert_true(c.n >= 3 && c.n < 12);
    ids[0] = 999;
    assert_true(danlu_logits(m, ids, 7, logits, err, sizeof err) < 0 && strstr(err, "999"));
    danlu_close(m);
}

static void refuse(void **state)
{
    danlu_model *m = NULL;
    char err[16];
    (void)state;
    assert_true(danlu_open("/nonexistent", 1, &m, err, sizeof err) < 0);
    assert_true(strlen(err) == sizeof err - 1);                 /* cut, but terminated */
    assert_true(danlu_open("/nonexistent", 1, &m, NULL, 0) < 0);
    assert_null(m);
    danlu_close(NULL);
    assert_true(strlen(danlu_version()) >= 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(use), cmocka_unit_test(refuse)};
    return cmocka_run_group_tests(tests, make_model, drop);
}
