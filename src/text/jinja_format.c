/* Python's two ways to write values into a text: "%s" % x, and "{}".format(x).  Marks of the format and of what goes in are kept. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "text/jinja_impl.h"

enum { MOST_WIDTH = 10000 };

/* One place of a format. */
struct place { bool left, plus, space, zero, alt, centre, comma, has_precision, aligned; char type, fill; int64_t width, precision; };

static void pad(struct jin *j, struct jbuf *b, char c, int64_t n)
{
    for (int64_t i = 0; i < n && !j->failed; i++) dan_jbuf_char(j, b, c, 0);
}

static void put_padded(struct jin *j, struct jbuf *b, struct jstr s, const struct place *p)
{
    int64_t more = p->width - (int64_t)dan_jstr_chars(s), before = p->left ? 0 : p->centre ? more / 2 : more;
    pad(j, b, p->fill, before);
    dan_jbuf_put(j, b, s.p, s.m, s.n);
    pad(j, b, p->fill, more - before);
}

static bool whole(struct jin *j, struct jv v, int64_t *i)
{
    if (v.kind == J_INT || v.kind == J_BOOL) *i = v.kind == J_INT ? v.u.i : v.u.b;
    else if (v.kind == J_FLOAT && fabs(v.u.f) < 9.2e18) *i = (int64_t)v.u.f;
    else {
        dan_jin_fail(j, DAN_EFORMAT, "a format needs a number, not a value of type %s", dan_jv_kind(v));
        return false;
    }
    return true;
}

/* The digits of a number without width; a sign or nothing before them. */
static size_t digits(struct jin *j, char *out, size_t room, const struct place *p, struct jv v, char *sign)
{
    int64_t i = 0;
    double f = dan_jv_is_num(v) ? dan_jv_num(v) : 0;
    char spec[16];
    int n;
    *sign = 0;
    if (strchr("eEfFgG%", p->type)) {
        if (!dan_jv_is_num(v)) dan_jin_fail(j, DAN_EFORMAT, "a format needs a number, not a value of type %s", dan_jv_kind(v));
        if (signbit(f)) *sign = '-';
        snprintf(spec, sizeof spec, "%%%s.*%c", p->alt ? "#" : "", p->type == '%' ? 'f' : p->type);
        n = snprintf(out, room, spec, p->has_precision ? (int)p->precision : 6, fabs(p->type == '%' ? f * 100 : f));
        if (p->type == '%' && n > 0 && (size_t)n + 1 < room) out[n++] = '%', out[n] = 0;
    } else {
        if (!whole(j, v, &i)) return 0;
        uint64_t u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
        if (i < 0) *sign = '-';
        snprintf(spec, sizeof spec, "%%.*ll%c", p->type == 'd' ? 'u' : p->type);
        n = snprintf(out, room, spec, p->has_precision ? (int)p->precision : 1, (unsigned long long)u);
    }
    if (!*sign && (p->plus || p->space)) *sign = p->plus ? '+' : ' ';
    return n > 0 && (size_t)n < room ? (size_t)n : 0;
}

/* Thousands apart. */
static size_t with_commas(char *out, size_t n, size_t room)
{
    size_t whole_part = strspn(out, "0123456789"), more = whole_part ? (whole_part - 1) / 3 : 0;
    if (n + more >= room) return n;
    memmove(out + whole_part + more, out + whole_part, n - whole_part + 1);
    for (size_t k = 0; k < whole_part; k++) {          /* from the right: k digits are in place */
        size_t from = whole_part - 1 - k;
        out[from + more - k / 3] = out[from];
        if (k % 3 == 2 && from) out[from + more - k / 3 - 1] = ',';
    }
    return n + more;
}

static void put_number(struct jin *j, struct jbuf *b, const struct place *p, struct jv v)
{
    char text[512], sign, head[4] = {0};
    size_t n = digits(j, text, sizeof text, p, v, &sign), k = 0;
    if (j->failed) return;
    if (p->comma) n = with_commas(text, n, sizeof text);
    if (sign) head[k++] = sign;
    if (p->alt && strchr("xXo", p->type)) head[k++] = '0', head[k++] = p->type;
    int64_t more = p->width - (int64_t)(n + k);
    if (p->zero && !p->left) {
        dan_jbuf_put(j, b, head, NULL, k);
        pad(j, b, '0', more);
        dan_jbuf_put(j, b, text, NULL, n);
        return;
    }
    char all[520];
    memcpy(all, head, k);
    memcpy(all + k, text, n);
    put_padded(j, b, (struct jstr){.p = all, .n = n + k}, p);
}

static struct jstr cut(struct jstr s, const struct place *p)
{
    return p->has_precision && p->precision < (int64_t)dan_jstr_chars(s) ? dan_jstr_sub(s, 0, dan_jstr_offset(s, (size_t)p->precision)) : s;
}

