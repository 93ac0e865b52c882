/* accepts, workspace and run of the matmul kernels with f32 or bf16 products; after gemm_body.h. */
static bool accepts_b(const struct dan_args *a)
{
    const struct dan_dtype *t = a->in[1].dtype;
    if (!dan_matmul_fits(a)) return false;
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

/* For head_ce: f32 result, nothing shared. */
static inline size_t plain_bytes(int64_t m, int64_t n, int64_t k, int nth) { return gemm_bytes(&(struct dan_gemm){.m = m, .n = n, .k = k}, nth); }
