/* Encoding a text that comes in pieces.  What is given out ends at a place where every text with the same characters around it is
 * cut: between letters with one line feed or one space among them, behind the line feed, before the space.  The patterns of
 * byte-level BPE and BERT's pre-tokenizer begin a piece there whatever comes before or after, and no normal form reaches across.
 * Added tokens that could reach across such a place make everything wait for the end. */
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/impl.h"
#include "text/unicode.h"

struct dan_tok_stream {
    const struct dan_tokenizer *t;
    int  flags;
    bool bounded;
    struct dan_str held;
    size_t seen;                               /* of held: no sure place in it */
};

static bool is_letter_at(const char *p, size_t n, size_t i)
{
    int32_t cp;
    return i < n && (dan_utf8_next(p + i, n - i, &cp), dan_uni_is(DAN_UNI_LETTER, cp));
}

static bool letter_ends_at(const char *p, size_t i)
{
    size_t k = 1;
    while (k < 4 && k < i && ((unsigned char)p[i - k] & 0xC0) == 0x80) k++;
    return i >= k && is_letter_at(p, i, i - k);
}

static bool sure(const char *p, size_t n, size_t i)
{
    if (p[i - 1] == '\n') return i >= 2 && letter_ends_at(p, i - 1) && is_letter_at(p, n, i);
    return p[i] == ' ' && letter_ends_at(p, i) && is_letter_at(p, n, i + 1);
}

/* Could the token reach across a sure place, or take the white space beside it? */
static bool crosses(const struct dan_added *a)
{
    for (size_t i = 1; i < a->n; i++)
        if (sure(a->p, a->n, i)) return true;
    if (a->p[a->n - 1] == ' ' && a->n > 1 && letter_ends_at(a->p, a->n - 1)) return true;
    return a->lstrip || a->rstrip || a->single_word;
}

static bool bounded(const struct dan_tokenizer *t, int flags)
{
    if (t->kind != &dan_tok_bpe && t->kind != &dan_tok_wordpiece && t->kind != &dan_tok_bytes && t->kind != &dan_tok_char) return false;
    for (size_t i = 0; i < t->n_added; i++)
        if ((!t->added[i].special || flags & DAN_ENCODE_SPECIAL) && crosses(&t->added[i])) return false;
    return true;
}

int dan_tok_stream_new(const struct dan_tokenizer *t, int flags, struct dan_tok_stream **out, struct dan_err *e)
{
    struct dan_tok_stream *s = dan_calloc(1, sizeof *s);
    if (!s) return dan_fail(e, DAN_ENOMEM, "out of memory for a stream");
    s->t = t;
    s->flags = flags;
    s->bounded = bounded(t, flags);
    *out = s;
    return DAN_OK;
}

void dan_tok_stream_free(struct dan_tok_stream *s)
{
    if (!s) return;
    dan_str_release(&s->held);
    dan_free(s);
}

/* The last sure place in held, 0: none.  The last 8 bytes may be half a character and what follows is not known. */
static size_t last_place(const struct dan_tok_stream *s)
{
    size_t n = s->held.n;
    if (n < 16) return 0;
    for (size_t i = n - 8; i > 0 && i > s->seen; i--)
        if (sure(s->held.p, n, i)) return i;
    return 0;
}

/* Ids up to a sure place: a line feed alone is a piece, whether a letter or nothing follows. */
static int give(struct dan_tok_stream *s, size_t n, struct dan_ids *out, struct dan_err *e)
{
    int r = dan_encode_all(s->t, NULL, s->held.p, n, s->flags, out, e);
    memmove(s->held.p, s->held.p + n, s->held.n - n);
    s->held.n -= n;
    return r;
}

int dan_tok_stream_push(struct dan_tok_stream *s, const char *bytes, size_t n, struct dan_ids *out, struct dan_err *e)
{
    dan_str_append(&s->held, bytes, n);
    if (s->held.failed) return dan_fail(e, DAN_ENOMEM, "out of memory for %zu bytes of a stream", s->held.n);
    if (!s->bounded || s->held.n < 1 << 16) return DAN_OK;         /* small pieces are gathered */
    size_t place = last_place(s);
    s->seen = place ? 0 : s->held.n > 16 ? s->held.n - 16 : 0;
    return place ? give(s, place, out, e) : DAN_OK;
}

int dan_tok_stream_finish(struct dan_tok_stream *s, struct dan_ids *out, struct dan_err *e)
{
    s->seen = 0;
    return s->held.n ? give(s, s->held.n, out, e) : DAN_OK;
}
