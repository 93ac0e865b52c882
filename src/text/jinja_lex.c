/* Template text to tokens: white space control as Jinja2 has it with trim_blocks and lstrip_blocks. */
#include <string.h>
#include <stdlib.h>
#include "base/utf8.h"
#include "text/jinja_impl.h"

struct lex {
    struct jin *j;
    const char *p;
    size_t n, at;
    int line;
    bool line_start;                           /* what came last ended with a newline, or nothing came */
    struct jtoken *tok;
    size_t n_tok, cap;
};

static void push(struct lex *l, struct jtoken t)
{
    if (l->n_tok == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 64;
        struct jtoken *bigger = dan_jin_alloc(l->j, cap, sizeof *bigger);
        if (!bigger) return;
        if (l->n_tok) memcpy(bigger, l->tok, l->n_tok * sizeof *bigger);
        l->tok = bigger;
        l->cap = cap;
    }
    if (!t.line) t.line = l->line;
    l->tok[l->n_tok++] = t;
}

static bool space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static void advance(struct lex *l, size_t to)
{
    for (; l->at < to; l->at++) l->line += l->p[l->at] == '\n';
    l->j->line = l->line;
}

static bool at(const struct lex *l, size_t i, const char *text)
{
    size_t n = strlen(text);
    return i <= l->n && n <= l->n - i && !memcmp(l->p + i, text, n);
}

static size_t skip_space(const struct lex *l, size_t i)
{
    struct jstr s = {.p = l->p, .n = l->n};
    size_t n;
    while (i < l->n && dan_jstr_space(s, i, &n)) i += n;
    return i;
}

/* Text from l->at up to `end`, where a tag begins (or the template ends); sign is what stands behind the tag's opening. */
static void data(struct lex *l, size_t end, char sign, bool strips)
{
    size_t from = l->at, to = end;
    if (sign == '-') {
        struct jstr s = dan_jstr_strip((struct jstr){.p = l->p + from, .n = to - from}, NULL, false, true);
        to = from + s.n;
    } else if (strips && sign != '+') {
        size_t k = to;
        while (k > from && (l->p[k - 1] == ' ' || l->p[k - 1] == '\t')) k--;
        if (k > from ? l->p[k - 1] == '\n' : l->line_start) to = k;
    }
    if (to > from) push(l, (struct jtoken){.type = T_DATA, .p = l->p + from, .n = to - from});
    advance(l, end);
}

static const char *const operators[] = {"//", "**", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", "(", ")",
                                        "[",  "]",  "{",  "}",  ":",  ",",  ".", "|", ";"};
enum { N_OPERATORS = sizeof operators / sizeof *operators };

static bool name_char(const struct lex *l, size_t i, bool first)
{
    unsigned char c = (unsigned char)l->p[i];
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 128 || (!first && c >= '0' && c <= '9');
}

static bool digit(const struct lex *l, size_t i) { return i < l->n && l->p[i] >= '0' && l->p[i] <= '9'; }

static void number(struct lex *l)
{
    char text[64];
    size_t i = l->at, n = 0;
    bool real = false;
    while (digit(l, i) || (i < l->n && l->p[i] == '_' && digit(l, i + 1))) i++;
    if (i < l->n && l->p[i] == '.' && digit(l, i + 1)) {
        real = true;
        for (i++; digit(l, i); i++) {}
    }
    if (i < l->n && (l->p[i] == 'e' || l->p[i] == 'E')) {
        size_t k = i + 1;
        if (k < l->n && (l->p[k] == '+' || l->p[k] == '-')) k++;
        if (digit(l, k)) {
            real = true;
            for (i = k; digit(l, i); i++) {}
        }
    }
    for (size_t k = l->at; k < i; k++) {
        if (l->p[k] == '_') continue;
        if (n == sizeof text - 1) {
            dan_jin_fail(l->j, DAN_EUNSUPPORTED, "a number has more than %zu characters", sizeof text - 1);
            return;
        }
        text[n++] = l->p[k];
    }
    text[n] = 0;
    struct jtoken t = {.type = real ? T_FLOAT : T_INT};
    if (real) t.f = strtod(text, NULL);
    else {
        for (size_t k = 0; k < n; k++)
            if (__builtin_mul_overflow(t.i, 10, &t.i) || __builtin_add_overflow(t.i, text[k] - '0', &t.i)) {
                dan_jin_fail(l->j, DAN_EUNSUPPORTED, "number '%s' does not fit in 64 bits", text);
                return;
            }
    }
    push(l, t);
    advance(l, i);
}

