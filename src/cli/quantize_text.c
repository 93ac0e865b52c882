/* danlu quantize: the text that methods look at, and the text that the result is measured on. */
#include <string.h>
#include "base/map.h"
#include "base/mem.h"
#include "cli/quantize.h"

enum { TEST_TOKENS = 16384, TEST_BYTES = 512 << 20, TEST_LENGTH = 256, HELD_PART = 8 };

static int read_text(struct quantize_work *w, const struct dan_strings *paths, int64_t sequences, int64_t length, struct dan_calibration *out,
                     struct dan_err *e)
{
    struct dan_calibration_opts o = {.sequences = sequences, .length = length, .prefix = w->m.prefix.v, .n_prefix = w->m.prefix.n, .field = w->o->field};
    return dan_calibration_read(paths->v, paths->n, w->m.tok, &w->m.lm, &o, out, e);
}

static int64_t tokens_of(const struct dan_sequences *s) { return s->n ? s->start[s->n] - s->start[0] : 0; }
static uint64_t hash_of(const struct dan_sequences *s) { return dan_hash(s->ids + s->start[0], (size_t)tokens_of(s) * sizeof *s->ids, 0); }

/* Windows of one token have nothing to predict. */
static int64_t drop_short(int64_t *start, int64_t n) { return n > 0 && start[n] - start[n - 1] < 2 ? n - 1 : n; }

/* Logits of the float model are kept for every token of the test. */
static int64_t test_sequences(const struct quantize_work *w, int64_t length)
{
    int64_t most = TEST_BYTES / (int64_t)sizeof(float) / w->m.lm.cfg.vocab;
    most = most < TEST_TOKENS ? most : TEST_TOKENS;
    return w->o->test_sequences > 0 ? w->o->test_sequences : most / length > 2 ? most / length : 2;
}

static int64_t test_length(const struct quantize_work *w)
{
    int64_t longest = w->m.lm.model->time_major ? TEST_LENGTH : w->m.lm.cfg.context;
    return longest < TEST_LENGTH ? longest : TEST_LENGTH;
}

/* The last eighth of the calibration sequences, which methods then do not see. */
static int hold_out(struct quantize_work *w, struct dan_err *e)
{
    const struct dan_sequences *all = &w->calibration.text;
    int64_t held = all->n / HELD_PART > 0 ? all->n / HELD_PART : 1;
    if (all->n < 2) return dan_fail(e, DAN_EINVAL, "the calibration text is too short to hold a part back for measuring; give --test FILE");
    w->fit = (struct dan_sequences){all->ids, all->start, all->n - held};
    w->held = (struct dan_sequences){all->ids, all->start + all->n - held, held};
    w->held_out = true;
    return DAN_OK;
}

static int copy_starts(struct quantize_work *w, struct dan_err *e)
{
    struct dan_sequences *s = &w->held;
    w->starts = dan_malloc((size_t)(s->n + 1) * sizeof *w->starts);
    if (!w->starts) return dan_fail(e, DAN_ENOMEM, "not enough memory for the test text");
    memcpy(w->starts, s->start, (size_t)(s->n + 1) * sizeof *w->starts);
    s->n = drop_short(w->starts, s->n);
    s->start = w->starts;
    return s->n > 0 ? DAN_OK : dan_fail(e, DAN_EINVAL, "the test text has no token to predict; give more text");
}

/* A line for each reason to doubt what the calibration text is good for. */
static int doubt(struct quantize_work *w, struct dan_err *e)
{
    struct dan_observed seen;
    struct dan_observe_opts o = {.pool = w->m.pool};
    struct dan_str lines = {0};
    int rc = dan_observe(&w->m.lm, &w->fit, &o, &seen, e);
    if (rc) return rc;
    dan_calibration_doubts(&w->calibration, &seen, &lines);
    for (const char *p = dan_str_c(&lines); *p;) {
        size_t n = strcspn(p, "\n");
        if (n) {
            dan_warn(&w->cli->ui, "%.*s", (int)n, p);
            json_array_append_new(w->doubts, json_stringn(p, n));
        }
        p += n + (p[n] == '\n');
    }
    dan_str_release(&lines);
    return DAN_OK;
}

static int compare_texts(struct quantize_work *w, struct dan_err *e)
{
    w->held_hash = hash_of(&w->held);
    if (!w->fit.n) return DAN_OK;
    int rc = dan_sequences_overlap(&w->fit, &w->held, &w->overlap, e);
    if (rc || w->overlap < 0.01) return rc;
    dan_warn(&w->cli->ui, "%.1f %% of the test text was in the calibration text too: what is measured on it flatters the result; give another --test FILE",
             100 * w->overlap);
    return DAN_OK;
}

int quantize_read_texts(struct quantize_work *w, struct dan_err *e)
{
    const struct quantize_opts *o = w->o;
    bool measure = o->report || o->budget > 0;
    int rc = DAN_OK;
    if (measure && !o->calibration.n && !o->test.n)
        return dan_fail(e, DAN_EUSAGE, "%s measures on text; give --test FILE (or --calibration FILE, of which an eighth is then held back)",
                        o->report ? "--report" : "--budget");
    if (o->calibration.n) rc = read_text(w, &o->calibration, o->sequences, o->length, &w->calibration, e);
    if (!rc && o->calibration.n) w->fit = w->calibration.text;
    struct dan_err why = {0};
    if (!rc && measure && o->test.n && (rc = read_text(w, &o->test, test_sequences(w, test_length(w)), test_length(w), &w->test, &why)))
        dan_fail(e, rc, "--test: %s", why.msg);
    if (!rc && measure) rc = o->test.n ? (w->held = w->test.text, DAN_OK) : hold_out(w, e);
    if (!rc && measure) rc = copy_starts(w, e);
    if (!rc && o->calibration.n) w->fit_hash = hash_of(&w->fit);
    if (!rc && o->calibration.n && !w->m.lm.model->time_major) rc = doubt(w, e);
    return rc || !measure ? rc : compare_texts(w, e);
}

void quantize_release_texts(struct quantize_work *w)
{
    if (w->o->calibration.n) dan_calibration_release(&w->calibration);
    if (w->o->test.n) dan_calibration_release(&w->test);
    dan_free(w->starts);
}
