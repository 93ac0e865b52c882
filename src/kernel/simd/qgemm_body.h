/* y[M,N] = x[M,K] b[N,K]^T with b in a block format, in integers; the epilogue of the op matmul.  After qformat_NAME.h and qgemm_ISA.h.
 *
 * Activations are quantised to int8 per row and group of 32 (scale max|x| / 127, to nearest even), by all threads together.  The sum of a
 * group is an integer, the same on every ISA; the f32 sum over the groups of K is one fma a scale (and one a minimum), in
 * order.  So the bits of an element depend on its row, its column and K only: not on M, threads, or whether b was packed before.
 *
 * Few rows read packed panels (qformat.h) once, at the memory's speed.  Many rows: CHUNK groups of a panel are loosened to a level a
 * byte and f32 scales, which stay in L1 while row panels of MR stream by; a block of rows stays in L2 while columns go by. */
#include "kernel/simd/gemm_finish.h"

/* Up to FEW rows, sums come straight from packed panels.  CHUNK: groups that are loose at a time.  X_BLOCK: bytes of quantised rows that
 * stay in L2.  OWN: elements of x up to which each thread quantises all for itself, which is quicker than waiting. */
enum { FEW = 2 * MR, CHUNK_GROUPS = 32, X_BLOCK = 448 << 10, OWN = 8192, AHEAD = 4096 };

static inline int64_t least(int64_t x, int64_t y) { return x < y ? x : y; }
static inline int64_t most(int64_t x, int64_t y) { return x > y ? x : y; }
static inline int64_t parts(int64_t n, int64_t unit) { return (n + unit - 1) / unit; }
static inline size_t aligned(size_t n) { return (n + 63) / 64 * 64; }

/* lo .. hi of row panels and of column panels: a thread's share. */
struct qwork {
    const struct dan_gemm *g;
    int64_t groups, row_panels, r0, r1, c0, c1;
    char *x, *loose, *panel;                   /* quantised rows; CHUNK of a panel; a panel packed here */
    float *sum;                                /* [rows of a block][NR] */
    const char *packed;                        /* all of b, or NULL */
};

static inline size_t row_bytes(int64_t groups) { return (size_t)groups * X_GROUP; }
static inline size_t panel_bytes(int64_t groups) { return aligned((size_t)(groups / GROUPS) * BLOCK); }

/* Rows are cut into panels of nearly equal height. */
static inline int64_t panel_row(const struct qwork *w, int64_t p) { return w->g->m * p / w->row_panels; }

/* ---- memory ------------------------------------------------------------------------------------ */

static inline int64_t block_panels(int64_t groups) { return most(1, X_BLOCK / (int64_t)(MR * row_bytes(groups))); }

static inline bool quantises_alone(const struct dan_gemm *g) { return g->m <= 4 && g->m * g->k <= OWN; }
static inline size_t x_bytes(const struct dan_gemm *g) { return aligned((size_t)g->m * row_bytes(g->k / GROUP)) + 64; }

static inline size_t sum_bytes(const struct dan_gemm *g, bool packed)
{
    int64_t rows = packed ? least(g->m, block_panels(g->k / GROUP) * MR) : g->m;
    return aligned((size_t)most(rows, 1) * NR * sizeof(float));
}

static inline size_t thread_bytes(const struct dan_gemm *g, bool packed)
{
    return CHUNK_GROUPS * LOOSE + sum_bytes(g, packed) + aligned(OWN / GROUP * X_GROUP) + (packed ? 0 : panel_bytes(g->k / GROUP));
}

static inline size_t qgemm_bytes(const struct dan_gemm *g, int nth) { return x_bytes(g) + (size_t)nth * thread_bytes(g, false); }

/* ---- activations --------------------------------------------------------------------------------- */

/* What stands behind the levels of a group in a panel. */
static inline void put_tail(char *to, float scale, const int32_t sum[2])
{
    float *tail = (float *)(to + GROUP);
    tail[0] = scale;
    for (int h = 0; h <= HALVES; h++) {
        int32_t n = HALVES ? sum[h] : sum[0] + sum[1];
        union { int32_t i; float f; } start = {.i = -OFFSET * n};
        tail[1 + h] = MINS ? scale * (float)n : start.f;
    }
}

/* A row that was rounded before. */
static void take_row(const char *x, int64_t k, char *to, int64_t step)
{
    for (; k > 0; k -= GROUP, x += DAN_ROUNDED_GROUP_BYTES, to += step) {
        struct dan_rounded_group t = dan_rounded_group_of(x);
        memcpy(to, x, GROUP);
        put_tail(to, t.scale, (const int32_t[]){t.sum[0], t.sum[1]});
    }
}

