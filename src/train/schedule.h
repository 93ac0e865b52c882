/* Learning-rate schedules: one const struct in one file of src/train/schedule/ each. */
#ifndef DAN_TRAIN_SCHEDULE_H
#define DAN_TRAIN_SCHEDULE_H
#include <stdint.h>

struct dan_schedule_args { double lr, min_lr; int64_t warmup, steps; double decay_fraction; };
struct dan_schedule {
    const char *name, *doc;
    double (*after_warmup)(const struct dan_schedule_args *a, double progress);   /* progress 0..1 from warm-up to the end */
};
extern const struct dan_schedule *const dan_schedules[];          /* generated */
const struct dan_schedule *dan_schedule_find(const char *name);
/* Linear warm-up lr * (step + 1) / (warmup + 1), as nanoGPT, then the schedule; step counts from 0. */
double dan_schedule_at(const struct dan_schedule *s, const struct dan_schedule_args *a, int64_t step);

#endif
