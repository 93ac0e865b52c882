/* IPO of means over tokens, which is what TRL calls ipo. */
#include "align/pref.h"
#include "align/scalar.h"

static double value(const struct dan_pref_pair *p, const struct dan_pref_opts *o, double seed[2])
{
    double x = dan_pref_mean_delta(p) - 1 / (2 * o->beta);
    seed[DAN_CHOSEN] = 2 * x / p->n[DAN_CHOSEN];
    seed[DAN_REJECTED] = -2 * x / p->n[DAN_REJECTED];
    return x * x;
}

const struct dan_pref_loss dan_pref_loss_ipo_mean = {
    "ipo_mean", "IPO of means over tokens, as in TRL", true, {.beta = 0.1}, value};
