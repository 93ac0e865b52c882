/* The reward `model:DIR`: what it says of answers is the value of the same ids plus the bias, alone or among others, and what is no reward model is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "align/reward.h"
#include "align/reward_open.h"
#include "align/sft_data_impl.h"
#include "base/file.h"
#include "base/str.h"
#include "model/score.h"

enum { ROWS = 256 };
static char folder[] = "/tmp/danlu-rm-XXXXXX", plain_folder[] = "/tmp/danlu-lm-XXXXXX";
static struct dan_tokenizer *tok;
static struct dan_chat_template chat;
static struct dan_lm lm;

static int save(const char *dir, bool score, struct dan_err *e)
{
    struct dan_lm_config cfg = {.vocab = dan_tokenizer_vocab_size(tok), .context = 64, .hidden = 32, .layers = 1, .heads = 2, .tied = true, .bos = -1, .eos = -1, .pad = -1};
    int rc = dan_lm_init(&lm, dan_model_find("llama"), &cfg, 3, e);
    if (!rc && score) rc = dan_lm_add_score(&lm, &(struct dan_score_opts){.std = 0.5}, e);
    if (score) dan_lm_drop_lm_head(&lm), lm.cfg.reward_bias = 0.25;
    if (!rc) rc = dan_lm_save(&lm, dir, e);
    if (!rc) rc = dan_tokenizer_save(tok, dir, e);
    return rc;
}

static int setup(void **state)
{
    static const char *const special[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    struct dan_tok_train_opts o = {.special = special, .n_special = 3};
    struct dan_err e = {0};
    (void)state;
    if (!mkdtemp(folder) || !mkdtemp(plain_folder)) return -1;
    if (dan_tokenizer_new_bytes(&o, &tok, &e) || dan_chat_template_open(&chat, tok, NULL, NULL, &e) || save(plain_folder, false, &e)) return -1;
    dan_lm_release(&lm);
    return save(folder, true, &e);
}

static int teardown(void **state)
{
    struct dan_err e = {0};
    (void)state;
    dan_lm_release(&lm);
    dan_chat_template_release(&chat);
    dan_tokenizer_free(tok);
    return dan_remove_tree(folder, &e) | dan_remove_tree(plain_folder, &e);
}

static struct dan_reward *open_reward(const char *dir)
{
    struct dan_reward *r;
    struct dan_err e = {0};
    char spec[80];
    snprintf(spec, sizeof spec, "model:%s", dir);
    if (dan_reward_open_in(spec, &(struct dan_reward_env){.cpu_mask = 1}, &r, &e)) fail_msg("%s", e.msg);
    return r;
}

/* The value of ids under the model itself. */
static double value_of(const int32_t *ids, size_t n)
{
    struct dan_tuner_opts o = {.max_rows = ROWS, .head = DAN_HEAD_SCORE, .frozen = true, .cpu_mask = 1};
    struct dan_tuner *t;
    struct dan_packed pack;
    struct dan_sft_row row = {0};
    const struct dan_sft_row *list[] = {&row};
    struct dan_err e = {0};
    double v = NAN;
    if (dan_tuner_new(&lm, &o, NULL, &t, &e) || dan_packed_init(&pack, ROWS, &e) || dan_sft_row_take(&row, ids, NULL, n, &e) || dan_rows_value(t, list, 1, &pack, &v, &e)) fail_msg("%s", e.msg);
    dan_sft_row_release(&row);
    dan_packed_release(&pack);
    dan_tuner_free(t);
    return v;
}

static double value_of_text(const char *text)
{
    struct dan_ids ids = {0};
    struct dan_err e = {0};
    if (dan_tokenizer_encode(tok, text, strlen(text), DAN_ENCODE_SPECIAL, &ids, &e)) fail_msg("%s", e.msg);
    double v = value_of(ids.v, ids.n);
    dan_ids_release(&ids);
    return v;
}

