/* y[M,N] = x[M,K] b[N,K]^T with int8 levels of b and a scale (and zero) per row of b, in integers; the epilogue of the op matmul.
 *
 * x becomes int8, by all threads together: per row (scale max|x| / 127, to nearest even) or with the product's own static scale
 * and zero.  One int32 sum runs over all of K: it is exact, so every ISA has the same, whatever the order; then
 *   y = factor_m scale_n (sum - zero_n sum_k x_mk), a subtraction and two multiplications in f32, the same on every ISA.
 * A row with a value that is no finite number gives NaN (static: a NaN does, infinities are the ends of the range).
 *
 * Before this the file includes math_ISA.h and store_half.h and defines
 *   enum { MR, NR }               rows and columns of a tile
 *   enum { OFFSET }               128: b is packed as level + 128 (vpdpbusd wants one unsigned operand); else 0
 *   enum { IN_DWORD }             levels of x in a dword: 4 int8 or 2 int16
 *   enum { DWORD_B }              bytes of a packed panel for a dword of x and a column
 *   void put_levels(char *x, int rows, int64_t k, vf q)       VF whole numbers q as levels k .. of a row: dword d lies at d * rows * 4
 *   void pack_chunk(const int8_t *b, int64_t ldb, int cols, int64_t n, char *to)   n <= K_CHUNK levels (then zeros) of cols <= NR rows
 *   void tile(int rows, int64_t dwords, const char *x, const char *b, int32_t *c)  c[rows][NR] += x b
 * x of a panel of rows: [dword][row][4 bytes]; b of a panel of columns: [dword][NR][DWORD_B], then the NR sums of its levels. */
#include <math.h>
#include "core/rounded.h"
#include "kernel/simd/gemm_finish.h"

/* X_BLOCK: bytes of quantised rows that stay in L2 while columns go by.  OWN: elements of x up to which each thread quantises all for
 * itself, which is quicker than waiting.  K_CHUNK: levels packed at a time; K is padded to it with zeros. */
enum { X_BLOCK = 448 << 10, OWN = 8192, OWN_ROWS = 4, K_CHUNK = 64 };

struct row { float factor; int32_t sum; };     /* of a row of x: its scale, the sum of its levels */

struct rwork {
    const struct dan_gemm *g;
    const float *scale, *zero, *fixed;         /* [N], [N] or NULL, {s, z} or NULL */
    int32_t x_zero;
    int64_t dwords, row_panels, r0, r1, c0, c1;        /* r0 .. r1 of row panels and c0 .. c1 of column panels: a thread's share */
    char *x, *panel;                           /* quantised rows; a panel packed here */
    struct row *row;
    int32_t *sum;                              /* [MR][NR], then as much for f32 */
    const char *packed;                        /* all of b, or NULL */
};

static inline int64_t least(int64_t x, int64_t y) { return x < y ? x : y; }
static inline int64_t most(int64_t x, int64_t y) { return x > y ? x : y; }
static inline int64_t parts(int64_t n, int64_t unit) { return (n + unit - 1) / unit; }
static inline size_t aligned(size_t n) { return (n + 63) / 64 * 64; }
static inline int64_t dwords_of(int64_t k) { return parts(k, K_CHUNK) * (K_CHUNK / IN_DWORD); }
static inline size_t panel_bytes(int64_t k) { return (size_t)dwords_of(k) * NR * DWORD_B + NR * 4; }
static inline size_t x_bytes(int64_t m, int64_t k) { return aligned((size_t)(m * dwords_of(k)) * 4) + aligned((size_t)m * sizeof(struct row)); }
/* Rows are cut into panels of nearly equal height. */
static inline int64_t panel_row(const struct rwork *w, int64_t p) { return w->g->m * p / w->row_panels; }

/* ---- activations --------------------------------------------------------------------------------- */

static inline vf x_at(const struct dan_gemm *g, const char *x, int64_t k)
{
    if (k + VF > g->k) return load_row(g->a_bf16, x, k, most(0, g->k - k));
    return g->a_bf16 ? vf_load_bf16(x + 2 * k) : vf_load((const float *)x + k);
}

