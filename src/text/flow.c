#include "text/flow.h"
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"

size_t dan_flow_char(const char *p, size_t n, int32_t *cp)
{
    if ((unsigned char)*p < 0x80) return *cp = *p, 1;
    return (size_t)dan_utf8_next(p, n, cp);
}

size_t dan_flow_encode(int32_t cp, char out[4])
{
    if (cp < 0) return out[0] = (char)(unsigned char)(-1 - cp), 1;
    return (size_t)dan_utf8_put(cp, out);
}

void dan_flow_release(struct dan_flow *f)
{
    dan_str_release(&f->s);
    dan_free(f->at);
    *f = (struct dan_flow){0};
}

void dan_flow_clear(struct dan_flow *f) { dan_str_clear(&f->s); }

static bool room(struct dan_flow *f, size_t more)
{
    if (f->failed) return false;
    if (f->track && dan_vec_grow(&f->at, &f->at_cap, f->s.n + more, sizeof *f->at) != 0) f->failed = true;
    return !f->failed;
}

void dan_flow_put(struct dan_flow *f, const char *p, size_t n, struct dan_span where)
{
    if (!room(f, n)) return;
    if (f->track)
        for (size_t i = 0; i < n; i++) f->at[f->s.n + i] = where;
    dan_str_append(&f->s, p, n);
    f->failed = f->failed || f->s.failed;
}

void dan_flow_set(struct dan_flow *f, const char *p, size_t n, size_t from)
{
    dan_flow_clear(f);
    f->base = from;
    if (!f->track) {
        dan_flow_put(f, p, n, (struct dan_span){0, 0});
        return;
    }
    int32_t cp;
    for (size_t i = 0, k; i < n; i += k) {
        k = dan_flow_char(p + i, n - i, &cp);
        dan_flow_put(f, p + i, k, (struct dan_span){from + i, from + i + k});
    }
}

void dan_flow_copy(struct dan_flow *f, const struct dan_flow *of, size_t from, size_t to)
{
    if (to <= from || !room(f, to - from)) return;
    if (f->track) memcpy(f->at + f->s.n, of->at + from, (to - from) * sizeof *f->at);
    dan_str_append(&f->s, of->s.p + from, to - from);
    f->failed = f->failed || f->s.failed;
}

int dan_flow_check(const struct dan_flow *f, struct dan_err *e)
{
    return f->failed ? dan_fail(e, DAN_ENOMEM, "out of memory to normalise a text of %zu bytes", f->s.n) : DAN_OK;
}

struct dan_span dan_flow_where(const struct dan_flow *f, size_t from, size_t to)
{
    if (!f->track || from >= to || to > f->s.n) return (struct dan_span){f->base, f->base};
    return (struct dan_span){f->at[from].from, f->at[to - 1].to};
}

void dan_change_skip(struct dan_change *c, size_t chars)
{
    int32_t cp;
    while (chars-- && c->at < c->to) c->at += dan_flow_char(c->in->s.p + c->at, c->to - c->at, &cp);
}

void dan_change_put(struct dan_change *c, int32_t cp, int change)
{
    char bytes[4];
    struct dan_span where = {c->in->base, c->in->base};
    size_t i = change > 0 ? c->at - 1 : c->at;
    if (c->in->track && i < c->in->s.n) where = c->in->at[i];      /* an insertion at the very beginning belongs to nothing */
    dan_flow_put(c->out, bytes, dan_flow_encode(cp, bytes), where);
    if (change <= 0) dan_change_skip(c, 1 + (size_t)-change);
}

void dan_change_keep(struct dan_change *c, size_t bytes)
{
    dan_flow_copy(c->out, c->in, c->at, c->at + bytes);
    c->at += bytes;
}
