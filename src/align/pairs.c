#include <string.h>
#include "align/pairs.h"
#include "align/sft_data_impl.h"
#include "base/mem.h"

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for preference data"); }

/* Prompt and answer as one dialogue of which the answer alone is learnt. */
static json_t *dialogue(const struct dan_example *ex, size_t which)
{
    json_t *all = json_deep_copy(ex->messages), *m;
    size_t i;
    json_array_foreach(all, i, m) json_object_set_new(m, "train", json_false());
    if (all && json_array_extend(all, json_array_get(ex->answers, which))) {
        json_decref(all);
        return NULL;
    }
    return all;
}

int dan_answer_row(const struct dan_example *ex, size_t which, const struct dan_sft_data_opts *o, struct dan_sft_row *out, enum dan_skip *skip, struct dan_err *e)
{
    struct dan_example one = *ex;
    struct dan_chat_out shown = {0};
    one.kind = DAN_EXAMPLE_CHAT;
    one.messages = dialogue(ex, which);
    int rc = one.messages ? dan_sft_row_of(&one, o, &shown, out, skip, e) : no_memory(e);
    dan_chat_out_release(&shown);
    json_decref(one.messages);
    return rc;
}

static bool is_blank(const json_t *content)
{
    const char *p = json_string_value(content);
    return json_is_null(content) || (p && strspn(p, " \t\r\n") == json_string_length(content));
}

int dan_check_answer(const struct dan_example *ex, size_t which, enum dan_skip *skip, struct dan_err *e)
{
    const json_t *answer = json_array_get(ex->answers, which), *last = json_array_get(answer, json_array_size(answer) - 1);
    *skip = DAN_SKIP_NOTHING;
    if (!is_blank(json_object_get(last, "content")) || json_object_get(last, "tool_calls")) return DAN_OK;
    return dan_fail(e, DAN_EINVAL, "line %lld of '%s' has an empty answer (number %zu): there is nothing to learn", (long long)ex->line, ex->file, which + 1);
}

static bool alike(const struct dan_sft_row *a, const struct dan_sft_row *b) { return a->n == b->n && !memcmp(a->ids, b->ids, (size_t)a->n * sizeof *a->ids); }

static int add_copy(const struct dan_sft_row *r, struct dan_sft_data *out, struct dan_err *e)
{
    struct dan_sft_row copy = {.file = r->file, .line = r->line};
    int rc = dan_sft_row_take(&copy, r->ids, (const char *)r->learn, (size_t)r->n, e);
    if (rc) dan_sft_row_release(&copy);
    return rc ? rc : dan_sft_data_add(out, &copy, e);
}

/* Answer i is better than j where its rank is lower; a pair's chosen answer is its first. */
static int64_t rank_of(const struct dan_example *ex, size_t i) { return ex->ranks ? json_integer_value(json_array_get(ex->ranks, i)) : (int64_t)i; }

static int add_pairs_of(const struct dan_example *ex, const struct dan_sft_row *row, size_t n, struct dan_sft_data *out, struct dan_err *e)
{
    size_t before = out->n;
    int rc = DAN_OK;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n && !rc; j++) {
            if (rank_of(ex, i) >= rank_of(ex, j) || alike(&row[i], &row[j])) continue;
            rc = add_copy(&row[i], out, e);
            if (!rc) rc = add_copy(&row[j], out, e);
        }
    if (!rc && out->n == before)
        rc = dan_fail(e, DAN_EINVAL, "line %lld of '%s' prefers nothing: its answers %s", (long long)ex->line, ex->file,
                      ex->ranks ? "have the same rank, or are the same as the template renders them" : "are the same as the template renders them");
    return rc;
}

/* All pairs of different rank; none where one of the answers cannot be learnt. */
static int add_pairs(void *ctx, const struct dan_example *ex, enum dan_skip *skip, struct dan_err *e)
{
    const struct dan_sft_reading *r = ctx;
    struct dan_sft_row row[DAN_MOST_ANSWERS] = {0};
    size_t n = ex->answers ? json_array_size(ex->answers) : 0, made = 0;
    int rc = DAN_OK;
    *skip = DAN_SKIP_OTHER_KIND;
    if (ex->kind != DAN_EXAMPLE_PAIR && ex->kind != DAN_EXAMPLE_RANKED)
        return dan_fail(e, DAN_EINVAL, "line %lld of '%s' is of the kind '%s': expected a preference pair (chosen and rejected) or ranked answers", (long long)ex->line,
                        ex->file, dan_example_kind_name(ex->kind));
    if (n > DAN_MOST_ANSWERS) return dan_fail(e, DAN_EINVAL, "line %lld of '%s' ranks %zu answers: at most %d", (long long)ex->line, ex->file, n, DAN_MOST_ANSWERS);
    while (made < n && !rc) {
        rc = dan_check_answer(ex, made, skip, e);
        if (!rc) rc = dan_answer_row(ex, made, r->o, &row[made], skip, e);
        made += !rc;
    }
    if (!rc) {
        *skip = DAN_SKIP_NOTHING;
        rc = add_pairs_of(ex, row, n, r->out, e);
    }
    while (made) dan_sft_row_release(&row[--made]);
    return rc;
}

int dan_pairs_read(const char *const *paths, size_t n, const struct dan_sft_data_opts *o, struct dan_sft_data *out, struct dan_err *e)
{
    struct dan_sft_reading r = {o, out};
    *out = (struct dan_sft_data){0};
    int rc = dan_sft_data_each(paths, n, "is a pair that can be learnt from", out, add_pairs, &r, e);
    if (rc) dan_sft_data_release(out);
    return rc;
}

/* Pairs of one row of the data, which share a prompt. */
static size_t run_of(const struct dan_sft_data *d, size_t pair)
{
    const struct dan_sft_row *v = d->v + 2 * pair;
    size_t n = 1;
    while (2 * (pair + n) < d->n && v[2 * n].line == v->line && v[2 * n].file == v->file) n++;
    return n;
}

int dan_pairs_hold_out(struct dan_sft_data *from, double share, struct dan_sft_data *held, struct dan_err *e)
{
    size_t every = share > 0 ? (size_t)(1 / share + 0.5) : 0, kept = 0, rows = 0, row = 0;
    int rc = DAN_OK;
    *held = (struct dan_sft_data){0};
    for (size_t i = 0; 2 * i < from->n; i += run_of(from, i)) rows++;
    if (!every || rows < 2 * every) return DAN_OK;
    for (size_t i = 0, n; 2 * i < from->n; i += n, row++) {
        bool out = row % every == every - 1 && !rc;
        n = run_of(from, i);
        for (size_t k = 2 * i; k < 2 * (i + n); k++) {
            struct dan_sft_row r = from->v[k];
            if (out) rc = rc ? rc : dan_sft_data_add(held, &r, e);
            else from->v[kept++] = r;
        }
    }
    from->n = kept;
    dan_sft_data_count(from);
    if (rc) dan_sft_data_release(held);
    return rc;
}
