/* Static scales against ranges of rows looked at directly; int8 weights take them; calibration text and its doubts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/sys.h"
#include "data/text.h"
#include "infer/eval.h"
#include "infer/session.h"
#include "model/quantize_rows.h"
#include "quant/calibration.h"
#include "quant/equalise.h"
#include "quant/static.h"

enum { V = 64, T = 32, SEQS = 12 };
static int32_t ids[SEQS * T];
static int64_t start[SEQS + 1];
static const struct dan_sequences text = {ids, start, SEQS};

static struct dan_lm new_lm(const char *family, int64_t vocab)
{
    struct dan_lm_config cfg = {.vocab = vocab, .context = T, .hidden = 64, .layers = 2, .heads = 4, .ffn = 96, .init_std = 0.15, .bos = -1, .eos = -1};
    struct dan_lm lm;
    struct dan_err e = {0};
    struct dan_rng r = {.seed = 3};
    if (dan_lm_init(&lm, dan_model_find(family), &cfg, 9, &e)) fail_msg("%s", e.msg);
    for (int i = 0; i < SEQS * T; i++) ids[i] = (int32_t)dan_rng_below(&r, V);
    for (int i = 0; i <= SEQS; i++) start[i] = i * T;
    return lm;
}

struct look { const struct dan_static *s; int64_t rows; };

static int see(void *ctx, const struct dan_product *p, const float *x, int64_t n, struct dan_err *e)
{
    struct look *l = ctx;
    (void)e;
    for (size_t i = 0; i < l->s->n; i++) {
        if (strcmp(l->s->v[i].name, p->name)) continue;
        double lo = (double)x[0], hi = lo;
        for (int64_t k = 0; k < n * p->k; k++) lo = fmin(lo, (double)x[k]), hi = fmax(hi, (double)x[k]);
        assert_true(l->s->v[i].seen.lo == lo && l->s->v[i].seen.hi == hi);
        l->rows += n;
    }
    return DAN_OK;
}

static bool no_head(void *ctx, const struct dan_product *p) { return (void)ctx, !p->head; }

static void test_ranges(void **state)
{
    (void)state;
    struct dan_lm lm = new_lm("llama", V);
    for (int c = 0; dan_calibrators[c]; c++)
        for (int a = 0; a < 2; a++) {
            struct dan_static s;
            struct dan_err e = {0};
            struct dan_observed seen;
            struct dan_static_opts o = {.calibrator = dan_calibrators[c], .range = {.asymmetric = a}, .wants = no_head};
            if (dan_static_observe(&lm, &text, &o, &s, &seen, &e)) fail_msg("%s", e.msg);
            assert_int_equal(s.n, 14);
            assert_int_equal(seen.rows, SEQS * T);
            for (size_t i = 0; i < s.n; i++) {
                const struct dan_static_scale *v = &s.v[i];
                assert_true(v->scale > 0 && (a || v->zero == 0) && v->clipped >= 0 && v->clipped < 0.2);
                if (c == 0) assert_true(v->clipped < 0.001 && v->range.lo == v->seen.lo && v->range.hi == v->seen.hi);
                for (size_t k = 0; k < i; k++)         /* one input, one scale */
                    if (s.v[k].input == v->input) assert_true(s.v[k].scale == v->scale && s.v[k].zero == v->zero);
            }
            struct look l = {&s, 0};
            assert_int_equal(dan_observe(&lm, &text, &(struct dan_observe_opts){.see = see, .ctx = &l}, NULL, NULL), 0);
            assert_int_equal(l.rows, 14 * SEQS * T);
            dan_static_release(&s);
        }
    dan_lm_release(&lm);
}

static void logits_of(struct dan_lm *lm, float *out)
{
    struct dan_session *s;
    struct dan_err e = {0};
    if (dan_session_new(lm, &(struct dan_session_opts){.max_select = T, .fusion = "off"}, &s, &e)) fail_msg("%s", e.msg);
    assert_int_equal(dan_session_feed(s, &(struct dan_feed){0, ids, T, T, out}, 1, NULL), 0);
    dan_session_free(s);
}

