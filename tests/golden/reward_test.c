/* reward/: a reward model on the model of llama/ against torch (values, loss and gradients of one batch) and, step by step, against TRL's RewardTrainer. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "align/reward_model.h"
#include "align/sft_data_impl.h"
#include "align/shuffle.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/json.h"
#include "model/lora_files.h"
#include "model/score.h"

enum { STEPS = 10, BATCH = 4, MOST = STEPS * BATCH, ROWS = 192, SEED = 5 };
static json_t *golden;

static int setup(void **state)
{
    struct dan_err e = {0};
    (void)state;
    return dan_json_read("tests/golden/reward/golden.json", &golden, &e) ? -1 : 0;
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

static double number_at(const json_t *list, size_t i) { return json_number_value(json_array_get(list, i)); }

static struct dan_sft_row row_of(const json_t *const *part, int parts)
{
    struct dan_sft_row out = {.file = "golden.json"};
    struct dan_err e = {0};
    int32_t ids[32];
    size_t n = 0;
    for (int k = 0; k < parts; k++)
        for (size_t i = 0; i < json_array_size(part[k]); i++) ids[n++] = (int32_t)json_integer_value(json_array_get(part[k], i));
    ok(dan_sft_row_take(&out, ids, NULL, n, &e), &e);
    return out;
}

static struct dan_sft_row answer_row(const json_t *row, const char *answer)
{
    json_t *eos = json_pack("[O]", json_object_get(golden, "eos"));
    const json_t *part[] = {json_object_get(row, "prompt"), json_object_get(row, answer), eos};
    struct dan_sft_row out = row_of(part, 3);
    json_decref(eos);
    return out;
}

/* ---- groups ---- */

struct groups { struct dan_ranked d; struct dan_rank_group group[MOST]; int32_t rank[2 * MOST]; };

static void add(struct groups *g, struct dan_sft_row row, int32_t rank)
{
    struct dan_err e = {0};
    g->rank[g->d.rows.n] = rank;
    ok(dan_sft_data_add(&g->d.rows, &row, &e), &e);
}

static void begin_groups(struct groups *g)
{
    *g = (struct groups){0};
    g->d.v = g->group;
    g->d.rank = g->rank;
}

static void end_groups(struct groups *g) { dan_sft_data_release(&g->d.rows); }

static void add_pair(struct groups *g, const json_t *row)
{
    g->group[g->d.n++] = (struct dan_rank_group){.first = (int64_t)g->d.rows.n, .n = 2, .pairs = 1, .margin = json_number_value(json_object_get(row, "margin"))};
    add(g, answer_row(row, "chosen"), 1);
    add(g, answer_row(row, "rejected"), 2);
    g->d.pairs++;
}

/* Row i of TRL's order stands where our shuffle finds it at i. */
static void lay_out(struct groups *g)
{
    int64_t order[MOST], epoch = -1;
    const json_t *rows = json_object_get(golden, "rows"), *at[MOST];
    for (int i = 0; i < MOST; i++) at[dan_shuffled(order, MOST, &epoch, SEED, 4, i)] = json_array_get(rows, (size_t)i);
    begin_groups(g);
    for (int i = 0; i < MOST; i++) add_pair(g, at[i]);
}

static void add_ranked(struct groups *g, const json_t *answers, const json_t *ranks)
{
    struct dan_rank_group *one = &g->group[g->d.n++];
    size_t n = json_array_size(answers);
    *one = (struct dan_rank_group){.first = (int64_t)g->d.rows.n, .n = (int32_t)n};
    for (size_t i = 0; i < n; i++) {
        const json_t *part[] = {json_array_get(answers, i)};
        add(g, row_of(part, 1), (int32_t)number_at(ranks, i));
        for (size_t k = 0; k < n; k++) one->pairs += number_at(ranks, i) < number_at(ranks, k);
    }
    g->d.pairs += one->pairs;
}

/* ---- the model ---- */

