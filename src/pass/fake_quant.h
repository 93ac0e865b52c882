/* What pass fake_quant puts before which products, and the names of what it adds. */
#ifndef DAN_PASS_FAKE_QUANT_H
#define DAN_PASS_FAKE_QUANT_H
#include <stdbool.h>
#include "graph/graph.h"

enum dan_qat_method {
    DAN_QAT_STE,                               /* scales from the numbers themselves, every step; straight-through gradient */
    DAN_QAT_CLIPPED,                           /* scales fixed when quantisation begins (least squared error); no gradient outside */
    DAN_QAT_PACT,                              /* learned clip */
    DAN_QAT_LSQ,                               /* learned step */
    DAN_QAT_DSQ,                               /* learned step, the gradient of a soft staircase */
    DAN_QAT_DSQ_SOFT,                          /* the soft staircase forward too, its steepness learned */
    DAN_QAT_NOISE,                             /* a random part of the weights is quantised */
    DAN_QAT_N_METHODS
};

/* Products x W^T whose W is a param of a layer.  W and x of each become what the integer products of the exported model
 * see: W rounded per row (group 0, f32 scales: int8 per row) or per group (f16 scales: a block format), x rounded per row
 * or block at every run (dynamic), or with one scale for all (static). */
struct dan_quant_policy {
    enum dan_qat_method method;
    int     weight_bits, act_bits;             /* 0: float */
    int64_t group, act_group;                  /* columns that share a scale; 0: the row */
    bool    act_static;
    bool    head;                              /* the output head too, where it is not also the embedding */
    bool    hard;                              /* evaluation: every number rounded, nothing random */
    const struct dan_dtype *format;            /* methods without learned scales: the storage format whose rule rounds W, or NULL */
    double  rate, slope;                       /* NOISE: of quantised weights; DSQ: alpha, 0 < alpha <= 0.5 */
};

/* Levels of weights, scales and their form (core/fake_quant.h), as far as pass and export must agree. */
struct dan_quant_grid dan_quant_weight_grid(const struct dan_quant_policy *p);
struct dan_quant_grid dan_quant_act_grid(const struct dan_quant_policy *p);
/* Scales of W are params: "W.step" [N,K/group]. */
static inline bool dan_quant_has_steps(const struct dan_quant_policy *p) { return p->method != DAN_QAT_STE && p->method != DAN_QAT_NOISE; }
/* They are trained. */
static inline bool dan_quant_learns(const struct dan_quant_policy *p) { return dan_quant_has_steps(p) && p->method != DAN_QAT_CLIPPED; }

/* Letters of W's name in "W.step", "W.input_step" or "W.slope", of n letters: params that this pass adds; 0: another name. */
size_t dan_quant_stem(const char *name, size_t n);
/* Node i is a product that p speaks of. */
bool dan_quant_is_product(const struct dan_graph *g, dan_ref i, const struct dan_quant_policy *p);
/* What W is rounded to, with its steps (0: the method has none), every number hard: what evaluation and the exported model see. */
dan_ref dan_quant_weight(struct dan_builder *b, dan_ref w, dan_ref step, const struct dan_quant_policy *p);
/* What training sees of w, new weights [N,K] that are called `name` ("a+b" where joined): rounded by p's method, with "NAME.step" and "NAME.slope" as params where
 * it has them.  seed: i32[2] where dan_quant_draws. */
struct dan_rewrite;
dan_ref dan_quant_trained(struct dan_rewrite *r, dan_ref w, const char *name, const struct dan_quant_policy *p, dan_ref seed);
static inline bool dan_quant_draws(const struct dan_quant_policy *p) { return p->method == DAN_QAT_NOISE && !p->hard; }
/* The name of x's static scale, a param [1]: that of the first weight whose product reads x, and ".input_step".  Fusion does
 * not change it.  Returns false when it does not fit into n bytes. */
bool dan_quant_input_name(const struct dan_graph *g, dan_ref x, const struct dan_quant_policy *p, char *out, size_t n);

#endif