/* Float weights take none; int8 weights do, and the logits move by as much as 8 bits of activations cost. */
static void test_apply(void **state)
{
    (void)state;
    static float before[T * V], after[T * V];
    struct dan_lm lm = new_lm("llama", V);
    struct dan_static s;
    struct dan_err e = {0};
    size_t n;
    assert_int_equal(dan_static_observe(&lm, &text, NULL, &s, NULL, NULL), 0);
    assert_int_equal(dan_static_apply(&s, &lm, &n, NULL), 0);
    assert_int_equal(n, 0);
    logits_of(&lm, before);
    dan_lm_release(&lm);                               /* what a program has run is not quantised */
    lm = new_lm("llama", V);
    for (size_t i = 0; i < s.n; i++)
        if (dan_lm_quantize_rows(&lm, s.v[i].name, &(struct dan_rows_format){.to = &dan_dtype_i8}, NULL, &e)) fail_msg("%s", e.msg);
    if (dan_static_apply(&s, &lm, &n, &e)) fail_msg("%s", e.msg);
    assert_int_equal(n, 15);
    const struct dan_tensor *t = dan_store_find(lm.store, "blk.1.ffn_up.weight.input_scale");
    assert_non_null(t);
    assert_true(((float *)t->data)[0] > 0);
    logits_of(&lm, after);
    double d = 0, m = 0;
    for (int i = 0; i < T * V; i++) d += fabs((double)(before[i] - after[i])), m += fabs((double)before[i]);
    assert_true(d > 1e-4 * m && d < 0.1 * m);
    dan_static_release(&s);
    dan_lm_release(&lm);
}

static void write_text(const char *path, int words, const char *word)
{
    struct dan_str s = {0};
    for (int i = 0; i < words; i++) dan_str_printf(&s, "%s%c", word, i % 9 ? ' ' : '\n');
    assert_int_equal(dan_write_file(path, s.p, s.n, NULL), 0);
    dan_str_release(&s);
}

static void test_calibration_text(void **state)
{
    (void)state;
    char path[64];
    const char *paths[] = {path};
    struct dan_tokenizer *tok = NULL;
    struct dan_calibration c;
    struct dan_observed seen;
    struct dan_err e = {0};
    struct dan_str doubts = {0};
    snprintf(path, sizeof path, "/tmp/danlu-calibration-%ld.txt", (long)getpid());
    assert_int_equal(dan_tokenizer_new_bytes(NULL, &tok, NULL), 0);
    struct dan_lm lm = new_lm("llama", dan_tokenizer_vocab_size(tok));
    const struct { int words; int64_t sequences, length, tokens, n; } want[] = {
        {100, 0, 0, 501, 16}, {20000, 200, 0, 6400, 200}, {200000, 50, 16, 800, 50}, {3000, 7, 32, 224, 7}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        write_text(path, want[i].words, "word");
        struct dan_calibration_opts o = {.sequences = want[i].sequences, .length = want[i].length};
        const int32_t prefix = 256;
        if (i == 3) o.prefix = &prefix, o.n_prefix = 1;
        if (dan_calibration_read(paths, 1, tok, &lm, &o, &c, &e)) fail_msg("%s", e.msg);
        for (int64_t k = 0; k < c.text.n && i == 3; k++)
            assert_true(c.text.ids[c.text.start[k]] == 256 && c.text.ids[c.text.start[k] + 1] < 256);
        int64_t length = want[i].length ? want[i].length : T;                   /* the end of the text is a shorter piece */
        if (c.tokens > want[i].tokens || c.tokens < want[i].tokens - length ||
            llabs((long long)(c.text.n - want[i].n)) > 1)
            fail_msg("%lld tokens in %lld", (long long)c.tokens, (long long)c.text.n);
        assert_int_equal(c.text.start[c.text.n], c.tokens);
        assert_int_equal(c.widest, 96);
        assert_int_equal(c.text_bytes, 5 * want[i].words);
        assert_int_equal(dan_observe(&lm, &c.text, NULL, &seen, NULL), 0);
        dan_str_clear(&doubts);
        dan_calibration_doubts(&c, &seen, &doubts);
        assert_true((strstr(dan_str_c(&doubts), "is short") != NULL) == (c.tokens < 4096));
        assert_true(c.bytes <= c.tokens && c.bytes >= c.tokens - 2 - (i == 3 ? c.text.n : 0));
        assert_non_null(strstr(dan_str_c(&doubts), "does not know this calibration text"));      /* random weights know nothing */
        dan_calibration_release(&c);
    }
    write_text(path, 5, "word");
    assert_int_equal(dan_calibration_read(paths, 1, tok, &lm, NULL, &c, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "at least 64 are needed"));
    assert_int_equal(dan_calibration_read(paths, 1, tok, &lm, &(struct dan_calibration_opts){.length = T + 1}, &c, NULL), DAN_EINVAL);
    remove(path);
    assert_int_not_equal(dan_calibration_read(paths, 1, tok, &lm, NULL, &c, NULL), 0);
    dan_str_release(&doubts);
    dan_tokenizer_free(tok);
    dan_lm_release(&lm);
}

