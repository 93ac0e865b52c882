/* The parts of `danlu bench`. */
#ifndef DAN_CLI_BENCH_H
#define DAN_CLI_BENCH_H
#include "cli/cmd.h"
#include "exec/machine.h"

extern const struct dan_cmd bench_machine_cmd, bench_ops_cmd;

/* The machine's limits with the pool's threads and the command line's instruction set; says on stderr that it measures. */
int bench_measure(struct dan_cli *cli, struct dan_pool *pool, struct dan_machine *m, struct dan_err *e);
json_t *bench_machine_json(const struct dan_machine *m);         /* the caller owns it */

/* --- bench_cases.c: ops at the shapes that models have */
enum { BENCH_DIMS = 4, BENCH_LEAVES = 8 };
struct bench_build {                           /* a case under construction */
    struct dan_builder b;
    struct bench_leaf {
        const char *name;
        struct dan_tensor t;
        int64_t below;                         /* i32: values in [0, below) */
        bool param;                            /* a weight: kernels may lay it out before */
        void (*fill)(struct dan_tensor *t, const int64_t *d);    /* NULL: random */
    } leaf[BENCH_LEAVES];
    int n_leaves;
    const int64_t *d;
    double flops;                              /* > 0: instead of the op's own cost */
    bool half;                                 /* activations are stored as bf16 where the op allows it */
};
struct bench_case {
    const char *op, *letters;                  /* "N C": what d[0], d[1] are */
    int64_t d[BENCH_DIMS];
    dan_ref (*build)(struct bench_build *x);   /* the node to time */
    const char *note;                          /* "bf16", "to the weight", ...; NULL */
};
extern const struct bench_case bench_cases[]; /* op NULL ends it; cases of one op follow one another */

#endif
