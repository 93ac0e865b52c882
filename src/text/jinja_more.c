/* Filters and methods that chat templates seldom use. */
#include <string.h>
#include <utf8proc.h>
#include "base/utf8.h"
#include "text/jinja_impl.h"

static struct jstr text_of(struct jin *j, struct jv v) { return dan_jv_str(j, v).u.s; }

static bool width_of(struct jin *j, struct jv v, int64_t *out)
{
    *out = v.kind == J_INT ? v.u.i : 0;
    if (v.kind != J_INT || *out > 10000) dan_jin_fail(j, DAN_EINVAL, "a width is a whole number up to 10000");
    return !j->failed;
}

/* s with fill before and behind it. */
static struct jv padded(struct jin *j, struct jstr s, struct jstr fill, int64_t before, int64_t behind)
{
    struct jbuf b = {0};
    for (int64_t i = 0; i < before && dan_jin_step(j, 1); i++) dan_jbuf_put(j, &b, fill.p, fill.m, fill.n);
    dan_jbuf_put(j, &b, s.p, s.m, s.n);
    for (int64_t i = 0; i < behind && dan_jin_step(j, 1); i++) dan_jbuf_put(j, &b, fill.p, fill.m, fill.n);
    return dan_jbuf_str(&b);
}

/* center, ljust, rjust */
static struct jv m_just(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    int64_t width;
    struct jstr fill = {.p = " ", .n = 1}, s = text_of(j, self);
    if (!width_of(j, dan_jarg(a, 0, "width", dan_jv_none()), &width)) return self;
    if (a->n > 1) fill = dan_jarg_str(j, a, 1, "fillchar");
    if (dan_jstr_chars(fill) != 1) dan_jin_fail(j, DAN_EFORMAT, "%s fills with one character", name);
    int64_t more = width - (int64_t)dan_jstr_chars(s);
    if (more <= 0) return dan_jv_of(s);
    int64_t before = *name == 'l' ? 0 : *name == 'r' ? more : more / 2 + (more & width & 1);      /* as CPython's str.center */
    return padded(j, s, fill, before, more - before);
}

static struct jv f_center(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    struct jv width[1] = {dan_jarg(a, 0, "width", dan_jv_int(80))};
    struct jargs one = {.v = width, .n = 1};
    return m_just(j, v, &one, name);
}

static struct jv m_zfill(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    (void)name;
    int64_t width;
    struct jstr s = self.u.s;
    if (!width_of(j, dan_jarg(a, 0, "width", dan_jv_none()), &width)) return self;
    size_t sign = s.n && (s.p[0] == '-' || s.p[0] == '+');
    struct jbuf b = {0};
    dan_jbuf_put(j, &b, s.p, s.m, sign);
    struct jv rest = padded(j, dan_jstr_sub(s, sign, s.n), (struct jstr){.p = "0", .n = 1}, width - (int64_t)dan_jstr_chars(s), 0);
    dan_jv_print(j, &b, rest);
    return dan_jbuf_str(&b);
}

static struct jv m_partition(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    struct jstr s = self.u.s, sep = dan_jarg_str(j, a, 0, "sep"), part[3] = {s, {.p = ""}, {.p = ""}};
    struct jv out = dan_jv_list(j, J_TUPLE);
    if (!j->failed && !sep.n) dan_jin_fail(j, DAN_EFORMAT, "%s needs a string that is not empty", name);
    if (j->failed || !dan_jin_step(j, s.n / 16)) return out;
    ptrdiff_t at = dan_jstr_find(s, sep, 0), next = at;
    while (*name == 'r' && next >= 0 && dan_jin_step(j, 1 + s.n / 4096)) {
        at = next;
        next = dan_jstr_find(s, sep, (size_t)next + 1);
    }
    if (at >= 0) {
        part[0] = dan_jstr_sub(s, 0, (size_t)at);
        part[1] = dan_jstr_sub(s, (size_t)at, (size_t)at + sep.n);
        part[2] = dan_jstr_sub(s, (size_t)at + sep.n, s.n);
    } else if (*name == 'r') {
        part[2] = s;
        part[0] = part[1];
    }
    for (int i = 0; i < 3; i++) dan_jlist_push(j, out.u.l, dan_jv_of(part[i]));
    return out;
}

/* islower, isupper: a cased letter, and none of the other case. */
static struct jv m_cased(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    (void)a;
    bool any = false, lower = name[2] == 'l';
    for (size_t i = 0; i < self.u.s.n && dan_jin_step(j, 1);) {
        int32_t cp;
        i += (size_t)dan_utf8_next(self.u.s.p + i, self.u.s.n - i, &cp);
        utf8proc_category_t k = utf8proc_category(cp);
        if (k == UTF8PROC_CATEGORY_LT || k == (lower ? UTF8PROC_CATEGORY_LU : UTF8PROC_CATEGORY_LL)) return dan_jv_bool(false);
        any |= k == (lower ? UTF8PROC_CATEGORY_LL : UTF8PROC_CATEGORY_LU);
    }
    return dan_jv_bool(any);
}

static struct jv m_decimal(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    (void)a;
    for (size_t i = 0; i < self.u.s.n && dan_jin_step(j, 1);) {
        int32_t cp;
        i += (size_t)dan_utf8_next(self.u.s.p + i, self.u.s.n - i, &cp);
        utf8proc_category_t k = utf8proc_category(cp);
        bool number = k == UTF8PROC_CATEGORY_ND || (name[2] == 'n' && (k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO));
        if (!number) return dan_jv_bool(false);
    }
    return dan_jv_bool(self.u.s.n > 0);
}

