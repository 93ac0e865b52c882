#include "text/post.h"
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/impl.h"
#include "text/unicode.h"

enum { MOST_ITEMS = 1024 };

/* One place of a template: a text (0 or 1), or tokens. */
struct item { int text; int32_t id, type; };           /* text -1: the token id */
struct list { struct item *v; size_t n, cap; };
struct dan_post {
    struct list single, pair;
    bool set, trim, prefix;                    /* set: there are templates; prefix: a space in front is ours and stays */
};
struct reading { struct dan_post *p; const char *where; int32_t n_vocab; struct dan_err *e; };

static int put(struct reading *r, struct list *l, int text, json_int_t id, json_int_t type)
{
    if (l->n >= MOST_ITEMS)
        return dan_fail(r->e, DAN_EFORMAT, "%s: post_processor has more than %d items; the file is damaged", r->where, MOST_ITEMS);
    if (text < 0 && (id < 0 || id >= r->n_vocab))
        return dan_fail(r->e, DAN_EFORMAT, "%s: post_processor adds token %lld, which is not in the vocabulary; the file is damaged", r->where,
                        (long long)id);
    if (type < 0 || type > INT32_MAX) return dan_fail(r->e, DAN_EFORMAT, "%s: post_processor has the token type %lld; it must be 0 or more", r->where,
                                                      (long long)type);
    if (dan_vec_grow(&l->v, &l->cap, l->n + 1, sizeof *l->v) != 0)
        return dan_fail(r->e, DAN_ENOMEM, "out of memory for the tokenizer '%s'", r->where);
    l->v[l->n++] = (struct item){text, (int32_t)id, (int32_t)type};
    return DAN_OK;
}

/* {"SpecialToken": {"id": "[CLS]", "type_id": 0}} or {"Sequence": {"id": "A", "type_id": 0}} */
static int template_item(struct reading *r, const json_t *post, const json_t *item, struct list *l)
{
    const json_t *special = json_object_get(item, "SpecialToken"), *sequence = json_object_get(item, "Sequence"), *one = special ? special : sequence;
    json_int_t type = json_integer_value(json_object_get(one, "type_id"));
    const char *name = dan_json_name(one, "id");
    if (!special) return put(r, l, strcmp(name, "B") == 0, 0, type);
    const json_t *ids = json_object_get(json_object_get(json_object_get(post, "special_tokens"), name), "ids");
    size_t i;
    json_t *id;
    if (!json_is_array(ids))
        return dan_fail(r->e, DAN_EFORMAT, "%s: post_processor.special_tokens has no '%.60s'; the file is damaged", r->where, name);
    json_array_foreach(ids, i, id) {
        int bad = put(r, l, -1, json_integer_value(id), type);
        if (bad) return bad;
    }
    return DAN_OK;
}

static int read_template(struct reading *r, const json_t *post)
{
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(post, "single"), i, item) {
        int bad = template_item(r, post, item, &r->p->single);
        if (bad) return bad;
    }
    json_array_foreach(json_object_get(post, "pair"), i, item) {
        int bad = template_item(r, post, item, &r->p->pair);
        if (bad) return bad;
    }
    r->p->set = true;
    return DAN_OK;
}

/* [CLS] a [SEP]  b [SEP], or, RoBERTa, <s> a </s>  </s> b </s> with all types 0. */
static int read_pairs(struct reading *r, const json_t *post, bool roberta)
{
    json_int_t cls = json_integer_value(json_array_get(json_object_get(post, "cls"), 1));
    json_int_t sep = json_integer_value(json_array_get(json_object_get(post, "sep"), 1));
    struct dan_post *p = r->p;
    int bad = DAN_OK;
    for (int pair = 0; pair < 2 && !bad; pair++) {
        struct list *l = pair ? &p->pair : &p->single;
        bad = put(r, l, -1, cls, 0);
        if (!bad) bad = put(r, l, 0, 0, 0);
        if (!bad) bad = put(r, l, -1, sep, 0);
    }
    if (!bad && roberta) bad = put(r, &p->pair, -1, sep, 0);
    if (!bad) bad = put(r, &p->pair, 1, 0, !roberta);
    if (!bad) bad = put(r, &p->pair, -1, sep, !roberta);
    p->set = true;
    return bad;
}

