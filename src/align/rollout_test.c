/* Answers and groups on a tiny model: answers depend on (seed, step, prompt, sample) alone, see what the last step of the optimiser changed, and have in the
 * first minibatch a ratio of exactly 1; prompts that do not fit are named, never cut. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "align/group.h"
#include "align/rewards.h"
#include "align/test_chat.h"
#include "base/mem.h"
#include "model/lora.h"

enum { ROWS = 512, NEW = 12 };

static int read_prompts(const char *rows, bool raw, struct dan_prompts *out, struct dan_err *e)
{
    struct dan_prompts_opts o = {.tok = tok, .chat = &chat, .longest = 60, .raw = raw};
    const char *paths[] = {path};
    write_rows(rows);
    char *name = dan_strdup(path);
    char jsonl[64];
    snprintf(jsonl, sizeof jsonl, "%s.jsonl", name);
    dan_free(name);
    assert_int_equal(rename(path, jsonl), 0);
    paths[0] = jsonl;
    int rc = dan_prompts_read(paths, 1, &o, out, e);
    assert_int_equal(rename(jsonl, path), 0);
    return rc;
}

static struct dan_prompts prompts(void)
{
    struct dan_prompts p;
    struct dan_err e = {0};
    if (read_prompts("{\"text\":\"one\",\"answer\":\"1\"}\n{\"text\":\"a longer beginning\"}\n{\"prompt\":\"hi\"}\n{\"text\":\"x\"}\n{\"text\":\"yes and no\"}\n", false, &p, &e)) fail_msg("%s", e.msg);
    return p;
}

static struct dan_lm new_lm(bool adapter)
{
    struct dan_lm_config cfg = {.vocab = dan_tokenizer_vocab_size(tok), .context = 96, .hidden = 32, .layers = 2, .heads = 2, .tied = true, .bos = -1, .eos = -1};
    struct dan_lora_opts lora = {.rank = 4, .alpha = 8, .targets = "all-linear", .last_layer = -1, .seed = 5};
    struct dan_lm lm;
    struct dan_err e = {0};
    if (dan_lm_init(&lm, dan_model_find("llama"), &cfg, 3, &e)) fail_msg("%s", e.msg);
    if (adapter && dan_lora_add(&lm, &lora, &e)) fail_msg("%s", e.msg);
    if (adapter) lm.adapter[0].trained = true;
    return lm;
}

static struct dan_tuner *new_tuner(struct dan_lm *lm, double temperature, bool frozen, struct dan_pool *pool)
{
    struct dan_tuner_opts o = {.max_rows = ROWS, .optim = dan_optim_find("adamw"), .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .clip = 1, .temperature = temperature, .frozen = frozen};
    struct dan_tuner *t;
    struct dan_err e = {0};
    if (dan_tuner_new(lm, &o, pool, &t, &e)) fail_msg("%s", e.msg);
    return t;
}

static struct dan_rollout *new_rollout(struct dan_lm *lm, int64_t streams, double temperature, uint64_t seed, struct dan_pool *pool)
{
    static const int32_t stop[] = {256, 10};
    struct dan_rollout_opts o = {.sampling = {.temperature = temperature, .top_p = 1, .repetition_penalty = 1, .seed = seed}, .max_new = NEW, .stop = stop, .n_stop = 2, .streams = streams,
                                 .pool = pool};
    struct dan_rollout *r;
    struct dan_err e = {0};
    if (dan_rollout_new(lm, tok, &o, &r, &e)) fail_msg("%s", e.msg);
    return r;
}

static struct dan_rollouts answers(struct dan_rollout *r, const struct dan_prompts *p, int64_t samples, int64_t step)
{
    const struct dan_prompt *which[8];
    struct dan_rollouts x;
    struct dan_err e = {0};
    for (size_t i = 0; i < p->n; i++) which[i] = &p->v[i];
    if (dan_rollout_run(r, which, (int64_t)p->n, samples, step, &x, &e)) fail_msg("%s", e.msg);
    assert_int_equal(x.n, (int64_t)p->n * samples);
    return x;
}

static bool same(const struct dan_said *a, const struct dan_said *b)
{
    return a->n == b->n && a->n_prompt == b->n_prompt && a->ended == b->ended && a->text_n == b->text_n && !memcmp(a->ids, b->ids, (size_t)a->n * sizeof *a->ids) && !strcmp(a->text, b->text);
}

/* One prompt alone, sample for sample, on one thread and one stream, and all at once on three threads. */
static void test_alone(void **state)
{
    (void)state;
    struct dan_prompts p = prompts();
    struct dan_lm lm = new_lm(false);
    struct dan_pool *pool;
    struct dan_err e = {0};
    assert_int_equal(dan_pool_new(3, &pool, &e), DAN_OK);
    struct dan_rollout *many = new_rollout(&lm, 7, 1, 9, pool), *one = new_rollout(&lm, 1, 1, 9, NULL), *other = new_rollout(&lm, 7, 1, 10, pool);
    struct dan_rollouts x = answers(many, &p, 4, 3), y = answers(other, &p, 4, 3), z = answers(many, &p, 4, 4);
    int seeds = 0, steps = 0, twins = 0;
    for (size_t i = 0; i < p.n; i++) {
        const struct dan_prompt *which = &p.v[i];
        struct dan_rollouts a;
        assert_int_equal(dan_rollout_run(one, &which, 1, 4, 3, &a, &e), DAN_OK);
        for (size_t s = 0; s < 4; s++) assert_true(same(&a.v[s], &x.v[4 * i + s]));
        twins += same(&x.v[4 * i], &x.v[4 * i + 1]);
        dan_rollouts_release(&a);
    }
    for (size_t k = 0; k < x.n; k++) {
        const struct dan_said *s = &x.v[k];
        seeds += same(s, &y.v[k]);
        steps += same(s, &z.v[k]);
        assert_ptr_equal(s->prompt, &p.v[k / 4]);
        assert_memory_equal(s->ids, s->prompt->ids, (size_t)s->n_prompt * sizeof *s->ids);
        assert_true(s->ended ? s->ids[s->n - 1] == 256 || s->ids[s->n - 1] == 10 : dan_said_tokens(s) == NEW);
    }
    assert_true(seeds < 3 && steps < 3 && twins == 0);
    dan_rollouts_release(&x);
    dan_rollouts_release(&y);
    dan_rollouts_release(&z);
    dan_rollout_free(many);
    dan_rollout_free(one);
    dan_rollout_free(other);
    dan_pool_free(pool);
    dan_lm_release(&lm);
    dan_prompts_release(&p);
}