/* The first n levels, then 0. */
static inline vf keep_levels(vf q, int64_t n)
{
    float t[VF];
    vf_store(t, q);
    for (int64_t i = most(0, n); i < VF; i++) t[i] = 0;
    return vf_load(t);
}

static inline vf is_nan(vf x)
{
    vf no = vf_set(0.f), yes = vf_set(1.f);
    return vf_less(x, vf_set(INFINITY), no, vf_less(no, x, no, yes));
}

/* Levels of one row, with the scale of its largest value. */
static struct row quantise_row(const struct dan_gemm *g, const char *x, int rows, char *to)
{
    vf top = vf_set(0.f), bad = top, sum = top;
    for (int64_t k = 0; k < g->k; k += VF) {
        vf v = x_at(g, x, k);
        top = vf_max(vf_abs(v), top);
        bad = vf_fma(v, vf_set(0.f), bad);
    }
    float max = vf_top(top);
    vf inverse = vf_set(max > 1e-35f ? 127.f / max : 0.f);
    if (vf_sum(bad) != 0) return (struct row){NAN, 0};
    for (int64_t k = 0; k < parts(g->k, K_CHUNK) * K_CHUNK; k += VF) {
        vf q = vf_round(vf_mul(x_at(g, x, k), inverse));
        sum = vf_add(sum, q);
        put_levels(to, rows, k, q);
    }
    return (struct row){max / 127.f, (int32_t)vf_sum(sum)};
}

/* Levels of one row as the product's static scale and zero say. */
static struct row quantise_fixed(const struct dan_gemm *g, const char *x, int rows, char *to, const float *fixed)
{
    vf s = vf_set(fixed[0]), z = vf_set(fixed[1]), lo = vf_set(-128.f - fixed[1]), hi = vf_set(127.f - fixed[1]), sum = vf_set(0.f), bad = sum;
    for (int64_t k = 0; k < parts(g->k, K_CHUNK) * K_CHUNK; k += VF) {
        vf v = x_at(g, x, k), q = vf_add(vf_round(vf_max(lo, vf_min(vf_div(v, s), hi))), z);
        bad = vf_add(bad, is_nan(v));
        if (k + VF > g->k) q = keep_levels(q, g->k - k);
        sum = vf_add(sum, q);
        put_levels(to, rows, k, q);
    }
    return (struct row){vf_sum(bad) != 0 ? NAN : fixed[0], (int32_t)vf_sum(sum)};
}

/* Levels of a row that was rounded before. */
static struct row take_row(const struct dan_gemm *g, const char *x, int rows, char *to)
{
    struct dan_rounded_row t = dan_rounded_row_of(x, g->k);
    for (int64_t k = 0; k < parts(g->k, K_CHUNK) * K_CHUNK; k += VF) {
        float q[VF];
        int64_t n = g->k - k;
        for (int i = 0; i < VF; i++) q[i] = i < n ? (float)((const int8_t *)x)[k + i] : 0.f;
        put_levels(to, rows, k, vf_load(q));
    }
    return (struct row){t.scale, t.sum};
}

static void quantise_panels(const struct rwork *w, int64_t lo, int64_t hi)
{
    const struct dan_gemm *g = w->g;
    for (int64_t p = lo; p < hi; p++) {
        int64_t first = panel_row(w, p), n = panel_row(w, p + 1) - first;
        char *to = w->x + (size_t)(first * w->dwords) * 4;
        for (int64_t i = 0; i < n; i++) {
            const char *x = (const char *)g->a + (first + i) * g->lda;
            if (g->a_rounded) w->row[first + i] = take_row(g, x, (int)n, to + 4 * i);
            else w->row[first + i] = w->fixed ? quantise_fixed(g, x, (int)n, to + 4 * i, w->fixed) : quantise_row(g, x, (int)n, to + 4 * i);
        }
    }
}

/* ---- weights --------------------------------------------------------------------------------------- */

static void pack_panel(const int8_t *b, int64_t ldb, int64_t n, int64_t k, int64_t col, char *to)
{
    int cols = (int)least(NR, n - col);
    int32_t *sum = (int32_t *)(to + (size_t)dwords_of(k) * NR * DWORD_B);
    b += col * ldb;
    for (int j = 0; j < NR; j++) {
        sum[j] = 0;
        for (int64_t i = 0; i < k && j < cols; i++) sum[j] += b[j * ldb + i];
    }
    for (int64_t i = 0; i < k; i += K_CHUNK, to += K_CHUNK / IN_DWORD * NR * DWORD_B) pack_chunk(b + i, ldb, cols, least(K_CHUNK, k - i), to);
}

