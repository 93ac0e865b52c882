/* accepts, workspace and run of the matmul kernels for weights in q8_0 that go through gemm_body.h (scalar, AMX); after it.  rtol is what
 * quantising the activations costs against the reference, which keeps them in f32. */
static bool accepts(const struct dan_args *a)
{
    return a->in[1].dtype == &dan_dtype_q8_0 && !a->attr[DAN_MATMUL_TA].i && a->attr[DAN_MATMUL_TB].i &&
           a->in[1].stride[0] < INT32_MAX / 16 && dan_matmul_fits_rounded(a);
}

static size_t workspace(const struct dan_args *a, int nth)
{
    struct dan_gemm g = dan_matmul_gemm(a);
    return gemm_bytes(&g, nth);
}

static void run(const struct dan_args *a)
{
    struct dan_gemm g = dan_matmul_gemm(a);
    g.b_type = NULL;
    gemm_run(&g, a->ws, a->ith, a->nth);
}
