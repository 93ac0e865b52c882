/* The blocked matrix product, written once.  A file of src/kernel/ISA/ defines, before including this:
 *
 *   enum { MR, NR }            register tile
 *   enum { KC }                k block: sums of a block are formed in registers, blocks are added in order
 *   enum { MC, NC, NC_THIN }   rows of a and columns of b that are packed at a time (multiples of MR, NR)
 *   enum { PACK_COST }         cost of packing one element in multiply-adds
 *   enum { TAKES_BF16 }        1: pack_b reads b stored as bf16 [N,K] without a detour through f32
 *   size_t panel_a_bytes(k)    packed panel of at most MR rows, k columns; multiple of 64
 *   size_t panel_b_bytes(k)    the same for NR columns
 *   size_t chunk_a_bytes(rows) bytes of CHUNK columns of a packed panel of a with `rows` rows
 *   void pack_a(dst, g, row, rows, k0, k), pack_b(dst, g, col, cols, k0, k)
 *   void tile(rows, cols, k, a, b, c, ldc, first)   c (+)= panel a x panel b
 *   dan_gemm_direct_fn *const direct   the product of up to DIRECT_ROWS rows with b as it lies; or NULL
 *   void tile_begin(void), tile_end(void)           state of the unit, once per call and thread
 *
 * and the vectors of vec_ISA.h.  Loops, outermost first: columns NC, k blocks KC, rows MC, then panels
 * NR (stays in L1), panels MR (streams from L2): Goto and van de Geijn 2008.  Threads share nothing:
 * each packs what its rectangle of c needs, so there are no barriers; the price is packing twice along
 * one edge of the grid (2 % for two threads at M = N = 768). */
#include "kernel/simd/gemm.h"

/* Up to this many rows (and columns, for the size of ws), all of a is packed at the start and b is packed NC_THIN columns at a time, so
 * that b goes from memory through L1 once: decode. */
enum { THIN = 64, THIN_K = 16384, DIRECT_ROWS = 4 };

/* Blocks of a storage format that may lie across a panel of b without tb; floats of one converted panel. */
enum { MAX_BLOCK = 32, SCRATCH = KC * (NR + 2 * MAX_BLOCK) };

struct span { int64_t lo, hi; };
static inline int64_t least(int64_t x, int64_t y) { return x < y ? x : y; }
static inline int64_t parts(int64_t n, int64_t unit) { return (n + unit - 1) / unit; }
static inline int64_t span_n(struct span s) { return s.hi - s.lo; }

/* Rows are cut into panels of nearly equal height: 16 rows are 8 + 8, not 14 + 2. */
static inline int64_t panel_row(struct span rows, int64_t np, int64_t p) { return rows.lo + span_n(rows) * p / np; }

/* Threads form a grid of tm x tn; the cheapest product of the largest rectangle plus its packing wins. */
static void share_grid(const struct dan_gemm *g, int ith, int nth, struct span *rows, struct span *cols)
{
    int best = 1;
    double best_cost = -1;
    for (int tn = 1; tn <= nth; tn++) {
        if (nth % tn) continue;
        double m = (double)parts(g->m, nth / tn), n = (double)(parts(parts(g->n, NR), tn) * NR);
        double cost = m * n + PACK_COST * (m + n);
        if (best_cost < 0 || cost < best_cost) best = tn, best_cost = cost;
    }
    int tm = nth / best, im = ith / best, in = ith % best;
    int64_t np = parts(g->n, NR);
    *rows = (struct span){g->m * im / tm, g->m * (im + 1) / tm};
    *cols = (struct span){least(np * in / best * NR, g->n), least(np * (in + 1) / best * NR, g->n)};
}

static size_t area_a(int64_t m, int64_t k)
{
    size_t thin = k > THIN_K ? 0 : (size_t)(parts(least(m, THIN), MR) * parts(k, KC)) * panel_a_bytes(KC);
    size_t block = (size_t)parts(least(m, MC), MR) * panel_a_bytes(KC);
    return thin > block ? thin : block;
}