/* 1 where the answer's first id is small: dense, and differs within groups. */
static void score(const struct dan_rollouts *x, double *r)
{
    for (size_t i = 0; i < x->n; i++) {
        r[i] = 0;
        for (int64_t t = x->v[i].n_prompt; t < x->v[i].n; t++) r[i] += x->v[i].ids[t] < 100 ? 1.0 / (double)dan_said_tokens(&x->v[i]) : 0;
    }
}

static struct dan_grpo_opts opts_of(const char *variant)
{
    struct dan_grpo_opts o = dan_grpo_variant_find(variant)->usual;
    o.most_tokens = NEW;
    o.seed = 4;
    return o;
}

/* In the first minibatch the ratio is 1 and approxkl 0, not nearly: with all weights and an adapter, at temperature 1 and another, in packs that differ from
 * those that gave the old log-probabilities; afterwards not. */
static void test_first_minibatch(void **state)
{
    (void)state;
    for (int k = 0; k < 4; k++) {
        struct dan_prompts p = prompts();
        struct dan_lm lm = new_lm(k & 1);
        double temperature = k & 2 ? 0.7 : 1, r[32];
        struct dan_tuner *t = new_tuner(&lm, temperature, false, NULL);
        struct dan_rollout *ro = new_rollout(&lm, 6, temperature, 2, NULL);
        struct dan_grpo g;
        struct dan_grpo_opts o = opts_of("grpo");
        struct dan_grpo_stats s;
        struct dan_err e = {0};
        o.epochs = 2;
        o.minibatches = 2;
        o.beta = 0;
        assert_int_equal(dan_grpo_init(&g, t, NULL, &o, ROWS, &e), DAN_OK);
        for (int step = 0; step < 2; step++) {
            struct dan_rollouts x = answers(ro, &p, 4, step);
            score(&x, r);
            if (dan_grpo_update(&g, &x, r, 1e-2, &s, &e)) fail_msg("%s", e.msg);
            assert_true(s.first_ratio == 1 && s.first_approxkl == 0);
            assert_true(s.approxkl > 0 && s.answers == 20 && s.tokens == x.tokens);
            dan_rollouts_release(&x);
        }
        assert_int_equal(dan_tuner_steps(t), 8);
        dan_grpo_release(&g);
        dan_rollout_free(ro);
        dan_tuner_free(t);
        dan_lm_release(&lm);
        dan_prompts_release(&p);
    }
}

