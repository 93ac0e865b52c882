#include "align/reward_model.h"
#include <math.h>
#include <string.h>
#include "align/pref.h"
#include "align/shuffle.h"
#include "base/mem.h"

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for a reward model's steps"); }

/* ---- packing ---- */

struct scoring { struct dan_tuner *t; struct dan_packed *pack; const struct dan_sft_row *const *row; size_t first; double *value; float *out; bool exact; };

/* The value of each row is that of its last id. */
static void take_values(const struct dan_sft_row *const *row, size_t n, const float *out, double *value)
{
    int64_t r = -1;
    for (size_t k = 0; k < n; k++) value[k] = (double)out[r += row[k]->n];
}

static int flush(struct scoring *s, size_t end, struct dan_err *e)
{
    int rc = s->pack->batch.rows ? dan_tuner_score(s->t, s->pack, s->exact, s->out, e) : DAN_OK;
    if (!rc) take_values(s->row + s->first, end - s->first, s->out, s->value + s->first);
    s->first = end;
    dan_packed_clear(s->pack);
    return rc;
}

static int rows_value(struct scoring *s, size_t n, struct dan_err *e)
{
    int rc = DAN_OK;
    dan_packed_clear(s->pack);
    for (size_t k = 0; k < n && !rc; k++) {
        if (!dan_packed_fits_all(s->pack, s->row[k]->n)) rc = flush(s, k, e);
        if (!rc) dan_packed_add_all(s->pack, s->row[k]->ids, s->row[k]->n, NULL);
    }
    return rc ? rc : flush(s, n, e);
}

int dan_rows_value(struct dan_tuner *t, const struct dan_sft_row *const *row, size_t n, struct dan_packed *pack, double *value, struct dan_err *e)
{
    struct scoring s = {.t = t, .pack = pack, .row = row, .value = value, .out = dan_malloc((size_t)pack->max_rows * sizeof *s.out)};
    int rc = s.out ? rows_value(&s, n, e) : no_memory(e);
    dan_free(s.out);
    return rc;
}

/* ---- the loss ---- */

double dan_rm_group_loss(const struct dan_rank_group *g, const int32_t *rank, const double *reward, double margin, double center, double *seed, double *right)
{
    double value = 0, part[2];
    *right = 0;
    memset(seed, 0, (size_t)g->n * sizeof *seed);
    for (int32_t i = 0; i < g->n; i++) {
        for (int32_t k = 0; k < g->n; k++) {
            if (rank[i] >= rank[k]) continue;
            value += dan_pair_loss(reward[i], reward[k], margin * g->margin, center, part) / g->pairs;
            seed[i] += part[DAN_CHOSEN] / g->pairs;
            seed[k] += part[DAN_REJECTED] / g->pairs;
            *right += reward[i] > reward[k] ? 1 : reward[i] < reward[k] ? 0 : 0.5;
        }
    }
    return value;
}

/* Mean of r_i - r_j over the pairs of a group. */
static double group_margin(const struct dan_rank_group *g, const int32_t *rank, const double *reward)
{
    double sum = 0;
    for (int32_t i = 0; i < g->n; i++)
        for (int32_t k = 0; k < g->n; k++) sum += rank[i] < rank[k] ? reward[i] - reward[k] : 0;
    return sum;
}

/* ---- steps ---- */

static int64_t most_answers(const struct dan_ranked *d)
{
    int64_t most = 0;
    for (size_t i = 0; i < d->n; i++) most = d->v[i].n > most ? d->v[i].n : most;
    return most;
}

int dan_rm_init(struct dan_rm *r, struct dan_tuner *t, const struct dan_ranked *data, const struct dan_rm_opts *o, int64_t pack_rows, struct dan_err *e)
{
    size_t rows = (size_t)(o->batch * most_answers(data)) + 1;
    *r = (struct dan_rm){.tuner = t, .data = data, .o = *o, .epoch = -1};
    int rc = dan_packed_init(&r->pack, pack_rows, e);
    r->group = dan_malloc((size_t)o->batch * sizeof *r->group);
    r->row = dan_malloc(rows * sizeof *r->row);
    r->reward = dan_malloc(rows * sizeof *r->reward);
    r->seeds = dan_malloc(rows * sizeof *r->seeds);
    r->weight = dan_malloc(((size_t)pack_rows + 1) * sizeof *r->weight);
    r->order = dan_malloc((data->n + 1) * sizeof *r->order);
    if (!rc && (!r->group || !r->row || !r->reward || !r->seeds || !r->weight || !r->order)) rc = no_memory(e);
    if (rc) dan_rm_release(r);
    return rc;
}

void dan_rm_release(struct dan_rm *r)
{
    dan_packed_release(&r->pack);
    dan_free(r->group);
    dan_free(r->row);
    dan_free(r->reward);
    dan_free(r->seeds);
    dan_free(r->weight);
    dan_free(r->order);
    *r = (struct dan_rm){0};
}

int64_t dan_rm_steps_per_epoch(const struct dan_rm *r)
{
    int64_t n = ((int64_t)r->data->n + r->o.batch - 1) / r->o.batch;
    return n < 1 ? 1 : n;
}

/* The step's groups and their answers, one after the other; returns how many answers. */
static size_t choose(struct dan_rm *r, struct dan_rm_stats *s)
{
    int64_t first = dan_tuner_steps(r->tuner) * r->o.batch;
    size_t n = 0;
    for (int64_t k = 0; k < r->o.batch; k++) {
        const struct dan_rank_group *g = r->group[k] = &r->data->v[dan_shuffled(r->order, (int64_t)r->data->n, &r->epoch, r->o.seed, 4, first + k)];
        for (int32_t i = 0; i < g->n; i++) {
            r->row[n] = &r->data->rows.v[g->first + i];
            s->ids += r->row[n++]->n;
        }
    }
    return n;
}

