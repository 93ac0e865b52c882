#include "text/jinja_ids.h"
#include <string.h>

struct special { const char *p; size_t n; int32_t id; };

/* The longest special token that stands at byte i, wholly in the template's bytes. */
static struct special special_at(const struct dan_tokenizer *t, const struct dan_jinja_out *r, size_t i)
{
    struct special best = {.id = -1};
    int32_t id;
    for (size_t k = 0; (id = dan_tokenizer_added(t, k)) >= 0; k++) {
        size_t n;
        const char *p = dan_tokenizer_is_special(t, id) ? dan_tokenizer_token(t, id, &n) : NULL;
        if (!p || n <= best.n || n > r->text.n - i || memcmp(p, r->text.p + i, n)) continue;
        if (!memchr(r->mark.p + i, 1, n)) best = (struct special){.p = p, .n = n, .id = id};
    }
    return best;
}

int dan_jinja_ids(const struct dan_tokenizer *t, const struct dan_jinja_out *r, int flags, struct dan_ids *out, struct dan_err *e)
{
    size_t from = 0;
    int rc = DAN_OK;
    flags &= ~DAN_ENCODE_SPECIAL;
    for (size_t i = 0; i < r->text.n && !rc;) {
        struct special s = r->mark.p[i] ? (struct special){.id = -1} : special_at(t, r, i);
        i += s.id < 0 ? 1 : s.n;
        if (s.id < 0) continue;
        if (i - s.n > from) rc = dan_tokenizer_encode(t, r->text.p + from, i - s.n - from, flags, out, e);
        if (!rc) rc = dan_tokenizer_encode(t, s.p, s.n, flags | DAN_ENCODE_SPECIAL, out, e);
        from = i;
    }
    if (!rc && r->text.n > from) rc = dan_tokenizer_encode(t, r->text.p + from, r->text.n - from, flags, out, e);
    if (!rc && out->failed) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for a chat of %zu bytes", r->text.n);
    return rc;
}
