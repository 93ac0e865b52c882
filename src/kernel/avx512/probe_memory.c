/* Memory on avx512; see simd/probe_memory_body.h. */
#include "base/sys.h"
#include "kernel/simd/vec_avx512.h"
#define VF_STREAM _mm512_stream_ps
#include "kernel/simd/probe_memory_body.h"

const struct dan_probe dan_probe_memory_avx512 = {
    .name = "memory_avx512", .isa = "avx512", .kind = DAN_PROBE_MEMORY, .needs = DAN_CPU_AVX512, .rank = 30,
    .sweep = {sweep_read, sweep_write, sweep_copy, sweep_update, sweep_write_past, sweep_copy_past},
};
