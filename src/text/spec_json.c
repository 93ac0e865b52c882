/* tokenizer.json, and vocab.json with merges.txt -> struct dan_tok_spec. */
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "io/json.h"
#include "text/json_fast.h"
#include "text/normal.h"
#include "text/spec.h"

/* Where words and merges come from: one pass over the text, or, when that finds something unusual, the JSON tree. */
struct reading {
    struct dan_tok_spec *s;
    const json_t *root, *model;
    struct dan_json_fast fast;
    bool is_fast;
    struct dan_map *names;                     /* as they stand in model.vocab -> id */
    char *raw;
    size_t raw_cap;
    struct dan_err *e;
};

static int damaged(const struct reading *r, const char *what)
{
    return dan_fail(r->e, DAN_EFORMAT, "%s: %s; the file is damaged", r->s->where, what);
}

/* --- the vocabulary */
static bool in_alphabet(const char *p, size_t n)
{
    int32_t cp;
    for (size_t i = 0; i < n;) {
        i += dan_flow_char(p + i, n - i, &cp);
        if (dan_char_to_byte(cp) < 0) return false;
    }
    return true;
}

static int word(struct reading *r, const char *p, size_t n, int64_t id, double score)
{
    struct dan_tok_spec *s = r->s;
    int flags = DAN_PIECE_MODEL;
    if (dan_map_put(r->names, p, n, id)) return dan_fail(r->e, DAN_ENOMEM, "out of memory for a vocabulary of %zu tokens", s->n);
    if (s->byte_level) {
        if (dan_vec_grow(&r->raw, &r->raw_cap, n + 1, 1)) return dan_fail(r->e, DAN_ENOMEM, "out of memory for a token of %zu bytes", n);
        size_t m = dan_alphabet_get(p, n, r->raw);
        if (!in_alphabet(p, n)) flags |= DAN_PIECE_UNUSED;         /* no bytes make it */
        p = r->raw;
        n = m;
    }
    return dan_tok_spec_put(s, id, p, n, score, flags, r->e);
}

static int words_tree(struct reading *r, const json_t *vocab)
{
    const char *key;
    json_t *value;
    size_t i, n;
    int bad = DAN_OK;
    if (json_is_array(vocab)) {
        json_array_foreach(vocab, i, value) {
            const json_t *text = json_array_get(value, 0), *score = json_array_get(value, 1);
            if (!json_is_string(text) || !json_is_number(score)) return damaged(r, "model.vocab is not a list of [text, score]");
            bad = word(r, json_string_value(text), json_string_length(text), (int64_t)i, json_number_value(score));
            if (bad) return bad;
        }
        return DAN_OK;
    }
    json_object_keylen_foreach((json_t *)(uintptr_t)vocab, key, n, value) {
        bad = word(r, key, n, json_is_integer(value) ? json_integer_value(value) : -1, 0);
        if (bad) return bad;
    }
    return DAN_OK;
}

static int words(struct reading *r)
{
    const json_t *vocab = json_object_get(r->model, "vocab");
    bool list = r->s->model == DAN_SPEC_UNIGRAM;
    if (!r->is_fast) {
        if (list ? !json_is_array(vocab) : !json_is_object(vocab)) return damaged(r, "model.vocab is missing");
        return words_tree(r, vocab);
    }
    if (!r->fast.has_vocab || r->fast.scored != list) return damaged(r, "model.vocab is missing");
    if (dan_map_reserve(r->names, r->fast.n_words))
        return dan_fail(r->e, DAN_ENOMEM, "out of memory for a vocabulary of %zu tokens", r->fast.n_words);
    for (size_t i = 0; i < r->fast.n_words; i++) {
        const struct dan_json_word *w = &r->fast.word[i];
        int bad = word(r, w->p, w->n, w->id, w->score);
        if (bad) return bad;
    }
    return DAN_OK;
}

