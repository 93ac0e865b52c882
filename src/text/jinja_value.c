/* Values of the template interpreter: memory, printing as Python prints, comparison. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/utf8.h"
#include "text/jinja_impl.h"

void dan_jin_fail(struct jin *j, int code, const char *fmt, ...)
{
    char msg[400];
    va_list ap;
    if (j->failed) return;
    j->failed = true;
    j->code = code;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    dan_fail(j->e, code, "chat template, line %d: %s", j->line, msg);
}

enum { CHUNK = 64 * 1024 };

void *dan_jin_alloc(struct jin *j, size_t n, size_t size)
{
    size_t bytes;
    if (j->failed) return NULL;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > j->o.max_memory - j->used) {
        dan_jin_fail(j, DAN_EINVAL, "the template needs more than %zu bytes of memory", j->o.max_memory);
        return NULL;
    }
    bytes = (bytes + 15) & ~(size_t)15;
    if (bytes > j->room) {
        size_t chunk = bytes > CHUNK / 4 ? bytes : CHUNK;
        char *p = dan_arena_alloc(j->arena, chunk);
        if (!p) {
            dan_jin_fail(j, DAN_ENOMEM, "not enough memory");
            return NULL;
        }
        j->used += chunk > j->o.max_memory - j->used ? j->o.max_memory - j->used : chunk;
        if (chunk == bytes) return p;
        j->at = p;
        j->room = chunk;
    }
    void *p = j->at;
    j->at += bytes;
    j->room -= bytes;
    return p;
}

bool dan_jin_step(struct jin *j, size_t n)
{
    j->steps += n < INT64_MAX / 4 ? (int64_t)n : INT64_MAX / 4;
    if (j->steps > j->o.max_steps)
        dan_jin_fail(j, DAN_EINVAL, "the template takes more than %lld steps", (long long)j->o.max_steps);
    return !j->failed;
}

char *dan_jin_name(struct jin *j, const char *p, size_t n)
{
    char *s = dan_jin_alloc(j, n + 1, 1);
    if (s) memcpy(s, p, n);
    return s;
}

static bool buf_room(struct jin *j, struct jbuf *b, size_t n)
{
    size_t need = b->n + n;
    if (need < n || need > j->o.max_output) {
        dan_jin_fail(j, DAN_EINVAL, "a text gets longer than %zu bytes", j->o.max_output);
        return false;
    }
    if (need <= b->cap) return !j->failed;
    size_t cap = b->cap * 2 > need ? b->cap * 2 : need + 48;
    char *p = dan_jin_alloc(j, cap, 1);
    uint8_t *m = dan_jin_alloc(j, cap, 1);
    if (!p || !m) return false;
    if (b->n) memcpy(p, b->p, b->n);
    if (b->n) memcpy(m, b->m, b->n);
    b->p = p;
    b->m = m;
    b->cap = cap;
    return true;
}

void dan_jbuf_put(struct jin *j, struct jbuf *b, const char *p, const uint8_t *m, size_t n)
{
    if (!n || !dan_jin_step(j, n / 64) || !buf_room(j, b, n)) return;
    memcpy(b->p + b->n, p, n);
    if (m) {
        memcpy(b->m + b->n, m, n);
        b->marked = true;
    } else memset(b->m + b->n, 0, n);
    b->n += n;
}

void dan_jbuf_puts(struct jin *j, struct jbuf *b, const char *text) { dan_jbuf_put(j, b, text, NULL, strlen(text)); }
void dan_jbuf_char(struct jin *j, struct jbuf *b, char c, uint8_t mark) { dan_jbuf_put(j, b, &c, &mark, 1); }
struct jv dan_jv_of(struct jstr s)
{
    if (!s.p) s = (struct jstr){.p = ""};
    return (struct jv){.kind = J_STR, .u.s = s};
}
struct jv dan_jbuf_str(struct jbuf *b) { return dan_jv_of((struct jstr){.p = b->p, .m = b->marked ? b->m : NULL, .n = b->n}); }
struct jv dan_jv_none(void) { return (struct jv){.kind = J_NONE}; }
struct jv dan_jv_undef(const char *name) { return (struct jv){.kind = J_UNDEF, .u.name = name}; }
struct jv dan_jv_bool(bool b) { return (struct jv){.kind = J_BOOL, .u.b = b}; }
struct jv dan_jv_int(int64_t i) { return (struct jv){.kind = J_INT, .u.i = i}; }
struct jv dan_jv_float(double f) { return (struct jv){.kind = J_FLOAT, .u.f = f}; }
struct jv dan_jv_text(const char *p) { return dan_jv_of((struct jstr){.p = p, .n = strlen(p)}); }

struct jv dan_jv_list(struct jin *j, enum jkind kind)
{
    struct jlist *l = dan_jin_alloc(j, 1, sizeof *l);
    return l ? (struct jv){.kind = kind, .u.l = l} : dan_jv_none();
}
struct jv dan_jv_dict(struct jin *j)
{
    struct jdict *d = dan_jin_alloc(j, 1, sizeof *d);
    return d ? (struct jv){.kind = J_DICT, .u.d = d} : dan_jv_none();
}

/* Twice the room for n values, the old ones copied. */
static struct jv *grown(struct jin *j, const struct jv *old, size_t n, size_t cap)
{
    struct jv *v = dan_jin_alloc(j, cap, sizeof *v);
    if (v && n) memcpy(v, old, n * sizeof *v);
    return v;
}

