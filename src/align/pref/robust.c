/* Robust DPO (Chowdhury et al. 2024): unbiased under flipped labels.
 *   [-(1 - e) ln sigmoid(beta delta) + e ln sigmoid(-beta delta)] / (1 - 2 e) */
#include "align/pref.h"
#include "align/scalar.h"

static double value(const struct dan_pref_pair *p, const struct dan_pref_opts *o, double seed[2])
{
    double x = o->beta * dan_pref_delta(p), e = o->smoothing, by = 1 / (1 - 2 * e);
    seed[DAN_CHOSEN] = -o->beta * ((1 - e) * dan_sigmoid(-x) + e * dan_sigmoid(x)) * by;
    seed[DAN_REJECTED] = -seed[DAN_CHOSEN];
    return (-(1 - e) * dan_log_sigmoid(x) + e * dan_log_sigmoid(-x)) * by;
}

const struct dan_pref_loss dan_pref_loss_robust = {
    "robust", "DPO that expects a share of flipped labels", true, {.beta = 0.1, .smoothing = 0.1}, value};