static const char *panel_of(const struct rwork *w, int64_t p)
{
    if (w->packed) return w->packed + (size_t)p * panel_bytes(w->g->k);
    pack_panel(w->g->b, w->g->ldb, w->g->n, w->g->k, p * NR, w->panel);
    return w->panel;
}

/* ---- multiplying ------------------------------------------------------------------------------------- */

/* Columns of a panel; 0 beyond the last. */
struct columns { float scale[NR], zero[NR]; };

static struct columns columns_of(const struct rwork *w, int64_t p)
{
    struct columns c = {.scale = {0}};
    int64_t n = least(NR, w->g->n - p * NR);
    memcpy(c.scale, w->scale + p * NR, (size_t)n * sizeof *c.scale);
    if (w->zero) memcpy(c.zero, w->zero + p * NR, (size_t)n * sizeof *c.zero);
    return c;
}

/* What a sum starts with, so that it becomes sum_k (x - x_zero) level.  Sums wrap: only the result has to fit. */
static void start_sums(const struct rwork *w, int64_t row, int64_t rows, const int32_t *col_sum, uint32_t *sum)
{
    for (int64_t i = 0; i < rows; i++, sum += NR)
        for (int j = 0; j < NR; j++) sum[j] = 0u - (uint32_t)OFFSET * (uint32_t)w->row[row + i].sum - (uint32_t)w->x_zero * (uint32_t)col_sum[j];
}

static void scale_sums(const struct rwork *w, int64_t row, int64_t rows, const struct columns *c, const int32_t *sum, float *y)
{
    for (int64_t i = 0; i < rows; i++, sum += NR, y += NR) {
        struct row r = w->row[row + i];
        float rest = (float)(r.sum - (int32_t)(w->g->k * w->x_zero));
        if (w->zero)
            for (int j = 0; j < NR; j++) y[j] = ((float)sum[j] - c->zero[j] * rest) * (r.factor * c->scale[j]);
        else
            for (int j = 0; j < NR; j++) y[j] = (float)sum[j] * (r.factor * c->scale[j]);
    }
}

static void multiply_panel(const struct rwork *w, int64_t r0, int64_t r1, int64_t p, const char *panel)
{
    const struct columns c = columns_of(w, p);
    const int32_t *col_sum = (const int32_t *)(panel + (size_t)w->dwords * NR * DWORD_B);
    float *y = (float *)(w->sum + MR * NR);
    for (int64_t r = r0; r < r1; r++) {
        int64_t row = panel_row(w, r), rows = panel_row(w, r + 1) - row;
        if (w->g->res) fetch_residual(w->g, row, (int)rows, p * NR);
        start_sums(w, row, rows, col_sum, (uint32_t *)w->sum);
        tile((int)rows, w->dwords, w->x + (size_t)(row * w->dwords) * 4, panel, w->sum);
        scale_sums(w, row, rows, &c, w->sum, y);
        finish_tile(w->g, &(struct done){y, NR, row, p * NR, (int)rows, (int)least(NR, w->g->n - p * NR)});
    }
}

static void multiply(const struct rwork *w)
{
    int64_t step = w->packed ? most(1, X_BLOCK / most(1, MR * w->dwords * 4)) : w->row_panels;
    step = parts(w->r1 - w->r0, most(1, parts(w->r1 - w->r0, step)));
    for (int64_t r = w->r0; r < w->r1; r += step)
        for (int64_t p = w->c0; p < w->c1; p++) multiply_panel(w, r, least(r + step, w->r1), p, panel_of(w, p));
}

/* Threads form a grid of tm x tn; the largest rectangle counts, and what fetching (or packing) a panel costs, in rows. */
static void share_grid(struct rwork *w, int ith, int nth)
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

/* ---- the kernel ---------------------------------------------------------------------------------------- */

