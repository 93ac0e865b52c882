#include "text/json_fast.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/map.h"
#include "base/mem.h"
#include "base/utf8.h"

/* `odd` ends everything: each reader does nothing more once it is set. */
struct in { const char *start, *p, *end; bool odd; struct dan_json_fast *f; };
struct span { const char *from, *to; };
struct text { const char *p; size_t n; };

static char peek(struct in *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\t' || *s->p == '\r')) s->p++;
    return s->p < s->end ? *s->p : 0;
}

static bool take(struct in *s, char c)
{
    if (s->odd || peek(s) != c) return false;
    s->p++;
    return true;
}

static void want(struct in *s, char c)
{
    if (!take(s, c)) s->odd = true;
}

/* Between the members of a list: true when one more follows. */
static bool more(struct in *s, char close)
{
    if (take(s, ',')) return true;
    want(s, close);
    return false;
}

static int hex4(const char *p)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i], low = (char)(c | 0x20);
        int d = c >= '0' && c <= '9' ? c - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
        if (d < 0) return -1;
        v = v << 4 | d;
    }
    return v;
}

/* p stands behind "\u"; 0 when it is none that JSON and jansson allow (NUL, half a surrogate pair). */
static int32_t unicode_escape(const char **p, const char *end)
{
    int hi = end - *p >= 4 ? hex4(*p) : -1;
    if (hi <= 0 || (hi >= 0xDC00 && hi < 0xE000)) return 0;
    *p += 4;
    if (hi < 0xD800 || hi >= 0xE000) return hi;
    int lo = end - *p >= 6 && (*p)[0] == '\\' && (*p)[1] == 'u' ? hex4(*p + 2) : -1;
    if (lo < 0xDC00 || lo >= 0xE000) return 0;
    *p += 6;
    return 0x10000 + ((hi - 0xD800) << 10 | (lo - 0xDC00));
}

/* Behind a backslash; appends what is meant. */
static void escape(struct in *s)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char *out = s->f->own + s->f->own_n;
    if (s->p >= s->end) {
        s->odd = true;
    } else if (*s->p == 'u') {
        s->p++;
        int32_t cp = unicode_escape(&s->p, s->end);
        if (cp) s->f->own_n += (size_t)dan_utf8_put(cp, out);
        else s->odd = true;
    } else {
        const char *at = memchr(from, *s->p++, sizeof from - 1);
        if (at) *out = to[at - from], s->f->own_n++;
        else s->odd = true;
    }
}

/* Passes characters that stand for themselves, to a quote or a backslash. */
static void plain(struct in *s)
{
    const char *p = s->p;
    int32_t cp = 0;
    while (p < s->end && cp >= 0 && *p != '"' && *p != '\\') {
        unsigned char c = (unsigned char)*p;
        if (c >= 0x80) p += dan_utf8_next(p, (size_t)(s->end - p), &cp);
        else if (c >= 0x20) p++;
        else cp = -1;
    }
    s->odd |= p >= s->end || cp < 0;
    s->p = p;
}

/* The rest of a string that has escapes; what it means is never longer than how it is written. */
static struct text escaped(struct in *s, const char *from)
{
    struct dan_json_fast *f = s->f;
    if (!f->own && !(f->own = dan_malloc((size_t)(s->end - s->start)))) s->odd = true;
    if (s->odd) return (struct text){"", 0};
    size_t begin = f->own_n;
    while (!s->odd) {
        memcpy(f->own + f->own_n, from, (size_t)(s->p - from));
        f->own_n += (size_t)(s->p - from);
        if (*s->p++ == '"') break;
        escape(s);
        from = s->p;
        if (!s->odd) plain(s);
    }
    return (struct text){f->own + begin, f->own_n - begin};
}

static struct text string(struct in *s)
{
    want(s, '"');
    const char *from = s->p;
    if (!s->odd) plain(s);
    if (s->odd) return (struct text){"", 0};
    if (*s->p == '\\') return escaped(s, from);
    return (struct text){from, (size_t)(s->p++ - from)};
}

