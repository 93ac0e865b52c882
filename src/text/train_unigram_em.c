/* Expectation and maximisation over words.  The words are dealt into a fixed number of parts, each with sums of its own that are added
 * up in order, so that the result does not depend on the number of threads.
 *
 * Probabilities of paths get small, so a number is m * 2^(256 exponent): a piece costs less than 2^-256, so one step of the
 * exponent is enough at each position, and no logarithms are taken on the way. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/threads.h"
#include "base/utf8.h"
#include "text/impl.h"
#include "text/train_unigram.h"
#include "text/trie.h"

enum { N_PART = 16, UNKNOWN = -1 };
static const double TOO_RARE = 0.5, UNK_PENALTY = 10, LITTLE = 0x1p-256, MUCH = 0x1p256;

struct word { const char *p; size_t n; int64_t uses; };
struct sum { double m; int exponent; };
struct step { uint32_t from, to; int32_t id; };                 /* a piece that fits here */
struct room {                                                   /* of one thread */
    struct sum *forward, *backward;                             /* [n + 1] */
    double     *best;                                           /* [n + 1] Viterbi */
    struct step *step, *how;                                    /* how: [n + 1] the best last step */
    size_t      n, n_step, step_cap;
    bool        failed;
};
struct dan_em {
    struct word *word;
    size_t  n_word;
    int64_t n_uses;
    struct dan_pool *pool;
    int     n_thread;
    struct room *room;                                          /* [n_thread] */
    /* of the pieces at hand */
    struct dan_pieces *pieces;
    struct dan_trie trie;
    double *p, unk, unk_score;
    double *sum[N_PART];                                        /* [n_pieces] expected uses, or uses on best paths */
    double  log_likelihood[N_PART];
    size_t  taken;
    double *loss;                                               /* [n_pieces] */
};

/* --- making */
int dan_em_new(const struct dan_words *w, struct dan_pool *pool, struct dan_em **out, struct dan_err *e)
{
    struct dan_em *m = dan_calloc(1, sizeof *m);
    if (!m) return dan_fail(e, DAN_ENOMEM, "out of memory for training");
    m->n_word = dan_map_count(w->count);
    m->pool = pool;
    m->n_thread = pool ? dan_pool_size(pool) : 1;
    m->word = dan_malloc((m->n_word + 1) * sizeof *m->word);
    m->room = dan_calloc((size_t)m->n_thread, sizeof *m->room);
    if (!m->word || !m->room) {
        dan_em_free(m);
        return dan_fail(e, DAN_ENOMEM, "out of memory for %zu words; lower the memory bound", dan_map_count(w->count));
    }
    for (size_t k = 0; k < m->n_word; k++) {
        dan_map_at(w->count, k, &m->word[k].p, &m->word[k].n, &m->word[k].uses);
        m->n_uses += m->word[k].uses;
    }
    *out = m;
    return DAN_OK;
}

static void drop_model(struct dan_em *m)
{
    dan_trie_release(&m->trie);
    dan_free(m->p);
    dan_free(m->loss);
    m->p = m->loss = NULL;
    for (int i = 0; i < N_PART; i++) {
        dan_free(m->sum[i]);
        m->sum[i] = NULL;
    }
}

void dan_em_free(struct dan_em *m)
{
    if (!m) return;
    drop_model(m);
    for (int i = 0; m->room && i < m->n_thread; i++) {
        struct room *r = &m->room[i];
        void *const owned[] = {r->forward, r->backward, r->best, r->step, r->how};
        for (size_t k = 0; k < sizeof owned / sizeof owned[0]; k++) dan_free(owned[k]);
    }
    dan_free(m->room);
    dan_free(m->word);
    dan_free(m);
}