struct one { struct dan_grpo_stats s; float *w; size_t bytes; };

/* One update of a fresh model, whose reference is itself. */
static struct one update_once(struct dan_grpo_opts o, double beta, const struct dan_rollouts *x, const double *r)
{
    struct dan_lm lm = new_lm(true), old = new_lm(true);
    struct dan_tuner *t = new_tuner(&lm, 1, false, NULL), *ref = new_tuner(&old, 1, true, NULL);
    struct dan_grpo g;
    struct one out = {0};
    struct dan_err e = {0};
    o.beta = beta;
    assert_int_equal(dan_grpo_init(&g, t, ref, &o, 160, &e), DAN_OK);
    if (dan_grpo_update(&g, x, r, 1e-2, &out.s, &e)) fail_msg("%s", e.msg);
    for (size_t i = 0; i < dan_store_count(lm.store); i++) {
        const struct dan_tensor *p = dan_store_at(lm.store, i);
        size_t n = dan_tensor_bytes(p);
        out.w = dan_realloc(out.w, out.bytes + n);
        assert_non_null(out.w);
        memcpy((char *)out.w + out.bytes, p->data, n);
        out.bytes += n;
    }
    int64_t targets = 0, last = 0;             /* of the last pack: no prompt costs a head */
    for (int64_t i = 0; i < g.pack.batch.rows; i++) targets += g.pack.batch.targets[i] >= 0;
    for (size_t i = 0; i < x->n; i++) last += x->v[i].n - 1;
    assert_true(targets > 0 && targets < g.pack.batch.rows && g.pack.batch.rows < last);
    dan_grpo_release(&g);
    dan_tuner_free(t);
    dan_tuner_free(ref);
    dan_lm_release(&lm);
    dan_lm_release(&old);
    return out;
}

/* One minibatch in several packs: its forward gives the old log-probabilities, too, but for a KL term in the reward, which here is 0: the same bits of
 * weights and of what is measured; also where answers are left out, which are measured all the same. */
static void test_one_forward(void **state)
{
    (void)state;
    struct dan_prompts p = prompts();
    struct dan_lm lm = new_lm(true);
    struct dan_rollout *ro = new_rollout(&lm, 16, 1, 2, NULL);
    struct dan_rollouts x = answers(ro, &p, 4, 0);
    double r[20];
    score(&x, r);
    r[7] = NAN;
    for (int i = 8; i < 12; i++) r[i] = 0.5;
    for (int k = 0; k < 8; k++) {
        struct dan_grpo_opts o = opts_of(k & 1 ? "dapo" : "rloo");
        o.kl = DAN_K1;
        o.mask_truncated = k & 2;
        o.whole = k & 4;
        struct one a = update_once(o, 0, &x, r), b = update_once(o, 0.05, &x, r);
        assert_true(a.s.first_ratio == 1 && a.s.first_approxkl == 0 && b.s.first_ratio == 1 && a.s.learnt < 20 && a.s.learnt > 0 && a.s.tokens == x.tokens);
        assert_memory_equal(&a.s, &b.s, sizeof a.s);
        assert_int_equal(a.bytes, b.bytes);
        assert_memory_equal(a.w, b.w, a.bytes);
        dan_free(a.w);
        dan_free(b.w);
    }
    dan_rollouts_release(&x);
    dan_rollout_free(ro);
    dan_lm_release(&lm);
    dan_prompts_release(&p);
}

