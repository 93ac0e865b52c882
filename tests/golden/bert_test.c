/* bert/ and roberta/ against transformers: last layer, pooler, classification and masked-LM heads, over sentences of
 * mixed length that share a run, in f32; fused and not, 1 and 3 threads; what company does to the bits (nothing). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "infer/encode.h"
#include "io/safetensors.h"
#include "text/tokenizer.h"

static const double TOLERANCE = 1e-5;                  /* absolute up to 1, relative above */

struct golden { const char *dir; struct dan_encoder enc; struct dan_store *values; struct dan_sentences x; };

static const struct dan_tensor *value(const struct golden *g, const char *name)
{
    const struct dan_tensor *t = dan_store_find(g->values, name);
    if (!t) fail_msg("golden.safetensors of %s has no '%s'", g->dir, name);
    return t;
}

static struct golden open_golden(const char *dir, enum dan_prec prec)
{
    struct golden g = {.dir = dir};
    struct dan_err e = {0};
    char path[512], root[400];
    snprintf(root, sizeof root, "%.*s", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
    snprintf(path, sizeof path, "%s/%s", root, dir);
    if (dan_encoder_load(&g.enc, path, prec, &e)) fail_msg("%s", e.msg);
    snprintf(path, sizeof path, "%s/%s/golden.safetensors", root, dir);
    if (dan_safetensors_open(path, &g.values, &e)) fail_msg("%s", e.msg);
    const struct dan_tensor *start = value(&g, "start");
    g.x = (struct dan_sentences){value(&g, "ids")->data, value(&g, "types")->data, start->data, start->shape.d[0] - 1};
    return g;
}

static void close_golden(struct golden *g)
{
    dan_store_free(g->values);
    dan_encoder_release(&g->enc);
}

static float *encode(struct golden *g, const struct dan_encode_opts *o, const struct dan_sentences *x, int64_t *n)
{
    struct dan_encode *s;
    struct dan_err e = {0};
    if (dan_encode_new(&g->enc, o, &s, &e)) fail_msg("%s: %s", g->dir, e.msg);
    *n = (dan_encode_per_token(s) ? x->start[x->n] - x->start[0] : x->n) * dan_encode_width(s);
    float *y = dan_malloc((size_t)*n * sizeof *y);
    if (dan_encode_run(s, x, y, &e)) fail_msg("%s: %s", g->dir, e.msg);
    dan_encode_free(s);
    return y;
}

static void compare(const struct golden *g, const char *what, const float *y, int64_t n, double tolerance)
{
    const struct dan_tensor *t = value(g, what);
    const float *want = t->data;
    assert_int_equal(n, dan_shape_count(&t->shape));
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)y[i] - want[i]) <= tolerance * fmax(1, fabs((double)want[i]))))
            fail_msg("%s: %s[%d] is %.9g, expected %.9g", g->dir, what, (int)i, (double)y[i], (double)want[i]);
}

static const struct { const char *name; enum dan_pooling pooling; } outputs[] = {
    {"hidden", DAN_POOL_HIDDEN}, {"pooled", DAN_POOL_POOLER}, {"classes", DAN_POOL_CLASSES}, {"words", DAN_POOL_WORDS}};

static void check_outputs(struct golden *g)
{
    struct dan_err e = {0};
    struct dan_pool *pool;
    if (dan_pool_new(3, &pool, &e)) fail_msg("%s", e.msg);
    for (size_t i = 0; i < 4; i++)
        for (int variant = 0; variant < 4; variant++) {
            struct dan_encode_opts o = {.pooling = outputs[i].pooling, .fusion = variant == 1 ? "off" : "on",
                                        .pool = variant == 2 ? pool : NULL, .ref = variant == 3, .max_rows = 40};
            int64_t n;
            float *y = encode(g, &o, &g->x, &n);
            compare(g, outputs[i].name, y, n, TOLERANCE);
            dan_free(y);
        }
    dan_pool_free(pool);
}

