/* Filters and tests, one line each in a table. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "text/jinja_impl.h"

typedef struct jv filter_fn(struct jin *j, struct jv v, struct jargs *a, const char *name);
typedef bool test_fn(struct jin *j, struct jv v, struct jargs *a);

struct jv dan_jarg(struct jargs *a, size_t i, const char *name, struct jv dflt)
{
    for (size_t k = 0; k < a->n_kw; k++)
        if (!strcmp(a->kw[k].name, name)) return a->kw[k].v;
    return i < a->n ? a->v[i] : dflt;
}

static struct jstr text_of(struct jin *j, struct jv v) { return dan_jv_str(j, v).u.s; }
static bool flag(struct jargs *a, size_t i, const char *name, bool dflt) { return dan_jv_truth(dan_jarg(a, i, name, dan_jv_bool(dflt))); }

static struct jv f_trim(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)name;
    struct jv chars = dan_jarg(a, 0, "chars", dan_jv_none());
    struct jstr s = text_of(j, v);
    dan_jin_step(j, s.n / 16);
    return dan_jv_of(dan_jstr_strip(s, chars.kind == J_STR ? &chars.u.s : NULL, true, true));
}

static struct jv f_length(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)a, (void)name;
    if (v.kind == J_STR) return dan_jin_step(j, v.u.s.n / 64) ? dan_jv_int((int64_t)dan_jstr_chars(v.u.s)) : v;
    if (v.kind == J_DICT) return dan_jv_int((int64_t)v.u.d->n);
    if (dan_jv_seq(v)) return dan_jv_int((int64_t)v.u.l->n);
    if (v.kind != J_UNDEF) dan_jin_fail(j, DAN_EFORMAT, "a value of type %s has no length", dan_jv_kind(v));
    return dan_jv_int(0);
}

static struct jv f_case(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)a;
    return dan_jv_case(j, text_of(j, v), *name == 't' ? 'T' : *name);
}

static struct jv f_replace(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)name;
    struct jv most = dan_jarg(a, 2, "count", dan_jv_none());
    struct jstr from = text_of(j, dan_jarg(a, 0, "old", dan_jv_text(""))), to = text_of(j, dan_jarg(a, 1, "new", dan_jv_text("")));
    return dan_jv_replace(j, text_of(j, v), from, to, most.kind == J_INT ? most.u.i : -1);
}

/* attribute="a.b" or a number, of an item. */
static struct jv attribute(struct jin *j, struct jv v, struct jv attr)
{
    if (attr.kind == J_INT) return dan_jin_item(j, v, attr);
    if (attr.kind != J_STR) return v;
    struct jstr s = attr.u.s;
    while (!j->failed) {
        ptrdiff_t dot = dan_jstr_find(s, (struct jstr){.p = ".", .n = 1}, 0);
        struct jstr part = dan_jstr_sub(s, 0, dot < 0 ? s.n : (size_t)dot);
        char *end, *name = dan_jin_name(j, part.p, part.n);
        if (!name) break;
        long i = strtol(name, &end, 10);
        v = dan_jin_item(j, v, *end || !part.n ? dan_jv_of(part) : dan_jv_int(i));
        if (dot < 0) break;
        s = dan_jstr_sub(s, (size_t)dot + 1, s.n);
    }
    return v;
}

static struct jv f_join(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)name;
    struct jbuf b = {0};
    struct jv sep = dan_jarg(a, 0, "d", dan_jv_text("")), attr = dan_jarg(a, 1, "attribute", dan_jv_none());
    struct jlist *l = dan_jv_items(j, v);
    for (size_t i = 0; l && i < l->n && dan_jin_step(j, 1); i++) {
        if (i) dan_jv_print(j, &b, sep);
        dan_jv_print(j, &b, attribute(j, l->v[i], attr));
    }
    return dan_jbuf_str(&b);
}

static struct jv f_ends(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)a;
    struct jlist *l = dan_jv_items(j, v);
    if (!l || !l->n) return dan_jv_undef(name);
    return *name == 'f' ? l->v[0] : l->v[l->n - 1];
}

