/* model.safetensors.index.json and two shards, whole files with a cut between them. */
#include "fuzz.h"
#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char *const names[] = {"model.safetensors.index.json", "a.safetensors", "b.safetensors"};
    struct dan_err e = {0};
    struct dan_store *s = NULL;
    fuzz_put_parts(p, n, names, 3);
    if (!fuzz_expect(dan_safetensors_open("mem", &s, &e), &e)) {
        fuzz_use_store(s);
        dan_store_free(s);
    }
    return 0;
}