static void quantise_row(const struct dan_gemm *g, int64_t row, char *to, int64_t step)
{
    const char *x = (const char *)g->a + row * g->lda;
    int32_t sum[2];
    if (g->a_rounded) {
        take_row(x, g->k, to, step);
        return;
    }
    for (int64_t k = 0; k < g->k; k += GROUP, to += step) {
        float scale = round_values(x + k * (g->a_bf16 ? 2 : 4), g->a_bf16, to, sum);
        put_tail(to, scale, sum);
    }
}

/* The rows of a panel, group by group. */
static void quantise_panels(const struct qwork *w, int64_t lo, int64_t hi)
{
    for (int64_t p = lo; p < hi; p++) {
        int64_t first = panel_row(w, p), n = panel_row(w, p + 1) - first;
        char *to = w->x + (size_t)first * row_bytes(w->groups);
        for (int64_t i = 0; i < n; i++) quantise_row(w->g, first + i, to + i * X_GROUP, n * X_GROUP);
    }
}

/* ---- weights --------------------------------------------------------------------------------------- */

/* Panel of columns col .. of b; after the last column come zeros. */
static void pack_panel(const char *b, int64_t ldb, int64_t n, int64_t groups, int64_t col, char *to)
{
    static const uint8_t nothing[512];
    const uint8_t *block[NR];
    _Alignas(64) uint8_t levels[NR * GROUP];
    for (int64_t k = 0; k < groups / GROUPS; k++) {
        for (int i = 0; i < NR; i++)
            block[i] = col + i < n ? (const uint8_t *)b + (col + i) * ldb + k * q_type->bytes : nothing;
        q_scales(block, (uint8_t *)to);
        to += HEAD_BYTES;
        for (int g = 0; g < GROUPS; g++, to += GROUP_BYTES) {
            for (int i = 0; i < NR; i++) q_levels(block[i], g, levels + i * GROUP);
            store_levels(levels, to);
        }
    }
}

static const char *panel_of(const struct qwork *w, int64_t p)
{
    if (w->packed) return w->packed + (size_t)p * panel_bytes(w->groups);
    pack_panel(w->g->b, w->g->ldb, w->g->n, w->groups, p * NR, w->panel);
    return w->panel;
}

/* Groups k0 .. k0 + n of a packed panel. */
static void loosen_groups(const char *panel, int64_t k0, int64_t n, char *to)
{
    for (int64_t k = k0; k < k0 + n; k++, to += LOOSE) {
        const char *block = panel + k / GROUPS * BLOCK;
        int g = (int)(k % GROUPS);
        loosen(block, block + HEAD_BYTES + g * GROUP_BYTES, g, to);
    }
}

/* ---- multiplying ------------------------------------------------------------------------------------- */

static void finish_panel(const struct qwork *w, int64_t row, int64_t rows, int64_t p, const float *sum)
{
    struct done d = {sum, NR, row, p * NR, (int)rows, (int)least(NR, w->g->n - p * NR)};
    finish_tile(w->g, &d);
}

/* One pass over a panel asks for what comes AHEAD bytes later; of two, each asks for half of the next panel. */
static struct ahead few_ahead(const struct qwork *w, int64_t r, const char *panel)
{
    int64_t passes = w->r1 - w->r0;
    struct ahead a = {panel + AHEAD, (int)parts(BLOCK, 64 * GROUPS)};
    if (!w->packed) a.lines = 0;
    if (passes == 1) return a;
    a.lines = (int)parts(BLOCK, 64 * GROUPS * passes);
    a.p = panel + panel_bytes(w->groups) + (r - w->r0) * w->groups * a.lines * 64;
    return a;
}

static void multiply_few(const struct qwork *w)
{
    for (int64_t p = w->c0; p < w->c1; p++) {
        const char *panel = panel_of(w, p);
        for (int64_t r = w->r0; r < w->r1; r++) {
            int64_t row = panel_row(w, r), rows = panel_row(w, r + 1) - row;
            tile_packed((int)rows, w->x + (size_t)row * row_bytes(w->groups), panel, w->groups / GROUPS, w->sum, few_ahead(w, r, panel));
            finish_panel(w, row, rows, p, w->sum);
        }
    }
}

