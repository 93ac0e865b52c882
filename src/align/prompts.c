#include "align/prompts.h"
#include <string.h>
#include "base/mem.h"

enum { TOLD = 5 };

const char *dan_prompt_skip_name(enum dan_prompt_skip s)
{
    static const char *const names[] = {"bad row", "refused by the template", "too long", "empty"};
    return names[s];
}

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for prompts"); }

static void release_one(struct dan_prompt *p)
{
    dan_free(p->ids);
    dan_free(p->last);
    json_decref(p->row);
    json_decref(p->messages);
    *p = (struct dan_prompt){0};
}

static bool is_assistant(const json_t *m)
{
    const char *role = json_string_value(json_object_get(m, "role"));
    return role && !strcmp(role, "assistant");
}

/* What a dialogue says before its answer: without the turns of the assistant at its end. */
static json_t *before_answer(const json_t *messages)
{
    json_t *all = json_copy((json_t *)(uintptr_t)messages);
    while (json_array_size(all) && is_assistant(json_array_get(all, json_array_size(all) - 1)))
        if (json_array_remove(all, json_array_size(all) - 1)) break;
    return all;
}

static const char *last_text(const json_t *messages)
{
    size_t n = json_array_size(messages);
    const char *text = json_string_value(json_object_get(json_array_get(messages, n ? n - 1 : 0), "content"));
    return text ? text : "";
}

static int take_ids(struct dan_prompt *p, const struct dan_ids *ids, struct dan_err *e)
{
    if (ids->failed || !(p->ids = dan_malloc((ids->n + 1) * sizeof *p->ids))) return no_memory(e);
    if (ids->n) memcpy(p->ids, ids->v, ids->n * sizeof *p->ids);
    p->n = (int64_t)ids->n;
    return DAN_OK;
}

/* As the beginning of a document of pre-training; of an empty one: the boundary between documents. */
static int encode_text(const struct dan_prompts_opts *o, const char *text, size_t n, struct dan_prompt *p, struct dan_err *e)
{
    struct dan_ids ids = {0};
    const struct dan_ids *before = dan_tokenizer_before(o->tok);
    int32_t eos = dan_tokenizer_eos(o->tok);
    for (size_t i = 0; i < before->n; i++) dan_ids_push(&ids, before->v[i]);
    int rc = dan_tokenizer_encode(o->tok, text, n, DAN_ENCODE_UNK, &ids, e);
    if (!ids.n && eos >= 0) dan_ids_push(&ids, eos);
    if (!rc) rc = take_ids(p, &ids, e);
    dan_ids_release(&ids);
    return rc;
}

static int encode_dialogue(const struct dan_prompts_opts *o, const struct dan_example *ex, struct dan_prompt *p, struct dan_err *e)
{
    struct dan_chat_input in = {.messages = p->messages, .tools = ex->tools, .open = true, .has_now = o->has_now, .now = o->now};
    struct dan_chat_out shown = {0};
    int rc = dan_chat_render(o->chat, &in, &shown, e);
    if (!rc) rc = take_ids(p, &shown.ids, e);
    dan_chat_out_release(&shown);
    return rc;
}

static int fill(const struct dan_example *ex, const struct dan_prompts_opts *o, struct dan_prompt *p, enum dan_prompt_skip *skip, struct dan_err *e)
{
    bool text = ex->kind == DAN_EXAMPLE_TEXT;
    p->row = json_incref((json_t *)(uintptr_t)ex->row);
    if (!text && !(p->messages = before_answer(ex->messages))) return no_memory(e);
    const char *last = text ? ex->text : last_text(p->messages);
    size_t n = text ? ex->text_bytes : strlen(last);
    if (!(p->last = dan_malloc(n + 1))) return no_memory(e);
    memcpy(p->last, last, n);
    p->last[n] = 0;
    *skip = DAN_PROMPT_EMPTY;
    if (!text && !json_array_size(p->messages))
        return dan_fail(e, DAN_EINVAL, "line %lld of '%s' has no message before the assistant's: expected a prompt", (long long)ex->line, ex->file);
    *skip = DAN_PROMPT_TEMPLATE;
    return text || o->raw ? encode_text(o, last, n, p, e) : encode_dialogue(o, ex, p, e);
}

static int prompt_of(const struct dan_example *ex, const struct dan_prompts_opts *o, struct dan_prompt *p, enum dan_prompt_skip *skip, struct dan_err *e)
{
    *p = (struct dan_prompt){.file = ex->file, .line = ex->line};
    int rc = fill(ex, o, p, skip, e);
    if (!rc && !p->n) {
        *skip = DAN_PROMPT_EMPTY;
        rc = dan_fail(e, DAN_EINVAL, "line %lld of '%s' is an empty prompt: it has no token", (long long)ex->line, ex->file);
    } else if (!rc && p->n > o->longest) {
        *skip = DAN_PROMPT_TOO_LONG;
        rc = dan_fail(e, DAN_EINVAL, "line %lld of '%s' has %lld tokens, more than the %lld that leave room for the answer: it is not cut; raise --context, lower --max-new, or leave it out",
                      (long long)ex->line, ex->file, (long long)p->n, (long long)o->longest);
    }
    if (rc) release_one(p);
    return rc;
}

