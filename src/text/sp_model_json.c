/* What a SentencePiece model does, in the schema of tokenizer.json.  That schema cannot say everything:
 *  - text of control tokens becomes control tokens, as `tokenizers` always does;
 *  - the normalisation map is looked up by grapheme cluster, user-defined pieces are normalised too, invalid UTF-8 does not exist;
 *  - sums of scores are double, so two cuts that differ in the last bits of a float may change places;
 *  - pieces of equal score that overlap merge in the order of the list, not leftmost first; characters that only occur inside
 *    pieces do not merge; unused pieces come out; a text that is a piece as a whole is that piece if there are user-defined ones;
 *  - WORD joins no unknown words and has no bytes; unk_surface and the denormaliser are lost. */
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "text/sp_model.h"

#define SPACE "\xe2\x96\x81"

/* --- small things */

/* What is being made of one spec; bad: out of memory, or a text that is no UTF-8. */
struct list { json_t *v; bool bad; };

static void add(struct list *list, json_t *j) { list->bad |= json_array_append_new(list->v, j) != 0; }      /* takes j, whatever happens */

static json_t *typed(const char *type) { return json_pack("{s:s}", "type", type); }

static json_t *replace(const char *kind, const char *pattern, const char *content)
{
    return json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", kind, pattern, "content", content);
}

/* A sequence of what is in list, or the only one, or JSON's null; NULL: bad.  list is taken over. */
static json_t *sequence(const char *key, struct list *list)
{
    size_t n = json_array_size(list->v);
    json_t *j = NULL;
    if (!list->bad)
        j = n == 0 ? json_null() : n == 1 ? json_incref(json_array_get(list->v, 0))
            : json_pack("{s:s, s:O}", "type", "Sequence", key, list->v);
    json_decref(list->v);
    return j;
}

static json_t *base64(const char *p, size_t n)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t m = (n + 2) / 3 * 4;
    char *text = dan_malloc(m);
    if (!text) return NULL;
    for (size_t i = 0, to = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)(unsigned char)p[i] << 16;
        if (i + 1 < n) v |= (uint32_t)(unsigned char)p[i + 1] << 8;
        if (i + 2 < n) v |= (unsigned char)p[i + 2];
        for (int k = 0; k < 4; k++) text[to++] = digit[v >> (18 - 6 * k) & 63];
    }
    if (n % 3) text[m - 1] = '=';
    if (n % 3 == 1) text[m - 2] = '=';
    json_t *j = json_stringn(text, m);
    dan_free(text);
    return j;
}

/* --- the parts */

static json_t *normalizer(const struct dan_sp_rules *r)
{
    const char *space = r->in.escape_spaces ? SPACE : " ";
    struct list list = {json_array(), false};
    if (r->in.charsmap.n)
        add(&list, json_pack("{s:s, s:o}", "type", "Precompiled", "precompiled_charsmap", base64(r->in.charsmap.p, r->in.charsmap.n)));
    if (r->in.remove_spaces) {
        add(&list, replace("Regex", "\\A +", ""));
        add(&list, replace("Regex", " {2,}", " "));
    }
    if (r->in.escape_spaces) add(&list, replace("String", " ", SPACE));
    if (r->in.remove_spaces) add(&list, replace("Regex", r->in.escape_spaces ? SPACE "+\\z" : " +\\z", ""));
    if (r->in.dummy_prefix && !r->suffix) add(&list, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", space));
    if (r->in.dummy_prefix && r->suffix) add(&list, replace("Regex", "(?<=[\\s\\S])\\z", space));
    return sequence("normalizers", &list);
}

static void put_escaped(struct dan_str *s, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strchr("\\.^$|()[]{}*+?-#&~ ", p[i]) && p[i]) dan_str_putc(s, '\\');
        dan_str_putc(s, p[i]);
    }
}

static int longest_first(const void *left, const void *right)
{
    const struct dan_spec_piece *a = left, *b = right;
    if (a->n != b->n) return a->n > b->n ? -1 : 1;
    return (a->at > b->at) - (a->at < b->at);
}

