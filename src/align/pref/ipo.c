/* IPO (Azar et al. 2023): (delta - 1 / (2 beta))^2 of summed log-probabilities, as in the paper. */
#include "align/pref.h"
#include "align/scalar.h"

static double value(const struct dan_pref_pair *p, const struct dan_pref_opts *o, double seed[2])
{
    double x = dan_pref_delta(p) - 1 / (2 * o->beta);
    seed[DAN_CHOSEN] = 2 * x;
    seed[DAN_REJECTED] = -2 * x;
    return x * x;
}

const struct dan_pref_loss dan_pref_loss_ipo = {
    "ipo", "(delta - 1 / (2 beta))^2 of sums, as in the paper", true, {.beta = 0.1}, value};
