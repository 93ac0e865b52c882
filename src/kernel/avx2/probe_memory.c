/* Memory on avx2; see simd/probe_memory_body.h. */
#include "base/sys.h"
#include "kernel/simd/vec_avx2.h"
#define VF_STREAM _mm256_stream_ps
#include "kernel/simd/probe_memory_body.h"

const struct dan_probe dan_probe_memory_avx2 = {
    .name = "memory_avx2", .isa = "avx2", .kind = DAN_PROBE_MEMORY, .needs = DAN_CPU_AVX2, .rank = 20,
    .sweep = {sweep_read, sweep_write, sweep_copy, sweep_update, sweep_write_past, sweep_copy_past},
};
