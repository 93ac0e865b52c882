#include "align/sft.h"
#include <math.h>
#include <string.h>
#include "align/shuffle.h"
#include "base/mem.h"

int dan_sft_init(struct dan_sft *s, struct dan_tuner *t, const struct dan_sft_data *data, const struct dan_sft_data *replay, double replay_share,
                 int64_t batch, int64_t pack_rows, uint64_t seed, struct dan_err *e)
{
    *s = (struct dan_sft){.tuner = t, .data = data, .replay = replay, .replay_share = replay ? replay_share : 0, .batch = batch, .seed = seed,
                          .epoch = -1, .replay_epoch = -1};
    int rc = dan_packed_init(&s->pack, pack_rows, e);
    s->order = dan_malloc((data->n + 1) * sizeof *s->order);
    s->replay_order = dan_malloc(((replay ? replay->n : 0) + 1) * sizeof *s->replay_order);
    size_t rows = (size_t)pack_rows + 1;
    s->packed = dan_malloc(rows * sizeof *s->packed);
    s->is_replay = dan_malloc(rows * sizeof *s->is_replay);
    s->nll = dan_malloc(rows * sizeof *s->nll);
    s->weight = dan_malloc(rows * sizeof *s->weight);
    if (!rc && (!s->order || !s->replay_order || !s->packed || !s->is_replay || !s->nll || !s->weight)) rc = dan_fail(e, DAN_ENOMEM, "not enough memory to order %zu sequences", data->n);
    if (rc) dan_sft_release(s);
    return rc;
}

void dan_sft_release(struct dan_sft *s)
{
    dan_packed_release(&s->pack);
    dan_free(s->order);
    dan_free(s->replay_order);
    dan_free(s->packed);
    dan_free(s->is_replay);
    dan_free(s->nll);
    dan_free(s->weight);
    *s = (struct dan_sft){0};
}

int64_t dan_sft_steps_per_epoch(const struct dan_sft *s)
{
    int64_t n = ((int64_t)s->data->n + s->batch - 1) / s->batch;
    return n < 1 ? 1 : n;
}

/* Adds the pack's gradient and what its losses say. */
static int flush(struct dan_sft *s, struct dan_sft_stats *out, struct dan_err *e)
{
    int64_t r = 0, rows = s->pack.batch.rows;
    int rc = rows ? dan_tuner_add(s->tuner, &s->pack, s->nll, e) : DAN_OK;
    for (int64_t k = 0; k < s->pack.sequences && !rc; k++)
        for (int64_t i = 1; i < s->packed[k]->n; i++, r++)
            if (s->packed[k]->learn[i]) *(s->is_replay[k] ? &out->replay_loss : &out->loss) += (double)s->nll[r];
    dan_packed_clear(&s->pack);
    return rc;
}

static int add(struct dan_sft *s, const struct dan_sft_row *q, bool replay, double per_token, struct dan_sft_stats *out, struct dan_err *e)
{
    int rc = dan_packed_fits(&s->pack, q->n) ? DAN_OK : flush(s, out, e);
    if (rc) return rc;
    for (int64_t i = 0; i < q->n; i++) s->weight[i] = q->learn[i] ? (float)per_token : 0;
    s->packed[s->pack.sequences] = q;
    s->is_replay[s->pack.sequences] = replay;
    dan_packed_add_learnt(&s->pack, q->ids, q->n, q->learn, s->weight);
    out->ids += q->n;
    return DAN_OK;
}

/* Windows of replayed text that the first n steps take: on average the share, also where one step's is less than a window. */
static int64_t replays_until(const struct dan_sft *s, int64_t n)
{
    if (!s->replay) return 0;
    double mean = (double)s->replay->learnt / (double)s->replay->n, learnt = (double)s->data->learnt * (double)s->batch / (double)s->data->n;
    return (int64_t)floor((double)n * s->replay_share / (1 - s->replay_share) * learnt / mean + 1e-9);
}

static const struct dan_sft_row *data_at(struct dan_sft *s, int64_t k)
{
    return &s->data->v[dan_shuffled(s->order, (int64_t)s->data->n, &s->epoch, s->seed, 0, k)];
}