static const char *keep_name(struct dan_prompts *s, const char *name)
{
    if (s->n_files && !strcmp(s->file[s->n_files - 1], name)) return s->file[s->n_files - 1];
    char **more = dan_realloc(s->file, (s->n_files + 1) * sizeof *more), *copy = more ? dan_strdup(name) : NULL;
    if (more) s->file = more;
    if (!copy) return NULL;
    return s->file[s->n_files++] = copy;
}

static int add(struct dan_prompts *s, struct dan_prompt *p, struct dan_err *e)
{
    if (!(p->file = keep_name(s, p->file)) || dan_vec_grow(&s->v, &s->cap, s->n + 1, sizeof *s->v)) {
        release_one(p);
        return no_memory(e);
    }
    s->v[s->n++] = *p;
    s->ids += p->n;
    if (p->n > s->longest) s->longest = p->n;
    return DAN_OK;
}

static void count_skip(struct dan_prompts *s, enum dan_prompt_skip why, const char *words)
{
    int64_t all = 0;
    s->skipped[why]++;
    for (int k = 0; k < DAN_N_PROMPT_SKIPS; k++) all += s->skipped[k];
    if (all <= TOLD) dan_str_printf(&s->told, "%s\n", words);
}

static int read_all(struct dan_examples *x, const struct dan_prompts_opts *o, struct dan_prompts *s, struct dan_err *e)
{
    for (;;) {
        struct dan_err why = {0};
        struct dan_example ex;
        struct dan_prompt p;
        enum dan_prompt_skip skip = DAN_PROMPT_BAD_ROW;
        bool more;
        int rc = dan_examples_next(x, &ex, &more, &why);
        if (!more) return rc ? dan_fail(e, rc, "%s", why.msg) : DAN_OK;
        s->rows++;
        if (!rc) rc = prompt_of(&ex, o, &p, &skip, &why);
        if (rc == DAN_ENOMEM) return dan_fail(e, rc, "%s", why.msg);
        if (rc) {
            count_skip(s, skip, why.msg);
            continue;
        }
        p.index = s->rows - 1;
        rc = add(s, &p, e);
        if (rc) return rc;
    }
}

/* A template that leaves the assistant's turns out has no place for an answer. */
static int check_template(const struct dan_prompts_opts *o, struct dan_err *e)
{
    json_t *dialogue = json_pack("[{s:s,s:s},{s:s,s:s}]", "role", "user", "content", "question", "role", "assistant", "content", "answer");
    struct dan_chat_input in = {.messages = dialogue, .has_now = o->has_now, .now = o->now};
    struct dan_chat_out shown = {0};
    struct dan_chat_turns turns;
    int rc = dialogue ? dan_chat_render(o->chat, &in, &shown, e) : no_memory(e);
    if (!rc) rc = dan_chat_mask(o->chat, &in, &shown, &turns, e);
    if (!rc && turns.lost)
        rc = dan_fail(e, DAN_EINVAL, "the chat template renders no turn of the assistant, so there is nothing to answer with; choose another --template, or give rows with 'text'");
    dan_chat_out_release(&shown);
    json_decref(dialogue);
    return rc;
}

int dan_prompts_read(const char *const *paths, size_t n, const struct dan_prompts_opts *o, struct dan_prompts *out, struct dan_err *e)
{
    struct dan_examples *x = NULL;
    *out = (struct dan_prompts){0};
    int rc = dan_examples_open(paths, n, &x, e);
    if (!rc) rc = read_all(x, o, out, e);
    dan_examples_free(x);
    if (!rc && out->n == 0)
        rc = dan_fail(e, DAN_EFORMAT, out->rows ? "none of %lld rows is a prompt. The first: %.*s" : "there are %lld rows in the data: no prompts%.*s", (long long)out->rows,
                      (int)strcspn(dan_str_c(&out->told), "\n"), dan_str_c(&out->told));
    bool dialogue = false;
    for (size_t i = 0; i < out->n && !rc && !o->raw && !dialogue; i++) dialogue = out->v[i].messages != NULL;
    if (!rc && dialogue) rc = check_template(o, e);
    if (rc) dan_prompts_release(out);
    return rc;
}

void dan_prompts_release(struct dan_prompts *p)
{
    for (size_t i = 0; i < p->n; i++) release_one(&p->v[i]);
    for (size_t i = 0; i < p->n_files; i++) dan_free(p->file[i]);
    dan_free(p->v);
    dan_free(p->file);
    dan_str_release(&p->told);
    *p = (struct dan_prompts){0};
}

static void count(struct dan_prompts *p)
{
    p->ids = p->longest = 0;
    for (size_t i = 0; i < p->n; i++) {
        p->ids += p->v[i].n;
        if (p->v[i].n > p->longest) p->longest = p->v[i].n;
    }
}

int dan_prompts_hold_out(struct dan_prompts *from, double share, size_t most, struct dan_prompts *held, struct dan_err *e)
{
    size_t every = share > 0 ? (size_t)(1 / share + 0.5) : 0, kept = 0, n = from->n;
    int rc = DAN_OK;
    *held = (struct dan_prompts){0};
    if (!every || n < 2 * every) return DAN_OK;
    for (size_t i = 0; i < n; i++) {
        bool out = !rc && i % every == every - 1 && (!most || held->n < most);
        if (out) {
            struct dan_prompt p = from->v[i];
            rc = add(held, &p, e);
        } else {
            from->v[kept++] = from->v[i];
        }
    }
    from->n = kept;
    count(from);
    if (rc) dan_prompts_release(held);
    return rc;
}
