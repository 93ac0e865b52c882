/* `danlu quantize --compare`: small models are trained on the user's text and quantised in every way. */
#ifndef DAN_CLI_QUANTIZE_COMPARE_H
#define DAN_CLI_QUANTIZE_COMPARE_H
#include "cli/cmd.h"

struct quantize_compare {
    struct dan_strings data;                   /* text */
    int64_t seeds, steps, more;                /* steps of the base; of the control and of every aware training; 0: the usual */
    const char *svg;                           /* a picture, or NULL */
};
int quantize_compare(struct dan_cli *cli, const struct quantize_compare *o, struct dan_err *e);

#endif
