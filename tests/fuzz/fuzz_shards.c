/* A token shard. */
#include "data/shards.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char *const names[] = {"train-00000.bin", "train-00001.bin"};
    struct dan_err e = {0};
    struct dan_shards *s = NULL;
    fuzz_put_parts(p, n, names, 2);
    if (fuzz_expect(dan_shards_open("mem", "train", &s, &e), &e)) return 0;
    for (size_t i = 0; i < dan_shards_count(s); i++) {
        const struct dan_shard *one = dan_shards_at(s, i);
        int64_t step = one->n / 16 + 1;
        for (int64_t k = 0; k < one->n; k += step) {
            volatile int32_t id = dan_shard_token(one, k);
            int64_t doc = dan_shard_doc_of(one, k);
            (void)id;
            DAN_ASSERT(doc >= 0 && doc < one->n_docs);
        }
    }
    fuzz_expect(dan_shards_verify(s, &e), &e);
    dan_shards_free(s);
    return 0;
}
