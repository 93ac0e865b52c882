#include "align/sft_data_impl.h"
#include <string.h>
#include "base/mem.h"

enum { TOLD = 5 };

const char *dan_skip_name(enum dan_skip s)
{
    static const char *const names[] = {"bad row", "not a dialogue or text", "refused by the template", "too long", "nothing to learn"};
    return names[s];
}

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for fine-tuning data"); }

int dan_sft_row_take(struct dan_sft_row *s, const int32_t *ids, const char *learn, size_t n, struct dan_err *e)
{
    s->ids = dan_malloc((n + 1) * sizeof *s->ids);
    s->learn = dan_malloc(n + 1);
    if (!s->ids || !s->learn) return no_memory(e);
    memcpy(s->ids, ids, n * sizeof *ids);
    s->n = (int64_t)n;
    s->learnt = 0;
    for (size_t i = 0; i < n; i++) {
        s->learn[i] = i > 0 && (!learn || learn[i]);
        s->learnt += s->learn[i];
    }
    return DAN_OK;
}

void dan_sft_row_release(struct dan_sft_row *s)
{
    dan_free(s->ids);
    dan_free(s->learn);
    *s = (struct dan_sft_row){0};
}

/* As documents of pre-training: the model's own beginning, the text, eos. */
static int text_sequence(const struct dan_example *ex, const struct dan_sft_data_opts *o, struct dan_sft_row *out, struct dan_err *e)
{
    struct dan_ids ids = {0};
    const struct dan_ids *before = dan_tokenizer_before(o->tok);
    int32_t eos = dan_tokenizer_eos(o->tok);
    for (size_t i = 0; i < before->n; i++) dan_ids_push(&ids, before->v[i]);
    int rc = dan_tokenizer_encode(o->tok, ex->text, ex->text_bytes, DAN_ENCODE_UNK, &ids, e);
    if (eos >= 0) dan_ids_push(&ids, eos);
    if (!rc) rc = ids.failed ? no_memory(e) : dan_sft_row_take(out, ids.v, NULL, ids.n, e);
    dan_ids_release(&ids);
    return rc;
}

/* A message that its row says is not to be learnt. */
static bool is_left_out(const json_t *message)
{
    const json_t *weight = json_object_get(message, "weight"), *train = json_object_get(message, "train");
    return json_is_false(train) || (json_is_number(weight) && json_number_value(weight) == 0);
}

static bool all_left_out(const json_t *messages)
{
    size_t turns = 0, left = 0, i;
    json_t *m;
    json_array_foreach((json_t *)(uintptr_t)messages, i, m) {
        if (strcmp(json_string_value(json_object_get(m, "role")), "assistant")) continue;
        turns++;
        left += is_left_out(m);
    }
    return turns && left == turns;
}

/* Runs of learnt ids are the assistant's turns, in order; drops those that are left out, or all but the last. */
static void choose_turns(const json_t *messages, enum dan_learn how, struct dan_str *learn)
{
    size_t turns = 0, turn = 0, at = 0, i;
    json_t *m;
    json_array_foreach((json_t *)(uintptr_t)messages, i, m)
        turns += !strcmp(json_string_value(json_object_get(m, "role")), "assistant");
    json_array_foreach((json_t *)(uintptr_t)messages, i, m) {
        if (strcmp(json_string_value(json_object_get(m, "role")), "assistant")) continue;
        bool keep = !is_left_out(m) && (how == DAN_LEARN_ALL || turn + 1 == turns);
        while (at < learn->n && !learn->p[at]) at++;
        for (; at < learn->n && learn->p[at]; at++)
            if (!keep) learn->p[at] = 0;
        turn++;
    }
}

static const char *why_nothing(const struct dan_example *ex)
{
    if (ex->kind == DAN_EXAMPLE_TEXT) return ex->text_bytes ? "the text is a single token, which nothing comes before" : "the text is empty";
    return all_left_out(ex->messages) ? "every turn of the assistant is left out (\"weight\": 0 or \"train\": false)"
                                      : "no token of an assistant's turn is in what the template renders";
}