void dan_jlist_push(struct jin *j, struct jlist *l, struct jv v)
{
    if (j->failed) return;
    if (l->n == l->cap) {
        struct jv *bigger = grown(j, l->v, l->n, l->cap ? l->cap * 2 : 4);
        if (!bigger) return;
        l->v = bigger;
        l->cap = l->cap ? l->cap * 2 : 4;
    }
    l->v[l->n++] = v;
}

struct jv *dan_jdict_at(struct jin *j, const struct jdict *d, struct jv key)
{
    for (size_t i = 0; i < d->n && dan_jin_step(j, 1); i++)
        if (dan_jv_eq(j, d->key[i], key)) return &d->val[i];
    return NULL;
}
struct jv *dan_jdict_get(struct jin *j, const struct jdict *d, const char *key) { return dan_jdict_at(j, d, dan_jv_text(key)); }

static void dict_append(struct jin *j, struct jdict *d, struct jv key, struct jv val)
{
    if (j->failed) return;
    if (d->n == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 4;
        struct jv *k = grown(j, d->key, d->n, cap), *v = grown(j, d->val, d->n, cap);
        if (!k || !v) return;
        d->key = k;
        d->val = v;
        d->cap = cap;
    }
    d->key[d->n] = key;
    d->val[d->n++] = val;
}

void dan_jdict_put(struct jin *j, struct jdict *d, struct jv key, struct jv val)
{
    if (key.kind == J_LIST || key.kind == J_DICT) dan_jin_fail(j, DAN_EFORMAT, "a %s cannot be a key", dan_jv_kind(key));
    struct jv *old = dan_jdict_at(j, d, key);
    if (old) *old = val;
    else dict_append(j, d, key, val);
}

bool dan_jv_is_num(struct jv v) { return v.kind == J_BOOL || v.kind == J_INT || v.kind == J_FLOAT; }
double dan_jv_num(struct jv v) { return v.kind == J_FLOAT ? v.u.f : v.kind == J_BOOL ? v.u.b : (double)v.u.i; }
bool dan_jv_seq(struct jv v) { return v.kind == J_LIST || v.kind == J_TUPLE; }

bool dan_jv_truth(struct jv v)
{
    switch (v.kind) {
    case J_UNDEF: case J_NONE: return false;
    case J_BOOL: return v.u.b;
    case J_INT: return v.u.i != 0;
    case J_FLOAT: return v.u.f != 0;
    case J_STR: return v.u.s.n > 0;
    case J_LIST: case J_TUPLE: return v.u.l->n > 0;
    case J_DICT: return v.u.d->n > 0;
    default: return true;
    }
}

const char *dan_jv_kind(struct jv v)
{
    static const char *const name[] = {"undefined value", "None", "bool", "int", "float", "str", "list", "tuple", "dict", "namespace", "loop", "function"};
    return name[v.kind];
}

