/* A reward model (danlu reward): what it thinks of prompt and answer, through its own chat template. */
#include <math.h>
#include <string.h>
#include "align/reward.h"
#include "align/reward_open.h"
#include "align/sft_data_impl.h"
#include "base/mem.h"
#include "base/sys.h"
#include "exec/precision.h"
#include "io/json.h"

static int open_model(const char *arg, const struct dan_reward_env *env, void **state, struct dan_err *e)
{
    struct dan_rm_scorer *s = dan_malloc(sizeof *s);
    struct dan_rm_open_opts o = {.pool = env->pool, .cpu_mask = env->cpu_mask, .prec = dan_fast_prec(env->cpu_mask), .now = dan_unix_time()};
    int rc = s ? dan_rm_open(arg, &o, s, e) : dan_fail(e, DAN_ENOMEM, "not enough memory for a reward model");
    if (rc) dan_free(s);
    else *state = s;
    return rc;
}

/* *none: the template renders nothing of the answer, so it has no value. */
static int row_of(const struct dan_rm_scorer *s, const struct dan_answer *a, struct dan_sft_row *out, bool *none, struct dan_err *e)
{
    *none = false;
    if (!a->messages) return dan_rm_text_row(s, a->prompt, a->text, a->n, a->ended, out, e);
    struct dan_sft_data_opts o = dan_rm_data_opts(s);
    struct dan_err why = {0};
    json_t *answers = json_pack("[[{s:s,s:o}]]", "role", "assistant", "content", dan_json_string_of(a->text, a->n));
    struct dan_example ex = {.kind = DAN_EXAMPLE_LABELLED, .messages = (json_t *)(uintptr_t)a->messages, .answers = answers, .file = "a prompt"};
    enum dan_skip skip = DAN_SKIP_BAD_ROW;
    int rc = answers ? dan_valued_row(&ex, 0, a->ended || !a->n, &o, out, &skip, &why) : dan_fail(&why, DAN_ENOMEM, "not enough memory for an answer");
    json_decref(answers);
    *none = rc && rc != DAN_ENOMEM && skip == DAN_SKIP_NOTHING;
    if (rc && rc != DAN_ENOMEM && skip == DAN_SKIP_TOO_LONG)
        return dan_fail(e, rc, "prompt and answer have more tokens than the %lld that the reward model takes; lower --max-new or leave long prompts out", (long long)o.longest);
    return rc && !*none ? dan_fail(e, rc, "%s", why.msg) : DAN_OK;
}

static int score(void *state, const struct dan_answer *a, size_t n, double *out, struct dan_err *e)
{
    struct dan_sft_row *row = dan_calloc(n, sizeof *row);
    const struct dan_sft_row **list = dan_calloc(n, sizeof *list);
    size_t *at = dan_calloc(n, sizeof *at), k = 0;
    double *got = dan_calloc(n, sizeof *got);
    int rc = row && list && at && got ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory to score %zu answers", n);
    for (size_t i = 0; i < n && !rc; i++) {
        bool none;
        out[i] = NAN;
        rc = row_of(state, &a[i], &row[i], &none, e);
        if (!rc && !none) list[k] = &row[i], at[k++] = i;
    }
    if (!rc && k) rc = dan_rm_score(state, list, k, got, e);
    for (size_t i = 0; i < k && !rc; i++) out[at[i]] = got[i];
    for (size_t i = 0; row && i < n; i++) dan_sft_row_release(&row[i]);
    dan_free(row);
    dan_free(list);
    dan_free(at);
    dan_free(got);
    return rc;
}

static void close_model(void *state)
{
    dan_rm_close(state);
    dan_free(state);
}

const struct dan_reward_kind dan_reward_kind_model = {
    .name = "model", .arg = "DIR", .doc = "what a reward model says (the folder that 'danlu reward' wrote)", .open_in = open_model, .score = score, .close = close_model};
