#include "align/pref.h"
#include <string.h>
#include "align/scalar.h"

const struct dan_pref_loss *dan_pref_find(const char *name)
{
    for (int i = 0; dan_pref_losses[i]; i++)
        if (!strcmp(dan_pref_losses[i]->name, name)) return dan_pref_losses[i];
    return NULL;
}

double dan_pref_value(const struct dan_pref_loss *loss, const struct dan_pref_pair *p, const struct dan_pref_opts *o, double seed[2])
{
    double value = loss->value(p, o, seed), each = o->nll / p->n[DAN_CHOSEN];
    if (o->nll <= 0) return value;
    seed[DAN_CHOSEN] -= each;
    return value - each * p->policy[DAN_CHOSEN];
}

double dan_kto(double policy, double ref, bool desirable, double z, double beta, double weight, double *seed)
{
    double u = beta * (policy - ref - z), s;
    if (!desirable) u = -u;
    s = dan_sigmoid(u);
    *seed = (desirable ? -1 : 1) * weight * beta * s * dan_sigmoid(-u);
    return weight * dan_sigmoid(-u);
}

double dan_bradley_terry(double better, double worse, double margin, double seed[2])
{
    double x = better - worse - margin;
    seed[DAN_CHOSEN] = -dan_sigmoid(-x);
    seed[DAN_REJECTED] = dan_sigmoid(-x);
    return -dan_log_sigmoid(x);
}

double dan_pair_loss(double better, double worse, double margin, double center, double seed[2])
{
    double sum = better + worse, value = dan_bradley_terry(better, worse, margin, seed) + center * sum * sum;
    for (int k = 0; k < 2; k++) seed[k] += 2 * center * sum;
    return value;
}

static int different(const int *rank, int n)
{
    int pairs = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) pairs += rank[i] < rank[j];
    return pairs;
}

double dan_ranked_loss(const double *reward, const int *rank, int n, double center, double *seed, int *pairs, int *right)
{
    int total = different(rank, n), in_order = 0;
    double value = 0, part[2];
    memset(seed, 0, (size_t)n * sizeof *seed);
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
            if (rank[i] >= rank[j]) continue;
            value += dan_pair_loss(reward[i], reward[j], 0, center, part) / total;
            seed[i] += part[DAN_CHOSEN] / total;
            seed[j] += part[DAN_REJECTED] / total;
            in_order += reward[i] > reward[j];
        }
    }
    if (pairs) *pairs = total;
    if (right) *right = in_order;
    return value;
}
