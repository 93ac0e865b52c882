/* SimPO (Meng et al. 2024): no reference, means over tokens, a margin.  -ln sigmoid(beta (mean_w - mean_l) - gamma) */
#include "align/pref.h"
#include "align/scalar.h"

static double value(const struct dan_pref_pair *p, const struct dan_pref_opts *o, double seed[2])
{
    double u = o->beta * (p->policy[DAN_CHOSEN] / p->n[DAN_CHOSEN] - p->policy[DAN_REJECTED] / p->n[DAN_REJECTED]) - o->gamma;
    double s = o->beta * dan_sigmoid(-u);
    seed[DAN_CHOSEN] = -s / p->n[DAN_CHOSEN];
    seed[DAN_REJECTED] = s / p->n[DAN_REJECTED];
    return -dan_log_sigmoid(u);
}

const struct dan_pref_loss dan_pref_loss_simpo = {
    "simpo", "no reference, means over tokens, margin gamma", false, {.beta = 2.5, .gamma = 1.375}, value};
