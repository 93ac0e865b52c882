/* Passes rewrite a graph.  One const struct in one file of src/pass/ each; verify() runs after each. */
#ifndef DAN_PASS_PASS_H
#define DAN_PASS_PASS_H
#include "graph/graph.h"
#include "op/attrs.h"

struct dan_pass_opts {
    const char *loss;                          /* autodiff: name of the output to differentiate ("loss") */
    enum dan_prec prec;                        /* mixed: of matmuls */
    int64_t head_ce_min_vocab;                 /* fuse_head_ce: from this vocabulary on; 0 = 4096 */
    const char *dump_after;                    /* name of a pass, or "all" */
    void (*dump)(void *ctx, const char *pass, const char *text);
    void *dump_ctx;
};
struct dan_pass {
    const char *name, *doc;
    int (*run)(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e);
};
extern const struct dan_pass *const dan_passes[];                /* generated */
int dan_run_passes(struct dan_graph *g, const char *pipeline, const struct dan_pass_opts *o, struct dan_err *e);

/* After autodiff every unfrozen param P has an output "grad:P" next to the graph's own outputs. */
#define DAN_PIPELINE_TRAIN "fuse_horizontal,fuse_swiglu,autodiff,simplify,cse,fuse_head_ce,fuse_skip_norm,fuse_bias_act,mixed,dce"
#define DAN_PIPELINE_TRAIN_REMAT "fuse_horizontal,fuse_swiglu,autodiff,simplify,cse,fuse_head_ce,remat,fuse_skip_norm,fuse_bias_act,mixed,dce"
#define DAN_PIPELINE_EVAL "fuse_horizontal,fuse_swiglu,simplify,cse,fuse_head_ce,fuse_skip_norm,fuse_bias_act,mixed,dce"
#define DAN_PIPELINE_INFER "fuse_horizontal,fuse_swiglu,cse,fuse_skip_norm,fuse_bias_act,mixed,dce"

/* For passes that rewrite node by node: visits every node of g in order and appends what `visit`
 * returns for it to a fresh node list: a ref made through r->b, DAN_KEEP to copy the node with mapped
 * inputs, or DAN_DROP when nobody will read it.  r->map[old] = new. */
struct dan_rewrite { struct dan_builder b; struct dan_graph *g; const struct dan_graph *old; dan_ref *map; void *ctx; };
enum { DAN_KEEP = -1, DAN_DROP = -2 };
int     dan_rewrite_each(struct dan_graph *g, dan_ref (*visit)(struct dan_rewrite *r, dan_ref i), void *ctx, struct dan_err *e);
dan_ref dan_rewrite_copy(struct dan_rewrite *r, dan_ref old);    /* copies one node with mapped inputs */
void    dan_count_uses(const struct dan_graph *g, int32_t *uses);   /* uses[n]; outputs count one */

#endif
