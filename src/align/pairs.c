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

static int add_pair(const struct dan_example *ex, const struct dan_sft_data_opts *o, struct dan_sft_data *out, enum dan_skip *skip, struct dan_err *e)
{
    struct dan_sft_row a = {0}, b = {0};
    *skip = DAN_SKIP_OTHER_KIND;
    if (ex->kind != DAN_EXAMPLE_PAIR)
        return dan_fail(e, DAN_EINVAL, "line %lld of '%s' is a %s: expected a preference pair (chosen and rejected)", (long long)ex->line, ex->file,
                        dan_example_kind_name(ex->kind));
    int rc = dan_answer_row(ex, DAN_CHOSEN, o, &a, skip, e);
    if (!rc) rc = dan_answer_row(ex, DAN_REJECTED, o, &b, skip, e);
    if (rc) {
        dan_sft_row_release(&a);
        return rc;
    }
    rc = dan_sft_data_add(out, &a, e);
    if (rc) dan_sft_row_release(&b);
    return rc ? rc : dan_sft_data_add(out, &b, e);
}

int dan_pairs_read(const char *const *paths, size_t n, const struct dan_sft_data_opts *o, struct dan_sft_data *out, struct dan_err *e)
{
    struct dan_examples *x = NULL;
    bool more = true;
    *out = (struct dan_sft_data){0};
    int rc = dan_examples_open(paths, n, &x, e);
    while (!rc) {
        struct dan_err why = {0};
        struct dan_example ex;
        enum dan_skip skip = DAN_SKIP_BAD_ROW;
        int bad = dan_examples_next(x, &ex, &more, &why);
        if (!more) {
            if (bad) rc = dan_fail(e, bad, "%s", why.msg);
            break;
        }
        out->rows++;
        if (!bad) bad = add_pair(&ex, o, out, &skip, &why);
        if (bad == DAN_ENOMEM) rc = dan_fail(e, bad, "%s", why.msg);
        else if (bad) dan_sft_data_skip(out, skip, why.msg);
    }
    dan_examples_free(x);
    if (!rc && out->n == 0)
        rc = dan_fail(e, DAN_EFORMAT, "none of %lld rows is a pair that can be learnt from. The first: %.*s", (long long)out->rows,
                      (int)strcspn(dan_str_c(&out->told), "\n"), dan_str_c(&out->told));
    if (rc) dan_sft_data_release(out);
    return rc;
}

int dan_pairs_hold_out(struct dan_sft_data *from, double share, struct dan_sft_data *held, struct dan_err *e)
{
    size_t every = share > 0 ? (size_t)(1 / share + 0.5) : 0, kept = 0, n = from->n / 2;
    int rc = DAN_OK;
    *held = (struct dan_sft_data){0};
    if (!every || n < 2 * every) return DAN_OK;
    for (size_t i = 0; i < n; i++) {
        struct dan_sft_row pair[2] = {from->v[2 * i], from->v[2 * i + 1]};
        bool out = i % every == every - 1 && !rc;
        for (int k = 0; k < 2; k++) {
            if (out) rc = rc ? rc : dan_sft_data_add(held, &pair[k], e);
            else from->v[kept++] = pair[k];
        }
    }
    from->n = kept;
    dan_sft_data_count(from);
    if (rc) dan_sft_data_release(held);
    return rc;
}
