/* What this machine can do at most, measured, and what that means for a piece of work: the roofline
 * (Williams, Waterman, Patterson 2009) with one roof per level of memory and direction of flow. */
#ifndef DAN_EXEC_MACHINE_H
#define DAN_EXEC_MACHINE_H
#include "base/err.h"
#include "base/threads.h"
#include "graph/graph.h"

enum dan_peak { DAN_PEAK_F32, DAN_PEAK_BF16, DAN_PEAK_INT8, DAN_N_PEAKS };
enum dan_level { DAN_LEVEL_L1, DAN_LEVEL_L2, DAN_LEVEL_L3, DAN_LEVEL_MEMORY, DAN_N_LEVELS };
/* update: read and written back in place.  copy and update count both directions. */
enum dan_flow { DAN_FLOW_READ, DAN_FLOW_WRITE, DAN_FLOW_COPY, DAN_FLOW_UPDATE, DAN_N_FLOWS };
enum { DAN_MACHINE_POINTS = 12 };

struct dan_machine {
    int32_t n_points, threads[DAN_MACHINE_POINTS];               /* 1, 2, 4, ... and the size of the pool */
    double  peak[DAN_N_PEAKS][DAN_MACHINE_POINTS];               /* operations/s of all threads, a multiply-add is two; 0: no
                                                                  * such instruction */
    double  bandwidth[DAN_N_FLOWS][DAN_N_LEVELS][DAN_MACHINE_POINTS];   /* bytes/s of all threads; the first and last point only, 0 else and
                                                                  * for a level that the machine does not have */
    const char *peak_by[DAN_N_PEAKS], *moved_by;                 /* the probes: "tdpbf16ps"; NULL: none */
    int64_t cache[DAN_N_LEVELS];                                 /* bytes: L1 and L2 of a core; of L3 what was found to hold,
                                                                  * which may be less than the CPU says; 0 unknown or none; memory 0 */
};

struct dan_machine_opts {
    struct dan_pool *pool;                     /* NULL: one thread */
    uint64_t cpu_mask;                         /* features to use; 0: all */
    double   seconds;                          /* budget, 0 = 1; taking the memory to sweep comes on top (0.1 to 1 s) */
    int64_t  memory_bytes;                     /* to sweep for the level `memory`; 0: eight times the last cache, 512 MiB to 2 GiB, at
                                                * most an eighth of what is free */
};
/* Each limit is the best of a few short runs, so that other work on the machine lowers it little.  Fails with DAN_ENOMEM. */
int dan_machine_measure(const struct dan_machine_opts *o, struct dan_machine *out, struct dan_err *e);

const char *dan_peak_name(enum dan_peak p);    /* "f32", "bf16", "int8" */
const char *dan_level_name(enum dan_level l);  /* "L1", "L2", "L3", "memory" */
const char *dan_flow_name(enum dan_flow f);    /* "read", "write", "copy", "update" */

/* Operations/s with so many threads: the measured point, or interpolated between two, or the last.  A format without
 * an instruction of its own has the f32 peak. */
double dan_machine_peak(const struct dan_machine *m, enum dan_peak p, int threads);

/* A piece of work: operations, and bytes at their fastest level.  `footprint` is all memory it touches: the level is the
 * smallest cache that holds a thread's share of it (nine tenths of the cache count), which is right for work that is
 * repeated or whose operands were just made. */
struct dan_work {
    enum dan_peak peak;
    double flops, read, write, update;         /* update: bytes read and written back in place, counted once */
    double footprint;                          /* bytes; 0: read + write + update */
};
struct dan_bound { double seconds; const char *binds; enum dan_level level; };   /* the least time; "bf16", "memory", ...: what binds */
/* Time is the larger of arithmetic and movement; pairs of bytes read and written move at the copy bandwidth.  A level that
 * was not measured counts as the next one out. */
struct dan_bound dan_machine_bound(const struct dan_machine *m, const struct dan_work *w, int threads);
/* The work of a node: its op's cost, the bytes of its inputs and outputs, its precision. */
struct dan_work dan_node_work(const struct dan_graph *g, dan_ref r);

#endif
