/* The k-th item of an endless list of shuffled epochs. */
#ifndef DAN_ALIGN_SHUFFLE_H
#define DAN_ALIGN_SHUFFLE_H
#include <stdint.h>

/* order[n] holds the epoch *epoch (-1: none yet) and is filled anew where k is of another; which: independent lists of one seed. */
int64_t dan_shuffled(int64_t *order, int64_t n, int64_t *epoch, uint64_t seed, uint64_t which, int64_t k);

#endif
