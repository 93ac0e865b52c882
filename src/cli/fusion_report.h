/* danlu inspect --fusion: the graph without fusion beside the graph with it, joined by the nodes of the model as it was
 * built: which of them became what, by which rule, and what that gained.
 *
 * Memory is the arena's of struct dan_cli; the graphs are freed by fusion_release. */
#ifndef DAN_CLI_FUSION_REPORT_H
#define DAN_CLI_FUSION_REPORT_H
#include "cli/cmd.h"
#include "exec/machine.h"
#include "pass/pass.h"

struct fusion_opts { const char *fusion, *dtype; bool train, profile; int64_t rows; };
/* A model as the report needs it. */
struct fusion_subject {
    const char *family, *pipeline;
    struct dan_store *store;
    int64_t vocab, context, first_pos;
    bool causal, timed;                        /* timed: rows are time steps of one lane */
    const void *model;
    int (*graph)(const void *model, const struct fusion_opts *o, const char *pipeline, const struct dan_pass_opts *p,
                 struct dan_graph **out, struct dan_err *e);
};

struct fusion_cost {
    double seconds, flops, bytes;              /* of one run; seconds 0 without --profile */
    double least;                              /* seconds at the machine's limits, node by node */
    const char *binds;                         /* what limits the node of the most least time, `top`; NULL: not measured */
    double top;
    int n;                                     /* nodes that compute */
};
/* Nodes that fusion put together, with all that was made of them; a node that no rule touched is a group of its own. */
struct fusion_group {
    const dan_ref *from;                       /* of the built graph, -i the gradient of i; ascending, 0-terminated */
    const char *what, *made[2];                /* names of `from`; ops of the graph without fusion, and with it */
    const char *kernels;                       /* of made[1], with --profile */
    uint64_t rules;                            /* bit k: dan_passes[k] */
    enum dan_exactness exact;                  /* the worst of the rules; 0: none */
    struct fusion_cost cost[2];                /* without fusion, with it */
    int32_t layer, last_layer, times;          /* merged rows: layers from .. to, how many groups */
    int32_t order;                             /* its place in the graph */
    bool    backward;
};
struct fusion_note { const struct dan_pass *rule; const char *what, *why; int32_t layer, last_layer, times; bool backward; };

struct fusion_report {
    struct dan_cli *cli;
    struct fusion_subject m;
    struct fusion_opts o;
    struct dan_graph *built, *g[2];            /* as the model built it; without and with fusion */
    int32_t *group_of[2];                      /* by node of g[k]; -1: leaves and views */
    double *seconds[2];                        /* by node of g[k], with --profile */
    const char **kernel[2];
    struct fusion_group *group;
    struct fusion_note *note;                  /* not fused because ... */
    int32_t n_groups, n_notes, cap_notes, fused[64];             /* fused: places by pass */
    struct { const struct dan_pass *rule; const dan_ref *from; bool forward; } *place;   /* forward: its gradient came after */
    int32_t n_places, cap_places;
    struct dan_machine machine;
    int threads;
    bool failed;                               /* memory ran out within a callback */
};

/* fusion_report.c: builds the graphs, joins them; with o->profile measures both. */
int  fusion_report(struct dan_cli *cli, const struct fusion_subject *m, const struct fusion_opts *o, struct fusion_report *r,
                   struct dan_err *e);
void fusion_release(struct fusion_report *r);
bool fusion_computes(const struct dan_node *n);                  /* neither leaf nor view */
struct fusion_cost fusion_total(const struct fusion_report *r, int k);
const char *fusion_names(struct fusion_report *r, const dan_ref *from);   /* "attn_q, attn_k, d silu" */
const char *fusion_rules(const struct fusion_report *r, const struct fusion_group *g);   /* "horizontal, swiglu"; "" */
struct fusion_group *fusion_merged(const struct fusion_report *r, int32_t *n);   /* layers that are alike in one row; NULL: out of memory */
const char *fusion_rule_name(const struct dan_pass *p);          /* without "fuse_" */
bool fusion_in_pipeline(const struct fusion_report *r, const struct dan_pass *p);

/* fusion_measure.c: runs both programs by turns; the least time of every node.  pool: of the runs. */
int  fusion_measure(struct fusion_report *r, struct dan_pool *pool, struct dan_err *e);

/* fusion_text.c, fusion_html.c. */
void fusion_put_text(const struct fusion_report *r, int width, bool colour, struct dan_str *out);
json_t *fusion_json(const struct fusion_report *r);
void fusion_put_html(struct fusion_report *r, const char *title, struct dan_str *out);

#endif
