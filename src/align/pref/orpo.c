/* ORPO (Hong et al. 2024): the chosen answer's mean NLL, minus lambda ln sigmoid of the log odds ratio.
 *   a = log-probability / tokens,  odds: (a_w - a_l) - (ln(1 - e^a_w) - ln(1 - e^a_l)) */
#include "align/pref.h"
#include "align/scalar.h"

static double value(const struct dan_pref_pair *p, const struct dan_pref_opts *o, double seed[2])
{
    double w = p->policy[DAN_CHOSEN] / p->n[DAN_CHOSEN], l = p->policy[DAN_REJECTED] / p->n[DAN_REJECTED];
    double odds = (w - l) - (dan_log1m_exp(w) - dan_log1m_exp(l)), s = o->lambda * dan_sigmoid(-odds);
    seed[DAN_CHOSEN] = -(1 - s / expm1(w)) / p->n[DAN_CHOSEN];
    seed[DAN_REJECTED] = -s / expm1(l) / p->n[DAN_REJECTED];
    return -w - o->lambda * dan_log_sigmoid(odds);
}

const struct dan_pref_loss dan_pref_loss_orpo = {
    "orpo", "NLL of the chosen answer with an odds ratio; no reference", false, {.lambda = 0.1}, value};
