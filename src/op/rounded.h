/* What ops that give rows rounded to int8 (core/rounded.h) share: the norms and quantise_rows. */
#ifndef DAN_OP_ROUNDED_H
#define DAN_OP_ROUNDED_H
#include "core/rounded.h"
#include "op/node.h"

/* An output of rows *s becomes one of rounded rows; form 0 leaves it. */
static inline int rounded_output(const struct dan_node *n, int64_t form, const struct dan_dtype **t, struct dan_shape *s, struct dan_err *e)
{
    if (form == DAN_ROUNDED_NOT) return DAN_OK;
    if (form != DAN_ROUNDED_GROUPS && form != DAN_ROUNDED_ROWS)
        return dan_infer_fail(n, e, "there is no form %lld of rounded rows: give 1 (groups) or 2 (rows)", (long long)form);
    int64_t k = s->d[s->n - 1], width = dan_rounded_width((enum dan_rounded)form, k);
    if (width < 0) return dan_infer_fail(n, e, "rows of %lld values have no groups of %d: round them by rows", (long long)k, DAN_ROUNDED_GROUP);
    s->d[s->n - 1] = width;
    *t = &dan_dtype_i8;
    return DAN_OK;
}

/* Workspace: for each thread a row, and the same as f32 behind it. */
static inline size_t rounded_row_bytes(const struct dan_args *a)
{
    return ((size_t)dan_cols(&a->in[0]) * (sizeof(real) + sizeof(float)) + 63) / 64 * 64;
}
static inline size_t rounded_ws(const struct dan_args *a, int nth) { return rounded_row_bytes(a) * (size_t)nth; }
static inline real *rounded_tmp(const struct dan_args *a) { return (real *)(void *)((char *)a->ws + rounded_row_bytes(a) * (size_t)a->ith); }

/* x[k] to a rounded row; room: rounded_tmp, where x may lie. */
static inline void rounded_row(int64_t form, const real *x, int64_t k, real *room, char *to)
{
    float *tmp = (float *)(void *)(room + k);
    for (int64_t i = 0; i < k; i++) tmp[i] = (float)x[i];
    if (form == DAN_ROUNDED_ROWS) dan_round_whole_row(tmp, k, to);
    for (int64_t i = 0; form == DAN_ROUNDED_GROUPS && i < k; i += DAN_ROUNDED_GROUP, to += DAN_ROUNDED_GROUP_BYTES) dan_round_group(tmp + i, to);
}

#endif
