#include "text/decoder.h"
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/impl.h"

enum { MOST_STEPS = 64 };

/* Tokens pass through the steps in parts; `end` marks the last part of a token.  Most tokens come whole; behind Fuse there is one
 * token, which ends when everything does. */
struct state {
    struct dan_str held;                       /* the parts of a token that must be seen whole; a token or bytes that wait */
    size_t count, seen;                        /* tokens before; characters of this one that Strip has looked at */
    bool   has, inside;                        /* held is a token that waits; a token has begun */
};
struct step {
    const struct kind *kind;
    char *text, *text2;                        /* prefix, suffix, pad; content, word delimiter */
    size_t n, n2, start, stop;
    int32_t ch;
    bool flag;                                 /* cleanup; Metaspace: a first one falls away */
    struct dan_pattern *pattern;
};
struct dan_decoder { struct step *step; size_t n, cap; };
struct dan_decoding {
    const struct dan_decoder *d;
    struct state *state;
    struct dan_pattern_room room;
    struct dan_parts parts;
    struct dan_str *out, tmp;
};

struct kind {
    const char *name;
    int  (*read)(struct step *s, const json_t *j, const char *where, struct dan_err *e);
    /* A whole token, or, if `parts`, each part of one. */
    void (*push)(struct dan_decoding *g, size_t i, const char *p, size_t n, bool end);
    void (*finish)(struct dan_decoding *g, size_t i);  /* gives out what waits; may be NULL */
    bool parts;
};

/* To step i, or out. */
static void pass(struct dan_decoding *g, size_t i, const char *p, size_t n, bool end)
{
    if (i == g->d->n) {
        dan_str_append(g->out, p, n);
        return;
    }
    struct state *s = &g->state[i];
    const struct kind *k = g->d->step[i].kind;
    if (k->parts || (end && !s->inside)) {
        k->push(g, i, p, n, end);
        return;
    }
    dan_str_append(&s->held, p, n);            /* must be seen whole: wait for its end */
    s->inside = !end;
    if (!end) return;
    struct dan_str whole = s->held;
    s->held = (struct dan_str){0};
    k->push(g, i, dan_str_c(&whole), whole.n, true);
    dan_str_release(&whole);
}

/* --- what steps share */
static void replace_all(struct dan_str *out, const char *p, size_t n, const char *from, size_t from_n, const char *to)
{
    for (size_t i = 0; i < n;) {
        const char *hit = from_n ? memmem(p + i, n - i, from, from_n) : NULL;
        size_t k = hit ? (size_t)(hit - (p + i)) : n - i;
        dan_str_append(out, p + i, k);
        if (hit) dan_str_puts(out, to);
        i += k + (hit ? from_n : 0);
    }
}

