/* CPO (Xu et al. 2024): DPO without a reference, with the chosen answer's mean NLL. */
#include "align/pref.h"
#include "align/scalar.h"

static double value(const struct dan_pref_pair *p, const struct dan_pref_opts *o, double seed[2])
{
    double x = o->beta * (p->policy[DAN_CHOSEN] - p->policy[DAN_REJECTED]), s = o->beta * dan_sigmoid(-x);
    seed[DAN_CHOSEN] = -s - 1 / p->n[DAN_CHOSEN];
    seed[DAN_REJECTED] = s;
    return -dan_log_sigmoid(x) - p->policy[DAN_CHOSEN] / p->n[DAN_CHOSEN];
}

const struct dan_pref_loss dan_pref_loss_cpo = {
    "cpo", "DPO without a reference, with the chosen answer's NLL", false, {.beta = 0.1}, value};