static const struct dan_sft_row *replay_at(struct dan_sft *s, int64_t k)
{
    return &s->replay->v[dan_shuffled(s->replay_order, (int64_t)s->replay->n, &s->replay_epoch, s->seed, 1, k)];
}

int dan_sft_step(struct dan_sft *s, double lr, struct dan_sft_stats *out, struct dan_err *e)
{
    int64_t step = dan_tuner_steps(s->tuner), first = step * s->batch;
    int rc = DAN_OK;
    *out = (struct dan_sft_stats){.step = step + 1, .epoch = (double)(first + s->batch) / (double)s->data->n};
    for (int64_t k = 0; k < s->batch; k++) out->learnt += data_at(s, first + k)->learnt;
    int64_t from = replays_until(s, step), to = replays_until(s, step + 1);
    for (int64_t k = from; k < to; k++) out->replayed += replay_at(s, k)->learnt;
    double per_token = 1.0 / (double)(out->learnt + out->replayed);
    dan_packed_clear(&s->pack);
    for (int64_t k = 0; k < s->batch && !rc; k++) rc = add(s, data_at(s, first + k), false, per_token, out, e);
    for (int64_t k = from; k < to && !rc; k++) rc = add(s, replay_at(s, k), true, per_token, out, e);
    if (!rc) rc = flush(s, out, e);
    if (!rc) rc = dan_tuner_step(s->tuner, lr, &out->grad_norm, e);
    out->loss /= (double)(out->learnt ? out->learnt : 1);
    out->replay_loss /= (double)(out->replayed ? out->replayed : 1);
    return rc;
}

struct eval { struct dan_tuner *t; struct dan_packed *pack; const struct dan_sft_data *data; size_t first; double *mean, sum; float *nll; };

static int score_pack(struct eval *v, size_t end, struct dan_err *e)
{
    int64_t r = 0;
    int rc = v->pack->batch.rows ? dan_tuner_score(v->t, v->pack, false, v->nll, e) : DAN_OK;
    for (size_t k = v->first; k < end && !rc; k++) {
        const struct dan_sft_row *q = &v->data->v[k];
        double own = 0;
        for (int64_t i = 1; i < q->n; i++, r++)
            if (q->learn[i]) own += (double)v->nll[r];
        v->sum += own;
        if (v->mean) v->mean[k] = own / (double)q->learnt;
    }
    v->first = end;
    dan_packed_clear(v->pack);
    return rc;
}

int dan_sft_eval(struct dan_tuner *t, const struct dan_sft_data *data, struct dan_packed *pack, double *loss, double *mean, struct dan_err *e)
{
    struct eval v = {.t = t, .pack = pack, .data = data, .mean = mean, .nll = dan_malloc((size_t)pack->max_rows * sizeof *v.nll)};
    int rc = v.nll ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory to evaluate");
    dan_packed_clear(pack);
    for (size_t k = 0; k < data->n && !rc; k++) {
        if (!dan_packed_fits(pack, data->v[k].n)) rc = score_pack(&v, k, e);
        if (!rc) dan_packed_add_learnt(pack, data->v[k].ids, data->v[k].n, data->v[k].learn, NULL);
    }
    if (!rc) rc = score_pack(&v, data->n, e);
    if (!rc) *loss = v.sum / (double)data->learnt;
    dan_free(v.nll);
    return rc;
}

/* The ratio estimator's error over sequences: residuals of the change, weighted by tokens (Cochran 1977, 6.4). */
struct dan_change dan_paired_change(const struct dan_sft_data *data, const double *before, const double *after)
{
    struct dan_change c = {.n = (int64_t)data->n};
    double tokens = (double)data->learnt, mean = tokens / (double)data->n, ss = 0;
    for (size_t k = 0; k < data->n; k++) {
        c.before += before[k] * (double)data->v[k].learnt / tokens;
        c.after += after[k] * (double)data->v[k].learnt / tokens;
    }
    c.change = c.after - c.before;
    for (size_t k = 0; k < data->n; k++) {
        double d = (double)data->v[k].learnt * (after[k] - before[k] - c.change) / mean;
        ss += d * d;
    }
    c.error = data->n > 1 ? sqrt(ss / (double)(data->n - 1) / (double)data->n) : INFINITY;
    return c;
}
