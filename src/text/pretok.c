#include "text/pretok.h"
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/impl.h"
#include "text/unicode.h"

/* A pre-tokenizer becomes a list of two sorts of steps: one rewrites each piece, one cuts each piece apart.  Metaspace, for
 * one, is a rewriting (spaces become U+2581, one goes in front) and a cut before each U+2581. */
enum { MOST_STEPS = 256 };
enum behaviour { ISOLATED, REMOVED, MERGED_WITH_PREVIOUS, MERGED_WITH_NEXT, CONTIGUOUS };
enum prepend { NEVER, FIRST, ALWAYS };

struct step {
    void (*rewrite)(const struct step *s, const struct dan_flow *in, struct dan_span piece, struct dan_flow *out);
    int  (*parts)(const struct step *s, struct dan_cutting *c, const char *p, size_t n, struct dan_err *e);
    enum behaviour behaviour;
    bool invert;
    enum dan_uni what;                         /* cut at characters of a class */
    int32_t ch;                                /* cut at, or write, this character */
    size_t length;
    enum prepend prepend;
    struct dan_pattern *pattern;
    struct dan_split split;                    /* a scanner for a well-known pattern, with its own classes */
};
struct dan_pretok { struct step *step; size_t n, cap; bool tracks; };

/* --- cuts: parts of one piece into c->parts, offsets in the piece */
static int parts_char(const struct step *s, struct dan_cutting *c, const char *p, size_t n, struct dan_err *e)
{
    (void)e;
    char text[4];
    const char *hit;
    size_t from = 0, len = dan_flow_encode(s->ch, text);
    while (from < n && (hit = memmem(p + from, n - from, text, len)) != NULL) {
        size_t at = (size_t)(hit - p);
        if (from < at) dan_parts_push(&c->parts, from, at, false);
        dan_parts_push(&c->parts, at, at + len, true);
        from = at + len;
    }
    if (from < n) dan_parts_push(&c->parts, from, n, false);
    return DAN_OK;
}

static int parts_class(const struct step *s, struct dan_cutting *c, const char *p, size_t n, struct dan_err *e)
{
    (void)e;
    size_t from = 0;
    int32_t cp;
    for (size_t i = 0, k; i < n; i += k) {
        k = dan_flow_char(p + i, n - i, &cp);
        if (!dan_uni_is(s->what, cp)) continue;
        if (from < i) dan_parts_push(&c->parts, from, i, false);
        dan_parts_push(&c->parts, i, i + k, true);
        from = i + k;
    }
    if (from < n) dan_parts_push(&c->parts, from, n, false);
    return DAN_OK;
}

static int parts_pattern(const struct step *s, struct dan_cutting *c, const char *p, size_t n, struct dan_err *e)
{
    return dan_pattern_cut(s->pattern, &c->room, p, n, &c->parts, e);
}

static int parts_scanner(const struct step *s, struct dan_cutting *c, const char *p, size_t n, struct dan_err *e)
{
    (void)e;
    for (size_t i = 0, k; i < n; i += k) {
        k = dan_split_next(&s->split, p + i, n - i);
        dan_parts_push(&c->parts, i, i + k, true);
    }
    return DAN_OK;
}

static int parts_length(const struct step *s, struct dan_cutting *c, const char *p, size_t n, struct dan_err *e)
{
    (void)e;
    int32_t cp;
    size_t from = 0, chars = 0;
    for (size_t i = 0; i < n;) {
        i += dan_flow_char(p + i, n - i, &cp);
        if (++chars < s->length && i < n) continue;
        dan_parts_push(&c->parts, from, i, true);
        from = i;
        chars = 0;
    }
    return DAN_OK;
}

static int script_of(int32_t cp)
{
    if (cp == 0x30FC) return dan_uni_script(0x4E00);
    int k = cp == ' ' || cp < 0 ? 0 : dan_uni_script(cp);
    return k == dan_uni_script(0x3042) || k == dan_uni_script(0x30A2) ? dan_uni_script(0x4E00) : k;
}

