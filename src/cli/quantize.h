/* danlu quantize, in parts. */
#ifndef DAN_CLI_QUANTIZE_H
#define DAN_CLI_QUANTIZE_H
#include "cli/lm_open.h"
#include "cli/quantize_compare.h"
#include "quant/calibration.h"
#include "quant/job.h"
#include "quant/mixed.h"
#include "quant/sensitivity.h"

enum { QUANTIZE_FORMS = 16 };
struct quantize_opts {
    const char *model, *to, *method, *calibrator, *activations, *keep, *formats, *order, *out, *field, *imatrix, *save_imatrix;
    struct dan_strings calibration, test;
    double alpha, damp;
    int64_t budget, sequences, length, test_sequences;
    bool report, act_order, force, compare;
    struct quantize_compare study;             /* of --compare */
};

/* What the command knows while it runs. */
struct quantize_work {
    struct dan_cli *cli;
    const struct quantize_opts *o;
    struct lm_files m;
    struct dan_quant_job job;
    struct dan_imatrix imatrix;                /* of --imatrix */
    struct dan_quant_form form, forms[QUANTIZE_FORMS];
    int n_forms;                               /* of --formats */
    bool to_gguf;

    struct dan_calibration calibration, test;
    struct dan_sequences fit, held;            /* what methods look at; what is measured on */
    int64_t *starts;                           /* of `fit` or `held` where one text serves both */
    bool held_out;                             /* `held` is a part of --calibration */
    uint64_t fit_hash, held_hash;
    double overlap;                            /* share of held's runs of 16 tokens that fit has */

    struct dan_sensitivity sensitivity;
    const struct dan_quant_form **chosen;      /* [sensitivity.n]: of --budget */
    double predicted;                          /* KL, as if that of groups added up */

    struct dan_table table;
    json_t *tensors, *doubts;
    size_t before, after;
    int64_t n, stayed;
    double worst;
    size_t n_static;
    struct dan_comparison quality;
    struct dan_quant_speed speed_before, speed_after;
    struct dan_bar bar;
};

/* quantize_text.c: calibration and test text, and what is doubtful about them. */
int quantize_read_texts(struct quantize_work *w, struct dan_err *e);
void quantize_release_texts(struct quantize_work *w);
/* quantize_plan.c: sensitivity of every group, and the formats that fit in the budget. */
int quantize_plan(struct quantize_work *w, struct dan_err *e);
const struct dan_quant_form *quantize_form_of(void *ctx, const char *name);      /* ctx: the work */
/* quantize_report.c */
void quantize_on_tensor(void *ctx, const struct dan_applied *a);
int quantize_print(struct quantize_work *w, struct dan_err *e);
/* Goes beside the weights as quantization.json: how they were made. */
json_t *quantize_record(const struct quantize_work *w);
bool quantize_progress(void *ctx, int64_t done, int64_t total);
/* quantize_save.c */
int quantize_check_out(struct quantize_work *w, struct dan_err *e);
int quantize_save(struct quantize_work *w, struct dan_err *e);

#endif