/* Up to 8 digits, which may name more than a character can be. */
static size_t hex(const char *p, size_t n, uint32_t *out)
{
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        char c = p[i];
        int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (v < 0) return 0;
        *out = *out * 16 + (uint32_t)v;
    }
    return n;
}

/* One escape behind a backslash at s[i]; returns the bytes it takes with the backslash. */
static size_t escape(struct lex *l, const char *s, size_t n, char *out, size_t *k)
{
    static const char from[] = "n\\'\"trbfav", to[] = "\n\\'\"\t\r\b\f\a\v";
    if (n < 2) return 1;
    const char *c = memchr(from, s[1], sizeof from - 1);
    if (c) {
        out[(*k)++] = to[c - from];
        return 2;
    }
    if (s[1] == '\n') return 2;
    size_t digits = s[1] == 'x' ? 2 : s[1] == 'u' ? 4 : s[1] == 'U' ? 8 : 0;
    if (digits) {
        uint32_t cp = 0;
        if (n < 2 + digits || !hex(s + 2, digits, &cp) || cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000)) {
            dan_jin_fail(l->j, DAN_EFORMAT, "a string has an escape '\\%c' that is no character", s[1]);
            return n;
        }
        *k += (size_t)dan_utf8_put((int32_t)cp, out + *k);
        return 2 + digits;
    }
    if (s[1] >= '0' && s[1] <= '7') {
        size_t i = 1;
        int32_t cp = 0;
        for (; i < 4 && i < n && s[i] >= '0' && s[i] <= '7'; i++) cp = cp * 8 + s[i] - '0';
        *k += (size_t)dan_utf8_put(cp, out + *k);
        return i;
    }
    out[(*k)++] = '\\';                        /* Python keeps what it does not know */
    return 1;
}

static void string(struct lex *l)
{
    char q = l->p[l->at];
    size_t i = l->at + 1, k = 0;
    while (i < l->n && l->p[i] != q) i += l->p[i] == '\\' ? 2 : 1;
    if (i >= l->n) {
        dan_jin_fail(l->j, DAN_EFORMAT, "a string is not closed");
        return;
    }
    const char *s = l->p + l->at + 1;
    size_t n = i - l->at - 1;
    char *out = dan_jin_alloc(l->j, n + 8, 1);
    for (size_t at_ = 0; out && at_ < n && !l->j->failed;) {
        if (s[at_] == '\\') at_ += escape(l, s + at_, n - at_, out, &k);
        else out[k++] = s[at_++];
    }
    push(l, (struct jtoken){.type = T_STR, .p = out, .n = k});
    advance(l, i + 1);
}

static void operator(struct lex *l, int *depth)
{
    for (int i = 0; i < N_OPERATORS; i++) {
        if (!at(l, l->at, operators[i])) continue;
        char c = *operators[i];
        if (strchr("([{", c)) ++*depth;
        if (strchr(")]}", c)) --*depth;
        push(l, (struct jtoken){.type = T_OP, .p = operators[i], .n = strlen(operators[i])});
        advance(l, l->at + strlen(operators[i]));
        return;
    }
    dan_jin_fail(l->j, DAN_EFORMAT, "unexpected character '%c'", l->p[l->at]);
}

/* The end of a tag at l->at: its length with the white space that goes with it, or 0. */
static size_t tag_end(const struct lex *l, const char *close, bool trims)
{
    if (l->p[l->at] == '-' && at(l, l->at + 1, close)) return skip_space(l, l->at + 3) - l->at;
    if (trims && l->p[l->at] == '+' && at(l, l->at + 1, close)) return 3;
    if (!at(l, l->at, close)) return 0;
    return 2 + (trims && l->at + 2 < l->n && l->p[l->at + 2] == '\n');
}

static void inside(struct lex *l, const char *close, enum jtok end_type)
{
    int depth = 0;
    while (!l->j->failed) {
        while (l->at < l->n && space(l->p[l->at])) advance(l, l->at + 1);
        if (l->at >= l->n) {
            dan_jin_fail(l->j, DAN_EFORMAT, "a tag is not closed; '%s' is missing", close);
            return;
        }
        size_t end = depth ? 0 : tag_end(l, close, end_type == T_BLOCK_END);
        if (end) {
            push(l, (struct jtoken){.type = end_type});
            advance(l, l->at + end);
            l->line_start = l->p[l->at - 1] == '\n';
            return;
        }
        char c = l->p[l->at];
        if (c == '"' || c == '\'') string(l);
        else if (digit(l, l->at)) number(l);
        else if (name_char(l, l->at, true)) {
            size_t i = l->at;
            while (i < l->n && name_char(l, i, false)) i++;
            push(l, (struct jtoken){.type = T_NAME, .p = dan_jin_name(l->j, l->p + l->at, i - l->at), .n = i - l->at});
            advance(l, i);
        } else operator(l, &depth);
    }
}

