/* Equalisation: a scale s_j for every input channel of a group of products, folded into what makes these channels.
 *
 *   x W^T = (x / s) (W s)^T        s[k] > 0
 *
 * In real numbers nothing changes; what is quantised does: outliers of x move into W (SmoothQuant), weights that matter gain precision (AWQ).
 * 1 / s goes into the gain and bias of the norm before, or the rows of the product before where nothing but what is linear in
 * them lies between.  Through an activation, into a residual, into a table that others read it cannot go: such groups say why. */
#ifndef DAN_QUANT_EQUALISE_H
#define DAN_QUANT_EQUALISE_H
#include "quant/observe.h"

enum { DAN_FOLD_MOST = 8 };
enum dan_fold_kind {
    DAN_FOLD_NORM,                             /* norm -> q, k, v; gate, up; fc1; the head */
    DAN_FOLD_VALUE,                            /* v -> attention -> o: heads that share a key/value head share its scales */
    DAN_FOLD_GATED,                            /* up -> act(gate) up -> down */
};
/* A group of products over one x [n,k], and where a scale of x can go.  Names are those of the list's products. */
struct dan_fold {
    enum dan_fold_kind kind;
    int32_t input, layer;
    int64_t k;
    const char *to[DAN_FOLD_MOST];             /* weights of the group, [.,k] each */
    int     n_to;
    const char *from, *from_bias;              /* gain of the norm [k], its bias or NULL; weights of the product before, its bias or NULL */
    bool    plus;                              /* the norm multiplies by 1 + from */
    int64_t row0;                              /* of `from`: the row that makes channel 0 */
    int64_t heads, kv_heads, head_dim;         /* VALUE */
    char    why_not[120];                      /* "": it can be folded */
};
struct dan_folds { struct dan_fold *v; size_t n; struct dan_products products; };
int  dan_folds_new(const struct dan_lm *lm, struct dan_folds *out, struct dan_err *e);
void dan_folds_release(struct dan_folds *f);

/* Channels that must have one scale get the largest of theirs. */
void dan_fold_tie(const struct dan_fold *f, float *s);
/* Scales: weights of the group by s, what makes x by 1 / s.  s[k] is tied, finite, above 0.  Tensors become f32 tensors of the store's own; others
 * keep theirs.  Before lm is bound to programs that join params (fusion); weights that are quantised already are refused. */
int  dan_fold_apply(struct dan_lm *lm, const struct dan_fold *f, const float *s, struct dan_err *e);

/* Makes channel `channel` of every norm that has a fold `factor` times as large, and the weights that read it as much smaller: the function stays,
 * quantising it per tensor does not.  *n (may be NULL): how many norms.  To show what equalising repairs. */
int  dan_quant_inject_outlier(struct dan_lm *lm, int64_t channel, double factor, size_t *n, struct dan_err *e);

/* --- what one group got */

struct dan_equalised {
    const struct dan_fold *fold;
    double  value;                             /* alpha, or AWQ's exponent */
    double  before, after;                     /* squared error of the group's outputs over their squares; 0 where nothing was searched */
    float   least, most;                       /* of the scales; both 1: the group was left alone */
};
typedef void dan_equalise_report(void *ctx, const struct dan_equalised *g);

/* SmoothQuant (Xiao et al. 2023): s_j = max|x_j|^alpha / max|W_j|^(1 - alpha), over all W of the group, 1 where either is 0. */
struct dan_smooth_opts {
    double  alpha;                             /* 0..1; 0.5 suits most models.  Below 0: for every group the best of 0, 0.1, ... 1 */
    bool    dynamic;                           /* the search quantises activations per row; else per tensor, by the largest seen */
    bool    norms_only;                        /* as in the paper: leaves VALUE and GATED alone */
    int64_t rows;                              /* of the search; 0: 256, spread over the text */
    struct dan_pool *pool;
    bool  (*progress)(void *ctx, int64_t done, int64_t total);
    dan_equalise_report *report;
    void   *ctx;
};
int dan_smoothquant(struct dan_lm *lm, const struct dan_sequences *text, const struct dan_smooth_opts *o, struct dan_err *e);

/* How a row of weights would come out of rounding: out[cols], scratch[cols] floats.  Used to try scales. */
struct dan_trial {
    int64_t group;                             /* columns that share a scale; 0: the row */
    void  (*row)(const void *ctx, const float *w, float *out, int64_t cols, void *scratch);
    const void *ctx;
};
/* The block format `to` (rows must be a multiple of its block), or i8 or f8_e4m3: one scale per row. */
struct dan_trial dan_trial_of(const struct dan_dtype *to);

/* AWQ (Lin et al. 2023): s_j = mean|x_j|^r, over the root of its largest times its smallest; r of 0, 0.05, ... 0.95 by the squared error of the
 * group's outputs with rounded weights.  r = 0 changes nothing.  Then, with `clip`, each group of columns of a row is cut to the
 * part (1 down to 0.55) of its largest that loses least; weights of q and k keep theirs. */
struct dan_awq_opts {
    struct dan_trial trial;                    /* what the weights will become */
    bool    clip;
    bool    head;                              /* also the output head */
    int64_t rows;                              /* of the search; 0: 256, spread over the text */
    struct dan_pool *pool;
    bool  (*progress)(void *ctx, int64_t done, int64_t total);
    dan_equalise_report *report;
    void   *ctx;
};
int dan_awq(struct dan_lm *lm, const struct dan_sequences *text, const struct dan_awq_opts *o, struct dan_err *e);

#endif
