/* The public API over infer: thin, so that what it does is what `danlu generate` does. */
#include <danlu.h>
#include <string.h>
#include "base/mem.h"
#include "infer/generate.h"
#include "io/hf_config.h"

struct danlu_model {
    struct dan_lm lm;
    struct dan_tokenizer *tok;
    struct dan_ids prefix;
    struct dan_pool *pool;
    int32_t eos[DAN_HF_MAX_EOS + 1];
    size_t  n_eos;
};

static int tell(const struct dan_err *e, char *err, size_t n)
{
    if (err && n) {
        size_t len = strlen(e->msg);
        if (len >= n) len = n - 1;
        memcpy(err, e->msg, len);
        err[len] = 0;
    }
    return e->code ? e->code : DAN_EINVAL;
}

const char *danlu_version(void) { return DANLU_VERSION; }

static void find_ends(danlu_model *m, const struct dan_hf_generation *g)
{
    for (int32_t i = 0; i < g->n_eos; i++) m->eos[m->n_eos++] = (int32_t)g->eos[i];
    if (m->n_eos == 0 && m->lm.cfg.eos >= 0) m->eos[m->n_eos++] = (int32_t)m->lm.cfg.eos;
    if (m->n_eos == 0 && dan_tokenizer_eos(m->tok) >= 0) m->eos[m->n_eos++] = dan_tokenizer_eos(m->tok);
}

int danlu_open(const char *dir, int threads, danlu_model **out, char *err, size_t err_bytes)
{
    struct dan_err e = {0};
    struct dan_hf_generation g;
    danlu_model *m = dan_calloc(1, sizeof *m);
    int rc = m ? dan_pool_new(threads, &m->pool, &e) : dan_fail(&e, DAN_ENOMEM, "not enough memory to open a model");
    if (!rc) rc = dan_lm_load(&m->lm, dir, false, &e);
    if (!rc) rc = dan_tokenizer_load(dir, &m->tok, &e);
    if (!rc) rc = dan_prompt_prefix(dir, m->tok, &m->prefix, &e);
    if (!rc) rc = dan_hf_generation_load(dir, &g, &e);
    if (rc) {
        danlu_close(m);
        return tell(&e, err, err_bytes);
    }
    find_ends(m, &g);
    *out = m;
    return DAN_OK;
}

void danlu_close(danlu_model *m)
{
    if (!m) return;
    dan_lm_release(&m->lm);
    dan_tokenizer_free(m->tok);
    dan_ids_release(&m->prefix);
    dan_pool_free(m->pool);
    dan_free(m);
}

int64_t danlu_vocab_size(const danlu_model *m) { return m->lm.cfg.vocab; }
int64_t danlu_context(const danlu_model *m) { return m->lm.cfg.context; }
int64_t danlu_n_params(const danlu_model *m) { return dan_lm_n_params(&m->lm); }

danlu_sampling danlu_sampling_default(void)
{
    return (danlu_sampling){.temperature = 0.8, .top_p = 0.95, .repetition_penalty = 1, .seed = 1, .max_tokens = 128};
}

struct sink { int (*on_text)(void *ctx, const char *bytes, size_t n); void *ctx; bool stop; };

static void take(void *ctx, const struct dan_gen *g, const char *bytes, size_t n)
{
    struct sink *s = ctx;
    (void)g;
    if (n && s->on_text && s->on_text(s->ctx, bytes, n)) s->stop = true;
}

static bool go_on(void *ctx) { return !((struct sink *)ctx)->stop; }

static int run(danlu_model *m, struct dan_gen *g, const struct dan_ids *prompt, struct sink *sink, struct dan_err *e)
{
    struct dan_session *s = NULL;
    int64_t limit = m->lm.model->time_major ? INT32_MAX : m->lm.cfg.context, want = (int64_t)prompt->n + g->o->max_tokens;
    struct dan_session_opts so = {.slots = 1, .context = g->o->max_tokens > 0 && want < limit ? want : limit, .pool = m->pool};
    struct dan_gen_hooks hooks = {take, go_on, sink};
    struct dan_gen_times times = {0};
    int rc = dan_session_new(&m->lm, &so, &s, e);
    if (!rc) rc = dan_gen_run(s, &g, 1, &hooks, &times, e);
    dan_session_free(s);
    return rc;
}