static struct jv m_format(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    (void)name;
    return dan_jin_braces(j, self.u.s, a);
}

/* loop.changed(...): is this another value than at the last call?  The first one is. */
static struct jv m_changed(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    (void)name;
    struct jv now = dan_jv_list(j, J_LIST);
    struct jloop *l = self.u.loop;
    for (size_t i = 0; i < a->n && !j->failed; i++) dan_jlist_push(j, now.u.l, a->v[i]);
    if (j->failed) return now;
    bool same = l->last && dan_jv_eq(j, now, (struct jv){.kind = J_LIST, .u.l = l->last});
    l->last = now.u.l;
    return dan_jv_bool(!same);
}

static struct jv f_format(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)name;
    struct jv args = a->n_kw ? dan_jv_dict(j) : dan_jv_list(j, J_TUPLE);
    if (a->n && a->n_kw) dan_jin_fail(j, DAN_EFORMAT, "format takes values or named values, not both");
    for (size_t i = 0; i < a->n_kw && !j->failed; i++) dan_jdict_put(j, args.u.d, dan_jv_text(a->kw[i].name), a->kw[i].v);
    for (size_t i = 0; i < a->n && !j->failed; i++) dan_jlist_push(j, args.u.l, a->v[i]);
    return j->failed ? v : dan_jin_percent(j, text_of(j, v), args);
}

/* Cut to `length` characters, `end` included, at a space unless killwords; a text that is at most `leeway` longer stays. */
static struct jv f_truncate(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    int64_t length, leeway;
    struct jstr s = text_of(j, v), end = text_of(j, dan_jarg(a, 2, "end", dan_jv_text("...")));
    if (!width_of(j, dan_jarg(a, 0, "length", dan_jv_int(255)), &length) || !width_of(j, dan_jarg(a, 3, "leeway", dan_jv_int(5)), &leeway)) return v;
    int64_t keep = length - (int64_t)dan_jstr_chars(end);
    if (keep < 0 || leeway < 0) dan_jin_fail(j, DAN_EFORMAT, "%s: the length is less than the end's", name);
    if (j->failed || !dan_jin_step(j, s.n / 16) || (int64_t)dan_jstr_chars(s) <= length + leeway) return dan_jv_of(s);
    struct jstr cut = dan_jstr_sub(s, 0, dan_jstr_offset(s, (size_t)keep));
    const char *space = dan_jv_truth(dan_jarg(a, 1, "killwords", dan_jv_bool(false))) || !cut.n ? NULL : memrchr(cut.p, ' ', cut.n);
    if (space) cut.n = (size_t)(space - cut.p);
    return padded(j, cut, end, 0, 1);
}

static struct jv f_wordcount(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)a, (void)name;
    struct jstr s = text_of(j, v);
    int64_t n = 0;
    bool in = false;
    for (size_t i = 0; i < s.n && dan_jin_step(j, 1);) {
        int32_t cp;
        i += (size_t)dan_utf8_next(s.p + i, s.n - i, &cp);
        utf8proc_category_t k = utf8proc_category(cp);
        bool word = cp == '_' || (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) || (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO);
        n += word && !in;
        in = word;
    }
    return dan_jv_int(n);
}

/* So many columns, the first ones longer; shorter ones get fill_with. */
static struct jv f_slice(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    int64_t n;
    struct jv out = dan_jv_list(j, J_LIST), fill = dan_jarg(a, 1, "fill_with", dan_jv_none());
    struct jlist *l = dan_jv_items(j, v);
    if (!l || !width_of(j, dan_jarg(a, 0, "slices", dan_jv_none()), &n)) return out;
    if (n < 1) dan_jin_fail(j, DAN_EFORMAT, "%s needs a number above 0", name);
    for (int64_t k = 0, at = 0; k < n && dan_jin_step(j, 1); k++) {
        struct jv column = dan_jv_list(j, J_LIST);
        int64_t more = (int64_t)l->n / n + (k < (int64_t)l->n % n);
        for (int64_t i = 0; i < more && dan_jin_step(j, 1); i++) dan_jlist_push(j, column.u.l, l->v[at++]);
        if (fill.kind != J_NONE && k >= (int64_t)l->n % n && !j->failed) dan_jlist_push(j, column.u.l, fill);
        dan_jlist_push(j, out.u.l, column);
    }
    return out;
}

const struct jfilter dan_jin_more_filters[] = {
    {"center", f_center}, {"format", f_format}, {"truncate", f_truncate}, {"wordcount", f_wordcount}, {"slice", f_slice}, {NULL, NULL},
};
const struct jmethod dan_jin_more_methods[] = {
    {J_STR, "center", m_just}, {J_STR, "ljust", m_just}, {J_STR, "rjust", m_just}, {J_STR, "zfill", m_zfill}, {J_STR, "partition", m_partition},
    {J_STR, "rpartition", m_partition}, {J_STR, "islower", m_cased}, {J_STR, "isupper", m_cased}, {J_STR, "isdecimal", m_decimal},
    {J_STR, "isnumeric", m_decimal}, {J_STR, "format", m_format}, {J_LOOP, "changed", m_changed}, {J_UNDEF, NULL, NULL},
};