/* stories260K knows its own stories; neither Chinese nor Shakespeare. */
static void test_other_domain(void **state)
{
    (void)state;
    const char *dir = dan_env("DANLU_DATA");
    static const struct { const char *text; bool knows, unknown; } want[] = {
        {"text/en/tinystories_train.txt", true, false}, {"text/zh/zhwiki.txt", false, true}};
    char model[512], vocab[512], path[512];
    const char *paths[] = {path};
    struct dan_lm lm;
    struct dan_tokenizer *tok = NULL;
    struct dan_err e = {0};
    snprintf(model, sizeof model, "%s/ckpt/stories260K/stories260K.bin", dir ? dir : "../shared/data");
    snprintf(vocab, sizeof vocab, "%s/ckpt/stories260K/tok512.bin", dir ? dir : "../shared/data");
    if (!dan_path_exists(model)) skip();
    if (dan_lm_load(&lm, model, false, &e) || dan_tokenizer_load(vocab, &tok, &e)) fail_msg("%s", e.msg);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct dan_calibration c;
        struct dan_observed seen;
        struct dan_str doubts = {0};
        const int32_t bos = 1;
        snprintf(path, sizeof path, "%s/%s", dir ? dir : "../shared/data", want[i].text);
        if (!dan_path_exists(path)) continue;
        struct dan_calibration_opts o = {.sequences = 16, .length = 256, .prefix = &bos, .n_prefix = 1};
        if (dan_calibration_read(paths, 1, tok, &lm, &o, &c, &e) || dan_observe(&lm, &c.text, NULL, &seen, &e)) fail_msg("%s", e.msg);
        dan_calibration_doubts(&c, &seen, &doubts);
        if ((strstr(dan_str_c(&doubts), "does not know") == NULL) != want[i].knows || (strstr(dan_str_c(&doubts), "unknown") != NULL) != want[i].unknown)
            fail_msg("%s: %.3f nats; %s", want[i].text, seen.nats / (double)seen.targets, dan_str_c(&doubts));
        dan_str_release(&doubts);
        dan_calibration_release(&c);
    }
    dan_tokenizer_free(tok);
    dan_lm_release(&lm);
}

/* Bits per token of stories260K as static int8, with a channel made 64 times as large (64) or not (1), and with SmoothQuant at alpha or not (0). */
struct story { const char *model; struct dan_calibration cal; struct dan_shards *held_out; };

