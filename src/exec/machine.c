/* Measuring the machine. */
#include "exec/machine.h"
#include <string.h>
#include "base/mem.h"
#include "base/sys.h"
#include "kernel/probe.h"

enum { PIECE = 1 << 20, RUNS = 3 };

/* One timed run: every taking thread does `rounds` of a probe. */
struct run {
    struct dan_pool *pool;
    const struct dan_probe *probe;
    int sweep, takers;                         /* sweep -1: spin */
    int64_t rounds, piece, region, at;         /* a round is a sweep over a piece; the region of a thread is gone through in turn */
    char *memory;                              /* region bytes a thread */
    double seconds, start[64];                 /* a thread that begins late, because another program runs, does not shorten the run */
    float sink[64];                            /* keeps the loops alive */
};

/* Half a page apart: loads do not wait for stores at the same place of another page. */
static int64_t half_of(int64_t piece) { return piece / 2 / 4096 * 4096 - 2048; }

static bool two_places(int sweep) { return sweep == DAN_SWEEP_COPY || sweep == DAN_SWEEP_COPY_PAST; }

/* Bytes that one round moves. */
static double round_bytes(const struct run *r)
{
    if (two_places(r->sweep)) return 2.0 * (double)half_of(r->piece);
    return (double)r->piece * (r->sweep == DAN_SWEEP_UPDATE ? 2 : 1);
}

static float sweep_piece(const struct run *r, char *p, int64_t times)
{
    if (two_places(r->sweep)) return r->probe->sweep[r->sweep](p, p + half_of(r->piece), half_of(r->piece), times);
    return r->probe->sweep[r->sweep](p, p, r->piece, times);
}

static float sweep_rounds(const struct run *r, int ith)
{
    char *base = r->memory + r->region * ith;
    if (r->region == r->piece) return sweep_piece(r, base, r->rounds);
    float sum = 0;
    for (int64_t k = 0, at = r->at; k < r->rounds; k++, at = at + r->piece < r->region ? at + r->piece : 0)
        sum += sweep_piece(r, base + at, 1);
    return sum;
}

static void run_thread(void *ctx, int ith, int nth)
{
    struct run *r = ctx;
    struct dan_pool *barrier = nth > 1 && r->takers > 1 ? r->pool : NULL;
    dan_pool_barrier(barrier);
    double start = dan_now();
    float x = 0;
    if (ith < 64) r->start[ith] = start;
    if (ith < r->takers) x = r->sweep < 0 ? r->probe->spin(r->rounds) : sweep_rounds(r, ith);
    if (ith < 64) r->sink[ith] += x;
    dan_pool_barrier(barrier);
    if (ith != 0) return;
    for (int i = 1; i < r->takers && i < 64 && barrier; i++) start = r->start[i] < start ? r->start[i] : start;
    r->seconds = dan_now() - start;
}

static double run_once(struct run *r)
{
    dan_pool_run(r->takers > 1 ? r->pool : NULL, run_thread, r);
    int64_t pieces = r->region / (r->piece ? r->piece : 1);
    if (pieces > 1) r->at = (r->at / r->piece + r->rounds) % pieces * r->piece;
    return r->seconds;
}

/* Rounds/s of all takers: the best of a few runs within the slice of time. */
static double best_rate(struct run *r, double slice)
{
    double t = 0, best = 0, until = dan_now() + slice, aim = slice / (RUNS + 2);
    for (r->rounds = 1; (t = run_once(r)) < aim / 4 && r->rounds < INT64_C(1) << 40;)
        r->rounds = t > 1e-6 ? (int64_t)((double)r->rounds * (aim / 2 / t < 8 ? aim / 2 / t + 1 : 8)) : r->rounds * 8;
    for (int i = 0; i < RUNS || dan_now() < until; i++) {
        double rate = (double)r->rounds * r->takers / run_once(r);
        if (rate > best) best = rate;
    }
    return best;
}

static const struct dan_probe *pick_probe(enum dan_probe_kind kind, uint64_t cpu)
{
    const struct dan_probe *best = NULL;
    for (int i = 0; dan_probes[i]; i++) {
        const struct dan_probe *p = dan_probes[i];
        if (p->kind == kind && (p->needs & cpu) == p->needs && (!best || p->rank > best->rank)) best = p;
    }
    return best;
}

struct job { struct dan_machine *m; struct dan_pool *pool; uint64_t cpu; double slice; char *memory; int64_t bytes; };

static void measure_peaks(const struct job *j)
{
    static const enum dan_probe_kind kind[DAN_N_PEAKS] = {DAN_PROBE_F32, DAN_PROBE_BF16, DAN_PROBE_INT8};
    for (int k = 0; k < DAN_N_PEAKS; k++) {
        const struct dan_probe *p = pick_probe(kind[k], j->cpu);
        j->m->peak_by[k] = p ? p->name : NULL;
        for (int i = 0; p && i < j->m->n_points; i++) {
            struct run r = {.pool = j->pool, .probe = p, .sweep = -1, .takers = j->m->threads[i]};
            j->m->peak[k][i] = best_rate(&r, j->slice) * p->ops;
        }
    }
}

/* Bytes a thread goes through at a level: well inside the cache, well beyond the one below. */
static int64_t region_of(const struct job *j, enum dan_level level, int takers)
{
    const int64_t *c = j->m->cache;
    int64_t n = level == DAN_LEVEL_MEMORY ? j->bytes / takers : c[level] / 2;
    if (level == DAN_LEVEL_L3 && c[level] > 0) {
        n = c[level] / 2 / takers;
        if (n > 4 * c[DAN_LEVEL_L2]) n = 4 * c[DAN_LEVEL_L2];
        if (n < 2 * c[DAN_LEVEL_L2]) n = 0;    /* a share that L2 mostly holds says nothing about L3 */
    }
    if (n > j->bytes / takers) n = 0;
    return n > PIECE ? n / PIECE * PIECE : n / 4096 * 4096;
}

