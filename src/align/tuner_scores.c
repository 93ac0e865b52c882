/* Many texts, a number each. */
#include "align/tuner.h"
#include "base/mem.h"

struct scoring { struct dan_tuner *t; struct dan_packed pack; const struct dan_id_span *text; size_t first; float *rows, *value; };

/* What is packed: texts first .. end - 1; the last row of each has its value. */
static int flush(struct scoring *s, size_t end, struct dan_err *e)
{
    int64_t r = -1;
    int rc = s->pack.batch.rows ? dan_tuner_score(s->t, &s->pack, false, s->rows, e) : DAN_OK;
    for (; s->first < end && !rc; s->first++) s->value[s->first] = s->rows[r += s->text[s->first].n];
    dan_packed_clear(&s->pack);
    return rc;
}

static int add(struct scoring *s, size_t i, struct dan_err *e)
{
    const struct dan_id_span *x = &s->text[i];
    if (x->n < 1 || x->n > s->pack.max_rows)
        return dan_fail(e, DAN_EINVAL, "text %zu has %lld ids: 1 to %lld can be scored at once", i, (long long)x->n, (long long)s->pack.max_rows);
    int rc = dan_packed_fits_all(&s->pack, x->n) ? DAN_OK : flush(s, i, e);
    if (!rc) dan_packed_add_all(&s->pack, x->ids, x->n, NULL);
    return rc;
}

int dan_tuner_scores(struct dan_tuner *t, const struct dan_id_span *text, size_t n, float *value, struct dan_err *e)
{
    const int64_t rows = dan_tuner_rows(t);
    struct scoring s = {.t = t, .text = text, .value = value, .rows = dan_malloc(((size_t)rows + 1) * sizeof *s.rows)};
    int rc = dan_tuner_head(t) != DAN_HEAD_SCORE ? dan_fail(e, DAN_EINVAL, "scores need a tuner with a score head")
           : !s.rows ? dan_fail(e, DAN_ENOMEM, "not enough memory to score texts") : dan_packed_init(&s.pack, rows, e);
    for (size_t i = 0; i < n && !rc; i++) rc = add(&s, i, e);
    if (!rc) rc = flush(&s, n, e);
    dan_packed_release(&s.pack);
    dan_free(s.rows);
    return rc;
}