/* A key of an object that is looked into: plain, or everything is odd. */
static struct text key(struct in *s)
{
    size_t own = s->f->own_n;
    struct text t = string(s);
    if (s->f->own_n != own) s->odd = true;
    want(s, ':');
    return t;
}

static bool is(struct text t, const char *name) { return t.n == strlen(name) && memcmp(t.p, name, t.n) == 0; }

static int64_t integer(struct in *s)
{
    int64_t v = 0;
    peek(s);
    const char *from = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9' && s->p - from < 10) v = v * 10 + (*s->p++ - '0');
    bool ends = s->p < s->end && (peek(s) == ',' || peek(s) == '}');
    if (s->p == from || (*from == '0' && s->p - from > 1 && from[1] >= '0' && from[1] <= '9') || !ends) s->odd = true;
    return v;
}

/* -?(0|[1-9][0-9]*)(.[0-9]+)?([eE][+-]?[0-9]+)? and nothing else. */
static double number(struct in *s)
{
    char copy[64], *stop;
    peek(s);
    size_t n = 0;
    while (s->p < s->end && n < sizeof copy - 1 && *s->p && strchr("+-.0123456789eE", *s->p)) copy[n++] = *s->p++;
    copy[n] = 0;
    const char *c = copy + (copy[0] == '-');
    bool good = *c >= '0' && *c <= '9' && !(c[0] == '0' && c[1] >= '0' && c[1] <= '9') && n < sizeof copy - 1;
    const char *dot = strchr(c, '.');
    if (dot && (dot[1] < '0' || dot[1] > '9')) good = false;
    double v = strtod(copy, &stop);
    if (!good || *stop || !isfinite(v)) s->odd = true;
    return v;
}

/* Any value, by its brackets: jansson checks what is inside, it is part of the rest. */
static void skip(struct in *s)
{
    int depth = 0;
    do {
        char c = peek(s);
        if (c == '"') string(s);
        else if (c == 0) s->odd = true;
        else {
            depth += (c == '{') + (c == '[') - (c == '}') - (c == ']');
            if (depth < 0) s->odd = true;
            else s->p++;
        }
    } while (!s->odd && (depth > 0 || (peek(s) != ',' && peek(s) != '}' && peek(s) != ']')));
}

static void put_word(struct in *s, struct dan_json_word w)
{
    struct dan_json_fast *f = s->f;
    if (!s->odd && dan_vec_grow(&f->word, &f->word_cap, f->n_words + 1, sizeof *f->word) == 0) f->word[f->n_words++] = w;
    else s->odd = true;
}

static void put_merge(struct in *s, struct dan_json_merge m)
{
    struct dan_json_fast *f = s->f;
    if (!s->odd && dan_vec_grow(&f->merge, &f->merge_cap, f->n_merges + 1, sizeof *f->merge) == 0) f->merge[f->n_merges++] = m;
    else s->odd = true;
}

static void vocab_object(struct in *s)
{
    want(s, '{');
    if (take(s, '}')) return;
    do {
        struct text t = string(s);
        want(s, ':');
        if (s->odd) return;
        put_word(s, (struct dan_json_word){t.p, t.n, integer(s), 0});
    } while (!s->odd && more(s, '}'));
}

static void vocab_list(struct in *s)
{
    s->f->scored = true;
    want(s, '[');
    if (take(s, ']')) return;
    do {
        want(s, '[');
        struct text t = string(s);
        want(s, ',');
        if (s->odd) return;
        put_word(s, (struct dan_json_word){t.p, t.n, (int64_t)s->f->n_words, number(s)});
        want(s, ']');
    } while (!s->odd && more(s, ']'));
}