/* The clean-up of WordPiece and CTC, one replacement after the other; s is rewritten. */
static void clean_up(struct dan_str *s)
{
    static const char *const pair[][2] = {{" .", "."}, {" ?", "?"}, {" !", "!"}, {" ,", ","}, {" ' ", "'"}, {" n't", "n't"}, {" 'm", "'m"},
                                          {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        size_t k = strlen(pair[i][0]);
        if (s->n < k || !memmem(s->p, s->n, pair[i][0], k)) continue;
        struct dan_str next = {0};
        replace_all(&next, s->p, s->n, pair[i][0], k, pair[i][1]);
        dan_str_release(s);
        *s = next;
    }
}

static int take(char **out, size_t *n, const json_t *j, const char *key, const char *absent, const char *where, struct dan_err *e)
{
    const json_t *v = json_object_get(j, key);
    const char *text = json_is_string(v) ? json_string_value(v) : absent;
    *n = json_is_string(v) ? json_string_length(v) : strlen(absent);
    *out = dan_malloc(*n + 1);
    if (!*out) return dan_fail(e, DAN_ENOMEM, "out of memory for the decoder of '%s'", where);
    memcpy(*out, text, *n + 1);
    return DAN_OK;
}

/* --- BPE: the suffix of words becomes a space, that of the last nothing */
static int read_bpe(struct step *s, const json_t *j, const char *where, struct dan_err *e)
{
    return take(&s->text, &s->n, j, "suffix", "</w>", where, e);
}

static void give_bpe(struct dan_decoding *g, size_t i, bool last)
{
    struct state *st = &g->state[i];
    const struct step *s = &g->d->step[i];
    struct dan_str out = {0};
    if (!st->has) return;
    replace_all(&out, dan_str_c(&st->held), st->held.n, s->text, s->n, last ? "" : " ");
    st->has = false;
    pass(g, i + 1, dan_str_c(&out), out.n, true);
    dan_str_release(&out);
}

static void push_bpe(struct dan_decoding *g, size_t i, const char *p, size_t n, bool end)
{
    (void)end;
    give_bpe(g, i, false);
    dan_str_clear(&g->state[i].held);
    dan_str_append(&g->state[i].held, p, n);
    g->state[i].has = true;
}

static void finish_bpe(struct dan_decoding *g, size_t i) { give_bpe(g, i, true); }

/* --- ByteLevel: the alphabet of bytes; a token with any other character stands for itself.  All become one token. */
static void push_byte_level(struct dan_decoding *g, size_t i, const char *p, size_t n, bool end)
{
    (void)end;
    char *raw = dan_malloc(n + 1);
    if (!raw) g->out->failed = true;
    else pass(g, i + 1, raw, dan_alphabet_get(p, n, raw), false);
    dan_free(raw);
}

static void finish_one(struct dan_decoding *g, size_t i) { pass(g, i + 1, "", 0, true); }

/* --- Fuse: all become one token */
static void push_fuse(struct dan_decoding *g, size_t i, const char *p, size_t n, bool end)
{
    (void)end;
    pass(g, i + 1, p, n, false);
}

/* --- WordPiece: words with a space before them, continuations without their prefix */
static int read_wordpiece(struct step *s, const json_t *j, const char *where, struct dan_err *e)
{
    s->flag = dan_json_flag(j, "cleanup", true);
    return take(&s->text, &s->n, j, "prefix", "##", where, e);
}

static void push_wordpiece(struct dan_decoding *g, size_t i, const char *p, size_t n, bool end)
{
    (void)end;
    const struct step *s = &g->d->step[i];
    struct dan_str out = {0};
    if (g->state[i].count++ == 0) dan_str_append(&out, p, n);
    else if (n >= s->n && memcmp(p, s->text, s->n) == 0) dan_str_append(&out, p + s->n, n - s->n);
    else {
        dan_str_putc(&out, ' ');
        dan_str_append(&out, p, n);
    }
    if (s->flag) clean_up(&out);
    pass(g, i + 1, dan_str_c(&out), out.n, true);
    dan_str_release(&out);
}

/* --- Metaspace: marks are spaces, those of the first token nothing */
static int read_metaspace(struct step *s, const json_t *j, const char *where, struct dan_err *e)
{
    s->ch = dan_json_char(json_object_get(j, "replacement"));
    const char *scheme = dan_json_name(j, "prepend_scheme");
    s->flag = dan_json_flag(j, "add_prefix_space", true) && strcmp(scheme, "never") != 0;
    return s->ch > 0 ? DAN_OK : dan_no_such(where, "decoder.replacement", dan_json_name(j, "replacement"), e);
}

static void push_metaspace(struct dan_decoding *g, size_t i, const char *p, size_t n, bool end)
{
    (void)end;
    const struct step *s = &g->d->step[i];
    char mark[4];
    size_t k = dan_flow_encode(s->ch, mark);
    struct dan_str out = {0};
    bool first = g->state[i].count++ == 0;
    replace_all(&out, p, n, mark, k, first && s->flag ? "" : " ");
    pass(g, i + 1, dan_str_c(&out), out.n, true);
    dan_str_release(&out);
}

/* --- CTC: a token that follows itself falls away, so does the pad */
static int read_ctc(struct step *s, const json_t *j, const char *where, struct dan_err *e)
{
    s->flag = dan_json_flag(j, "cleanup", true);
    int r = take(&s->text, &s->n, j, "pad_token", "<pad>", where, e);
    return r ? r : take(&s->text2, &s->n2, j, "word_delimiter_token", "|", where, e);
}

static void push_ctc(struct dan_decoding *g, size_t i, const char *p, size_t n, bool end)
{
    (void)end;
    const struct step *s = &g->d->step[i];
    struct state *st = &g->state[i];
    if (st->has && st->held.n == n && (n == 0 || memcmp(st->held.p, p, n) == 0)) return;
    st->has = true;
    dan_str_clear(&st->held);
    dan_str_append(&st->held, p, n);
    struct dan_str out = {0}, words = {0};
    replace_all(&out, p, n, s->text, s->n, "");
    if (s->flag) {
        clean_up(&out);
        replace_all(&words, dan_str_c(&out), out.n, s->text2, s->n2, " ");
    }
    const struct dan_str *give = s->flag ? &words : &out;
    if (give->n) pass(g, i + 1, give->p, give->n, true);
    dan_str_release(&out);
    dan_str_release(&words);
}

/* --- Replace */
static int read_replace(struct step *s, const json_t *j, const char *where, struct dan_err *e)
{
    int r = take(&s->text, &s->n, j, "content", "", where, e);
    return r ? r : dan_json_pattern(json_object_get(j, "pattern"), where, &s->pattern, e);
}

static void push_replace(struct dan_decoding *g, size_t i, const char *p, size_t n, bool end)
{
    (void)end;
    const struct step *s = &g->d->step[i];
    struct dan_str out = {0};
    g->parts.n = 0;
    if (dan_pattern_cut(s->pattern, &g->room, p, n, &g->parts, NULL)) dan_str_append(&out, p, n);      /* takes too long: as it is */
    else
        for (size_t k = 0; k < g->parts.n; k++) {
            struct dan_part part = g->parts.v[k];
            if (part.match) dan_str_append(&out, s->text, s->n);
            else dan_str_append(&out, p + part.from, part.to - part.from);
        }
    pass(g, i + 1, dan_str_c(&out), out.n, true);
    dan_str_release(&out);
}

/* --- Strip: up to start characters in front, stop at the end */
static int read_strip(struct step *s, const json_t *j, const char *where, struct dan_err *e)
{
    json_int_t start = json_integer_value(json_object_get(j, "start")), stop = json_integer_value(json_object_get(j, "stop"));
    s->ch = dan_json_char(json_object_get(j, "content"));
    s->start = start > 0 ? (size_t)start : 0;
    s->stop = stop > 0 ? (size_t)stop : 0;
    return s->ch >= 0 ? DAN_OK : dan_no_such(where, "decoder.content", dan_json_name(j, "content"), e);
}

/* What may still be cut at the end waits in held: at most stop characters, all of them the one. */
static void push_strip(struct dan_decoding *g, size_t i, const char *p, size_t n, bool end)
{
    const struct step *s = &g->d->step[i];
    struct state *st = &g->state[i];
    char mark[4];
    size_t k = dan_flow_encode(s->ch, mark), tail = 0;
    while (n && st->seen < s->start) {
        if (n < k || memcmp(p, mark, k) != 0) {
            st->seen = s->start;
            break;
        }
        p += k, n -= k, st->seen++;
    }
    if (n) st->seen = s->start;
    while (tail + k <= n && tail / k < s->stop && memcmp(p + n - tail - k, mark, k) == 0) tail += k;
    size_t most = s->stop * k;
    if (st->held.n && (tail < n || st->held.n + n > most)) {
        size_t give = tail < n ? st->held.n : st->held.n + n - most < st->held.n ? st->held.n + n - most : st->held.n;
        pass(g, i + 1, st->held.p, give, false);
        memmove(st->held.p, st->held.p + give, st->held.n - give);
        st->held.n -= give;
    }
    if (tail < n) pass(g, i + 1, p, n - tail, false);
    dan_str_append(&st->held, p + n - tail, tail);
    if (!end) return;
    dan_str_clear(&st->held);
    st->seen = 0;
    pass(g, i + 1, "", 0, true);
}

/* --- ByteFallback: runs of <0xHH> are UTF-8, or U+FFFD each */
static int byte_of(const char *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    if (n != 6 || memcmp(p, "<0x", 3) != 0 || p[5] != '>') return -1;
    const char *hi = memchr(digits, p[3] | 0x20, 16), *lo = memchr(digits, p[4] | 0x20, 16);
    bool real = ((p[3] >= '0' && p[3] <= '9') || p[3] >= 'A') && ((p[4] >= '0' && p[4] <= '9') || p[4] >= 'A');
    return hi && lo && real ? (int)(hi - digits) << 4 | (int)(lo - digits) : -1;
}

static void finish_fallback(struct dan_decoding *g, size_t i)
{
    struct dan_str run = g->state[i].held;
    g->state[i].held = (struct dan_str){0};
    if (run.n && dan_utf8_check(run.p, run.n) == run.n) pass(g, i + 1, run.p, run.n, true);
    else
        for (size_t k = 0; k < run.n; k++) pass(g, i + 1, "\xEF\xBF\xBD", 3, true);
    dan_str_release(&run);
}

static void push_fallback(struct dan_decoding *g, size_t i, const char *p, size_t n, bool end)
{
    (void)end;
    int b = byte_of(p, n);
    if (b >= 0) {
        dan_str_putc(&g->state[i].held, (char)(unsigned char)b);
        return;
    }
    if (g->state[i].held.n) finish_fallback(g, i);
    pass(g, i + 1, p, n, true);
}

/* --- no decoder at all: a space between tokens */
static void push_spaces(struct dan_decoding *g, size_t i, const char *p, size_t n, bool end)
{
    (void)end;
    if (g->state[i].count++) pass(g, i + 1, " ", 1, false);
    pass(g, i + 1, p, n, false);
}

static const struct kind kinds[] = {
    {"", NULL, push_spaces, NULL, false},
    {"BPEDecoder", read_bpe, push_bpe, finish_bpe, false},
    {"ByteLevel", NULL, push_byte_level, finish_one, false},
    {"WordPiece", read_wordpiece, push_wordpiece, NULL, false},
    {"Metaspace", read_metaspace, push_metaspace, NULL, false},
    {"CTC", read_ctc, push_ctc, NULL, false},
    {"Replace", read_replace, push_replace, NULL, false},
    {"Fuse", NULL, push_fuse, finish_one, true},
    {"Strip", read_strip, push_strip, NULL, true},
    {"ByteFallback", NULL, push_fallback, finish_fallback, false},
};

/* --- the chain */
static int add_kind(struct dan_decoder *d, const struct kind *k, const json_t *j, const char *where, struct dan_err *e)
{
    if (d->n >= MOST_STEPS) return dan_fail(e, DAN_EUNSUPPORTED, "%s: decoder has more than %d steps; the file is damaged", where, MOST_STEPS);
    if (dan_vec_grow(&d->step, &d->cap, d->n + 1, sizeof *d->step) != 0)
        return dan_fail(e, DAN_ENOMEM, "out of memory for the decoder of '%s'", where);
    struct step *s = &d->step[d->n++];
    *s = (struct step){.kind = k};
    return k->read ? k->read(s, j, where, e) : DAN_OK;
}

static int add(struct dan_decoder *d, const json_t *j, const char *where, struct dan_err *e)
{
    const char *type = dan_json_name(j, "type");
    if (strcmp(type, "Sequence") == 0) {
        size_t i;
        json_t *one;
        json_array_foreach(json_object_get(j, "decoders"), i, one) {
            int r = add(d, one, where, e);
            if (r) return r;
        }
        return DAN_OK;
    }
    for (size_t i = 1; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, type) == 0) return add_kind(d, &kinds[i], j, where, e);
    return dan_no_such(where, "decoder.type", *type ? type : "null", e);
}