static bool deep(struct jin *j)
{
    if (++j->depth > J_MAX_DEPTH) dan_jin_fail(j, DAN_EINVAL, "values or calls are nested too deeply (over %d)", J_MAX_DEPTH);
    return !j->failed;
}

static bool dict_eq(struct jin *j, const struct jdict *a, const struct jdict *b)
{
    bool same = a->n == b->n;
    for (size_t i = 0; same && i < a->n && !j->failed; i++) {
        struct jv *v = dan_jdict_at(j, b, a->key[i]);
        same = v && dan_jv_eq(j, a->val[i], *v);
    }
    return same;
}

static bool eq_same_kind(struct jin *j, struct jv a, struct jv b)
{
    bool same = true;
    switch (a.kind) {
    case J_UNDEF: case J_NONE: return true;
    case J_STR: return a.u.s.n == b.u.s.n && dan_jin_step(j, a.u.s.n / 256) && !memcmp(a.u.s.p, b.u.s.p, a.u.s.n);
    case J_LIST: case J_TUPLE:
        if (a.u.l->n != b.u.l->n) return false;
        for (size_t i = 0; same && i < a.u.l->n && dan_jin_step(j, 1); i++) same = dan_jv_eq(j, a.u.l->v[i], b.u.l->v[i]);
        return same;
    case J_DICT: return a.u.d == b.u.d || dict_eq(j, a.u.d, b.u.d);
    case J_SPACE: return a.u.d == b.u.d;
    case J_LOOP: return a.u.loop == b.u.loop;
    case J_FUNC: return a.u.fn == b.u.fn;
    default: return false;
    }
}

bool dan_jv_eq(struct jin *j, struct jv a, struct jv b)
{
    if (dan_jv_is_num(a) && dan_jv_is_num(b)) {
        if (a.kind == J_INT && b.kind == J_INT) return a.u.i == b.u.i;
        return dan_jv_num(a) == dan_jv_num(b);
    }
    if (a.kind != b.kind) return false;
    bool same = deep(j) && eq_same_kind(j, a, b);
    j->depth--;
    return same;
}

static int cmp_str(struct jstr a, struct jstr b)
{
    int c = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);       /* UTF-8 sorts as code points do */
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

int dan_jv_cmp(struct jin *j, struct jv a, struct jv b)
{
    int c = 0;
    if (dan_jv_is_num(a) && dan_jv_is_num(b)) {
        if (a.kind == J_INT && b.kind == J_INT) return (a.u.i > b.u.i) - (a.u.i < b.u.i);
        return (dan_jv_num(a) > dan_jv_num(b)) - (dan_jv_num(a) < dan_jv_num(b));
    }
    if (a.kind == J_STR && b.kind == J_STR) return dan_jin_step(j, a.u.s.n / 256) ? cmp_str(a.u.s, b.u.s) : 0;
    if (a.kind != b.kind || !dan_jv_seq(a)) {
        dan_jin_fail(j, DAN_EFORMAT, "%s and %s cannot be compared", dan_jv_kind(a), dan_jv_kind(b));
        return 0;
    }
    if (deep(j)) {
        size_t n = a.u.l->n < b.u.l->n ? a.u.l->n : b.u.l->n, i = 0;
        while (i < n && dan_jin_step(j, 1) && dan_jv_eq(j, a.u.l->v[i], b.u.l->v[i])) i++;
        c = i < n ? dan_jv_cmp(j, a.u.l->v[i], b.u.l->v[i]) : (a.u.l->n > b.u.l->n) - (a.u.l->n < b.u.l->n);
    }
    j->depth--;
    return c;
}

