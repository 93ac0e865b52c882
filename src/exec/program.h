/* Inside the executor: what compile makes and run uses.  Nobody outside exec/ includes this. */
#ifndef DAN_EXEC_PROGRAM_H
#define DAN_EXEC_PROGRAM_H
#include "core/packs.h"
#include "exec/exec.h"
#include "exec/stage.h"

/* A unit is one output part of one node.  Its storage: its own place in the arena, a view of
 * another unit (view_of), memory bound from outside (leaf), or input `slot` of the concat whose
 * unit is the root (placed): its maker writes there. */
enum unit_kind { UNIT_ARENA, UNIT_VIEW, UNIT_LEAF, UNIT_PLACED };
struct unit {
    struct dan_tensor t;                       /* data valid after refresh */
    size_t  offset, bytes;                     /* arena place; bytes planned for the declared maximum */
    int32_t node, part, slot;
    int32_t root;                              /* unit that owns the memory (itself, unless view or in place) */
    int32_t first, last;                       /* lifetime in node indices; last = INT32_MAX for outputs */
    enum unit_kind kind;
};

struct step {
    dan_ref node;
    const struct dan_kernel *kernel;           /* NULL: op->ref */
    void (*run)(const struct dan_args *a);
    struct stage *stage;                       /* values on their way through f32; NULL: none */
    struct dan_args args;                      /* in and out filled by refresh */
    struct dan_tensor *in, *out;
    int32_t *in_unit;                          /* -1: absent */
    int32_t out_unit;                          /* first part's unit */
    int32_t ws_unit;                           /* -1: none */
    struct dan_program *body;                  /* scan */
    struct chain *chain;                       /* chain */
    struct dan_pack *pack;                     /* in[1] as the kernel laid it out, or NULL */
    bool    pack_is_fresh;                     /* still to be filled */
    double  seconds;
    int64_t runs;
};

struct dan_program {
    struct dan_arena *arena;
    struct dan_graph  g;                       /* own copy of the nodes: shapes follow the bound inputs */
    const struct dan_graph *source;
    struct dan_exec_opts opts;
    struct unit *unit;
    int32_t  n_units;
    int32_t *first_unit;                       /* by node */
    struct step *step;
    int32_t  n_steps;
    char    *memory;
    size_t   memory_bytes;
    bool     dirty_shape, dirty_data;
    uint64_t cpu;                              /* features kernels may use */
    int64_t  infers;
    struct dan_packs *packs;                   /* of the store; NULL: nothing is packed */
};

int  dan_program_plan(struct dan_program *p, struct dan_err *e);      /* exec/plan.c: offsets of all units */
void dan_program_place(struct dan_program *p);                        /* exec/place.c: inputs of concats into their outputs */
void dan_unit_show_placed(const struct dan_program *p, struct unit *u);   /* strides, and data where memory is planned */
bool dan_node_placed(const struct dan_program *p, dan_ref concat);    /* all inputs are placed: nothing is left to do */
void dan_program_refresh(struct dan_program *p);                      /* tensors of all units and steps */
int  dan_program_prepare(struct dan_program *p, struct dan_err *e);    /* infer and refresh after binds */
int  dan_program_select(struct dan_program *p, struct step *s, struct dan_err *e);   /* exec/select.c */
const struct dan_kernel *dan_best_kernel(const struct dan_program *p, const char *op, const struct dan_args *a, bool half);
void (*dan_copy_run(const struct dan_program *p))(const struct dan_args *a);   /* between f32 and what is stored as bf16 */
size_t dan_step_workspace(const struct dan_program *p, struct step *s, int nth);
const char *dan_step_kernel(const struct step *s);
void dan_program_thread(struct dan_program *p, int ith, int nth);     /* exec/run.c: one thread's share of a run */
void dan_program_steps(struct dan_program *p, int32_t from, int32_t to, int ith, int nth);   /* of steps from .. to - 1 */
int  dan_run_range(struct dan_program *p, int32_t from, int32_t to, struct dan_err *e);      /* a run of steps from .. to - 1 on all threads */
void dan_program_pack(struct dan_program *p, struct dan_packs *packs);  /* exec/pack.c; NULL packs: out of memory, nothing is packed */
void dan_program_unpack(struct dan_program *p);
bool dan_is_folded(const char *name);                                 /* exec/store_fold.c: a param that fold_cbr asks for */
int  dan_store_fold(struct dan_store *s, const struct dan_node *n, struct dan_err *e);
int    dan_chain_compile(struct dan_program *p, struct step *s, int threads, struct dan_err *e);      /* exec/chain.c */
size_t dan_chain_bytes(const struct chain *c, int nth);
void   dan_chain_run(const struct chain *c, const struct dan_args *a);
void dan_scan_thread(struct dan_program *p, struct step *s, int ith, int nth);       /* exec/scan.c */

#endif
