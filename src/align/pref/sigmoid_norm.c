/* DPO of means over tokens (Tulu 3's dpo_norm). */
#include "align/pref.h"
#include "align/scalar.h"

static double value(const struct dan_pref_pair *p, const struct dan_pref_opts *o, double seed[2])
{
    double x = o->beta * dan_pref_mean_delta(p), s = o->beta * dan_sigmoid(-x);
    seed[DAN_CHOSEN] = -s / p->n[DAN_CHOSEN];
    seed[DAN_REJECTED] = s / p->n[DAN_REJECTED];
    return -dan_log_sigmoid(x);
}

const struct dan_pref_loss dan_pref_loss_sigmoid_norm = {
    "sigmoid_norm", "DPO of means over tokens (Tulu 3)", true, {.beta = 5}, value};
