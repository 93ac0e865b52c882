/* Probes measure what a processor can do at most: register-only loops of its multiply-add
 * instructions, and sweeps over memory.  exec/machine.h runs them; one const struct per file of
 * src/kernel/ISA/.  A probe computes nothing of use, but what it does is exact and tested. */
#ifndef DAN_KERNEL_PROBE_H
#define DAN_KERNEL_PROBE_H
#include <stddef.h>
#include <stdint.h>

enum dan_probe_kind { DAN_PROBE_F32, DAN_PROBE_BF16, DAN_PROBE_INT8, DAN_PROBE_MEMORY, DAN_N_PROBES };

/* Ways of moving data.  update: read and written back in place, as an optimiser does; the _past
 * forms write past the caches (non-temporal stores), NULL where the ISA has none. */
enum dan_sweep { DAN_SWEEP_READ, DAN_SWEEP_WRITE, DAN_SWEEP_COPY, DAN_SWEEP_UPDATE, DAN_SWEEP_WRITE_PAST, DAN_SWEEP_COPY_PAST, DAN_N_SWEEPS };
enum { DAN_SWEEP_UNIT = 512 };                 /* bytes: a sweep takes whole units, at addresses that are multiples of 64 */

struct dan_probe {
    const char *name, *isa;                    /* "fma_avx512", "avx512" */
    enum dan_probe_kind kind;
    uint64_t needs;                            /* CPU feature bits, base/sys.h */
    int32_t  rank;                             /* of all of a kind that the CPU has, the highest counts */
    double   ops;                              /* per round of spin; a multiply-add is two */
    float  (*spin)(int64_t rounds);            /* F32, BF16, INT8: the result only keeps the loop alive */
    /* MEMORY, over n bytes, `times` times: read adds the floats of `from`; write fills `to` with ones; copy; update adds
     * one to each float of `to`.  Returns the sum (read) or 0. */
    float  (*sweep[DAN_N_SWEEPS])(void *to, const void *from, int64_t n, int64_t times);
};
extern const struct dan_probe *const dan_probes[];               /* generated; NULL-terminated */

#endif
