/* Unicode normal forms (UAX 15) that keep track of where each character came from, as the crate
 * unicode-normalization-alignments does: the first character of a decomposition stands for the original, the others are
 * inserted; a composition takes the place of both parts. */
#include <string.h>
#include "base/mem.h"
#include "text/normal.h"
#include "text/unicode.h"

struct mark { int32_t cp; int class, change; };
struct forming {
    struct dan_change c;
    bool compat, compose;
    struct mark *wait;                         /* characters in canonical order, not given out yet */
    size_t n, cap;
    bool failed;
};

static void put(struct forming *f, const struct mark *m) { dan_change_put(&f->c, m->cp, m->change); }

/* The run that begins with a starter is complete: compose, and give out all but what may still compose. */
static void compose(struct forming *f, bool last)
{
    size_t m = 0, from = 0;
    if (f->n == 0) return;
    while (from < f->n && f->wait[from].class) put(f, &f->wait[from++]);   /* marks with nothing to stand on */
    if (from == f->n) {
        f->n = 0;
        return;
    }
    struct mark *base = &f->wait[from];
    int before = -1;                           /* class of the last mark that stayed */
    for (size_t i = from + 1; i < f->n; i++) {
        struct mark *k = &f->wait[i];
        int32_t both = before < k->class || before == -1 ? dan_uni_compose(base->cp, k->cp) : -1;
        if (both >= 0) {
            base->cp = both;
            base->change += k->change - 1;
        } else if (k->class == 0) {
            put(f, base);
            for (size_t j = 0; j < m; j++) put(f, &f->wait[from + 1 + j]);
            f->wait[from] = *k;
            m = 0, before = -1;
            continue;
        } else {
            f->wait[from + 1 + m++] = *k;
            before = k->class;
        }
    }
    if (!last && m == 0) {                     /* a lone starter may compose with the next */
        f->wait[0] = f->wait[from];
        f->n = 1;
        return;
    }
    for (size_t j = 0; j <= m; j++) put(f, &f->wait[from + j]);
    f->n = 0;
}

static void flush(struct forming *f, bool last)
{
    for (size_t i = 1; i < f->n; i++)          /* stable: insertion, runs of marks are short */
        for (size_t j = i; j > 0 && f->wait[j].class && f->wait[j - 1].class > f->wait[j].class; j--) {
            struct mark t = f->wait[j];
            f->wait[j] = f->wait[j - 1];
            f->wait[j - 1] = t;
        }
    if (f->compose) {
        compose(f, last);
        return;
    }
    for (size_t i = 0; i < f->n; i++) put(f, &f->wait[i]);
    f->n = 0;
}


enum { LONG_RUN = 256 };                       /* hostile runs of marks: sorted by counting, not by insertion */

static void sort_long(struct forming *f)
{
    size_t from = f->wait[0].class ? 0 : 1, n = f->n - from, at = 0;
    struct mark *sorted = dan_malloc((n + 1) * sizeof *sorted);
    if (!sorted) {
        f->failed = true;
        return;
    }
    for (int k = 0; k < 256; k++)
        for (size_t i = 0; i < n; i++)
            if (f->wait[from + i].class == k) sorted[at++] = f->wait[from + i];
    memcpy(f->wait + from, sorted, n * sizeof *sorted);
    dan_free(sorted);
}

static void add(struct forming *f, int32_t cp, int change)
{
    int class = cp < 0 ? 0 : dan_uni_class(cp);
    if (class == 0 && f->n) {
        if (f->n > LONG_RUN) sort_long(f);
        flush(f, cp < 0);
    }
    if (f->failed || dan_vec_grow(&f->wait, &f->cap, f->n + 1, sizeof *f->wait) != 0) {
        f->failed = true;
        return;
    }
    f->wait[f->n++] = (struct mark){cp, class, change};
}

void dan_form_apply(enum dan_form form, const struct dan_flow *in, struct dan_flow *out)
{
    struct forming f = {.c = {in, out, 0, in->s.n}, .compat = form == DAN_FORM_NFKD || form == DAN_FORM_NFKC,
                        .compose = form == DAN_FORM_NFC || form == DAN_FORM_NFKC};
    int32_t cp, part[DAN_UNI_MOST];
    for (size_t i = 0; i < in->s.n && !f.failed;) {
        i += dan_flow_char(in->s.p + i, in->s.n - i, &cp);
        int m = cp < 0 ? (part[0] = cp, 1) : dan_uni_decompose(cp, f.compat, part, DAN_UNI_MOST);
        for (int k = 0; k < m; k++) add(&f, part[k], k > 0);
    }
    if (f.n > LONG_RUN) sort_long(&f);
    flush(&f, true);
    dan_free(f.wait);
    out->failed = out->failed || f.failed;
}
