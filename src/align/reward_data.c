#include "align/reward_data.h"
#include <string.h>
#include "align/pairs.h"
#include "align/sft_data_impl.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"

enum { SHUFFLE_STREAM = 0x72616e6b };

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for ranked answers"); }

/* ---- one answer ---- */

static void count_learnt(struct dan_sft_row *r)
{
    r->learnt = 0;
    for (int64_t i = 0; i < r->n; i++) r->learnt += r->learn[i];
}

/* Cuts what the template writes behind the answer; an answer that was cut short loses its end of turn, one without any gets eos. */
static int settle_end(struct dan_sft_row *r, bool ended, const struct dan_tokenizer *tok, struct dan_err *e)
{
    int32_t eos = dan_tokenizer_eos(tok);
    while (r->n > 1 && !r->learn[r->n - 1]) r->n--;
    while (!ended && r->learnt > 1 && r->n > 1 && r->learn[r->n - 1] && dan_tokenizer_is_special(tok, r->ids[r->n - 1])) r->n--, r->learnt--;
    if (ended && eos >= 0 && !dan_tokenizer_is_special(tok, r->ids[r->n - 1])) {
        int32_t *ids = dan_realloc(r->ids, (size_t)(r->n + 1) * sizeof *ids);
        if (ids) r->ids = ids;
        uint8_t *learn = dan_realloc(r->learn, (size_t)(r->n + 1));
        if (learn) r->learn = learn;
        if (!ids || !learn) return no_memory(e);
        ids[r->n] = eos;
        learn[r->n++] = 1;
    }
    count_learnt(r);
    return DAN_OK;
}

int dan_valued_row(const struct dan_example *ex, size_t which, bool ended, const struct dan_sft_data_opts *o, struct dan_sft_row *out, enum dan_skip *skip,
                   struct dan_err *e)
{
    *out = (struct dan_sft_row){0};
    int rc = dan_answer_row(ex, which, o, out, skip, e);
    if (!rc) rc = settle_end(out, ended, o->tok, e);
    if (!rc && out->n > o->longest) {
        *skip = DAN_SKIP_TOO_LONG;
        rc = dan_fail(e, DAN_EINVAL, "line %lld of '%s' has %lld tokens, more than %lld: it is not cut; raise --context or leave it out", (long long)ex->line,
                      ex->file, (long long)out->n, (long long)o->longest);
    }
    if (rc) dan_sft_row_release(out);
    return rc;
}

/* ---- groups ---- */

static int32_t rank_of(const struct dan_example *ex, size_t k)
{
    json_int_t r = ex->kind == DAN_EXAMPLE_PAIR ? (json_int_t)k + 1 : json_integer_value(json_array_get(ex->ranks, k));
    return r > INT32_MAX ? INT32_MAX : r < INT32_MIN ? INT32_MIN : (int32_t)r;
}

static bool alike(const struct dan_sft_row *a, const struct dan_sft_row *b)
{
    return a->n == b->n && !memcmp(a->ids, b->ids, (size_t)a->n * sizeof *a->ids);
}

static int32_t different(const int32_t *rank, int32_t n)
{
    int32_t pairs = 0;
    for (int32_t i = 0; i < n; i++)
        for (int32_t k = 0; k < n; k++) pairs += rank[i] < rank[k];
    return pairs;
}

/* Takes the answers over, also when it fails. */
static int add_group(struct dan_ranked *d, struct dan_sft_row *row, const int32_t *rank, int32_t n, double margin, struct dan_err *e)
{
    int64_t first = (int64_t)d->rows.n;
    int rc = dan_vec_grow(&d->v, &d->cap, d->n + 1, sizeof *d->v) || dan_vec_grow(&d->rank, &d->rank_cap, (size_t)(first + n), sizeof *d->rank) ? no_memory(e) : DAN_OK;
    for (int32_t k = 0; k < n; k++) {
        if (rc) dan_sft_row_release(&row[k]);
        else if (!(rc = dan_sft_data_add(&d->rows, &row[k], e))) d->rank[first + k] = rank[k];
    }
    if (rc) return rc;
    struct dan_rank_group *g = &d->v[d->n++];
    *g = (struct dan_rank_group){.first = first, .n = n, .pairs = different(rank, n), .margin = margin};
    d->pairs += g->pairs;
    d->margins |= margin != 0;
    return DAN_OK;
}

static int check_kind(const struct dan_example *ex, enum dan_skip *skip, struct dan_err *e)
{
    *skip = DAN_SKIP_OTHER_KIND;
    if (ex->kind == DAN_EXAMPLE_RANKED && json_array_size(ex->answers) > DAN_MOST_ANSWERS)
        return dan_fail(e, DAN_EINVAL, "line %lld of '%s' has %zu answers to one prompt: at most %d are compared", (long long)ex->line, ex->file,
                        json_array_size(ex->answers), DAN_MOST_ANSWERS);
    if (ex->kind == DAN_EXAMPLE_PAIR || ex->kind == DAN_EXAMPLE_RANKED) return DAN_OK;
    return dan_fail(e, DAN_EINVAL, "line %lld of '%s' is a %s: expected a preference pair (chosen and rejected) or answers with ranks", (long long)ex->line, ex->file,
                    dan_example_kind_name(ex->kind));
}

static int check_group(const struct dan_example *ex, const struct dan_sft_row *row, const int32_t *rank, int32_t n, enum dan_skip *skip, struct dan_err *e)
{
    *skip = DAN_SKIP_NOTHING;
    if (n == 2 && alike(&row[0], &row[1]))
        return dan_fail(e, DAN_EINVAL, "line %lld of '%s': both answers are the same once the template has rendered them: there is no preference to learn",
                        (long long)ex->line, ex->file);
    if (!different(rank, n))
        return dan_fail(e, DAN_EINVAL, "line %lld of '%s': all answers have the same rank: there is no preference to learn", (long long)ex->line, ex->file);
    return DAN_OK;
}