static struct jv f_default(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)j, (void)name;
    if (v.kind == J_UNDEF || (flag(a, 1, "boolean", false) && !dan_jv_truth(v))) return dan_jarg(a, 0, "default_value", dan_jv_text(""));
    return v;
}

static struct jv f_tojson(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)name;
    return dan_jin_tojson(j, v, a);
}

static struct jv f_items(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)name;
    struct jv m;
    if (v.kind == J_UNDEF) return dan_jv_list(j, J_LIST);
    if (v.kind != J_DICT) dan_jin_fail(j, DAN_EFORMAT, "items needs a dict, not a value of type %s", dan_jv_kind(v));
    return !j->failed && dan_jin_method(j, v, "items", &m) ? dan_jin_call(j, m, a) : dan_jv_none();
}

static struct jv copied(struct jin *j, struct jv v)
{
    struct jv out = dan_jv_list(j, J_LIST);
    struct jlist *l = dan_jv_items(j, v);
    for (size_t i = 0; l && i < l->n && dan_jin_step(j, 1); i++) dan_jlist_push(j, out.u.l, l->v[i]);
    return out;
}

static struct jv f_list(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)a, (void)name;
    return copied(j, v);
}

struct order { struct jin *j; struct jv attr; bool sensitive, by_value; };

static struct jv sort_key(const struct order *o, struct jv v)
{
    v = attribute(o->j, v, o->attr);
    return v.kind == J_STR && !o->sensitive ? dan_jv_case(o->j, v.u.s, 'l') : v;
}

/* Merge sort of keys and values together: stable, n log n compares whatever the input. */
static void sort(struct jin *j, struct jv *key, struct jv *val, struct jv *tk, struct jv *tv, size_t n, int sign)
{
    if (n < 2 || j->failed) return;
    size_t h = n / 2, a = 0, b = h;
    sort(j, key, val, tk, tv, h, sign);
    sort(j, key + h, val + h, tk, tv, n - h, sign);
    for (size_t i = 0; i < n && dan_jin_step(j, 1); i++) {
        bool left = b >= n || (a < h && sign * dan_jv_cmp(j, key[b], key[a]) >= 0);
        size_t from = left ? a++ : b++;
        tk[i] = key[from];
        tv[i] = val[from];
    }
    if (j->failed) return;
    memcpy(key, tk, n * sizeof *key);
    memcpy(val, tv, n * sizeof *val);
}

static struct jv sorted(struct order *o, struct jv v, bool reverse)
{
    struct jin *j = o->j;
    struct jv out = copied(j, v);
    if (j->failed) return out;
    struct jlist *l = out.u.l;
    struct jv *key = dan_jin_alloc(j, 3 * l->n + 1, sizeof *key);
    for (size_t i = 0; key && i < l->n && dan_jin_step(j, 1); i++) key[i] = sort_key(o, l->v[i]);
    if (key && !j->failed) sort(j, key, l->v, key + l->n, key + 2 * l->n, l->n, reverse ? -1 : 1);
    return out;
}

static struct jv f_sort(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)name;
    struct order o = {.j = j, .attr = dan_jarg(a, 2, "attribute", dan_jv_none()), .sensitive = flag(a, 1, "case_sensitive", false)};
    return sorted(&o, v, flag(a, 0, "reverse", false));
}

static struct jv f_dictsort(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    struct jv by = dan_jarg(a, 1, "by", dan_jv_text("key"));
    struct order o = {.j = j, .sensitive = flag(a, 0, "case_sensitive", false)};
    o.attr = dan_jv_int(by.kind == J_STR && by.u.s.n == 5);
    struct jargs none = {0};
    return sorted(&o, f_items(j, v, &none, name), flag(a, 2, "reverse", false));
}

static struct jv f_unique(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)name;
    struct order o = {.j = j, .attr = dan_jarg(a, 1, "attribute", dan_jv_none()), .sensitive = flag(a, 0, "case_sensitive", false)};
    struct jv out = dan_jv_list(j, J_LIST), seen = dan_jv_list(j, J_LIST);
    struct jlist *l = dan_jv_items(j, v);
    for (size_t i = 0; l && i < l->n && dan_jin_step(j, 1); i++) {
        struct jv key = sort_key(&o, l->v[i]);
        if (j->failed || dan_jin_in(j, key, seen)) continue;
        dan_jlist_push(j, seen.u.l, key);
        dan_jlist_push(j, out.u.l, l->v[i]);
    }
    return out;
}

