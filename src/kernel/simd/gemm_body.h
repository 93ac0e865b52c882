/* The blocked matrix product, written once.  A file of src/kernel/ISA/ defines, before including this:
 *
 *   enum { MR, NR }            register tile
 *   enum { KC }                k block at most: blocks are packed, multiplied and added to c in order
 *   enum { KI }                k of a panel of a that stays in L1, a multiple of CHUNK; KC where a block fits
 *   enum { NC_THIN }           columns of b that are packed at a time for few rows (multiple of NR)
 *   enum { ROW_UNIT }          rows a tile computes are rounded up to this; panels are whole when it is not 1
 *   enum { ROWS_INSIDE }       1: a panel of b stays in L1 while panels of a stream by, for small register tiles
 *   enum { PACK_COST }         cost of packing one element in multiply-adds
 *   enum { TAKES_BF16 }        what pack_a and pack_b read as bf16 without a detour through f32: 0 nothing,
 *                              1 b [N,K], 2 all
 *   size_t panel_a_bytes(k)    packed panel of at most MR rows, k columns; multiple of 64
 *   size_t panel_b_bytes(k)    the same for NR columns
 *   size_t chunk_a_bytes(rows) bytes of CHUNK columns of a packed panel of a with `rows` rows
 *   void pack_a(dst, g, row, rows, k0, k), pack_b(dst, g, col, cols, k0, k)
 *   enum { READS_A }           1: tile reads a panel of a stored as bf16 where it lies (lines of whole rows)
 *   void tile(rows, cols, k, a, b, c, ldc, first, x)   c (+)= panel a x panel b; x: for units beside the vectors
 *   dan_gemm_direct_fn *const direct   the product of up to DIRECT_ROWS rows with b as it lies; or NULL
 *   void tile_begin(void), tile_end(void)           state of the unit, once per call and thread
 *   void store_bf16(p, x, n)   the first n of a vector, rounded to nearest even
 *
 * and the vectors of math_ISA.h.  Loops, outermost first: columns of B_BYTES and k blocks KC (a block of b stays in
 * L2), panels MR of a (packed when their turn comes, or some together where that reads better), k blocks KI (a panel
 * of a stays in L1), panels NR of b: Goto and van de Geijn 2008 with the factors exchanged, because c is then
 * written row by row.  Sums that need an epilogue or rounding stay in L1 (or, of several KI, L2) until they are done.
 *
 * b is packed first, by all threads together into one place, where it fits in SHARE_BYTES: one barrier.  Else threads
 * share nothing: each packs what its rectangle of c needs, block by block.  Or b was packed before the run (dan_kernel.pack), in the same
 * layout: then even one row reads it so, from one end to the other. */
#include "kernel/simd/gemm_finish.h"

/* Up to this many rows (and columns, for the size of ws), all of a is packed at the start and b is packed NC_THIN columns at a time, so
 * that b goes from memory through L1 once: decode. */
enum { THIN = 64, THIN_K = 16384, DIRECT_ROWS = 4 };

/* Packed blocks: together they, and what streams by, fit in an L2 of 2 MiB. */
enum { A_BYTES = 512 << 10, B_BYTES = 5 << 18, SHARE_BYTES = 8 << 20 };

/* Converting goes PIECE columns of K at a time; blocks of a storage format may lie across a panel of b without tb. */
enum { PIECE = 256, MAX_BLOCK = 256, FEW_BLOCK = 32, SUM = MR * NR };

struct span { int64_t lo, hi; };
static inline int64_t least(int64_t x, int64_t y) { return x < y ? x : y; }
static inline int64_t most(int64_t x, int64_t y) { return x > y ? x : y; }
static inline int64_t parts(int64_t n, int64_t unit) { return (n + unit - 1) / unit; }
static inline int64_t span_n(struct span s) { return s.hi - s.lo; }

/* What a thread works with: its rectangle and its memory. */
struct work {
    const struct dan_gemm *g;
    struct span rows, cols;
    int64_t np, c0;                            /* row panels; first column of the block */
    size_t a_step, b_step;                     /* bytes from panel to panel */
    char *pa, *pb;                             /* packed blocks */
    const char *all_b;                         /* b packed by all threads, or NULL */
    float *sum, *part, *scratch;               /* sums of a row panel and a block of columns; of all rows; conversions */
    int64_t part_ld;                           /* floats */
    bool thin;
};