int dan_sft_row_of(const struct dan_example *ex, const struct dan_sft_data_opts *o, struct dan_chat_out *shown, struct dan_sft_row *out,
                    enum dan_skip *skip, struct dan_err *e)
{
    struct dan_chat_input in = {.messages = ex->messages, .tools = ex->tools, .has_now = o->has_now, .now = o->now};
    struct dan_chat_turns turns;
    *out = (struct dan_sft_row){.file = ex->file, .line = ex->line};
    *skip = DAN_SKIP_OTHER_KIND;
    if (ex->kind != DAN_EXAMPLE_TEXT && ex->kind != DAN_EXAMPLE_CHAT)
        return dan_fail(e, DAN_EINVAL, "line %lld of '%s' is of the kind '%s': expected a dialogue with an answer, or text", (long long)ex->line, ex->file,
                        dan_example_kind_name(ex->kind));
    *skip = DAN_SKIP_TEMPLATE;
    int rc = ex->kind == DAN_EXAMPLE_TEXT ? text_sequence(ex, o, out, e) : dan_chat_render(o->chat, &in, shown, e);
    if (!rc && ex->kind == DAN_EXAMPLE_CHAT) rc = dan_chat_mask(o->chat, &in, shown, &turns, e);
    if (!rc && ex->kind == DAN_EXAMPLE_CHAT) {
        choose_turns(ex->messages, o->learn, &shown->learn);
        rc = dan_sft_row_take(out, shown->ids.v, dan_str_c(&shown->learn), shown->ids.n, e);
    }
    if (!rc && out->n > o->longest) {
        *skip = DAN_SKIP_TOO_LONG;
        rc = dan_fail(e, DAN_EINVAL, "line %lld of '%s' has %lld tokens, more than %lld: it is not cut; raise --context or leave it out", (long long)ex->line,
                      ex->file, (long long)out->n, (long long)o->longest);
    } else if (!rc && !out->learnt) {
        *skip = DAN_SKIP_NOTHING;
        rc = dan_fail(e, DAN_EINVAL, "line %lld of '%s' has nothing to learn: %s", (long long)ex->line, ex->file, why_nothing(ex));
    }
    if (rc) dan_sft_row_release(out);
    return rc;
}

/* The file's name, kept: that of an example lives as long as its reader. */
static const char *keep_name(struct dan_sft_data *s, const char *name)
{
    if (s->n_files && !strcmp(s->file[s->n_files - 1], name)) return s->file[s->n_files - 1];
    char **more = dan_realloc(s->file, (s->n_files + 1) * sizeof *more), *copy = more ? dan_strdup(name) : NULL;
    if (more) s->file = more;
    if (!copy) return NULL;
    return s->file[s->n_files++] = copy;
}

int dan_sft_data_add(struct dan_sft_data *s, struct dan_sft_row *q, struct dan_err *e)
{
    if (!(q->file = keep_name(s, q->file)) || dan_vec_grow(&s->v, &s->cap, s->n + 1, sizeof *s->v)) {
        dan_sft_row_release(q);
        return no_memory(e);
    }
    s->v[s->n++] = *q;
    s->ids += q->n;
    s->learnt += q->learnt;
    return DAN_OK;
}

void dan_sft_data_skip(struct dan_sft_data *s, enum dan_skip why, const char *words)
{
    int64_t all = 0;
    s->skipped[why]++;
    for (int k = 0; k < DAN_N_SKIPS; k++) all += s->skipped[k];
    if (all <= TOLD) dan_str_printf(&s->told, "%s\n", words);
}

static int read_all(struct dan_examples *x, struct dan_sft_data *out, dan_sft_data_row *add, void *ctx, struct dan_err *e)
{
    for (;;) {
        struct dan_err why = {0};
        struct dan_example ex;
        enum dan_skip skip = DAN_SKIP_BAD_ROW;
        bool more;
        int rc = dan_examples_next(x, &ex, &more, &why);
        if (!more) return rc ? dan_fail(e, rc, "%s", why.msg) : DAN_OK;
        out->rows++;
        if (!rc) rc = add(ctx, &ex, &skip, &why);
        if (rc == DAN_ENOMEM) return dan_fail(e, rc, "%s", why.msg);
        if (rc) dan_sft_data_skip(out, skip, why.msg);
    }
}

int dan_sft_data_each(const char *const *paths, size_t n, const char *what, struct dan_sft_data *out, dan_sft_data_row *add, void *ctx, struct dan_err *e)
{
    struct dan_examples *x = NULL;
    int rc = dan_examples_open(paths, n, &x, e);
    if (!rc) rc = read_all(x, out, add, ctx, e);
    dan_examples_free(x);
    if (rc || out->n) return rc;
    const char *told = dan_str_c(&out->told);
    return dan_fail(e, DAN_EFORMAT, "none of %lld rows %s. The first: %.*s", (long long)out->rows, what, (int)strcspn(told, "\n"), told);
}

static int add_row(void *ctx, const struct dan_example *ex, enum dan_skip *skip, struct dan_err *e)
{
    const struct dan_sft_reading *r = ctx;
    struct dan_chat_out shown = {0};
    struct dan_sft_row q;
    int rc = dan_sft_row_of(ex, r->o, &shown, &q, skip, e);
    dan_chat_out_release(&shown);
    return rc ? rc : dan_sft_data_add(r->out, &q, e);
}

int dan_sft_data_read(const char *const *paths, size_t n, const struct dan_sft_data_opts *o, struct dan_sft_data *out, struct dan_err *e)
{
    struct dan_sft_reading r = {o, out};
    *out = (struct dan_sft_data){0};
    int rc = dan_sft_data_each(paths, n, "can be learnt from", out, add_row, &r, e);
    if (rc) dan_sft_data_release(out);
    return rc;
}

void dan_sft_data_release(struct dan_sft_data *s)
{
    for (size_t i = 0; i < s->n; i++) dan_sft_row_release(&s->v[i]);
    for (size_t i = 0; i < s->n_files; i++) dan_free(s->file[i]);
    dan_free(s->v);
    dan_free(s->file);
    dan_str_release(&s->told);
    *s = (struct dan_sft_data){0};
}