static inline size_t gemm_bytes(int64_t m, int64_t n, int64_t k, int nth)
{
    return (size_t)nth * (area_a(m, k) + (size_t)parts(least(n, NC), NR) * panel_b_bytes(KC) + SCRATCH * sizeof(float));
}

static inline void finish_tile(const struct dan_gemm *g, int64_t row, int rows, int64_t col, int cols)
{
    for (int i = 0; i < rows; i++) {
        float *c = g->c + (row + i) * g->ldc + col;
        const float *res = g->res ? g->res + (row + i) * g->ldres + col : NULL;
        for (int j = 0; j < cols; j += VF) {
            vf x = vf_load_n(c + j, cols - j);
            if (g->bias) x = vf_add(x, vf_load_n(g->bias + col + j, cols - j));
            x = vf_act(g->act, x);
            if (res) x = vf_add(x, vf_load_n(res + j, cols - j));
            vf_store_n(c + j, x, cols - j);
        }
    }
}

/* Row panels [p0, p1) of np, columns [cols), one k block. */
static void multiply(const struct dan_gemm *g, struct span rows, int64_t np, struct span p, struct span cols, struct span k,
                     const char *pa, const char *pb)
{
    size_t a_step = panel_a_bytes(KC), b_step = panel_b_bytes(KC);
    bool first = k.lo == 0 && !g->add, last = k.hi == g->k && (g->bias || g->res || g->act);
    for (int64_t col = cols.lo; col < cols.hi; col += NR, pb += b_step) {
        int nc = (int)least(NR, cols.hi - col);
        for (int64_t i = p.lo; i < p.hi; i++) {
            int64_t row = panel_row(rows, np, i);
            int nr = (int)(panel_row(rows, np, i + 1) - row);
            tile(nr, nc, span_n(k), pa + (size_t)(i - p.lo) * a_step, pb, g->c + row * g->ldc + col, g->ldc, first);
            if (last) finish_tile(g, row, nr, col, nc);
        }
    }
}

/* An operand whose rows run along the panels is packed CHUNK rows at a time over all panels: that reads
 * streams which the prefetcher follows; one panel after the other would miss on every row. */
static void pack_rows(const struct dan_gemm *g, struct span rows, int64_t np, struct span p, struct span k, char *pa)
{
    int64_t n = span_n(k), chunk = g->ta ? CHUNK : n;
    for (int64_t k0 = 0; k0 < n; k0 += chunk) {
        char *dst = pa;
        for (int64_t i = p.lo; i < p.hi; i++, dst += panel_a_bytes(KC)) {
            int64_t row = panel_row(rows, np, i);
            int nr = (int)(panel_row(rows, np, i + 1) - row);
            pack_a(dst + (size_t)(k0 / CHUNK) * chunk_a_bytes(nr), g, row, nr, k.lo + k0, least(chunk, n - k0));
        }
    }
}

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

/* A panel of b in another format goes through f32. */
static void pack_converted(void *dst, const struct dan_gemm *g, int64_t col, int cols, struct span k, float *f)
{
    const struct dan_dtype *t = g->b_type;
    struct dan_gemm h = *g;
    int64_t lead = g->tb ? 0 : col % t->block;
    int64_t rows = g->tb ? cols : span_n(k), n = g->tb ? span_n(k) : parts(lead + cols, t->block) * t->block;
    const char *src = (const char *)g->b + (g->tb ? col : k.lo) * g->ldb + dan_dtype_bytes(t, g->tb ? k.lo : col - lead);
    for (int64_t i = 0; i < rows; i++) convert(t, src + i * g->ldb, f + i * n, n);
    h.b = f + lead;
    h.ldb = n * (int64_t)sizeof *f;
    pack_b(dst, &h, 0, cols, 0, span_n(k));
}