static struct jv f_most(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    struct order o = {.j = j, .attr = dan_jarg(a, 1, "attribute", dan_jv_none()), .sensitive = flag(a, 0, "case_sensitive", false)};
    struct jlist *l = dan_jv_items(j, v);
    struct jv best = dan_jv_undef(name), best_key = best;
    for (size_t i = 0; l && i < l->n && dan_jin_step(j, 1); i++) {
        struct jv key = sort_key(&o, l->v[i]);
        if (i && (name[1] == 'a' ? dan_jv_cmp(j, key, best_key) <= 0 : dan_jv_cmp(j, key, best_key) >= 0)) continue;
        best = l->v[i];
        best_key = key;
    }
    return best;
}

static struct jargs rest(struct jargs *a, size_t n)
{
    n = n < a->n ? n : a->n;
    return (struct jargs){.v = a->v + n, .n = a->n - n, .kw = a->kw, .n_kw = a->n_kw};
}

static const char *name_arg(struct jin *j, struct jv v)
{
    if (v.kind != J_STR) {
        dan_jin_fail(j, DAN_EFORMAT, "a name of a filter or test is expected, not a value of type %s", dan_jv_kind(v));
        return NULL;
    }
    return dan_jin_name(j, v.u.s.p, v.u.s.n);
}

static struct jv f_map(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)name;
    struct jv out = dan_jv_list(j, J_LIST), attr = dan_jarg(a, SIZE_MAX, "attribute", dan_jv_none());
    struct jv dflt = dan_jarg(a, SIZE_MAX, "default", dan_jv_undef(NULL));
    struct jlist *l = dan_jv_truth(v) ? dan_jv_items(j, v) : NULL;      /* none maps to none */
    const char *filter = attr.kind == J_NONE ? name_arg(j, a->n ? a->v[0] : dan_jv_none()) : NULL;
    struct jargs more = rest(a, 1);
    for (size_t i = 0; l && i < l->n && dan_jin_step(j, 1); i++) {
        struct jv x = filter ? dan_jin_filter(j, filter, l->v[i], &more) : attribute(j, l->v[i], attr);
        dan_jlist_push(j, out.u.l, x.kind == J_UNDEF && dflt.kind != J_UNDEF ? dflt : x);
    }
    return out;
}

/* select, reject, selectattr, rejectattr */
static struct jv f_select(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    size_t skip = strlen(name) > 6;
    struct jv out = dan_jv_list(j, J_LIST), attr = skip && a->n ? a->v[0] : dan_jv_none();
    struct jlist *l = dan_jv_truth(v) ? dan_jv_items(j, v) : NULL;
    const char *test = a->n > skip ? name_arg(j, a->v[skip]) : NULL;
    struct jargs more = rest(a, skip + 1);
    for (size_t i = 0; l && i < l->n && dan_jin_step(j, 1); i++) {
        struct jv x = attribute(j, l->v[i], attr);
        bool yes = test ? dan_jin_test(j, test, x, &more) : dan_jv_truth(x);
        if (yes == (*name == 's')) dan_jlist_push(j, out.u.l, l->v[i]);
    }
    return out;
}

static struct jv f_reverse(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)a, (void)name;
    if (v.kind != J_STR && !dan_jv_seq(v)) v = copied(j, v);
    return j->failed ? v : dan_jv_slice(j, v, dan_jv_none(), dan_jv_none(), dan_jv_int(-1));
}

static struct jv f_string(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)a, (void)name;
    return dan_jv_str(j, v);
}

static bool read_number(struct jin *j, struct jv v, double *f, int64_t *i, bool *whole)
{
    if (v.kind != J_STR) return false;
    struct jstr s = dan_jstr_strip(v.u.s, NULL, true, true);
    char *end, *text = dan_jin_name(j, s.p, s.n);
    if (!text || !s.n || strlen(text) != s.n || strpbrk(text, "xXpP()")) return false;
    *i = strtoll(text, &end, 10);
    *whole = !*end;
    *f = strtod(text, &end);
    return !*end;
}

