#include "train/schedule.h"
#include <stddef.h>
#include <string.h>

const struct dan_schedule *dan_schedule_find(const char *name)
{
    for (int i = 0; dan_schedules[i]; i++)
        if (strcmp(dan_schedules[i]->name, name) == 0) return dan_schedules[i];
    return NULL;
}

double dan_schedule_at(const struct dan_schedule *s, const struct dan_schedule_args *a, int64_t step)
{
    if (step < a->warmup) return a->lr * (double)(step + 1) / (double)(a->warmup + 1);
    if (step >= a->steps || a->steps <= a->warmup) return s->after_warmup(a, 1);
    return s->after_warmup(a, (double)(step - a->warmup) / (double)(a->steps - a->warmup));
}
