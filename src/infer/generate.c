#include "infer/generate.h"
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/sys.h"

enum { CHUNK = 512 };                          /* prompt tokens between two looks at go_on */

const char *dan_finish_name(enum dan_finish f)
{
    static const char *const names[] = {
        [DAN_GEN_EOS] = "stop", [DAN_GEN_STOP] = "stop", [DAN_GEN_LENGTH] = "length", [DAN_GEN_CANCELLED] = "cancelled"};
    return names[f];
}

static int out_of_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for the text"); }

int dan_gen_begin(struct dan_gen *g, const struct dan_gen_opts *o, const struct dan_tokenizer *tok, int32_t slot, uint64_t stream,
                  const int32_t *prompt, size_t n, struct dan_err *e)
{
    *g =
        (struct dan_gen){.o = o, .sampling = o->sampling, .slot = slot, .n_prompt = n, .detok = {.t = tok, .skip_special = !o->ignore_eos}};
    g->sampling.stream = stream;
    if (n == 0) return dan_fail(e, DAN_EINVAL, "the prompt is empty and the tokenizer has no token to begin a text with; give a prompt");
    for (size_t i = 0; i < n; i++) dan_ids_push(&g->ids, prompt[i]);
    return g->ids.failed ? out_of_memory(e) : DAN_OK;
}

void dan_gen_release(struct dan_gen *g)
{
    dan_ids_release(&g->ids);
    dan_str_release(&g->text);
}

static bool is_eos(const struct dan_gen *g, int32_t token)
{
    for (size_t i = 0; i < g->o->n_eos; i++)
        if (g->o->eos[i] == token) return !g->o->ignore_eos;
    return false;
}

/* First occurrence of a stop string that begins at `from` or later, or NULL. */
static const char *find_stop(const struct dan_gen *g, size_t from)
{
    const char *first = NULL;
    for (size_t i = 0; i < g->o->n_stop && g->text.n; i++) {
        size_t n = strlen(g->o->stop[i]);
        const char *at = n ? memmem(g->text.p + from, g->text.n - from, g->o->stop[i], n) : NULL;
        if (at && (!first || at < first)) first = at;
    }
    return first;
}

static size_t longest_stop(const struct dan_gen *g)
{
    size_t n = 0;
    for (size_t i = 0; i < g->o->n_stop; i++)
        if (strlen(g->o->stop[i]) > n) n = strlen(g->o->stop[i]);
    return n;
}

static void cut_at_stop(struct dan_gen *g, size_t old_n)
{
    size_t back = longest_stop(g);
    const char *at = find_stop(g, old_n > back ? old_n - back : 0);
    if (!at) return;
    g->text.n = (size_t)(at - g->text.p);
    g->text.p[g->text.n] = 0;
    g->finish = DAN_GEN_STOP;
}

int dan_gen_next(struct dan_gen *g, int32_t token, struct dan_err *e)
{
    size_t old_n = g->text.n;
    dan_ids_push(&g->ids, token);
    if (is_eos(g, token)) g->finish = DAN_GEN_EOS;
    else dan_detok_push(&g->detok, token, &g->text);
    if (g->finish == DAN_GEN_RUNS && g->o->max_tokens > 0 && (int64_t)dan_gen_new_tokens(g) >= g->o->max_tokens) g->finish = DAN_GEN_LENGTH;
    if (g->finish != DAN_GEN_RUNS) dan_detok_finish(&g->detok, &g->text);
    if (g->o->n_stop) cut_at_stop(g, old_n);
    return g->ids.failed || g->text.failed ? out_of_memory(e) : DAN_OK;
}

int dan_gen_draw(struct dan_gen *g, struct dan_draw *d, const float *logits, struct dan_err *e)
{
    int32_t token = dan_draw_token(d, &g->sampling, logits, g->ids.v, (int64_t)g->ids.n, g->ids.n);
    if (isfinite(logits[token])) return dan_gen_next(g, token, e);
    return dan_fail(e, DAN_EFORMAT, "the model says of no token how likely it is (the logits are no finite numbers): its weights are damaged, or too large for their format");
}

size_t dan_gen_ready(const struct dan_gen *g)
{
    size_t most = 0;
    for (size_t i = 0; i < g->o->n_stop && g->finish == DAN_GEN_RUNS; i++) {
        size_t n = strlen(g->o->stop[i]);
        for (size_t k = n ? n - 1 : 0; k > most; k--)
            if (k <= g->text.n && memcmp(g->text.p + g->text.n - k, g->o->stop[i], k) == 0) most = k;
    }
    return g->text.n - most;
}

size_t dan_gen_tokens_of(const struct dan_gen *g, size_t bytes)
{
    size_t i = g->n_prompt, sum = 0;
    for (; i < g->ids.n; i++) {
        struct dan_str one = {0};
        dan_tokenizer_decode(g->detok.t, &g->ids.v[i], 1, &one);
        sum += one.n;
        dan_str_release(&one);
        if (sum > bytes) break;
    }
    return i - g->n_prompt;
}