static int set_model(struct dan_em *m, struct dan_pieces *pieces, struct dan_err *e)
{
    struct dan_trie_key *key = dan_malloc((pieces->n + 1) * sizeof *key);
    double least = 0;
    bool good = key != NULL;
    drop_model(m);
    m->pieces = pieces;
    m->p = dan_malloc((pieces->n + 1) * sizeof *m->p);
    m->loss = dan_malloc((pieces->n + 1) * sizeof *m->loss);
    for (int i = 0; i < N_PART; i++) good &= (m->sum[i] = dan_calloc(pieces->n + 1, sizeof **m->sum)) != NULL;
    if (!good || !m->p || !m->loss) {
        dan_free(key);
        return dan_fail(e, DAN_ENOMEM, "out of memory for %zu pieces; use fewer seeds", pieces->n);
    }
    for (size_t i = 0; i < pieces->n; i++) {
        const struct dan_train_piece *one = &pieces->v[i];
        key[i] = (struct dan_trie_key){pieces->bytes.p + one->at, one->n, (int32_t)i};
        m->p[i] = exp(one->score);
        if (one->score < least) least = one->score;
    }
    m->unk_score = least - UNK_PENALTY;
    m->unk = exp(m->unk_score);
    int r = dan_trie_build(&m->trie, key, pieces->n, e);
    dan_free(key);
    return r;
}

/* --- all ways through a word */
static bool make_room(struct room *r, size_t n)
{
    size_t cap[4] = {r->n, r->n, r->n, r->n};
    if (n + 1 <= r->n) return true;
    if (dan_vec_grow(&r->forward, &cap[0], n + 1, sizeof *r->forward) || dan_vec_grow(&r->backward, &cap[1], n + 1, sizeof *r->backward) ||
        dan_vec_grow(&r->best, &cap[2], n + 1, sizeof *r->best) || dan_vec_grow(&r->how, &cap[3], n + 1, sizeof *r->how)) {
        r->n = 0;                              /* some are larger than others; nothing is lost */
        r->failed = true;
        return false;
    }
    r->n = cap[3];
    return true;
}

static bool put_step(struct room *r, size_t from, size_t to, int32_t id)
{
    if (r->n_step == r->step_cap && dan_vec_grow(&r->step, &r->step_cap, r->n_step + 1, sizeof *r->step)) {
        r->failed = true;
        return false;
    }
    r->step[r->n_step++] = (struct step){(uint32_t)from, (uint32_t)to, id};
    return true;
}

/* The pieces that begin at each character, but for `without`, in order of where they begin; a character that is none of them is unknown. */
static bool find_steps(const struct dan_em *m, struct room *r, const char *p, size_t n, int32_t without)
{
    r->n_step = 0;
    if (!make_room(r, n)) return false;
    for (size_t at = 0, len; at < n; at += len) {
        int32_t cp;
        bool single = false;
        dan_trie_unit unit = m->trie.unit[0];
        len = (size_t)dan_utf8_next(p + at, n - at, &cp);
        for (size_t k = at; k < n && dan_trie_step(&m->trie, &unit, (unsigned char)p[k]);) {
            int32_t id = dan_trie_value(unit);
            k++;
            if (id < 0 || id == without) continue;
            if (!put_step(r, at, k, id)) return false;
            single |= k == at + len;
        }
        if (!single && !put_step(r, at, at + len, UNKNOWN)) return false;
    }
    return true;
}

static inline void add(struct sum *to, double m, int exponent)
{
    if (to->m == 0) *to = (struct sum){m, exponent};
    else if (exponent == to->exponent) to->m += m;
    else if (exponent == to->exponent - 1) to->m += m * LITTLE;
    else if (exponent > to->exponent) {
        to->m = m + (exponent == to->exponent + 1 ? to->m * LITTLE : 0);
        to->exponent = exponent;
    }
}

static inline void settle(struct sum *s)
{
    if (s->m >= LITTLE || s->m == 0) return;
    s->m *= MUCH;
    s->exponent--;
}

static double probability(const struct dan_em *m, int32_t id) { return id < 0 ? m->unk : m->p[id]; }