static void comment(struct lex *l)
{
    size_t i = l->at;
    while (i < l->n && !at(l, i, "#}")) i++;
    if (i >= l->n) {
        dan_jin_fail(l->j, DAN_EFORMAT, "a comment is not closed; '#}' is missing");
        return;
    }
    bool minus = i > l->at && l->p[i - 1] == '-', plus = i > l->at && l->p[i - 1] == '+';
    size_t end = i + 2;
    if (minus) end = skip_space(l, end);
    else if (!plus && end < l->n && l->p[end] == '\n') end++;
    advance(l, end);
    l->line_start = l->p[end - 1] == '\n';
}

/* Is "{% NAME %}" at i?  *sign is what stands behind its opening, *end where its text ends. */
static bool raw_tag(const struct lex *l, size_t i, const char *name, char *sign, size_t *end)
{
    if (!at(l, i, "{%")) return false;
    i += 2;
    *sign = i < l->n && (l->p[i] == '-' || l->p[i] == '+') ? l->p[i++] : 0;
    i = skip_space(l, i);
    if (!at(l, i, name)) return false;
    i = skip_space(l, i + strlen(name));
    if (at(l, i, "-%}")) *end = skip_space(l, i + 3);
    else if (at(l, i, "%}")) *end = i + 2;
    else return false;
    return true;
}

static void raw(struct lex *l, size_t from)
{
    char sign;
    size_t end;
    advance(l, from);
    l->line_start = l->p[from - 1] == '\n';
    for (size_t i = from; i < l->n; i++) {
        if (!raw_tag(l, i, "endraw", &sign, &end)) continue;
        data(l, i, sign, true);
        if (end < l->n && l->p[end - 1] == '}' && l->p[end] == '\n') end++;
        advance(l, end);
        l->line_start = l->p[end - 1] == '\n';
        return;
    }
    dan_jin_fail(l->j, DAN_EFORMAT, "'raw' is not closed; {%% endraw %%} is missing");
}

static void tag(struct lex *l, size_t i)
{
    size_t end;
    char kind = l->p[i + 1], sign = i + 2 < l->n ? l->p[i + 2] : 0;
    if (sign != '-' && sign != '+') sign = 0;
    data(l, i, sign, kind != '{');
    if (raw_tag(l, i, "raw", &sign, &end)) {
        raw(l, end);
        return;
    }
    advance(l, i + 2 + (sign != 0));
    if (kind == '#') comment(l);
    else {
        push(l, (struct jtoken){.type = kind == '{' ? T_VAR : T_BLOCK});
        inside(l, kind == '{' ? "}}" : "%}", kind == '{' ? T_VAR_END : T_BLOCK_END);
    }
}

/* Newlines become \n, and one at the end goes. */
static char *plain_newlines(struct jin *j, const char *p, size_t *n)
{
    char *out = dan_jin_alloc(j, *n + 1, 1);
    size_t k = 0;
    for (size_t i = 0; out && i < *n; i++) {
        if (p[i] == '\r' && i + 1 < *n && p[i + 1] == '\n') continue;
        out[k++] = p[i] == '\r' ? '\n' : p[i];
    }
    if (k && out[k - 1] == '\n') k--;
    *n = k;
    return out;
}

struct jtoken *dan_jin_lex(struct jin *j, const char *p, size_t n)
{
    struct lex l = {.j = j, .n = n, .line = 1, .line_start = true};
    l.p = plain_newlines(j, p, &l.n);
    while (l.p && !j->failed && l.at < l.n) {
        size_t i = l.at;
        while (i < l.n && !(l.p[i] == '{' && i + 1 < l.n && strchr("{%#", l.p[i + 1]) && l.p[i + 1])) i++;
        if (i < l.n) tag(&l, i);
        else data(&l, i, '+', false);
    }
    push(&l, (struct jtoken){.type = T_END});
    return j->failed ? NULL : l.tok;
}
