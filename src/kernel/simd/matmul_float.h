/* accepts, workspace and run of the matmul kernels with f32 or bf16 products; after gemm_body.h. */
/* Levels (fp8) with a scale per row and nothing else; int8 has products of its own, which round activations. */
static bool takes_scale(const struct dan_args *a)
{
    const struct dan_tensor *scale = &a->in[DAN_MATMUL_SCALE];
    bool more = a->in[DAN_MATMUL_ZERO].dtype || a->in[DAN_MATMUL_INPUT_SCALE].dtype;
    return scale->dtype == &dan_dtype_f32 && !more && a->in[1].dtype != &dan_dtype_i8 && dan_matmul_flat(a);
}

static bool accepts_b(const struct dan_args *a)
{
    const struct dan_dtype *t = a->in[1].dtype;
    if (dan_has_scale(a) ? !takes_scale(a) : !dan_matmul_fits(a)) return false;
    if (t == &dan_dtype_f32 || t == &dan_dtype_bf16) return true;
    return t->to_f32 && PIECE % t->block == 0 && (a->attr[DAN_MATMUL_TB].i || t->block <= MAX_BLOCK);
}

static size_t workspace(const struct dan_args *a, int nth)
{
    struct dan_gemm g = dan_matmul_gemm(a);
    return gemm_bytes(&g, nth);
}

static void run(const struct dan_args *a)
{
    struct dan_gemm g = dan_matmul_gemm(a);
    gemm_run(&g, a->ws, a->ith, a->nth);
}

/* [N,K] of bf16 or f32 in panels as pack_b makes them, once: half of a product of 16 rows is packing else, and few rows read it as one stream. */
static inline size_t float_pack_bytes(const struct dan_args *a)
{
    const struct dan_tensor *b = &a->in[1];
    if ((!dan_is_bf16(b) && b->dtype != &dan_dtype_f32) || a->attr[DAN_MATMUL_TA].i || !a->attr[DAN_MATMUL_TB].i) return 0;
    return (size_t)parts(b->shape.d[0], NR) * panel_b_bytes(b->shape.d[1]);
}

/* The same where panels hold f32: of bf16 they would be twice the bytes, and for rounded products other numbers. */
static inline size_t f32_pack_bytes(const struct dan_args *a)
{
    return a->in[1].dtype == &dan_dtype_f32 && a->attr[DAN_MATMUL_PREC].i == DAN_PREC_F32 ? float_pack_bytes(a) : 0;
}

static inline void float_pack(const struct dan_args *a, void *dst)
{
    struct dan_gemm g = dan_matmul_gemm(a);
    struct work w = {.g = &g, .b_step = panel_b_bytes(g.k)};
    int64_t lo, hi;
    dan_share(a, parts(g.n, NR), 1, &lo, &hi);
    pack_cols(&w, (struct span){least(lo * NR, g.n), least(hi * NR, g.n)}, (struct span){0, g.k}, (char *)dst + (size_t)lo * w.b_step, w.b_step);
}

/* For head_ce: f32 result, nothing shared; enough for b in any format, with or without tb. */
static inline size_t plain_bytes(int64_t m, int64_t n, int64_t k, int nth)
{
    const size_t wide = (size_t)(PIECE * 2 * (MAX_BLOCK - FEW_BLOCK)) * sizeof(float);
    return gemm_bytes(&(struct dan_gemm){.m = m, .n = n, .k = k}, nth) + (size_t)nth * wide;
}
