/* trl/: losses and gradient norms, step by step, of TRL's trainers on the model of llama/ and the adapter of lora/: the same data in the same order,
 * the same learning rates. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "align/kto.h"
#include "align/pairs.h"
#include "align/sft.h"
#include "align/sft_data_impl.h"
#include "align/shuffle.h"
#include "base/mem.h"
#include "io/json.h"
#include "model/lora_files.h"

enum { STEPS = 10, BATCH = 4, MOST = STEPS * BATCH, ROWS = 192, SEED = 5 };

static json_t *golden;

static int setup(void **state)
{
    struct dan_err e = {0};
    (void)state;
    return dan_json_read("tests/golden/trl/golden.json", &golden, &e) ? -1 : 0;
}

static int teardown(void **state)
{
    (void)state;
    json_decref(golden);
    return 0;
}

static void ok(int rc, const struct dan_err *e)
{
    if (rc) fail_msg("%s", e->msg);
}

/* Prompt and answer with eos behind it, of which the answer and eos are learnt. */
static struct dan_sft_row row_of(const json_t *row, const char *answer)
{
    const json_t *part[] = {json_object_get(row, "prompt"), json_object_get(row, answer)};
    struct dan_sft_row out = {.file = "golden.json"};
    struct dan_err e = {0};
    int32_t ids[32];
    char learn[32];
    size_t n = 0;
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < json_array_size(part[k]); i++, n++) {
            ids[n] = (int32_t)json_integer_value(json_array_get(part[k], i));
            learn[n] = (char)k;
        }
    ids[n] = (int32_t)json_integer_value(json_object_get(golden, "eos"));
    learn[n++] = 1;
    ok(dan_sft_row_take(&out, ids, learn, n, &e), &e);
    return out;
}

/* Row i of TRL's order stands where stream `which` of our shuffle finds it at i; `each` rows belong together. */
static void lay_out(const json_t *rows, const char *const *answer, int each, uint64_t which, struct dan_sft_data *out)
{
    int64_t order[MOST], epoch = -1;
    struct dan_sft_row row[2 * MOST] = {0};
    struct dan_err e = {0};
    for (int i = 0; i < MOST; i++) {
        int64_t at = dan_shuffled(order, MOST, &epoch, SEED, which, i);
        for (int k = 0; k < each; k++) row[each * at + k] = row_of(json_array_get(rows, (size_t)i), answer[k]);
    }
    *out = (struct dan_sft_data){0};
    for (int i = 0; i < each * MOST; i++) ok(dan_sft_data_add(out, &row[i], &e), &e);
}

struct bench { struct dan_lm lm; struct dan_tuner *tuner; const json_t *run; int steps; double worst, worst_norm; };

static double at(const json_t *run, const char *list, int i) { return json_number_value(json_array_get(json_object_get(run, list), (size_t)i)); }

static void start(struct bench *b, const json_t *run)
{
    struct dan_err e = {0};
    *b = (struct bench){.run = run};
    ok(dan_lm_load(&b->lm, "tests/golden/llama", true, &e), &e);
    if (json_is_true(json_object_get(run, "adapter"))) {
        ok(dan_lora_load(&b->lm, "tests/golden/lora", "default", &e), &e);
        b->lm.adapter[0].trained = true;
    }
    struct dan_tuner_opts o = {.max_rows = ROWS, .optim = dan_optim_find("adamw"), .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1, .clip = 1};
    ok(dan_tuner_new(&b->lm, &o, NULL, &b->tuner, &e), &e);
}

static void check(struct bench *b, double loss, double norm)
{
    const char *name = json_string_value(json_object_get(b->run, "name"));
    double want = at(b->run, "losses", b->steps), want_norm = at(b->run, "grad_norms", b->steps);
    if (!(fabs(loss - want) <= 1e-5 * fmax(1, fabs(want)))) fail_msg("%s, step %d: loss %.8f, TRL has %.8f", name, b->steps + 1, loss, want);
    if (!(fabs(norm - want_norm) <= 1e-5 * want_norm)) fail_msg("%s, step %d: gradient norm %.7f, TRL has %.7f", name, b->steps + 1, norm, want_norm);
    b->worst = fmax(b->worst, fabs(loss - want));
    b->worst_norm = fmax(b->worst_norm, fabs(norm / want_norm - 1));
    b->steps++;
}

static void finish(struct bench *b)
{
    assert_int_equal(b->steps, STEPS);
    print_message("%s: largest difference of a loss %.1e, of a norm %.1e of it\n", json_string_value(json_object_get(b->run, "name")), b->worst, b->worst_norm);
    dan_tuner_free(b->tuner);
    dan_lm_release(&b->lm);
}

