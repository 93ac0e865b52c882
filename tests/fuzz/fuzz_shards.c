/* Token shards: one or two, with a cut between them, and data.json, which says how many. */
#include <stdio.h>
#include <string.h>
#include "data/shards.h"
#include "fuzz.h"

static void put_files(const uint8_t *p, size_t n)
{
    static const char *const names[] = {"train-00000.bin", "train-00001.bin"};
    char json[64];
    bool two = n && memmem(p, n, FUZZ_CUT, sizeof FUZZ_CUT - 1);
    fuzz_put_parts(p, n, names, 2);
    fuzz_put("data.json", json, (size_t)snprintf(json, sizeof json, "{\"splits\":{\"train\":{\"shards\":%d}}}", two ? 2 : 1));
}

static void use_shard(const struct dan_shard *s)
{
    int64_t step = s->n / 16 + 1;
    for (int64_t k = 0; k < s->n; k += step) {
        volatile int32_t id = dan_shard_token(s, k);
        int64_t doc = dan_shard_doc_of(s, k);
        (void)id;
        DAN_ASSERT(doc >= 0 && doc < s->n_docs);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct dan_err e = {0};
    struct dan_shards *s = NULL;
    put_files(p, n);
    if (fuzz_expect(dan_shards_open("mem", "train", &s, &e), &e)) return 0;
    for (size_t i = 0; i < dan_shards_count(s); i++) use_shard(dan_shards_at(s, i));
    fuzz_expect(dan_shards_verify(s, &e), &e);
    dan_shards_free(s);
    return 0;
}