static struct jv f_int(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)name;
    double f = dan_jv_is_num(v) ? dan_jv_num(v) : 0;
    int64_t i = 0;
    bool whole = false;
    if (v.kind == J_INT) return v;
    if (v.kind == J_BOOL) return dan_jv_int(v.u.b);
    bool ok = v.kind == J_FLOAT || read_number(j, v, &f, &i, &whole);
    if (whole) return dan_jv_int(i);
    if (!ok || !(fabs(f) < 9.2e18)) return dan_jarg(a, 0, "default", dan_jv_int(0));
    return dan_jv_int((int64_t)f);
}

static struct jv f_float(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)name;
    double f;
    int64_t i;
    bool whole;
    if (dan_jv_is_num(v)) return dan_jv_float(dan_jv_num(v));
    return read_number(j, v, &f, &i, &whole) ? dan_jv_float(f) : dan_jarg(a, 0, "default", dan_jv_float(0));
}

static struct jv f_round(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)name;
    struct jv digits = dan_jarg(a, 0, "precision", dan_jv_int(0)), how = dan_jarg(a, 1, "method", dan_jv_text("common"));
    if (!dan_jv_is_num(v) || digits.kind != J_INT || llabs(digits.u.i) > 300) {
        dan_jin_fail(j, DAN_EFORMAT, "round needs a number, not a value of type %s", dan_jv_kind(v));
        return v;
    }
    double f = dan_jv_num(v), scale = pow(10, (double)digits.u.i);
    if (how.kind == J_STR && how.u.s.p[0] == 'c' && how.u.s.n == 4) return dan_jv_float(ceil(f * scale) / scale);
    if (how.kind == J_STR && how.u.s.p[0] == 'f') return dan_jv_float(floor(f * scale) / scale);
    if (v.kind != J_FLOAT && digits.u.i >= 0) return v;
    double r = nearbyint(f * scale) / scale;
    return v.kind == J_FLOAT ? dan_jv_float(r) : dan_jv_int((int64_t)r);
}

static struct jv f_abs(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)a, (void)name;
    if (v.kind == J_FLOAT) return dan_jv_float(fabs(v.u.f));
    if (v.kind == J_BOOL) return dan_jv_int(v.u.b);
    if (v.kind != J_INT || v.u.i == INT64_MIN) dan_jin_fail(j, DAN_EFORMAT, "abs needs a number, not a value of type %s", dan_jv_kind(v));
    return j->failed ? v : dan_jv_int(v.u.i < 0 ? -v.u.i : v.u.i);
}

static struct jv f_sum(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)name;
    struct jv attr = dan_jarg(a, 0, "attribute", dan_jv_none()), sum = dan_jarg(a, 1, "start", dan_jv_int(0));
    struct jlist *l = dan_jv_items(j, v);
    for (size_t i = 0; l && i < l->n && dan_jin_step(j, 1); i++) sum = dan_jin_add(j, sum, attribute(j, l->v[i], attr));
    return sum;
}

static struct jv f_indent(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)name;
    struct jv width = dan_jarg(a, 0, "width", dan_jv_int(4));
    bool first = flag(a, 1, "first", false), blank = flag(a, 2, "blank", false);
    struct jstr s = text_of(j, v), pad = {.p = "                                                                ", .n = 4};
    struct jbuf b = {0};
    if (width.kind == J_STR) pad = width.u.s;
    else if (width.kind == J_INT && width.u.i <= 64) pad.n = width.u.i < 0 ? 0 : (size_t)width.u.i;
    else dan_jin_fail(j, DAN_EINVAL, "indent takes a string or a number up to 64");
    for (size_t i = 0, line = 0; i <= s.n && dan_jin_step(j, 1); line++) {
        ptrdiff_t k = dan_jstr_find(s, (struct jstr){.p = "\n", .n = 1}, i);
        size_t end = k < 0 ? s.n : (size_t)k;
        if (line ? blank || end > i : first) dan_jbuf_put(j, &b, pad.p, pad.m, pad.n);
        if (k >= 0) end++;
        dan_jbuf_put(j, &b, s.p + i, s.m ? s.m + i : NULL, end - i);
        i = k < 0 ? s.n + 1 : end;
    }
    return dan_jbuf_str(&b);
}