static void merges(struct in *s)
{
    want(s, '[');
    if (take(s, ']')) return;
    do {
        struct text a = {0}, b = {0};
        bool pair = take(s, '[');
        a = string(s);
        if (pair) {
            want(s, ',');
            b = string(s);
            want(s, ']');
        }
        put_merge(s, (struct dan_json_merge){{a.p, b.p}, {a.n, b.n}});
    } while (!s->odd && more(s, ']'));
}

/* Every file that users have says {"vocab": ..., "merges": ...} once, in this order or the other. */
static void model(struct in *s, struct span *vocab, struct span *merge)
{
    want(s, '{');
    if (take(s, '}')) return;
    do {
        struct text name = key(s);
        char c = s->odd ? 0 : peek(s);
        const char *from = s->p;
        if (is(name, "vocab") && (c == '{' || c == '[') && !vocab->from) {
            if (c == '{') vocab_object(s);
            else vocab_list(s);
            *vocab = (struct span){from, s->p};
        } else if (is(name, "merges") && c == '[' && !merge->from) {
            merges(s);
            *merge = (struct span){from, s->p};
        } else if (!s->odd) skip(s);
    } while (!s->odd && more(s, '}'));
}

static void root(struct in *s, struct span *vocab, struct span *merge)
{
    want(s, '{');
    if (take(s, '}')) return;
    do {
        struct text name = key(s);
        if (s->odd) return;
        if (is(name, "model") && peek(s) == '{') model(s, vocab, merge);
        else skip(s);
    } while (!s->odd && more(s, '}'));
}

static void put_rest(struct in *s, struct span a, struct span b)
{
    struct span cut[2] = {a, b};
    struct dan_str *out = &s->f->rest;
    const char *at = s->start;
    if (b.from && (!a.from || b.from < a.from)) cut[0] = b, cut[1] = a;
    for (int i = 0; i < 2; i++) {
        if (!cut[i].from) continue;
        dan_str_append(out, at, (size_t)(cut[i].from - at));
        dan_str_puts(out, *cut[i].from == '{' ? "{}" : "[]");
        at = cut[i].to;
    }
    dan_str_append(out, at, (size_t)(s->end - at));
    s->odd |= out->failed;
}

/* Keys of one object must differ. */
static bool all_differ(const struct dan_json_fast *f)
{
    size_t cap = 16;
    while (cap < 2 * f->n_words) cap *= 2;
    struct slot { uint32_t word, hash; } *slot = dan_calloc(cap, sizeof *slot);      /* word 0: free */
    bool good = slot && f->n_words < UINT32_MAX;
    for (size_t i = 0; i < f->n_words && good; i++) {
        const struct dan_json_word *w = &f->word[i];
        uint64_t h = dan_hash(w->p, w->n, 7);
        size_t k = (size_t)h & (cap - 1);
        for (; slot[k].word && good; k = (k + 1) & (cap - 1)) {
            const struct dan_json_word *other = &f->word[slot[k].word - 1];
            good = slot[k].hash != (uint32_t)(h >> 32) || other->n != w->n || memcmp(other->p, w->p, w->n) != 0;
        }
        slot[k] = (struct slot){(uint32_t)i + 1, (uint32_t)(h >> 32)};
    }
    dan_free(slot);
    return good;
}

bool dan_json_fast(const char *p, size_t n, struct dan_json_fast *out)
{
    *out = (struct dan_json_fast){0};
    struct in s = {p, p, p + n, false, out};
    struct span vocab = {0}, merge = {0};
    root(&s, &vocab, &merge);
    if (!s.odd) put_rest(&s, vocab, merge);
    out->has_vocab = vocab.from != NULL;
    out->has_merges = merge.from != NULL;
    if (!s.odd && (out->scored || all_differ(out))) return true;
    dan_json_fast_release(out);
    return false;
}

void dan_json_fast_release(struct dan_json_fast *f)
{
    dan_free(f->word);
    dan_free(f->merge);
    dan_free(f->own);
    dan_str_release(&f->rest);
    *f = (struct dan_json_fast){0};
}
