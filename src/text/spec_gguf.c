/* tokenizer.ggml.* of a GGUF file.  tokenizer.ggml.model says which tokenizer it is:
 *
 *   gpt2    byte-level BPE: merges; tokenizer.ggml.pre names the pre-tokenizer (spec_bpe.c)
 *   llama   SentencePiece BPE by scores, with byte fallback          t5   SentencePiece unigram
 *   bert    WordPiece: what begins a word has a "\u2581" in front, what goes on has nothing; here "##" marks what goes on
 *
 * token_type is SentencePiece's: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. */
#include <string.h>
#include "base/mem.h"
#include "io/gguf.h"
#include "text/sp_model.h"
#include "text/spec_bpe.h"

#define KEY "tokenizer.ggml."
enum { BYTE_NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED };

struct source {
    const struct dan_gguf *g;
    struct dan_tok_spec *s;
    struct dan_gguf_value tokens, types, scores;
    bool has_types, has_scores;
};

static int damaged(const struct source *r, const char *what, struct dan_err *e)
{
    return dan_fail(e, DAN_EFORMAT, "'%s': %s; the file is damaged", r->s->where, what);
}

/* An array of n elements; false when there is none. */
static int array(const struct source *r, const char *key, enum dan_gguf_type of, uint64_t n, struct dan_gguf_value *v, bool *there,
                 struct dan_err *e)
{
    *there = dan_gguf_find(r->g, key, v);
    if (!*there || (v->type == DAN_GGUF_ARRAY && v->of == of && v->n == n)) return DAN_OK;
    return dan_fail(e, DAN_EFORMAT, "'%s': %s is not an array of %llu elements of type %s; the file is damaged", r->s->where, key,
                    (unsigned long long)n, dan_gguf_type_name(of));
}

static int open_arrays(struct source *r, struct dan_err *e)
{
    if (!dan_gguf_find(r->g, KEY "tokens", &r->tokens) || r->tokens.type != DAN_GGUF_ARRAY || r->tokens.of != DAN_GGUF_STRING || !r->tokens.n)
        return dan_fail(e, DAN_EFORMAT, "'%s' has no tokenizer.ggml.tokens: it holds a model without a tokenizer; give the tokenizer's own file",
                        r->s->where);
    int bad = array(r, KEY "token_type", DAN_GGUF_I32, r->tokens.n, &r->types, &r->has_types, e);
    return bad ? bad : array(r, KEY "scores", DAN_GGUF_F32, r->tokens.n, &r->scores, &r->has_scores, e);
}

static int64_t type_at(const struct source *r, uint64_t i)
{
    int64_t type = BYTE_NORMAL;
    if (r->has_types) dan_gguf_int_at(&r->types, i, &type);
    return type;
}

static int32_t id_at(const struct source *r, const char *key)
{
    int64_t id;
    return dan_gguf_int(r->g, key, &id) && id >= 0 && (uint64_t)id < r->tokens.n ? (int32_t)id : -1;
}

static bool flag(const struct source *r, const char *key, bool absent)
{
    int64_t v;
    return dan_gguf_int(r->g, key, &v) ? v != 0 : absent;
}

/* --- pieces */

typedef int put_piece(struct source *r, uint64_t id, struct dan_gguf_text t, struct dan_err *e);

static int each_piece(struct source *r, put_piece *put, struct dan_err *e)
{
    struct dan_gguf_text t;
    size_t at = 0;
    uint64_t id = 0;
    int bad = DAN_OK;
    for (; !bad && id < r->tokens.n && dan_gguf_next_string(&r->tokens, &at, &t); id++) bad = put(r, id, t, e);
    return bad || id == r->tokens.n ? bad : damaged(r, "tokenizer.ggml.tokens ends early", e);
}

/* What the types mean where pieces are not SentencePiece's. */
static int flags_of(int64_t type)
{
    return type == CONTROL ? DAN_PIECE_ADDED | DAN_PIECE_SPECIAL : type == USER_DEFINED ? DAN_PIECE_ADDED
         : type == UNUSED ? DAN_PIECE_MODEL | DAN_PIECE_UNUSED : DAN_PIECE_MODEL;
}

static int put_bytes(struct source *r, uint64_t id, struct dan_gguf_text t, struct dan_err *e)
{
    int flags = flags_of(type_at(r, id));
    if (t.n == 0) return DAN_OK;               /* a hole */
    char *raw = dan_malloc(t.n);
    if (!raw) return dan_fail(e, DAN_ENOMEM, "out of memory for a token of %zu bytes", t.n);
    size_t n = flags & DAN_PIECE_ADDED ? t.n : dan_alphabet_get(t.p, t.n, raw);
    int bad = dan_tok_spec_put(r->s, (int64_t)id, flags & DAN_PIECE_ADDED ? t.p : raw, n, 0, flags, e);
    dan_free(raw);
    return bad;
}