/* As in `tokenizers`, what stands before the first character that has a script falls away. */
static int parts_script(const struct step *s, struct dan_cutting *c, const char *p, size_t n, struct dan_err *e)
{
    (void)s, (void)e;
    int32_t cp;
    size_t from = 0;
    int last = 0;
    for (size_t i = 0, k; i < n; i += k) {
        k = dan_flow_char(p + i, n - i, &cp);
        int script = script_of(cp);
        if (script && last && script != last) dan_parts_push(&c->parts, from, i, true);
        if (script && script != last) from = i;
        if (script) last = script;
    }
    if (last) dan_parts_push(&c->parts, from, n, true);
    return DAN_OK;
}

/* \w+|[^\w\s]+ of the crate `regex`; what is between falls away. */
static int parts_words(const struct step *s, struct dan_cutting *c, const char *p, size_t n, struct dan_err *e)
{
    (void)s, (void)e;
    int32_t cp;
    size_t from = 0;
    int last = 0;                              /* 1 a word, 2 neither word nor space */
    for (size_t i = 0, k; i < n; i += k) {
        k = dan_flow_char(p + i, n - i, &cp);
        int kind = dan_uni_is(DAN_UNI_WORD, cp) ? 1 : dan_uni_is(DAN_UNI_SPACE, cp) ? 0 : 2;
        if (last && kind != last) dan_parts_push(&c->parts, from, i, true);
        if (kind != last) from = i;
        last = kind;
    }
    if (last) dan_parts_push(&c->parts, from, n, true);
    return DAN_OK;
}

/* --- rewriting */
static void metaspace(const struct step *s, const struct dan_flow *in, struct dan_span piece, struct dan_flow *out)
{
    char mark[4];
    size_t n = dan_flow_encode(s->ch, mark), len = piece.to - piece.from;
    const char *p = in->s.p + piece.from;
    bool has = len && (p[0] == ' ' || (len >= n && memcmp(p, mark, n) == 0));
    struct dan_span first = dan_flow_where(in, piece.from, piece.to);
    if (len && !has && (s->prepend == ALWAYS || (s->prepend == FIRST && first.from == 0)))
        dan_flow_put(out, mark, n, in->track ? in->at[piece.from] : first);
    for (size_t i = 0, k; i < len; i += k) {
        const char *blank = memchr(p + i, ' ', len - i);
        k = blank ? (size_t)(blank - (p + i)) : len - i;
        dan_flow_copy(out, in, piece.from + i, piece.from + i + k);
        if (blank) dan_flow_put(out, mark, n, in->track ? in->at[piece.from + i + k] : first), k++;
    }
}

static void prefix_space(const struct step *s, const struct dan_flow *in, struct dan_span piece, struct dan_flow *out)
{
    (void)s;
    if (in->s.p[piece.from] != ' ') dan_flow_put(out, " ", 1, in->track ? in->at[piece.from] : (struct dan_span){0, 0});
    dan_flow_copy(out, in, piece.from, piece.to);
}

static void alphabet(const struct step *s, const struct dan_flow *in, struct dan_span piece, struct dan_flow *out)
{
    (void)s;
    for (size_t i = piece.from; i < piece.to; i++) {
        char c[4];
        int k = dan_utf8_put(dan_byte_to_char((unsigned char)in->s.p[i]), c);
        dan_flow_put(out, c, (size_t)k, in->track ? in->at[i] : (struct dan_span){0, 0});
    }
}

/* --- reading */
struct reading { struct dan_pretok *p; const char *where; struct dan_err *e; };

static struct step *add(struct reading *r)
{
    struct dan_pretok *p = r->p;
    if (p->n >= MOST_STEPS) {
        dan_fail(r->e, DAN_EUNSUPPORTED, "%s: pre_tokenizer has more than %d steps; the file is damaged", r->where, MOST_STEPS);
        return NULL;
    }
    if (dan_vec_grow(&p->step, &p->cap, p->n + 1, sizeof *p->step) != 0) {
        dan_fail(r->e, DAN_ENOMEM, "out of memory for the pre-tokenizer of '%s'", r->where);
        return NULL;
    }
    struct step *s = &p->step[p->n++];
    *s = (struct step){0};
    return s;
}