static inline bool quantises_alone(const struct dan_gemm *g) { return g->m <= OWN_ROWS && g->m * g->k <= OWN; }
static inline size_t own_bytes(void) { return aligned((OWN + OWN_ROWS * K_CHUNK) / IN_DWORD * 4) + aligned(OWN_ROWS * sizeof(struct row)); }
static inline size_t thread_bytes(int64_t k) { return aligned(panel_bytes(k)) + 2 * aligned(MR * NR * 4) + own_bytes(); }

static void prepare_rows(struct rwork *w, const struct dan_args *a, char *own)
{
    bool alone = quantises_alone(w->g);
    w->x = alone ? own : a->ws;
    w->row = (struct row *)(w->x + aligned((size_t)(w->g->m * w->dwords) * 4));
    if (alone) {
        quantise_panels(w, 0, w->row_panels);
        return;
    }
    quantise_panels(w, w->row_panels * a->ith / a->nth, w->row_panels * (a->ith + 1) / a->nth);
    dan_args_barrier(a);
}

static const float *vector(const struct dan_args *a, int i) { return i < a->n_in && a->in[i].dtype ? a->in[i].data : NULL; }

static void run(const struct dan_args *a)
{
    struct dan_gemm g = dan_matmul_gemm(a);
    struct rwork w = {.g = &g, .dwords = dwords_of(g.k), .row_panels = parts(g.m, MR), .packed = a->packed, .scale = vector(a, DAN_MATMUL_SCALE),
                      .zero = vector(a, DAN_MATMUL_ZERO), .fixed = vector(a, DAN_MATMUL_INPUT_SCALE)};
    if (g.m == 0 || g.n == 0) return;
    g.scale = NULL;                            /* scale_sums has it */
    if (w.fixed) w.x_zero = (int32_t)w.fixed[1];
    w.panel = (char *)a->ws + x_bytes(g.m, g.k) + thread_bytes(g.k) * (size_t)a->ith;
    w.sum = (int32_t *)(w.panel + aligned(panel_bytes(g.k)));
    prepare_rows(&w, a, (char *)w.sum + 2 * aligned(MR * NR * 4));
    share_grid(&w, a->ith, a->nth);
    multiply(&w);
}

static size_t workspace(const struct dan_args *a, int nth)
{
    struct dan_gemm g = dan_matmul_gemm(a);
    return x_bytes(g.m, g.k) + thread_bytes(g.k) * (size_t)nth;
}

static bool is_f32(const struct dan_args *a, int i) { return i >= a->n_in || !a->in[i].dtype || a->in[i].dtype == &dan_dtype_f32; }

/* The result fits in int32: |x| <= 127, or with a static zero |x - zero| <= 255, times 128. */
static bool accepts_rows(const struct dan_args *a, bool fixed)
{
    if (a->in[1].dtype != &dan_dtype_i8 || a->attr[DAN_MATMUL_TA].i || !a->attr[DAN_MATMUL_TB].i) return false;
    bool has = a->n_in > DAN_MATMUL_INPUT_SCALE && a->in[DAN_MATMUL_INPUT_SCALE].dtype;
    for (int i = DAN_MATMUL_SCALE; i <= DAN_MATMUL_INPUT_SCALE; i++)
        if (!is_f32(a, i)) return false;
    return dan_has_scale(a) && has == fixed && a->in[1].shape.n == 2 && a->in[1].shape.d[1] <= INT32_MAX / (fixed ? 255 * 128 : 127 * 128) &&
           dan_matmul_flat_of(a, !fixed);
}

static bool accepts(const struct dan_args *a) { return accepts_rows(a, false); }
static bool accepts_fixed(const struct dan_args *a) { return accepts_rows(a, true); }

static size_t pack_bytes(const struct dan_args *a)
{
    const struct dan_tensor *b = &a->in[1];
    return (size_t)parts(b->shape.d[0], NR) * panel_bytes(b->shape.d[1]);
}

static void pack(const struct dan_args *a, void *dst)
{
    const struct dan_tensor *b = &a->in[1];
    int64_t lo, hi, k = b->shape.d[1];
    dan_share(a, parts(b->shape.d[0], NR), 1, &lo, &hi);
    for (int64_t p = lo; p < hi; p++) pack_panel(b->data, b->stride[0], b->shape.d[0], k, p * NR, (char *)dst + (size_t)p * panel_bytes(k));
}