static void run_sft(const json_t *run)
{
    struct bench b;
    struct dan_sft s;
    struct dan_sft_stats st;
    struct dan_sft_data data;
    struct dan_err e = {0};
    start(&b, run);
    lay_out(json_object_get(golden, "rows"), (const char *[]){"chosen"}, 1, 0, &data);
    ok(dan_sft_init(&s, b.tuner, &data, NULL, 0, BATCH, ROWS, SEED, &e), &e);
    for (int i = 0; i < STEPS; i++) {
        ok(dan_sft_step(&s, at(run, "lr", i), &st, &e), &e);
        check(&b, st.loss, st.grad_norm);
    }
    dan_sft_release(&s);
    dan_sft_data_release(&data);
    finish(&b);
}

static double option(const json_t *run, const char *name) { return json_number_value(json_object_get(json_object_get(run, "options"), name)); }

/* TRL's names of losses. */
static const struct dan_pref_loss *loss_of(const json_t *run)
{
    const char *name = json_string_value(json_object_get(run, "loss"));
    return dan_pref_find(!strcmp(name, "ipo") ? "ipo_mean" : name);
}

static void check_logps(const json_t *run, const struct dan_pref_stats *st)
{
    static const char *const name[] = {"logps/chosen", "logps/rejected"};
    for (int k = 0; k < 2; k++) {
        double want = json_number_value(json_object_get(json_object_get(run, "first"), name[k]));
        if (!(fabs(st->logp[k] - want) <= 1e-5 * fabs(want))) fail_msg("%s: %.6f, TRL has %.6f", name[k], st->logp[k], want);
    }
}

static void run_pairs(const json_t *run)
{
    struct bench b;
    struct dan_prefs p;
    struct dan_pref_stats st;
    struct dan_sft_data data;
    struct dan_err e = {0};
    double norm, beta = option(run, "beta");
    bool shortened = !strcmp(json_string_value(json_object_get(run, "kind")), "short");
    struct dan_pref_opts o = {.beta = beta, .gamma = option(run, "simpo_gamma"), .smoothing = option(run, "label_smoothing"), .lambda = beta};
    start(&b, run);
    lay_out(json_object_get(golden, shortened ? "short" : "rows"), (const char *[]){"chosen", "rejected"}, 2, 2, &data);
    ok(dan_prefs_init(&p, b.tuner, &data, loss_of(run), &o, BATCH, ROWS, SEED, &e), &e);
    for (int i = 0; i < STEPS; i++) {
        ok(dan_prefs_step(&p, at(run, "lr", i), &st, &norm, &e), &e);
        if (i == 0 && loss_of(run)->needs_ref) check_logps(run, &st);
        check(&b, st.loss, norm);
    }
    dan_prefs_release(&p);
    dan_sft_data_release(&data);
    finish(&b);
}

/* TRL pairs the prompt of a row with the answer of the row before it in the batch, we with that of the next: four rows in reverse are the same pairs. */
static void run_kto(const json_t *run)
{
    struct bench b;
    struct dan_kto_run k;
    struct dan_kto_stats st;
    struct dan_sft_data data = {0};
    struct dan_err e = {0};
    double norm;
    start(&b, run);
    for (int i = BATCH - 1; i >= 0; i--) {
        struct dan_sft_row row = row_of(json_array_get(json_object_get(golden, "rows"), (size_t)i), "chosen");
        row.desirable = i % 2 == 0;
        ok(dan_sft_data_add(&data, &row, &e), &e);
    }
    ok(dan_kto_init(&k, b.tuner, &data, option(run, "beta"), (double[]){option(run, "desirable_weight"), option(run, "undesirable_weight")}, BATCH, ROWS, SEED, &e), &e);
    for (int i = 0; i < STEPS; i++) {
        ok(dan_kto_step(&k, at(run, "lr", i), &st, &norm, &e), &e);
        check(&b, st.loss, norm);
    }
    dan_kto_release(&k);
    dan_sft_data_release(&data);
    finish(&b);
}

static void runs_of(const char *kind, void (*f)(const json_t *))
{
    size_t i;
    int n = 0;
    json_t *run;
    json_array_foreach(json_object_get(golden, "runs"), i, run)
        if (!strcmp(json_string_value(json_object_get(run, "kind")), kind)) f(run), n++;
    assert_true(n > 0);
}

static void test_sft(void **state) { (void)state; runs_of("sft", run_sft); }
static void test_pairs(void **state) { (void)state; runs_of("pairs", run_pairs); }
static void test_orpo(void **state) { (void)state; runs_of("short", run_pairs); }
static void test_kto(void **state) { (void)state; runs_of("kto", run_kto); }

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sft), cmocka_unit_test(test_pairs), cmocka_unit_test(test_orpo), cmocka_unit_test(test_kto)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