/* Added tokens stand for their text, whatever the vocabulary said.  One that the model knows has the model's id. */
static int added_token(struct reading *r, const json_t *a, size_t i)
{
    static const struct { const char *key; int flag; } flag[] = {
        {"special", DAN_PIECE_SPECIAL}, {"lstrip", DAN_PIECE_LSTRIP}, {"rstrip", DAN_PIECE_RSTRIP},
        {"single_word", DAN_PIECE_SINGLE_WORD}, {"normalized", DAN_PIECE_NORMALIZED},
    };
    struct dan_tok_spec *s = r->s;
    const json_t *text = json_object_get(a, "content"), *number = json_object_get(a, "id");
    size_t n = json_string_length(text);
    int flags = DAN_PIECE_ADDED;
    int64_t id = json_is_integer(number) ? json_integer_value(number) : -1;
    if (!json_is_string(text) || n == 0)
        return dan_fail(r->e, DAN_EFORMAT, "%s: added token %zu has no content; give it a text", s->where, i);
    const char *p = json_string_value(text);
    for (size_t k = 0; k < sizeof flag / sizeof *flag; k++)
        if (dan_json_flag(a, flag[k].key, false)) flags |= flag[k].flag;
    if (dan_map_get(r->names, p, n, &id)) {
        struct dan_spec_piece *piece = &s->piece[id];
        flags |= DAN_PIECE_MODEL;
        if (piece->n == n && memcmp(s->bytes.p + piece->at, p, n) == 0) flags |= piece->flags;
        else piece->flags = 0;                 /* its bytes were read in the alphabet of bytes */
        if (piece->flags == 0) return dan_tok_spec_put(s, id, p, n, piece->score, flags, r->e);
        piece->flags = (uint8_t)flags;
        return DAN_OK;
    }
    return dan_tok_spec_put(s, id, p, n, 0, flags, r->e);
}

static int added(struct reading *r)
{
    size_t i;
    json_t *a;
    json_array_foreach(json_object_get(r->root, "added_tokens"), i, a) {
        int bad = added_token(r, a, i);
        if (bad) return bad;
    }
    return DAN_OK;
}

/* --- merges */
enum { MANY = 32 };                            /* merges at a time: their names are looked up together */

/* The names of a merge: "a b" in p[0] with p[1] NULL, or both halves. */
static int halves(const struct reading *r, size_t at, const char *const p[2], const size_t n[2], struct dan_map_ask ask[2])
{
    const char *half[2] = {p[0], p[1]}, *space = p[1] || !p[0] ? NULL : memchr(p[0], ' ', n[0]);
    size_t len[2] = {n[0], n[1]};
    if (space) {
        len[0] = (size_t)(space - p[0]);
        half[1] = space + 1;
        len[1] = n[0] - len[0] - 1;
    }
    if (!half[0] || !half[1] || (space && memchr(half[1], ' ', len[1])))
        return dan_fail(r->e, DAN_EFORMAT, "%s: merge %zu is not two tokens; the file is damaged", r->s->where, at);
    for (int k = 0; k < 2; k++) ask[k] = (struct dan_map_ask){.key = half[k], .n = len[k]};
    return DAN_OK;
}

/* n merges by their names; at[]: their numbers in the file. */
static int put_merges(struct reading *r, struct dan_map_ask *ask, const size_t *at, size_t n)
{
    dan_map_get_many(r->names, ask, 2 * n);
    for (size_t k = 0; k < 2 * n; k++) {
        if (!ask[k].found)
            return dan_fail(r->e, DAN_EFORMAT, "%s: merge %zu names '%.*s', which is not in the vocabulary; the file is damaged", r->s->where,
                            at[k / 2], (int)(ask[k].n > 80 ? 80 : ask[k].n), (const char *)ask[k].key);
        r->s->merge[2 * r->s->n_merges + k] = (int32_t)ask[k].value;
    }
    r->s->n_merges += n;
    return DAN_OK;
}

static int merge(struct reading *r, size_t at, const char *const p[2], const size_t n[2])
{
    struct dan_map_ask ask[2];
    int bad = halves(r, at, p, n, ask);
    return bad ? bad : put_merges(r, ask, &at, 1);
}

static int merges_room(struct reading *r, size_t n)
{
    r->s->merge = dan_malloc((n + 1) * 2 * sizeof *r->s->merge);
    return r->s->merge ? DAN_OK : dan_fail(r->e, DAN_ENOMEM, "out of memory for %zu merges", n);
}

static int merges_tree(struct reading *r, const json_t *list)
{
    size_t i;
    json_t *m;
    json_array_foreach(list, i, m) {
        const json_t *half[2] = {json_is_string(m) ? m : json_array_get(m, 0), json_array_get(m, 1)};
        const char *p[2] = {json_string_value(half[0]), json_string_value(half[1])};
        size_t n[2] = {json_string_length(half[0]), json_string_length(half[1])};
        if (json_is_array(m) && (json_array_size(m) != 2 || !p[1])) p[0] = NULL;
        if (json_is_string(m) && strncmp(p[0], "#version", 8) == 0) continue;
        int bad = merge(r, i, p, n);
        if (bad) return bad;
    }
    return DAN_OK;
}