static int put_scored(struct source *r, uint64_t id, struct dan_gguf_text t, struct dan_err *e)
{
    double score = 0;
    if (r->has_scores) dan_gguf_number_at(&r->scores, id, &score);
    return dan_tok_spec_put(r->s, (int64_t)id, t.p, t.n, score, DAN_PIECE_MODEL, e);
}

static int put_wordpiece(struct source *r, uint64_t id, struct dan_gguf_text t, struct dan_err *e)
{
    static const char word[] = "\u2581";
    enum { N = sizeof word - 1 };
    int flags = flags_of(type_at(r, id));
    bool named = t.n >= 2 && t.p[0] == '[' && t.p[t.n - 1] == ']', begins = t.n > N && memcmp(t.p, word, N) == 0;
    if (t.n == 0) return DAN_OK;               /* a hole */
    if (flags & DAN_PIECE_ADDED || named) return dan_tok_spec_put(r->s, (int64_t)id, t.p, t.n, 0, flags, e);
    if (begins) return dan_tok_spec_put(r->s, (int64_t)id, t.p + N, t.n - N, 0, flags, e);
    struct dan_str text = {0};
    dan_str_puts(&text, "##");
    dan_str_append(&text, t.p, t.n);
    int bad = text.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for a token of %zu bytes", t.n)
                          : dan_tok_spec_put(r->s, (int64_t)id, text.p, text.n, 0, flags, e);
    dan_str_release(&text);
    return bad;
}

static bool is_marker(const struct dan_tok_spec *s, int32_t id)
{
    const struct dan_spec_piece *p = &s->piece[id];
    if (!p->flags || p->n <= 2) return false;
    const char *text = s->bytes.p + p->at;
    return (text[0] == '<' && text[p->n - 1] == '>') || (text[0] == '[' && text[p->n - 1] == ']');
}

/* Tokens that the keys name are control tokens, whatever their type says (converters differ), if they look like it: padding may be "!". */
static void mark_special(struct source *r)
{
    static const char *const keys[] = {"bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "cls", "mask"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct dan_str key = {0};
        dan_str_printf(&key, KEY "%s_token_id", keys[i]);
        int32_t id = key.failed ? -1 : id_at(r, key.p);
        dan_str_release(&key);
        if (id >= 0 && (size_t)id < r->s->n && is_marker(r->s, id)) r->s->piece[id].flags |= DAN_PIECE_ADDED | DAN_PIECE_SPECIAL;
    }
}

/* --- the models */

struct merge_names { struct dan_map *id; struct dan_str raw; };

static int half(struct merge_names *m, const char *p, size_t n, int32_t *id)
{
    int64_t found;
    if (dan_vec_grow(&m->raw.p, &m->raw.cap, n + 1, 1) != 0) return -1;
    size_t k = dan_alphabet_get(p, n, m->raw.p);
    if (!dan_map_get(m->id, m->raw.p, k, &found)) return 1;
    *id = (int32_t)found;
    return 0;
}

/* "left right"; a half may itself begin with a space only in a damaged file: the alphabet has none. */
static int one_merge(struct source *r, struct merge_names *m, uint64_t k, struct dan_gguf_text t, struct dan_err *e)
{
    const char *space = t.n > 1 ? memchr(t.p + 1, ' ', t.n - 1) : NULL;
    int bad = space ? half(m, t.p, (size_t)(space - t.p), &r->s->merge[2 * k]) : 1;
    if (!bad) bad = half(m, space + 1, t.n - (size_t)(space + 1 - t.p), &r->s->merge[2 * k + 1]);
    if (bad < 0) return dan_fail(e, DAN_ENOMEM, "out of memory for a merge of %zu bytes", t.n);
    return bad ? dan_fail(e, DAN_EFORMAT, "'%s': tokenizer.ggml.merges %llu, '%.*s', is not two tokens of the vocabulary; the file is damaged",
                          r->s->where, (unsigned long long)k, (int)(t.n > 80 ? 80 : t.n), t.p) : DAN_OK;
}