/* User-defined pieces, longest first, as one pattern; empty: there are none. */
static void user_pattern(const struct dan_tok_spec *s, struct dan_str *pattern)
{
    size_t n = 0;
    struct dan_spec_piece *user = dan_malloc(s->n * sizeof *user);
    pattern->failed = !user;
    for (size_t i = 0; i < s->n && user; i++)
        if (s->sp->type[i] == DAN_SP_USER_DEFINED && s->piece[i].n) user[n++] = s->piece[i];
    if (n) qsort(user, n, sizeof *user, longest_first);
    for (size_t i = 0; i < n; i++) {
        if (i) dan_str_putc(pattern, '|');
        put_escaped(pattern, s->bytes.p + user[i].at, user[i].n);
    }
    dan_free(user);
}

static json_t *split(const char *kind, const char *pattern, size_t n, const char *behavior)
{
    return json_pack("{s:s, s:{s:s%}, s:s, s:b}", "type", "Split", "pattern", kind, pattern, n, "behavior", behavior, "invert", 0);
}

static json_t *pre_tokenizer(const struct dan_tok_spec *s, const struct dan_str *user)
{
    struct list list = {json_array(), false};
    if (user->n) add(&list, split("Regex", user->p, user->n, "Isolated"));
    if (s->sp->algorithm == DAN_SP_WORD) add(&list, split("String", SPACE, 3, "MergedWithNext"));
    return sequence("pretokenizers", &list);
}

static json_t *decoder(const struct dan_tok_spec *s)
{
    struct list list = {json_array(), false};
    if (!s->sp->known_only) add(&list, replace("String", SPACE, " "));
    if (s->byte_fallback) add(&list, typed("ByteFallback"));
    add(&list, typed("Fuse"));
    if (s->sp->in.dummy_prefix || s->sp->in.remove_spaces)
        add(&list, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", 1, "stop", 0));
    return sequence("decoders", &list);
}

static int flags_of(enum dan_sp_type type)
{
    switch (type) {
    case DAN_SP_CONTROL:
    case DAN_SP_UNKNOWN: return DAN_PIECE_MODEL | DAN_PIECE_ADDED | DAN_PIECE_SPECIAL;
    case DAN_SP_UNUSED: return DAN_PIECE_MODEL | DAN_PIECE_UNUSED;
    default: return DAN_PIECE_MODEL;           /* user-defined ones too: the pre-tokenizer sets them apart */
    }
}

static void set(json_t **part, json_t *to)
{
    json_decref(*part);
    *part = json_is_null(to) ? NULL : to;
}

int dan_sp_rules_to_json(struct dan_tok_spec *s, struct dan_err *e)
{
    static const enum dan_spec_model model[] = {[DAN_SP_UNIGRAM] = DAN_SPEC_UNIGRAM, [DAN_SP_BPE] = DAN_SPEC_BPE,
                                                [DAN_SP_WORD] = DAN_SPEC_WORDLEVEL, [DAN_SP_CHAR] = DAN_SPEC_BPE};
    struct dan_str user = {0};
    if (s->sp->n_type < s->n)
        return dan_fail(e, DAN_EINVAL, "%zu pieces of '%s' have %zu types", s->n, s->where, s->sp->n_type);
    for (size_t i = 0; i < s->n; i++)
        if (s->piece[i].flags) s->piece[i].flags = (uint8_t)flags_of(s->sp->type[i]);
    user_pattern(s, &user);
    s->model = model[s->sp->algorithm];
    s->merges = s->sp->algorithm == DAN_SP_BPE ? DAN_MERGES_BY_SCORE : DAN_MERGES_LISTED;
    s->fuse_unk = true;
    s->ignore_merges = user.n > 0;
    json_t *n = normalizer(s->sp), *p = pre_tokenizer(s, &user), *d = decoder(s);
    bool bad = !n || !p || !d || user.failed, no_memory = user.failed;
    set(&s->normalizer, n);
    set(&s->pre_tokenizer, p);
    set(&s->decoder, d);
    dan_str_release(&user);
    if (bad && !no_memory)
        return dan_fail(e, DAN_EFORMAT, "a user-defined piece of '%s' is no UTF-8, or memory is short; the file may be damaged", s->where);
    return bad ? dan_fail(e, DAN_ENOMEM, "out of memory for the rules of '%s'", s->where) : DAN_OK;
}