/* What a step has in a pack: groups from .. end - 1, whose answers are row .. */
struct stepping { struct dan_rm *r; struct dan_rm_stats *out; int64_t from, end; size_t row, rows; };

static void seed_groups(struct stepping *s)
{
    struct dan_rm *r = s->r;
    size_t at = s->row;
    for (int64_t k = s->from; k < s->end; k++) {
        const struct dan_rank_group *g = r->group[k];
        const int32_t *rank = r->data->rank + g->first;
        double right;
        s->out->loss += dan_rm_group_loss(g, rank, r->reward + at, r->o.margin, r->o.center, r->seeds + at, &right) / (double)r->o.batch;
        s->out->accuracy += right;
        s->out->margin += group_margin(g, rank, r->reward + at);
        s->out->pairs += g->pairs;
        for (int32_t i = 0; i < g->n; i++) r->seeds[at + (size_t)i] /= (double)r->o.batch;
        at += (size_t)g->n;
    }
}

static void spread(const struct dan_rm *r, size_t n, struct dan_rm_stats *s)
{
    s->accuracy /= (double)s->pairs;
    s->margin /= (double)s->pairs;
    s->min_reward = INFINITY, s->max_reward = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        s->mean_reward += r->reward[i] / (double)n;
        s->min_reward = fmin(s->min_reward, r->reward[i]);
        s->max_reward = fmax(s->max_reward, r->reward[i]);
    }
    s->answers = (int64_t)n;
}

static int seed_pack(void *ctx, const float *value, struct dan_packed *p, struct dan_err *e)
{
    struct stepping *s = ctx;
    int64_t at = -1;
    (void)e;
    take_values(s->r->row + s->row, s->rows, value, s->r->reward + s->row);
    seed_groups(s);
    memset(p->batch.weights, 0, (size_t)p->batch.rows * sizeof *p->batch.weights);
    for (size_t k = s->row; k < s->row + s->rows; k++) p->batch.weights[at += s->r->row[k]->n] = (float)s->r->seeds[k];
    return DAN_OK;
}

/* The pack's groups have their gradient; the next begin here. */
static void begin_pack(struct stepping *s)
{
    s->from = s->end;
    s->row += s->rows;
    s->rows = 0;
    dan_packed_clear(&s->r->pack);
}

static int learn_pack(struct stepping *s, struct dan_err *e)
{
    int rc = s->rows ? dan_tuner_run(s->r->tuner, &s->r->pack, seed_pack, s, e) : DAN_OK;
    begin_pack(s);
    return rc;
}

static int add_gradient(struct stepping *s, struct dan_err *e)
{
    struct dan_rm *r = s->r;
    int rc = DAN_OK;
    dan_packed_clear(&r->pack);
    for (size_t k = s->row; k < s->row + s->rows && !rc; k++) {
        int64_t last = r->row[k]->n - 1;
        if (!dan_packed_fits_all(&r->pack, r->row[k]->n)) {
            rc = dan_tuner_add(r->tuner, &r->pack, NULL, e);
            dan_packed_clear(&r->pack);
        }
        if (rc) return rc;
        memset(r->weight, 0, (size_t)last * sizeof *r->weight);
        r->weight[last] = (float)r->seeds[k];
        dan_packed_add_all(&r->pack, r->row[k]->ids, r->row[k]->n, r->weight);
    }
    return rc ? rc : dan_tuner_add(r->tuner, &r->pack, NULL, e);
}

/* A group that fits in no pack: its values first, then its gradient. */
static int learn_large(struct stepping *s, struct dan_err *e)
{
    struct dan_rm *r = s->r;
    struct scoring v = {.t = r->tuner, .pack = &r->pack, .row = r->row + s->row, .value = r->reward + s->row, .out = r->weight, .exact = true};
    int rc = rows_value(&v, s->rows, e);
    if (rc) return rc;
    seed_groups(s);
    rc = add_gradient(s, e);
    begin_pack(s);
    return rc;
}

static int64_t rows_of(const struct dan_rm *r, size_t row, size_t n)
{
    int64_t rows = 0;
    for (size_t k = row; k < row + n; k++) rows += r->row[k]->n;
    return rows;
}

/* Groups whole in packs, in their order: one forward of each pack, for a group's seeds need the values of that group alone. */
static int learn_groups(struct stepping *s, struct dan_err *e)
{
    struct dan_rm *r = s->r;
    int rc = DAN_OK;
    dan_packed_clear(&r->pack);
    for (int64_t k = 0; k < r->o.batch && !rc; k++) {
        size_t first = s->row + s->rows, n = (size_t)r->group[k]->n;
        int64_t rows = rows_of(r, first, n);
        if (r->pack.batch.rows + rows > r->pack.max_rows) rc = learn_pack(s, e);
        if (rc) return rc;
        s->end = k + 1;
        s->rows += n;
        if (rows > r->pack.max_rows) rc = learn_large(s, e);
        else for (size_t i = first; i < first + n; i++) dan_packed_add_all(&r->pack, r->row[i]->ids, r->row[i]->n, NULL);
    }
    return rc ? rc : learn_pack(s, e);
}

int dan_rm_step(struct dan_rm *r, double lr, struct dan_rm_stats *out, double *norm, struct dan_err *e)
{
    *out = (struct dan_rm_stats){0};
    size_t n = choose(r, out);
    int rc = learn_groups(&(struct stepping){.r = r, .out = out}, e);
    if (rc) return rc;
    spread(r, n, out);
    return dan_tuner_step(r->tuner, lr, norm, e);
}
