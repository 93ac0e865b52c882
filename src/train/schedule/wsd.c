/* Warm-up, stable, decay (MiniCPM, Hu et al. 2024): lr, then over the last decay_fraction of the
 * steps down to min_lr by 1 - sqrt (Haegele et al. 2024 found it the best shape). */
#include <math.h>
#include "train/schedule.h"

static double after_warmup(const struct dan_schedule_args *a, double p)
{
    double stable = 1 - a->decay_fraction;
    if (p <= stable || a->decay_fraction <= 0) return a->lr;
    return a->min_lr + (a->lr - a->min_lr) * (1 - sqrt((p - stable) / a->decay_fraction));
}

const struct dan_schedule dan_schedule_wsd = {"wsd", "lr, then a short decay to min-lr at the end", after_warmup};