static bool number_at(struct jstr s, size_t *i, int64_t *out)
{
    size_t from = *i;
    for (*out = 0; *i < s.n && s.p[*i] >= '0' && s.p[*i] <= '9' && *out <= MOST_WIDTH; ++*i) *out = *out * 10 + (s.p[*i] - '0');
    return *i > from;
}

static bool bounded(struct jin *j, const struct place *p)
{
    if (p->width > MOST_WIDTH || p->precision > 300)
        dan_jin_fail(j, DAN_EINVAL, "a format with a width over %d or more than 300 digits is refused", MOST_WIDTH);
    return !j->failed;
}

/* --- "%" */

struct percent { struct jin *j; struct jstr f; struct jv args; size_t next; bool named; };

static struct jv next_arg(struct percent *q)
{
    bool tuple = q->args.kind == J_TUPLE;
    if (q->next >= (tuple ? q->args.u.l->n : 1)) {
        dan_jin_fail(q->j, DAN_EFORMAT, "not enough arguments for the format");
        return dan_jv_none();
    }
    return tuple ? q->args.u.l->v[q->next++] : (q->next++, q->args);
}

/* %(name): the value of that name. */
static bool named_arg(struct percent *q, size_t *i, struct jv *v)
{
    if (*i >= q->f.n || q->f.p[*i] != '(') return false;
    ptrdiff_t end = dan_jstr_find(q->f, (struct jstr){.p = ")", .n = 1}, *i);
    struct jv *at = end >= 0 && q->args.kind == J_DICT ? dan_jdict_at(q->j, q->args.u.d, dan_jv_of(dan_jstr_sub(q->f, *i + 1, (size_t)end))) : NULL;
    if (!at) {
        dan_jin_fail(q->j, DAN_EFORMAT, "a format's %%(name) needs a dict with that name");
        return false;
    }
    *v = *at;
    *i = (size_t)end + 1;
    return q->named = true;
}

static void percent_place(struct percent *q, struct jbuf *b, size_t *i)
{
    struct place p = {.fill = ' '};
    struct jv v;
    bool named = named_arg(q, i, &v);
    for (; *i < q->f.n && strchr("-+ 0#", q->f.p[*i]) && q->f.p[*i]; ++*i) {
        char c = q->f.p[*i];
        p.left |= c == '-', p.plus |= c == '+', p.space |= c == ' ', p.zero |= c == '0', p.alt |= c == '#';
    }
    number_at(q->f, i, &p.width);
    if (*i < q->f.n && q->f.p[*i] == '.') {
        ++*i;
        number_at(q->f, i, &p.precision);
        p.has_precision = true;
    }
    p.type = *i < q->f.n ? q->f.p[*i] : 0;
    ++*i;
    if (!bounded(q->j, &p)) return;
    if (p.type == '%') {
        dan_jbuf_char(q->j, b, '%', 0);
        return;
    }
    if (!p.type || !strchr("sdiuoxXeEfFgGr", p.type)) {
        dan_jin_fail(q->j, DAN_EUNSUPPORTED, "'%%%c' in a format is not supported", p.type ? p.type : '?');
        return;
    }
    if (!named) v = next_arg(q);
    if (q->j->failed) return;
    struct jbuf text = {0};
    if (p.type == 'i' || p.type == 'u') p.type = 'd';
    if (p.type == 'r') dan_jv_repr(q->j, &text, v);
    else if (p.type == 's') dan_jv_print(q->j, &text, v);
    else put_number(q->j, b, &p, v);
    if (p.type == 'r' || p.type == 's') put_padded(q->j, b, cut(dan_jbuf_str(&text).u.s, &p), &p);
}

struct jv dan_jin_percent(struct jin *j, struct jstr f, struct jv args)
{
    struct percent q = {.j = j, .f = f, .args = args};
    struct jbuf b = {0};
    for (size_t i = 0; i < f.n && dan_jin_step(j, 1);) {
        if (f.p[i] == '%') {
            i++;
            percent_place(&q, &b, &i);
        } else {
            dan_jbuf_put(j, &b, f.p + i, f.m ? f.m + i : NULL, 1);
            i++;
        }
    }
    bool unused = args.kind == J_TUPLE ? q.next < args.u.l->n : !q.next && args.kind != J_DICT && args.kind != J_LIST;
    if (!j->failed && unused)
        dan_jin_fail(j, DAN_EFORMAT, "not all arguments are used by the format");
    return dan_jbuf_str(&b);
}

/* --- str.format */