static double bits(const struct story *s, double outlier, double alpha, bool int8)
{
    struct dan_lm lm;
    struct dan_static scales;
    struct dan_eval_result r;
    struct dan_err e = {0};
    if (dan_lm_load(&lm, s->model, true, &e)) fail_msg("%s", e.msg);
    if (dan_quant_inject_outlier(&lm, 5, outlier, NULL, &e)) fail_msg("%s", e.msg);
    if (alpha > 0 && dan_smoothquant(&lm, &s->cal.text, &(struct dan_smooth_opts){.alpha = alpha}, &e)) fail_msg("%s", e.msg);
    if (dan_static_observe(&lm, &s->cal.text, &(struct dan_static_opts){.wants = no_head}, &scales, NULL, &e)) fail_msg("%s", e.msg);
    for (size_t i = 0; i < scales.n && int8; i++)
        if (dan_lm_quantize_rows(&lm, scales.v[i].name, &(struct dan_rows_format){.to = &dan_dtype_i8}, NULL, &e)) fail_msg("%s", e.msg);
    if (dan_static_apply(&scales, &lm, NULL, &e) || dan_eval(&lm, s->held_out, NULL, &r, &e)) fail_msg("%s", e.msg);
    dan_static_release(&scales);
    dan_lm_release(&lm);
    return r.loss / log(2);
}

/* The stories after those that calibrated. */
static struct dan_shards *held_out(const char *path, const struct dan_tokenizer *tok, int64_t skip, int64_t n)
{
    struct dan_text *t;
    struct dan_document d;
    struct dan_ids list = {0};
    struct dan_shards *out;
    int64_t doc[64];
    assert_int_equal(dan_text_open(&path, 1, NULL, &t, NULL), 0);
    for (int64_t i = 0; i < skip + n; i++) {
        assert_int_equal(dan_text_next(t, &d, NULL), 0);
        if (i < skip) continue;
        doc[i - skip] = (int64_t)list.n;
        dan_ids_push(&list, 1);
        assert_int_equal(dan_tokenizer_encode(tok, d.p, d.n, DAN_ENCODE_UNK, &list, NULL), 0);
    }
    assert_int_equal(dan_shards_of(list.v, (int64_t)list.n, doc, n, -1, &out, NULL), 0);
    dan_ids_release(&list);
    dan_text_free(t);
    return out;
}

static void test_outlier_of_a_real_model(void **state)
{
    (void)state;
    const char *dir = dan_env("DANLU_DATA");
    char model[512], vocab[512], path[512];
    const char *paths[] = {path};
    struct dan_tokenizer *tok = NULL;
    struct dan_lm lm;
    struct dan_err e = {0};
    struct story s = {.model = model};
    const int32_t bos = 1;
    snprintf(model, sizeof model, "%s/ckpt/stories260K/stories260K.bin", dir ? dir : "../shared/data");
    snprintf(vocab, sizeof vocab, "%s/ckpt/stories260K/tok512.bin", dir ? dir : "../shared/data");
    snprintf(path, sizeof path, "%s/text/en/tinystories_train.txt", dir ? dir : "../shared/data");
    if (!dan_path_exists(model) || !dan_path_exists(path)) skip();
    if (dan_lm_load(&lm, model, false, &e) || dan_tokenizer_load(vocab, &tok, &e)) fail_msg("%s", e.msg);
    struct dan_calibration_opts o = {.sequences = 16, .length = 256, .prefix = &bos, .n_prefix = 1};
    if (dan_calibration_read(paths, 1, tok, &lm, &o, &s.cal, &e)) fail_msg("%s", e.msg);
    s.held_out = held_out(path, tok, 1000, 20);
    double real = bits(&s, 1, 0, false), plain = bits(&s, 1, 0, true), broken = bits(&s, 64, 0, true), repaired = bits(&s, 64, 0.5, true);
    if (!(fabs(bits(&s, 64, 0, false) - real) < 1e-4 && plain < real + 0.03 && broken > real + 0.05 && repaired < plain + 0.005))
        fail_msg("bits: float %.4f, int8 %.4f, outlier %.4f, smoothed %.4f", real, plain, broken, repaired);
    dan_shards_free(s.held_out);
    dan_calibration_release(&s.cal);
    dan_tokenizer_free(tok);
    dan_lm_release(&lm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ranges), cmocka_unit_test(test_apply), cmocka_unit_test(test_calibration_text),
                                       cmocka_unit_test(test_other_domain), cmocka_unit_test(test_outlier_of_a_real_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
