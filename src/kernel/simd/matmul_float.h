/* workspace and run of the matmul kernels with f32 or bf16 products; after gemm_body.h. */
static bool accepts_b(const struct dan_args *a)
{
    const struct dan_dtype *t = a->in[1].dtype;
    if (!dan_matmul_fits(a)) return false;
    if (t == &dan_dtype_f32) return true;
    return t->to_f32 && KC % t->block == 0 && (a->attr[DAN_MATMUL_TB].i || t->block <= MAX_BLOCK);
}

static size_t workspace(const struct dan_args *a, int nth)
{
    struct dan_gemm g = dan_matmul_gemm(a);
    return gemm_bytes(g.m, g.n, g.k, nth);
}

static void run(const struct dan_args *a)
{
    struct dan_gemm g = dan_matmul_gemm(a);
    g.b_bf16 = TAKES_BF16 && g.tb && g.b_type == &dan_dtype_bf16;
    if (g.b_bf16) g.b_type = NULL;
    gemm_run(&g, a->ws, a->ith, a->nth);
}
