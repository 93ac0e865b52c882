#include "align/kto.h"
#include <string.h>
#include "align/sft_data_impl.h"
#include "align/shuffle.h"
#include "base/mem.h"

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for labelled answers"); }

/* ---- data ---- */

static int add_answers(void *ctx, const struct dan_example *ex, enum dan_skip *skip, struct dan_err *e)
{
    const struct dan_sft_reading *r = ctx;
    *skip = DAN_SKIP_OTHER_KIND;
    if (ex->kind != DAN_EXAMPLE_LABELLED && ex->kind != DAN_EXAMPLE_PAIR)
        return dan_fail(e, DAN_EINVAL, "line %lld of '%s' is of the kind '%s': expected an answer with a label (or chosen and rejected)", (long long)ex->line, ex->file,
                        dan_example_kind_name(ex->kind));
    for (size_t k = 0; k < json_array_size(ex->answers); k++) {
        struct dan_sft_row row;
        int rc = dan_answer_row(ex, k, r->o, &row, skip, e);
        if (rc) return rc;
        row.desirable = ex->kind == DAN_EXAMPLE_PAIR ? k == DAN_CHOSEN : ex->desirable;
        if ((rc = dan_sft_data_add(r->out, &row, e))) return rc;
    }
    return DAN_OK;
}

static int64_t desirable(const struct dan_sft_data *d)
{
    int64_t n = 0;
    for (size_t i = 0; i < d->n; i++) n += d->v[i].desirable;
    return n;
}

int dan_labelled_read(const char *const *paths, size_t n, const struct dan_sft_data_opts *o, struct dan_sft_data *out, struct dan_err *e)
{
    struct dan_sft_reading r = {o, out};
    *out = (struct dan_sft_data){0};
    int rc = dan_sft_data_each(paths, n, "is a labelled answer that can be learnt from", out, add_answers, &r, e);
    if (!rc && (desirable(out) == 0 || desirable(out) == (int64_t)out->n))
        rc = dan_fail(e, DAN_EINVAL, "all %zu answers are %s: kto needs both kinds", out->n, desirable(out) ? "desirable" : "undesirable");
    if (rc) dan_sft_data_release(out);
    return rc;
}

/* ---- mismatched rows ---- */

static int64_t answer_at(const struct dan_sft_row *r)
{
    int64_t i = 1;
    while (i < r->n && !r->learn[i]) i++;
    return i;
}

/* The prompt of a and what follows the prompt of b. */
static int mix(const struct dan_sft_row *a, const struct dan_sft_row *b, int64_t most, struct dan_sft_data *out, struct dan_err *e)
{
    int64_t p = answer_at(a), q = answer_at(b), n = p + b->n - q;
    if (n > most) n = most;
    int32_t *ids = dan_malloc((size_t)n * sizeof *ids);
    char *learn = dan_calloc((size_t)n, 1);
    struct dan_sft_row row = {.file = a->file, .line = a->line};
    int rc = ids && learn ? DAN_OK : no_memory(e);
    for (int64_t i = 0; i < n && !rc; i++) {
        ids[i] = i < p ? a->ids[i] : b->ids[q + i - p];
        learn[i] = i >= p && b->learn[q + i - p];
    }
    if (!rc) rc = dan_sft_row_take(&row, ids, learn, (size_t)n, e);
    dan_free(ids);
    dan_free(learn);
    return rc ? rc : dan_sft_data_add(out, &row, e);
}

static int mix_all(struct dan_kto_run *k, struct dan_err *e)
{
    int rc = DAN_OK;
    for (size_t i = 0; i < k->data->n && !rc; i++) rc = mix(&k->data->v[i], &k->data->v[(i + 1) % k->data->n], k->pack.max_rows, &k->mixed, e);
    return rc;
}

/* ---- steps ---- */

static int score_all(struct dan_kto_run *k, const struct dan_sft_data *d, dan_logp_rows *by, double *sum, struct dan_err *e)
{
    const struct dan_sft_row **all = dan_malloc((d->n + 1) * sizeof *all);
    int rc = all ? DAN_OK : no_memory(e);
    for (size_t i = 0; i < d->n && !rc; i++) all[i] = &d->v[i];
    if (!rc) rc = by(k->tuner, all, d->n, &k->pack, sum, e);
    dan_free(all);
    return rc;
}

