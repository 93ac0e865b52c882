/* Storage formats: one const struct in one file of src/dtype/ each. */
#ifndef DAN_CORE_DTYPE_H
#define DAN_CORE_DTYPE_H
#include <stddef.h>
#include <stdint.h>

struct dan_dtype {
    const char *name;                          /* "f32", "q8_0" */
    uint16_t    block, bytes;                  /* elements and bytes per block; block 1 = plain */
    int16_t     gguf_id;                       /* -1: not in GGUF */
    const char *safetensors;                   /* "BF16"; NULL: not in safetensors */
    const struct dan_dtype *dot_with;          /* what activations become before dot(); NULL: no dot */
    void  (*to_f32)  (const void *src, float *dst, int64_t n);   /* n is a multiple of block */
    void  (*from_f32)(const float *src, void *dst, int64_t n);   /* NULL: a block format that is only read */
    float (*dot)     (const void *w, const void *x, int64_t n);
    float max_rmse;                            /* promise on unit-normal data; the table test holds it */
    /* Quantising one whole row with weights importance[n] >= 0 of the squared errors (those of ggml also use the row's mean square);
     * NULL: the format cannot. */
    void  (*from_f32_weighted)(const float *src, const float *importance, void *dst, int64_t n);
    /* One block by hand (GPTQ and its kin): fit chooses its scales from x[block] (importance may be NULL) as from_f32 or
     * from_f32_weighted would for a row of one block, and clears its levels; put stores the level nearest to x under the stored
     * scales as element i and returns its value.  fit, then put of every x in any order, has the values of from_f32, but for q8_0,
     * q4_0, q4_1, q5_0, q5_1 and iq4_nl: ggml takes their levels from a scale that is not yet rounded to f16, so put may come a little
     * nearer.  NULL: the format cannot. */
    void  (*fit)(const float *x, const float *importance, void *block);
    float (*put)(void *block, int i, float x);
    const char *fallback;                      /* the format for rows that are no multiple of block; NULL: none */
};

extern const struct dan_dtype dan_dtype_f32, dan_dtype_f64, dan_dtype_bf16, dan_dtype_f16,
    dan_dtype_i8, dan_dtype_i32, dan_dtype_i64, dan_dtype_q8_0, dan_dtype_q4_0, dan_dtype_q4_1, dan_dtype_q5_0, dan_dtype_q5_1,
    dan_dtype_q2_k, dan_dtype_q3_k, dan_dtype_q4_k, dan_dtype_q5_k, dan_dtype_q6_k, dan_dtype_iq4_nl,
    dan_dtype_i4_g32, dan_dtype_i4_g64, dan_dtype_i4_g128, dan_dtype_u4_g32, dan_dtype_u4_g64, dan_dtype_u4_g128;
extern const struct dan_dtype *const dan_dtypes[];               /* generated; NULL-terminated */

const struct dan_dtype *dan_dtype_find(const char *name);         /* NULL when there is none */
const struct dan_dtype *dan_dtype_find_safetensors(const char *name);
/* t, or what is nearest to it in size for rows of n elements: its fallback, and so on; NULL when none has blocks that fit. */
const struct dan_dtype *dan_dtype_for_rows(const struct dan_dtype *t, int64_t n);

static inline size_t dan_dtype_bytes(const struct dan_dtype *t, int64_t n)
{
    return (size_t)(n / t->block) * t->bytes;
}

#endif
