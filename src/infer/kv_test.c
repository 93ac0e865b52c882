/* Keys and values in 8 bits or bf16 against f32: logits of a LLaMA whose attention is sharp and whose keys have outlier channels, at 512
 * and at 4,096 positions; the perplexity of stories260K, a real model.  dan_eval through an f32 cache is dan_eval without. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/sys.h"
#include "infer/eval.h"
#include "infer/session.h"
#include "model/lm.h"
#include "text/tokenizer.h"

enum { V = 300, CONTEXT = 4096, LAST = 48, HEAD = 32 };

/* Every row of attn_q, and every ninth of attn_k, is larger. */
static struct dan_lm sharp_lm(void)
{
    struct dan_lm_config cfg = {.vocab = V, .context = CONTEXT, .hidden = 128, .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = HEAD,
                                .bos = -1, .eos = -1};
    struct dan_lm lm;
    struct dan_err e = {0};
    char name[64];
    if (dan_lm_init(&lm, dan_model_find("llama"), &cfg, 7, &e)) fail_msg("%s", e.msg);
    for (int l = 0; l < 2; l++)
        for (int k = 0; k < 2; k++) {
            snprintf(name, sizeof name, "blk.%d.attn_%s.weight", l, k ? "k" : "q");
            struct dan_tensor *t = dan_store_find(lm.store, name);
            assert_non_null(t);
            for (int64_t r = 0; r < dan_rows(t); r++)
                for (int64_t c = 0; c < dan_cols(t); c++) ((float *)dan_row(t, r))[c] *= k ? (r % 9 ? 2.f : 16.f) : 2.f;
        }
    return lm;
}

/* Logits of the last LAST of n tokens. */
static void last_logits(struct dan_lm *lm, const char *kv, int64_t n, float *logits)
{
    static int32_t ids[CONTEXT];
    struct dan_rng r = {.seed = 21};
    struct dan_session *s;
    struct dan_err e = {0};
    for (int i = 0; i < CONTEXT; i++) ids[i] = (int32_t)dan_rng_below(&r, V);
    if (dan_session_new(lm, &(struct dan_session_opts){.max_select = LAST, .kv_type = kv}, &s, &e)) fail_msg("%s", e.msg);
    if (dan_session_feed(s, &(struct dan_feed){0, ids, n, LAST, logits}, 1, &e)) fail_msg("%s", e.msg);
    dan_session_free(s);
}

struct distance { double cosine, kl; int same; };     /* the smallest, the mean, equal top tokens */

static void probabilities(const float *x, double *p)
{
    double top = -INFINITY, sum = 0;
    for (int i = 0; i < V; i++) top = fmax(top, (double)x[i]);
    for (int i = 0; i < V; i++) sum += p[i] = exp((double)x[i] - top);
    for (int i = 0; i < V; i++) p[i] /= sum;
}

static struct distance compare(const float *want, const float *got)
{
    struct distance d = {.cosine = 1};
    for (int r = 0; r < LAST; r++, want += V, got += V) {
        double p[V], q[V], xy = 0, xx = 0, yy = 0;
        int best_p = 0, best_q = 0;
        probabilities(want, p);
        probabilities(got, q);
        for (int i = 0; i < V; i++) {
            xy += (double)want[i] * (double)got[i];
            xx += (double)want[i] * (double)want[i];
            yy += (double)got[i] * (double)got[i];
            d.kl += p[i] * log(p[i] / q[i]) / LAST;
            if (p[i] > p[best_p]) best_p = i;
            if (q[i] > q[best_q]) best_q = i;
        }
        d.cosine = fmin(d.cosine, xy / sqrt(xx * yy));
        d.same += best_p == best_q;
    }
    return d;
}