int dan_kto_init(struct dan_kto_run *k, struct dan_tuner *t, const struct dan_sft_data *data, double beta, const double weight[2], int64_t batch, int64_t pack_rows,
                 uint64_t seed, struct dan_err *e)
{
    double good = (double)desirable(data), bad = (double)data->n - good;
    *k = (struct dan_kto_run){.tuner = t, .data = data, .beta = beta, .weight = {weight[0], weight[1]}, .batch = batch, .seed = seed, .epoch = -1};
    if (weight[0] <= 0) k->weight[0] = good < bad ? bad / good : 1;
    if (weight[1] <= 0) k->weight[1] = bad < good ? good / bad : 1;
    int rc = dan_packed_init(&k->pack, pack_rows, e);
    k->ref = dan_calloc(data->n + 1, sizeof *k->ref);
    k->mixed_ref = dan_calloc(data->n + 1, sizeof *k->mixed_ref);
    k->sum = dan_malloc((size_t)batch * sizeof *k->sum);
    k->row = dan_malloc((size_t)(2 * batch) * sizeof *k->row);
    k->room = dan_malloc(((size_t)pack_rows + 1) * sizeof *k->room);
    k->order = dan_malloc((data->n + 1) * sizeof *k->order);
    if (!rc && (!k->ref || !k->mixed_ref || !k->sum || !k->row || !k->room || !k->order)) rc = no_memory(e);
    if (!rc) rc = mix_all(k, e);
    if (!rc) rc = score_all(k, data, dan_rows_logp_exact, k->ref, e);
    if (!rc) rc = score_all(k, &k->mixed, dan_rows_logp, k->mixed_ref, e);
    if (rc) dan_kto_release(k);
    return rc;
}

void dan_kto_release(struct dan_kto_run *k)
{
    dan_packed_release(&k->pack);
    dan_sft_data_release(&k->mixed);
    dan_free(k->ref);
    dan_free(k->mixed_ref);
    dan_free(k->sum);
    dan_free(k->row);
    dan_free(k->room);
    dan_free(k->order);
    *k = (struct dan_kto_run){0};
}

static void count(struct dan_kto_stats *s, const struct dan_sft_row *r, double reward, double value)
{
    s->loss += value;
    s->reward[!r->desirable] += reward;
    s->rows[!r->desirable]++;
}

static void average(struct dan_kto_stats *s)
{
    int64_t n = s->rows[0] + s->rows[1];
    s->loss /= (double)(n ? n : 1);
    for (int h = 0; h < 2; h++) s->reward[h] /= (double)(s->rows[h] ? s->rows[h] : 1);
}

struct kto_step { struct dan_kto_run *k; struct dan_kto_stats *s; };

static void kto_seeds(void *ctx, size_t first, const double *logp, double *seed)
{
    const struct kto_step *x = ctx;
    const struct dan_kto_run *k = x->k;
    const struct dan_sft_row *r = k->row[first];
    double ref = k->ref[r - k->data->v], value = dan_kto(logp[0], ref, r->desirable, x->s->z, k->beta, k->weight[!r->desirable], seed);
    count(x->s, r, k->beta * (logp[0] - ref), value);
}

int dan_kto_step(struct dan_kto_run *k, double lr, struct dan_kto_stats *out, double *norm, struct dan_err *e)
{
    int64_t n = (int64_t)k->data->n, first = dan_tuner_steps(k->tuner) * k->batch;
    struct dan_kto_stats s = {0};
    struct kto_step x = {k, &s};
    for (int64_t i = 0; i < k->batch; i++) {
        int64_t at = dan_shuffled(k->order, n, &k->epoch, k->seed, 3, first + i);
        k->row[i] = &k->data->v[at];
        k->row[k->batch + i] = &k->mixed.v[at];
        s.ids += k->row[i]->n;
    }
    int rc = dan_rows_logp(k->tuner, k->row + k->batch, (size_t)k->batch, &k->pack, k->sum, e);
    for (int64_t i = 0; i < k->batch && !rc; i++) s.z += (k->sum[i] - k->mixed_ref[k->row[i] - k->data->v]) / (double)k->batch;
    if (s.z < 0) s.z = 0;
    if (!rc) rc = dan_rows_learn(k->tuner, k->row, (size_t)k->batch, 1, (double)k->batch, &k->pack, k->room, kto_seeds, &x, e);
    if (!rc) rc = dan_tuner_step(k->tuner, lr, norm, e);
    average(&s);
    *out = s;
    return rc;
}

int dan_kto_eval(struct dan_kto_run *k, const struct dan_sft_data *d, const double *ref, struct dan_kto_stats *out, struct dan_err *e)
{
    double *sum = dan_malloc((d->n + 1) * sizeof *sum), seed;
    struct dan_kto_stats s = {0};
    int rc = sum ? score_all(k, d, dan_rows_logp, sum, e) : no_memory(e);
    for (size_t i = 0; i < d->n && !rc; i++)
        count(&s, &d->v[i], k->beta * (sum[i] - ref[i]), dan_kto(sum[i], ref[i], d->v[i].desirable, 0, k->beta, k->weight[!d->v[i].desirable], &seed));
    average(&s);
    dan_free(sum);
    *out = s;
    return rc;
}