/* Rows are cut into panels of nearly equal height (16 rows are 8 + 8, not 14 + 2), or into whole ones. */
static inline int64_t panel_row(const struct work *w, int64_t p)
{
    return w->rows.lo + (ROW_UNIT > 1 ? least(p * MR, span_n(w->rows)) : span_n(w->rows) * p / w->np);
}

/* Bytes of CHUNK rows of a packed panel of b: panel_b_bytes rounds up to 64. */
static inline size_t chunk_b_bytes(void) { return panel_b_bytes(64 * CHUNK) / 64; }

/* Columns of K in a block.  Where sums go on exactly (KI < KC) blocks may be of any length: equal ones, and short ones for
 * a that is packed across its rows, so that each row gives many columns. */
static inline int64_t kc_of(const struct dan_gemm *g)
{
    if (KI == KC || g->k <= KI || g->ta) return KI;
    return parts(parts(g->k, parts(g->k, KC)), PIECE) * PIECE;
}

static inline bool packs_all_b(const struct dan_gemm *g, int nth)
{
    return (g->share || nth == 1) && g->m > THIN && parts(g->n, NR) * (int64_t)panel_b_bytes(g->k) <= SHARE_BYTES;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static inline size_t step_a(const struct dan_gemm *g) { return panel_a_bytes(most(1, least(g->k, kc_of(g)))); }
static inline size_t step_b(const struct dan_gemm *g) { return panel_b_bytes(most(1, least(g->k, kc_of(g)))); }
static inline int64_t block_panels(size_t bytes, size_t step) { return most(1, (int64_t)(bytes / step)); }

static size_t area_a(const struct dan_gemm *g)
{
    int64_t np = parts(g->m, MR);
    size_t thin = (size_t)parts(least(g->m, THIN), MR) * (panel_a_bytes(least(g->k, THIN_K)) + panel_a_bytes(KC));
    size_t block = (size_t)np * step_a(g), limit = step_a(g) > A_BYTES ? step_a(g) : A_BYTES;
    if (block > limit) block = limit;
    return thin > block ? thin : block;
}

static size_t area_b(const struct dan_gemm *g)
{
    size_t all = (size_t)parts(g->n, NR) * step_b(g), limit = step_b(g) > B_BYTES ? step_b(g) : B_BYTES;
    size_t thin = NC_THIN / NR * step_b(g);
    if (limit < thin) limit = thin;
    return all < limit ? all : limit;
}

static inline int64_t block_cols(const struct dan_gemm *g) { return (int64_t)(area_b(g) / step_b(g)) * NR; }

static inline size_t area_sum(const struct dan_gemm *g)
{
    return (size_t)(g->k > KI ? most(2, least(parts(g->n, NR), B_BYTES / (int64_t)panel_b_bytes(KI))) : 2) * SUM * sizeof(float);
}

static size_t area_part(const struct dan_gemm *g)
{
    return g->c_bf16 && g->k > kc_of(g) ? (size_t)(g->m * block_cols(g)) * sizeof(float) : 0;
}

/* Without tb a panel of b begins and ends in the middle of blocks. */
static inline size_t area_scratch(const struct dan_gemm *g)
{
    int64_t block = g->b_type && !g->tb ? most(FEW_BLOCK, (int64_t)g->b_type->block) : FEW_BLOCK;
    return (size_t)(PIECE * (NR + 2 * block + MR)) * sizeof(float);
}

static inline size_t thread_bytes(const struct dan_gemm *g)
{
    return (area_a(g) + area_b(g) + area_sum(g) + area_part(g) + area_scratch(g) + 63) / 64 * 64;
}

static inline size_t all_b_bytes(const struct dan_gemm *g, int nth)
{
    return packs_all_b(g, nth) ? ((size_t)parts(g->n, NR) * panel_b_bytes(g->k) + 63) / 64 * 64 : 0;
}

static inline size_t gemm_bytes(const struct dan_gemm *g, int nth) { return (size_t)nth * thread_bytes(g) + all_b_bytes(g, nth); }

/* ---- packing --------------------------------------------------------------------------------- */

/* n elements of t to f32: the 16-bit formats in vectors. */
static inline void convert(const struct dan_dtype *t, const char *src, float *dst, int64_t n)
{
    int64_t i = 0;
    if (t == &dan_dtype_bf16)
        for (; i + VF <= n; i += VF) vf_store(dst + i, vf_load_bf16(src + 2 * i));
    else if (t == &dan_dtype_f16)
        for (; i + VF <= n; i += VF) vf_store(dst + i, vf_load_f16(src + 2 * i));
    if (i < n) t->to_f32(src + dan_dtype_bytes(t, i), dst + i, n - i);
}

static inline bool takes_a(const struct dan_gemm *g) { return !g->a_bf16 || TAKES_BF16 == 2; }
static inline bool takes_b(const struct dan_gemm *g) { return !g->b_type && (!g->b_bf16 || TAKES_BF16 == 2 || (TAKES_BF16 == 1 && g->tb)); }

/* At most PIECE columns of a panel of a in bf16, through f32. */
static void pack_a_converted(void *dst, const struct work *w, int64_t row, int rows, int64_t k0, int64_t k)
{
    struct dan_gemm h = *w->g;
    int64_t count = h.ta ? k : rows, n = h.ta ? rows : k;
    const char *src = dan_gemm_at16(h.a, h.lda, h.ta ? k0 : row, h.ta ? row : k0);
    for (int64_t i = 0; i < count; i++) convert(&dan_dtype_bf16, src + i * h.lda, w->scratch + i * n, n);
    h.a = w->scratch;
    h.lda = n * (int64_t)sizeof(float);
    pack_a(dst, &h, 0, rows, 0, k);
}

/* An operand whose rows run along the panels is packed CHUNK rows at a time over all panels: that reads
 * streams which the prefetcher follows; one panel after the other would miss on every row. */
static void pack_rows(const struct work *w, struct span p, struct span k, char *pa)
{
    const struct dan_gemm *g = w->g;
    int64_t n = span_n(k), chunk = g->ta ? CHUNK : takes_a(g) ? n : PIECE;
    for (int64_t k0 = 0; k0 < n; k0 += chunk) {
        char *dst = pa;
        int64_t kn = least(chunk, n - k0);
        for (int64_t i = p.lo; i < p.hi; i++, dst += w->a_step) {
            int64_t row = panel_row(w, i);
            int nr = (int)(panel_row(w, i + 1) - row);
            char *at = dst + (size_t)(k0 / CHUNK) * chunk_a_bytes(nr);
            if (takes_a(g)) pack_a(at, g, row, nr, k.lo + k0, kn);
            else pack_a_converted(at, w, row, nr, k.lo + k0, kn);
        }
    }
}

/* At most PIECE rows of K of a panel of b in another format, through f32. */
static void pack_b_converted(void *dst, const struct dan_gemm *g, int64_t col, int cols, int64_t k0, int64_t k, float *f)
{
    const struct dan_dtype *t = g->b_type ? g->b_type : &dan_dtype_bf16;
    struct dan_gemm h = *g;
    int64_t lead = g->tb ? 0 : col % t->block;
    int64_t rows = g->tb ? cols : k, n = g->tb ? k : parts(lead + cols, t->block) * t->block;
    const char *src = (const char *)g->b + (g->tb ? col : k0) * g->ldb + dan_dtype_bytes(t, g->tb ? k0 : col - lead);
    for (int64_t i = 0; i < rows; i++) convert(t, src + i * g->ldb, f + i * n, n);
    h.b = f + lead;
    h.b_bf16 = false;
    h.ldb = n * (int64_t)sizeof *f;
    pack_b(dst, &h, 0, cols, 0, k);
}

static void pack_cols(const struct work *w, struct span cols, struct span k, char *pb, size_t step)
{
    const struct dan_gemm *g = w->g;
    int64_t n = span_n(k), chunk = !takes_b(g) ? PIECE : g->tb ? n : CHUNK;
    for (int64_t k0 = 0; k0 < n; k0 += chunk) {
        char *dst = pb + (size_t)(k0 / CHUNK) * chunk_b_bytes();
        int64_t kn = least(chunk, n - k0);
        for (int64_t col = cols.lo; col < cols.hi; col += NR, dst += step) {
            int nc = (int)least(NR, cols.hi - col);
            if (takes_b(g)) pack_b(dst, g, col, nc, k.lo + k0, kn);
            else pack_b_converted(dst, g, col, nc, k.lo + k0, kn, w->scratch);
        }
    }
}

/* ---- multiplying ----------------------------------------------------------------------------- */

/* Where the sums of a tile lie while they grow, and whether something is left to do with them. */
struct sums { float *p; int64_t ld; bool first, finish, own; };

static inline bool has_epilogue(const struct dan_gemm *g) { return g->scale || g->bias || g->res || g->act || g->pre || g->c_bf16; }

static inline struct sums sums_of(const struct work *w, int64_t row, int64_t col, struct span k, int64_t slot)
{
    const struct dan_gemm *g = w->g;
    bool single = g->k <= kc_of(g) && !g->add, finish = has_epilogue(g);
    struct sums s = {.first = k.lo == 0 && !g->add, .finish = finish && k.hi == g->k};
    if (finish && single) s.own = true, s.p = w->sum + slot * SUM, s.ld = NR;
    else if (g->c_bf16) s.ld = w->part_ld, s.p = w->part + (row - w->rows.lo) * s.ld + col - w->c0;
    else s.p = (float *)g->c + row * g->ldc + col, s.ld = g->ldc;
    return s;
}

/* A panel of a: packed (ld = 0), or as it lies. */
struct left_panel { const char *p; int64_t ld; };

/* Rows that share few sets of L1 are packed. */
static inline bool reads_a(const struct dan_gemm *g)
{
    return READS_A && g->a_bf16 && !g->ta && g->k % CHUNK == 0 && ((uintptr_t)g->a | (uintptr_t)g->lda) % 64 == 0 && g->lda % 2048;
}

/* Row panel i, columns cols, one k block.  A tile is finished while or after the next one is multiplied: its vector
 * instructions then run beside those of the tile unit (if there is one), which would else wait for each other. */
static void multiply(const struct work *w, int64_t i, struct span cols, struct span k, struct left_panel a, const char *pb)
{
    struct done wait = {.rows = 0};
    struct beside x = {a.ld, w->g, &wait, NULL, 0};
    int64_t n = span_n(k), ki = most(CHUNK, parts(parts(n, most(1, parts(n, KI))), CHUNK) * CHUNK), k0 = 0;
    int64_t row = panel_row(w, i);
    int nr = (int)(panel_row(w, i + 1) - row), ahead = 0;      /* rows of the next panel to ask for, a tile */
    if (!w->g->ta && i + 1 < w->np && (a.ld || n >= KI)) ahead = (int)parts(MR * NR, span_n(cols));
    do {                                               /* once even if K = 0: c = act(bias) + res */
        int64_t kn = least(ki, n - k0);
        bool last = k0 + kn >= n, alone = last && k0 == 0;
        const char *b = pb + (size_t)(k0 / CHUNK) * chunk_b_bytes();
        for (int64_t col = cols.lo, j = 0; col < cols.hi; col += NR, j++, b += w->b_step) {
            int nc = (int)least(NR, cols.hi - col);
            x.n_ahead = (int)most(0, least(ahead, MR - j * ahead));
            x.ahead = (const char *)w->g->a + (row + MR + j * ahead) * w->g->lda + (k.lo + k0) * (w->g->a_bf16 ? 2 : 4);
            struct sums s = sums_of(w, row, col, k, alone ? j % 2 : j);
            if (w->g->res && s.finish && last) fetch_residual(w->g, row, nr, col);
            tile(s.own ? (int)parts(nr, ROW_UNIT) * ROW_UNIT : nr, s.own ? NR : nc, kn, a.p, b, s.p, s.ld, s.first && k0 == 0, &x);
            finish_tile(w->g, &wait);
            if (s.finish && last) wait = (struct done){s.p, s.ld, row, col, nr, nc};
        }
        a.p += a.ld ? (size_t)ki * 2 : (size_t)(ki / CHUNK) * chunk_a_bytes(nr);
        k0 += ki;
    } while (k0 < n);
    finish_tile(w->g, &wait);
}

static inline bool is_direct(const struct dan_gemm *g, int64_t rows)
{
    return direct && rows <= DIRECT_ROWS && g->tb && !g->b_type && (!g->bf16 || g->b_bf16);
}

/* One panel of a times columns of b that are not packed: the sums and their order are those of multiply(). */
static void multiply_direct(const struct work *w, struct span cols, struct span k, const char *pa)
{
    const struct dan_gemm *g = w->g;
    int nr = (int)span_n(w->rows);
    for (int64_t col = cols.lo; col < cols.hi; col += NR) {
        int nc = (int)least(NR, cols.hi - col);
        struct sums s = sums_of(w, w->rows.lo, col, k, 0);
        direct(nr, nc, span_n(k), pa, g, col, k.lo, s.p, s.ld, s.first);
        if (s.finish) finish_rows(g, &(struct done){s.p, s.ld, w->rows.lo, col, nr, nc}, nr);
    }
}

/* ---- the loops around ------------------------------------------------------------------------ */

static inline struct span k_block(const struct dan_gemm *g, int64_t k0) { return (struct span){k0, least(k0 + kc_of(g), g->k)}; }

/* Where the packed panel of column col of all of b begins, from k0 on. */
static inline const char *all_b_at(const struct work *w, int64_t col, int64_t k0)
{
    return w->all_b + (size_t)(col / NR) * w->b_step + (size_t)(k0 / CHUNK) * chunk_b_bytes();
}

/* Packed row panels p times columns c. */
static void multiply_block(const struct work *w, struct span p, struct span c, struct span k, const char *pa, const char *pb)
{
    int64_t step = ROWS_INSIDE ? NR : span_n(c);
    for (int64_t col = c.lo; col < c.hi; col += step, pb += w->b_step) {
        struct span some = {col, least(col + step, c.hi)};
        for (int64_t i = p.lo; i < p.hi; i++) multiply(w, i, some, k, (struct left_panel){pa + (size_t)(i - p.lo) * w->a_step, 0}, pb);
    }
}

static void all_rows(const struct work *w, struct span c, struct span k, const char *pb)
{
    const struct dan_gemm *g = w->g;
    int64_t step = g->ta || ROWS_INSIDE ? block_panels(A_BYTES, w->a_step) : 1;
    if (w->thin) {
        const char *pa = w->pa + (size_t)(k.lo / kc_of(g)) * (size_t)w->np * w->a_step;
        if (!w->all_b && is_direct(g, span_n(w->rows))) multiply_direct(w, c, k, pa);
        else multiply_block(w, (struct span){0, w->np}, c, k, pa, pb);
        return;
    }
    for (int64_t p0 = 0; p0 < w->np; p0 += step) {
        struct span p = {p0, least(p0 + step, w->np)};
        int64_t row = panel_row(w, p0);
        if (reads_a(g) && (panel_row(w, p0 + 1) - row) % ROW_UNIT == 0) {
            multiply(w, p0, c, k, (struct left_panel){dan_gemm_at16(g->a, g->lda, row, k.lo), g->lda}, pb);
        } else {
            pack_rows(w, p, k, w->pa);
            multiply_block(w, p, c, k, w->pa, pb);
        }
    }
}

/* Many rows of K, all of b packed: a block of c stays in L2 while K goes by, and a is packed once. */
static void all_k(const struct work *w, struct span c)
{
    const struct dan_gemm *g = w->g;
    int64_t step = block_panels(A_BYTES / 2, w->a_step);
    for (int64_t p0 = 0; p0 < w->np; p0 += step) {
        struct span p = {p0, least(p0 + step, w->np)};
        for (int64_t k0 = 0; k0 < g->k; k0 += kc_of(g)) {
            pack_rows(w, p, k_block(g, k0), w->pa);
            multiply_block(w, p, c, k_block(g, k0), w->pa, all_b_at(w, c.lo, k0));
        }
    }
}

static void all_columns(const struct work *w, struct span c)
{
    const struct dan_gemm *g = w->g;
    bool skip_b = w->all_b || (w->thin && is_direct(g, span_n(w->rows)));
    int64_t k0 = 0;
    do {                                               /* once even if K = 0 */
        struct span k = k_block(g, k0);
        if (!skip_b) pack_cols(w, c, k, w->pb, w->b_step);
        all_rows(w, c, k, w->all_b ? all_b_at(w, c.lo, k0) : w->pb);
        k0 += kc_of(g);
    } while (k0 < g->k);
}

static void gemm_rectangle(struct work *w)
{
    const struct dan_gemm *g = w->g;
    int64_t np = parts(span_n(w->cols), NR), blocks = parts(np, block_panels(B_BYTES, step_b(g)));
    int64_t nc = parts(np, blocks) * NR, kc = kc_of(g);
    if (w->thin) nc = w->all_b || is_direct(g, span_n(w->rows)) ? NR : NC_THIN;        /* as many streams as the prefetcher follows */
    for (int64_t k0 = 0; k0 < g->k && w->thin; k0 += kc)
        pack_rows(w, (struct span){0, w->np}, k_block(g, k0), w->pa + (size_t)(k0 / kc) * (size_t)w->np * w->a_step);
    for (w->c0 = w->cols.lo; w->c0 < w->cols.hi; w->c0 += nc) {
        struct span c = {w->c0, least(w->c0 + nc, w->cols.hi)};
        if (g->ta && w->all_b && !w->thin && g->k > kc) all_k(w, c);
        else all_columns(w, c);
    }
}

/* Threads form a grid of tm x tn; the cheapest product of the largest rectangle plus its packing wins.  Where b is
 * packed together only a counts. */
static void share_grid(struct work *w, int ith, int nth)
{
    const struct dan_gemm *g = w->g;
    int best = 1;
    double best_cost = -1;
    for (int tn = 1; tn <= nth; tn++) {
        if (nth % tn) continue;
        double m = (double)(parts(parts(g->m, ROW_UNIT), nth / tn) * ROW_UNIT), n = (double)(parts(parts(g->n, NR), tn) * NR);
        double cost = m * n + PACK_COST * (w->all_b ? m : m + n);
        if (best_cost < 0 || cost < best_cost) best = tn, best_cost = cost;
    }
    int tm = nth / best, im = ith / best, in = ith % best;
    int64_t np = parts(g->n, NR), nr = parts(g->m, ROW_UNIT);
    w->rows = (struct span){least(nr * im / tm * ROW_UNIT, g->m), least(nr * (im + 1) / tm * ROW_UNIT, g->m)};
    w->cols = (struct span){least(np * in / best * NR, g->n), least(np * (in + 1) / best * NR, g->n)};
}

/* This thread's part of the panels of b, then all wait. */
static void pack_together(const struct work *w, char *all, int ith, int nth)
{
    const struct dan_gemm *g = w->g;
    int64_t np = parts(g->n, NR), lo = np * ith / nth, hi = np * (ith + 1) / nth;
    struct span cols = {least(lo * NR, g->n), least(hi * NR, g->n)};
    pack_cols(w, cols, (struct span){0, g->k}, all + (size_t)lo * w->b_step, w->b_step);
    if (nth > 1) dan_args_barrier(g->share);
}

static void gemm_run(const struct dan_gemm *g, void *ws, int ith, int nth)
{
    const char *before = g->share ? g->share->packed : NULL;
    char *s = (char *)ws + thread_bytes(g) * (size_t)ith;
    char *all = !before && packs_all_b(g, nth) ? (char *)ws + thread_bytes(g) * (size_t)nth : NULL;
    struct work w = {.g = g, .a_step = step_a(g), .all_b = before ? before : all};
    w.b_step = w.all_b ? panel_b_bytes(g->k) : step_b(g);
    w.pa = s;
    w.pb = w.pa + area_a(g);
    w.sum = (float *)(w.pb + area_b(g));
    w.part = (float *)((char *)w.sum + area_sum(g));
    w.scratch = (float *)((char *)w.part + area_part(g));
    w.part_ld = block_cols(g);
    share_grid(&w, ith, nth);
    w.np = parts(span_n(w.rows), MR);
    w.thin = span_n(w.rows) <= THIN && g->k <= THIN_K;
    if (all) pack_together(&w, all, ith, nth);
    if (w.rows.lo >= w.rows.hi || w.cols.lo >= w.cols.hi) return;
    tile_begin();
    gemm_rectangle(&w);
    tile_end();
}
