#include "train/schedule.h"

static double after_warmup(const struct dan_schedule_args *a, double p) { return a->lr + (a->min_lr - a->lr) * p; }

const struct dan_schedule dan_schedule_linear = {"linear", "a straight line from lr to min-lr", after_warmup};
