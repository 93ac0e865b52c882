/* A pool of threads that is passed in, never global.  The caller is thread 0. */
#ifndef DAN_BASE_THREADS_H
#define DAN_BASE_THREADS_H
#include <stdint.h>
#include "base/err.h"

struct dan_pool;
/* n <= 0: one thread per usable core (affinity and cgroup quota respected). */
int  dan_pool_new(int n, struct dan_pool **out, struct dan_err *e);
void dan_pool_free(struct dan_pool *p);
int  dan_pool_size(const struct dan_pool *p);
/* Calls fn(ctx, ith, nth) on every thread and returns when all are done.  p may be NULL: one thread. */
void dan_pool_run(struct dan_pool *p, void (*fn)(void *ctx, int ith, int nth), void *ctx);
/* Inside fn: waits until all threads of the pool are here.  Spins briefly, then sleeps. */
void dan_pool_barrier(struct dan_pool *p);
/* Waits until another thread has stored `value` at *flag (with __ATOMIC_RELEASE).  Spins briefly, then yields. */
void dan_wait_for(const int32_t *flag, int32_t value);

#endif
