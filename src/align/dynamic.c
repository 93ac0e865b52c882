#include "align/dynamic.h"
#include <string.h>
#include "align/policy.h"
#include "base/mem.h"

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for a step's answers"); }

/* each[rewards][a] and more[rewards][b] as one. */
static double *beside(const double *each, size_t a, const double *more, size_t b, size_t rewards)
{
    double *both = dan_malloc(((a + b) * rewards + 1) * sizeof *both);
    for (size_t i = 0; i < rewards && both; i++) {
        if (a) memcpy(both + i * (a + b), each + i * a, a * sizeof *both);
        if (b) memcpy(both + i * (a + b) + a, more + i * b, b * sizeof *both);
    }
    return both;
}

/* Takes over the answers of a round. */
static int append(struct dan_groups *g, struct dan_rollouts *round, const double *total, const double *each, size_t rewards, struct dan_err *e)
{
    size_t n = g->said.n + round->n;
    struct dan_said *v = dan_realloc(g->said.v, (n + 1) * sizeof *v);
    if (v) g->said.v = v;
    double *t = v ? dan_realloc(g->total, (n + 1) * sizeof *t) : NULL;
    if (t) g->total = t;
    double *both = t ? beside(g->each, g->said.n, each, round->n, rewards) : NULL;
    if (!both) return no_memory(e);
    dan_free(g->each);
    g->each = both;
    memcpy(v + g->said.n, round->v, round->n * sizeof *v);
    memcpy(t + g->said.n, total, round->n * sizeof *t);
    g->said.n = n;
    g->said.samples = round->samples;
    g->said.tokens += round->tokens;
    g->said.prompt_tokens += round->prompt_tokens;
    g->said.seconds += round->seconds;
    dan_free(round->v);
    *round = (struct dan_rollouts){0};
    return DAN_OK;
}

static bool flat(const struct dan_groups *g, int64_t k) { return dan_group_flat(g->total + k * g->said.samples, g->said.samples); }

static int ask_round(struct dan_groups *g, int64_t n, size_t rewards, dan_ask *ask, void *ctx, struct dan_err *e)
{
    struct dan_rollouts round = {0};
    double *total = NULL, *each = NULL;
    int rc = ask(ctx, g->rounds, n, &round, &total, &each, e);
    if (!rc) rc = append(g, &round, total, each, rewards, e);
    for (int64_t k = g->prompts; k < g->prompts + n && !rc; k++) g->flat += flat(g, k);
    g->prompts += rc ? 0 : n;
    g->rounds++;
    dan_rollouts_release(&round);
    dan_free(total);
    dan_free(each);
    return rc;
}

static int64_t to_ask(const struct dan_groups *g, int64_t want)
{
    int64_t have = g->prompts - g->flat, n = have ? ((want - have) * g->prompts + have - 1) / have : want;
    return n < want ? n : want;
}

/* The first `want` groups that differ; without a choice, of all. */
static int choose(struct dan_groups *g, int64_t want, bool all, struct dan_err *e)
{
    size_t samples = (size_t)g->said.samples, have = 0;
    g->learnt = (struct dan_rollouts){.samples = g->said.samples, .v = dan_malloc((g->said.n + 1) * sizeof *g->learnt.v)};
    g->reward = dan_malloc((g->said.n + 1) * sizeof *g->reward);
    if (!g->learnt.v || !g->reward) return no_memory(e);
    for (int64_t k = 0; k < g->prompts && (int64_t)have < want; k++) {
        if (!all && flat(g, k)) continue;
        memcpy(g->learnt.v + have * samples, g->said.v + (size_t)k * samples, samples * sizeof *g->learnt.v);
        memcpy(g->reward + have * samples, g->total + (size_t)k * samples, samples * sizeof *g->reward);
        have++;
    }
    g->learnt.n = have * samples;
    for (size_t i = 0; i < g->learnt.n; i++) g->learnt.tokens += dan_said_tokens(&g->learnt.v[i]);
    return DAN_OK;
}

int dan_groups_sample(int64_t want, int64_t rounds, size_t rewards, dan_ask *ask, void *ctx, struct dan_groups *out, struct dan_err *e)
{
    *out = (struct dan_groups){0};
    int rc = ask_round(out, want, rewards, ask, ctx, e);
    while (!rc && out->rounds < rounds && out->prompts - out->flat < want) rc = ask_round(out, to_ask(out, want), rewards, ask, ctx, e);
    if (!rc) rc = choose(out, want, rounds == 0 || out->flat == out->prompts, e);
    if (rc) dan_groups_release(out);
    return rc;
}

void dan_groups_release(struct dan_groups *g)
{
    dan_free(g->learnt.v);
    dan_free(g->reward);
    dan_rollouts_release(&g->said);
    dan_free(g->total);
    dan_free(g->each);
    *g = (struct dan_groups){0};
}