/* Adds the expected uses of each piece in a word; returns the log likelihood of the word. */
static double expect(const struct dan_em *m, struct room *r, const struct word *w, double *sum)
{
    if (!find_steps(m, r, w->p, w->n, UNKNOWN)) return 0;
    struct sum *f = r->forward, *b = r->backward;
    memset(f, 0, (w->n + 1) * sizeof *f);
    memset(b, 0, (w->n + 1) * sizeof *b);
    f[0].m = b[w->n].m = 1;
    for (size_t i = 0; i < r->n_step; i++) {
        const struct step *s = &r->step[i];
        if (i == 0 || s->from != s[-1].from) settle(&f[s->from]);
        add(&f[s->to], f[s->from].m * probability(m, s->id), f[s->from].exponent);
    }
    struct sum z = f[w->n];
    settle(&z);
    for (size_t i = r->n_step; i-- > 0;) {
        const struct step *s = &r->step[i];
        if (i + 1 == r->n_step || s->to != s[1].to) settle(&b[s->to]);
        double onward = b[s->to].m * probability(m, s->id);
        add(&b[s->from], onward, b[s->to].exponent);
        int exponent = f[s->from].exponent + b[s->to].exponent - z.exponent;
        if (s->id < 0 || exponent < -1) continue;
        double share = f[s->from].m * onward / z.m;
        for (; exponent > 0; exponent--) share *= MUCH;            /* both halves may have settled once more than the whole */
        if (exponent < 0) share *= LITTLE;
        sum[s->id] += (double)w->uses * share;
    }
    return log(z.m) + z.exponent * 256 * 0.693147180559945309;
}

static void expect_parts(void *ctx, int ith, int nth)
{
    struct dan_em *m = ctx;
    (void)nth;
    for (size_t i; (i = __atomic_fetch_add(&m->taken, 1, __ATOMIC_RELAXED)) < N_PART;) {
        double all = 0;
        for (size_t k = i; k < m->n_word && !m->room[ith].failed; k += N_PART)
            all += (double)m->word[k].uses * expect(m, &m->room[ith], &m->word[k], m->sum[i]);
        m->log_likelihood[i] = all;
    }
}

/* The best path: r->how of the end and so on back to 0. */
static double viterbi(const struct dan_em *m, struct room *r, size_t n)
{
    for (size_t i = 0; i <= n; i++) r->best[i] = i ? -INFINITY : 0;
    for (size_t i = 0; i < r->n_step; i++) {
        const struct step *s = &r->step[i];
        double score = r->best[s->from] + (s->id < 0 ? m->unk_score : m->pieces->v[s->id].score);
        if (!(score > r->best[s->to])) continue;
        r->best[s->to] = score;
        r->how[s->to] = *s;
    }
    return r->best[n];
}

static void best_parts(void *ctx, int ith, int nth)
{
    struct dan_em *m = ctx;
    struct room *r = &m->room[ith];
    (void)nth;
    for (size_t i; (i = __atomic_fetch_add(&m->taken, 1, __ATOMIC_RELAXED)) < N_PART;)
        for (size_t k = i; k < m->n_word; k += N_PART) {
            const struct word *w = &m->word[k];
            if (!find_steps(m, r, w->p, w->n, UNKNOWN)) break;
            viterbi(m, r, w->n);
            for (size_t at = w->n; at > 0; at = r->how[at].from)
                if (r->how[at].id >= 0) m->sum[i][r->how[at].id] += (double)w->uses;
        }
}

/* Runs fn over the parts and adds their sums into sum[0]. */
static int run(struct dan_em *m, void (*fn)(void *, int, int), struct dan_err *e)
{
    m->taken = 0;
    dan_pool_run(m->pool, fn, m);
    for (int i = 0; i < m->n_thread; i++)
        if (m->room[i].failed) return dan_fail(e, DAN_ENOMEM, "out of memory for the pieces of a word; lower the memory bound");
    for (int k = 1; k < N_PART; k++)
        for (size_t i = 0; i < m->pieces->n; i++) m->sum[0][i] += m->sum[k][i];
    return DAN_OK;
}

/* --- one round */

/* The logarithmic derivative of the gamma function, by its recurrence and asymptotic series (Abramowitz, Stegun 6.3.5, 6.3.18). */
static double digamma(double x)
{
    double r = 0;
    for (; x < 7; x++) r -= 1 / x;
    double y = x - 0.5, y2 = 1 / (y * y), y4 = y2 * y2;
    return r + log(y) + y2 / 24 - 7 * y4 / 960 + 31 * y4 * y2 / 8064 - 127 * y4 * y4 / 30720;
}