static struct jv f_safe(struct jin *j, struct jv v, struct jargs *a, const char *name) { return f_string(j, v, a, name); }

static struct jv f_escape(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)a, (void)name;
    static const char from[] = "&<>'\"";
    static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    struct jstr s = text_of(j, v);
    struct jbuf b = {0};
    for (size_t i = 0; i < s.n && dan_jin_step(j, 1); i++) {
        uint8_t mark = s.m ? s.m[i] : 0;
        const char *c = s.p[i] ? strchr(from, s.p[i]) : NULL;
        if (!c) dan_jbuf_char(j, &b, s.p[i], mark);
        for (const char *t = c ? to[c - from] : ""; *t; t++) dan_jbuf_char(j, &b, *t, mark);
    }
    return dan_jbuf_str(&b);
}

static struct jv f_batch(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)name;
    struct jv size = dan_jarg(a, 0, "linecount", dan_jv_none()), fill = dan_jarg(a, 1, "fill_with", dan_jv_none());
    struct jv out = dan_jv_list(j, J_LIST), row = dan_jv_none();
    struct jlist *l = dan_jv_items(j, v);
    if (size.kind != J_INT || size.u.i < 1) dan_jin_fail(j, DAN_EFORMAT, "batch needs a number above 0");
    for (size_t i = 0; l && i < l->n && dan_jin_step(j, 1); i++) {
        if (row.kind == J_NONE || (int64_t)row.u.l->n == size.u.i) {
            row = dan_jv_list(j, J_LIST);
            dan_jlist_push(j, out.u.l, row);
        }
        if (!j->failed) dan_jlist_push(j, row.u.l, l->v[i]);
    }
    while (row.kind == J_LIST && fill.kind != J_NONE && (int64_t)row.u.l->n < size.u.i && dan_jin_step(j, 1)) dan_jlist_push(j, row.u.l, fill);
    return out;
}

static struct jv f_attr(struct jin *j, struct jv v, struct jargs *a, const char *name)
{
    (void)name;
    const char *s = name_arg(j, a->n ? a->v[0] : dan_jv_none());
    struct jv m;
    if (!s) return dan_jv_none();
    if (v.kind == J_LOOP || v.kind == J_SPACE) return dan_jin_attr(j, v, s);
    return dan_jin_method(j, v, s, &m) ? m : dan_jv_undef(s);
}

static const struct { const char *name; filter_fn *fn; } filters[] = {
    {"trim", f_trim}, {"length", f_length}, {"count", f_length}, {"upper", f_case}, {"lower", f_case}, {"title", f_case}, {"capitalize", f_case},
    {"replace", f_replace}, {"join", f_join}, {"first", f_ends}, {"last", f_ends}, {"default", f_default}, {"d", f_default}, {"tojson", f_tojson},
    {"items", f_items}, {"dictsort", f_dictsort}, {"list", f_list}, {"map", f_map}, {"select", f_select}, {"reject", f_select},
    {"selectattr", f_select}, {"rejectattr", f_select}, {"sort", f_sort}, {"unique", f_unique}, {"reverse", f_reverse}, {"string", f_string},
    {"int", f_int}, {"float", f_float}, {"round", f_round}, {"abs", f_abs}, {"min", f_most}, {"max", f_most}, {"sum", f_sum}, {"indent", f_indent},
    {"safe", f_safe}, {"escape", f_escape}, {"e", f_escape}, {"forceescape", f_escape}, {"batch", f_batch}, {"attr", f_attr},
};
enum { N_FILTERS = sizeof filters / sizeof *filters };

