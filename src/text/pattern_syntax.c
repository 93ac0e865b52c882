/* Oniguruma (Ruby syntax) -> PCRE2 with UTF, UCP and MULTILINE, newline LF.  The two agree on nearly everything; what differs:
 *
 *   \s \w \b \h \v [[:alpha:]] \p{Alpha}   other members: written out            (?m)   is PCRE2's (?s)
 *   [a[bc]] [a&&b]       sets of sets: alternatives and lookaheads               a(?i)b|c  is a(?i:b|c)
 *   x{1,3}+              repeats x{1,3}, is not possessive                       x{,3}  is x{0,3}
 *   x** and so on        a quantifier may follow a quantifier */
#include <stdint.h>
#include <string.h>
#include "text/pattern.h"
#include "text/uni_newer.h"

#define SPACES "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define HEXES "0-9A-Fa-f"
#define ANY "(?s:.)"

enum { DEEPEST = 50 };

struct syntax {
    const char *p;
    size_t n, i, atom;                         /* atom: where in out the last one begins */
    struct dan_str *out;
    const char *bad;
    int depth;
    bool extended;
};

/* Names of sets: what stands between [ and ], or, behind '=', another name. */
static const struct { const char *name, *in; } sets[] = {
    {"alpha", "=alphabetic"}, {"digit", "=nd"}, {"space", SPACES}, {"whitespace", SPACES}, {"upper", "\\p{Uppercase}"}, {"lower", "\\p{Lowercase}"},
    {"cntrl", "\\p{Cc}"}, {"xdigit", HEXES}, {"blank", "\\t\\p{Zs}"}, {"ascii", "\\x{0}-\\x{7f}"}, {"any", "\\x{0}-\\x{10ffff}"},
    {"graph", "[:graph:]"}, {"print", "[:print:]"},
    {"letter", "=l"}, {"uppercaseletter", "=lu"}, {"lowercaseletter", "=ll"}, {"titlecaseletter", "=lt"}, {"modifierletter", "=lm"},
    {"otherletter", "=lo"}, {"mark", "=m"}, {"nonspacingmark", "=mn"}, {"spacingmark", "=mc"}, {"enclosingmark", "=me"}, {"number", "=n"},
    {"decimalnumber", "=nd"}, {"letternumber", "=nl"}, {"othernumber", "=no"}, {"punctuation", "=p"}, {"connectorpunctuation", "=pc"},
    {"dashpunctuation", "=pd"}, {"openpunctuation", "=ps"}, {"closepunctuation", "=pe"}, {"initialpunctuation", "=pi"},
    {"finalpunctuation", "=pf"}, {"otherpunctuation", "=po"}, {"symbol", "=s"}, {"mathsymbol", "=sm"}, {"currencysymbol", "=sc"},
    {"modifiersymbol", "=sk"}, {"othersymbol", "=so"}, {"separator", "\\p{Z}"}, {"spaceseparator", "\\p{Zs}"}, {"lineseparator", "\\p{Zl}"},
    {"paragraphseparator", "\\p{Zp}"}, {"control", "\\p{Cc}"}, {"format", "\\p{Cf}"}, {"surrogate", "\\p{Cs}"}, {"privateuse", "\\p{Co}"},
};

static const char *set_exact(const char *key)
{
    for (size_t i = 0; i < sizeof uni_newer / sizeof *uni_newer; i++)
        if (strcmp(uni_newer[i].name, key) == 0) return uni_newer[i].in;
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if (strcmp(sets[i].name, key) == 0) return sets[i].in[0] == '=' ? set_exact(sets[i].in + 1) : sets[i].in;
    return NULL;
}

/* Case, spaces, hyphens and underscores of names do not count. */
static const char *set_named(const char *p, size_t n)
{
    char key[48];
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] == ' ' || p[i] == '_' || p[i] == '-') continue;
        if (k + 1 >= sizeof key) return NULL;
        key[k++] = (char)(p[i] >= 'A' && p[i] <= 'Z' ? p[i] | 0x20 : p[i]);
    }
    key[k] = 0;
    return set_exact(key);
}

