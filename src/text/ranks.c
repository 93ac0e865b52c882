/* Rank BPE (tiktoken): a piece that is in the vocabulary is that token; otherwise the adjacent pair whose joined bytes have the lowest
 * rank, which is the id, becomes one, again and again, leftmost first.  It does not matter which two parts a token is joined from, so
 * every token has as many merges as it has cuts into two tokens; a list of merges (GPT-2) has one each.  The two algorithms give other
 * ids for few, but real, texts. */
#include <stdlib.h>
#include "base/mem.h"
#include "text/impl.h"

struct pair { int32_t left, right; };
struct pairs { struct pair *v; size_t n, cap; };

/* Hugging Face's converter of .tiktoken files orders the merges of a token so. */
static int by_parts(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    return x->left != y->left ? (x->left < y->left ? -1 : 1) : (x->right > y->right) - (x->right < y->right);
}

static int cuts_of(const struct dan_tokenizer *t, const char *p, size_t n, struct pairs *out)
{
    size_t before = out->n;
    for (size_t i = 1; i < n; i++) {
        int64_t left, right;
        if (!dan_map_get(t->by_bytes, p, i, &left) || !dan_map_get(t->by_bytes, p + i, n - i, &right)) continue;
        if (dan_vec_grow(&out->v, &out->cap, out->n + 1, sizeof *out->v) != 0) return -1;
        out->v[out->n++] = (struct pair){(int32_t)left, (int32_t)right};
    }
    if (out->n > before) qsort(out->v + before, out->n - before, sizeof *out->v, by_parts);
    return 0;
}

/* Two passes: the table's size is known after the first. */
int dan_tok_set_ranks(struct dan_tokenizer *t, struct dan_err *e)
{
    struct pairs all = {0};
    int32_t *of = NULL;                        /* of[k]: the token that pair k makes */
    size_t of_cap = 0;
    int bad = 0;
    for (int32_t id = 0; id < t->n_vocab && !bad; id++) {
        size_t n, before = all.n;
        int64_t found;
        const char *p = dan_tokenizer_token(t, id, &n);
        if (!p || n < 2 || !dan_map_get(t->by_bytes, p, n, &found) || found != id) continue;
        bad = cuts_of(t, p, n, &all) || dan_vec_grow(&of, &of_cap, all.n, sizeof *of);
        for (size_t k = before; k < all.n && !bad; k++) of[k] = id;
    }
    if (!bad) bad = dan_merges_new(t, all.n, (size_t)t->n_vocab);
    for (size_t k = 0; k < all.n && !bad; k++)
        dan_merges_put(t, (struct dan_merge){dan_pair_key(all.v[k].left, all.v[k].right), of[k], of[k]});
    for (int32_t id = 0; id < t->n_vocab && !bad; id++) t->merge_id[id] = id;
    if (!bad) t->merge_pair = all.n ? &all.v->left : NULL, t->n_merges = all.n;
    else dan_free(all.v);
    dan_free(of);
    t->ignore_merges = true;
    return bad ? dan_fail(e, DAN_ENOMEM, "out of memory for the merges of %d tokens", t->n_vocab) : DAN_OK;
}