static void test_scores(void **state)
{
    (void)state;
    struct dan_reward *r = open_reward(folder);
    struct dan_err e = {0};
    json_t *messages = json_pack("[{s:s,s:s},{s:s,s:s}]", "role", "system", "content", "s", "role", "user", "content", "q");
    const struct dan_answer a[] = {{.text = "yes", .n = 3, .ended = true, .messages = messages}, {.text = "no", .n = 2, .ended = false, .messages = messages},
                                   {.text = "", .n = 0, .ended = true, .messages = messages}, {.text = "c", .n = 1, .ended = true, .prompt = "ab"},
                                   {.text = "\xe2\x82", .n = 2, .ended = true, .messages = messages}};
    const char *want[] = {"<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>",
                          "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nno",
                          "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<|im_end|>", "abc<|endoftext|>"};
    double got[5], alone;
    if (dan_reward_score(r, a, 5, got, &e) || dan_reward_score(r, a + 1, 1, &alone, &e)) fail_msg("%s", e.msg);
    for (int i = 0; i < 4; i++)
        if (fabs(got[i] - value_of_text(want[i]) - 0.25) > 1e-6) fail_msg("answer %d: %.8f, its ids have %.8f + 0.25", i, got[i], value_of_text(want[i]));
    assert_true(alone == got[1] && isfinite(got[4]));
    assert_string_equal(dan_reward_name(r), "model");
    json_decref(messages);
    dan_reward_close(r);
}

/* What a run holds grows with what is scored, and changes no score. */
static void test_plans_for_what_it_scores(void **state)
{
    (void)state;
    struct dan_rm_scorer s;
    struct dan_rm_open_opts o = {.cpu_mask = 1};
    struct dan_err e = {0};
    int32_t ids[40];
    struct dan_sft_row row = {0};
    const struct dan_sft_row *list[] = {&row};
    double before, after;
    for (int i = 0; i < 40; i++) ids[i] = i % 30;
    if (dan_rm_open(folder, &o, &s, &e) || dan_sft_row_take(&row, ids, NULL, 40, &e) || dan_rm_score(&s, list, 1, &before, &e)) fail_msg("%s", e.msg);
    const int64_t rows = s.pack.max_rows;
    s.tuning.max_rows = s.pack.max_rows = 16;  /* as if that had been enough so far */
    if (dan_rm_score(&s, list, 1, &after, &e)) fail_msg("%s", e.msg);
    assert_true(rows == 1024 && s.pack.max_rows == 64 && s.tuning.max_rows == 64 && before == after);
    dan_sft_row_release(&row);
    dan_rm_close(&s);
}

static void test_refused(void **state)
{
    (void)state;
    struct dan_reward *r = open_reward(folder);
    struct dan_err e = {0};
    char spec[80], far[200];
    double got;
    memset(far, 'x', sizeof far - 1);
    far[sizeof far - 1] = 0;
    const struct dan_answer a = {.text = far, .n = strlen(far), .ended = true, .prompt = "p"};
    assert_int_not_equal(dan_reward_score(r, &a, 1, &got, &e), DAN_OK);
    assert_non_null(strstr(e.msg, "nothing is cut"));
    json_t *messages = json_pack("[{s:s,s:s}]", "role", "user", "content", "q");
    const struct dan_answer b = {.text = far, .n = strlen(far), .ended = true, .messages = messages};
    e = (struct dan_err){0};
    assert_int_not_equal(dan_reward_score(r, &b, 1, &got, &e), DAN_OK);
    assert_non_null(strstr(e.msg, "more tokens than the 64 that the reward model takes; lower --max-new"));
    json_decref(messages);
    dan_reward_close(r);
    e.code = 0;
    snprintf(spec, sizeof spec, "model:%s", plain_folder);
    assert_int_not_equal(dan_reward_open(spec, &r, &e), DAN_OK);
    assert_non_null(strstr(e.msg, "no score head"));
    e.code = 0;
    assert_int_not_equal(dan_reward_open("model:/nowhere", &r, &e), DAN_OK);
    assert_non_null(strstr(e.msg, "there is no reward model '/nowhere'"));
    assert_int_not_equal(dan_reward_open("model", &r, &e), DAN_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scores), cmocka_unit_test(test_plans_for_what_it_scores), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
