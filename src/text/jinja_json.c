/* json.dumps as the tojson filter of `transformers` calls it: ensure_ascii False, optional indent, separators, sort_keys. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/utf8.h"
#include "text/jinja_impl.h"

struct dump { struct jin *j; struct jbuf *b; const char *indent; struct jstr item, colon; bool ascii, sorted; int level; };
static void dump(struct dump *d, struct jv v);

static void puts_marked(struct dump *d, const char *s, uint8_t mark)
{
    for (; *s; s++) dan_jbuf_char(d->j, d->b, *s, mark);
}

static void text(struct dump *d, struct jstr s)
{
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    char esc[16];
    dan_jbuf_puts(d->j, d->b, "\"");
    for (size_t i = 0; i < s.n && dan_jin_step(d->j, 1);) {
        int32_t cp;
        int k = dan_utf8_next(s.p + i, s.n - i, &cp);
        uint8_t mark = s.m ? s.m[i] : 0;
        const char *c = cp > 0 && cp < 128 ? strchr(from, cp) : NULL;
        *esc = 0;
        if (c) snprintf(esc, sizeof esc, "\\%c", to[c - from]);
        else if (cp < 32) snprintf(esc, sizeof esc, "\\u%04x", (unsigned)cp);
        else if (d->ascii && cp >= 0x10000)
            snprintf(esc, sizeof esc, "\\u%04x\\u%04x", 0xd800u + (unsigned)((cp - 0x10000) >> 10), 0xdc00u + (unsigned)((cp - 0x10000) & 0x3ff));
        else if (d->ascii && cp >= 127) snprintf(esc, sizeof esc, cp == 127 ? "\x7f" : "\\u%04x", (unsigned)cp);
        if (*esc) puts_marked(d, esc, mark);
        else dan_jbuf_put(d->j, d->b, s.p + i, s.m ? s.m + i : NULL, (size_t)k);
        i += (size_t)k;
    }
    dan_jbuf_puts(d->j, d->b, "\"");
}

static void newline(struct dump *d)
{
    if (!d->indent) return;
    dan_jbuf_puts(d->j, d->b, "\n");
    for (int i = 0; i < d->level && !d->j->failed; i++) dan_jbuf_puts(d->j, d->b, d->indent);
}

static void between(struct dump *d, size_t i)
{
    if (i) dan_jbuf_put(d->j, d->b, d->item.p, d->item.m, d->item.n);
    newline(d);
}

static void list(struct dump *d, const struct jlist *l)
{
    dan_jbuf_puts(d->j, d->b, "[");
    d->level++;
    for (size_t i = 0; i < l->n && dan_jin_step(d->j, 1); i++) {
        between(d, i);
        dump(d, l->v[i]);
    }
    d->level--;
    if (l->n) newline(d);
    dan_jbuf_puts(d->j, d->b, "]");
}

static void key(struct dump *d, struct jv k)
{
    if (k.kind == J_STR) text(d, k.u.s);
    else if (k.kind > J_STR || k.kind == J_UNDEF) dan_jin_fail(d->j, DAN_EFORMAT, "tojson: a %s cannot be a key", dan_jv_kind(k));
    else {
        dan_jbuf_puts(d->j, d->b, "\"");
        dump(d, k);
        dan_jbuf_puts(d->j, d->b, "\"");
    }
}

/* Indices of the keys in order; insertion into a sorted list, cost counted. */
static size_t *order(struct dump *d, const struct jdict *m)
{
    size_t *at = dan_jin_alloc(d->j, m->n + 1, sizeof *at);
    for (size_t i = 0; at && i < m->n && !d->j->failed; i++) {
        size_t k = i;
        for (; d->sorted && k > 0 && dan_jin_step(d->j, 1) && dan_jv_cmp(d->j, m->key[i], m->key[at[k - 1]]) < 0; k--) at[k] = at[k - 1];
        at[k] = i;
    }
    return d->j->failed ? NULL : at;
}

static void dict(struct dump *d, const struct jdict *m)
{
    size_t *at = order(d, m);
    dan_jbuf_puts(d->j, d->b, "{");
    d->level++;
    for (size_t i = 0; at && i < m->n && dan_jin_step(d->j, 1); i++) {
        between(d, i);
        key(d, m->key[at[i]]);
        dan_jbuf_put(d->j, d->b, d->colon.p, d->colon.m, d->colon.n);
        dump(d, m->val[at[i]]);
    }
    d->level--;
    if (m->n) newline(d);
    dan_jbuf_puts(d->j, d->b, "}");
}

static void dump(struct dump *d, struct jv v)
{
    struct jin *j = d->j;
    if (++j->depth > J_MAX_DEPTH) dan_jin_fail(j, DAN_EINVAL, "tojson: values are nested too deeply (over %d)", J_MAX_DEPTH);
    if (!j->failed) switch (v.kind) {
    case J_NONE: dan_jbuf_puts(j, d->b, "null"); break;
    case J_BOOL: dan_jbuf_puts(j, d->b, v.u.b ? "true" : "false"); break;
    case J_INT: dan_jv_repr(j, d->b, v); break;
    case J_FLOAT:
        if (isnan(v.u.f) || isinf(v.u.f)) dan_jbuf_puts(j, d->b, isnan(v.u.f) ? "NaN" : v.u.f < 0 ? "-Infinity" : "Infinity");
        else dan_jv_repr(j, d->b, v);
        break;
    case J_STR: text(d, v.u.s); break;
    case J_LIST: case J_TUPLE: list(d, v.u.l); break;
    case J_DICT: dict(d, v.u.d); break;
    default: dan_jin_fail(j, DAN_EFORMAT, "tojson: a value of type %s is no JSON", dan_jv_kind(v));
    }
    j->depth--;
}

static void indentation(struct dump *d, struct jv v)
{
    if (v.kind == J_STR) d->indent = dan_jin_name(d->j, v.u.s.p, v.u.s.n);
    else if (v.kind == J_INT) {
        size_t n = v.u.i < 0 ? 0 : v.u.i > 64 ? 65 : (size_t)v.u.i;
        char *s = dan_jin_alloc(d->j, n + 1, 1);
        if (n > 64) dan_jin_fail(d->j, DAN_EINVAL, "tojson: an indent of more than 64 is refused");
        if (s) memset(s, ' ', n);
        d->indent = s;
    }
}

struct jv dan_jin_tojson(struct jin *j, struct jv v, struct jargs *a)
{
    struct jbuf b = {0};
    struct dump d = {.j = j, .b = &b, .colon = {.p = ": ", .n = 2}};
    d.ascii = dan_jv_truth(dan_jarg(a, 0, "ensure_ascii", dan_jv_bool(false)));
    indentation(&d, dan_jarg(a, 1, "indent", dan_jv_none()));
    d.item = d.indent ? (struct jstr){.p = ",", .n = 1} : (struct jstr){.p = ", ", .n = 2};
    struct jv sep = dan_jarg(a, 2, "separators", dan_jv_none());
    if (dan_jv_seq(sep) && sep.u.l->n == 2 && sep.u.l->v[0].kind == J_STR && sep.u.l->v[1].kind == J_STR) {
        d.item = sep.u.l->v[0].u.s;
        d.colon = sep.u.l->v[1].u.s;
    }
    d.sorted = dan_jv_truth(dan_jarg(a, 3, "sort_keys", dan_jv_bool(false)));
    dump(&d, v);
    return dan_jbuf_str(&b);
}
