#include "cli/tune_samples.h"
#include <string.h>
#include "align/rollout.h"
#include "base/mem.h"
#include "base/sys.h"
#include "io/json.h"

enum { NEW_TOKENS = 64, SHOWN = 3, SHOWN_BYTES = 160 };

struct tune_samples {
    size_t n;
    struct dan_prompt *prompt;                 /* ids belong to the rows */
    const struct dan_prompt **list;
    struct dan_str *shown;                     /* what the model reads */
    struct dan_ids stop;
    struct dan_rollout *rollout;
    struct dan_rollouts before, after;
};

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for samples"); }

static int64_t prompt_ids(const struct dan_sft_row *r)
{
    int64_t n = 1;
    while (n < r->n && !r->learn[n]) n++;
    return n;
}

/* Plain text has no prompt; an answer needs room. */
static bool serves(const struct dan_sft_row *r, int64_t longest)
{
    int64_t n = prompt_ids(r);
    return n > 1 && n < r->n && n <= longest;
}

static int choose(struct tune_samples *s, const struct tune *t, const struct dan_sft_data *held, size_t each, size_t most, int64_t longest)
{
    size_t rows = held->n / each, good = 0, seen = 0;
    for (size_t i = 0; i < rows; i++) good += serves(&held->v[i * each], longest);
    if (most > good) most = good;
    s->prompt = dan_calloc(most + 1, sizeof *s->prompt);
    s->list = dan_calloc(most + 1, sizeof *s->list);
    s->shown = dan_calloc(most + 1, sizeof *s->shown);
    if (!s->prompt || !s->list || !s->shown) return DAN_ENOMEM;
    for (size_t i = 0; i < rows && s->n < most; i++) {
        const struct dan_sft_row *r = &held->v[i * each];
        if (!serves(r, longest) || seen++ != s->n * good / most) continue;
        s->prompt[s->n] = (struct dan_prompt){.ids = r->ids, .n = prompt_ids(r), .index = (int64_t)s->n, .file = r->file, .line = r->line};
        s->list[s->n] = &s->prompt[s->n];
        dan_tokenizer_decode(t->m.tok, r->ids, (size_t)prompt_ids(r), &s->shown[s->n]);
        if (s->shown[s->n++].failed) return DAN_ENOMEM;
    }
    return DAN_OK;
}

static int find_stop(struct tune_samples *s, const struct tune *t, struct dan_err *e)
{
    struct dan_chat_traits traits = {.stop = -1};
    int rc = dan_chat_traits_of(&t->chat, true, t->now, &traits, e);
    for (size_t i = 0; i < t->m.n_eos; i++) dan_ids_push(&s->stop, t->m.eos[i]);
    if (!rc && traits.stop >= 0) dan_ids_push(&s->stop, traits.stop);
    dan_chat_traits_release(&traits);
    return rc ? rc : s->stop.failed ? no_memory(e) : DAN_OK;
}

static int64_t fresh(const struct tune *t) { return t->longest / 2 < NEW_TOKENS ? t->longest / 2 : NEW_TOKENS; }
static bool go_on(void *ctx) { return !((const struct tune *)ctx)->cli->stop; }

static int start(struct tune_samples *s, struct tune *t, struct dan_err *e)
{
    struct dan_rollout_opts o = {.sampling = {.temperature = 0, .top_p = 1, .repetition_penalty = 1}, .max_new = fresh(t), .stop = s->stop.v, .n_stop = s->stop.n,
                                 .streams = s->n < 16 ? (int64_t)s->n : 16, .context = t->longest, .prec = tune_precision(t), .pool = t->m.pool,
                                 .cpu_mask = dan_isa_mask(t->cli->isa), .go_on = go_on, .ctx = t};
    return dan_rollout_new(&t->m.lm, t->m.tok, &o, &s->rollout, e);
}

/* Stopped on the way: the run ends there anyway, and says how it goes on. */
static int ask(struct tune_samples *s, struct dan_rollouts *out, struct dan_err *e)
{
    struct dan_err why = {0};
    int rc = dan_rollout_run(s->rollout, s->list, (int64_t)s->n, 1, 0, out, &why);
    return rc == DAN_OK || rc == DAN_ECANCELLED ? DAN_OK : dan_fail(e, rc, "%s", why.msg);
}

int tune_samples_before(struct tune *t, const struct dan_sft_data *held, size_t each, int64_t n, struct tune_samples **out, struct dan_err *e)
{
    *out = NULL;
    if (n <= 0 || !held->n || fresh(t) < 1) return DAN_OK;
    struct tune_samples *s = dan_calloc(1, sizeof *s);
    int rc = !s || choose(s, t, held, each, (size_t)n, t->longest - fresh(t)) ? no_memory(e) : DAN_OK;
    if (!rc && s->n) rc = find_stop(s, t, e);
    if (!rc && s->n) rc = start(s, t, e);
    if (!rc && s->n) rc = ask(s, &s->before, e);
    if (rc || !s->n) tune_samples_free(s);
    else *out = s;
    return rc;
}

int tune_samples_after(struct tune_samples *s, struct dan_err *e) { return s ? ask(s, &s->after, e) : DAN_OK; }

/* One line, not cut inside a character; of a prompt its end. */
static void show(struct dan_str *out, const char *label, const char *p, size_t n, bool end)
{
    size_t from = end && n > SHOWN_BYTES ? n - SHOWN_BYTES : 0, to = !end && n > SHOWN_BYTES ? SHOWN_BYTES : n;
    while (from > 0 && from < n && ((unsigned char)p[from] & 0xc0) == 0x80) from++;
    while (to > 0 && to < n && ((unsigned char)p[to] & 0xc0) == 0x80) to--;
    dan_str_printf(out, "%s%s", label, from ? "... " : "");
    for (size_t i = from; i < to; i++) dan_str_putc(out, (unsigned char)p[i] < ' ' ? ' ' : p[i]);
    dan_str_puts(out, to < n ? " ...\n" : "\n");
}

int tune_samples_report(const struct tune_samples *s, json_t *report, struct dan_str *text, struct dan_err *e)
{
    if (!s || !s->before.n || s->before.n != s->after.n) return DAN_OK;
    json_t *all = json_array();
    for (size_t i = 0; all && i < s->n; i++) {
        const struct dan_said *a = &s->before.v[i], *b = &s->after.v[i];
        json_array_append_new(all, json_pack("{s:o,s:o,s:o,s:s,s:I}", "prompt", dan_json_string_of(s->shown[i].p, s->shown[i].n), "before", dan_json_string_of(a->text, a->text_n), "after",
                                             dan_json_string_of(b->text, b->text_n), "file", s->prompt[i].file, "line", (json_int_t)s->prompt[i].line));
        if (i >= SHOWN) continue;
        show(text, "prompt    ", s->shown[i].p, s->shown[i].n, true);
        show(text, "  before  ", a->text, a->text_n, false);
        show(text, "  after   ", b->text, b->text_n, false);
    }
    return json_object_set_new(report, "samples", all) ? no_memory(e) : DAN_OK;
}

void tune_samples_free(struct tune_samples *s)
{
    if (!s) return;
    for (size_t i = 0; s->shown && i < s->n; i++) dan_str_release(&s->shown[i]);
    dan_rollouts_release(&s->before);
    dan_rollouts_release(&s->after);
    dan_rollout_free(s->rollout);
    dan_ids_release(&s->stop);
    dan_free(s->shown);
    dan_free(s->list);
    dan_free(s->prompt);
    dan_free(s);
}
