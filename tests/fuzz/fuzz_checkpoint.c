/* A checkpoint's manifest, state and tensors. */
#include "base/mem.h"
#include "fuzz.h"
#include "io/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char *const names[] = {"manifest.json", "state.json", "tensors.safetensors"};
    struct dan_err e = {0};
    struct dan_store *s = NULL;
    char *state = NULL;
    fuzz_put_parts(p, n, names, 3);
    if (!fuzz_expect(dan_checkpoint_load("mem", &s, &state, &e), &e)) {
        fuzz_use_store(s);
        dan_store_free(s);
        dan_free(state);
    }
    return 0;
}