static int read_group(const struct dan_example *ex, const struct dan_sft_data_opts *o, struct dan_sft_row *row, int32_t *rank, struct dan_ranked *out, enum dan_skip *skip,
                      struct dan_err *e)
{
    int32_t n = (int32_t)json_array_size(ex->answers), done = 0;
    int rc = DAN_OK;
    for (; done < n && !rc; done++) {
        rank[done] = rank_of(ex, (size_t)done);
        rc = dan_check_answer(ex, (size_t)done, skip, e);
        if (!rc) rc = dan_valued_row(ex, (size_t)done, true, o, &row[done], skip, e);
    }
    if (!rc) rc = check_group(ex, row, rank, n, skip, e);
    if (!rc) return add_group(out, row, rank, n, ex->margin, e);
    for (int32_t k = 0; k < done; k++) dan_sft_row_release(&row[k]);
    return rc;
}

struct reading { const struct dan_sft_data_opts *o; struct dan_ranked *out; };

static int add_example(void *ctx, const struct dan_example *ex, enum dan_skip *skip, struct dan_err *e)
{
    const struct reading *r = ctx;
    int rc = check_kind(ex, skip, e);
    if (rc) return rc;
    size_t n = json_array_size(ex->answers);
    struct dan_sft_row *row = dan_calloc(n + 1, sizeof *row);
    int32_t *rank = dan_calloc(n + 1, sizeof *rank);
    rc = row && rank ? read_group(ex, r->o, row, rank, r->out, skip, e) : no_memory(e);
    dan_free(row);
    dan_free(rank);
    return rc;
}

int dan_ranked_read(const char *const *paths, size_t n, const struct dan_sft_data_opts *o, struct dan_ranked *out, struct dan_err *e)
{
    struct reading r = {o, out};
    *out = (struct dan_ranked){0};
    int rc = dan_sft_data_each(paths, n, "is a pair that can be learnt from", &out->rows, add_example, &r, e);
    if (rc) dan_ranked_release(out);
    return rc;
}

void dan_ranked_release(struct dan_ranked *d)
{
    dan_sft_data_release(&d->rows);
    dan_free(d->rank);
    dan_free(d->v);
    *d = (struct dan_ranked){0};
}

/* ---- parts ---- */

/* number[n]: of each group's prompt, from 0 in order of appearance; returns how many, -1 out of memory. */
static int64_t number_prompts(const struct dan_ranked *d, int64_t *number)
{
    struct dan_map *seen = dan_map_new();
    int64_t prompts = seen ? 0 : -1;
    for (size_t i = 0; i < d->n && prompts >= 0; i++) {
        const struct dan_sft_row *r = &d->rows.v[d->v[i].first];
        size_t p = 0;
        while ((int64_t)p < r->n && !r->learn[p]) p++;
        if (dan_map_get(seen, r->ids, p * sizeof *r->ids, &number[i])) continue;
        number[i] = prompts++;
        if (dan_map_put(seen, r->ids, p * sizeof *r->ids, number[i])) prompts = -1;
    }
    dan_map_free(seen);
    return prompts;
}

/* Deals the groups of `from`, which is left empty but for what was skipped. */
static int deal(struct dan_ranked *from, const int64_t *number, int64_t every, struct dan_ranked *kept, struct dan_ranked *held, struct dan_err *e)
{
    int rc = DAN_OK;
    for (size_t i = 0; i < from->n; i++) {
        const struct dan_rank_group *g = &from->v[i];
        struct dan_ranked *to = number[i] % every == every - 1 ? held : kept;
        if (!rc) rc = add_group(to, from->rows.v + g->first, from->rank + g->first, g->n, g->margin, e);
        else for (int32_t k = 0; k < g->n; k++) dan_sft_row_release(&from->rows.v[g->first + k]);
    }
    from->n = from->rows.n = 0;
    return rc;
}

static void take_skipped(struct dan_ranked *to, struct dan_ranked *from)
{
    to->rows.rows = from->rows.rows;
    memcpy(to->rows.skipped, from->rows.skipped, sizeof to->rows.skipped);
    to->rows.told = from->rows.told;
    from->rows.told = (struct dan_str){0};
}

int dan_ranked_hold_out(struct dan_ranked *from, double share, struct dan_ranked *held, struct dan_err *e)
{
    int64_t every = share > 0 ? (int64_t)(1 / share + 0.5) : 0;
    struct dan_ranked kept = {0};
    *held = (struct dan_ranked){0};
    if (!every) return DAN_OK;
    int64_t *number = dan_malloc((from->n + 1) * sizeof *number), prompts = number ? number_prompts(from, number) : -1;
    int rc = prompts < 0 ? no_memory(e) : DAN_OK;
    if (!rc && prompts >= 2 * every) {
        rc = deal(from, number, every, &kept, held, e);
        take_skipped(&kept, from);
        dan_ranked_release(from);
        *from = kept;
    }
    dan_free(number);
    if (rc) dan_ranked_release(held);
    return rc;
}

void dan_ranked_shuffle(struct dan_ranked *d, uint64_t seed)
{
    struct dan_rng r = {.seed = seed, .stream = SHUFFLE_STREAM};
    for (size_t i = 0; i < d->n; i++) {
        int32_t *rank = d->rank + d->v[i].first;
        for (int32_t k = d->v[i].n - 1; k > 0; k--) {
            int32_t j = (int32_t)dan_rng_below(&r, (uint64_t)k + 1), t = rank[k];
            rank[k] = rank[j];
            rank[j] = t;
        }
    }
}
