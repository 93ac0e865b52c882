#include <math.h>
#include <stdlib.h>
#include "align/policy.h"
#include "base/err.h"
#include "base/mem.h"

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The i-th smallest of m is the largest of n draws without replacement with probability C(i-1, n-1) / C(m, n); from i = m down
 * each is the one before times (i - n) / (i - 1), where i counts the larger. */
double dan_best_of(const double *samples, int m, int n)
{
    DAN_ASSERT(n >= 1 && m >= n);
    double *x = dan_malloc((size_t)m * sizeof *x), weight = (double)n / m, mean = 0;
    if (!x) return NAN;
    for (int i = 0; i < m; i++) x[i] = samples[i];
    qsort(x, (size_t)m, sizeof *x, by_value);
    for (int i = m; i >= n; i--) {
        mean += weight * x[i - 1];
        if (i > 1) weight *= (double)(i - n) / (i - 1);
    }
    dan_free(x);
    return mean;
}
