#include "align/rollout.h"
#include <string.h>
#include "base/mem.h"
#include "base/sys.h"

enum { STREAMS = 64 };

struct dan_rollout {
    const struct dan_tokenizer *tok;
    struct dan_rollout_opts o;
    struct dan_session *session;
    struct dan_draw **draw;                    /* one a thread */
    int threads;
    struct dan_gen *gen;                       /* [streams]; gen[i] is in slot i */
    int64_t *job;                              /* which answer a slot makes; -1: none */
    struct dan_feed *feed;
    int64_t *who, n_feeds;                     /* feed[i] is of slot who[i] */
    float  *logits;
    int    *drawn;                             /* [streams] result of the draw */
    struct dan_gen_opts gen_opts;
};

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for answers"); }

static int open_session(struct dan_rollout *r, struct dan_lm *lm, struct dan_err *e)
{
    struct dan_session_opts so = {.slots = r->o.streams, .context = r->o.context, .prec = r->o.prec, .pool = r->o.pool, .cpu_mask = r->o.cpu_mask, .live = !r->o.fixed,
                                  .kv_type = "f32"};
    return dan_session_new(lm, &so, &r->session, e);
}

static int make_arrays(struct dan_rollout *r, struct dan_err *e)
{
    size_t n = (size_t)r->o.streams, vocab = (size_t)dan_session_vocab(r->session);
    int rc = DAN_OK;
    r->threads = r->o.pool ? dan_pool_size(r->o.pool) : 1;
    r->draw = dan_calloc((size_t)r->threads, sizeof *r->draw);
    r->gen = dan_calloc(n, sizeof *r->gen);
    r->job = dan_calloc(n, sizeof *r->job);
    r->feed = dan_calloc(n, sizeof *r->feed);
    r->who = dan_calloc(n, sizeof *r->who);
    r->drawn = dan_calloc(n, sizeof *r->drawn);
    r->logits = dan_calloc(n * vocab, sizeof *r->logits);
    if (!r->draw || !r->gen || !r->job || !r->feed || !r->who || !r->drawn || !r->logits) return no_memory(e);
    for (int i = 0; i < r->threads && !rc; i++) rc = dan_draw_new((int64_t)vocab, &r->draw[i], e);
    return rc;
}

int dan_rollout_new(struct dan_lm *lm, const struct dan_tokenizer *tok, const struct dan_rollout_opts *o, struct dan_rollout **out, struct dan_err *e)
{
    int rc = dan_sampling_check(&o->sampling, e);
    if (!rc && o->max_new < 1) rc = dan_fail(e, DAN_EINVAL, "answers of %lld tokens are none; raise --max-new", (long long)o->max_new);
    struct dan_rollout *r = rc ? NULL : dan_calloc(1, sizeof *r);
    if (!rc && !r) rc = no_memory(e);
    if (rc) return rc;
    r->tok = tok;
    r->o = *o;
    if (r->o.streams < 1) r->o.streams = STREAMS;
    r->gen_opts = (struct dan_gen_opts){.sampling = o->sampling, .max_tokens = o->max_new, .eos = o->stop, .n_eos = o->n_stop};
    rc = open_session(r, lm, e);
    if (!rc) rc = make_arrays(r, e);
    if (rc) dan_rollout_free(r);
    else *out = r;
    return rc;
}

void dan_rollout_free(struct dan_rollout *r)
{
    if (!r) return;
    dan_session_free(r->session);
    for (int i = 0; i < r->threads && r->draw; i++) dan_draw_free(r->draw[i]);
    for (int64_t i = 0; i < r->o.streams && r->gen; i++) dan_gen_release(&r->gen[i]);
    dan_free(r->draw);
    dan_free(r->gen);
    dan_free(r->job);
    dan_free(r->feed);
    dan_free(r->who);
    dan_free(r->drawn);
    dan_free(r->logits);
    dan_free(r);
}

/* One run: answer j is sample j % samples of prompt j / samples. */
struct batch {
    struct dan_rollout *r;
    const struct dan_prompt *const *prompt;
    int64_t samples, step, jobs, next, left;
    struct dan_rollouts *out;
};

/* The sampler's number of a stream: (step, prompt, sample) without collisions for 2^22 steps, 2^28 prompts and 2^14 samples. */
static uint64_t stream_of(int64_t step, int64_t prompt, int64_t sample)
{
    return (uint64_t)step << 42 | ((uint64_t)prompt & 0xfffffff) << 14 | ((uint64_t)sample & 0x3fff);
}

static int start(struct batch *b, int32_t slot, struct dan_err *e)
{
    struct dan_rollout *r = b->r;
    const struct dan_prompt *p = b->prompt[b->next / b->samples];
    int64_t sample = b->next % b->samples;
    b->out->v[b->next] = (struct dan_said){.prompt = p, .sample = sample, .n_prompt = p->n};
    b->out->prompt_tokens += p->n;
    dan_session_reset(r->session, slot);
    r->job[slot] = b->next++;
    return dan_gen_begin(&r->gen[slot], &r->gen_opts, r->tok, slot, stream_of(b->step, p->index, sample), p->ids, (size_t)p->n, e);
}

