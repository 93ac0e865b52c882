/* What a tuner learns and remembers, by names that do not depend on fusion: for checkpoints. */
#ifndef DAN_ALIGN_TUNER_STATE_H
#define DAN_ALIGN_TUNER_STATE_H
#include "align/tuner.h"

/* Adds to `into`, sharing memory: PREFIX"w:NAME" for every weight of t that learns, and PREFIX"KIND:NAME" for its optimiser slots and moving averages.  lm is
 * that of the tuner.  Write the store as a checkpoint, or restore one into it (dan_store_restore); steps: dan_tuner_set_steps. */
int dan_tuner_gather(struct dan_tuner *t, const struct dan_lm *lm, const char *prefix, struct dan_store *into, struct dan_err *e);

#endif