/* --- driving a group */

struct drive {
    struct dan_session *s;
    struct dan_gen *const *g;
    int64_t n;
    const struct dan_gen_hooks *hooks;
    struct dan_gen_times *times;
    struct dan_draw *draw;
    struct dan_feed *feed;
    int64_t *who, n_feeds;                     /* feed[i] is of g[who[i]] */
    float   *logits;                           /* [n, V] */
};

static void give_out(const struct drive *d, struct dan_gen *g)
{
    size_t ready = dan_gen_ready(g);
    if (ready > g->shown && d->hooks && d->hooks->text) d->hooks->text(d->hooks->ctx, g, g->text.p + g->shown, ready - g->shown);
    if (ready > g->shown) g->shown = ready;
}

static void finish(const struct drive *d, struct dan_gen *g, enum dan_finish why)
{
    g->finish = why;
    dan_detok_finish(&g->detok, &g->text);
    give_out(d, g);
}

static int check_prompts(const struct drive *d, struct dan_err *e)
{
    for (int64_t i = 0; i < d->n; i++)
        if ((int64_t)d->g[i]->ids.n > dan_session_context(d->s))
            return dan_fail(e, DAN_EINVAL, "the prompt has %zu tokens, the context holds %lld; shorten the prompt%s", d->g[i]->ids.n,
                            (long long)dan_session_context(d->s),
                            dan_session_context(d->s) < dan_lm_longest(&dan_session_lm(d->s)->cfg) ? " or raise --context" : "");
    return DAN_OK;
}

/* The next tokens of every text that runs; true when one of them is a prompt's. */
static bool make_feeds(struct drive *d)
{
    bool prefill = false;
    d->n_feeds = 0;
    for (int64_t i = 0; i < d->n; i++) {
        struct dan_gen *g = d->g[i];
        if (g->finish != DAN_GEN_RUNS) continue;
        int64_t fed = dan_session_length(d->s, g->slot), left = (int64_t)g->ids.n - fed;
        if (dan_session_room(d->s, g->slot) < left) {
            finish(d, g, DAN_GEN_LENGTH);
            continue;
        }
        bool last = left <= CHUNK;
        prefill = prefill || left > 1 || dan_gen_new_tokens(g) == 0;
        d->feed[d->n_feeds] =
            (struct dan_feed){g->slot, g->ids.v + fed, last ? left : CHUNK, last, d->logits + d->n_feeds * dan_session_vocab(d->s)};
        d->who[d->n_feeds++] = i;
    }
    return prefill;
}

static int draw_all(struct drive *d, bool prefill, struct dan_err *e)
{
    for (int64_t i = 0; i < d->n_feeds; i++) {
        struct dan_gen *g = d->g[d->who[i]];
        if (!d->feed[i].n_logits) continue;
        int rc = dan_gen_draw(g, d->draw, d->feed[i].logits, e);
        if (rc) return rc;
        d->times->new_tokens++;
        d->times->decode_tokens += !prefill;
        give_out(d, g);
    }
    return DAN_OK;
}

static int drive(struct drive *d, struct dan_err *e)
{
    for (;;) {
        bool go_on = !d->hooks || !d->hooks->go_on || d->hooks->go_on(d->hooks->ctx);
        for (int64_t i = 0; !go_on && i < d->n; i++)
            if (d->g[i]->finish == DAN_GEN_RUNS) finish(d, d->g[i], DAN_GEN_CANCELLED);
        double t0 = dan_now();
        bool prefill = make_feeds(d);
        if (!d->n_feeds) return DAN_OK;
        int rc = dan_session_feed(d->s, d->feed, d->n_feeds, e);
        if (!rc) rc = draw_all(d, prefill, e);
        if (rc) return rc;
        *(prefill ? &d->times->prompt_seconds : &d->times->decode_seconds) += dan_now() - t0;
        for (int64_t i = 0; prefill && i < d->n_feeds; i++) d->times->prompt_tokens += d->feed[i].n;
    }
}

int dan_gen_run(struct dan_session *s, struct dan_gen *const *g, int64_t n, const struct dan_gen_hooks *hooks, struct dan_gen_times *times,
                struct dan_err *e)
{
    struct dan_gen_times unused = {0};
    struct drive d = {.s = s, .g = g, .n = n, .hooks = hooks, .times = times ? times : &unused};
    size_t count = (size_t)n, vocab = (size_t)dan_session_vocab(s);
    int rc = check_prompts(&d, e);
    if (!rc) rc = dan_draw_new((int64_t)vocab, &d.draw, e);
    d.feed = dan_calloc(count, sizeof *d.feed);
    d.who = dan_calloc(count, sizeof *d.who);
    d.logits = dan_calloc(count * vocab, sizeof *d.logits);
    if (!rc && (!d.feed || !d.who || !d.logits)) rc = out_of_memory(e);
    if (!rc) rc = drive(&d, e);
    dan_draw_free(d.draw);
    dan_free(d.feed);
    dan_free(d.who);
    dan_free(d.logits);
    return rc;
}
