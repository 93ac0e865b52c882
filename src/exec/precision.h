/* Which precision products have where nobody says. */
#ifndef DAN_EXEC_PRECISION_H
#define DAN_EXEC_PRECISION_H
#include <stdint.h>
#include "op/attrs.h"

/* bf16 where the CPU has instructions for products of it, of the features in cpu_mask (0: all); else f32. */
enum dan_prec dan_fast_prec(uint64_t cpu_mask);
/* "auto": that; "bf16"; anything else is f32. */
enum dan_prec dan_prec_of(const char *dtype, uint64_t cpu_mask);

#endif