int64_t danlu_generate(danlu_model *m, const char *prompt, const danlu_sampling *p, int (*on_text)(void *ctx, const char *bytes, size_t n),
                       void *ctx, char *err, size_t err_bytes)
{
    struct dan_err e = {0};
    danlu_sampling d = p ? *p : danlu_sampling_default();
    struct dan_gen_opts o = {.sampling = {d.temperature, d.top_k, d.top_p, d.min_p, d.repetition_penalty, d.seed, 0},
                             .max_tokens = d.max_tokens, .eos = m->eos, .n_eos = m->n_eos};
    struct dan_gen g = {0};
    struct dan_ids ids = {0};
    struct sink sink = {on_text, ctx, false};
    int rc = dan_sampling_check(&o.sampling, &e);
    if (!rc) rc = dan_prompt_encode(m->tok, &m->prefix, prompt, strlen(prompt), &ids, &e);
    if (!rc) rc = dan_gen_begin(&g, &o, m->tok, 0, 0, ids.v, ids.n, &e);
    if (!rc) rc = run(m, &g, &ids, &sink, &e);
    int64_t n = rc ? tell(&e, err, err_bytes) : (int64_t)dan_gen_new_tokens(&g);
    dan_gen_release(&g);
    dan_ids_release(&ids);
    return n;
}

int64_t danlu_encode(const danlu_model *m, const char *text, size_t n, int32_t *ids, size_t cap, char *err, size_t err_bytes)
{
    struct dan_err e = {0};
    struct dan_ids all = {0};
    int rc = dan_tokenizer_encode(m->tok, text, n, 0, &all, &e);
    if (!rc && all.failed) rc = dan_fail(&e, DAN_ENOMEM, "not enough memory for the ids of %zu bytes", n);
    int64_t count = rc ? tell(&e, err, err_bytes) : (int64_t)all.n;
    for (size_t i = 0; !rc && i < all.n && i < cap; i++) ids[i] = all.v[i];
    dan_ids_release(&all);
    return count;
}

int64_t danlu_decode(const danlu_model *m, const int32_t *ids, size_t n, char *text, size_t cap)
{
    struct dan_str s = {0};
    dan_tokenizer_decode(m->tok, ids, n, &s);
    size_t take_n = cap == 0 ? 0 : s.n < cap ? s.n : cap - 1;
    if (take_n) memcpy(text, s.p, take_n);
    if (cap) text[take_n] = 0;
    int64_t count = (int64_t)s.n;
    dan_str_release(&s);
    return count;
}

int danlu_logits(danlu_model *m, const int32_t *ids, size_t n, float *logits, char *err, size_t err_bytes)
{
    struct dan_err e = {0};
    struct dan_session *s = NULL;
    struct dan_session_opts o = {.slots = 1, .context = (int64_t)n, .pool = m->pool};
    struct dan_feed f = {.slot = 0, .tokens = ids, .n = (int64_t)n, .n_logits = 1, .logits = logits};
    int rc = n ? DAN_OK : dan_fail(&e, DAN_EINVAL, "there are no ids; give at least one");
    for (size_t i = 0; !rc && i < n; i++)
        if (ids[i] < 0 || ids[i] >= m->lm.cfg.vocab) rc = dan_fail(&e, DAN_EINVAL, "id %d is not in the vocabulary of %lld", ids[i], (long long)m->lm.cfg.vocab);
    if (!rc) rc = dan_session_new(&m->lm, &o, &s, &e);
    if (!rc) rc = dan_session_feed(s, &f, 1, &e);
    dan_session_free(s);
    return rc ? tell(&e, err, err_bytes) : DAN_OK;
}
