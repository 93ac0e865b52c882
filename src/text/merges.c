/* The table of merges: open addressing in large pages, and a bit for every place that a merge hashes to. */
#include "base/mem.h"
#include "text/impl.h"

int dan_merges_new(struct dan_tokenizer *t, size_t n, size_t n_ranks)
{
    uint64_t cap = 16;
    while (cap < n * 2) cap *= 2;
    t->merge_mask = cap - 1;
    t->merge_seen_mask = 4 * cap - 1;          /* 8 to 16 for each */
    t->merge = dan_huge_alloc(cap * sizeof *t->merge);         /* looked up at random: large pages halve the time */
    t->merge_seen = dan_calloc((4 * cap + 63) / 64, sizeof *t->merge_seen);
    t->byte_pair_rank = dan_malloc(65536 * sizeof *t->byte_pair_rank);
    t->merge_id = dan_malloc((n_ranks + 1) * sizeof *t->merge_id);
    if (!t->merge || !t->merge_seen || !t->byte_pair_rank || !t->merge_id) return -1;
    for (uint64_t i = 0; i < cap; i++) t->merge[i].key = UINT64_MAX;
    for (int i = 0; i < 65536; i++) t->byte_pair_rank[i] = DAN_NO_RANK;
    return 0;
}

static void put_byte_pair(struct dan_tokenizer *t, struct dan_merge m)
{
    size_t a, b;
    int32_t left = (int32_t)(m.key >> 32), right = (int32_t)m.key;
    const char *p = dan_tokenizer_token(t, left, &a), *q = dan_tokenizer_token(t, right, &b);
    if (a == 1 && b == 1 && t->byte_id[(unsigned char)*p] == left && t->byte_id[(unsigned char)*q] == right)
        t->byte_pair_rank[(unsigned char)*p << 8 | (unsigned char)*q] = m.rank;
}

void dan_merges_put(struct dan_tokenizer *t, struct dan_merge m)
{
    uint64_t h = dan_merge_hash(m.key), i = h >> 20 & t->merge_mask, bit = h >> 36 & t->merge_seen_mask;
    t->merge_seen[bit >> 6] |= UINT64_C(1) << (bit & 63);
    while (t->merge[i].key != UINT64_MAX && t->merge[i].key != m.key) i = (i + 1) & t->merge_mask;
    t->merge[i] = m;
    put_byte_pair(t, m);
}