static void open_model(struct dan_lm *lm, bool adapter)
{
    struct dan_err e = {0};
    const json_t *w = json_object_get(golden, "score");
    ok(dan_lm_load(lm, "tests/golden/llama", true, &e), &e);
    if (adapter) {
        ok(dan_lora_load(lm, "tests/golden/lora", "default", &e), &e);
        lm->adapter[0].trained = true;
    }
    ok(dan_lm_add_score(lm, &(struct dan_score_opts){.adapter = adapter ? "default" : NULL}, &e), &e);
    float *head = dan_lm_score_of(lm, adapter ? "default" : NULL)->data;
    for (size_t i = 0; i < json_array_size(w); i++) head[i] = (float)number_at(w, i);
}

static struct dan_tuner *new_tuner(struct dan_lm *lm)
{
    struct dan_tuner_opts o = {.max_rows = ROWS, .head = DAN_HEAD_SCORE, .optim = dan_optim_find("adamw"), .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1, .clip = 1};
    struct dan_tuner *t;
    struct dan_err e = {0};
    ok(dan_tuner_new(lm, &o, NULL, &t, &e), &e);
    return t;
}

/* ---- one batch ---- */

static void close_to(const char *what, double got, double want, double within)
{
    if (!(fabs(got - want) <= within)) fail_msg("%s: %.9g, expected %.9g", what, got, want);
}

/* Fused params ("a+b") hold their parts one behind the other; attn_q is the first of its. */
static const struct dan_tensor *gradient_of(struct dan_tuner *t, const char *name)
{
    struct dan_store *s = dan_tuner_state(t);
    struct dan_str full = {0};
    const struct dan_tensor *found = NULL;
    dan_str_printf(&full, "sum:%s", name);
    for (size_t i = 0; i < dan_store_count(s); i++) {
        const char *have = dan_store_name(s, i);
        if (dan_str_starts(have, dan_str_c(&full)) && (!have[full.n] || have[full.n] == '+')) found = dan_store_at(s, i);
    }
    dan_str_release(&full);
    return found;
}

static void check_gradients(struct dan_tuner *t, const struct dan_lm *lm, const json_t *want)
{
    const char *name;
    json_t *g;
    json_object_foreach((json_t *)(uintptr_t)want, name, g) {
        const struct dan_tensor *got = gradient_of(t, name), *param = dan_store_find(lm->store, name);
        const json_t *first = json_object_get(g, "first");
        double norm = json_number_value(json_object_get(g, "norm")), sum = 0, squares = 0;
        assert_non_null(got);
        const float *x = got->data;
        for (int64_t i = 0; i < dan_shape_count(&param->shape); i++) sum += (double)x[i], squares += (double)x[i] * (double)x[i];
        close_to(name, sqrt(squares), norm, 2e-6 * norm);
        close_to(name, sum, json_number_value(json_object_get(g, "sum")), 1e-5 * norm);
        for (size_t i = 0; i < json_array_size(first); i++) close_to(name, (double)x[i], number_at(first, i), 2e-6 * norm);
    }
}

static void check_batch(struct groups *g, const json_t *want, double margin)
{
    struct dan_lm lm;
    struct dan_err e = {0};
    open_model(&lm, false);
    struct dan_tuner *t = new_tuner(&lm);
    struct dan_packed pack;
    const json_t *values = json_object_get(want, "values");
    const struct dan_sft_row *row[2 * MOST];
    double v[2 * MOST], seeds[2 * MOST], loss = 0, right;
    float weight[32];
    ok(dan_packed_init(&pack, ROWS, &e), &e);
    for (size_t i = 0; i < g->d.rows.n; i++) row[i] = &g->d.rows.v[i];
    ok(dan_rows_value(t, row, g->d.rows.n, &pack, v, &e), &e);
    assert_int_equal(json_array_size(values), g->d.rows.n);
    for (size_t i = 0; i < g->d.rows.n; i++) close_to("value", v[i], number_at(values, i), 1e-6);
    for (size_t k = 0; k < g->d.n; k++) {
        const struct dan_rank_group *one = &g->group[k];
        loss += dan_rm_group_loss(one, g->rank + one->first, v + one->first, margin, json_number_value(json_object_get(want, "center")), seeds + one->first, &right) / (double)g->d.n;
    }
    close_to("loss", loss, json_number_value(json_object_get(want, "loss")), 1e-6);
    dan_packed_clear(&pack);
    for (size_t i = 0; i < g->d.rows.n; i++) {
        memset(weight, 0, sizeof weight);
        weight[row[i]->n - 1] = (float)(seeds[i] / (double)g->d.n);
        dan_packed_add_all(&pack, row[i]->ids, row[i]->n, weight);
    }
    ok(dan_tuner_add(t, &pack, NULL, &e), &e);
    check_gradients(t, &lm, json_object_get(want, "gradients"));
    dan_packed_release(&pack);
    dan_tuner_free(t);
    dan_lm_release(&lm);
}