static int add_class(struct reading *r, enum dan_uni what, int32_t ch, enum behaviour b)
{
    struct step *s = add(r);
    if (!s) return -1;
    s->parts = ch ? parts_char : parts_class;
    s->what = what;
    s->ch = ch;
    s->behaviour = b;
    return 0;
}

static int add_scanner(struct reading *r, const struct dan_split *split)
{
    struct step *s = add(r);
    if (!s) return -1;
    s->parts = parts_scanner;
    s->split = *split;
    s->split.classes = dan_classes_new(split);
    return s->split.classes ? 0 : dan_fail(r->e, DAN_ENOMEM, "out of memory for the pre-tokenizer of '%s'", r->where);
}

static int read_behaviour(struct reading *r, const json_t *j, bool absent, enum behaviour *out)
{
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *name = dan_json_name(j, "behavior");
    *out = ISOLATED;
    if (!*name && absent) return 0;
    for (int i = 0; i < 5; i++)
        if (strcmp(names[i], name) == 0) return *out = (enum behaviour)i, 0;
    return dan_no_such(r->where, "pre_tokenizer behavior", name, r->e);
}

static int read_bert(struct reading *r, const json_t *j)
{
    (void)j;
    return add_class(r, DAN_UNI_SPACE, 0, REMOVED) || add_class(r, DAN_UNI_PUNCT, 0, ISOLATED) ? -1 : 0;
}

static int read_byte_level(struct reading *r, const json_t *j)
{
    struct step *s;
    if (dan_json_flag(j, "add_prefix_space", false)) {
        if (!(s = add(r))) return -1;
        s->rewrite = prefix_space;
    }
    if (dan_json_flag(j, "use_regex", true) && add_scanner(r, dan_split_named("gpt2"))) return -1;
    if (!(s = add(r))) return -1;
    s->rewrite = alphabet;
    return 0;
}

static int read_delimiter(struct reading *r, const json_t *j)
{
    int32_t ch = dan_json_char(json_object_get(j, "delimiter"));
    if (ch <= 0) return dan_no_such(r->where, "pre_tokenizer.delimiter", dan_json_name(j, "delimiter"), r->e);
    return add_class(r, 0, ch, REMOVED);
}

static int read_metaspace(struct reading *r, const json_t *j)
{
    static const char *const names[] = {"never", "first", "always"};
    const char *scheme = dan_json_name(j, "prepend_scheme");
    int32_t ch = dan_json_char(json_object_get(j, "replacement"));
    if (ch <= 0) return dan_no_such(r->where, "pre_tokenizer.replacement", dan_json_name(j, "replacement"), r->e);
    int k = *scheme ? 0 : ALWAYS;
    while (*scheme && k < 3 && strcmp(names[k], scheme) != 0) k++;
    if (k == 3) return dan_no_such(r->where, "pre_tokenizer.prepend_scheme", scheme, r->e);
    struct step *s = add(r);
    if (!s) return -1;
    s->rewrite = metaspace;
    s->ch = ch;
    s->prepend = dan_json_flag(j, "add_prefix_space", true) ? (enum prepend)k : NEVER;
    r->p->tracks = r->p->tracks || s->prepend == FIRST;
    return dan_json_flag(j, "split", true) ? add_class(r, 0, ch, MERGED_WITH_NEXT) : 0;
}

static int read_whitespace(struct reading *r, const json_t *j)
{
    (void)j;
    struct step *s = add(r);
    if (s) s->parts = parts_words;
    return s ? 0 : -1;
}

static int read_whitespace_split(struct reading *r, const json_t *j)
{
    (void)j;
    return add_class(r, DAN_UNI_SPACE, 0, REMOVED);
}

