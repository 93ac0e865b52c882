#include "data/batches.h"
#include "base/mem.h"
#include "base/rng.h"

enum { ROUNDS = 6 };
static const uint64_t OFFSET_STREAM = UINT64_C(0x4f4646) << 40, ORDER_STREAM = UINT64_C(0x4f5244) << 40;   /* + epoch */

struct dan_batches {
    const struct dan_shards *s;
    int64_t  context, batch;
    uint64_t seed;
    /* the epoch that was asked for last */
    int64_t  epoch, first, count;              /* first: windows of all epochs before it */
    int64_t *before;                           /* [shards + 1] windows of the epoch in earlier shards */
    int64_t  known_step, known_targets;        /* a step's targets, counted once for all its micro-batches */
};

/* ---- epochs: pure functions of (seed, epoch) ---- */

/* The first window of a shard begins here.  Never so late that a shard with one window loses it. */
static int64_t offset_of(const struct dan_batches *b, int64_t epoch, size_t shard)
{
    int64_t slack = dan_shards_at(b->s, shard)->n - b->context;
    uint32_t u[4];
    dan_philox(b->seed, OFFSET_STREAM + (uint64_t)epoch, shard, u);
    uint64_t wide = (uint64_t)u[0] << 32 | u[1];
    return slack < 1 ? 0 : (int64_t)(wide % (uint64_t)(slack < b->context ? slack : b->context));
}

/* Windows begin at offset + k context and need one token more than their rows. */
static int64_t windows_of(const struct dan_batches *b, int64_t epoch, size_t shard)
{
    int64_t n = dan_shards_at(b->s, shard)->n;
    return n <= b->context ? 0 : (n - 1 - offset_of(b, epoch, shard)) / b->context;
}

int64_t dan_batches_windows(struct dan_batches *b, int64_t epoch)
{
    int64_t n = 0;
    for (size_t i = 0; i < dan_shards_count(b->s); i++) n += windows_of(b, epoch, i);
    return n;
}

static void enter_epoch(struct dan_batches *b, int64_t epoch, int64_t first)
{
    size_t n = dan_shards_count(b->s);
    b->before[0] = 0;
    for (size_t i = 0; i < n; i++) b->before[i + 1] = b->before[i] + windows_of(b, epoch, i);
    b->epoch = epoch;
    b->first = first;
    b->count = b->before[n];
}

/* Epochs differ by a window or two, so the one that holds window g is found by walking. */
static void seek(struct dan_batches *b, int64_t g)
{
    if (g < b->first) enter_epoch(b, 0, 0);
    while (g >= b->first + b->count) enter_epoch(b, b->epoch + 1, b->first + b->count);
}

/* A permutation of [0, count): Feistel network on the next even number of bits, walked until it lands
 * inside (Black and Rogaway 2002, "Ciphers with arbitrary finite domains"): fewer than 4 turns on average. */
static int64_t permute(const struct dan_batches *b, int64_t i)
{
    int half = 1;
    while (INT64_C(1) << (2 * half) < b->count) half++;
    const uint64_t mask = (UINT64_C(1) << half) - 1;
    uint64_t x = (uint64_t)i;
    do {
        uint64_t l = x >> half, r = x & mask;
        for (uint64_t k = 0; k < ROUNDS; k++) {
            uint32_t u[4];
            dan_philox(b->seed, ORDER_STREAM + (uint64_t)b->epoch, k << 32 | r, u);
            uint64_t swap = l ^ (u[0] & mask);
            l = r;
            r = swap;
        }
        x = l << half | r;
    } while (x >= (uint64_t)b->count);
    return (int64_t)x;
}

void dan_batches_where(struct dan_batches *b, int64_t step, int64_t k, size_t *shard, int64_t *token)
{
    int64_t g = step * b->batch + k;
    seek(b, g);
    int64_t w = permute(b, g - b->first);
    size_t lo = 0, hi = dan_shards_count(b->s);                   /* before[lo] <= w < before[hi] */
    while (hi - lo > 1) {
        size_t mid = (lo + hi) / 2;
        if (b->before[mid] <= w) lo = mid;
        else hi = mid;
    }
    *shard = lo;
    *token = offset_of(b, b->epoch, lo) + (w - b->before[lo]) * b->context;
}

double dan_batches_epoch(struct dan_batches *b, int64_t step)
{
    int64_t g = step * b->batch;
    seek(b, g);
    return (double)b->epoch + (double)(g - b->first) / (double)b->count;
}

int64_t dan_batches_targets(struct dan_batches *b, int64_t step)
{
    if (b->known_step == step) return b->known_targets;
    int64_t n = 0;
    for (int64_t k = 0; k < b->batch; k++) {
        size_t i;
        int64_t at;
        dan_batches_where(b, step, k, &i, &at);
        const struct dan_shard *s = dan_shards_at(b->s, i);
        n += b->context - (dan_shard_doc_of(s, at + b->context) - dan_shard_doc_of(s, at));   /* each document's first token is no target */
    }
    b->known_step = step;
    return b->known_targets = n;
}

/* ---- rows ---- */

struct lane { int64_t row0, step; };           /* row of position t: row0 + t * step; step 1 = packed */

static void put(int32_t *array, int64_t row, int64_t v)
{
    if (array) array[row] = (int32_t)v;
}

