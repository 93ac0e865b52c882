/* Losses of preference pairs: one const struct in one file of src/align/pref/ each.
 *
 * A loss sees the log-probabilities of two whole answers to one prompt (sums over the answer's tokens, the end of turn
 * included, the prompt not) under the policy and, for most, under a frozen reference.  It gives its value and, per answer, its
 * derivative with respect to the log-probability of any one token of it: the seed that goes back through log-softmax.  All
 * tokens of an answer get the same seed. */
#ifndef DAN_ALIGN_PREF_H
#define DAN_ALIGN_PREF_H
#include <stdbool.h>

enum dan_answer { DAN_CHOSEN, DAN_REJECTED };
struct dan_pref_pair {
    double policy[2], ref[2];                  /* log-probabilities, nats; ref is not read where the loss needs none */
    double n[2];                               /* tokens */
};
struct dan_pref_opts {
    double beta;                               /* strength: of the pull to the reference, of the margin */
    double gamma;                              /* simpo: the margin */
    double smoothing;                          /* cdpo, robust: the share of labels taken to be flipped, < 1/2 */
    double lambda;                             /* orpo: weight of the odds ratio */
    double nll;                                /* any loss: weight of the chosen answer's mean NLL beside it (dan_pref_value) */
};
struct dan_pref_loss {
    const char *name, *doc;
    bool needs_ref;
    struct dan_pref_opts usual;                /* what its authors or TRL take */
    double (*value)(const struct dan_pref_pair *p, const struct dan_pref_opts *o, double seed[2]);
};
extern const struct dan_pref_loss *const dan_pref_losses[];       /* generated; NULL-terminated */
const struct dan_pref_loss *dan_pref_find(const char *name);      /* NULL when there is none */

/* The loss, with nll * (-policy / n) of the chosen answer added (RPO, Pang et al. 2024): against both log-probabilities falling. */
double dan_pref_value(const struct dan_pref_loss *loss, const struct dan_pref_pair *p, const struct dan_pref_opts *o, double seed[2]);

/* (policy - ref) of the chosen minus that of the rejected answer: DPO's margin, its implicit reward over beta. */
static inline double dan_pref_delta(const struct dan_pref_pair *p)
{
    return (p->policy[DAN_CHOSEN] - p->ref[DAN_CHOSEN]) - (p->policy[DAN_REJECTED] - p->ref[DAN_REJECTED]);
}

/* The same of means over tokens. */
static inline double dan_pref_mean_delta(const struct dan_pref_pair *p)
{
    return (p->policy[DAN_CHOSEN] - p->ref[DAN_CHOSEN]) / p->n[DAN_CHOSEN] -
           (p->policy[DAN_REJECTED] - p->ref[DAN_REJECTED]) / p->n[DAN_REJECTED];
}

/* KTO (Ethayarajh et al. 2024): one answer that is desirable or not; z >= 0 estimates KL(policy || reference) from mismatched
 * pairs and is held fixed.  Value weight (1 - sigmoid(u)), u = beta (policy - ref - z) or its negative. */
double dan_kto(double policy, double ref, bool desirable, double z, double beta, double weight, double *seed);

/* Bradley-Terry: -ln sigmoid(better - worse - margin); seed[k] = d / d reward k.  The loss of reward models; margins as in LLaMA 2. */
double dan_bradley_terry(double better, double worse, double margin, double seed[2]);
/* K answers ranked (rank 1 is best; equal ranks are not compared): the mean of Bradley-Terry over all pairs of different rank
 * (Ouyang et al. 2022), plus center * mean over these pairs of (r_i + r_j)^2.  seed[K] = d / d reward.  Returns 0 where no pair
 * differs; *pairs and *right (both may be NULL) count the pairs and those in the right order. */
double dan_ranked_loss(const double *reward, const int *rank, int n, double center, double *seed, int *pairs, int *right);
/* The same with a margin for the pair of two answers. */
double dan_pair_loss(double better, double worse, double margin, double center, double seed[2]);

#endif