static int read_split(struct reading *r, const json_t *j)
{
    const json_t *pattern = json_object_get(j, "pattern");
    const struct dan_split *known = dan_split_of_regex(dan_json_name(pattern, "Regex"));
    bool invert = dan_json_flag(j, "invert", false);
    enum behaviour b;
    if (read_behaviour(r, j, false, &b)) return -1;
    if (known && (b == ISOLATED || (b == REMOVED && invert))) return add_scanner(r, known);
    struct step *s = add(r);
    if (!s) return -1;
    s->parts = parts_pattern;
    s->behaviour = b;
    s->invert = invert;
    return dan_json_pattern(pattern, r->where, &s->pattern, r->e);
}

static int read_punctuation(struct reading *r, const json_t *j)
{
    enum behaviour b;
    return read_behaviour(r, j, true, &b) || add_class(r, DAN_UNI_PUNCT, 0, b) ? -1 : 0;
}

static int read_digits(struct reading *r, const json_t *j)
{
    return add_class(r, DAN_UNI_NUMERIC, 0, dan_json_flag(j, "individual_digits", false) ? ISOLATED : CONTIGUOUS);
}

static int read_scripts(struct reading *r, const json_t *j)
{
    (void)j;
    struct step *s = add(r);
    if (s) s->parts = parts_script;
    return s ? 0 : -1;
}

static int read_length(struct reading *r, const json_t *j)
{
    const json_t *v = json_object_get(j, "length");
    json_int_t n = v ? json_integer_value(v) : 5;
    if (n <= 0) return dan_no_such(r->where, "pre_tokenizer.length", "0 or no number", r->e);
    struct step *s = add(r);
    if (!s) return -1;
    s->parts = parts_length;
    s->length = (size_t)n;
    return 0;
}

static int read_any(struct reading *r, const json_t *j);
static int read_sequence(struct reading *r, const json_t *j)
{
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(j, "pretokenizers"), i, one) if (read_any(r, one)) return -1;
    return 0;
}

static const struct { const char *name; int (*read)(struct reading *r, const json_t *j); } kinds[] = {
    {"BertPreTokenizer", read_bert}, {"ByteLevel", read_byte_level}, {"CharDelimiterSplit", read_delimiter},
    {"Delimiter", read_delimiter}, {"Metaspace", read_metaspace}, {"Whitespace", read_whitespace},
    {"WhitespaceSplit", read_whitespace_split}, {"Sequence", read_sequence}, {"Split", read_split},
    {"Punctuation", read_punctuation}, {"Digits", read_digits}, {"UnicodeScripts", read_scripts}, {"FixedLength", read_length},
};

static int read_any(struct reading *r, const json_t *j)
{
    const char *type = dan_json_name(j, "type");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, type) == 0) return kinds[i].read(r, j);
    return dan_no_such(r->where, "pre_tokenizer.type", *type ? type : "null", r->e);
}

int dan_pretok_new(const json_t *j, const char *where, bool raw, struct dan_pretok **out, struct dan_err *e)
{
    *out = NULL;
    if (!j || json_is_null(j)) return DAN_OK;
    struct dan_err own = {0};                  /* the code comes from it, e may be NULL */
    struct reading r = {.p = dan_calloc(1, sizeof *r.p), .where = where, .e = &own};
    if (!r.p) return dan_fail(e, DAN_ENOMEM, "out of memory for the pre-tokenizer of '%s'", where);
    if (read_any(&r, j)) {
        dan_pretok_free(r.p);
        return dan_fail(e, own.code ? own.code : DAN_ENOMEM, "%s", own.msg);
    }
    if (raw && r.p->n && r.p->step[r.p->n - 1].rewrite == alphabet) r.p->n--;
    *out = r.p;
    return DAN_OK;
}

void dan_pretok_free(struct dan_pretok *p)
{
    if (!p) return;
    for (size_t i = 0; i < p->n; i++) {
        dan_pattern_free(p->step[i].pattern);
        dan_free((void *)(uintptr_t)p->step[i].split.classes);
    }
    dan_free(p->step);
    dan_free(p);
}