static void pack_cols(const struct dan_gemm *g, struct span cols, struct span k, char *pb, float *scratch)
{
    int64_t n = span_n(k), chunk = g->tb || g->b_type ? n : CHUNK;
    for (int64_t k0 = 0; k0 < n; k0 += chunk) {
        char *dst = pb + (size_t)(k0 / CHUNK) * panel_b_bytes(CHUNK);
        for (int64_t col = cols.lo; col < cols.hi; col += NR, dst += panel_b_bytes(KC)) {
            int nc = (int)least(NR, cols.hi - col);
            if (g->b_type) pack_converted(dst, g, col, nc, k, scratch);
            else pack_b(dst, g, col, nc, k.lo + k0, least(chunk, n - k0));
        }
    }
}

static inline bool is_direct(const struct dan_gemm *g, int64_t rows)
{
    return direct && rows <= DIRECT_ROWS && g->tb && !g->b_type && !g->b_bf16 && !g->bf16;
}

/* One panel of a times columns of b that are not packed: the sums and their order are those of multiply(). */
static void multiply_direct(const struct dan_gemm *g, struct span rows, struct span cols, struct span k, const char *pa)
{
    bool first = k.lo == 0 && !g->add, last = k.hi == g->k && (g->bias || g->res || g->act);
    int nr = (int)span_n(rows);
    for (int64_t col = cols.lo; col < cols.hi; col += NR) {
        int nc = (int)least(NR, cols.hi - col);
        direct(nr, nc, span_n(k), pa, g, col, k.lo, g->c + rows.lo * g->ldc + col, first);
        if (last) finish_tile(g, rows.lo, nr, col, nc);
    }
}

static inline struct span k_block(const struct dan_gemm *g, int64_t k0) { return (struct span){k0, least(k0 + KC, g->k)}; }

static void gemm_rectangle(const struct dan_gemm *g, struct span rows, struct span cols, char *pa, char *pb, float *scratch)
{
    int64_t np = parts(span_n(rows), MR), mcp = MC / MR, nc = NC;
    struct span all = {0, np};
    bool thin = span_n(rows) <= THIN && g->k <= THIN_K;
    size_t a_block = (size_t)np * panel_a_bytes(KC);
    if (thin) {
        nc = NC_THIN;
        for (int64_t k0 = 0; k0 < g->k; k0 += KC) pack_rows(g, rows, np, all, k_block(g, k0), pa + (size_t)(k0 / KC) * a_block);
    }
    for (int64_t c0 = cols.lo; c0 < cols.hi; c0 += nc) {
        struct span c = {c0, least(c0 + nc, cols.hi)};
        int64_t k0 = 0;
        do {                                           /* once even if K = 0: c = act(bias) + res */
            struct span k = k_block(g, k0);
            if (thin && is_direct(g, span_n(rows))) {
                multiply_direct(g, rows, c, k, pa + (size_t)(k0 / KC) * a_block);
                k0 += KC;
                continue;
            }
            pack_cols(g, c, k, pb, scratch);
            for (int64_t p0 = 0; p0 < np; p0 += mcp) {
                struct span p = thin ? all : (struct span){p0, least(p0 + mcp, np)};
                char *block = thin ? pa + (size_t)(k0 / KC) * a_block : pa;
                if (!thin) pack_rows(g, rows, np, p, k, block);
                multiply(g, rows, np, p, c, k, block, pb);
                if (thin) break;
            }
            k0 += KC;
        } while (k0 < g->k);
    }
}

static void gemm_run(const struct dan_gemm *g, void *ws, int ith, int nth)
{
    struct span rows, cols;
    share_grid(g, ith, nth, &rows, &cols);
    if (rows.lo >= rows.hi || cols.lo >= cols.hi) return;
    char *s = (char *)ws + gemm_bytes(g->m, g->n, g->k, nth) / (size_t)nth * (size_t)ith, *pa = s + SCRATCH * sizeof(float);
    tile_begin();
    gemm_rectangle(g, rows, cols, pa, pa + area_a(g->m, g->k), (float *)s);
    tile_end();
}