static void logits_far_in(void **state)
{
    (void)state;
    static const char *const types[] = {"bf16", "q8"};
    static const int64_t lengths[] = {512, CONTEXT};
    static float want[LAST * V], got[LAST * V];
    struct dan_lm lm = sharp_lm();
    for (int n = 0; n < 2; n++) {
        last_logits(&lm, "f32", lengths[n], want);
        for (int t = 0; t < 2; t++) {
            last_logits(&lm, types[t], lengths[n], got);
            struct distance d = compare(want, got);
            print_message("%s, %d positions: cosine %.6f at least, KL %.2e, same top token %d of %d\n", types[t], (int)lengths[n], d.cosine, d.kl,
                          d.same, LAST);
            assert_true(d.cosine > 0.99 && d.kl < 1e-3 && d.same >= LAST - 4);
        }
    }
    dan_lm_release(&lm);
}

static bool data_file(const char *name, char out[512])
{
    const char *dir = dan_env("DANLU_DATA");
    snprintf(out, 512, "%s/%s", dir ? dir : "../shared/data", name);
    return dan_path_exists(out);
}

enum { STORIES = 60 };

/* Children's stories, each after bos. */
static struct dan_shards *stories(struct dan_ids *ids)
{
    static const char mark[] = "<|endoftext|>";
    char path[512], *text;
    size_t n;
    int64_t docs[STORIES];
    struct dan_err e = {0};
    struct dan_tokenizer *t;
    struct dan_shards *s;
    if (!data_file("ckpt/stories260K/tok512.bin", path) || dan_tokenizer_load(path, &t, &e)) return NULL;
    if (!data_file("text/en/tinystories_train.txt", path) || dan_read_file(path, &text, &n, &e)) {
        dan_tokenizer_free(t);
        return NULL;
    }
    const char *p = text;
    for (int i = 0; i < STORIES; i++) {
        const char *end = strstr(p, mark);
        assert_non_null(end);
        while (p < end && strchr(" \n", *p)) p++;
        docs[i] = (int64_t)ids->n;
        dan_ids_push(ids, 1);
        assert_int_equal(dan_tokenizer_encode(t, p, (size_t)(end - p), 0, ids, &e), DAN_OK);
        p = end + strlen(mark);
    }
    assert_int_equal(dan_shards_of(ids->v, (int64_t)ids->n, docs, STORIES, -1, &s, &e), DAN_OK);
    dan_free(text);
    dan_tokenizer_free(t);
    return s;
}

static double perplexity(struct dan_lm *lm, const struct dan_shards *text, const char *kv)
{
    struct dan_eval_result r;
    struct dan_err e = {0};
    if (dan_eval(lm, text, &(struct dan_eval_opts){.context = 512, .kv_type = kv}, &r, &e)) fail_msg("%s", e.msg);
    return r.perplexity;
}

static void perplexity_of_stories(void **state)
{
    (void)state;
    char path[512];
    struct dan_ids ids = {0};
    struct dan_lm lm;
    struct dan_err e = {0};
    if (!data_file("ckpt/stories260K/stories260K.bin", path)) skip();
    if (dan_lm_load(&lm, path, false, &e)) fail_msg("%s", e.msg);
    struct dan_shards *text = stories(&ids);
    if (text) {
        double none = perplexity(&lm, text, NULL), f32 = perplexity(&lm, text, "f32"), bf16 = perplexity(&lm, text, "bf16"),
               q8 = perplexity(&lm, text, "q8");
        print_message("perplexity of %d tokens: f32 %.5f, bf16 %+.4f %%, q8 %+.4f %%\n", (int)ids.n, none, 100 * (bf16 / none - 1),
                      100 * (q8 / none - 1));
        assert_true(f32 == none);
        assert_true(fabs(bf16 / none - 1) < 5e-4 && fabs(q8 / none - 1) < 2e-3);        /* heads of 8 numbers; of larger models less */
    }
    dan_shards_free(text);
    dan_ids_release(&ids);
    dan_lm_release(&lm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(logits_far_in), cmocka_unit_test(perplexity_of_stories)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