static int all_merges(struct source *r, const struct dan_gguf_value *v, struct merge_names *m, struct dan_err *e)
{
    struct dan_gguf_text t;
    size_t at = 0;
    int bad = DAN_OK;
    for (size_t i = 0; i < r->s->n && !bad; i++) {
        const struct dan_spec_piece *p = &r->s->piece[i];
        if (p->flags & DAN_PIECE_MODEL && dan_map_put(m->id, r->s->bytes.p + p->at, p->n, (int64_t)i) != 0)
            bad = dan_fail(e, DAN_ENOMEM, "out of memory for a vocabulary of %zu tokens", r->s->n);
    }
    for (uint64_t k = 0; k < v->n && !bad; k++) {
        if (!dan_gguf_next_string(v, &at, &t)) return damaged(r, "tokenizer.ggml.merges ends early", e);
        bad = one_merge(r, m, k, t, e);
    }
    return bad;
}

static int merges(struct source *r, struct dan_err *e)
{
    struct dan_gguf_value v;
    if (!dan_gguf_find(r->g, KEY "merges", &v) || v.type != DAN_GGUF_ARRAY || v.of != DAN_GGUF_STRING)
        return damaged(r, "tokenizer.ggml.model is 'gpt2' but there is no tokenizer.ggml.merges", e);
    struct merge_names m = {.id = dan_map_new()};
    r->s->merge = dan_calloc((size_t)v.n + 1, 2 * sizeof *r->s->merge);
    r->s->n_merges = (size_t)v.n;
    int bad = m.id && r->s->merge ? all_merges(r, &v, &m, e) : dan_fail(e, DAN_ENOMEM, "out of memory for %llu merges", (unsigned long long)v.n);
    dan_map_free(m.id);
    dan_free(m.raw.p);
    return bad;
}

static int around(struct source *r, bool bos, bool eos, int32_t first, int32_t last, struct dan_err *e)
{
    bool before = flag(r, KEY "add_bos_token", bos), after = flag(r, KEY "add_eos_token", eos) || flag(r, KEY "add_sep_token", false);
    return dan_spec_set_around(r->s, before ? first : -1, after ? last : -1, e);
}

static int read_gpt2(struct source *r, struct dan_err *e)
{
    struct dan_gguf_text pre = {"default", 7};
    if (!dan_gguf_string(r->g, KEY "pre", &pre)) r->s->assumed = "the pre-tokenizer 'default', which the file does not name";
    const struct dan_bpe_style *style = dan_bpe_style_named(pre.p, pre.n);
    if (!style) {
        style = dan_bpe_style_named("llama-bpe", 9);
        r->s->assumed = "the pattern of Llama 3, because danlu does not know the file's tokenizer.ggml.pre";
    }
    r->s->model = DAN_SPEC_BPE;
    r->s->merges = DAN_MERGES_LISTED;
    int bad = each_piece(r, put_bytes, e);
    if (!bad) bad = merges(r, e);
    if (!bad) bad = dan_spec_set_style(r->s, style, e);
    int32_t sep = id_at(r, KEY "seperator_token_id");
    if (!bad) bad = around(r, style->bos || style->sep, style->sep, r->s->bos, style->sep && sep >= 0 ? sep : r->s->eos, e);
    if (!bad) mark_special(r);
    return bad;
}

static int read_sentencepiece(struct source *r, enum dan_sp_algorithm algorithm, struct dan_err *e)
{
    struct dan_gguf_value map;
    bool unigram = algorithm == DAN_SP_UNIGRAM;
    int bad = each_piece(r, put_scored, e);
    if (bad) return bad;
    struct dan_sp_rules *sp = r->s->sp = dan_sp_rules_new(algorithm, (size_t)r->tokens.n);
    if (!sp) return dan_fail(e, DAN_ENOMEM, "out of memory for a vocabulary of %llu tokens", (unsigned long long)r->tokens.n);
    for (uint64_t i = 0; i < r->tokens.n; i++) sp->type[i] = (uint8_t)type_at(r, i);
    r->s->model = unigram ? DAN_SPEC_UNIGRAM : DAN_SPEC_BPE;
    r->s->merges = DAN_MERGES_BY_SCORE;
    r->s->byte_fallback = !unigram;
    r->s->unk = id_at(r, KEY "unknown_token_id");
    if (r->s->unk < 0) r->s->unk = r->tokens.n > 2 ? unigram ? 2 : 0 : -1;     /* llama.cpp's defaults */
    if (r->s->unk >= 0) sp->type[r->s->unk] = UNKNOWN;
    sp->raw_bytes = true;
    sp->in.dummy_prefix = flag(r, KEY "add_space_prefix", true);
    sp->in.remove_spaces = flag(r, KEY "remove_extra_whitespaces", unigram);
    if (dan_gguf_find(r->g, KEY "precompiled_charsmap", &map) && map.type == DAN_GGUF_ARRAY && (map.of == DAN_GGUF_U8 || map.of == DAN_GGUF_I8))
        dan_str_append(&sp->in.charsmap, map.data, map.bytes);
    if (sp->in.charsmap.failed) return dan_fail(e, DAN_ENOMEM, "out of memory for the normalisation of '%s'", r->s->where);
    bad = dan_sp_rules_to_json(r->s, e);
    if (bad) return bad;
    json_decref(r->s->post_processor);
    r->s->post_processor = NULL;
    return around(r, !unigram, unigram, r->s->bos, r->s->eos, e);
}

