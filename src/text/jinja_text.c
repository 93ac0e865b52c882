/* Strings of the template interpreter: characters, slices, and the methods of str, dict and list. */
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>
#include "base/utf8.h"
#include "text/jinja_impl.h"

size_t dan_jstr_chars(struct jstr s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return n;
}

size_t dan_jstr_offset(struct jstr s, size_t chars)
{
    size_t i = 0;
    for (; i < s.n; i++)
        if (((unsigned char)s.p[i] & 0xc0) != 0x80 && chars-- == 0) break;
    return i;
}

struct jstr dan_jstr_sub(struct jstr s, size_t from, size_t to)
{
    return (struct jstr){.p = s.p + from, .m = s.m ? s.m + from : NULL, .n = to - from};
}

static bool space_char(int32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool dan_jstr_space(struct jstr s, size_t i, size_t *n)
{
    int32_t cp;
    *n = (size_t)dan_utf8_next(s.p + i, s.n - i, &cp);
    return space_char(cp);
}

/* Is the character of s at byte i, n bytes long, one of set (NULL: white space)? */
static bool in_set(struct jstr s, size_t i, size_t n, const struct jstr *set)
{
    size_t k;
    if (!set) return dan_jstr_space(s, i, &k);
    return dan_jstr_find(*set, dan_jstr_sub(s, i, i + n), 0) >= 0;
}

struct jstr dan_jstr_strip(struct jstr s, const struct jstr *set, bool left, bool right)
{
    size_t from = 0, to = s.n;
    while (left && from < to) {
        size_t n = 1;
        while (from + n < to && ((unsigned char)s.p[from + n] & 0xc0) == 0x80) n++;
        if (!in_set(s, from, n, set)) break;
        from += n;
    }
    while (right && to > from) {
        size_t n = 1;
        while (n < to - from && ((unsigned char)s.p[to - n] & 0xc0) == 0x80) n++;
        if (!in_set(s, to - n, n, set)) break;
        to -= n;
    }
    return dan_jstr_sub(s, from, to);
}

ptrdiff_t dan_jstr_find(struct jstr s, struct jstr what, size_t from)
{
    if (!what.n) return (ptrdiff_t)from;
    if (from > s.n || what.n > s.n - from) return -1;
    const char *p = memmem(s.p + from, s.n - from, what.p, what.n);
    return p ? p - s.p : -1;
}

static bool cased(int32_t c) { return utf8proc_toupper(c) != c || utf8proc_tolower(c) != c; }

/* Does the filter title begin a new word behind c?  Its pattern is [-\s({\[<]+. */
static bool word_break(int32_t c) { return space_char(c) || (c > 0 && c < 128 && strchr("-({[<", c)); }

struct jv dan_jv_case(struct jin *j, struct jstr s, int how)
{
    struct jbuf b = {0};
    bool first = true;
    for (size_t i = 0; i < s.n && dan_jin_step(j, 1);) {
        int32_t cp;
        char out[4];
        size_t n = (size_t)dan_utf8_next(s.p + i, s.n - i, &cp);
        bool up = how == 'u' || (how != 'l' && first);
        uint8_t mark[4];
        memset(mark, s.m ? s.m[i] : 0, 4);
        if (how == 'c') first = false;
        else if (how == 't') first = !cased(cp);
        else if (how == 'T') first = word_break(cp);
        if (up && cp == 0xdf) dan_jbuf_put(j, &b, how == 'u' ? "SS" : "Ss", mark, 2);
        else dan_jbuf_put(j, &b, out, mark, (size_t)dan_utf8_put(up ? utf8proc_toupper(cp) : utf8proc_tolower(cp), out));
        i += n;
    }
    return dan_jbuf_str(&b);
}

struct jv dan_jv_replace(struct jin *j, struct jstr s, struct jstr from, struct jstr to, int64_t most)
{
    struct jbuf b = {0};
    size_t i = 0;
    while (most != 0 && dan_jin_step(j, 1 + (s.n - i) / 4096)) {
        ptrdiff_t k = dan_jstr_find(s, from, i);
        if (k < 0 || (from.n == 0 && i > s.n)) break;
        if (!from.n) {                         /* before every character, and at the end */
            dan_jbuf_put(j, &b, to.p, to.m, to.n);
            most--;
            if (i == s.n) break;
            size_t n = 1;
            while (i + n < s.n && ((unsigned char)s.p[i + n] & 0xc0) == 0x80) n++;
            dan_jbuf_put(j, &b, s.p + i, s.m ? s.m + i : NULL, n);
            i += n;
            continue;
        }
        dan_jbuf_put(j, &b, s.p + i, s.m ? s.m + i : NULL, (size_t)k - i);
        dan_jbuf_put(j, &b, to.p, to.m, to.n);
        i = (size_t)k + from.n;
        most--;
    }
    dan_jbuf_put(j, &b, s.p + i, s.m ? s.m + i : NULL, s.n - i);
    return dan_jbuf_str(&b);
}

static bool index_kind(struct jv v) { return v.kind == J_INT || v.kind == J_BOOL || v.kind == J_NONE; }

static int64_t clamp(struct jv v, int64_t n, int64_t low, int64_t high, int64_t dflt)
{
    if (v.kind != J_INT && v.kind != J_BOOL) return dflt;
    int64_t i = v.kind == J_BOOL ? v.u.b : v.u.i;
    if (i < 0) i = i < -n ? low : i + n;
    return i < low ? low : i > high ? high : i;
}

struct jv dan_jv_slice(struct jin *j, struct jv v, struct jv from, struct jv to, struct jv by)
{
    if (v.kind != J_STR && !dan_jv_seq(v)) {
        dan_jin_fail(j, DAN_EFORMAT, "a value of type %s has no slices", dan_jv_kind(v));
        return v;
    }
    if (!index_kind(from) || !index_kind(to) || !index_kind(by)) {
        dan_jin_fail(j, DAN_EFORMAT, "the bounds of a slice are whole numbers or none");
        return v;
    }
    struct jlist *l = v.kind == J_STR ? NULL : v.u.l;
    if (!l && !dan_jin_step(j, v.u.s.n / 16)) return v;
    int64_t n = l ? (int64_t)l->n : (int64_t)dan_jstr_chars(v.u.s), step = by.kind == J_INT ? by.u.i : 1;
    if (step == 0) {
        dan_jin_fail(j, DAN_EFORMAT, "the step of a slice is 0");
        return v;
    }
    int64_t a = step > 0 ? clamp(from, n, 0, n, 0) : clamp(from, n, -1, n - 1, n - 1);
    int64_t b = step > 0 ? clamp(to, n, 0, n, n) : clamp(to, n, -1, n - 1, -1);
    if (!l && step == 1) {
        size_t p = dan_jstr_offset(v.u.s, (size_t)a);
        return dan_jv_of(dan_jstr_sub(v.u.s, p, b > a ? p + dan_jstr_offset(dan_jstr_sub(v.u.s, p, v.u.s.n), (size_t)(b - a)) : p));
    }
    struct jv out = dan_jv_list(j, v.kind == J_TUPLE ? J_TUPLE : J_LIST);
    struct jbuf text = {0};
    if (!l) l = dan_jv_items(j, v);
    for (int64_t i = a; l && (step > 0 ? i < b : i > b) && dan_jin_step(j, 1);) {
        if (v.kind == J_STR) dan_jv_print(j, &text, l->v[i]);
        else dan_jlist_push(j, out.u.l, l->v[i]);
        if (__builtin_add_overflow(i, step, &i)) break;
    }
    return v.kind == J_STR ? dan_jbuf_str(&text) : out;
}

/* --- methods */

struct jstr dan_jarg_str(struct jin *j, struct jargs *a, size_t i, const char *name)
{
    struct jv v = dan_jarg(a, i, name, dan_jv_undef(name));
    if (v.kind != J_STR) {
        dan_jin_fail(j, DAN_EFORMAT, "a method of str needs a string, not a value of type %s", dan_jv_kind(v));
        return (struct jstr){.p = ""};
    }
    return v.u.s;
}

static struct jv m_strip(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    struct jstr set = {0};
    bool given = a->n && a->v[0].kind != J_NONE;
    if (given) set = dan_jarg_str(j, a, 0, "chars");
    dan_jin_step(j, self.u.s.n / 16 * (1 + set.n / 16));
    return dan_jv_of(dan_jstr_strip(self.u.s, given ? &set : NULL, *name != 'r', *name != 'l'));
}

static struct jv m_case(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    (void)a;
    return dan_jv_case(j, self.u.s, *name);
}

static bool affix(struct jstr s, struct jstr x, bool start)
{
    return x.n <= s.n && !memcmp(start ? s.p : s.p + s.n - x.n, x.p, x.n);
}

static struct jv m_affix(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    bool start = *name == 's', yes = false;
    if (a->n && a->v[0].kind == J_TUPLE) {
        for (size_t i = 0; i < a->v[0].u.l->n && dan_jin_step(j, 1); i++)
            if (a->v[0].u.l->v[i].kind == J_STR) yes |= affix(self.u.s, a->v[0].u.l->v[i].u.s, start);
        return dan_jv_bool(yes);
    }
    return dan_jv_bool(affix(self.u.s, dan_jarg_str(j, a, 0, "prefix"), start));
}

static struct jv m_replace(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    (void)name;
    struct jv most = dan_jarg(a, 2, "count", dan_jv_int(-1));
    struct jstr from = dan_jarg_str(j, a, 0, "old"), to = dan_jarg_str(j, a, 1, "new");
    return dan_jv_replace(j, self.u.s, from, to, most.kind == J_INT ? most.u.i : -1);
}

static void reverse(struct jlist *l)
{
    for (size_t i = 0; i < l->n / 2; i++) {
        struct jv v = l->v[i];
        l->v[i] = l->v[l->n - 1 - i];
        l->v[l->n - 1 - i] = v;
    }
}

static ptrdiff_t find_last(struct jstr s, struct jstr what)
{
    for (size_t i = s.n + 1; i-- > what.n;)
        if (!memcmp(s.p + i - what.n, what.p, what.n)) return (ptrdiff_t)(i - what.n);
    return -1;
}

/* Words between white space; the last one of `most` splits is the rest of the text as it stands. */
static void split_words(struct jin *j, struct jlist *l, struct jstr s, int64_t most)
{
    for (s = dan_jstr_strip(s, NULL, true, false); s.n && dan_jin_step(j, 1); s = dan_jstr_strip(s, NULL, true, false)) {
        size_t i = 0, n;
        while (i < s.n && !dan_jstr_space(s, i, &n)) i += n;
        if (most-- == 0) i = s.n;
        dan_jin_step(j, i / 16);
        dan_jlist_push(j, l, dan_jv_of(dan_jstr_sub(s, 0, i)));
        s = dan_jstr_sub(s, i, s.n);
    }
}

static void split_words_right(struct jin *j, struct jlist *l, struct jstr s, int64_t most)
{
    for (s = dan_jstr_strip(s, NULL, false, true); s.n && dan_jin_step(j, 1); s = dan_jstr_strip(s, NULL, false, true)) {
        size_t from = most-- == 0 ? 0 : s.n, n;
        while (from > 0) {
            size_t k = from - 1;
            while (k > 0 && ((unsigned char)s.p[k] & 0xc0) == 0x80) k--;
            if (dan_jstr_space(s, k, &n)) break;
            from = k;
        }
        dan_jin_step(j, (s.n - from) / 16);
        dan_jlist_push(j, l, dan_jv_of(dan_jstr_sub(s, from, s.n)));
        s = dan_jstr_sub(s, 0, from);
    }
    reverse(l);
}

static struct jv m_split(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    struct jv out = dan_jv_list(j, J_LIST), sep = dan_jarg(a, 0, "sep", dan_jv_none()), max = dan_jarg(a, 1, "maxsplit", dan_jv_int(-1));
    int64_t most = max.kind == J_INT ? max.u.i : -1;
    struct jstr s = self.u.s;
    bool right = *name == 'r';
    if (j->failed) return out;
    if (sep.kind == J_NONE) {
        if (most < 0) split_words(j, out.u.l, s, INT64_MAX);
        else if (right) split_words_right(j, out.u.l, s, most);
        else split_words(j, out.u.l, s, most);
        return out;
    }
    if (sep.kind != J_STR || !sep.u.s.n) {
        dan_jin_fail(j, DAN_EFORMAT, "%s needs a string that is not empty", name);
        return out;
    }
    while (most-- != 0 && dan_jin_step(j, 1 + s.n / 4096)) {
        ptrdiff_t k = right ? find_last(s, sep.u.s) : dan_jstr_find(s, sep.u.s, 0);
        if (k < 0) break;
        size_t at = (size_t)k, end = at + sep.u.s.n;
        dan_jlist_push(j, out.u.l, dan_jv_of(right ? dan_jstr_sub(s, end, s.n) : dan_jstr_sub(s, 0, at)));
        s = right ? dan_jstr_sub(s, 0, at) : dan_jstr_sub(s, end, s.n);
    }
    dan_jlist_push(j, out.u.l, dan_jv_of(s));
    if (right) reverse(out.u.l);
    return out;
}

static struct jv m_splitlines(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    (void)name;
    bool keep = dan_jv_truth(dan_jarg(a, 0, "keepends", dan_jv_bool(false)));
    struct jv out = dan_jv_list(j, J_LIST);
    struct jstr s = self.u.s;
    for (size_t i = 0, from = 0; i < s.n && dan_jin_step(j, 1);) {
        int32_t cp;
        size_t n = (size_t)dan_utf8_next(s.p + i, s.n - i, &cp), end = i + n;
        i = end;
        bool line = (cp >= 10 && cp <= 13) || (cp >= 28 && cp <= 30) || cp == 0x85 || cp == 0x2028 || cp == 0x2029;
        if (cp == 13 && end < s.n && s.p[end] == '\n') i = end + 1;
        if (!line && i < s.n) continue;
        dan_jlist_push(j, out.u.l, dan_jv_of(dan_jstr_sub(s, from, keep || !line ? i : end - n)));
        from = i;
    }
    return out;
}

static struct jv m_find(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    struct jstr what = dan_jarg_str(j, a, 0, "sub");
    dan_jin_step(j, self.u.s.n / 16);
    ptrdiff_t k = *name == 'r' ? find_last(self.u.s, what) : dan_jstr_find(self.u.s, what, 0);
    if (k < 0 && strchr(name, 'x')) dan_jin_fail(j, DAN_EFORMAT, "substring not found");
    return dan_jv_int(k < 0 ? -1 : (int64_t)dan_jstr_chars(dan_jstr_sub(self.u.s, 0, (size_t)k)));
}

static struct jv m_count(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    (void)name;
    struct jstr what = dan_jarg_str(j, a, 0, "sub");
    if (!what.n) return dan_jv_int((int64_t)dan_jstr_chars(self.u.s) + 1);
    int64_t n = 0;
    for (ptrdiff_t k = 0; dan_jin_step(j, 1 + self.u.s.n / 4096) && (k = dan_jstr_find(self.u.s, what, (size_t)k)) >= 0; k += (ptrdiff_t)what.n) n++;
    return dan_jv_int(n);
}

static struct jv m_join(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    (void)name;
    struct jbuf b = {0};
    struct jlist *l = a->n ? dan_jv_items(j, a->v[0]) : NULL;
    for (size_t i = 0; l && i < l->n && dan_jin_step(j, 1); i++) {
        if (i) dan_jv_print(j, &b, self);
        if (l->v[i].kind != J_STR) dan_jin_fail(j, DAN_EFORMAT, "join needs strings, not a value of type %s", dan_jv_kind(l->v[i]));
        dan_jv_print(j, &b, l->v[i]);
    }
    return dan_jbuf_str(&b);
}

static struct jv m_affixless(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    struct jstr x = dan_jarg_str(j, a, 0, "prefix"), s = self.u.s;
    bool start = name[6] == 'p';
    if (!affix(s, x, start)) return self;
    return dan_jv_of(start ? dan_jstr_sub(s, x.n, s.n) : dan_jstr_sub(s, 0, s.n - x.n));
}

static bool all_of(struct jin *j, struct jstr s, bool (*is)(int32_t cp))
{
    for (size_t i = 0; i < s.n && dan_jin_step(j, 1);) {
        int32_t cp;
        i += (size_t)dan_utf8_next(s.p + i, s.n - i, &cp);
        if (!is(cp)) return false;
    }
    return s.n > 0;
}
static bool digit_char(int32_t c) { return utf8proc_category(c) == UTF8PROC_CATEGORY_ND; }
static bool alpha_char(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}
static bool alnum_char(int32_t c) { return alpha_char(c) || digit_char(c); }

static struct jv m_is(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    (void)a;
    return dan_jv_bool(all_of(j, self.u.s, name[2] == 'd' ? digit_char : name[2] == 's' ? space_char : name[4] == 'p' ? alpha_char : alnum_char));
}

static struct jv m_items(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    (void)a;
    struct jv out = dan_jv_list(j, J_LIST);
    struct jdict *d = self.u.d;
    for (size_t i = 0; i < d->n && dan_jin_step(j, 1); i++) {
        struct jv pair = *name == 'k' ? d->key[i] : d->val[i];
        if (*name == 'i') {
            pair = dan_jv_list(j, J_TUPLE);
            if (j->failed) break;
            dan_jlist_push(j, pair.u.l, d->key[i]);
            dan_jlist_push(j, pair.u.l, d->val[i]);
        }
        dan_jlist_push(j, out.u.l, pair);
    }
    return out;
}

static struct jv m_get(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    (void)name;
    struct jv *at = a->n ? dan_jdict_at(j, self.u.d, a->v[0]) : NULL;
    return at ? *at : dan_jarg(a, 1, "default", dan_jv_none());
}

static struct jv m_index(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    int64_t n = 0;
    for (size_t i = 0; a->n && i < self.u.l->n && dan_jin_step(j, 1); i++) {
        if (!dan_jv_eq(j, self.u.l->v[i], a->v[0])) continue;
        if (*name == 'i') return dan_jv_int((int64_t)i);
        n++;
    }
    if (*name == 'i') dan_jin_fail(j, DAN_EFORMAT, "the value is not in the list");
    return dan_jv_int(n);
}

static struct jv m_copy(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    (void)j, (void)a, (void)name;
    return self;                               /* nothing can change one */
}

static struct jv m_refused(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    (void)a;
    dan_jin_fail(j, DAN_EFORMAT, "'%s' would change a %s, which a template may not do", name, dan_jv_kind(self));
    return dan_jv_none();
}

static struct jv m_cycle(struct jin *j, struct jv self, struct jargs *a, const char *name)
{
    (void)name;
    if (!a->n) dan_jin_fail(j, DAN_EFORMAT, "cycle needs items");
    return a->n ? a->v[self.u.loop->i % a->n] : dan_jv_none();
}

static const struct jmethod methods[] = {
    {J_STR, "strip", m_strip}, {J_STR, "lstrip", m_strip}, {J_STR, "rstrip", m_strip}, {J_STR, "upper", m_case}, {J_STR, "lower", m_case},
    {J_STR, "title", m_case}, {J_STR, "capitalize", m_case}, {J_STR, "startswith", m_affix}, {J_STR, "endswith", m_affix},
    {J_STR, "replace", m_replace}, {J_STR, "split", m_split}, {J_STR, "rsplit", m_split}, {J_STR, "splitlines", m_splitlines},
    {J_STR, "find", m_find}, {J_STR, "rfind", m_find}, {J_STR, "index", m_find}, {J_STR, "rindex", m_find}, {J_STR, "count", m_count},
    {J_STR, "join", m_join}, {J_STR, "removeprefix", m_affixless}, {J_STR, "removesuffix", m_affixless}, {J_STR, "isdigit", m_is},
    {J_STR, "isspace", m_is}, {J_STR, "isalpha", m_is}, {J_STR, "isalnum", m_is},
    {J_DICT, "items", m_items}, {J_DICT, "keys", m_items}, {J_DICT, "values", m_items}, {J_DICT, "get", m_get}, {J_DICT, "copy", m_copy},
    {J_DICT, "update", m_refused}, {J_DICT, "pop", m_refused}, {J_DICT, "clear", m_refused}, {J_DICT, "setdefault", m_refused},
    {J_DICT, "popitem", m_refused},
    {J_LIST, "index", m_index}, {J_LIST, "count", m_index}, {J_TUPLE, "index", m_index}, {J_TUPLE, "count", m_index}, {J_LIST, "copy", m_copy},
    {J_LIST, "append", m_refused}, {J_LIST, "pop", m_refused}, {J_LIST, "extend", m_refused}, {J_LIST, "insert", m_refused},
    {J_LIST, "remove", m_refused}, {J_LIST, "clear", m_refused}, {J_LIST, "sort", m_refused}, {J_LIST, "reverse", m_refused},
    {J_LOOP, "cycle", m_cycle},
};

static struct jv call_method(struct jin *j, struct jfunc *f, struct jargs *a) { return f->method->call(j, f->self, a, f->name); }

static const struct jmethod *method_of(enum jkind kind, const char *name)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (methods[i].of == kind && !strcmp(methods[i].name, name)) return &methods[i];
    for (const struct jmethod *m = dan_jin_more_methods; m->name; m++)
        if (m->of == kind && !strcmp(m->name, name)) return m;
    return NULL;
}

bool dan_jin_method(struct jin *j, struct jv self, const char *name, struct jv *out)
{
    const struct jmethod *m = method_of(self.kind, name);
    struct jfunc *f = m ? dan_jin_alloc(j, 1, sizeof *f) : NULL;
    if (!f) return false;
    *f = (struct jfunc){.name = m->name, .call = call_method, .self = self, .method = m};
    *out = (struct jv){.kind = J_FUNC, .u.fn = f};
    return true;
}