static int merges_fast(struct reading *r)
{
    struct dan_map_ask ask[2 * MANY];
    size_t at[MANY], n = 0;
    for (size_t i = 0; i < r->fast.n_merges; i++) {
        const struct dan_json_merge *m = &r->fast.merge[i];
        if (!m->p[1] && m->n[0] > 8 && memcmp(m->p[0], "#version", 8) == 0) continue;
        int bad = halves(r, i, m->p, m->n, ask + 2 * n);
        at[n++] = i;
        if (!bad && n == MANY) bad = put_merges(r, ask, at, n), n = 0;
        if (bad) return bad;
    }
    return put_merges(r, ask, at, n);
}

static int merges(struct reading *r)
{
    const json_t *list = json_object_get(r->model, "merges");
    if (r->is_fast ? !r->fast.has_merges : !json_is_array(list)) return damaged(r, "model.merges is missing");
    int bad = merges_room(r, r->is_fast ? r->fast.n_merges : json_array_size(list));
    if (bad) return bad;
    return r->is_fast ? merges_fast(r) : merges_tree(r, list);
}

/* --- the model's switches */
static int short_text(const struct reading *r, const char *key, char out[32])
{
    const char *text = dan_json_name(r->model, key);
    if (strlen(text) >= 32) return dan_no_such(r->s->where, key, text, r->e);
    memcpy(out, text, strlen(text) + 1);
    return DAN_OK;
}

static const json_t *last_step(const json_t *pre)
{
    while (strcmp(dan_json_name(pre, "type"), "Sequence") == 0) {
        const json_t *list = json_object_get(pre, "pretokenizers");
        pre = json_array_get(list, json_array_size(list) - 1);
    }
    return pre;
}

/* Which byte a name of one character stands for; -1: none. */
static int byte_named(const char *p, size_t n)
{
    int32_t cp;
    return n && n <= 2 && dan_flow_char(p, n, &cp) == n ? dan_char_to_byte(cp) : -1;
}

/* Are the pieces bytes, by name, all 256 of them?  Else the names are text like any other. */
static bool names_are_bytes(const struct reading *r)
{
    const struct dan_tok_spec *s = r->s;
    if (strcmp(dan_json_name(last_step(s->pre_tokenizer), "type"), "ByteLevel") != 0) return false;
    if (*s->prefix || *s->suffix || s->byte_fallback) return false;
    bool seen[256] = {false};
    int found = 0, b;
    const char *key;
    json_t *value;
    size_t n;
    for (size_t i = 0; r->is_fast && i < r->fast.n_words; i++)
        if ((b = byte_named(r->fast.word[i].p, r->fast.word[i].n)) >= 0) found += !seen[b], seen[b] = true;
    json_object_keylen_foreach(json_object_get(r->model, "vocab"), key, n, value)
        if ((b = byte_named(key, n)) >= 0) found += !seen[b], seen[b] = true;
    return found == 256;
}

static int read_bpe(struct reading *r)
{
    struct dan_tok_spec *s = r->s;
    int bad = short_text(r, "continuing_subword_prefix", s->prefix);
    if (!bad) bad = short_text(r, "end_of_word_suffix", s->suffix);
    if (bad) return bad;
    s->byte_fallback = dan_json_flag(r->model, "byte_fallback", false);
    s->fuse_unk = dan_json_flag(r->model, "fuse_unk", false);
    s->ignore_merges = dan_json_flag(r->model, "ignore_merges", false);
    s->byte_level = names_are_bytes(r);
    if (json_number_value(json_object_get(r->model, "dropout")) > 0)
        return dan_fail(r->e, DAN_EUNSUPPORTED, "%s: model.dropout is %g: ids would be random, which only training wants; set it to null",
                        s->where, json_number_value(json_object_get(r->model, "dropout")));
    return DAN_OK;
}

static int read_wordpiece(struct reading *r)
{
    struct dan_tok_spec *s = r->s;
    const json_t *prefix = json_object_get(r->model, "continuing_subword_prefix"), *most = json_object_get(r->model, "max_input_chars_per_word");
    int bad = short_text(r, "continuing_subword_prefix", s->prefix);
    if (!json_is_string(prefix)) memcpy(s->prefix, "##", 3);
    s->max_chars = json_is_integer(most) ? json_integer_value(most) : 100;
    if (!bad && (s->max_chars < 0 || s->max_chars > 1 << 20))
        return dan_fail(r->e, DAN_EFORMAT, "%s: model.max_input_chars_per_word is %lld; it must be 0 to %d", s->where, (long long)s->max_chars,
                        1 << 20);
    return bad;
}

static int read_unigram(struct reading *r)
{
    r->s->byte_fallback = dan_json_flag(r->model, "byte_fallback", false);
    return DAN_OK;
}

static int read_wordlevel(struct reading *r) { return (void)r, DAN_OK; }