struct jv dan_jin_filter(struct jin *j, const char *name, struct jv v, struct jargs *a)
{
    for (int i = 0; i < N_FILTERS && dan_jin_step(j, 1); i++)
        if (!strcmp(filters[i].name, name)) return filters[i].fn(j, v, a, filters[i].name);
    for (const struct jfilter *f = dan_jin_more_filters; f->name; f++)
        if (!strcmp(f->name, name)) return f->call(j, v, a, f->name);
    dan_jin_fail(j, DAN_EUNSUPPORTED, "there is no filter '%s'", name);
    return dan_jv_none();
}

bool dan_jin_has_filter(const char *name)
{
    for (int i = 0; i < N_FILTERS; i++)
        if (!strcmp(filters[i].name, name)) return true;
    for (const struct jfilter *f = dan_jin_more_filters; f->name; f++)
        if (!strcmp(f->name, name)) return true;
    return false;
}

static struct jv arg0(struct jargs *a) { return a->n ? a->v[0] : dan_jv_none(); }
static bool t_defined(struct jin *j, struct jv v, struct jargs *a) { (void)j, (void)a; return v.kind != J_UNDEF; }
static bool t_undefined(struct jin *j, struct jv v, struct jargs *a) { (void)j, (void)a; return v.kind == J_UNDEF; }
static bool t_none(struct jin *j, struct jv v, struct jargs *a) { (void)j, (void)a; return v.kind == J_NONE; }
static bool t_string(struct jin *j, struct jv v, struct jargs *a) { (void)j, (void)a; return v.kind == J_STR; }
static bool t_mapping(struct jin *j, struct jv v, struct jargs *a) { (void)j, (void)a; return v.kind == J_DICT; }
static bool t_sequence(struct jin *j, struct jv v, struct jargs *a)
{
    (void)j, (void)a;
    return dan_jv_seq(v) || v.kind == J_STR || v.kind == J_DICT || v.kind == J_UNDEF;
}
static bool t_iterable(struct jin *j, struct jv v, struct jargs *a) { return t_sequence(j, v, a) || v.kind == J_LOOP; }
static bool t_number(struct jin *j, struct jv v, struct jargs *a) { (void)j, (void)a; return dan_jv_is_num(v); }
static bool t_integer(struct jin *j, struct jv v, struct jargs *a) { (void)j, (void)a; return v.kind == J_INT; }
static bool t_float(struct jin *j, struct jv v, struct jargs *a) { (void)j, (void)a; return v.kind == J_FLOAT; }
static bool t_boolean(struct jin *j, struct jv v, struct jargs *a) { (void)j, (void)a; return v.kind == J_BOOL; }
static bool t_true(struct jin *j, struct jv v, struct jargs *a) { (void)j, (void)a; return v.kind == J_BOOL && v.u.b; }
static bool t_false(struct jin *j, struct jv v, struct jargs *a) { (void)j, (void)a; return v.kind == J_BOOL && !v.u.b; }
static bool t_callable(struct jin *j, struct jv v, struct jargs *a) { (void)j, (void)a; return v.kind == J_FUNC || v.kind == J_LOOP; }
static bool t_eq(struct jin *j, struct jv v, struct jargs *a) { return dan_jv_eq(j, v, arg0(a)); }
static bool t_ne(struct jin *j, struct jv v, struct jargs *a) { return !dan_jv_eq(j, v, arg0(a)); }
static bool t_lt(struct jin *j, struct jv v, struct jargs *a) { return dan_jv_cmp(j, v, arg0(a)) < 0; }
static bool t_le(struct jin *j, struct jv v, struct jargs *a) { return dan_jv_cmp(j, v, arg0(a)) <= 0; }
static bool t_gt(struct jin *j, struct jv v, struct jargs *a) { return dan_jv_cmp(j, v, arg0(a)) > 0; }
static bool t_ge(struct jin *j, struct jv v, struct jargs *a) { return dan_jv_cmp(j, v, arg0(a)) >= 0; }
static bool t_in(struct jin *j, struct jv v, struct jargs *a) { return dan_jin_in(j, v, arg0(a)); }

