/* The IR: a list of nodes in topological order.  Node 0 is poison.
 *
 * Topology is fixed, dims are not (R1): a graph is declared for a maximum per named input.
 * Everything that varies per run - positions, lengths, slots, step, learning rate, RNG
 * counters - is an input tensor, never an attribute (R3). */
#ifndef DAN_GRAPH_GRAPH_H
#define DAN_GRAPH_GRAPH_H
#include "base/arena.h"
#include "base/err.h"
#include "core/args.h"

typedef int32_t dan_ref;                       /* node index; 0 is the poison node */
struct dan_graph;
struct dan_node;
struct dan_builder;
struct dan_sample;

enum dan_op_props {
    DAN_OP_LEAF = 1 << 0,                      /* input, param, state: storage comes from outside */
    DAN_OP_ELEMENTWISE = 1 << 1,               /* out[i] depends on in[*][i] only (after broadcast) */
    DAN_OP_VIEW = 1 << 2,                      /* output is a view of in[0]; op->view fills the strides */
    DAN_OP_INPLACE = 1 << 3,                   /* may write over in[0] when that dies here and shapes match */
    DAN_OP_STATE = 1 << 4,                     /* writes in[0] (a state) in place and returns the new version */
    DAN_OP_RANDOM = 1 << 5,
    DAN_OP_COMM = 1 << 6,
    DAN_OP_NO_GRAD = 1 << 7,                   /* no vjp, by nature (integer results, gradients of ops) */
    DAN_OP_LIKE = 1 << 9,                      /* the last input is read for its shape only: does not keep it alive */
    DAN_OP_BODY = 1 << 8,                      /* has a body graph: scan */
    DAN_OP_BYTES = 1 << 11,                    /* ref moves elements without looking at them: any dtype, also bf16 for f32 */
    DAN_OP_ROWWISE = 1 << 10,                  /* row r of every output (first dimension) needs only row r of the inputs that
                                                * have the output's rank and rows, or are i32 vectors of them, and others whole */
    DAN_OP_STRIDED = 1 << 12,                  /* ref and kernels write outputs of any row stride: they may lie in columns of another buffer */
};

/* An op: one file in src/op/ each.  The file is compiled twice: with real = float it defines
 * dan_op_NAME, with real = double dan_op64_NAME, of which only `ref` is used. */
struct dan_op {
    const char *name, *doc;
    int32_t  n_in;                             /* -1: any number; optional inputs are 0 refs at the end */
    int32_t  n_opt;                            /* how many of n_in, from the end, may be absent */
    uint32_t props;
    uint32_t half_in, half_out;                /* bits: inputs, outputs that mixed precision may store as bf16 */
    struct { const char *name; char type; } attrs[DAN_MAX_ATTR];     /* type 'i' or 'f' */
    /* Computes n->shape[0..n_out) and n->dtype from the inputs; again at every bind (cheap, no
     * allocation).  Must be monotone: fewer rows never need more bytes. */
    int  (*infer) (const struct dan_graph *g, struct dan_node *n, struct dan_err *e);
    void (*view)  (const struct dan_args *a, struct dan_tensor *out);  /* VIEW ops: out->data, stride */
    void (*ref)   (const struct dan_args *a);  /* plain C in `real`: the meaning of the op */
    size_t (*ref_ws)(const struct dan_args *a, int nth);               /* workspace of ref; NULL: none */
    /* Appends nodes for the gradient: dy[i] for output i (0 = no gradient arrives there);
     * fills dx[i] for input i (leave 0 where none flows). */
    void (*vjp)   (struct dan_builder *b, dan_ref y, const dan_ref *dy, dan_ref *dx);
    void (*cost)  (const struct dan_graph *g, const struct dan_node *n, double *flops, double *bytes);
    /* Builds the i-th test case; false when there are no more.  See op/sample.h. */
    bool (*sample)(struct dan_sample *s, int i);
};
extern const struct dan_op *const dan_ops[];                     /* generated; NULL-terminated, sorted by name */
extern const struct dan_op *const dan_ops64[];                   /* same order */
const struct dan_op *dan_op_find(const char *name);
const struct dan_op *dan_op_f64(const struct dan_op *op);        /* its double twin */

struct dan_node {
    const struct dan_op    *op;
    const struct dan_dtype *dtype;             /* of output 0 */
    struct dan_shape        shape;             /* of output 0 */
    const dan_ref          *in;
    union dan_attr          attr[DAN_MAX_ATTR];
    const char             *name;              /* leaves: "blk.3.attn_q.weight"; else scope or NULL */
    const char             *where;             /* "llama.c:41": who built it */
    const char             *init;              /* params: "normal:0.02", "ones", "zeros", "uniform:0.1" */
    const struct dan_graph *body;              /* scan only: the graph of one step */
    const dan_ref          *origin;            /* after passes: nodes of the graph as built that this one computes, -i for
                                                * the gradient of i; ascending, 0-terminated.  NULL before any pass */
    struct dan_out { const struct dan_dtype *dtype; struct dan_shape shape; } *part;   /* multi-output: n_out parts */
    int32_t                 n_in, n_out;       /* n_out = 1 unless the op has parts, then use pick */
    int32_t                 layer;             /* builder scope "blk.N": N; -1 outside (remat, reports) */
    bool                    frozen;            /* params: no gradient wanted */
    bool                    recompute;         /* made by remat: cse must leave it alone */
    uint16_t                half;              /* bit k: part k is stored as bf16 though its type is f32 (pass mixed) */
};

