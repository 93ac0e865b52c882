/* stories260K, a real model of llama2.c, against what run.c computes: the logits after bos, and the mean negative log likelihood of 300
 * stories (bos and the story, cut at 512 tokens).  The numbers are those of data/README.md; skipped without DANLU_DATA. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"
#include "infer/session.h"
#include "text/tokenizer.h"

enum { V = 512, T = 512, STORIES = 300 };

static bool data_file(const char *name, char out[512])
{
    const char *dir = dan_env("DANLU_DATA");
    snprintf(out, 512, "%s/%s", dir ? dir : "../shared/data", name);
    return dan_path_exists(out);
}

static struct dan_session *open_model(struct dan_lm *lm)
{
    char path[512];
    struct dan_err e = {0};
    struct dan_session *s = NULL;
    if (!data_file("ckpt/stories260K/stories260K.bin", path)) skip();
    struct dan_session_opts o = {.slots = 1, .context = T, .max_rows = T, .max_select = T};
    if (dan_lm_load(lm, path, false, &e) || dan_session_new(lm, &o, &s, &e)) fail_msg("%s", e.msg);
    return s;
}

static void logits_after_bos(void **state)
{
    (void)state;
    static const struct { int id; double logit; } top[] = {{403, 17.0235}, {385, 15.4062}, {410, 13.1083}, {317, 12.7692}, {407, 12.4181}};
    struct dan_lm lm;
    struct dan_session *s = open_model(&lm);
    int32_t bos = 1;
    float logits[V];
    struct dan_feed f = {0, &bos, 1, 1, logits};
    assert_int_equal(dan_session_feed(s, &f, 1, NULL), DAN_OK);
    for (size_t k = 0; k < sizeof top / sizeof top[0]; k++) {
        int best = 0;
        for (int i = 1; i < V; i++) best = logits[i] > logits[best] ? i : best;
        assert_int_equal(best, top[k].id);
        if (!(fabs((double)logits[best] - top[k].logit) < 1e-4)) fail_msg("logit of %d is %.6f", best, (double)logits[best]);
        logits[best] = -INFINITY;
    }
    dan_session_free(s);
    dan_lm_release(&lm);
}

static double nll_of(const float *logits, int32_t id)
{
    double max = -INFINITY, sum = 0;
    for (int i = 0; i < V; i++) max = fmax(max, (double)logits[i]);
    for (int i = 0; i < V; i++) sum += exp((double)logits[i] - max);
    return max + log(sum) - (double)logits[id];
}

/* Sum over the story's predictions; *n counts them. */
static double story_nll(struct dan_session *s, const struct dan_tokenizer *t, const char *p, size_t len, float *logits, int64_t *n)
{
    struct dan_ids ids = {0};
    double sum = 0;
    dan_ids_push(&ids, 1);
    assert_int_equal(dan_tokenizer_encode(t, p, len, 0, &ids, NULL), DAN_OK);
    int64_t m = (int64_t)ids.n < T ? (int64_t)ids.n : T;
    struct dan_feed f = {0, ids.v, m - 1, m - 1, logits};
    dan_session_reset(s, 0);
    if (m > 1) assert_int_equal(dan_session_feed(s, &f, 1, NULL), DAN_OK);
    for (int64_t i = 0; i + 1 < m; i++) sum += nll_of(logits + i * V, ids.v[i + 1]);
    *n += m - 1;
    dan_ids_release(&ids);
    return sum;
}

static void perplexity_of_stories(void **state)
{
    (void)state;
    static const char mark[] = "<|endoftext|>";
    char path[512], *text;
    size_t len;
    struct dan_err e = {0};
    struct dan_lm lm;
    struct dan_tokenizer *t;
    struct dan_session *s = open_model(&lm);
    if (!data_file("text/en/tinystories_train.txt", path)) skip();
    if (dan_read_file(path, &text, &len, &e)) fail_msg("%s", e.msg);
    data_file("ckpt/stories260K/tok512.bin", path);
    if (dan_tokenizer_load(path, &t, &e)) fail_msg("%s", e.msg);
    float *logits = dan_malloc(sizeof *logits * T * V);
    double sum = 0;
    int64_t n = 0;
    const char *p = text;
    for (int k = 0; k < STORIES; k++) {
        const char *end = strstr(p, mark);
        assert_non_null(end);
        while (p < end && strchr(" \n", *p)) p++;
        size_t m = (size_t)(end - p);
        while (m && strchr(" \n", p[m - 1])) m--;
        sum += story_nll(s, t, p, m, logits, &n);
        p = end + strlen(mark);
    }
    print_message("%lld predictions, mean %.6f\n", (long long)n, sum / (double)n);
    assert_int_equal(n, 120756);
    assert_true(fabs(sum / (double)n - 1.500047) < 2e-6);
    dan_free(logits);
    dan_free(text);
    dan_tokenizer_free(t);
    dan_session_free(s);
    dan_lm_release(&lm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(logits_after_bos), cmocka_unit_test(perplexity_of_stories)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
