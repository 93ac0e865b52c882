/* One safetensors file.  An input that begins with '{' is a header and, behind a cut, data: its length is put in front,
 * so that a mutation of the header need not guess it. */
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "fuzz.h"
#include "io/safetensors.h"

static void put_with_length(const uint8_t *p, size_t n)
{
    struct fuzz_input in = {p, n}, head, data = {0};
    fuzz_next(&in, &head);
    fuzz_next(&in, &data);
    uint8_t *file = malloc(8 + head.n + data.n);
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)head.n >> 8 * i);
    memcpy(file + 8, head.p, head.n);
    if (data.n) memcpy(file + 8 + head.n, data.p, data.n);
    fuzz_put("x.safetensors", file, 8 + head.n + data.n);
    free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct dan_err e = {0};
    struct dan_store *s = NULL;
    fuzz_clear();
    if (n && p[0] == '{') put_with_length(p, n);
    else fuzz_put("x.safetensors", p, n);
    if (!fuzz_expect(dan_safetensors_open("mem/x.safetensors", &s, &e), &e)) {
        fuzz_use_store(s);
        dan_store_free(s);
    }
    char *value = NULL;
    e = (struct dan_err){0};
    if (!fuzz_expect(dan_safetensors_meta("mem/x.safetensors", "format", &value, &e), &e)) dan_free(value);
    return 0;
}
