/* llama2.c's checkpoints.  Input that begins with '+' is a header's numbers as text ("+hidden ffn layers heads kv_heads vocab
 * context group", the last 0: the old layout); weights follow, as many as the model needs, up to 8 KiB. */
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "fuzz.h"
#include "io/llama2c.h"

enum { HEADER = 256, MAX_BYTES = 1 << 13 };

static int64_t floats_of(const int64_t v[8])
{
    int64_t c = v[0], d = v[3] ? c / v[3] : 0, vocab = llabs(v[5]), layer = 2 * c + 2 * c * c + 2 * c * d * v[4] + 3 * c * v[1];
    return vocab * c * (v[5] < 0 ? 2 : 1) + v[2] * layer + c + v[6] * d;
}

/* Bytes 0, 1, 2 ... behind what is there, n in all or as many as there may be. */
static void put_weights(struct dan_str *out, int64_t n)
{
    static char weights[MAX_BYTES];
    if (!weights[1])
        for (int i = 0; i < MAX_BYTES; i++) weights[i] = (char)i;
    if (n > 0) dan_str_append(out, weights, (size_t)(n < MAX_BYTES ? n : MAX_BYTES));
}

static void put_file(const char *text)
{
    static const char zeros[HEADER];
    struct dan_str out = {0};
    int64_t v[8] = {0};
    char *end = (char *)(uintptr_t)text;
    for (int i = 0; i < 8; i++) v[i] = strtoll(end, &end, 10) % 4096;
    bool old = v[7] == 0;
    const uint32_t head[2] = {0x616b3432, v[7] == 1 ? 1 : 2};
    if (!old) dan_str_append(&out, head, 8);
    for (int i = 0; i < 7; i++) dan_str_append(&out, &(int32_t){(int32_t)v[i]}, 4);
    if (!old) dan_str_putc(&out, *end);
    if (!old) dan_str_append(&out, &(int32_t){(int32_t)v[7]}, 4);
    if (!old) dan_str_append(&out, zeros, HEADER - out.n);
    put_weights(&out, old || v[7] == 1 ? 4 * floats_of(v) : floats_of(v) + 4 * floats_of(v) / llabs(v[7]));
    fuzz_put("model.bin", out.p, out.n);
    dan_str_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct dan_err e = {0};
    struct dan_llama2c head;
    struct dan_store *s = NULL;
    fuzz_clear();
    if (n && p[0] == '+') {
        char text[128] = "";
        memcpy(text, p + 1, n - 1 < 127 ? n - 1 : 127);
        put_file(text);
    } else fuzz_put("model.bin", p, n);
    dan_llama2c_is("mem/model.bin");
    if (fuzz_expect(dan_llama2c_open("mem/model.bin", &head, &s, &e), &e)) return 0;
    fuzz_use_store(s);
    dan_store_free(s);
    return 0;
}
