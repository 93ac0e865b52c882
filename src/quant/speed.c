#include <stdlib.h>
#include "base/mem.h"
#include "base/sys.h"
#include "infer/session.h"
#include "quant/job.h"

enum { ROWS = 256, TOKENS = 16, MOST = 64 };

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct run { struct dan_session *s; const int32_t *ids; float *logits; int64_t rows, context; };

/* Seconds of `tokens` in chunks of `chunk`. */
static int timed(const struct run *r, int64_t tokens, int64_t chunk, double *seconds, struct dan_err *e)
{
    double t0 = dan_now();
    int rc = DAN_OK;
    for (int64_t at = 0; at < tokens && !rc; at += chunk) {
        if (dan_session_room(r->s, 0) < chunk) dan_session_reset(r->s, 0);
        rc = dan_session_feed(r->s, &(struct dan_feed){.tokens = r->ids, .n = chunk, .n_logits = 1, .logits = r->logits}, 1, e);
    }
    *seconds = dan_now() - t0;
    return rc;
}

static int median(const struct run *r, int64_t tokens, int64_t chunk, double limit, double *rate, struct dan_err *e)
{
    double t[MOST], spent = 0;
    int n = 0;
    int rc = timed(r, chunk, chunk, &t[0], e);                 /* pages and caches */
    while (!rc && n < MOST && (n < 3 || spent < limit)) {
        rc = timed(r, tokens, chunk, &t[n], e);
        spent += t[n++];
    }
    if (rc) return rc;
    qsort(t, (size_t)n, sizeof *t, rising);
    *rate = (double)tokens / t[n / 2];
    return DAN_OK;
}

int dan_quant_speed(struct dan_lm *lm, struct dan_pool *pool, uint64_t cpu_mask, double seconds, struct dan_quant_speed *out, struct dan_err *e)
{
    int64_t context = lm->model->time_major ? 2 * ROWS : dan_lm_longest(&lm->cfg), rows = context < ROWS ? context : ROWS;
    struct run r = {.rows = rows, .context = context};
    struct dan_session_opts so = {.context = context < 2 * ROWS ? context : 2 * ROWS, .max_rows = rows, .pool = pool, .cpu_mask = cpu_mask};
    int32_t *ids = dan_calloc((size_t)rows + 1, sizeof *ids);
    r.ids = ids;
    r.logits = dan_malloc((size_t)lm->cfg.vocab * sizeof(float));
    int rc = ids && r.logits ? dan_session_new(lm, &so, &r.s, e) : dan_fail(e, DAN_ENOMEM, "not enough memory to measure the speed");
    if (!rc) rc = median(&r, rows, rows, seconds / 2, &out->prefill, e);
    if (!rc) rc = median(&r, TOKENS, 1, seconds / 2, &out->decode, e);
    out->rows = rows;
    dan_session_free(r.s);
    dan_free(r.logits);
    dan_free(ids);
    return rc;
}
