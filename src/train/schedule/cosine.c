/* Half a cosine from lr to min_lr (Loshchilov & Hutter 2017, without restarts). */
#include <math.h>
#include "train/schedule.h"

static double after_warmup(const struct dan_schedule_args *a, double p) { return a->min_lr + 0.5 * (1 + cos(3.14159265358979323846 * p)) * (a->lr - a->min_lr); }

const struct dan_schedule dan_schedule_cosine = {"cosine", "half a cosine from lr to min-lr", after_warmup};
