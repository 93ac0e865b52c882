/* SLiC's hinge (Zhao et al. 2023) on DPO's margin: max(0, 1 - beta delta). */
#include "align/pref.h"
#include "align/scalar.h"

static double value(const struct dan_pref_pair *p, const struct dan_pref_opts *o, double seed[2])
{
    double x = 1 - o->beta * dan_pref_delta(p);
    seed[DAN_CHOSEN] = x > 0 ? -o->beta : 0;
    seed[DAN_REJECTED] = x > 0 ? o->beta : 0;
    return x > 0 ? x : 0;
}

const struct dan_pref_loss dan_pref_loss_hinge = {
    "hinge", "max(0, 1 - beta delta)", true, {.beta = 0.1}, value};