/* [[:name:]] only: of several sets, or another than \p{name}. */
static bool set_posix(const char *p, size_t n, struct dan_str *out)
{
    static const struct { const char *name, *one, *two; } both[] = {{"alnum", "alphabetic", "nd"}, {"punct", "p", "s"}};
    const char *in = set_named(p, n);
    for (size_t i = 0; i < sizeof both / sizeof *both; i++)
        if (n == 5 && memcmp(p, both[i].name, 5) == 0) {
            dan_str_puts(out, set_exact(both[i].one));
            in = set_exact(both[i].two);
        }
    if (in) dan_str_puts(out, in);
    return in != NULL;
}

static int refuse(struct syntax *s, const char *what)
{
    if (!s->bad) s->bad = what;
    return -1;
}

static int peek(const struct syntax *s, size_t ahead) { return s->i + ahead < s->n ? (unsigned char)s->p[s->i + ahead] : -1; }
static bool letter(int c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
static bool digit(int c) { return c >= '0' && c <= '9'; }
static int hex(int c) { return digit(c) ? c - '0' : letter(c) && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1; }

/* \xHH \x{H..} \uHHHH \0oo: the code point.  i is behind the letter. */
static int64_t number(struct syntax *s, int base, int least, int most)
{
    int64_t v = 0;
    int k = 0;
    for (int d; k < most && (d = hex(peek(s, 0))) >= 0 && d < base; k++, s->i++) v = v * base + d;
    return k < least || v > 0x10FFFF ? -1 : v;
}

static int code_point(struct syntax *s, int kind)
{
    int64_t v;
    bool brace = kind == 'x' && peek(s, 0) == '{';
    if (brace) s->i++;
    v = kind == '0' ? number(s, 8, 0, 2) : kind == 'u' ? number(s, 16, 4, 4) : number(s, 16, 1, brace ? 8 : 2);
    if (brace && peek(s, 0) != '}') return refuse(s, "a character number that is not one in braces");
    if (brace) s->i++;
    if (v < 0 || (kind == 'x' && !brace && v > 0x7F)) return refuse(s, "a byte or character number out of range");
    dan_str_printf(s->out, "\\x{%llx}", (long long)v);
    return 0;
}

/* \p{name}, \p{^name}, \P{name}: the members, to stand in [ ]; *not when the set is the others.  NULL: PCRE2's own name. */
static const char *property(struct syntax *s, bool *not, const char **name, size_t *len)
{
    *not = s->p[s->i - 1] == 'P';
    if (peek(s, 0) != '{') {
        refuse(s, "\\p without braces");
        return NULL;
    }
    s->i++;
    if (peek(s, 0) == '^') *not = !*not, s->i++;
    size_t from = s->i;
    while (s->i < s->n && s->p[s->i] != '}') s->i++;
    *name = s->p + from;
    *len = s->i - from;
    if (s->i >= s->n || *len == 0 || *len > 40) {
        refuse(s, "an unfinished \\p{...}");
        return NULL;
    }
    s->i++;
    return set_named(*name, *len);
}

/* Letters after a backslash that stand for a set; NULL: none. */
static const char *set_letter(int c, bool *not)
{
    *not = c >= 'A' && c <= 'Z';
    switch (c | 0x20) {
    case 's': return SPACES;
    case 'w': return set_exact("word");
    case 'h': return HEXES;
    case 'd': return set_exact("nd");
    default: return NULL;
    }
}

static void put_set(struct dan_str *out, const char *in, bool not)
{
    dan_str_puts(out, not ? "[^" : "[");
    dan_str_puts(out, in);
    dan_str_putc(out, ']');
}

/* --- [ ] */
struct set { struct dan_str in, more; };       /* in: plain members; more: "|x|y", what only alternatives can say */

static int class_expr(struct syntax *s, struct dan_str *out);

static bool class_posix(struct syntax *s, struct set *c)
{
    if (peek(s, 1) != ':') return false;
    size_t from = s->i + 2, to = from;
    bool not = from < s->n && s->p[from] == '^';
    from += not;
    while (to < s->n && (letter(s->p[to]) || to < from)) to++;
    if (to + 1 >= s->n || s->p[to] != ':' || s->p[to + 1] != ']') return false;
    s->i = to + 2;
    if (not) dan_str_puts(&c->more, "|[^");
    if (!set_posix(s->p + from, to - from, not ? &c->more : &c->in)) refuse(s, "an unknown [[:name:]]");
    if (not) dan_str_putc(&c->more, ']');
    return true;
}

static void class_set(struct set *c, const char *in, bool not)
{
    if (!not) dan_str_puts(&c->in, in);
    else {
        dan_str_putc(&c->more, '|');
        put_set(&c->more, in, true);
    }
}

/* After the backslash.  1: a set, 0: one character. */
static int class_escape(struct syntax *s, struct set *c)
{
    int ch = peek(s, 0);
    bool not;
    const char *name = "", *in = set_letter(ch, &not);
    size_t len = 0;
    s->i++;
    if (in) return class_set(c, in, not), 1;
    if (ch == 'p' || ch == 'P') {
        in = property(s, &not, &name, &len);
        if (in) class_set(c, in, not);
        else dan_str_printf(&c->in, "\\%c{%.*s}", not ? 'P' : 'p', (int)len, name);
        return 1;
    }
    struct dan_str *out = s->out;
    s->out = &c->in;
    if (ch == 'x' || ch == 'u') code_point(s, ch);
    else if (digit(ch)) s->i -= ch != '0', ch >= '8' ? refuse(s, "\\8 or \\9 in a set") : code_point(s, '0');
    else if (ch == 'v' || ch == 'b') dan_str_puts(&c->in, ch == 'v' ? "\\x{b}" : "\\x{8}");
    else if (ch == 'c' || ch == 'C' || ch == 'M' || ch == 'R' || ch == 'X') refuse(s, "an escape that sets cannot have");
    else if (letter(ch) && !strchr("aefnrt", ch)) dan_str_putc(&c->in, (char)ch);
    else if (ch < 0) refuse(s, "a backslash at its end");
    else {
        if (ch < 0x80) dan_str_putc(&c->in, '\\');
        dan_str_putc(&c->in, (char)ch);
    }
    s->out = out;
    return 0;
}

static bool set_follows(const struct syntax *s)
{
    int c = peek(s, 1), d = peek(s, 2);
    return c == '[' || c == ']' || (c == '\\' && d > 0 && strchr("sSwWhHdDpP", d)) || (c == '&' && d == '&');
}

/* Members up to ] or &&. */
static int class_members(struct syntax *s, struct set *c)
{
    int set = 1;                               /* the last was a set: - behind it is itself */
    for (bool first = true; s->i < s->n && !s->bad; first = false) {
        int ch = peek(s, 0);
        if ((ch == ']' && !first) || (ch == '&' && peek(s, 1) == '&')) return 0;
        if (ch == '[' && class_posix(s, c)) set = 1;
        else if (ch == '[') {
            dan_str_putc(&c->more, '|');
            class_expr(s, &c->more);
            set = 1;
        } else if (ch == '\\') {
            s->i++;
            set = class_escape(s, c);
        } else {
            bool escape = ch == ']' || (ch == '-' && (set || set_follows(s)));
            if (escape) dan_str_putc(&c->in, '\\');
            dan_str_putc(&c->in, (char)ch);
            set = escape && ch == '-';
            s->i++;
        }
    }
    return refuse(s, "an unfinished set [");
}

static void set_expr(struct syntax *s, const struct set *c, struct dan_str *out)
{
    if (!c->in.n && !c->more.n) refuse(s, "an empty set []");
    if (c->more.n) dan_str_puts(out, "(?:");
    if (c->in.n) put_set(out, c->in.p, false);
    if (c->more.n) {
        dan_str_puts(out, c->in.n ? c->more.p : c->more.p + 1);
        dan_str_putc(out, ')');
    }
    if (c->in.failed || c->more.failed) out->failed = true;
}

/* At [: a set as an expression that matches one character. */
static int class_expr(struct syntax *s, struct dan_str *out)
{
    struct dan_str all = {0};
    bool plain = true;
    s->i++;
    if (++s->depth > DEEPEST) return refuse(s, "sets nested too deep");
    bool not = peek(s, 0) == '^';
    s->i += not;
    do {
        struct set c = {0};
        struct dan_str one = {0};
        class_members(s, &c);
        bool last = peek(s, 0) == ']';
        set_expr(s, &c, &one);
        plain = plain && last && !c.more.n && !all.n;
        if (last) dan_str_puts(&all, dan_str_c(&one));
        else dan_str_printf(&all, "(?=%s)", dan_str_c(&one));
        if (!last) s->i += 2;
        all.failed = all.failed || one.failed;
        dan_str_release(&c.in);
        dan_str_release(&c.more);
        dan_str_release(&one);
        if (last) break;
    } while (!s->bad);
    s->i++;
    s->depth--;
    if (plain && not && all.n) {
        dan_str_puts(out, "[^");
        dan_str_puts(out, all.p + 1);
    } else if (not) dan_str_printf(out, "(?:(?!%s)" ANY ")", dan_str_c(&all));
    else dan_str_printf(out, plain ? "%s" : "(?:%s)", dan_str_c(&all));
    out->failed = out->failed || all.failed;
    dan_str_release(&all);
    return s->bad ? -1 : 0;
}

/* --- outside sets */
/* \b: a word's character on one side alone. */
static void boundary(struct syntax *s, bool not)
{
    const char *w = set_exact("word");
    dan_str_printf(s->out, "(?:(?<=[%s])(?%c[%s])|(?<![%s])(?%c[%s]))", w, not ? '=' : '!', w, w, not ? '!' : '=', w);
}

static int escape(struct syntax *s)
{
    bool not;
    const char *name = "", *in;
    size_t len = 0;
    int c = peek(s, 0);
    if (c < 0) return refuse(s, "a backslash at its end");
    s->i++;
    if ((in = set_letter(c, &not))) return put_set(s->out, in, not), 0;
    if (c == 'v' || c == 'O') return dan_str_puts(s->out, c == 'v' ? "\\x{b}" : ANY), 0;
    if (c == 'b' || c == 'B') return boundary(s, c == 'B'), 0;
    if (c == 'p' || c == 'P') {
        in = property(s, &not, &name, &len);
        if (in) put_set(s->out, in, not);
        else dan_str_printf(s->out, "\\%c{%.*s}", not ? 'P' : 'p', (int)len, name);
        return s->bad ? -1 : 0;
    }
    if (c == 'x' || c == 'u' || c == '0') return code_point(s, c);
    if (strchr("cCMyY", c)) return refuse(s, "an escape that danlu does not know (\\c \\C- \\M- \\y \\Y)");
    if ((letter(c) && !strchr("aefnrtAzZGKRXNkg", c)) || c >= 0x80) return dan_str_putc(s->out, (char)c), 0;
    dan_str_putc(s->out, '\\');
    dan_str_putc(s->out, (char)c);
    while (digit(c) && digit(peek(s, 0))) dan_str_putc(s->out, s->p[s->i++]);
    return 0;
}

static void wrap(struct syntax *s)
{
    size_t n = s->out->n - s->atom;
    dan_str_puts(s->out, "(?:)");
    if (s->out->failed) return;
    memmove(s->out->p + s->atom + 3, s->out->p + s->atom, n);
    memcpy(s->out->p + s->atom, "(?:", 3);
}

/* {n} {n,} {n,m} {,m}: its length, 0: an ordinary brace. */
static size_t interval(const struct syntax *s, bool *fixed)
{
    size_t k = 1, a = 0, b = 0;
    while (digit(peek(s, k))) k++, a++;
    *fixed = peek(s, k) == '}';
    if (peek(s, k) == ',') {
        k++;
        while (digit(peek(s, k))) k++, b++;
    }
    return peek(s, k) == '}' && (a || b) && a < 7 && b < 7 ? k + 1 : 0;
}

static void quantifiers(struct syntax *s)
{
    for (bool again = false;; again = true) {
        int c = peek(s, 0);
        bool fixed = false;
        size_t k = c == '{' ? interval(s, &fixed) : c == '*' || c == '+' || c == '?' ? 1 : 0;
        if (k == 0) return;
        if (again) wrap(s);
        if (c == '{' && s->p[s->i + 1] == ',') {
            dan_str_puts(s->out, "{0");
            dan_str_append(s->out, s->p + s->i + 1, k - 1);
        } else dan_str_append(s->out, s->p + s->i, k);
        s->i += k;
        int next = peek(s, 0);
        if ((next == '?' && !fixed) || (next == '+' && c != '{')) {
            dan_str_putc(s->out, (char)next);
            s->i++;
        }
    }
}

static int branches(struct syntax *s);

/* (?imx-imx: or (?imx-imx), i is at the first letter.  1: the rest of the group is inside. */
static int flags(struct syntax *s)
{
    bool extended = s->extended, on = true;
    dan_str_puts(s->out, "(?");
    for (; s->i < s->n && s->p[s->i] != ':' && s->p[s->i] != ')'; s->i++) {
        char c = s->p[s->i];
        if (!strchr("imsx-", c)) return refuse(s, "a group of a kind that danlu does not know");
        if (c == '-') on = false;
        if (c == 'x') extended = on;
        dan_str_putc(s->out, c == 'm' ? 's' : c);
    }
    dan_str_putc(s->out, ':');
    bool rest = peek(s, 0) == ')';
    s->i++;
    bool before = s->extended;
    s->extended = extended;
    if (rest) return 1;
    int r = branches(s);
    s->extended = before;
    return r;
}

/* How many bytes open a group that PCRE2 writes alike: ( (?: (?= (?! (?> (?<= (?<! (?<name> (?'name' */
static size_t opening(const struct syntax *s)
{
    if (peek(s, 1) != '?') return 1;
    int c = peek(s, 2), d = peek(s, 3);
    if (c == ':' || c == '=' || c == '!' || c == '>') return 3;
    if (c == '<' && (d == '=' || d == '!')) return 4;
    if (c != '<' && c != '\'') return 0;
    const char *end = s->i + 3 < s->n ? memchr(s->p + s->i + 3, c == '<' ? '>' : '\'', s->n - s->i - 3) : NULL;
    return end ? (size_t)(end - (s->p + s->i)) + 1 : 0;
}

/* At (.  1: flags for the rest of the group around it. */
static int group(struct syntax *s)
{
    if (peek(s, 1) == '*') return refuse(s, "a verb (*...)");
    if (peek(s, 1) == '?' && peek(s, 2) == '#') {
        while (s->i < s->n && s->p[s->i] != ')') s->i++;
        s->i++;
        return 0;
    }
    if (++s->depth > DEEPEST) return refuse(s, "groups nested too deep");
    size_t k = opening(s);
    bool before = s->extended;
    int r;
    if (k) {
        dan_str_append(s->out, s->p + s->i, k);
        s->i += k;
        r = branches(s);
        s->extended = before;
    } else {
        s->i += 2;
        r = flags(s);
    }
    s->depth--;
    if (r) return r;
    if (peek(s, 0) != ')') return refuse(s, "an unfinished group (");
    s->i++;
    dan_str_putc(s->out, ')');
    return 0;
}

static void skip_blank(struct syntax *s)
{
    if (s->p[s->i] != '#') s->i++;
    else
        while (s->i < s->n && s->p[s->i] != '\n') s->i++;
}

/* Up to ) or the end. */
static int branches(struct syntax *s)
{
    size_t open = 0;
    while (s->i < s->n && s->p[s->i] != ')' && !s->bad) {
        char c = s->p[s->i];
        if (s->extended && (c == '#' || c == ' ' || (c >= '\t' && c <= '\r'))) {
            skip_blank(s);
            continue;
        }
        size_t atom = s->out->n;
        if (c == '(') {
            if (group(s) == 1) {
                open++;
                continue;
            }
        } else if (c == '[') class_expr(s, s->out);
        else if (c == '\\') s->i++, escape(s);
        else {
            if (c == '{' || c == '}' || (s->extended && c == '#')) dan_str_putc(s->out, '\\');
            do dan_str_putc(s->out, s->p[s->i++]);
            while (s->i < s->n && ((unsigned char)s->p[s->i] & 0xC0) == 0x80);
            if (c == '|') continue;
        }
        s->atom = atom;
        quantifiers(s);
    }
    while (open--) dan_str_putc(s->out, ')');
    return s->bad ? -1 : 0;
}

int dan_pattern_translate(const char *p, size_t n, struct dan_str *out, const char **what)
{
    struct syntax s = {.p = p, .n = n, .out = out};
    branches(&s);
    if (!s.bad && s.i < s.n) refuse(&s, "a ) without its (");
    *what = s.bad;
    return s.bad ? -1 : 0;
}
