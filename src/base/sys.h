/* Time, machine and environment: the only door to clocks and getenv. */
#ifndef DAN_BASE_SYS_H
#define DAN_BASE_SYS_H
#include <stddef.h>
#include <stdint.h>

double  dan_now(void);                         /* monotonic seconds */
int64_t dan_unix_time(void);                   /* seconds since 1970 */
int     dan_n_cores(void);                     /* usable: affinity and cgroup quota respected */
int64_t dan_cache_bytes(int level);            /* 1 (data) and 2: of a core; 3: of the socket; -1 unknown, 0 none */
int64_t dan_memory_available(void);            /* bytes this process may still take (cgroup respected); -1 unknown */
int64_t dan_rss(void);                         /* bytes resident now, VmRSS; -1 unknown */
int64_t dan_peak_rss(void);                    /* bytes, VmHWM */
const char *dan_env(const char *name);         /* NULL when unset or empty */

enum dan_cpu_feature {
    DAN_CPU_AVX2 = 1 << 0,                     /* AVX2 + FMA + F16C */
    DAN_CPU_AVX512 = 1 << 1,                   /* F, BW, DQ, VL */
    DAN_CPU_AVX512_BF16 = 1 << 2,
    DAN_CPU_AVX512_VNNI = 1 << 3,
    DAN_CPU_AVX_VNNI = 1 << 4,
    DAN_CPU_AMX_BF16 = 1 << 5,                 /* tiles granted by the kernel to this process */
    DAN_CPU_AMX_INT8 = 1 << 6,
};
uint64_t dan_cpu_features(void);               /* what CPU and kernel offer */
/* Sets of features by name, for asking for less than there is: "all", "avx512" (no AMX), "avx2", "scalar". */
const char *dan_isa_at(size_t i);              /* the i-th name; NULL at the end */
uint64_t dan_isa_mask(const char *name);       /* to be and-ed with dan_cpu_features(); never 0; all bits for NULL or a name that is none */
void     dan_cpu_describe(char *out, size_t n); /* "Intel(R) Xeon(R) ..., 2 cores, avx512 bf16 vnni amx" */

#endif