/* The generator's memory becomes the answer's. */
static int finish(struct batch *b, int32_t slot, struct dan_err *e)
{
    struct dan_gen *g = &b->r->gen[slot];
    struct dan_said *s = &b->out->v[b->r->job[slot]];
    b->r->job[slot] = -1;
    b->left--;
    s->n = (int64_t)g->ids.n;
    s->ended = g->finish == DAN_GEN_EOS;
    s->text_n = g->text.n;
    s->ids = dan_malloc((g->ids.n + 1) * sizeof *s->ids);
    s->text = dan_malloc(g->text.n + 1);
    int rc = s->ids && s->text ? DAN_OK : no_memory(e);
    if (!rc) {
        memcpy(s->ids, g->ids.v, g->ids.n * sizeof *s->ids);
        memcpy(s->text, dan_str_c(&g->text), g->text.n);
        s->text[g->text.n] = 0;
        b->out->tokens += dan_said_tokens(s);
    }
    dan_gen_release(g);
    *g = (struct dan_gen){0};
    return rc;
}

static int fill_slots(struct batch *b, struct dan_err *e)
{
    struct dan_rollout *r = b->r;
    int64_t vocab = dan_session_vocab(r->session);
    r->n_feeds = 0;
    for (int32_t slot = 0; slot < r->o.streams; slot++) {
        int rc = r->job[slot] < 0 && b->next < b->jobs ? start(b, slot, e) : DAN_OK;
        if (rc) return rc;
        if (r->job[slot] < 0) continue;
        struct dan_gen *g = &r->gen[slot];
        int64_t fed = dan_session_length(r->session, slot), at = r->n_feeds++;
        r->feed[at] = (struct dan_feed){slot, g->ids.v + fed, (int64_t)g->ids.n - fed, 1, r->logits + at * vocab};
        r->who[at] = slot;
    }
    return DAN_OK;
}

static void draw_some(void *ctx, int ith, int nth)
{
    struct dan_rollout *r = ctx;
    for (int64_t i = ith; i < r->n_feeds; i += nth) {
        struct dan_err ignored = {0};
        r->drawn[i] = dan_gen_draw(&r->gen[r->who[i]], r->draw[ith], r->feed[i].logits, &ignored);
    }
}

static int advance(struct batch *b, struct dan_err *e)
{
    struct dan_rollout *r = b->r;
    int rc = fill_slots(b, e);
    if (!rc) rc = dan_session_feed(r->session, r->feed, r->n_feeds, e);
    if (rc) return rc;
    dan_pool_run(r->o.pool, draw_some, r);
    for (int64_t i = 0; i < r->n_feeds && !rc; i++) {
        if (r->drawn[i]) rc = dan_gen_draw(&r->gen[r->who[i]], r->draw[0], r->feed[i].logits, e);      /* again, for what it says: of threads the errors are lost */
        else if (r->gen[r->who[i]].finish != DAN_GEN_RUNS) rc = finish(b, (int32_t)r->who[i], e);
    }
    return rc;
}

static int check(const struct dan_rollout *r, const struct dan_prompt *const *prompt, int64_t n, struct dan_err *e)
{
    int64_t context = dan_session_context(r->session);
    for (int64_t i = 0; i < n; i++)
        if (prompt[i]->n + r->o.max_new > context)
            return dan_fail(e, DAN_EINVAL, "line %lld of '%s' has %lld tokens; with answers of %lld it does not fit in the context of %lld", (long long)prompt[i]->line,
                            prompt[i]->file, (long long)prompt[i]->n, (long long)r->o.max_new, (long long)context);
    return DAN_OK;
}

int dan_rollout_run(struct dan_rollout *r, const struct dan_prompt *const *prompts, int64_t n_prompts, int64_t samples, int64_t step, struct dan_rollouts *out,
                    struct dan_err *e)
{
    struct batch b = {.r = r, .prompt = prompts, .samples = samples, .step = step, .jobs = n_prompts * samples, .left = n_prompts * samples, .out = out};
    double t0 = dan_now();
    *out = (struct dan_rollouts){.samples = samples, .n = (size_t)b.jobs};
    int rc = check(r, prompts, n_prompts, e);
    out->v = dan_calloc((size_t)b.jobs + 1, sizeof *out->v);
    if (!rc && !out->v) rc = no_memory(e);
    for (int64_t i = 0; i < r->o.streams; i++) r->job[i] = -1;
    if (!rc && !r->o.fixed) dan_session_refresh(r->session);
    while (b.left && !rc) {
        if (r->o.go_on && !r->o.go_on(r->o.ctx)) rc = dan_fail(e, DAN_ECANCELLED, "interrupted while answers were sampled");
        else rc = advance(&b, e);
    }
    for (int64_t i = 0; i < r->o.streams && rc; i++) {
        dan_gen_release(&r->gen[i]);
        r->gen[i] = (struct dan_gen){0};
    }
    out->seconds = dan_now() - t0;
    if (rc) dan_rollouts_release(out);
    return rc;
}

void dan_rollouts_release(struct dan_rollouts *x)
{
    for (size_t i = 0; i < x->n && x->v; i++) {
        dan_free(x->v[i].ids);
        dan_free(x->v[i].text);
    }
    dan_free(x->v);
    *x = (struct dan_rollouts){0};
}

struct dan_answer dan_said_answer(const struct dan_said *s)
{
    return (struct dan_answer){.text = s->text, .n = s->text_n, .tokens = dan_said_tokens(s), .ended = s->ended, .prompt = s->prompt->last,
                               .messages = s->prompt->messages, .row = s->prompt->row};
}