int dan_em_round(struct dan_em *m, struct dan_pieces *p, double *objective, struct dan_err *e)
{
    int r = set_model(m, p, e);
    if (!r) r = run(m, expect_parts, e);
    if (r) return r;
    double all = 0, sum = 0;
    size_t n = 0;
    for (int i = 0; i < N_PART; i++) all += m->log_likelihood[i];
    *objective = -all / (double)m->n_uses;
    for (size_t i = 0; i < p->n; i++) {
        if (m->sum[0][i] < TOO_RARE) continue;
        p->v[n] = p->v[i];
        p->v[n++].score = m->sum[0][i];
        sum += m->sum[0][i];
    }
    p->n = n;
    double whole = digamma(sum);               /* a Dirichlet prior that favours few pieces */
    for (size_t i = 0; i < n; i++) p->v[i].score = digamma(p->v[i].score) - whole;
    return DAN_OK;
}

/* --- pruning */

/* How much the likelihood of the text falls if piece i is cut into the best others; INFINITY: it must stay, -1: it is not used. */
static double loss_of(const struct dan_em *m, struct room *r, size_t i, double sum)
{
    const struct dan_train_piece *p = &m->pieces->v[i];
    const char *text = m->pieces->bytes.p + p->at;
    const double *uses = m->sum[0];
    size_t n = 0;
    if (!find_steps(m, r, text, p->n, (int32_t)i)) return 0;
    double other = viterbi(m, r, p->n), new_score = 0;
    for (size_t at = p->n; at > 0; at = r->how[at].from, n++)
        if (r->how[at].id < 0) return INFINITY;
    if (other > p->score) return uses[i] > 0 ? INFINITY : -1;
    if (uses[i] <= 0) return 0;
    double all = log(sum + uses[i] * (double)(n - 1));
    for (size_t at = p->n; at > 0; at = r->how[at].from) new_score += log(uses[r->how[at].id] + uses[i]) - all;
    return uses[i] / (double)m->n_uses * (log(uses[i]) - log(sum) - new_score);
}

struct losses { struct dan_em *m; double sum; };

static void loss_parts(void *ctx, int ith, int nth)
{
    struct losses *l = ctx;
    struct dan_em *m = l->m;
    for (size_t i = (size_t)ith; i < m->pieces->n; i += (size_t)nth) m->loss[i] = loss_of(m, &m->room[ith], i, l->sum);
}

struct ranked { double loss; uint32_t piece; };

static int by_loss(const void *x, const void *y)
{
    const struct ranked *a = x, *b = y;
    if (a->loss != b->loss) return a->loss > b->loss ? -1 : 1;
    return (a->piece > b->piece) - (a->piece < b->piece);
}

static int by_piece(const void *x, const void *y)
{
    uint32_t a = ((const struct ranked *)x)->piece, b = ((const struct ranked *)y)->piece;
    return (a > b) - (a < b);
}

static int keep_best(struct dan_em *m, struct dan_pieces *p, size_t keep, struct dan_err *e)
{
    struct ranked *rank = dan_malloc((p->n + 1) * sizeof *rank);
    size_t n = 0, must = 0;
    if (!rank) return dan_fail(e, DAN_ENOMEM, "out of memory for %zu pieces; use fewer seeds", p->n);
    for (size_t i = 0; i < p->n; i++) {
        if (m->loss[i] < 0) continue;
        rank[n++] = (struct ranked){m->loss[i], (uint32_t)i};
        must += isinf(m->loss[i]);
    }
    if (n) qsort(rank, n, sizeof *rank, by_loss);
    if (keep < must) keep = must;
    if (n > keep) n = keep;
    if (n) qsort(rank, n, sizeof *rank, by_piece);
    for (size_t i = 0; i < n; i++) p->v[i] = p->v[rank[i].piece];
    p->n = n;
    dan_free(rank);
    return DAN_OK;
}

int dan_em_prune(struct dan_em *m, struct dan_pieces *p, size_t keep, struct dan_err *e)
{
    struct losses l = {.m = m};
    int r = set_model(m, p, e);
    if (!r) r = run(m, best_parts, e);
    if (r) return r;
    for (size_t i = 0; i < p->n; i++) l.sum += m->sum[0][i];
    dan_pool_run(m->pool, loss_parts, &l);
    for (int i = 0; i < m->n_thread; i++)
        if (m->room[i].failed) return dan_fail(e, DAN_ENOMEM, "out of memory for the pieces of a word; lower the memory bound");
    return keep_best(m, p, keep, e);
}