int dan_decoder_new(const json_t *j, const char *where, struct dan_decoder **out, struct dan_err *e)
{
    struct dan_decoder *d = dan_calloc(1, sizeof *d);
    if (!d) return dan_fail(e, DAN_ENOMEM, "out of memory for the decoder of '%s'", where);
    int r = j && !json_is_null(j) ? add(d, j, where, e) : add_kind(d, &kinds[0], NULL, where, e);
    if (r) dan_decoder_free(d);
    else *out = d;
    return r;
}

void dan_decoder_free(struct dan_decoder *d)
{
    if (!d) return;
    for (size_t i = 0; i < d->n; i++) {
        dan_free(d->step[i].text);
        dan_free(d->step[i].text2);
        dan_pattern_free(d->step[i].pattern);
    }
    dan_free(d->step);
    dan_free(d);
}

bool dan_decoder_is_bytes(const json_t *j)
{
    const char *type = dan_json_name(j, "type");
    const json_t *list = json_object_get(j, "decoders");
    if (strcmp(type, "Sequence") == 0) return json_array_size(list) == 1 && dan_decoder_is_bytes(json_array_get(list, 0));
    return strcmp(type, "ByteLevel") == 0;
}

struct dan_decoding *dan_decoding_new(const struct dan_decoder *d)
{
    struct dan_decoding *g = dan_calloc(1, sizeof *g);
    if (g) g->state = dan_calloc(d->n + 1, sizeof *g->state);
    if (g && g->state) return g->d = d, g;
    dan_free(g);
    return NULL;
}

void dan_decoding_push(struct dan_decoding *g, const char *token, size_t n, struct dan_str *out)
{
    g->out = out;
    pass(g, 0, token, n, true);
}

void dan_decoding_finish(struct dan_decoding *g, struct dan_str *out)
{
    g->out = out;
    for (size_t i = 0; i < g->d->n; i++) {
        if (g->d->step[i].kind->finish) g->d->step[i].kind->finish(g, i);
        struct state *s = &g->state[i];
        out->failed = out->failed || s->held.failed;
        dan_str_release(&s->held);
        *s = (struct state){0};
    }
}

void dan_decoding_free(struct dan_decoding *g)
{
    if (!g) return;
    for (size_t i = 0; i < g->d->n; i++) dan_str_release(&g->state[i].held);
    dan_free(g->state);
    dan_pattern_room_release(&g->room);
    dan_parts_release(&g->parts);
    dan_free(g);
}
