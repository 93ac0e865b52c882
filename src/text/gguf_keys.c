#include "text/gguf_keys.h"
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "text/sp_model.h"

enum { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED };       /* of llama.cpp, as SentencePiece numbers them */

struct tokens {
    const struct dan_tok_spec *s;
    int64_t n;
    struct dan_str bytes;                      /* all names, one after the other */
    size_t *at;                                /* [n + 1] */
    struct dan_gguf_text *text;                /* [n] */
    int32_t *type;                             /* [n] */
    float *score;                              /* [n] */
};

static const char *model_of(const struct dan_tok_spec *s)
{
    if (s->model == DAN_SPEC_UNIGRAM) return "t5";
    if (s->model != DAN_SPEC_BPE) return NULL;
    if (s->byte_level) return "gpt2";
    return s->sp || s->byte_fallback ? "llama" : NULL;
}

static const struct dan_spec_piece *piece(const struct tokens *t, int64_t id)
{
    const struct dan_spec_piece *p = (size_t)id < t->s->n ? &t->s->piece[id] : NULL;
    return p && p->flags ? p : NULL;
}

static int32_t type_of(const struct tokens *t, int64_t id)
{
    const struct dan_spec_piece *p = piece(t, id);
    const struct dan_sp_rules *sp = t->s->sp;
    if (sp && (size_t)id < sp->n_type && p) return sp->type[id];
    if (!p || p->flags & DAN_PIECE_UNUSED) return UNUSED;
    if (!t->s->byte_level && id == t->s->unk) return UNKNOWN;
    const char *text = t->s->bytes.p + p->at;
    if (t->s->byte_fallback && p->n == 6 && !memcmp(text, "<0x", 3) && text[5] == '>') return 6;
    return p->flags & DAN_PIECE_SPECIAL ? CONTROL : p->flags & DAN_PIECE_ADDED ? USER_DEFINED : NORMAL;
}

/* llama2.c's pieces have plain spaces; in GGUF a space is U+2581. */
static void put_escaped(struct dan_str *out, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] == ' ') dan_str_puts(out, "\xe2\x96\x81");
        else dan_str_putc(out, p[i]);
}

/* Added tokens stand for themselves; the model's pieces are in the alphabet of bytes. */
static void put_name(struct tokens *t, int64_t id)
{
    const struct dan_spec_piece *p = piece(t, id);
    const char *text = p ? t->s->bytes.p + p->at : NULL;
    if (!p) dan_str_printf(&t->bytes, "[PAD%lld]", (long long)id);
    else if (t->s->byte_level && !(p->flags & DAN_PIECE_ADDED)) dan_alphabet_put(&t->bytes, text, p->n);
    else if (!t->s->byte_level && (!t->s->sp || !t->s->sp->in.escape_spaces)) put_escaped(&t->bytes, text, p->n);
    else dan_str_append(&t->bytes, text, p->n);
}

static bool fill(struct tokens *t)
{
    t->at = dan_calloc((size_t)t->n + 1, sizeof *t->at);
    t->text = dan_calloc((size_t)t->n + 1, sizeof *t->text);
    t->type = dan_calloc((size_t)t->n + 1, sizeof *t->type);
    t->score = dan_calloc((size_t)t->n + 1, sizeof *t->score);
    if (!t->at || !t->text || !t->type || !t->score) return false;
    for (int64_t i = 0; i < t->n; i++) {
        t->at[i] = t->bytes.n;
        put_name(t, i);
        t->type[i] = type_of(t, i);
        t->score[i] = piece(t, i) ? (float)piece(t, i)->score : 0;
    }
    t->at[t->n] = t->bytes.n;
    if (t->bytes.failed) return false;
    for (int64_t i = 0; i < t->n; i++) t->text[i] = (struct dan_gguf_text){dan_str_c(&t->bytes) + t->at[i], t->at[i + 1] - t->at[i]};
    return true;
}

/* SentencePiece's rule merges by score: a listed merge of rank r makes its piece score -r. */
static int score_merges(struct tokens *t)
{
    struct dan_map *ids = dan_map_new();
    struct dan_str joined = {0};
    int64_t id;
    bool ok = ids != NULL;
    for (int64_t i = 0; i < t->n && ok; i++)
        if (piece(t, i)) ok = !dan_map_put(ids, t->text[i].p, t->text[i].n, i);
    for (size_t r = t->s->n_merges; r-- > 0 && ok;) {                          /* the lowest rank is written last */
        struct dan_gguf_text a = t->text[t->s->merge[2 * r]], b = t->text[t->s->merge[2 * r + 1]];
        dan_str_clear(&joined);
        dan_str_append(&joined, a.p, a.n);
        dan_str_append(&joined, b.p, b.n);
        if (dan_map_get(ids, dan_str_c(&joined), joined.n, &id)) t->score[id] = -(float)r;
    }
    ok = ok && !joined.failed;
    dan_str_release(&joined);
    dan_map_free(ids);
    return ok ? 0 : -1;
}

static int put_merges(const struct tokens *t, struct dan_gguf_out *o)
{
    size_t n = t->s->n_merges;
    struct dan_gguf_text *list = dan_calloc(n + 1, sizeof *list);
    size_t *at = dan_calloc(n + 1, sizeof *at);
    struct dan_str all = {0};
    for (size_t i = 0; i < n && list && at; i++) {
        struct dan_gguf_text a = t->text[t->s->merge[2 * i]], b = t->text[t->s->merge[2 * i + 1]];
        at[i] = all.n;
        dan_str_append(&all, a.p, a.n);
        dan_str_putc(&all, ' ');
        dan_str_append(&all, b.p, b.n);
        list[i].n = all.n - at[i];
    }
    bool ok = list && at && !all.failed;
    for (size_t i = 0; i < n && ok; i++) list[i].p = dan_str_c(&all) + at[i];
    if (ok) dan_gguf_out_strings(o, "tokenizer.ggml.merges", list, n);
    dan_str_release(&all);
    dan_free(list);
    dan_free(at);
    return ok ? 0 : -1;
}

