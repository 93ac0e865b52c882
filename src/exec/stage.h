/* Nodes with values that are stored as bf16 and a kernel (or reference) that knows f32 only: the values go
 * through f32 on the way in and out.  Row by row in pieces that stay in L1 where the op allows it
 * (DAN_OP_ROWWISE), else whole through the workspace. */
#ifndef DAN_EXEC_STAGE_H
#define DAN_EXEC_STAGE_H
#include "core/args.h"

struct dan_program;
struct step;
enum { DAN_STAGE_IN = 16 };                    /* most inputs of a staged node */

/* What run needs to know; fixed at compile. */
struct stage {
    uint32_t in_half, out_half;                /* bits: stored as bf16, f32 by type */
    uint32_t in_rows;                          /* rowwise: inputs that are cut with the rows of output 0 */
    int64_t  rows;                             /* rows at a time; 0: whole */
    size_t   inner_ws;                         /* bytes of the kernel's own workspace, a thread's if rowwise */
    void (*copy)(const struct dan_args *a);    /* the conversion */
    void (*run)(const struct dan_args *a);
};

/* What the kernel of a planned stage will see at most: f32, and the rows of one piece.  in and out have room for
 * DAN_STAGE_IN and DAN_MAX_OUT tensors. */
struct dan_args dan_stage_declared(const struct step *s, struct dan_tensor *in, struct dan_tensor *out);
/* Decides rows or whole; `rowwise`: the op has DAN_OP_ROWWISE. */
void   dan_stage_plan(struct step *s, bool rowwise);
size_t dan_stage_bytes(const struct step *s, int nth);
void   dan_stage_run(const struct stage *g, const struct dan_args *a);

#endif