static double rate_of(const struct job *j, const struct dan_probe *p, int sweep, int64_t region, int takers)
{
    struct run r = {.pool = j->pool, .probe = p, .sweep = sweep, .takers = takers, .region = region, .memory = j->memory};
    r.piece = region < PIECE ? region : PIECE;
    return best_rate(&r, j->slice) * round_bytes(&r);
}

static void measure_flow(const struct job *j, const struct dan_probe *p, enum dan_flow flow, enum dan_level level, int point)
{
    static const int sweep[DAN_N_FLOWS] = {DAN_SWEEP_READ, DAN_SWEEP_WRITE, DAN_SWEEP_COPY, DAN_SWEEP_UPDATE};
    static const int past[DAN_N_FLOWS] = {-1, DAN_SWEEP_WRITE_PAST, DAN_SWEEP_COPY_PAST, -1};
    int64_t region = region_of(j, level, j->m->threads[point]);
    double *to = &j->m->bandwidth[flow][level][point], other;
    if (region < 8192) return;
    *to = rate_of(j, p, sweep[flow], region, j->m->threads[point]);
    if (level != DAN_LEVEL_MEMORY || past[flow] < 0 || !p->sweep[past[flow]]) return;
    other = rate_of(j, p, past[flow], region, j->m->threads[point]);
    if (other > *to) *to = other;
}

static void measure_memory(const struct job *j)
{
    const struct dan_probe *p = pick_probe(DAN_PROBE_MEMORY, j->cpu);
    int last = j->m->n_points - 1;
    j->m->moved_by = p->name;
    for (int f = 0; f < DAN_N_FLOWS; f++)
        for (int l = 0; l < DAN_N_LEVELS; l++)
            for (int i = 0; i <= last; i += last ? last : 1) measure_flow(j, p, f, l, i);
}

/* What L3 really holds for this process: others may share it, and virtual machines are told sizes that are not theirs.
 * Doubles the region until reading it is no longer nearer to L3's rate than to memory's. */
static void measure_l3(const struct job *j)
{
    const struct dan_probe *p = pick_probe(DAN_PROBE_MEMORY, j->cpu);
    int last = j->m->n_points - 1, takers = j->m->threads[last];
    int64_t region = region_of(j, DAN_LEVEL_L3, takers), *size = &j->m->cache[DAN_LEVEL_L3];
    if (region < 8192) return;
    double between = (j->m->bandwidth[DAN_FLOW_READ][DAN_LEVEL_L3][last] + j->m->bandwidth[DAN_FLOW_READ][DAN_LEVEL_MEMORY][last]) / 2;
    while (2 * region * takers <= *size && 2 * region * takers <= j->bytes && rate_of(j, p, DAN_SWEEP_READ, 2 * region, takers) > between)
        region *= 2;
    *size = region * takers;
}

/* Pages come from the system at their first touch. */
static void touch(void *ctx, int ith, int nth)
{
    const struct job *j = ctx;
    int64_t lo = j->bytes / nth * ith, hi = ith + 1 < nth ? j->bytes / nth * (ith + 1) : j->bytes;
    memset(j->memory + lo, 1, (size_t)(hi - lo));
}

static int64_t sweep_bytes(const struct dan_machine_opts *o, const struct dan_machine *m)
{
    if (o->memory_bytes > 0) return o->memory_bytes / PIECE * PIECE;
    int64_t last = 0, free_bytes = dan_memory_available(), n;
    for (int l = 0; l < DAN_LEVEL_MEMORY; l++)
        if (m->cache[l] > last) last = m->cache[l];
    n = 8 * last;                              /* cores may have a last cache each, and a virtual machine a share of a larger one */
    if (n < 512 * (int64_t)PIECE) n = 512 * (int64_t)PIECE;
    if (n > 2048 * (int64_t)PIECE) n = 2048 * (int64_t)PIECE;
    if (free_bytes > 0 && n > free_bytes / 8) n = free_bytes / 8;
    return n / PIECE * PIECE;
}

static void set_points(struct dan_machine *m, int n)
{
    for (int t = 1; t < n && m->n_points < DAN_MACHINE_POINTS - 1; t *= 2) m->threads[m->n_points++] = t;
    m->threads[m->n_points++] = n;
}

int dan_machine_measure(const struct dan_machine_opts *o, struct dan_machine *out, struct dan_err *e)
{
    struct dan_machine m = {0};
    struct job j = {.m = &m, .pool = o->pool, .cpu = dan_cpu_features()};
    if (o->cpu_mask) j.cpu &= o->cpu_mask;
    set_points(&m, dan_pool_size(o->pool));
    for (int l = 0; l < DAN_LEVEL_MEMORY; l++)
        if (dan_cache_bytes(l + 1) > 0) m.cache[l] = dan_cache_bytes(l + 1);
    j.bytes = sweep_bytes(o, &m);
    j.memory = j.bytes > 0 ? dan_huge_alloc((size_t)j.bytes) : NULL;
    if (!j.memory) return dan_fail(e, DAN_ENOMEM, "not enough memory to measure the machine; close other programs and try again");
    dan_pool_run(o->pool, touch, &j);
    int limits = DAN_N_PEAKS * m.n_points + (DAN_N_FLOWS * DAN_N_LEVELS + 2) * (m.n_points > 1 ? 2 : 1);
    j.slice = (o->seconds > 0 ? o->seconds : 1) / limits;
    measure_peaks(&j);
    measure_memory(&j);
    measure_l3(&j);
    dan_huge_free(j.memory, (size_t)j.bytes);
    *out = m;
    return DAN_OK;
}
