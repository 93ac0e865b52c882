/* Passes rewrite a graph.  One const struct in one file of src/pass/ each; verify() runs after each.
 *
 * A pass with an exactness class is a fusion rule: it has a switch (dan_pass_opts.fusion), says what it needs, and
 * reports every place it looked at through dan_fused / dan_not_fused.  docs/design/0006-fusion-rules.md */
#ifndef DAN_PASS_PASS_H
#define DAN_PASS_PASS_H
#include "graph/graph.h"
#include "op/attrs.h"

struct dan_pass;
struct dan_quant_policy;
/* What a rule may do to results; 0: not a fusion rule, always runs. */
enum dan_exactness {
    DAN_E0 = 1,                                /* bit-identical: the same operations in the same order */
    DAN_E1,                                    /* rounding: another order or formula of the same accuracy */
    DAN_E2,                                    /* weights folded: equal in real numbers, other weights stored */
    DAN_E3,                                    /* approximation: off unless its rule is named */
    DAN_E4,                                    /* quantise/dequantise: integer core exact, one step at rounding ties */
};
const char *dan_exactness_name(enum dan_exactness c);            /* "E0"; "" for 0 */
/* What rule p does to values, or to gradients.  halves: values between products are stored as bf16 (pass mixed);
 * which ones depends on who reads them, so that any rewriting rounds elsewhere: E0 becomes E1. */
enum dan_exactness dan_exactness_of(const struct dan_pass *p, bool gradients, bool halves);

/* One place that a rule looked at.  Pointers are valid during the call. */
struct dan_fusion_note {
    const struct dan_pass *rule;
    const struct dan_graph *g;                 /* before the rule ran */
    const dan_ref *node;                       /* of g: the place, 0-terminated */
    const char *why_not;                       /* NULL: fused */
};

struct dan_pass_opts {
    const char *loss;                          /* autodiff: name of the output to differentiate ("loss") */
    enum dan_prec prec;                        /* mixed: of matmuls */
    const struct dan_quant_policy *quant;      /* fake_quant: what is quantised and how (pass/fake_quant.h); NULL: nothing */
    /* quantise_rows: how the kernel of a product rounds its input, enum dan_rounded (core/rounded.h); dan_exec_rounds is one.  NULL: nothing is
     * known of kernels, nothing is rounded before. */
    int (*rounds)(const void *ctx, const struct dan_graph *g, dan_ref product);
    const void *rounds_ctx;
    int64_t head_ce_min_vocab;                 /* fuse_head_ce: from this vocabulary on; 0 = 4096 */
    const char *dump_after;                    /* name of a pass, or "all" */
    void (*dump)(void *ctx, const char *pass, const char *text);
    void *dump_ctx;
    const char *fusion;                        /* which rules run; see dan_fusion_on.  NULL = "on" */
    void (*note)(void *ctx, const struct dan_fusion_note *n);    /* NULL: off */
    void *note_ctx;
    const struct dan_pass *rule;               /* the pass that runs; set by dan_run_passes */
};
struct dan_pass {
    const char *name, *doc;
    int (*run)(struct dan_graph *g, const struct dan_pass_opts *o, struct dan_err *e);
    enum dan_exactness exact;                  /* the class at worst; 0: not a fusion rule */
    const char *needs;                         /* rules: the precondition in one line */
    enum dan_exactness exact_grad;             /* of gradients that flow through what was fused, where worse than `exact` */
    bool alone;                                /* drops or places the last node of its places, joins nothing: cse, simplify */
};
extern const struct dan_pass *const dan_passes[];                /* generated */

/* The switch: items separated by commas, from left to right: "on" all rules but E3; "off" none; "swiglu" or
 * "fuse_swiglu" that rule too; "-swiglu" without it.  A list that begins with "-" begins from "on", else from "off":
 * "swiglu,cse" is these two alone.  fails with DAN_EUSAGE on an unknown rule. */
int  dan_fusion_check(const char *fusion, struct dan_err *e);
bool dan_fusion_on(const char *fusion, const struct dan_pass *p);   /* true for passes that are no rules */

/* What a rule says: once per place, before it rewrites.  nodes: 0-terminated, e.g. (const dan_ref[]){product, act, 0}.
 * Not fused is said of near misses only, where the heart of the pattern is there ("the activation reads a product, but
 * ..."), in words that continue "not fused because ...". */
void dan_fused(const struct dan_pass_opts *o, const struct dan_graph *g, const dan_ref *nodes);
void dan_not_fused(const struct dan_pass_opts *o, const struct dan_graph *g, const dan_ref *nodes, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* For reasons: the op of a node other than `reader` that reads x, "an output" when one shows it; NULL when nobody does. */
const char *dan_other_reader(const struct dan_graph *g, dan_ref x, dan_ref reader);

/* Runs the passes of `pipeline` ("a,b,c") that are switched on.  Every node of the result knows its origins (graph.h). */
int dan_run_passes(struct dan_graph *g, const char *pipeline, const struct dan_pass_opts *o, struct dan_err *e);

/* After autodiff every unfrozen param P has an output "grad:P" next to the graph's own outputs. */
#define DAN_PIPELINE_TRAIN "fuse_horizontal,fake_quant,fuse_swiglu,autodiff,fold_cbr,simplify,cse,eliminate,hoist_scan,fuse_head_ce,fuse_skip_norm,fuse_bias_act,fuse_act_grad,fuse_chain,place_concat,mixed,dce"
#define DAN_PIPELINE_TRAIN_REMAT "fuse_horizontal,fake_quant,fuse_swiglu,autodiff,fold_cbr,simplify,cse,eliminate,hoist_scan,fuse_head_ce,remat,fuse_skip_norm,fuse_bias_act,fuse_act_grad,fuse_chain,place_concat,mixed,dce"
#define DAN_PIPELINE_EVAL "fuse_horizontal,fake_quant,fuse_swiglu,simplify,cse,eliminate,fuse_head_ce,fuse_skip_norm,fuse_bias_act,fuse_chain,place_concat,mixed,dce"
#define DAN_PIPELINE_INFER "fold_cbr,fuse_horizontal,fuse_swiglu,cse,eliminate,fuse_skip_norm,fuse_bias_act,quantise_rows,fuse_norm_quantise,fuse_rope_kv,fuse_chain,place_concat,mixed,dce"

/* For passes that rewrite node by node: visits every node of g in order and appends what `visit`
 * returns for it to a fresh node list: a ref made through r->b, DAN_KEEP to copy the node with mapped
 * inputs, or DAN_DROP when nobody will read it.  r->map[old] = new.
 * Origins follow by themselves: what `visit` makes for node i, or returns for it, comes from i and from the nodes that
 * only i still needs. */
struct dan_rewrite { struct dan_builder b; struct dan_graph *g; const struct dan_graph *old; dan_ref *map; void *ctx; };
enum { DAN_KEEP = -1, DAN_DROP = -2 };
int     dan_rewrite_each(struct dan_graph *g, dan_ref (*visit)(struct dan_rewrite *r, dan_ref i), void *ctx, struct dan_err *e);
dan_ref dan_rewrite_copy(struct dan_rewrite *r, dan_ref old);    /* copies one node with mapped inputs */
/* A node of `op` with what old product `m` (a matmul) reads and its attributes, but attribute `k` = value; in[3] = res, a new ref. */
dan_ref dan_rewrite_product(struct dan_rewrite *r, const struct dan_op *op, dan_ref m, int k, int64_t value, dan_ref res);
void    dan_count_uses(const struct dan_graph *g, int32_t *uses);   /* uses[n]; outputs count one */

#endif
