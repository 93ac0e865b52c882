#include <string.h>
#include "align/sft_data_impl.h"
#include "base/mem.h"
#include "data/text.h"

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for text"); }

/* A document as the model sees one: its beginning, the text, eos. */
static int encode(const struct dan_tokenizer *tok, const struct dan_document *doc, struct dan_ids *ids, struct dan_err *e)
{
    const struct dan_ids *before = dan_tokenizer_before(tok);
    int32_t eos = dan_tokenizer_eos(tok);
    ids->n = 0;
    for (size_t i = 0; i < before->n; i++) dan_ids_push(ids, before->v[i]);
    int rc = dan_tokenizer_encode(tok, doc->p, doc->n, DAN_ENCODE_UNK, ids, e);
    if (eos >= 0) dan_ids_push(ids, eos);
    return rc ? rc : ids->failed ? no_memory(e) : DAN_OK;
}

static int add_windows(struct dan_sft_data *s, const struct dan_ids *ids, const struct dan_document *doc, int64_t longest, struct dan_err *e)
{
    for (size_t at = 0; at + 1 < ids->n; at += (size_t)longest) {
        size_t n = ids->n - at < (size_t)longest ? ids->n - at : (size_t)longest;
        struct dan_sft_row q = {.file = doc->file, .line = doc->line};
        if (n < 2) break;
        int rc = dan_sft_row_take(&q, ids->v + at, NULL, n, e);
        if (rc) dan_sft_row_release(&q);
        else rc = dan_sft_data_add(s, &q, e);
        if (rc) return rc;
    }
    return DAN_OK;
}

void dan_sft_data_count(struct dan_sft_data *s)
{
    s->ids = s->learnt = 0;
    for (size_t i = 0; i < s->n; i++) {
        s->ids += s->v[i].n;
        s->learnt += s->v[i].learnt;
    }
}

/* Keeps `most` of them, evenly spread. */
static void thin(struct dan_sft_data *s, int64_t most)
{
    size_t kept = 0, n = s->n;
    if (most <= 0 || n <= (size_t)most) return;
    for (size_t i = 0; i < n; i++) {
        if (kept < (size_t)most && i == kept * n / (size_t)most) s->v[kept++] = s->v[i];
        else dan_sft_row_release(&s->v[i]);
    }
    s->n = kept;
    dan_sft_data_count(s);
}

int dan_sft_data_text(const char *const *paths, size_t n, const struct dan_tokenizer *tok, int64_t longest, int64_t max_windows,
                       struct dan_sft_data *out, struct dan_err *e)
{
    struct dan_text *text = NULL;
    struct dan_document doc;
    struct dan_ids ids = {0};
    *out = (struct dan_sft_data){0};
    int rc = dan_text_open(paths, n, NULL, &text, e);
    while (!rc && !(rc = dan_text_next(text, &doc, e)) && doc.p) {
        out->rows++;
        rc = encode(tok, &doc, &ids, e);
        if (!rc) rc = add_windows(out, &ids, &doc, longest, e);
    }
    dan_ids_release(&ids);
    dan_text_free(text);
    if (!rc && !out->n) rc = dan_fail(e, DAN_EFORMAT, "there is no text in '%s'", paths[0]);
    if (rc) dan_sft_data_release(out);
    else thin(out, max_windows);
    return rc;
}

int64_t dan_sft_data_longest(const struct dan_sft_data *s, int64_t least)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i].n > least) least = s->v[i].n;
    return least;
}

int dan_sft_data_hold_out(struct dan_sft_data *from, double share, struct dan_sft_data *held, struct dan_err *e)
{
    size_t every = share > 0 ? (size_t)(1 / share + 0.5) : 0, kept = 0, n = from->n;
    *held = (struct dan_sft_data){0};
    if (!every || n < 2 * every) return DAN_OK;
    for (size_t i = 0; i < n; i++) {
        if (i % every != every - 1) {
            from->v[kept++] = from->v[i];
            continue;
        }
        struct dan_sft_row q = from->v[i];
        int rc = dan_sft_data_add(held, &q, e);
        if (rc) {
            for (i++; i < n; i++) from->v[kept++] = from->v[i];
            from->n = kept;
            dan_sft_data_release(held);
            return rc;
        }
    }
    from->n = kept;
    dan_sft_data_count(from);
    return DAN_OK;
}
