/* model.safetensors.index.json and two shards, with a cut between them. */
#include "fuzz.h"
#include "io/safetensors.h"

static void put_files(const uint8_t *p, size_t n)
{
    static const char *const shards[] = {"a.safetensors", "b.safetensors"};
    struct fuzz_input in = {p, n}, part;
    fuzz_clear();
    if (fuzz_next(&in, &part)) fuzz_put("model.safetensors.index.json", part.p, part.n);
    for (int i = 0; i < 2 && fuzz_next(&in, &part); i++) fuzz_put_safetensors(shards[i], part.p, part.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct dan_err e = {0};
    struct dan_store *s = NULL;
    put_files(p, n);
    if (!fuzz_expect(dan_safetensors_open("mem", &s, &e), &e)) {
        fuzz_use_store(s);
        dan_store_free(s);
    }
    return 0;
}
