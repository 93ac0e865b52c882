/* What a kernel sees.  Kernels never allocate, never fail, and write only their own share of
 * the output: a result must not depend on nth. */
#ifndef DAN_CORE_ARGS_H
#define DAN_CORE_ARGS_H
#include "core/tensor.h"

enum { DAN_MAX_ATTR = 8, DAN_MAX_OUT = 12 };
union dan_attr { int64_t i; double f; };

struct dan_pool;
struct dan_args {
    const struct dan_tensor *in;               /* n_in; an absent optional input has data = NULL, dtype = NULL */
    const struct dan_tensor *out;              /* n_out: one, or the parts of a multi-output op */
    const union dan_attr    *attr;             /* indexed by the enums of op/attrs.h */
    void   *ws;                                /* planned workspace, 64-byte aligned */
    const void *packed;                        /* in[1] as the kernel's pack laid it out, 64-byte aligned; NULL: it was not packed */
    struct dan_pool *pool;                     /* for dan_barrier_args only */
    int32_t n_in, n_out, ith, nth;             /* this thread's share */
    int64_t row0;                              /* rows of the op's whole output before those seen here: counter-based randomness
                                                * counts from there */
};

/* Waits for the other threads of this kernel call (needed after shared packing in ws). */
void dan_args_barrier(const struct dan_args *a);

/* This thread's part [*lo, *hi) of n items, in units of `unit`. */
static inline void dan_share(const struct dan_args *a, int64_t n, int64_t unit, int64_t *lo, int64_t *hi)
{
    int64_t u = (n + unit - 1) / unit;
    int64_t l = u * a->ith / a->nth * unit, h = u * (a->ith + 1) / a->nth * unit;
    *lo = l < n ? l : n;
    *hi = h < n ? h : n;
}

struct dan_kernel {                            /* one file in src/kernel/ISA/ each */
    const char *op, *isa, *name;               /* "matmul", "avx512", "matmul_f32_avx512" */
    uint64_t    needs;                         /* CPU feature bits, base/sys.h */
    int32_t     rank;                          /* of all that accept, the highest rank wins */
    /* Looks at dtypes, static dims and attributes; never at a dynamic dim's value (R7, and
     * because prefill and decode must choose the same kernel).  data pointers are NULL here. */
    bool   (*accepts)  (const struct dan_args *a);
    size_t (*workspace)(const struct dan_args *a, int nth);   /* bytes for the shapes in a; NULL: none */
    void   (*run)      (const struct dan_args *a);
    /* A constant in[1] may be laid out once, before the first run; the same bits come out of run with and without.  NULL: not
     * worth it.  pack_bytes 0: not for this in[1]. */
    size_t (*pack_bytes)(const struct dan_args *a);
    void   (*pack)     (const struct dan_args *a, void *dst);          /* thread ith of nth writes its share */
    float  rtol;                               /* promise against op->ref, relative to max|ref| */
    bool   half;                               /* accepts() tells f32 values stored as bf16 (pass mixed) from f32 ones, and
                                                * run takes those it accepts; else the executor passes them through f32 */
};
extern const struct dan_kernel *const dan_kernels[];             /* generated; NULL-terminated */

#endif