/* repr(float): the fewest digits that read back the same; an exponent below 1e-4 and from 1e16 on. */
static void print_float(struct jin *j, struct jbuf *b, double f)
{
    char s[40], out[64];
    if (isnan(f) || isinf(f)) {
        dan_jbuf_puts(j, b, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    int digits = 1;
    for (; digits <= 17; digits++) {
        snprintf(s, sizeof s, "%.*e", digits - 1, f);
        if (strtod(s, NULL) == f) break;
    }
    int exp10 = atoi(strchr(s, 'e') + 1);
    if (exp10 < -4 || exp10 >= 16) {
        snprintf(out, sizeof out, "%s", s);
    } else {
        int after = digits - 1 - exp10;
        snprintf(out, sizeof out, "%.*f", after > 1 ? after : 1, f);
    }
    dan_jbuf_puts(j, b, out);
}

static void repr_str(struct jin *j, struct jbuf *b, struct jstr s)
{
    char q = memchr(s.p, '\'', s.n) && !memchr(s.p, '"', s.n) ? '"' : '\'';
    dan_jbuf_char(j, b, q, 0);
    for (size_t i = 0; i < s.n && dan_jin_step(j, 1); i++) {
        char c = s.p[i], esc[8] = {0};
        const char *to = c == '\n' ? "\\n" : c == '\r' ? "\\r" : c == '\t' ? "\\t" : c == '\\' ? "\\\\" : NULL;
        if (c == q) snprintf(esc, sizeof esc, "\\%c", c);
        else if (!to && ((unsigned char)c < 32 || c == 127)) snprintf(esc, sizeof esc, "\\x%02x", (unsigned)(unsigned char)c);
        if (*esc) to = esc;
        for (const char *t = to; t && *t; t++) dan_jbuf_char(j, b, *t, s.m ? s.m[i] : 0);
        if (!to) dan_jbuf_char(j, b, c, s.m ? s.m[i] : 0);
    }
    dan_jbuf_char(j, b, q, 0);
}

static void repr_list(struct jin *j, struct jbuf *b, const struct jlist *l, bool tuple)
{
    dan_jbuf_puts(j, b, tuple ? "(" : "[");
    for (size_t i = 0; i < l->n && dan_jin_step(j, 1); i++) {
        if (i) dan_jbuf_puts(j, b, ", ");
        dan_jv_repr(j, b, l->v[i]);
    }
    dan_jbuf_puts(j, b, tuple ? l->n == 1 ? ",)" : ")" : "]");
}

static void repr_dict(struct jin *j, struct jbuf *b, const struct jdict *d)
{
    dan_jbuf_puts(j, b, "{");
    for (size_t i = 0; i < d->n && dan_jin_step(j, 1); i++) {
        if (i) dan_jbuf_puts(j, b, ", ");
        dan_jv_repr(j, b, d->key[i]);
        dan_jbuf_puts(j, b, ": ");
        dan_jv_repr(j, b, d->val[i]);
    }
    dan_jbuf_puts(j, b, "}");
}

void dan_jv_repr(struct jin *j, struct jbuf *b, struct jv v)
{
    char n[32];
    if (deep(j)) switch (v.kind) {
    case J_UNDEF: dan_jbuf_puts(j, b, "Undefined"); break;
    case J_NONE: dan_jbuf_puts(j, b, "None"); break;
    case J_BOOL: dan_jbuf_puts(j, b, v.u.b ? "True" : "False"); break;
    case J_INT:
        snprintf(n, sizeof n, "%lld", (long long)v.u.i);
        dan_jbuf_puts(j, b, n);
        break;
    case J_FLOAT: print_float(j, b, v.u.f); break;
    case J_STR: repr_str(j, b, v.u.s); break;
    case J_LIST: case J_TUPLE: repr_list(j, b, v.u.l, v.kind == J_TUPLE); break;
    case J_DICT: repr_dict(j, b, v.u.d); break;
    default: dan_jin_fail(j, DAN_EUNSUPPORTED, "a %s cannot be printed", dan_jv_kind(v));
    }
    j->depth--;
}

void dan_jv_print(struct jin *j, struct jbuf *b, struct jv v)
{
    if (v.kind == J_UNDEF) return;
    if (v.kind == J_STR) dan_jbuf_put(j, b, v.u.s.p, v.u.s.m, v.u.s.n);
    else dan_jv_repr(j, b, v);
}

struct jv dan_jv_str(struct jin *j, struct jv v)
{
    struct jbuf b = {0};
    if (v.kind == J_STR) return v;
    dan_jv_print(j, &b, v);
    return dan_jbuf_str(&b);
}

static struct jv json_str(struct jin *j, const char *p, size_t n, uint8_t mark)
{
    uint8_t *m = mark && n ? dan_jin_alloc(j, n, 1) : NULL;
    char *text = dan_jin_name(j, p, n);
    if (!text) return dan_jv_none();
    if (m) memset(m, mark, n);
    return dan_jv_of((struct jstr){.p = text, .m = m, .n = n});
}

/* Templates make control tokens of a role ("<|" + role + "|>"), so the usual ones are trusted. */
static bool usual_role(const char *s)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool", "developer", "ipython", "function", "model"};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (!strcmp(s, roles[i])) return true;
    return false;
}

/* What the assistant is to have said has a mark of its own for each message. */
static uint8_t message_mark(const json_t *message, size_t i)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    return role && (!strcmp(role, "assistant") || !strcmp(role, "model")) ? dan_jinja_assistant_mark(i) : DAN_JINJA_USER;
}

