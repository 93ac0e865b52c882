/* Whether two texts share passages: a model must not be measured on what its quantisation was fitted to. */
#include <stdlib.h>
#include <string.h>
#include "base/map.h"
#include "base/mem.h"
#include "quant/job.h"

enum { RUN = 16 };

static int64_t runs_of(const struct dan_sequences *s, int64_t i)
{
    int64_t n = s->start[i + 1] - s->start[i];
    return n >= RUN ? n - RUN + 1 : 0;
}

static int64_t count_runs(const struct dan_sequences *s)
{
    int64_t n = 0;
    for (int64_t i = 0; i < s->n; i++) n += runs_of(s, i);
    return n;
}

static uint64_t run_at(const struct dan_sequences *s, int64_t at) { return dan_hash(s->ids + at, RUN * sizeof *s->ids, 0); }

static int by_hash(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int64_t count_shared(const struct dan_sequences *b, const uint64_t *hash, size_t n)
{
    int64_t shared = 0;
    for (int64_t i = 0; i < b->n; i++)
        for (int64_t k = 0; k < runs_of(b, i); k++) {
            uint64_t h = run_at(b, b->start[i] + k);
            shared += bsearch(&h, hash, n, sizeof *hash, by_hash) != NULL;
        }
    return shared;
}

int dan_sequences_overlap(const struct dan_sequences *a, const struct dan_sequences *b, double *out, struct dan_err *e)
{
    int64_t n = count_runs(a), m = count_runs(b), at = 0;
    *out = 0;
    if (!n || !m) return DAN_OK;
    uint64_t *hash = dan_malloc((size_t)n * sizeof *hash);
    if (!hash) return dan_fail(e, DAN_ENOMEM, "not enough memory to compare two texts");
    for (int64_t i = 0; i < a->n; i++)
        for (int64_t k = 0; k < runs_of(a, i); k++) hash[at++] = run_at(a, a->start[i] + k);
    qsort(hash, (size_t)n, sizeof *hash, by_hash);
    *out = (double)count_shared(b, hash, (size_t)n) / (double)m;
    dan_free(hash);
    return DAN_OK;
}