static bool t_same(struct jin *j, struct jv v, struct jargs *a)
{
    struct jv b = arg0(a);
    if (v.kind != b.kind) return false;
    if (dan_jv_seq(v)) return v.u.l == b.u.l;
    return v.kind == J_DICT ? v.u.d == b.u.d : dan_jv_eq(j, v, b);
}
static bool t_escaped(struct jin *j, struct jv v, struct jargs *a) { (void)j, (void)v, (void)a; return false; }
static bool t_filter(struct jin *j, struct jv v, struct jargs *a)
{
    (void)a;
    const char *name = name_arg(j, v);
    return name && dan_jin_has_filter(name);
}
static bool t_test(struct jin *j, struct jv v, struct jargs *a)
{
    (void)a;
    const char *name = name_arg(j, v);
    return name && dan_jin_has_test(name);
}

static bool divisible(struct jin *j, struct jv v, struct jv by, int64_t rest_)
{
    if (v.kind == J_FLOAT && by.kind == J_INT && by.u.i) return fabs(fmod(v.u.f, (double)by.u.i)) == (double)rest_;
    if ((v.kind != J_INT && v.kind != J_BOOL) || by.kind != J_INT || by.u.i == 0) {
        dan_jin_fail(j, DAN_EFORMAT, "a test needs numbers, not a value of type %s", dan_jv_kind(v));
        return false;
    }
    return by.u.i == -1 || llabs((v.kind == J_BOOL ? v.u.b : v.u.i) % by.u.i) == rest_;
}
static bool t_odd(struct jin *j, struct jv v, struct jargs *a) { (void)a; return divisible(j, v, dan_jv_int(2), 1); }
static bool t_even(struct jin *j, struct jv v, struct jargs *a) { (void)a; return divisible(j, v, dan_jv_int(2), 0); }
static bool t_divisible(struct jin *j, struct jv v, struct jargs *a) { return divisible(j, v, arg0(a), 0); }
static bool t_cased(struct jin *j, struct jv v, int how)
{
    struct jstr s = text_of(j, v);
    struct jv same = dan_jv_case(j, s, how), other = dan_jv_case(j, s, how == 'u' ? 'l' : 'u');
    return dan_jv_eq(j, same, dan_jv_of(s)) && !dan_jv_eq(j, other, dan_jv_of(s));
}
static bool t_upper(struct jin *j, struct jv v, struct jargs *a) { (void)a; return t_cased(j, v, 'u'); }
static bool t_lower(struct jin *j, struct jv v, struct jargs *a) { (void)a; return t_cased(j, v, 'l'); }

static const struct { const char *name; test_fn *fn; } tests[] = {
    {"defined", t_defined}, {"undefined", t_undefined}, {"none", t_none}, {"string", t_string}, {"mapping", t_mapping}, {"sequence", t_sequence},
    {"iterable", t_iterable}, {"number", t_number}, {"integer", t_integer}, {"float", t_float}, {"boolean", t_boolean}, {"true", t_true},
    {"false", t_false}, {"callable", t_callable}, {"eq", t_eq}, {"equalto", t_eq}, {"==", t_eq}, {"ne", t_ne}, {"!=", t_ne}, {"lt", t_lt},
    {"lessthan", t_lt}, {"<", t_lt}, {"le", t_le}, {"<=", t_le}, {"gt", t_gt}, {"greaterthan", t_gt}, {">", t_gt}, {"ge", t_ge}, {">=", t_ge},
    {"in", t_in}, {"odd", t_odd}, {"even", t_even}, {"divisibleby", t_divisible}, {"upper", t_upper}, {"lower", t_lower},
    {"sameas", t_same}, {"escaped", t_escaped}, {"filter", t_filter}, {"test", t_test},
};
enum { N_TESTS = sizeof tests / sizeof *tests };

bool dan_jin_test(struct jin *j, const char *name, struct jv v, struct jargs *a)
{
    for (int i = 0; i < N_TESTS && dan_jin_step(j, 1); i++)
        if (!strcmp(tests[i].name, name)) return tests[i].fn(j, v, a);
    dan_jin_fail(j, DAN_EUNSUPPORTED, "there is no test '%s'", name);
    return false;
}

bool dan_jin_has_test(const char *name)
{
    for (int i = 0; i < N_TESTS; i++)
        if (!strcmp(tests[i].name, name)) return true;
    return false;
}