/* Answers come from the weights as they are: one rollout used all along gives what a new one gives after training; and every variant raises the reward. */
static void test_learns(void **state)
{
    (void)state;
    for (const struct dan_grpo_variant *v = dan_grpo_variants; v->name; v++) {
        struct dan_prompts p = prompts();
        struct dan_lm lm = new_lm(false), old = new_lm(false);
        struct dan_tuner *ref = new_tuner(&old, 1, true, NULL);
        struct dan_tuner *t = new_tuner(&lm, 1, false, NULL);
        struct dan_rollout *ro = new_rollout(&lm, 16, 1, 2, NULL);
        struct dan_grpo g;
        struct dan_grpo_opts o = opts_of(v->name);
        struct dan_grpo_stats s;
        struct dan_err e = {0};
        double r[64], first = 0, last = 0;
        assert_int_equal(dan_grpo_init(&g, t, ref, &o, ROWS, &e), DAN_OK);
        for (int step = 0; step < 30; step++) {
            struct dan_rollouts x = answers(ro, &p, 8, step);
            score(&x, r);
            for (size_t i = 0; i < x.n; i++) *(step < 5 ? &first : step >= 25 ? &last : &(double){0}) += r[i] / (double)x.n / 5;
            if (dan_grpo_update(&g, &x, r, 5e-3, &s, &e)) fail_msg("%s", e.msg);
            if (step == 0) assert_true(s.kl == 0 && s.kl_answer == 0);
            dan_rollouts_release(&x);
        }
        if (!(last > first + 0.1) || !isfinite(last)) fail_msg("%s: reward %g -> %g", v->name, first, last);
        assert_true(s.kl > 0);
        struct dan_rollout *fresh = new_rollout(&lm, 3, 1, 2, NULL);
        struct dan_rollouts a = answers(ro, &p, 2, 77), b = answers(fresh, &p, 2, 77);
        for (size_t i = 0; i < a.n; i++) assert_true(same(&a.v[i], &b.v[i]));
        dan_rollouts_release(&a);
        dan_rollouts_release(&b);
        dan_rollout_free(fresh);
        dan_grpo_release(&g);
        dan_rollout_free(ro);
        dan_tuner_free(t);
        dan_tuner_free(ref);
        dan_lm_release(&lm);
        dan_lm_release(&old);
        dan_prompts_release(&p);
    }
}

static double norm_of(const char *variant, const double *r, const struct dan_rollouts *x, bool mask, struct dan_grpo_stats *s)
{
    struct dan_lm lm = new_lm(false);
    struct dan_tuner *t = new_tuner(&lm, 1, false, NULL);
    struct dan_grpo g;
    struct dan_grpo_opts o = opts_of(variant);
    struct dan_err e = {0};
    o.beta = 0;
    o.mask_truncated = mask;
    assert_int_equal(dan_grpo_init(&g, t, NULL, &o, ROWS, &e), DAN_OK);
    if (dan_grpo_update(&g, x, r, 1e-3, s, &e)) fail_msg("%s", e.msg);
    dan_grpo_release(&g);
    dan_tuner_free(t);
    dan_lm_release(&lm);
    return s->grad_norm;
}

/* Groups without a difference give exactly no gradient; answers without a reward take no part; the loss at ratio 1 is 0 (GRPO), its gradient not. */
static void test_flat(void **state)
{
    (void)state;
    struct dan_prompts p = prompts();
    struct dan_lm lm = new_lm(false);
    struct dan_tuner *t = new_tuner(&lm, 1, false, NULL);
    struct dan_rollout *ro = new_rollout(&lm, 16, 1, 2, NULL);
    struct dan_rollouts x = answers(ro, &p, 4, 0);
    struct dan_grpo_stats s;
    double r[20];
    for (int i = 0; i < 20; i++) r[i] = i < 4 ? 1 : i < 8 ? NAN : 0.5;
    assert_true(norm_of("grpo", r, &x, false, &s) == 0 && s.flat == 5 && s.answers == 16);
    assert_true(norm_of("dapo", r, &x, false, &s) == 0 && s.learnt == 0);
    score(&x, r);
    double whole = norm_of("grpo", r, &x, false, &s);
    assert_true(whole > 0 && fabs(s.loss) < 1e-12);
    r[0] = NAN;
    assert_true(norm_of("grpo", r, &x, false, &s) != whole && s.answers == 19 && s.learnt == 19);
    int64_t ended = 0;
    for (size_t i = 1; i < x.n; i++) ended += x.v[i].ended;
    norm_of("grpo", r, &x, true, &s);
    assert_int_equal(s.learnt, ended);
    r[1] = INFINITY;
    struct dan_err e = {0};
    struct dan_grpo g;
    struct dan_grpo_opts o = opts_of("grpo");
    assert_int_equal(dan_grpo_init(&g, t, NULL, &o, ROWS, &e), DAN_OK);
    assert_int_not_equal(dan_grpo_update(&g, &x, r, 1e-3, &s, &e), DAN_OK);
    assert_int_equal(dan_tuner_steps(t), 0);
    dan_grpo_release(&g);
    dan_tuner_free(t);
    dan_rollouts_release(&x);
    dan_rollout_free(ro);
    dan_lm_release(&lm);
    dan_prompts_release(&p);
}