static struct jv json_dict(struct jin *j, const json_t *v, uint8_t mark, int level)
{
    struct jv out = dan_jv_dict(j);
    const char *key;
    json_t *val;
    json_object_foreach((json_t *)v, key, val) {
        if (j->failed) break;
        bool role = level == 2 && !strcmp(key, "role") && json_is_string(val) && usual_role(json_string_value(val));
        int next = level == 0 ? (strcmp(key, "messages") ? 100 : 1) : level + 10;
        dict_append(j, out.u.d, json_str(j, key, strlen(key), level > 0 ? mark : 0), dan_jv_from_json(j, val, role ? 0 : mark, next));
    }
    return out;
}

static struct jv json_list(struct jin *j, const json_t *v, uint8_t mark, int level)
{
    struct jv out = dan_jv_list(j, J_LIST);
    for (size_t i = 0; i < json_array_size(v) && !j->failed; i++) {
        const json_t *one = json_array_get(v, i);
        dan_jlist_push(j, out.u.l, dan_jv_from_json(j, one, mark && level == 1 ? message_mark(one, i) : mark, level == 1 ? 2 : level + 10));
    }
    return out;
}

struct jv dan_jv_from_json(struct jin *j, const json_t *v, uint8_t mark, int level)
{
    struct jv out = dan_jv_none();
    if (deep(j)) switch (json_typeof(v)) {
    case JSON_OBJECT: out = json_dict(j, v, mark, level); break;
    case JSON_ARRAY: out = json_list(j, v, mark, level); break;
    case JSON_STRING: out = json_str(j, json_string_value(v), json_string_length(v), mark); break;
    case JSON_INTEGER: out = dan_jv_int(json_integer_value(v)); break;
    case JSON_REAL: out = dan_jv_float(json_real_value(v)); break;
    case JSON_TRUE: case JSON_FALSE: out = dan_jv_bool(json_is_true(v)); break;
    case JSON_NULL: break;
    }
    j->depth--;
    return out;
}

static struct jlist *characters(struct jin *j, struct jstr s)
{
    struct jv out = dan_jv_list(j, J_LIST);
    for (size_t i = 0; i < s.n && dan_jin_step(j, 1);) {
        int32_t cp;
        int k = dan_utf8_next(s.p + i, s.n - i, &cp);
        dan_jlist_push(j, out.u.l, dan_jv_of(dan_jstr_sub(s, i, i + (size_t)k)));
        i += (size_t)k;
    }
    return j->failed ? NULL : out.u.l;
}

struct jlist *dan_jv_items(struct jin *j, struct jv v)
{
    if (j->failed) return NULL;
    if (dan_jv_seq(v)) return v.u.l;
    if (v.kind == J_STR) return characters(j, v.u.s);
    if (v.kind != J_DICT && v.kind != J_UNDEF) {
        dan_jin_fail(j, DAN_EFORMAT, "a value of type %s cannot be gone through", dan_jv_kind(v));
        return NULL;
    }
    struct jv out = dan_jv_list(j, J_LIST);
    for (size_t i = 0; v.kind == J_DICT && i < v.u.d->n && dan_jin_step(j, 1); i++) dan_jlist_push(j, out.u.l, v.u.d->key[i]);
    return j->failed ? NULL : out.u.l;
}
