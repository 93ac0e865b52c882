#include "align/reward_open.h"
#include <math.h>
#include <string.h>
#include "align/sft_data_impl.h"
#include "base/file.h"
#include "base/mem.h"
#include "infer/generate.h"
#include "io/sniff.h"
#include "model/lora_files.h"
#include "model/score.h"

enum { MIN_ROWS = 1024 };

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for a reward model"); }

/* ---- opening ---- */

static int load_tokenizer(struct dan_rm_scorer *s, const char *dir, struct dan_err *e)
{
    enum dan_file_kind kind;
    int rc = dan_file_kind(dir, &kind, e);
    if (!rc) rc = dan_tokenizer_load(dir, &s->tok, e);
    if (rc) return rc;
    if (kind != DAN_FILE_GGUF) return dan_prompt_prefix(dir, s->tok, &s->prefix, e);
    const struct dan_ids *before = dan_tokenizer_before(s->tok);
    for (size_t i = 0; i < before->n; i++) dan_ids_push(&s->prefix, before->v[i]);
    return s->prefix.failed ? no_memory(e) : DAN_OK;
}

static int load(struct dan_rm_scorer *s, const char *dir, struct dan_pool *pool, struct dan_err *e)
{
    struct dan_str base = {0};
    bool adapter = dan_lora_is(dir), rounded, own;
    int rc = adapter ? dan_lora_base_model(dir, &base, e) : DAN_OK;
    const char *from = adapter ? dan_str_c(&base) : dir;
    if (!rc) rc = dan_lm_load(&s->lm, from, false, e);
    if (!rc && adapter) rc = dan_lora_quantise_base(&s->lm, dir, pool, &rounded, e);
    if (!rc && adapter) rc = dan_lora_load(&s->lm, dir, "default", e);
    if (!rc) rc = load_tokenizer(s, from, e);
    if (!rc && adapter) rc = dan_chat_template_take(s->tok, dir, &own, e);
    if (!rc && !dan_lm_has_score(&s->lm))
        rc = dan_fail(e, DAN_EINVAL, "'%s' is no reward model: it has no score head; train one with 'danlu reward %s --data pairs.jsonl --out DIR'", dir, dir);
    dan_str_release(&base);
    return rc;
}

/* Rows for an answer of n ids; doubled, so that growing is rare.  A context of which little is used costs nothing. */
static int plan(struct dan_rm_scorer *s, int64_t n, struct dan_err *e)
{
    int64_t rows = s->tuning.max_rows ? s->tuning.max_rows : MIN_ROWS;
    struct dan_tuner *more = NULL;
    struct dan_packed pack = {0};
    while (rows < n) rows *= 2;
    if (rows == s->tuning.max_rows) return DAN_OK;
    struct dan_tuner_opts o = s->tuning;
    o.max_rows = rows;
    int rc = dan_tuner_new(&s->lm, &o, s->pool, &more, e);
    if (!rc) rc = dan_packed_init(&pack, rows, e);
    if (rc) {
        dan_tuner_free(more);
        return rc;
    }
    dan_tuner_free(s->tuner);
    dan_packed_release(&s->pack);
    s->tuner = more;
    s->pack = pack;
    s->tuning.max_rows = rows;
    return DAN_OK;
}

int dan_rm_open(const char *dir, const struct dan_rm_open_opts *o, struct dan_rm_scorer *s, struct dan_err *e)
{
    *s = (struct dan_rm_scorer){.now = o->now, .pool = o->pool, .tuning = {.prec = o->prec, .cpu_mask = o->cpu_mask, .head = DAN_HEAD_SCORE, .frozen = true}};
    if (!dan_path_exists(dir)) return dan_fail(e, DAN_EIO, "there is no reward model '%s'; give the folder that 'danlu reward' wrote", dir);
    int rc = load(s, dir, o->pool, e);
    s->bias = s->lm.cfg.reward_bias;
    if (!rc) rc = dan_lora_reward_bias(dir, &s->bias, e);      /* an adapter's own */
    if (!rc) rc = dan_chat_template_open(&s->chat, s->tok, o->template, &s->prefix, e);
    if (!rc) {
        int64_t most = dan_lm_longest(&s->lm.cfg);
        s->longest = o->context > 0 && o->context < most ? o->context : most;
        rc = plan(s, 1, e);
    }
    if (rc) dan_rm_close(s);
    return rc;
}

void dan_rm_close(struct dan_rm_scorer *s)
{
    dan_tuner_free(s->tuner);
    dan_packed_release(&s->pack);
    dan_chat_template_release(&s->chat);
    dan_tokenizer_free(s->tok);
    dan_ids_release(&s->prefix);
    dan_lm_release(&s->lm);
    *s = (struct dan_rm_scorer){0};
}

struct dan_sft_data_opts dan_rm_data_opts(const struct dan_rm_scorer *s)
{
    return (struct dan_sft_data_opts){.tok = s->tok, .chat = &s->chat, .longest = s->longest, .has_now = true, .now = s->now};
}

/* ---- scoring ---- */

int dan_rm_score(struct dan_rm_scorer *s, const struct dan_sft_row *const *row, size_t n, double *reward, struct dan_err *e)
{
    int64_t longest = 1;
    for (size_t i = 0; i < n; i++)
        if (row[i]->n > longest) longest = row[i]->n;
    int rc = plan(s, longest, e);
    if (!rc) rc = dan_rows_value(s->tuner, row, n, &s->pack, reward, e);
    for (size_t i = 0; i < n && !rc; i++) {
        reward[i] += s->bias;
        if (!isfinite(reward[i])) rc = dan_fail(e, DAN_EINVAL, "the reward model gives a value that is not finite: its weights are broken");
    }
    return rc;
}

int dan_rm_text_row(const struct dan_rm_scorer *s, const char *prompt, const char *text, size_t n, bool ended, struct dan_sft_row *out, struct dan_err *e)
{
    struct dan_ids ids = {0};
    struct dan_str whole = {0};
    int32_t eos = dan_tokenizer_eos(s->tok);
    *out = (struct dan_sft_row){.file = "a prompt"};
    dan_str_puts(&whole, prompt ? prompt : "");
    dan_str_append(&whole, text, n);
    for (size_t i = 0; i < s->prefix.n; i++) dan_ids_push(&ids, s->prefix.v[i]);
    int rc = whole.failed ? no_memory(e) : dan_tokenizer_encode(s->tok, whole.p, whole.n, DAN_ENCODE_UNK, &ids, e);
    if (ended && eos >= 0) dan_ids_push(&ids, eos);
    if (!rc && ids.failed) rc = no_memory(e);
    if (!rc && (int64_t)ids.n > s->longest)
        rc = dan_fail(e, DAN_EINVAL, "a prompt with its answer has %zu tokens, the reward model takes %lld: nothing is cut", ids.n, (long long)s->longest);
    if (!rc) rc = dan_sft_row_take(out, ids.v, NULL, ids.n, e);
    if (rc) dan_sft_row_release(out);
    dan_ids_release(&ids);
    dan_str_release(&whole);
    return rc;
}

#define EACH "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
const char *dan_rm_raw_template(bool with_bos) { return with_bos ? "{{ bos_token }}" EACH : EACH; }