bool dan_pretok_tracks(const struct dan_pretok *p) { return p && p->tracks; }

/* --- running */
static void keep(struct dan_spans *out, size_t at, size_t from, size_t to)
{
    if (from < to) dan_spans_push(out, at + from, at + to);
}

/* Parts with the same turn of `joins` make one piece: the fold of SplitDelimiterBehavior. */
static void forwards(const struct step *s, const struct dan_parts *p, size_t at, struct dan_spans *out)
{
    bool before = false;
    size_t from = 0, to = 0;
    for (size_t i = 0; i < p->n; i++) {
        bool match = p->v[i].match != s->invert;
        bool joins = i && (s->behaviour == CONTIGUOUS ? match == before : match && !before);
        if (!joins) {
            keep(out, at, from, to);
            from = p->v[i].from;
        }
        to = p->v[i].to;
        before = match;
    }
    keep(out, at, from, to);
}

/* A match belongs to what follows unless that is a match itself. */
static void backwards(const struct step *s, const struct dan_parts *p, size_t at, struct dan_spans *out)
{
    size_t from = 0;
    for (size_t i = 0; i < p->n; i++) {
        bool match = p->v[i].match != s->invert;
        bool next = i + 1 < p->n && p->v[i + 1].match != s->invert;
        if (i + 1 < p->n && match && !next) continue;
        keep(out, at, from, p->v[i].to);
        from = p->v[i].to;
    }
}

static void regroup(const struct step *s, const struct dan_parts *p, size_t at, struct dan_spans *out)
{
    if (s->behaviour == CONTIGUOUS || s->behaviour == MERGED_WITH_PREVIOUS) forwards(s, p, at, out);
    else if (s->behaviour == MERGED_WITH_NEXT) backwards(s, p, at, out);
    else
        for (size_t i = 0; i < p->n; i++)
            if (s->behaviour == ISOLATED || p->v[i].match == s->invert) keep(out, at, p->v[i].from, p->v[i].to);
}

static int cut(const struct step *s, struct dan_cutting *c, struct dan_err *e)
{
    for (size_t i = 0; i < c->piece.n; i++) {
        struct dan_span piece = c->piece.v[i];
        c->parts.n = 0;
        int r = s->parts(s, c, c->text.s.p + piece.from, piece.to - piece.from, e);
        if (r) return r;
        regroup(s, &c->parts, piece.from, &c->other);
    }
    return DAN_OK;
}

static void rewrite(const struct step *s, struct dan_cutting *c)
{
    dan_flow_clear(&c->spare);
    c->spare.base = c->text.base;
    for (size_t i = 0; i < c->piece.n; i++) {
        size_t from = c->spare.s.n;
        s->rewrite(s, &c->text, c->piece.v[i], &c->spare);
        keep(&c->other, 0, from, c->spare.s.n);
    }
    struct dan_flow t = c->text;
    c->text = c->spare;
    c->spare = t;
}

int dan_pretok_apply(const struct dan_pretok *p, struct dan_cutting *c, struct dan_err *e)
{
    for (size_t i = 0; p && i < p->n; i++) {
        c->other.n = 0;
        int r = DAN_OK;
        if (p->step[i].rewrite) rewrite(&p->step[i], c);
        else r = cut(&p->step[i], c, e);
        if (!r) r = dan_flow_check(&c->text, e);
        if (!r && (c->other.failed || c->parts.failed)) r = dan_fail(e, DAN_ENOMEM, "out of memory for %zu pieces of a text", c->other.n);
        if (r) return r;
        struct dan_spans t = c->piece;
        c->piece = c->other;
        c->other = t;
    }
    return DAN_OK;
}

void dan_cutting_release(struct dan_cutting *c)
{
    dan_flow_release(&c->text);
    dan_flow_release(&c->spare);
    dan_spans_release(&c->piece);
    dan_spans_release(&c->other);
    dan_parts_release(&c->parts);
    dan_pattern_room_release(&c->room);
}