/* The mean, the first row and the maximum of "hidden", by hand. */
static void check_pooling(struct golden *g)
{
    const float *hidden = value(g, "hidden")->data;
    int64_t c = g->enc.cfg.hidden, n;
    for (int p = DAN_POOL_MEAN; p <= DAN_POOL_MAX; p++) {
        struct dan_encode_opts o = {.pooling = (enum dan_pooling)p, .normalize = true};
        float *y = encode(g, &o, &g->x, &n);
        for (int64_t s = 0; s < g->x.n; s++) {
            double want[64] = {0}, norm = 0;
            for (int64_t i = 0; i < c; i++) {
                want[i] = p == DAN_POOL_MEAN ? 0 : (double)hidden[g->x.start[s] * c + i];
                for (int64_t r = g->x.start[s]; r < g->x.start[s + 1]; r++) {
                    if (p == DAN_POOL_MEAN) want[i] += (double)hidden[r * c + i] / (double)(g->x.start[s + 1] - g->x.start[s]);
                    if (p == DAN_POOL_MAX) want[i] = fmax(want[i], (double)hidden[r * c + i]);
                }
                norm += want[i] * want[i];
            }
            for (int64_t i = 0; i < c; i++)
                if (!(fabs((double)y[s * c + i] - want[i] / sqrt(norm)) < TOLERANCE)) fail_msg("pooling %d of sentence %d", p, (int)s);
        }
        dan_free(y);
    }
}

/* A sentence alone and among others: the same bytes. */
static void check_company(struct golden *g)
{
    struct dan_encode_opts o = {.pooling = DAN_POOL_HIDDEN};
    int64_t n, m, c = g->enc.cfg.hidden;
    float *all = encode(g, &o, &g->x, &n);
    for (int64_t s = 0; s < g->x.n; s++) {
        struct dan_sentences one = {g->x.ids, g->x.type, g->x.start + s, 1};
        float *y = encode(g, &o, &one, &m);
        assert_memory_equal(y, all + g->x.start[s] * c, (size_t)m * sizeof *y);
        dan_free(y);
    }
    dan_free(all);
}

/* From text: the model's own tokenizer and template, then the mean. */
static void check_texts(struct golden *g)
{
    char path[512], *text;
    size_t n;
    struct dan_err e = {0};
    struct dan_tokenizer *t;
    struct dan_ids ids = {0};
    int64_t start[16] = {0}, k = 0, m;
    snprintf(path, sizeof path, "%.*s/%s", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__, g->dir);
    if (dan_tokenizer_load(path, &t, &e)) fail_msg("%s", e.msg);
    strncat(path, "/texts.txt", sizeof path - strlen(path) - 1);
    if (dan_read_file(path, &text, &n, &e)) fail_msg("%s", e.msg);
    for (char *p = text, *end; p < text + n; p = end + 1) {
        end = memchr(p, '\n', (size_t)(text + n - p));
        dan_ids_push(&ids, dan_tokenizer_before(t)->v[0]);
        if (dan_tokenizer_encode(t, p, (size_t)(end - p), 0, &ids, &e)) fail_msg("%s", e.msg);
        dan_ids_push(&ids, dan_tokenizer_after(t)->v[0]);
        start[++k] = (int64_t)ids.n;
    }
    assert_int_equal(k, value(g, "text.start")->shape.d[0] - 1);
    assert_int_equal(ids.n, value(g, "text.ids")->shape.d[0]);
    assert_memory_equal(ids.v, value(g, "text.ids")->data, ids.n * sizeof *ids.v);
    float *y = encode(g, &(struct dan_encode_opts){.pooling = DAN_POOL_MEAN}, &(struct dan_sentences){ids.v, NULL, start, k}, &m);
    compare(g, "text.mean", y, m, TOLERANCE);
    dan_free(y);
    dan_free(text);
    dan_ids_release(&ids);
    dan_tokenizer_free(t);
}

static double cosine(const float *a, const float *b, int64_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < n; i++) ab += (double)a[i] * b[i], aa += (double)a[i] * a[i], bb += (double)b[i] * b[i];
    return ab / sqrt(aa * bb);
}

static void check_all(const char *dir)
{
    struct golden g = open_golden(dir, DAN_PREC_F32);
    assert_true(g.enc.pooler && g.enc.classifier && g.enc.masked_lm);
    check_outputs(&g);
    check_pooling(&g);
    check_company(&g);
    check_texts(&g);
    close_golden(&g);
}

/* Operands of 8 bits of mantissa: an angle of about 1 % between the vectors. */
static void check_bf16(const char *dir)
{
    struct golden g = open_golden(dir, DAN_PREC_BF16);
    struct dan_encode_opts o = {.pooling = DAN_POOL_HIDDEN, .prec = DAN_PREC_BF16};
    int64_t n, c = g.enc.cfg.hidden;
    float *y = encode(&g, &o, &g.x, &n);
    const float *want = value(&g, "hidden")->data;
    for (int64_t r = 0; r < n / c; r++)
        if (!(cosine(y + r * c, want + r * c, c) > 0.999)) fail_msg("%s: row %d in bf16 is off by more than 2.6 degrees", dir, (int)r);
    dan_free(y);
    close_golden(&g);
}