static int set_unk(struct reading *r)
{
    struct dan_tok_spec *s = r->s;
    const json_t *number = json_object_get(r->model, "unk_id");
    const char *text = dan_json_name(r->model, "unk_token");
    int64_t id;
    if (s->model == DAN_SPEC_UNIGRAM) {
        id = json_is_integer(number) ? json_integer_value(number) : -1;
        if (json_is_integer(number) && (id < 0 || id >= (int64_t)s->n)) return damaged(r, "model.unk_id is not a piece of the vocabulary");
        s->unk = (int32_t)id;
        return DAN_OK;
    }
    if (!*text && s->model != DAN_SPEC_BPE) text = s->model == DAN_SPEC_WORDPIECE ? "[UNK]" : "<unk>";
    if (*text && dan_map_get(r->names, text, strlen(text), &id)) s->unk = (int32_t)id;
    if (s->unk < 0 && s->model == DAN_SPEC_WORDPIECE)
        return dan_fail(r->e, DAN_EFORMAT, "%s: model.unk_token '%.60s' is not in the vocabulary; WordPiece needs it", s->where, text);
    return DAN_OK;
}

static const struct { const char *name; enum dan_spec_model model; int (*read)(struct reading *r); } models[] = {
    {"BPE", DAN_SPEC_BPE, read_bpe}, {"Unigram", DAN_SPEC_UNIGRAM, read_unigram}, {"WordPiece", DAN_SPEC_WORDPIECE, read_wordpiece},
    {"WordLevel", DAN_SPEC_WORDLEVEL, read_wordlevel},
};

/* Files before 2019-12 have no type. */
static const char *type_of(const struct reading *r)
{
    const char *type = dan_json_name(r->model, "type");
    if (*type) return type;
    if (json_object_get(r->model, "merges")) return "BPE";
    if (json_object_get(r->model, "unk_id") || json_is_array(json_object_get(r->model, "vocab"))) return "Unigram";
    return json_object_get(r->model, "max_input_chars_per_word") ? "WordPiece" : json_object_get(r->model, "vocab") ? "WordLevel" : "";
}

static json_t *part(const struct reading *r, const char *key)
{
    json_t *j = json_object_get(r->root, key);
    return j && !json_is_null(j) ? json_incref(j) : NULL;
}

static int read_root(struct reading *r)
{
    struct dan_tok_spec *s = r->s;
    size_t k = 0, n = sizeof models / sizeof *models;
    r->model = json_object_get(r->root, "model");
    if (!json_is_object(r->model))
        return dan_fail(r->e, DAN_EFORMAT, "no 'model' in '%s'; is it a tokenizer.json of Hugging Face tokenizers?", s->where);
    const char *type = type_of(r);
    while (k < n && strcmp(models[k].name, type) != 0) k++;
    if (k == n) return dan_no_such(s->where, "model.type", *type ? type : "null", r->e);
    s->model = models[k].model;
    s->normalizer = part(r, "normalizer");
    s->pre_tokenizer = part(r, "pre_tokenizer");
    s->post_processor = part(r, "post_processor");
    s->decoder = part(r, "decoder");
    r->names = dan_map_new();
    int bad = r->names ? models[k].read(r) : dan_fail(r->e, DAN_ENOMEM, "out of memory for the tokenizer '%s'", s->where);
    if (!bad) bad = words(r);
    if (!bad) bad = set_unk(r);
    if (!bad && s->model == DAN_SPEC_BPE) bad = merges(r);
    if (!bad) bad = added(r);
    if (!bad && s->n == 0) bad = damaged(r, "model.vocab is empty");
    return bad;
}

int dan_spec_of_json_text(const char *text, size_t n, struct dan_tok_spec *s, struct dan_err *e)
{
    struct reading r = {.s = s, .e = e};
    json_t *root = NULL;
    s->max_ids = 65536 + n;
    r.is_fast = dan_json_fast(text, n, &r.fast);
    int bad = r.is_fast ? dan_json_parse(s->where, dan_str_c(&r.fast.rest), r.fast.rest.n, DAN_JSON_MAX_DEPTH, &root, e)
                        : dan_json_parse(s->where, text, n, DAN_JSON_MAX_DEPTH, &root, e);
    r.root = root;
    if (!bad) bad = read_root(&r);
    json_decref(root);
    dan_map_free(r.names);
    dan_free(r.raw);
    dan_json_fast_release(&r.fast);
    return bad;
}

int dan_spec_from_json(const char *path, struct dan_tok_spec *s, struct dan_err *e)
{
    char *text;
    size_t n;
    int r = dan_read_file(path, &text, &n, e);
    if (r) return r;
    r = dan_spec_of_json_text(text, n, s, e);
    dan_free(text);
    return r;
}
