/* Sweeps over memory, 512 bytes a turn.  Loads and stores are what kernels use: one vector, no special order. */
#include "kernel/probe.h"

enum { N = DAN_SWEEP_UNIT / 4 / VF < 8 ? DAN_SWEEP_UNIT / 4 / VF : 8, TURN = N * VF };   /* vectors and floats of a turn */

static float sweep_read(void *to, const void *from, int64_t n, int64_t times)
{
    const float *p = from;
    vf s[N];
    (void)to;
    for (int k = 0; k < N; k++) s[k] = vf_set(0);
    for (int64_t t = 0; t < times; t++)
        for (int64_t i = 0; i < n / 4; i += TURN)
            for (int k = 0; k < N; k++) s[k] = vf_add(s[k], vf_load(p + i + k * VF));
    for (int k = 1; k < N; k++) s[0] = vf_add(s[0], s[k]);
    return vf_sum(s[0]);
}

static float sweep_write(void *to, const void *from, int64_t n, int64_t times)
{
    float *p = to;
    vf one = vf_set(1);
    (void)from;
    for (int64_t t = 0; t < times; t++)
        for (int64_t i = 0; i < n / 4; i += TURN) {
            for (int k = 0; k < N; k++) vf_store(p + i + k * VF, one);
            __asm__ volatile("" ::: "memory");     /* or it becomes a call of memset */
        }
    return 0;
}

static float sweep_copy(void *to, const void *from, int64_t n, int64_t times)
{
    float *d = to;
    const float *p = from;
    for (int64_t t = 0; t < times; t++)
        for (int64_t i = 0; i < n / 4; i += TURN) {
            for (int k = 0; k < N; k++) vf_store(d + i + k * VF, vf_load(p + i + k * VF));
            __asm__ volatile("" ::: "memory");
        }
    return 0;
}

static float sweep_update(void *to, const void *from, int64_t n, int64_t times)
{
    float *p = to;
    vf one = vf_set(1);
    (void)from;
    for (int64_t t = 0; t < times; t++)
        for (int64_t i = 0; i < n / 4; i += TURN)
            for (int k = 0; k < N; k++) vf_store(p + i + k * VF, vf_add(vf_load(p + i + k * VF), one));
    return 0;
}

#ifdef VF_STREAM
static float sweep_write_past(void *to, const void *from, int64_t n, int64_t times)
{
    float *p = to;
    vf one = vf_set(1);
    (void)from;
    for (int64_t t = 0; t < times; t++)
        for (int64_t i = 0; i < n / 4; i += TURN)
            for (int k = 0; k < N; k++) VF_STREAM(p + i + k * VF, one);
    _mm_sfence();
    return 0;
}

static float sweep_copy_past(void *to, const void *from, int64_t n, int64_t times)
{
    float *d = to;
    const float *p = from;
    for (int64_t t = 0; t < times; t++)
        for (int64_t i = 0; i < n / 4; i += TURN)
            for (int k = 0; k < N; k++) VF_STREAM(d + i + k * VF, vf_load(p + i + k * VF));
    _mm_sfence();
    return 0;
}
#else
#define sweep_write_past NULL
#define sweep_copy_past NULL
#endif