/* [[fill]align][sign][#][0][width][,][.precision][type] */
static void read_spec(struct jin *j, struct jstr s, struct place *p)
{
    size_t i = 0;
    *p = (struct place){.fill = ' '};
    if (s.n >= 2 && strchr("<>^", s.p[1])) p->fill = s.p[i++];
    if (i < s.n && s.p[i] && strchr("<>^", s.p[i])) {
        p->aligned = true;
        p->left = s.p[i] == '<', p->centre = s.p[i] == '^';
        i++;
    }
    if (i < s.n && s.p[i] && strchr("+- ", s.p[i])) p->plus = s.p[i] == '+', p->space = s.p[i] == ' ', i++;
    if (i < s.n && s.p[i] == '#') p->alt = true, i++;
    if (i < s.n && s.p[i] == '0') p->zero = true, i++;
    number_at(s, &i, &p->width);
    if (i < s.n && s.p[i] == ',') p->comma = true, i++;
    if (i < s.n && s.p[i] == '.') {
        i++;
        p->has_precision = number_at(s, &i, &p->precision);
    }
    if (i < s.n) p->type = s.p[i++];
    if (i < s.n || (p->type && !strchr("sdoxXeEfFgG%", p->type)) || (unsigned char)p->fill >= 0x80)
        dan_jin_fail(j, DAN_EUNSUPPORTED, "the format '%.*s' is not supported", (int)(s.n < 40 ? s.n : 40), s.p);
    bounded(j, p);
}

static void put_spec(struct jin *j, struct jbuf *b, struct jstr spec, struct jv v)
{
    struct place p;
    struct jbuf text = {0};
    read_spec(j, spec, &p);
    if (j->failed) return;
    bool number = dan_jv_is_num(v) && (v.kind != J_BOOL || spec.n);      /* with a format, True is 1 */
    if (number && !p.type && v.kind != J_FLOAT) p.type = 'd';
    if (number && !p.type && p.has_precision) p.type = 'g';
    if (!number && (p.plus || p.space || p.comma || p.alt)) dan_jin_fail(j, DAN_EFORMAT, "a format for numbers, and a value of type %s", dan_jv_kind(v));
    if (p.type && p.type != 's') {
        put_number(j, b, &p, v);
        return;
    }
    if (number && (p.comma || p.zero)) dan_jin_fail(j, DAN_EUNSUPPORTED, "',' and '0' in the format of a float need a type behind them ('f')");
    if (number && (p.plus || p.space) && !signbit(v.u.f)) dan_jbuf_char(j, &text, p.plus ? '+' : ' ', 0);
    dan_jv_print(j, &text, v);
    if (!p.aligned && !number) p.left = true;
    struct jstr s = dan_jbuf_str(&text).u.s;
    put_padded(j, b, number ? s : cut(s, &p), &p);
}

static struct jv field(struct jin *j, struct jargs *a, struct jstr name, size_t *next)
{
    int64_t i = (int64_t)*next;
    size_t at = 0;
    if (!name.n || (number_at(name, &at, &i) && at == name.n)) {
        if (!name.n) ++*next;
        if (i < (int64_t)a->n) return a->v[i];
    }
    for (size_t k = 0; k < a->n_kw; k++)
        if (name.n && strlen(a->kw[k].name) == name.n && !memcmp(a->kw[k].name, name.p, name.n)) return a->kw[k].v;
    dan_jin_fail(j, DAN_EFORMAT, "format has no value for '{%.*s}' (a plain number or name is expected)", (int)(name.n < 40 ? name.n : 40), name.p);
    return dan_jv_none();
}

static void brace(struct jin *j, struct jbuf *b, struct jargs *a, struct jstr inner, size_t *next)
{
    ptrdiff_t colon = dan_jstr_find(inner, (struct jstr){.p = ":", .n = 1}, 0);
    struct jstr name = dan_jstr_sub(inner, 0, colon < 0 ? inner.n : (size_t)colon), spec = dan_jstr_sub(inner, colon < 0 ? inner.n : (size_t)colon + 1, inner.n);
    char how = name.n >= 2 && name.p[name.n - 2] == '!' ? name.p[name.n - 1] : 0;
    if (how) name = dan_jstr_sub(name, 0, name.n - 2);
    struct jv v = field(j, a, name, next);
    struct jbuf text = {0};
    if (j->failed) return;
    if (how == 'r') dan_jv_repr(j, &text, v);
    else if (how == 's') dan_jv_print(j, &text, v);
    else if (how) dan_jin_fail(j, DAN_EUNSUPPORTED, "'!%c' in a format is not supported", how);
    put_spec(j, b, spec, how ? dan_jbuf_str(&text) : v);
}

struct jv dan_jin_braces(struct jin *j, struct jstr f, struct jargs *a)
{
    struct jbuf b = {0};
    size_t next = 0;
    for (size_t i = 0; i < f.n && dan_jin_step(j, 1); i++) {
        char c = f.p[i];
        bool twice = i + 1 < f.n && f.p[i + 1] == c;
        if ((c == '{' || c == '}') && !twice) {
            ptrdiff_t end = c == '{' ? dan_jstr_find(f, (struct jstr){.p = "}", .n = 1}, i) : -1;
            if (end < 0) {
                dan_jin_fail(j, DAN_EFORMAT, "a single '%c' in a format", c);
                break;
            }
            brace(j, &b, a, dan_jstr_sub(f, i + 1, (size_t)end), &next);
            i = (size_t)end;
        } else {
            dan_jbuf_put(j, &b, f.p + i, f.m ? f.m + i : NULL, 1);
            i += c == '{' || c == '}';
        }
    }
    return dan_jbuf_str(&b);
}
