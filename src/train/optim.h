/* Optimisers: one const struct in one file of src/train/optim/ each. */
#ifndef DAN_TRAIN_OPTIM_H
#define DAN_TRAIN_OPTIM_H
#include <stdbool.h>
#include <stdint.h>

struct dan_optim_args {
    double  lr, beta1, beta2, eps, weight_decay, momentum;
    double  grad_scale;                        /* multiplies every gradient first: clipping */
    int64_t step;                              /* 1, 2, ... */
    bool    nesterov;
};
enum { DAN_MAX_SLOTS = 3 };
struct dan_optim {
    const char *name, *doc;
    int32_t n_slots;                           /* state arrays per parameter, begun as zeros */
    const char *slot[DAN_MAX_SLOTS];           /* their names in checkpoints: "m", "v" */
    /* Updates w[0..n) elementwise from g and the slots; called on disjoint ranges by many threads. */
    void (*update)(float *w, const float *g, float *const *slot, int64_t n, const struct dan_optim_args *a);
    /* The same loop compiled for AVX2, the same bits; NULL: none. */
    void (*update_avx2)(float *w, const float *g, float *const *slot, int64_t n, const struct dan_optim_args *a);
};
extern const struct dan_optim *const dan_optims[];               /* generated */
const struct dan_optim *dan_optim_find(const char *name);         /* NULL when there is none */

/* One loop for two instruction sets: an always-inline body in a plain function and in one with DAN_FOR_AVX2.  Elementwise
 * code without fma gives the same bits in both. */
#ifdef __x86_64__
#define DAN_FOR_AVX2 __attribute__((target("avx2")))
#else
#define DAN_FOR_AVX2
#endif
#define DAN_INLINE static inline __attribute__((always_inline))

#endif
