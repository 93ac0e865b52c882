#include "base/threads.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/sys.h"

/* A generation counter that threads wait for.  `sleepers` saves the opener a system call when
 * everybody is still spinning: it is raised before the waiter's last look at gen and read after
 * gen has changed, both sequentially consistent, so one side always sees the other. */
struct gate {
    _Atomic uint32_t gen, sleepers;
    char pad[56];                                  /* a cache line each, or spinning slows the writer */
};

struct dan_pool {
    struct gate start, done, barrier;
    _Atomic int arrived, running;
    char pad[56];
    void (*fn)(void *ctx, int ith, int nth);       /* published by start.gen */
    void *ctx;
    int n, n_spin;
    bool stop;
    struct worker *worker;                         /* n - 1 */
};

struct worker { struct dan_pool *pool; int ith; pthread_t thread; };

/* Measured on 2 cores shared with others, microseconds a parallel region: 2 threads take 0.8 to 3.4
 * with a yield in every 100 pauses, up to 20 without (the scheduler may put both on one core);
 * 3 threads take 1.4 with 32 yields before sleep, 50 with 4. */
enum { SPINS = 2000, SPINS_PER_YIELD = 100, YIELDS = 32 };
static const double IDLE_SPIN_SECONDS = 20e-6;     /* between parallel regions of one program */

static inline void cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static bool gate_passed(struct gate *g, uint32_t seen)
{
    return atomic_load_explicit(&g->gen, memory_order_acquire) != seen;
}

/* Returns whether the gate opened within n pauses. */
static bool gate_spin(struct gate *g, uint32_t seen, int n)
{
    for (int i = 1; i <= n; i++) {
        if (gate_passed(g, seen)) return true;
        if (i % SPINS_PER_YIELD == 0) sched_yield();
        else cpu_pause();
    }
    return gate_passed(g, seen);
}

static void gate_sleep(struct gate *g, uint32_t seen)
{
    for (int i = 0; i < YIELDS; i++) {
        sched_yield();
        if (gate_passed(g, seen)) return;
    }
    atomic_fetch_add(&g->sleepers, 1);
    while (atomic_load(&g->gen) == seen)
        syscall(SYS_futex, &g->gen, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&g->sleepers, 1);
}

static void gate_wait(struct gate *g, uint32_t seen, int n_spin)
{
    if (!gate_spin(g, seen, n_spin)) gate_sleep(g, seen);
}

/* By the clock: a pause takes 10 cycles on some processors and 140 on others. */
static void gate_wait_idle(struct gate *g, uint32_t seen, bool spin)
{
    double until = spin ? dan_now() + IDLE_SPIN_SECONDS : 0;
    while (spin && dan_now() < until)
        if (gate_spin(g, seen, SPINS_PER_YIELD)) return;
    if (!gate_passed(g, seen)) gate_sleep(g, seen);
}

static void gate_open(struct gate *g)
{
    atomic_fetch_add(&g->gen, 1);
    if (atomic_load(&g->sleepers)) syscall(SYS_futex, &g->gen, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static void *worker_main(void *arg)
{
    const struct worker *w = arg;
    struct dan_pool *p = w->pool;
    for (uint32_t seen = 0;; seen++) {
        gate_wait_idle(&p->start, seen, p->n_spin > 0);
        if (p->stop) return NULL;
        p->fn(p->ctx, w->ith, p->n);
        if (atomic_fetch_sub(&p->running, 1) == 1) gate_open(&p->done);
    }
}

static void stop_workers(struct dan_pool *p, int n_started)
{
    p->stop = true;
    gate_open(&p->start);
    for (int i = 0; i < n_started; i++) pthread_join(p->worker[i].thread, NULL);
    dan_free(p->worker);
    dan_free(p);
}

int dan_pool_new(int n, struct dan_pool **out, struct dan_err *e)
{
    int n_cores = dan_n_cores();
    if (n <= 0) n = n_cores;
    struct dan_pool *p = dan_calloc(1, sizeof *p);
    struct worker *w = dan_calloc((size_t)n, sizeof *w);
    if (!p || !w) {
        dan_free(p);
        dan_free(w);
        return dan_fail(e, DAN_ENOMEM, "out of memory for a pool of %d threads; use fewer threads", n);
    }
    p->n = n;
    p->n_spin = n <= n_cores ? SPINS : 0;          /* spinning would take the core from who is awaited */
    p->worker = w;
    for (int i = 0; i + 1 < n; i++) {
        w[i].pool = p;
        w[i].ith = i + 1;
        int failed = pthread_create(&w[i].thread, NULL, worker_main, &w[i]);
        if (!failed) continue;
        stop_workers(p, i);
        return dan_fail(e, DAN_ENOMEM, "cannot start thread %d of %d: %s; use fewer threads", i + 2, n,
                        strerror(failed));
    }
    *out = p;
    return DAN_OK;
}

void dan_pool_free(struct dan_pool *p)
{
    if (p) stop_workers(p, p->n - 1);
}

int dan_pool_size(const struct dan_pool *p) { return p ? p->n : 1; }

void dan_pool_run(struct dan_pool *p, void (*fn)(void *ctx, int ith, int nth), void *ctx)
{
    if (!p || p->n == 1) {
        fn(ctx, 0, 1);
        return;
    }
    p->fn = fn;
    p->ctx = ctx;
    atomic_store(&p->running, p->n - 1);
    uint32_t seen = atomic_load(&p->done.gen);
    gate_open(&p->start);
    fn(ctx, 0, p->n);
    gate_wait(&p->done, seen, p->n_spin);
}

/* gen is read before arriving: it cannot move on without this thread. */
void dan_pool_barrier(struct dan_pool *p)
{
    if (!p || p->n == 1) return;
    uint32_t seen = atomic_load(&p->barrier.gen);
    if (atomic_fetch_add(&p->arrived, 1) + 1 < p->n) {
        gate_wait(&p->barrier, seen, p->n_spin);
        return;
    }
    atomic_store(&p->arrived, 0);
    gate_open(&p->barrier);
}

void dan_wait_for(const int32_t *flag, int32_t value)
{
    for (int i = 1; __atomic_load_n(flag, __ATOMIC_ACQUIRE) != value; i++) {
        if (i % SPINS_PER_YIELD == 0) sched_yield();
        else cpu_pause();
    }
}