/* What a pattern of the pre-tokenizer gives away; the first that is found. */
static const char *pre_of(const struct dan_tok_spec *s)
{
    static const struct { const char *part, *name; } known[] = {
        {"\\\\p{N}{1,3}", "llama-bpe"}, {"\\\\p{N}|", "qwen2"}, {"\"Digits\"", "smollm"}, {"\"use_regex\":true", "gpt-2"}, {"\"ByteLevel\"", "gpt-2"},
    };
    char *text = s->pre_tokenizer ? json_dumps(s->pre_tokenizer, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    const char *name = "default";
    for (size_t i = 0; text && i < sizeof known / sizeof known[0]; i++)
        if (strstr(text, known[i].part)) {
            name = known[i].name;
            break;
        }
    dan_free(text);
    return name;
}

static void put_id(struct dan_gguf_out *o, const char *key, int64_t id)
{
    if (id >= 0) dan_gguf_out_u32(o, key, (uint32_t)id);
}

static bool says(const json_t *j, const char *part)
{
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    bool yes = text && strstr(text, part);
    dan_free(text);
    return yes;
}

/* A tokenizer.json that came from SentencePiece: a space before the text is a normaliser or a pre-tokenizer there. */
static bool prepends_space(const struct dan_tok_spec *s)
{
    return says(s->normalizer, "\"Prepend\"") || says(s->pre_tokenizer, "\"prepend_scheme\":\"always\"") ||
           says(s->pre_tokenizer, "\"prepend_scheme\":\"first\"") || says(s->pre_tokenizer, "\"add_prefix_space\":true");
}

static void put_rules(const struct dan_tok_spec *s, struct dan_gguf_out *o)
{
    if (!s->sp && !s->byte_level) dan_gguf_out_bool(o, "tokenizer.ggml.add_space_prefix", prepends_space(s));
    if (!s->sp) return;
    dan_gguf_out_bool(o, "tokenizer.ggml.add_space_prefix", s->sp->in.dummy_prefix);
    dan_gguf_out_bool(o, "tokenizer.ggml.remove_extra_whitespaces", s->sp->in.remove_spaces);
    if (s->sp->in.charsmap.n)
        dan_gguf_out_array(o, "tokenizer.ggml.precompiled_charsmap", DAN_GGUF_U8, s->sp->in.charsmap.p, s->sp->in.charsmap.n);
}

static int put_all(struct tokens *t, const char *model, const struct dan_gguf_tokens *m, struct dan_gguf_out *o)
{
    bool gpt2 = !strcmp(model, "gpt2");
    if (!fill(t) || (!gpt2 && t->s->n_merges && score_merges(t))) return -1;
    dan_gguf_out_string(o, "tokenizer.ggml.model", model, strlen(model));
    dan_gguf_out_string(o, "tokenizer.ggml.pre", gpt2 ? pre_of(t->s) : "default", strlen(gpt2 ? pre_of(t->s) : "default"));
    dan_gguf_out_strings(o, "tokenizer.ggml.tokens", t->text, (size_t)t->n);
    if (!gpt2) dan_gguf_out_array(o, "tokenizer.ggml.scores", DAN_GGUF_F32, t->score, (size_t)t->n);
    dan_gguf_out_array(o, "tokenizer.ggml.token_type", DAN_GGUF_I32, t->type, (size_t)t->n);
    if (gpt2 && put_merges(t, o)) return -1;
    put_id(o, "tokenizer.ggml.bos_token_id", m->bos);
    put_id(o, "tokenizer.ggml.eos_token_id", m->eos);
    put_id(o, "tokenizer.ggml.unknown_token_id", t->s->unk);
    put_id(o, "tokenizer.ggml.padding_token_id", m->pad);
    dan_gguf_out_bool(o, "tokenizer.ggml.add_bos_token", m->add_bos);
    put_rules(t->s, o);
    if (m->chat_template) dan_gguf_out_string(o, "tokenizer.chat_template", m->chat_template, strlen(m->chat_template));
    return 0;
}

int dan_spec_to_gguf(const struct dan_tok_spec *s, const struct dan_gguf_tokens *m, struct dan_gguf_out *o, struct dan_err *e)
{
    const char *model = model_of(s);
    if (!model) return dan_fail(e, DAN_EUNSUPPORTED, "GGUF has no form for the tokenizer of '%s' (byte-level BPE, SentencePiece and unigram have one)", s->where);
    if (m->vocab < (int64_t)s->n)
        return dan_fail(e, DAN_EINVAL, "the tokenizer of '%s' has %zu tokens, the model %lld; do they belong together?", s->where, s->n, (long long)m->vocab);
    struct tokens t = {.s = s, .n = m->vocab};
    int rc = put_all(&t, model, m, o) ? dan_fail(e, DAN_ENOMEM, "out of memory writing the tokenizer of '%s'", s->where) : DAN_OK;
    dan_str_release(&t.bytes);
    dan_free(t.at);
    dan_free(t.text);
    dan_free(t.type);
    dan_free(t.score);
    return rc;
}