struct dan_graph {
    struct dan_arena *arena;
    struct dan_node  *node;                    /* node[0] is poison */
    int32_t  n, cap;
    dan_ref *out;                              /* graph outputs, in order */
    const char **out_name;
    int32_t  n_out, out_cap;
    int32_t  n_forward;                        /* nodes below this index are forward (set by autodiff) */
};

struct dan_builder {
    struct dan_graph *g;
    struct dan_err    err;                     /* errors stick */
    char              scope[96];
    const char       *where;                   /* set by the DAN_AT macro in op/ops.h */
    int32_t           layer;                   /* current "blk.N" or -1 */
    uint64_t          rng_streams;             /* next dropout stream */
};

struct dan_graph *dan_graph_new(void);         /* NULL when out of memory */
struct dan_graph *dan_graph_new_in(struct dan_arena *a);   /* lives and dies with the arena: scan bodies, rewrites */
void dan_graph_free(struct dan_graph *g);     /* only of dan_graph_new */
void dan_builder_init(struct dan_builder *b, struct dan_graph *g);
int  dan_builder_check(const struct dan_builder *b, struct dan_err *e);   /* the one check at the end */
/* Poison: records the first error, returns 0. */
dan_ref dan_poison(struct dan_builder *b, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Appends a node; absent optional inputs are 0.  Returns its ref, 0 when poisoned. */
dan_ref dan_emit(struct dan_builder *b, const struct dan_op *op, const dan_ref *in, int n_in, const union dan_attr *attr, int n_attr);
dan_ref dan_emit_body(struct dan_builder *b, const struct dan_op *op, const dan_ref *in, int n_in,
                      const union dan_attr *attr, int n_attr, const struct dan_graph *body);

/* Leaves.  Names are full: the builder's scope is prefixed to params ("blk.3." + "attn_q.weight"). */
/* dynamic: 0 = fixed; u > 0 = the first dimension may shrink to any multiple of u. */
dan_ref dan_input(struct dan_builder *b, const char *name, const struct dan_dtype *t, struct dan_shape s, int64_t dynamic);
dan_ref dan_param(struct dan_builder *b, const char *name, const struct dan_dtype *t, struct dan_shape s, const char *init);
dan_ref dan_state(struct dan_builder *b, const char *name, const struct dan_dtype *t, struct dan_shape s);
dan_ref dan_pick(struct dan_builder *b, dan_ref x, int i);       /* i-th part of a multi-output node */
void    dan_output(struct dan_builder *b, const char *name, dan_ref x);
void    dan_scope(struct dan_builder *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));  /* "" resets; "blk.%d." sets layer */

/* Looks. */
static inline const struct dan_node *dan_at(const struct dan_graph *g, dan_ref r) { return &g->node[r]; }
const struct dan_shape *dan_shape_at(const struct dan_builder *b, dan_ref r);
dan_ref dan_leaf(const struct dan_graph *g, const char *name);    /* by full name; 0 when there is none */
dan_ref dan_output_ref(const struct dan_graph *g, const char *name);
bool dan_op_is(const struct dan_node *n, const char *op_name);
/* The node, and its part, whose memory r shows: through views and picks. */
dan_ref dan_owner(const struct dan_graph *g, dan_ref r, int *part);
/* How part k of r lies in memory: its type, or bf16 where its maker's `half` says so.  Views and picks show their
 * maker's bytes. */
const struct dan_dtype *dan_stored(const struct dan_graph *g, dan_ref r, int k);

/* Text form (graph/text.c): one node a line,
 *   %5 = matmul(%3, %4) {tb=1} : f32[64,128]  # blk.0.attn_q gpt.c:31
 * dan_graph_parse reads what dan_graph_print writes. */
struct dan_str;
void dan_graph_print(const struct dan_graph *g, struct dan_str *out);
int  dan_graph_parse(const char *text, struct dan_graph **out, struct dan_err *e);
/* Checks order, arity, types, shapes (re-inferred), states read after a newer write. */
int  dan_graph_verify(const struct dan_graph *g, struct dan_err *e);
/* Of ops, edges, static attributes and static dims; dynamic dims (those that depend on a dynamic
 * input's first dimension) are not part of it (R7). */
uint64_t dan_graph_hash(const struct dan_graph *g);
/* Re-infers all nodes after input shapes changed. */
int  dan_graph_infer(struct dan_graph *g, struct dan_err *e);

#endif
