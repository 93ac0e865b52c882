/* Memory on scalar; see simd/probe_memory_body.h. */
#include "kernel/simd/vec_scalar.h"
#include "kernel/simd/probe_memory_body.h"

const struct dan_probe dan_probe_memory_scalar = {
    .name = "memory_scalar", .isa = "scalar", .kind = DAN_PROBE_MEMORY, .needs = 0, .rank = 0,
    .sweep = {sweep_read, sweep_write, sweep_copy, sweep_update, sweep_write_past, sweep_copy_past},
};
