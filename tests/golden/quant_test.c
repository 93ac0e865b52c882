/* quant/blocks.safetensors: ggml's quantiser, with and without an importance, and torch's 8-bit floats, to the bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "io/safetensors.h"

static struct dan_store *golden;

static int open_file(void **state)
{
    (void)state;
    struct dan_err e = {0};
    char path[512];
    snprintf(path, sizeof path, "%.*s/quant/blocks.safetensors", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
    if (dan_safetensors_open(path, &golden, &e)) fail_msg("%s", e.msg);
    return 0;
}

static int close_file(void **state)
{
    (void)state;
    dan_store_free(golden);
    return 0;
}

static const struct dan_tensor *tensor(const char *name)
{
    const struct dan_tensor *t = dan_store_find(golden, name);
    if (!t) fail_msg("no '%s' in the file", name);
    return t;
}

/* Rows of x, with the importance or without, are the bytes of `want`. */
static void check(const struct dan_dtype *t, const struct dan_tensor *want, const float *importance)
{
    const struct dan_tensor *x = tensor("x");
    int64_t n = dan_cols(x);
    size_t bytes = dan_dtype_bytes(t, n);
    unsigned char *got = dan_malloc(bytes);
    assert_non_null(got);
    assert_int_equal(dan_cols(want), bytes);
    for (int64_t r = 0; r < dan_rows(x); r++) {
        if (importance) t->from_f32_weighted(dan_row(x, r), importance, got, n);
        else t->from_f32(dan_row(x, r), got, n);
        for (size_t i = 0; i < bytes; i++)
            if (got[i] != ((unsigned char *)dan_row(want, r))[i])
                fail_msg("%s%s: row %d, block %zu, byte %zu", t->name, importance ? " with importance" : "", (int)r, i / t->bytes, i % t->bytes);
    }
    dan_free(got);
}

static void blocks_are_those_of_ggml(void **state)
{
    (void)state;
    int seen = 0;
    for (int i = 0; dan_dtypes[i]; i++) {
        const struct dan_dtype *t = dan_dtypes[i];
        if (t->block == 1 || t->gguf_id < 0) continue;         /* every format that GGUF names */
        check(t, tensor(t->name), NULL);
        seen++;
    }
    assert_int_equal(seen, 11);
}

static void weighted_blocks_are_those_of_ggml(void **state)
{
    (void)state;
    int seen = 0;
    for (int i = 0; dan_dtypes[i]; i++) {
        const struct dan_dtype *t = dan_dtypes[i];
        struct dan_str name = {0};
        if (t->block == 1 || t->gguf_id < 0 || !t->from_f32_weighted) continue;
        dan_str_printf(&name, "%s.weighted", t->name);
        check(t, tensor(dan_str_c(&name)), tensor("importance")->data);
        dan_str_release(&name);
        seen++;
    }
    assert_int_equal(seen, 10);
}

static void f8_is_torch(void **state)
{
    (void)state;
    const struct dan_dtype *t = dan_dtype_find("f8_e4m3");
    const struct dan_tensor *x = tensor("f8.x");
    const float *codes = tensor("f8.codes")->data;
    const uint8_t *want = tensor("f8.of_x")->data;
    for (int i = 0; i < 256; i++) {
        uint8_t code = (uint8_t)i;
        float got;
        t->to_f32(&code, &got, 1);
        if (isnan(codes[i]) ? !isnan(got) : memcmp(&got, &codes[i], 4)) fail_msg("code %d is %g, expected %g", i, (double)got, (double)codes[i]);
    }
    for (int64_t i = 0; i < dan_shape_count(&x->shape); i++) {
        uint8_t got;
        float v = ((const float *)x->data)[i];
        t->from_f32(&v, &got, 1);
        if (got != want[i]) fail_msg("%.9g is code %d, expected %d", (double)v, got, want[i]);
    }
    const float odd[] = {NAN, INFINITY, -INFINITY};
    uint8_t got[3];
    t->from_f32(odd, got, 3);
    for (int i = 0; i < 3; i++) assert_int_equal(got[i] & 0x7f, 0x7f);
}

/* An independent computation (levels of QLoRA, nearest in double): Python's random.seed(1), 64 of gauss(0, 0.02). */
static void nf4_has_the_known_error(void **state)
{
    static const float w[64] = {
        0.0257636951f, 0.0289889122f, 0.00132671618f, -0.015290873f, -0.0218434643f, 0.000626690337f,
        -0.0204420634f, -0.0287365889f, 0.00398623953f, 0.00266749209f, 0.010929366f, -0.0182794189f,
        0.000100105673f, -0.00129483521f, -0.03011658f, 0.0107599436f, 0.00641422202f, 0.0477822409f,
        0.00405938355f, -0.00289404616f, 0.0246551435f, 0.00397582496f, 0.0181806205f, -0.00731088532f,
        0.00436343627f, 0.0204857736f, 0.0139249404f, 0.00256944497f, -0.0216461605f, 0.00890443545f,
        0.00153726963f, 0.0144093519f, 0.00432465876f, 0.0217637082f, -0.00103120531f, 0.0040392812f,
        0.0133355288f, -0.0217376922f, -0.0080332052f, -0.0100005714f, 0.0396123144f, -0.00185724051f,
        0.0130444045f, 0.0123875012f, -0.0056174686f, -0.0310167365f, 0.0192968794f, -0.00814393539f,
        0.0143591331f, -0.0261052965f, -0.00875966004f, 0.0251364269f, 0.0286200798f, -0.0260491724f,
        -0.0266561496f, -0.000885288752f, 0.0145648265f, 0.00321009359f, 0.00607109416f, -0.0197767285f,
        0.0117358343f, 0.0223370468f, -0.00871345041f, -0.0286697613f,
    };
    (void)state;
    const struct dan_dtype *t = dan_dtype_find("nf4");
    unsigned char b[36] __attribute__((aligned(4)));
    float back[64];
    double error = 0, power = 0;
    t->from_f32(w, b, 64);
    t->to_f32(b, back, 64);
    for (int i = 0; i < 64; i++) {
        error += pow((double)back[i] - (double)w[i], 2);
        power += pow((double)w[i], 2);
    }
    assert_true(fabs(sqrt(error / power) - 0.0935589574) < 1e-7);
    static const float level[16] = {-1, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f,
                                    -0.18477343022823334f, -0.09105003625154495f, 0, 0.07958029955625534f, 0.16093020141124725f,
                                    0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1};
    float x[64] = {0};
    memcpy(x, level, sizeof level);
    t->from_f32(x, b, 64);
    t->to_f32(b, back, 64);
    assert_memory_equal(back, x, sizeof x);                    /* bitsandbytes' table */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(blocks_are_those_of_ggml), cmocka_unit_test(weighted_blocks_are_those_of_ggml),
                                       cmocka_unit_test(f8_is_torch), cmocka_unit_test(nf4_has_the_known_error)};
    return cmocka_run_group_tests(tests, open_file, close_file);
}