/* Nothing in the file says whether case counts: a vocabulary with capitals in it was made for text with capitals. */
static bool has_capitals(const struct dan_tok_spec *s)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct dan_spec_piece *p = &s->piece[i];
        if (p->flags != DAN_PIECE_MODEL || s->bytes.p[p->at] == '[') continue;
        for (uint32_t k = 0; k < p->n; k++)
            if (s->bytes.p[p->at + k] >= 'A' && s->bytes.p[p->at + k] <= 'Z') return true;
    }
    return false;
}

static int read_bert(struct source *r, struct dan_err *e)
{
    struct dan_tok_spec *s = r->s;
    s->model = DAN_SPEC_WORDPIECE;
    memcpy(s->prefix, "##", 3);
    int bad = each_piece(r, put_wordpiece, e);
    if (bad) return bad;
    mark_special(r);
    s->unk = id_at(r, KEY "unknown_token_id");
    if (s->unk < 0) return damaged(r, "WordPiece needs tokenizer.ggml.unknown_token_id, which is missing", e);
    s->normalizer = json_pack("{s:s, s:b, s:b, s:n, s:b}", "type", "BertNormalizer", "clean_text", 1, "handle_chinese_chars", 1, "strip_accents",
                              "lowercase", !has_capitals(s));
    s->pre_tokenizer = json_pack("{s:s}", "type", "BertPreTokenizer");
    s->decoder = json_pack("{s:s, s:s, s:b}", "type", "WordPiece", "prefix", "##", "cleanup", 1);
    if (!s->normalizer || !s->pre_tokenizer || !s->decoder) return dan_fail(e, DAN_ENOMEM, "out of memory for the tokenizer '%s'", s->where);
    int32_t cls = id_at(r, KEY "cls_token_id"), sep = id_at(r, KEY "seperator_token_id");
    return around(r, true, true, cls >= 0 ? cls : s->bos, sep >= 0 ? sep : s->eos, e);
}

static int read_model(struct source *r, struct dan_gguf_text model, struct dan_err *e)
{
    static const struct { const char *name; int kind; } models[] = {{"gpt2", 0}, {"llama", 1}, {"t5", 2}, {"bert", 3}};
    int kind = -1;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (strlen(models[i].name) == model.n && memcmp(models[i].name, model.p, model.n) == 0) kind = models[i].kind;
    switch (kind) {
    case 0: return read_gpt2(r, e);
    case 1: return read_sentencepiece(r, DAN_SP_BPE, e);
    case 2: return read_sentencepiece(r, DAN_SP_UNIGRAM, e);
    case 3: return read_bert(r, e);
    }
    return dan_fail(e, DAN_EUNSUPPORTED, "'%s': tokenizer.ggml.model '%.*s' is not supported; danlu reads gpt2, llama, t5 and bert", r->s->where,
                    (int)(model.n > 60 ? 60 : model.n), model.p);
}

static int take_template(struct source *r, struct dan_err *e)
{
    struct dan_gguf_text t;
    if (!dan_gguf_string(r->g, "tokenizer.chat_template", &t)) return DAN_OK;
    if (memchr(t.p, 0, t.n)) return damaged(r, "tokenizer.chat_template has a NUL in it", e);
    r->s->chat_template = dan_malloc(t.n + 1);
    if (!r->s->chat_template) return dan_fail(e, DAN_ENOMEM, "out of memory for a chat template of %zu bytes", t.n);
    memcpy(r->s->chat_template, t.p, t.n);
    r->s->chat_template[t.n] = 0;
    return DAN_OK;
}

int dan_spec_from_gguf(const struct dan_gguf *g, struct dan_tok_spec *s, struct dan_err *e)
{
    struct source r = {.g = g, .s = s};
    struct dan_gguf_text model;
    int bad = open_arrays(&r, e);
    if (bad) return bad;
    if (!dan_gguf_string(g, KEY "model", &model)) return damaged(&r, "tokenizer.ggml.model is missing", e);
    s->bos = id_at(&r, KEY "bos_token_id");
    s->eos = id_at(&r, KEY "eos_token_id");
    s->pad = id_at(&r, KEY "padding_token_id");
    bad = read_model(&r, model, e);
    return bad ? bad : take_template(&r, e);
}
