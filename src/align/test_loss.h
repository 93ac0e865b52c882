/* The loss that the packed rows' gradient is of, by the program that trains. */
#ifndef DAN_ALIGN_TEST_LOSS_H
#define DAN_ALIGN_TEST_LOSS_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "align/tuner.h"

enum { ROWS = 64 };                            /* max_rows of the tests' tuners */

static inline double total(struct dan_tuner *t, const struct dan_packed *p)
{
    float nll[ROWS];
    double sum = 0;
    struct dan_err e = {0};
    assert_int_equal(dan_tuner_score(t, p, true, nll, &e), DAN_OK);
    for (int64_t i = 0; i < p->batch.rows; i++) sum += (double)p->batch.weights[i] * (double)nll[i];
    return sum;
}

#endif
