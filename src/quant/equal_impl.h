/* Inside equalising: what was seen of the channels of a group's input, and the error of trying scales. */
#ifndef DAN_QUANT_EQUAL_IMPL_H
#define DAN_QUANT_EQUAL_IMPL_H
#include "exec/exec.h"
#include "quant/equalise.h"

struct dan_channels {                          /* of one input x [.,k] */
    int64_t k, count;                          /* rows seen */
    float  *most;                              /* [k] max|x_j| */
    double *sum;                               /* [k] sum|x_j| */
    float  *x;                                 /* [n,k]: every step-th row */
    int64_t n, cap, step;
};
struct dan_channel_list { struct dan_channels *v; int32_t n; };
struct dan_collect_opts {
    int64_t rows;                              /* kept of each input; 0: none */
    struct dan_pool *pool;
    bool  (*progress)(void *ctx, int64_t done, int64_t total);
    void   *ctx;
};
int  dan_channels_collect(const struct dan_lm *lm, const struct dan_sequences *text, const struct dan_folds *folds,
                          const struct dan_collect_opts *o, struct dan_channel_list *out, struct dan_err *e);
void dan_channels_release(struct dan_channel_list *l);

enum dan_act_trial { DAN_ACT_FLOAT, DAN_ACT_PER_TENSOR, DAN_ACT_PER_ROW };   /* int8 in the latter two */
/* The squared error of a group's outputs over the kept rows. */
struct dan_search {
    const struct dan_lm *lm;
    const struct dan_fold *fold;
    const struct dan_channels *ch;
    struct dan_pool *pool;
    struct dan_trial trial;
    enum dan_act_trial act;
    struct dan_graph *graph[DAN_FOLD_MOST];
    struct dan_program *program[DAN_FOLD_MOST];
    float  *y[DAN_FOLD_MOST], *x, *w;          /* outputs as they should be; room for x / s and for W s rounded */
    double  power;                             /* sum of y^2 */
};
/* The weights are those of now. */
int  dan_search_open(struct dan_search *s, struct dan_err *e);
void dan_search_close(struct dan_search *s);
/* sum (y' - y)^2 / sum y^2 with scales s[k]. */
int  dan_search_error(struct dan_search *s, const float *scale, double *error, struct dan_err *e);
/* out[k]: max over the rows of all weights of the group of |w_j| */
void dan_fold_weight_max(const struct dan_lm *lm, const struct dan_fold *f, float *out, float *row);

#endif
