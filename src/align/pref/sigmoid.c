/* DPO (Rafailov et al. 2023): -ln sigmoid(beta delta).  ln 2 where the policy is the reference. */
#include "align/pref.h"
#include "align/scalar.h"

static double value(const struct dan_pref_pair *p, const struct dan_pref_opts *o, double seed[2])
{
    double x = o->beta * dan_pref_delta(p);
    seed[DAN_CHOSEN] = -o->beta * dan_sigmoid(-x);
    seed[DAN_REJECTED] = -seed[DAN_CHOSEN];
    return -dan_log_sigmoid(x);
}

const struct dan_pref_loss dan_pref_loss_sigmoid = {
    "sigmoid", "DPO: -ln sigmoid(beta delta)", true, {.beta = 0.1}, value};
