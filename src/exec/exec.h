/* Compiles a graph to a program and runs it many times.  After warm-up a run allocates nothing
 * and plans nothing (R8; exec_test.c counts the calls of malloc). */
#ifndef DAN_EXEC_EXEC_H
#define DAN_EXEC_EXEC_H
#include "base/threads.h"
#include "core/buffer.h"
#include "graph/graph.h"

struct dan_program;
struct dan_exec_opts {
    struct dan_pool *pool;                     /* NULL: one thread */
    bool ref;                                  /* reference kernels only */
    bool profile;                              /* time every node */
    bool plan_only;                            /* plan memory, take none: the program cannot run */
    int32_t plan_threads;                      /* plan_only: workspace for so many threads; 0 = 1 */
    uint64_t cpu_mask;                         /* features to use; 0 = all the machine has */
    /* dan_bind_store lays params out once for kernels that want it (dan_kernel.pack): the same results, faster, for as much memory again.
     * Such params may not be written to while the program lives, or dan_program_repack says when they were. */
    bool pack;
    bool pack_floats;                          /* also params that are stored in fewer bits than f32, where a kernel gains by it */
    bool pack_f32;                             /* and those in f32 */
    /* called by one thread after every node of a run, once per output part, with the kernel that ran; NULL: off.
     * Nodes inside a scan are not shown. */
    void (*trace)(void *ctx, const struct dan_graph *g, dan_ref r, const char *kernel, const struct dan_tensor *out);
    void *trace_ctx;
};

/* The graph must outlive the program; the program copies its nodes. */
int  dan_compile(const struct dan_graph *g, const struct dan_exec_opts *o, struct dan_program **out, struct dan_err *e);
void dan_program_free(struct dan_program *p);
/* For dan_pass_opts.rounds, with a struct dan_exec_choice as its context: how the kernel that a program with these options takes for product
 * `matmul` of g rounds its input to int8; enum dan_rounded (core/rounded.h). */
struct dan_exec_choice { uint64_t cpu; bool ref; };
struct dan_exec_choice dan_exec_choice_of(const struct dan_exec_opts *o);
int  dan_exec_rounds(const void *choice, const struct dan_graph *g, dan_ref matmul);
/* Binds an input, param or state by name to memory that outlives the next run.  A dynamic input may
 * have fewer rows than declared; dtype and all other dims must match. */
int  dan_bind(struct dan_program *p, const char *name, const struct dan_tensor *t, struct dan_err *e);
/* Binds every param and state by name (a state that is bound already need not be in the store); "a+b+c" joins
 * rows of a, b, c (made by fuse_horizontal): the store's tensors become views of the joined one.  Programs over one store may differ in fusion as long as
 * the one that joins most is bound first: a tensor that is bound cannot move (an error says so). */
int  dan_bind_store(struct dan_program *p, struct dan_store *s, struct dan_err *e);
/* As if pack_floats had been set, from now on; between runs, of a program with `pack` whose store is bound. */
void dan_program_pack_floats(struct dan_program *p);
/* What was laid out is made anew from what the params are now; between runs, not while a program over the same store runs.  Nothing is allocated. */
void dan_program_repack(struct dan_program *p);
int  dan_run(struct dan_program *p, struct dan_err *e);
/* A run in two parts, for an input that depends on an output: dan_run_first goes as far as output `known`, dan_run_rest from there with the values that `input`
 * has by then.  Together they are one dan_run, bit for bit; what is bound between them has to be tensors of the same shapes.  dan_program_cut fails
 * (DAN_EUNSUPPORTED, without a message) where the program cannot be cut so: run all of it twice. */
struct dan_cut { int32_t first_end, rest; };   /* steps */
int  dan_program_cut(const struct dan_program *p, const char *input, const char *known, struct dan_cut *out);
int  dan_run_first(struct dan_program *p, const struct dan_cut *cut, struct dan_err *e);
int  dan_run_rest(struct dan_program *p, const struct dan_cut *cut, struct dan_err *e);
/* Output i of the graph after a run; valid until the next run. */
const struct dan_tensor *dan_result(const struct dan_program *p, int i);
const struct dan_tensor *dan_result_named(const struct dan_program *p, const char *name);   /* NULL when there is none */

size_t  dan_program_bytes(const struct dan_program *p);          /* planned activations and workspace */
size_t  dan_program_packed(const struct dan_program *p);         /* params laid out for kernels; shared with programs over the same store */
int64_t dan_program_infers(const struct dan_program *p);         /* re-inferences since compile */

struct dan_profile_row { dan_ref node; const char *kernel; double seconds, flops, bytes; int64_t runs; };
size_t dan_program_profile(const struct dan_program *p, struct dan_profile_row *rows, size_t cap);   /* returns the count */
const char *dan_program_kernel(const struct dan_program *p, dan_ref r);    /* "matmul_f32_avx512", "ref" */


#endif