/* Tokens [from, to) of one document, whose end is `end`; t0: the window position of `from`. */
static int64_t fill_segment(const struct dan_shard *s, int64_t from, int64_t to, int64_t end, int64_t t0, struct lane lane,
                            struct dan_batch *out)
{
    int64_t targets = 0;
    for (int64_t i = from; i < to; i++) {
        int64_t row = lane.row0 + (t0 + i - from) * lane.step, target = i + 1 < end ? dan_shard_token(s, i + 1) : -1;
        put(out->tokens, row, dan_shard_token(s, i));
        put(out->targets, row, target);
        put(out->pos, row, i - from);
        put(out->reset, row, i == from);
        targets += i + 1 < end;
        if (lane.step != 1) continue;
        put(out->start, row, lane.row0 + t0);
        put(out->stop, row, lane.row0 + t0 + to - from);
        put(out->self, row, row);
    }
    return targets;
}

/* `rows` tokens from `at`, cut where documents end.  Returns how many have a target. */
static int64_t fill_window(const struct dan_shard *s, int64_t at, int64_t rows, struct lane lane, struct dan_batch *out)
{
    int64_t d = dan_shard_doc_of(s, at), targets = 0;
    for (int64_t from = at; from < at + rows; d++) {
        int64_t end = d + 1 < s->n_docs ? (int64_t)s->doc[d + 1] : s->n, to = end < at + rows ? end : at + rows;
        targets += fill_segment(s, from, to, end, from - at, lane, out);
        from = to;
    }
    return targets;
}

static void fill_weights(struct dan_batch *out, int64_t targets)
{
    float w = targets ? 1.0f / (float)targets : 0;
    for (int64_t i = 0; out->weights && i < out->rows; i++) out->weights[i] = out->targets[i] >= 0 ? w : 0;
}

void dan_batches_fill(struct dan_batches *b, int64_t step, int64_t first, int64_t count, enum dan_layout layout, struct dan_batch *out)
{
    out->rows = count * b->context;
    out->targets_n = 0;
    for (int64_t k = 0; k < count; k++) {
        struct lane lane = layout == DAN_PACKED ? (struct lane){k * b->context, 1} : (struct lane){k, count};
        size_t shard;
        int64_t at;
        dan_batches_where(b, step, first + k, &shard, &at);
        out->targets_n += fill_window(dan_shards_at(b->s, shard), at, b->context, lane, out);
    }
    fill_weights(out, dan_batches_targets(b, step));
}

int dan_batches_new(const struct dan_shards *s, int64_t context, int64_t batch, uint64_t seed, struct dan_batches **out, struct dan_err *e)
{
    int64_t longest = 0;
    for (size_t i = 0; i < dan_shards_count(s); i++)
        if (dan_shards_at(s, i)->n > longest) longest = dan_shards_at(s, i)->n;
    if (context < 1 || batch < 1)
        return dan_fail(e, DAN_EINVAL, "--context %lld and --batch %lld must be at least 1", (long long)context, (long long)batch);
    if (longest <= context)
        return dan_fail(e, DAN_EINVAL, "--context %lld needs %lld tokens in a row, but the training data has %lld: lower --context or give "
                        "more text", (long long)context, (long long)context + 1, (long long)longest);
    struct dan_batches *b = dan_calloc(1, sizeof *b);
    if (b) b->before = dan_calloc(dan_shards_count(s) + 1, sizeof *b->before);
    if (!b || !b->before) {
        dan_free(b);
        return dan_fail(e, DAN_ENOMEM, "out of memory for batches");
    }
    b->s = s;
    b->context = context;
    b->batch = batch;
    b->seed = seed;
    b->known_step = -1;
    enter_epoch(b, 0, 0);
    *out = b;
    return DAN_OK;
}

void dan_batches_free(struct dan_batches *b)
{
    if (!b) return;
    dan_free(b->before);
    dan_free(b);
}

/* ---- evaluation ---- */

static int64_t eval_windows(const struct dan_shard *s, int64_t context) { return (s->n - 1 + context - 1) / context; }

int64_t dan_eval_batches(const struct dan_shards *s, int64_t context, int64_t batch)
{
    int64_t n = 0;
    for (size_t i = 0; i < dan_shards_count(s); i++) n += eval_windows(dan_shards_at(s, i), context);
    return (n + batch - 1) / batch;
}

/* Window w of the split -> its shard and token; false when there is none. */
static bool eval_where(const struct dan_shards *s, int64_t context, int64_t w, size_t *shard, int64_t *at)
{
    for (*shard = 0; *shard < dan_shards_count(s); ++*shard) {
        int64_t n = eval_windows(dan_shards_at(s, *shard), context);
        *at = w * context;
        if (w < n) return true;
        w -= n;
    }
    return false;
}

static void fill_empty(struct dan_batch *out)
{
    for (int64_t i = 0; i < out->rows; i++) {
        put(out->tokens, i, 0);
        put(out->targets, i, -1);
        put(out->pos, i, 0);
        put(out->reset, i, 1);
    }
}

void dan_eval_fill(const struct dan_shards *s, int64_t context, int64_t batch, int64_t i, enum dan_layout layout, struct dan_batch *out)
{
    int64_t rows = 0, at;
    size_t shard;
    out->rows = context * batch;
    out->targets_n = 0;
    if (layout == DAN_TIME_MAJOR) fill_empty(out);
    for (int64_t k = 0; k < batch && eval_where(s, context, i * batch + k, &shard, &at); k++) {
        const struct dan_shard *sh = dan_shards_at(s, shard);
        int64_t n = sh->n - 1 - at < context ? sh->n - 1 - at : context;
        struct lane lane = layout == DAN_PACKED ? (struct lane){rows, 1} : (struct lane){k, batch};
        out->targets_n += fill_window(sh, at, n, lane, out);
        rows += n;
    }
    if (layout == DAN_PACKED) out->rows = rows;
    fill_weights(out, out->targets_n);
}