static void test_bert(void **state) { (void)state; check_all("bert"); }
static void test_roberta(void **state) { (void)state; check_all("roberta"); }
static void test_bf16(void **state) { (void)state; check_bf16("bert"), check_bf16("roberta"); }

static void refused(struct dan_encode *s, int32_t *ids, int64_t n, const char *part)
{
    struct dan_err e = {0};
    float out[64];
    int64_t start[] = {0, n};
    assert_int_equal(dan_encode_run(s, &(struct dan_sentences){ids, NULL, start, 1}, out, &e), DAN_EINVAL);
    if (!strstr(e.msg, part)) fail_msg("%s", e.msg);
}

static void test_refusals(void **state)
{
    (void)state;
    struct golden g = open_golden("roberta", DAN_PREC_F32);
    struct dan_encode *s;
    struct dan_err e = {0};
    int32_t ids[40] = {0};
    assert_int_equal(dan_encoder_max_tokens(&g.enc), 32);
    if (dan_encode_new(&g.enc, &(struct dan_encode_opts){.pooling = DAN_POOL_CLS}, &s, &e)) fail_msg("%s", e.msg);
    refused(s, ids, 0, "has 0 tokens");
    refused(s, ids, 33, "1 to 32");
    ids[3] = 300;
    refused(s, ids, 5, "vocabulary of 300");
    ids[3] = -1;
    refused(s, ids, 5, "vocabulary of 300");
    dan_encode_free(s);
    g.enc.pooler = false;
    assert_int_equal(dan_encode_new(&g.enc, &(struct dan_encode_opts){.pooling = DAN_POOL_POOLER}, &s, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "has no pooler"));
    close_golden(&g);
}

/* A config that promises more than the weights hold fails before anything is built. */
static void broken_config(const char *from, const char *to, const char *part)
{
    char path[512], *text, *at, dir[] = "/tmp/danlu-bert-XXXXXX";
    size_t n;
    struct dan_err e = {0};
    struct dan_encoder enc;
    struct dan_str s = {0};
    static const char *const files[] = {"config.json", "model.safetensors"};
    if (!mkdtemp(dir)) fail();
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%.*s/bert/%s", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__, files[i]);
        if (dan_read_file(path, &text, &n, &e)) fail_msg("%s", e.msg);
        dan_str_clear(&s);
        at = i == 0 ? strstr(text, from) : NULL;
        dan_str_append(&s, text, at ? (size_t)(at - text) : n);
        if (at) dan_str_printf(&s, "%s%s", to, at + strlen(from));
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        if (dan_write_file(path, s.p, s.n, &e)) fail_msg("%s", e.msg);
        dan_free(text);
    }
    assert_int_not_equal(dan_encoder_load(&enc, dir, DAN_PREC_F32, &e), 0);
    if (!strstr(e.msg, part)) fail_msg("%s", e.msg);
    dan_str_release(&s);
    dan_remove_tree(dir, &e);
}

static void test_hostile(void **state)
{
    (void)state;
    broken_config("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 2000", "num_hidden_layers is 2000");
    broken_config("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 2000000000", "1 to 4096");
    broken_config("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "encoder.layer.2.");
    broken_config("\"hidden_size\": 32", "\"hidden_size\": 16777212", "has shape");
    broken_config("\"hidden_size\": 32", "\"hidden_size\": 2147483644", "1 to 16777216");
    broken_config("\"vocab_size\": 96", "\"vocab_size\": -1", "'vocab_size' is -1");
    broken_config("\"num_attention_heads\": 4", "\"num_attention_heads\": 5", "does not divide");
    broken_config("\"hidden_act\": \"gelu\"", "\"hidden_act\": \"relu\"", "'hidden_act' (relu)");
    broken_config("\"is_decoder\": false", "\"is_decoder\": true", "'is_decoder'");
    broken_config("\"model_type\": \"bert\"", "\"model_type\": \"electra\"", "model_type 'electra'");
    broken_config("\"model_type\": \"bert\",", "\"position_embedding_type\": \"relative_key\", \"model_type\": \"bert\",",
                  "'position_embedding_type'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bert), cmocka_unit_test(test_roberta), cmocka_unit_test(test_bf16),
                                       cmocka_unit_test(test_refusals), cmocka_unit_test(test_hostile)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