/* Row panels r0 .. r1 times column panel p, which the tiles of the chunk before have asked for. */
static void multiply_panel(const struct qwork *w, int64_t r0, int64_t r1, int64_t p, const char *panel)
{
    int64_t row0 = panel_row(w, r0), k0 = 0;
    do {                                               /* once even if K = 0 */
        int64_t n = least(CHUNK_GROUPS, w->groups - k0);
        loosen_groups(panel, k0, n, w->loose);
        struct ahead a = {panel + (k0 + n) / GROUPS * BLOCK, 0};
        int64_t bytes = (CHUNK_GROUPS + GROUPS - 1) / GROUPS * BLOCK, tiles = (r1 - r0) * most(n, 1);
        if (w->packed) a.lines = (int)parts(bytes, 64 * tiles);
        for (int64_t r = r0; r < r1; r++) {
            int64_t row = panel_row(w, r), rows = panel_row(w, r + 1) - row;
            const char *x = w->x + (size_t)row * row_bytes(w->groups) + (size_t)(k0 * rows) * X_GROUP;
            float *sum = w->sum + (row - row0) * NR;
            if (k0 + n >= w->groups && w->g->res) fetch_residual(w->g, row, (int)rows, p * NR);
            tile_loose((int)rows, x, w->loose, n, sum, k0 == 0, a);
            a.p += n * a.lines * 64;
            if (a.p > panel + (k0 + n) / GROUPS * BLOCK + bytes) a.lines = 0;
            if (k0 + n >= w->groups) finish_panel(w, row, rows, p, sum);
        }
        k0 += n;
    } while (k0 < w->groups);
}

static void multiply_many(const struct qwork *w)
{
    int64_t step = w->packed ? block_panels(w->groups) : w->row_panels;
    step = parts(w->r1 - w->r0, most(1, parts(w->r1 - w->r0, step)));
    for (int64_t r = w->r0; r < w->r1; r += step)
        for (int64_t p = w->c0; p < w->c1; p++) multiply_panel(w, r, least(r + step, w->r1), p, panel_of(w, p));
}

/* Threads form a grid of tm x tn; the largest rectangle counts, and what loosening (or packing) a panel costs, in rows. */
static void share_grid(struct qwork *w, int ith, int nth)
{
    int64_t np = parts(w->g->n, NR), rp = w->row_panels;
    int best = nth;
    double best_cost = -1, beside = w->packed ? 2 : 16;
    for (int tn = nth; tn >= 1; tn--) {
        if (nth % tn) continue;
        double cost = (double)parts(np, tn) * ((double)parts(rp, nth / tn) * MR + beside);
        if (best_cost < 0 || cost < best_cost) best = tn, best_cost = cost;
    }
    int tm = nth / best, im = ith / best, in = ith % best;
    w->r0 = rp * im / tm;
    w->r1 = rp * (im + 1) / tm;
    w->c0 = np * in / best;
    w->c1 = np * (in + 1) / best;
}

static void prepare_rows(struct qwork *w, const struct dan_args *a, char *own)
{
    if (quantises_alone(w->g)) {
        w->x = own;
        quantise_panels(w, 0, w->row_panels);
        return;
    }
    quantise_panels(w, w->row_panels * a->ith / a->nth, w->row_panels * (a->ith + 1) / a->nth);
    dan_args_barrier(a);
}

static void qgemm_run(const struct dan_gemm *g, const struct dan_args *a)
{
    struct qwork w = {.g = g, .groups = g->k / GROUP, .row_panels = parts(g->m, MR), .packed = a->packed, .x = a->ws};
    if (g->m == 0 || g->n == 0) return;
    w.loose = w.x + x_bytes(g) + thread_bytes(g, w.packed) * (size_t)a->ith;
    w.sum = (float *)(w.loose + CHUNK_GROUPS * LOOSE);
    char *own = (char *)w.sum + sum_bytes(g, w.packed);
    w.panel = own + aligned(OWN / GROUP * X_GROUP);
    prepare_rows(&w, a, own);
    share_grid(&w, a->ith, a->nth);
    if (g->m <= FEW) multiply_few(&w);
    else multiply_many(&w);
}

/* ---- the kernel ---------------------------------------------------------------------------------------- */

static bool accepts(const struct dan_args *a)
{
    return a->in[1].dtype == q_type && !a->attr[DAN_MATMUL_TA].i && a->attr[DAN_MATMUL_TB].i && dan_matmul_fits_rounded(a);
}

static size_t workspace(const struct dan_args *a, int nth)
{
    struct dan_gemm g = dan_matmul_gemm(a);
    return qgemm_bytes(&g, nth);
}

static void run(const struct dan_args *a)
{
    struct dan_gemm g = dan_matmul_gemm(a);
    g.b_type = NULL;
    qgemm_run(&g, a);
}

static size_t pack_bytes(const struct dan_args *a)
{
    const struct dan_tensor *b = &a->in[1];
    return (size_t)parts(b->shape.d[0], NR) * panel_bytes(b->shape.d[1] / GROUP);
}

static void pack(const struct dan_args *a, void *dst)
{
    const struct dan_tensor *b = &a->in[1];
    int64_t lo, hi, groups = b->shape.d[1] / GROUP;
    dan_share(a, parts(b->shape.d[0], NR), 1, &lo, &hi);
    for (int64_t p = lo; p < hi; p++)
        pack_panel(b->data, b->stride[0], b->shape.d[0], groups, p * NR, (char *)dst + (size_t)p * panel_bytes(groups));
}
