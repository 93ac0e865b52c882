#include "text/normal.h"
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/charsmap.h"
#include "text/impl.h"
#include "text/unicode.h"

enum { MOST_STEPS = 256, GROWTH = 256, SLACK = 1 << 20 };      /* a chain may not blow a text up beyond GROWTH * n + SLACK bytes */

struct step {
    const struct kind *kind;
    bool a, b, c, d;                           /* BertNormalizer: clean, chinese, strip, lower; Strip: left, right */
    char *text;                                /* Replace's content, Prepend's */
    size_t n;
    struct dan_pattern *pattern;
    struct dan_charsmap *map;
};
struct dan_normal { struct step *step; size_t n, cap; };

struct work { struct dan_pattern_room *room; struct dan_err *e; };
struct kind {
    const char *name;
    int (*read)(struct step *s, const json_t *j, const char *where, struct dan_err *e);    /* NULL: no arguments */
    int (*apply)(const struct step *s, struct work *w, const struct dan_flow *in, struct dan_flow *out);
};

const char *dan_json_name(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

bool dan_json_flag(const json_t *object, const char *key, bool absent)
{
    const json_t *v = json_object_get(object, key);
    return v && !json_is_null(v) ? json_is_true(v) : absent;
}

int32_t dan_json_char(const json_t *j)
{
    int32_t cp;
    size_t n = json_string_length(j);
    return n && dan_flow_char(json_string_value(j), n, &cp) == n ? cp : -1;
}

int dan_no_such(const char *where, const char *key, const char *value, struct dan_err *e)
{
    return dan_fail(e, DAN_EUNSUPPORTED, "%s: %s '%.160s' is not known; danlu knows the schema of Hugging Face tokenizers 0.23", where, key,
                    value);
}

int dan_json_pattern(const json_t *j, const char *where, struct dan_pattern **out, struct dan_err *e)
{
    const json_t *text = json_object_get(j, "String"), *regex = json_object_get(j, "Regex"), *one = text ? text : regex;
    if (!json_is_string(one)) return dan_no_such(where, "pattern", "neither String nor Regex", e);
    return dan_pattern_new(json_string_value(one), json_string_length(one), one == text, where, out, e);
}

static int take_text(struct step *s, const json_t *text, const char *where, const char *key, struct dan_err *e)
{
    if (!json_is_string(text)) return dan_fail(e, DAN_EFORMAT, "%s: normalizer.%s is missing or no string; the file is damaged", where, key);
    s->n = json_string_length(text);
    s->text = dan_malloc(s->n + 1);
    if (!s->text) return dan_fail(e, DAN_ENOMEM, "out of memory for the normalizer of '%s'", where);
    memcpy(s->text, json_string_value(text), s->n + 1);
    return DAN_OK;
}

/* --- the steps */
static void filter(const struct dan_flow *in, struct dan_flow *out, enum dan_uni gone)
{
    int32_t cp;
    for (size_t i = 0, k; i < in->s.n; i += k) {
        k = dan_flow_char(in->s.p + i, in->s.n - i, &cp);
        if (!dan_uni_is(gone, cp)) dan_flow_copy(out, in, i, i + k);
    }
}

static int strip_accents(const struct step *s, struct work *w, const struct dan_flow *in, struct dan_flow *out)
{
    (void)s, (void)w;
    filter(in, out, DAN_UNI_MARK);
    return DAN_OK;
}

static int lowercase(const struct step *s, struct work *w, const struct dan_flow *in, struct dan_flow *out)
{
    (void)s, (void)w;
    struct dan_change c = {in, out, 0, in->s.n};
    int32_t cp, low[2];
    while (c.at < in->s.n) {
        dan_flow_char(in->s.p + c.at, in->s.n - c.at, &cp);
        int n = dan_uni_lower(cp, low);
        dan_change_put(&c, low[0], 0);
        if (n > 1) dan_change_put(&c, low[1], 1);
    }
    return DAN_OK;
}

static int bert_read(struct step *s, const json_t *j, const char *where, struct dan_err *e)
{
    (void)where, (void)e;
    s->a = dan_json_flag(j, "clean_text", true);
    s->b = dan_json_flag(j, "handle_chinese_chars", true);
    s->d = dan_json_flag(j, "lowercase", true);
    s->c = dan_json_flag(j, "strip_accents", s->d);        /* null: as lowercase */
    return DAN_OK;
}

static void bert_clean(const struct dan_flow *in, struct dan_flow *out)
{
    struct dan_change c = {in, out, 0, in->s.n};
    int32_t cp;
    while (c.at < in->s.n) {
        dan_flow_char(in->s.p + c.at, in->s.n - c.at, &cp);
        if (dan_uni_is(DAN_UNI_CONTROL, cp) || cp == 0xFFFD) dan_change_skip(&c, 1);
        else dan_change_put(&c, dan_uni_is(DAN_UNI_SPACE, cp) ? ' ' : cp, 0);
    }
}

static void bert_chinese(const struct dan_flow *in, struct dan_flow *out)
{
    struct dan_change c = {in, out, 0, in->s.n};
    int32_t cp;
    while (c.at < in->s.n) {
        dan_flow_char(in->s.p + c.at, in->s.n - c.at, &cp);
        bool alone = dan_uni_is(DAN_UNI_CHINESE, cp);
        dan_change_put(&c, alone ? ' ' : cp, 0);
        if (alone) dan_change_put(&c, cp, 1);
        if (alone) dan_change_put(&c, ' ', 1);
    }
}

static void swap(struct dan_flow *a, struct dan_flow *b)
{
    struct dan_flow t = *a;
    *a = *b;
    *b = t;
    dan_flow_clear(b);
}

/* Up to four passes between out and a third text. */
static int bert(const struct step *s, struct work *w, const struct dan_flow *in, struct dan_flow *out)
{
    struct dan_flow t = {.track = in->track, .base = in->base};
    dan_flow_copy(out, in, 0, in->s.n);
    if (s->a) bert_clean(out, &t), swap(out, &t);
    if (s->b) bert_chinese(out, &t), swap(out, &t);
    if (s->c) {
        dan_form_apply(DAN_FORM_NFD, out, &t), swap(out, &t);
        filter(out, &t, DAN_UNI_ACCENT), swap(out, &t);
    }
    if (s->d) lowercase(s, w, out, &t), swap(out, &t);
    out->failed = out->failed || t.failed;
    dan_flow_release(&t);
    return DAN_OK;
}

static int strip_read(struct step *s, const json_t *j, const char *where, struct dan_err *e)
{
    (void)where, (void)e;
    s->a = dan_json_flag(j, "strip_left", true);
    s->b = dan_json_flag(j, "strip_right", true);
    return DAN_OK;
}

static int strip(const struct step *s, struct work *w, const struct dan_flow *in, struct dan_flow *out)
{
    (void)w;
    int32_t cp;
    size_t from = 0, to = s->b ? 0 : in->s.n, n = in->s.n;
    for (size_t i = 0, k; i < n; i += k) {
        k = dan_flow_char(in->s.p + i, n - i, &cp);
        bool blank = dan_uni_is(DAN_UNI_SPACE, cp);
        if (s->a && blank && from == i) from = i + k;
        if (s->b && !blank) to = i + k;
    }
    if (to > from) dan_flow_copy(out, in, from, to);
    return DAN_OK;
}

static int form(const struct step *s, struct work *w, const struct dan_flow *in, struct dan_flow *out);

static bool nmt_blank(int32_t cp)
{
    return cp == 9 || cp == 0xA || cp == 0xC || cp == 0xD || cp == 0x1680 || (cp >= 0x200B && cp <= 0x200F) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x2581 || cp == 0xFEFF || cp == 0xFFFD;
}

static bool nmt_gone(int32_t cp)
{
    return (cp >= 1 && cp <= 8) || cp == 0xB || (cp >= 0xE && cp <= 0x1F) || cp == 0x7F || cp == 0x8F || cp == 0x9F;
}

static int nmt(const struct step *s, struct work *w, const struct dan_flow *in, struct dan_flow *out)
{
    (void)s, (void)w;
    struct dan_change c = {in, out, 0, in->s.n};
    int32_t cp;
    while (c.at < in->s.n) {
        dan_flow_char(in->s.p + c.at, in->s.n - c.at, &cp);
        if (nmt_gone(cp)) dan_change_skip(&c, 1);
        else dan_change_put(&c, nmt_blank(cp) ? ' ' : cp, 0);
    }
    return DAN_OK;
}

/* RFC 4648; -1: not base64.  out holds 3 bytes for every 4 characters. */
static int64_t base64(const char *p, size_t n, unsigned char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t v = 0;
    int64_t m = 0;
    while (n && p[n - 1] == '=') n--;
    for (size_t i = 0; i < n; i++) {
        const char *d = p[i] ? strchr(digits, p[i]) : NULL;
        if (!d) return -1;
        v = v << 6 | (uint32_t)(d - digits);
        if (i % 4) out[m++] = (unsigned char)(v >> (6 - 2 * (i % 4)));
    }
    return m;
}

static int precompiled_read(struct step *s, const json_t *j, const char *where, struct dan_err *e)
{
    const json_t *text = json_object_get(j, "precompiled_charsmap");
    size_t n = json_string_length(text);
    unsigned char *blob = json_is_string(text) ? dan_malloc(n + 4) : NULL;
    if (!json_is_string(text) && !json_is_null(text))
        return dan_fail(e, DAN_EFORMAT, "%s: normalizer.precompiled_charsmap is missing or no string; the file is damaged", where);
    if (!json_is_null(text) && !blob) return dan_fail(e, DAN_ENOMEM, "out of memory for the normalizer of '%s'", where);
    int64_t m = blob ? base64(json_string_value(text), n, blob) : 0;
    int r = m < 0 ? dan_fail(e, DAN_EFORMAT, "%s: normalizer.precompiled_charsmap is not base64; the file is damaged", where)
                  : dan_charsmap_new(blob, (size_t)m, &s->map, e);
    dan_free(blob);
    return r;
}

/* Precompiled as the library aligns it: a list of characters, each with a change.  What grows is inserted behind; what shrinks counts
 * with the last character that was written, also when that is of another part: an inserted one then replaces what falls away.  What falls
 * away before there is any is not counted at all, so that all that follows is aligned too far to the left. */
struct rewriting { struct dan_change c; bool any, late, waits; int32_t inserted; };      /* late: c.at is not where the walk is */

static void flush(struct rewriting *w, int change)
{
    if (w->waits) dan_change_put(&w->c, w->inserted, change);
    w->waits = false;
}

static void fall_away(struct rewriting *w, size_t chars)
{
    if (!w->any) w->late = true;
    else if (w->waits) flush(w, 1 - (int)chars);
    else dan_change_skip(&w->c, chars);
}

static size_t count(const char *p, size_t n)
{
    int32_t cp;
    size_t chars = 0;
    for (size_t i = 0; i < n; chars++) i += dan_flow_char(p + i, n - i, &cp);
    return chars;
}

/* olds characters become the text of part. */
static void put_part(struct rewriting *w, const struct dan_charsmap_part *part, size_t olds)
{
    int32_t cp;
    size_t news = count(part->to, part->to_n);
    if (news == 0) {
        fall_away(w, olds);
        return;
    }
    for (size_t i = 0, k = 0; i < part->to_n; k++) {
        i += dan_flow_char(part->to + i, part->to_n - i, &cp);
        flush(w, 1);
        if (k >= olds) w->waits = true, w->inserted = cp;
        else dan_change_put(&w->c, cp, k + 1 == news && news < olds ? -(int)(olds - news) : 0);
    }
    w->any = true;
}

static int precompiled(const struct step *s, struct work *w, const struct dan_flow *in, struct dan_flow *out)
{
    (void)w;
    struct rewriting rw = {.c = {in, out, 0, in->s.n}};
    struct dan_charsmap_walk walk = {.m = s->map, .p = dan_str_c(&in->s), .n = in->s.n};
    struct dan_charsmap_part part;
    for (size_t at = 0; dan_charsmap_next(&walk, &part); at = walk.at) {
        if (!part.same || rw.late) put_part(&rw, &part, count(walk.p + at, part.n));
        else {
            flush(&rw, 1);
            dan_change_keep(&rw.c, part.n);
            rw.any = true;
        }
    }
    flush(&rw, 1);
    return DAN_OK;
}

static int replace_read(struct step *s, const json_t *j, const char *where, struct dan_err *e)
{
    int r = take_text(s, json_object_get(j, "content"), where, "content", e);
    return r ? r : dan_json_pattern(json_object_get(j, "pattern"), where, &s->pattern, e);
}

/* Content for bytes [from, to); all inserted behind what goes. */
static void put_content(const struct step *s, const struct dan_flow *in, struct dan_flow *out, size_t to)
{
    if (to && in->track) dan_flow_put(out, s->text, s->n, in->at[to - 1]);
    else dan_flow_put(out, s->text, s->n, (struct dan_span){in->base, in->base});
}

int dan_normal_check(size_t from, size_t to, struct dan_err *e)
{
    if (to / GROWTH <= from + SLACK / GROWTH) return DAN_OK;
    return dan_fail(e, DAN_EINVAL, "the normalizer makes more than %zu bytes of %zu; the tokenizer's file is not what it should be", to, from);
}

static int replace_literal(const struct step *s, struct work *w, const struct dan_flow *in, struct dan_flow *out, const char *what, size_t n)
{
    const char *p = dan_str_c(&in->s), *end = p + in->s.n, *at = p, *hit;
    int r = DAN_OK;
    for (; !r && (hit = n == 1 ? memchr(at, *what, (size_t)(end - at)) : memmem(at, (size_t)(end - at), what, n)) != NULL; at = hit + n) {
        dan_flow_copy(out, in, (size_t)(at - p), (size_t)(hit - p));
        put_content(s, in, out, (size_t)(hit - p) + n);
        r = dan_normal_check(in->s.n, out->s.n, w->e);
    }
    dan_flow_copy(out, in, (size_t)(at - p), in->s.n);
    return r;
}

static int replace(const struct step *s, struct work *w, const struct dan_flow *in, struct dan_flow *out)
{
    struct dan_parts parts = {0};
    size_t n;
    const char *literal = dan_pattern_literal(s->pattern, &n);
    if (literal && n) return replace_literal(s, w, in, out, literal, n);
    int r = dan_pattern_cut(s->pattern, w->room, dan_str_c(&in->s), in->s.n, &parts, w->e);
    for (size_t i = 0; i < parts.n && !r; i++) {
        struct dan_part p = parts.v[i];
        if (!p.match) dan_flow_copy(out, in, p.from, p.to);
        else put_content(s, in, out, p.to);
        r = dan_normal_check(in->s.n, out->s.n, w->e);
    }
    dan_parts_release(&parts);
    return r;
}

static int prepend_read(struct step *s, const json_t *j, const char *where, struct dan_err *e)
{
    return take_text(s, json_object_get(j, "prepend"), where, "prepend", e);
}

static int prepend(const struct step *s, struct work *w, const struct dan_flow *in, struct dan_flow *out)
{
    (void)w;
    if (in->s.n == 0) return DAN_OK;
    dan_flow_put(out, s->text, s->n, in->track ? in->at[0] : (struct dan_span){0, 0});
    dan_flow_copy(out, in, 0, in->s.n);
    return DAN_OK;
}

static int byte_level(const struct step *s, struct work *w, const struct dan_flow *in, struct dan_flow *out)
{
    (void)s, (void)w;
    for (size_t i = 0; i < in->s.n; i++) {
        char c[4];
        int k = dan_utf8_put(dan_byte_to_char((unsigned char)in->s.p[i]), c);
        dan_flow_put(out, c, (size_t)k, in->track ? in->at[i] : (struct dan_span){0, 0});
    }
    return DAN_OK;
}

static const struct kind kinds[] = {
    {"NFC", NULL, form}, {"NFD", NULL, form}, {"NFKC", NULL, form}, {"NFKD", NULL, form},
    {"BertNormalizer", bert_read, bert}, {"Strip", strip_read, strip}, {"StripAccents", NULL, strip_accents},
    {"Lowercase", NULL, lowercase}, {"Nmt", NULL, nmt}, {"Precompiled", precompiled_read, precompiled},
    {"Replace", replace_read, replace}, {"Prepend", prepend_read, prepend}, {"ByteLevel", NULL, byte_level},
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static int form(const struct step *s, struct work *w, const struct dan_flow *in, struct dan_flow *out)
{
    (void)w;
    static const enum dan_form of[] = {DAN_FORM_NFC, DAN_FORM_NFD, DAN_FORM_NFKC, DAN_FORM_NFKD};      /* the first kinds, in order */
    dan_form_apply(of[s->kind - kinds], in, out);
    return DAN_OK;
}

/* --- the chain */
static const struct kind *kind_named(const char *name)
{
    if (strcmp(name, "Bert") == 0) name = "BertNormalizer";
    for (int i = 0; i < N_KINDS; i++)
        if (strcmp(kinds[i].name, name) == 0) return &kinds[i];
    return NULL;
}

static int add(struct dan_normal *n, const json_t *j, const char *where, struct dan_err *e)
{
    const char *type = dan_json_name(j, "type");
    if (strcmp(type, "Sequence") == 0) {
        size_t i;
        json_t *one;
        json_array_foreach(json_object_get(j, "normalizers"), i, one) {
            int r = add(n, one, where, e);
            if (r) return r;
        }
        return DAN_OK;
    }
    const struct kind *k = kind_named(type);
    if (!k) return dan_no_such(where, "normalizer.type", *type ? type : "null", e);
    if (n->n >= MOST_STEPS) return dan_fail(e, DAN_EUNSUPPORTED, "%s: normalizer has more than %d steps; the file is damaged", where, MOST_STEPS);
    if (dan_vec_grow(&n->step, &n->cap, n->n + 1, sizeof *n->step) != 0)
        return dan_fail(e, DAN_ENOMEM, "out of memory for the normalizer of '%s'", where);
    struct step *s = &n->step[n->n++];
    *s = (struct step){.kind = k};
    return k->read ? k->read(s, j, where, e) : DAN_OK;
}

int dan_normal_new(const json_t *j, const char *where, struct dan_normal **out, struct dan_err *e)
{
    *out = NULL;
    if (!j || json_is_null(j)) return DAN_OK;
    struct dan_normal *n = dan_calloc(1, sizeof *n);
    int r = n ? add(n, j, where, e) : dan_fail(e, DAN_ENOMEM, "out of memory for the normalizer of '%s'", where);
    if (r || n->n == 0) dan_normal_free(n);
    else *out = n;
    return r;
}

void dan_normal_free(struct dan_normal *n)
{
    if (!n) return;
    for (size_t i = 0; i < n->n; i++) {
        dan_free(n->step[i].text);
        dan_pattern_free(n->step[i].pattern);
        dan_charsmap_free(n->step[i].map);
    }
    dan_free(n->step);
    dan_free(n);
}

bool dan_normal_is_nfc(const struct dan_normal *n) { return n && n->n == 1 && n->step[0].kind == &kinds[0]; }

bool dan_normal_keeps(const struct dan_normal *n, unsigned char c)
{
    for (size_t i = 0; n && i < n->n; i++)
        if (n->step[i].map && !dan_charsmap_plain(n->step[i].map)[c]) return false;
    return true;
}

int dan_normal_apply(const struct dan_normal *n, struct dan_pattern_room *room, struct dan_flow *text, struct dan_flow *spare,
                     struct dan_err *e)
{
    struct work w = {room, e};
    size_t before = text->s.n;
    spare->base = text->base;
    for (size_t i = 0; n && i < n->n; i++) {
        dan_flow_clear(spare);
        int r = n->step[i].kind->apply(&n->step[i], &w, text, spare);
        if (!r) r = dan_flow_check(spare, e);
        if (!r) r = dan_normal_check(before, spare->s.n, e);
        if (r) return r;
        swap(text, spare);
    }
    return DAN_OK;
}