static int read_any(struct reading *r, const json_t *post)
{
    const char *type = dan_json_name(post, "type");
    bool roberta = strcmp(type, "RobertaProcessing") == 0, level = strcmp(type, "ByteLevel") == 0;
    size_t i;
    json_t *one;
    if (strcmp(type, "Sequence") == 0) {
        json_array_foreach(json_object_get(post, "processors"), i, one) {
            int bad = read_any(r, one);
            if (bad) return bad;
        }
        return DAN_OK;
    }
    if ((roberta || level) && dan_json_flag(post, "trim_offsets", true)) {
        r->p->trim = true;
        r->p->prefix = dan_json_flag(post, "add_prefix_space", true);
    }
    if (level) return DAN_OK;
    if (r->p->set) return dan_no_such(r->where, "post_processor", "a second template in a Sequence", r->e);
    if (strcmp(type, "TemplateProcessing") == 0) return read_template(r, post);
    if (roberta || strcmp(type, "BertProcessing") == 0) return read_pairs(r, post, roberta);
    return dan_no_such(r->where, "post_processor.type", *type ? type : "null", r->e);
}

int dan_post_new(const json_t *j, int32_t n_vocab, const char *where, struct dan_post **out, struct dan_err *e)
{
    *out = NULL;
    if (!j || json_is_null(j)) return DAN_OK;
    struct reading r = {.p = dan_calloc(1, sizeof *r.p), .where = where, .n_vocab = n_vocab, .e = e};
    int bad = r.p ? read_any(&r, j) : dan_fail(e, DAN_ENOMEM, "out of memory for the tokenizer '%s'", where);
    if (bad) dan_post_free(r.p);
    else *out = r.p;
    return bad;
}

void dan_post_free(struct dan_post *p)
{
    if (!p) return;
    dan_free(p->single.v);
    dan_free(p->pair.v);
    dan_free(p);
}

void dan_post_join(const struct dan_post *p, const struct dan_ids *a, const struct dan_ids *b, struct dan_ids *out, struct dan_ids *types)
{
    static const struct item plain[] = {{0, 0, 0}, {1, 0, 1}};
    static const struct dan_ids none = {0};
    const struct list *l = p && p->set ? b ? &p->pair : &p->single : NULL;
    const struct item *v = l ? l->v : plain;
    size_t n = l ? l->n : b ? 2 : 1;
    for (size_t i = 0; i < n; i++) {
        const struct dan_ids *text = v[i].text == 0 ? a : b ? b : &none;
        size_t m = v[i].text < 0 ? 1 : text->n;
        for (size_t k = 0; k < m; k++) {
            dan_ids_push(out, v[i].text < 0 ? v[i].id : text->v[k]);
            if (types) dan_ids_push(types, v[i].type);
        }
    }
}

/* White space at the beginning (or end) of a token, in characters: all of its own alphabet's bytes are one character each, other
 * white space only added tokens have. */
static size_t blanks(const char *p, size_t n, bool end, bool byte)
{
    size_t count = 0;
    int32_t cp;
    while (n) {
        size_t k = 1;
        if (end)
            while (k < n && k < 4 && ((unsigned char)p[n - k] & 0xC0) == 0x80) k++;
        else k = (size_t)dan_utf8_next(p, n, &cp);
        if (end) dan_utf8_next(p + n - k, k, &cp);
        if (byte ? cp != ' ' : !dan_uni_is(DAN_UNI_SPACE, cp) && cp != 0x120) break;
        count++;
        n -= k;
        if (!end) p += k;
    }
    return count;
}

static size_t forth(const char *text, size_t at, size_t to, size_t chars)
{
    int32_t cp;
    while (chars-- && at < to) at += (size_t)dan_utf8_next(text + at, to - at, &cp);
    return at;
}

static size_t back(const char *text, size_t at, size_t from, size_t chars)
{
    while (chars-- && at > from)
        for (at--; at > from && ((unsigned char)text[at] & 0xC0) == 0x80;) at--;
    return at;
}

void dan_post_trim(const struct dan_post *p, const struct dan_tokenizer *t, const char *text, const struct dan_ids *ids, size_t from,
                   struct dan_spans *span, size_t span_from)
{
    if (!p || !p->trim) return;
    for (size_t i = from; i < ids->n && span_from < span->n; i++, span_from++) {
        struct dan_span *s = &span->v[span_from];
        size_t n;
        const char *token = dan_tokenizer_token(t, ids->v[i], &n);
        const struct dan_added *added = dan_tok_added_of(t, ids->v[i]);
        bool byte = t->bytes_are_text && !added;
        if (added) token = text + s->from, n = s->to - s->from;    /* with the white space that it took */
        size_t lead = token ? blanks(token, n, false, byte) : 0, tail = token ? blanks(token, n, true, byte) : 0;
        if (lead == 1 && p->prefix && (i == from || s->from == 0)) lead = 0;
        s->from = forth(text, s->from, s->to, lead);
        s->to = back(text, s->to, s->from, tail);
    }
}