static void test_prompts(void **state)
{
    (void)state;
    struct dan_prompts p, held;
    struct dan_err e = {0};
    static const char long_row[] = "{\"text\":\"far too long, far too long, far too long, far too long, far too long, far too long\"}\n";
    char rows[1024];
    snprintf(rows, sizeof rows, "{\"prompt\":\"a\",\"completion\":\"b\"}\n%s{oops\n{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"r\"}],\"k\":7}\n{\"text\":\"t\"}\n",
             long_row);
    if (read_prompts(rows, false, &p, &e)) fail_msg("%s", e.msg);
    assert_int_equal(p.n, 3);
    assert_int_equal(p.rows, 5);
    assert_int_equal(p.skipped[DAN_PROMPT_TOO_LONG], 1);
    assert_int_equal(p.skipped[DAN_PROMPT_BAD_ROW], 1);
    assert_non_null(strstr(dan_str_c(&p.told), "line 2"));
    assert_non_null(strstr(dan_str_c(&p.told), "not cut"));
    assert_string_equal(p.v[1].last, "q");
    assert_int_equal(json_array_size(p.v[1].messages), 1);
    assert_int_equal(json_integer_value(json_object_get(p.v[1].row, "k")), 7);
    assert_int_equal(p.v[1].index, 3);
    assert_int_equal(p.v[0].ids[0], dan_tokenizer_find_special(tok, "<|im_start|>"));
    assert_int_equal(p.v[2].n, 1);
    assert_int_equal(dan_prompts_hold_out(&p, 0.5, 1, &held, &e), DAN_OK);
    assert_int_equal(held.n, 0);               /* fewer than 4 prompts are not divided */
    dan_prompts_release(&p);
    dan_prompts_release(&held);
    if (read_prompts(rows, true, &p, &e)) fail_msg("%s", e.msg);
    assert_int_equal(p.v[0].n, 1);
    dan_prompts_release(&p);
    assert_int_not_equal(read_prompts(long_row, false, &p, &e), DAN_OK);
    assert_non_null(strstr(e.msg, "none of 1 rows is a prompt"));
    e = (struct dan_err){0};
    assert_int_not_equal(read_prompts("", false, &p, &e), DAN_OK);
    if (!strstr(e.msg, "is empty")) fail_msg("%s", e.msg);
    struct dan_chat_template whole = chat;
    whole.text = (char *)(uintptr_t) "{% for m in messages %}{% if m.role != 'assistant' %}{{ m.content }}{% endif %}{% endfor %}";
    whole.n = strlen(whole.text);
    struct dan_chat_template kept = chat;
    chat = whole;
    e = (struct dan_err){0};
    int rc = read_prompts("{\"prompt\":\"a\"}\n", false, &p, &e);
    chat = kept;
    assert_int_not_equal(rc, DAN_OK);
    assert_non_null(strstr(e.msg, "no turn of the assistant"));
}

static int bytes_of(void *state, const struct dan_answer *a, size_t n, double *out, struct dan_err *e)
{
    (void)e;
    for (size_t i = 0; i < n; i++) out[i] = (double)a[i].n;
    *(size_t *)state += n;
    return DAN_OK;
}