static void test_pairs(void **state)
{
    (void)state;
    struct groups g;
    begin_groups(&g);
    for (size_t i = 0; i < BATCH; i++) add_pair(&g, json_array_get(json_object_get(golden, "rows"), i));
    check_batch(&g, json_object_get(golden, "pairs"), 1);
    end_groups(&g);
}

static void test_ranked(void **state)
{
    (void)state;
    struct groups g;
    const json_t *want = json_object_get(golden, "ranked"), *groups = json_object_get(want, "groups"), *ranks = json_object_get(want, "ranks");
    begin_groups(&g);
    for (size_t i = 0; i < json_array_size(groups); i++) add_ranked(&g, json_array_get(groups, i), json_array_get(ranks, i));
    check_batch(&g, want, 1);
    end_groups(&g);
}

/* ---- TRL, step by step ---- */

static double logged(const json_t *run, const char *what, int step) { return number_at(json_object_get(run, what), (size_t)step); }

static void check_step(const json_t *run, int i, const struct dan_rm_stats *s, double norm, double worst[2])
{
    const struct { const char *name; double got; } metric[] = {{"losses", s->loss}, {"accuracy", s->accuracy}, {"margin", s->margin}, {"min_reward", s->min_reward},
                                                               {"mean_reward", s->mean_reward}, {"max_reward", s->max_reward}};
    for (size_t k = 0; k < sizeof metric / sizeof *metric; k++) close_to(metric[k].name, metric[k].got, logged(run, metric[k].name, i), 1e-5);
    close_to("gradient norm", norm, logged(run, "grad_norms", i), 1e-5 * norm);
    worst[0] = fmax(worst[0], fabs(s->loss - logged(run, "losses", i)));
    worst[1] = fmax(worst[1], fabs(norm / logged(run, "grad_norms", i) - 1));
}

static void follow(const json_t *run)
{
    struct groups g;
    struct dan_lm lm;
    struct dan_rm r;
    struct dan_rm_stats s;
    struct dan_err e = {0};
    double norm, worst[2] = {0};
    lay_out(&g);
    open_model(&lm, json_is_true(json_object_get(run, "adapter")));
    struct dan_tuner *t = new_tuner(&lm);
    struct dan_rm_opts o = {.margin = json_number_value(json_object_get(run, "margins")), .center = json_number_value(json_object_get(run, "center")), .batch = BATCH, .seed = SEED};
    ok(dan_rm_init(&r, t, &g.d, &o, ROWS, &e), &e);
    for (int i = 0; i < STEPS; i++) {
        ok(dan_rm_step(&r, logged(run, "lr", i), &s, &norm, &e), &e);
        check_step(run, i, &s, norm, worst);
    }
    print_message("%s: largest difference of a loss %.1e, of a norm %.1e of it\n", json_string_value(json_object_get(run, "name")), worst[0], worst[1]);
    dan_rm_release(&r);
    dan_tuner_free(t);
    dan_lm_release(&lm);
    end_groups(&g);
}

static void test_trl(void **state)
{
    (void)state;
    const json_t *runs = json_object_get(golden, "runs");
    for (size_t i = 0; i < json_array_size(runs); i++) follow(json_array_get(runs, i));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pairs), cmocka_unit_test(test_ranked), cmocka_unit_test(test_trl)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
