#include "exec/precision.h"
#include <string.h>
#include "base/sys.h"

enum dan_prec dan_fast_prec(uint64_t cpu_mask)
{
    const uint64_t cpu = dan_cpu_features() & (cpu_mask ? cpu_mask : UINT64_MAX);
    return cpu & (DAN_CPU_AVX512_BF16 | DAN_CPU_AMX_BF16) ? DAN_PREC_BF16 : DAN_PREC_F32;
}

enum dan_prec dan_prec_of(const char *dtype, uint64_t cpu_mask)
{
    return strcmp(dtype, "auto") ? strcmp(dtype, "bf16") ? DAN_PREC_F32 : DAN_PREC_BF16 : dan_fast_prec(cpu_mask);
}
