/* Conservative DPO (Mitchell 2023): a share of the labels is taken to be flipped.
 *   -(1 - e) ln sigmoid(beta delta) - e ln sigmoid(-beta delta) */
#include "align/pref.h"
#include "align/scalar.h"

static double value(const struct dan_pref_pair *p, const struct dan_pref_opts *o, double seed[2])
{
    double x = o->beta * dan_pref_delta(p), e = o->smoothing;
    seed[DAN_CHOSEN] = o->beta * (e * dan_sigmoid(x) - (1 - e) * dan_sigmoid(-x));
    seed[DAN_REJECTED] = -seed[DAN_CHOSEN];
    return -(1 - e) * dan_log_sigmoid(x) - e * dan_log_sigmoid(-x);
}

const struct dan_pref_loss dan_pref_loss_cdpo = {
    "cdpo", "DPO with label smoothing", true, {.beta = 0.1, .smoothing = 0.1}, value};