/* A reward that a caller wrote in C. */
static void test_callback(void **state)
{
    (void)state;
    static const struct dan_reward_kind mine = {.name = "bytes", .doc = "length", .score = bytes_of};
    struct dan_prompt p = {.last = (char *)(uintptr_t) "one", .row = json_object(), .file = "f", .line = 1};
    struct dan_said v = {.prompt = &p, .text = (char *)(uintptr_t) "four", .text_n = 4, .ended = true, .n = 6, .n_prompt = 2};
    struct dan_rollouts x = {.v = &v, .n = 1, .samples = 1};
    struct dan_rewards r;
    struct dan_reward *one;
    struct dan_err e = {0};
    size_t called = 0;
    double total;
    assert_int_equal(dan_rewards_open(NULL, 0, NULL, 0, &r, &e), DAN_OK);
    assert_int_equal(dan_reward_of(&mine, &called, &one, &e), DAN_OK);
    assert_int_equal(dan_rewards_add(&r, one, 0.25, &e), DAN_OK);
    assert_int_equal(dan_rewards_score(&r, &x, &total, NULL, &e), DAN_OK);
    assert_true(total == 1 && called == 1);
    assert_string_equal(dan_rewards_name(&r, 0), "bytes");
    dan_rewards_close(&r);
    json_decref(p.row);
}

static void test_rewards(void **state)
{
    (void)state;
    static const struct { const char *spec, *name; double weight; } good[] = {
        {"number", "number", 1}, {"exact:2", "exact", 2}, {"length:3-5:0.5", "length", 0.5}, {"repetition:3", "repetition", 1}, {"repetition:3:0.25", "repetition", 0.25},
        {"regex:a:b", "regex", 1}, {"regex:a:-1", "regex", -1},
        {"command:cat - http://host:8080", "command", 1}, {"command:cat:0.5", "command", 1}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct dan_rewards r;
        struct dan_err e = {0};
        if (dan_rewards_open(&good[i].spec, 1, NULL, 0, &r, &e)) fail_msg("%s: %s", good[i].spec, e.msg);
        assert_string_equal(dan_rewards_name(&r, 0), good[i].name);
        assert_true(r.weight[0] == good[i].weight);
        dan_rewards_close(&r);
    }
    struct dan_prompt a = {.last = (char *)(uintptr_t) "one", .row = json_pack("{s:s}", "answer", "1"), .file = "f", .line = 1}, b = {.last = a.last, .row = json_object(), .file = "f", .line = 2};
    struct dan_said v[3] = {{.prompt = &a, .text = (char *)(uintptr_t) "1", .text_n = 1, .ended = true, .n = 4, .n_prompt = 2},
                            {.prompt = &a, .text = (char *)(uintptr_t) "2", .text_n = 1, .ended = true, .n = 4, .n_prompt = 2},
                            {.prompt = &b, .text = (char *)(uintptr_t) "2", .text_n = 1, .ended = true, .n = 4, .n_prompt = 2}};
    struct dan_rollouts x = {.v = v, .n = 3, .samples = 1};
    const char *specs[] = {"exact:2", "length:1-4:0.5"};
    struct dan_rewards r;
    struct dan_err e = {0};
    double total[3], each[6];
    assert_int_equal(dan_rewards_open(specs, 2, NULL, 0, &r, &e), DAN_OK);
    assert_int_equal(dan_rewards_score(&r, &x, total, each, &e), DAN_OK);
    assert_true(total[0] == 2.5 && total[1] == 0.5 && total[2] == 0.5 && isnan(each[2]) && each[5] == 1);
    dan_rewards_close(&r);
    assert_int_equal(dan_rewards_open(specs, 1, NULL, 0, &r, &e), DAN_OK);
    x.v += 2;
    x.n = 1;
    assert_int_not_equal(dan_rewards_score(&r, &x, total, NULL, &e), DAN_OK);
    assert_non_null(strstr(e.msg, "no reward applies"));
    dan_rewards_close(&r);
    json_decref(a.row);
    json_decref(b.row);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_alone), cmocka_unit_test(test_first_minibatch), cmocka_unit_test(test_one_forward), cmocka_unit_test(test_learns),
                                       cmocka_unit_test(test_flat), cmocka_unit_test(test_prompts), cmocka_unit_test(test_rewards), cmocka_unit_test(test_callback)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
