/* A model folder with bf16 matrices: used as they lie in the file, or copied to f32 for training; quantised from either. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "model/lm.h"
#include "model/quantize.h"

static struct dan_err e;
static char dir[] = "/tmp/danlu-bf16-XXXXXX";
#define OK(call) do { if (call) fail_msg("%s", e.msg); } while (0)

static void to_bf16(struct dan_lm *lm, const char *name)
{
    struct dan_store *made;
    const struct dan_tensor from = *dan_store_find(lm->store, name);
    OK(dan_store_new(&made, &e));
    OK(dan_store_add(made, name, &dan_dtype_bf16, from.shape, &e));
    dan_dtype_bf16.from_f32(from.data, dan_store_find(made, name)->data, dan_shape_count(&from.shape));
    OK(dan_store_share(lm->store, name, made, name, &e));
    dan_store_free(made);
}

/* A small LLaMA whose matrices are bf16, in a folder. */
static int write_model(void **state)
{
    struct dan_lm lm;
    struct dan_lm_config cfg = {.vocab = 50, .context = 32, .hidden = 64, .layers = 2, .heads = 4, .kv_heads = 2, .bos = -1, .eos = -1};
    (void)state;
    if (!mkdtemp(dir)) return -1;
    OK(dan_lm_init(&lm, dan_model_find("llama"), &cfg, 3, &e));
    for (size_t i = 0; i < dan_store_count(lm.store); i++)
        if (dan_store_at(lm.store, i)->shape.n == 2) to_bf16(&lm, dan_store_name(lm.store, i));
    OK(dan_lm_save(&lm, dir, &e));
    dan_lm_release(&lm);
    return 0;
}

static int remove_model(void **state)
{
    (void)state;
    return dan_remove_tree(dir, &e);
}

static void matrices_stay_as_they_are(void **state)
{
    struct dan_lm lm;
    struct dan_graph *g;
    struct dan_io io = {.max_rows = 4, .logits = true, .max_select = 1, .cache_rows = 8};
    int products = 0;
    (void)state;
    OK(dan_lm_load(&lm, dir, false, &e));
    for (size_t i = 0; i < dan_store_count(lm.store); i++) {
        const struct dan_tensor *t = dan_store_at(lm.store, i);
        assert_ptr_equal(t->dtype, t->shape.n == 2 ? &dan_dtype_bf16 : &dan_dtype_f32);
    }
    OK(dan_lm_graph(&lm, &io, DAN_PIPELINE_INFER, NULL, &g, &e));
    for (int32_t i = 1; i < g->n; i++) {
        if (!dan_op_is(&g->node[i], "matmul")) continue;
        assert_int_equal(g->node[i].attr[DAN_MATMUL_PREC].i, DAN_PREC_BF16);
        products++;
    }
    assert_true(products > 8);
    dan_graph_free(g);
    dan_lm_release(&lm);
}

static void training_gets_f32(void **state)
{
    struct dan_lm lm, as_is;
    float row[64];
    (void)state;
    OK(dan_lm_load(&lm, dir, true, &e));
    OK(dan_lm_load(&as_is, dir, false, &e));
    for (size_t i = 0; i < dan_store_count(lm.store); i++) {
        const struct dan_tensor *t = dan_store_at(lm.store, i), *b = dan_store_find(as_is.store, dan_store_name(lm.store, i));
        assert_ptr_equal(t->dtype, &dan_dtype_f32);
        b->dtype->to_f32(b->data, row, 50);
        assert_memory_equal(t->data, row, 50 * sizeof *row);
    }
    dan_lm_release(&lm);
    dan_lm_release(&as_is);
}

static void quantised_from_bf16_as_from_f32(void **state)
{
    struct dan_lm lm, as_is;
    (void)state;
    OK(dan_lm_load(&lm, dir, true, &e));
    OK(dan_lm_load(&as_is, dir, false, &e));
    OK(dan_lm_quantize(&lm, &dan_dtype_q8_0, NULL, NULL, &e));
    OK(dan_lm_quantize(&as_is, &dan_dtype_q8_0, NULL, NULL, &e));
    for (size_t i = 0; i < dan_store_count(lm.store); i++) {
        const struct dan_tensor *x = dan_store_at(lm.store, i), *y = dan_store_find(as_is.store, dan_store_name(lm.store, i));
        assert_ptr_equal(x->dtype, x->shape.n == 2 ? &dan_dtype_q8_0 : &dan_dtype_f32);
        assert_ptr_equal(x->dtype, y->dtype);
        assert_memory_equal(x->data, y->data, dan_tensor_bytes(x));
    }
    dan_lm_release(&lm);
    dan_lm_release(&as_is);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(matrices_stay_as_they_are), cmocka_unit_test(training_gets_f32),
                                       cmocka_unit_test(quantised_from_bf16_as_from_f32)};
    return cmocka_run_group_tests(tests, write_model, remove_model);
}
