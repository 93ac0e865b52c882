#include <string.h>
#include "text/impl.h"

/* Added tokens that are not special ("<think>") are vocabulary: they match in every text.  Special ones
 * only when the caller allows it. */
const struct dan_added *dan_added_find(const struct dan_tokenizer *t, const char *p, size_t n, size_t from, int flags, size_t *at)
{
    bool special = flags & DAN_ENCODE_SPECIAL;
    if (t->n_added == 0 || (!special && !t->ordinary_added)) return NULL;
    for (size_t i = from; i < n; i++) {
        if (!t->added_begins[(unsigned char)p[i]]) continue;
        for (size_t k = 0; k < t->n_added; k++) {
            const struct dan_added *a = &t->by_length[k];
            if (a->p[0] != p[i] || a->n > n - i || (a->special && !special) || memcmp(a->p, p + i, a->n) != 0) continue;
            *at = i;
            return a;
        }
    }
    return NULL;
}
