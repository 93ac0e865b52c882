/* struct dan_tok_spec -> tokenizer.json. */
#include <string.h>
#include "base/mem.h"
#include "io/json.h"
#include "text/charbpe.h"
#include "text/spec.h"

/* A piece's name in model.vocab: bytes have their names in the alphabet, added tokens stand for themselves. */
static json_t *name_of(const struct dan_tok_spec *s, const struct dan_spec_piece *p, struct dan_str *buf)
{
    const char *text = p->n ? s->bytes.p + p->at : "";
    if (!s->byte_level || p->flags & DAN_PIECE_ADDED) return json_stringn(text, p->n);
    dan_str_clear(buf);
    dan_alphabet_put(buf, text, p->n);
    return buf->failed ? NULL : json_stringn(dan_str_c(buf), buf->n);
}

/* Ids after the last piece of the model: `tokenizers` counts added tokens on from there, so those before it are in the vocabulary too. */
static size_t model_end(const struct dan_tok_spec *s)
{
    size_t n = s->n;
    while (n && !(s->piece[n - 1].flags & DAN_PIECE_MODEL)) n--;
    return s->unk >= (int64_t)n ? (size_t)s->unk + 1 : n;
}

static json_t *vocab_object(const struct dan_tok_spec *s, struct dan_str *buf)
{
    json_t *vocab = json_object();
    size_t n = model_end(s);
    for (size_t i = 0; i < n && vocab; i++) {
        if (!s->piece[i].flags || s->piece[i].n == 0) continue;
        json_t *name = name_of(s, &s->piece[i], buf);
        int bad = !name || json_object_setn_new(vocab, json_string_value(name), json_string_length(name), json_integer((json_int_t)i));
        json_decref(name);
        if (!bad) continue;
        json_decref(vocab);
        return NULL;
    }
    return vocab;
}

static json_t *vocab_list(const struct dan_tok_spec *s, struct dan_str *buf)
{
    size_t n = model_end(s);
    json_t *list = json_array();
    for (size_t i = 0; i < n && list; i++) {
        json_t *one = json_pack("[o, f]", name_of(s, &s->piece[i], buf), s->piece[i].score);
        if (one && json_array_append_new(list, one) == 0) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *merges_json(const struct dan_tok_spec *s, const int32_t *pair, size_t n, struct dan_str *buf)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n && list; i++) {
        json_t *one = json_pack("[o, o]", name_of(s, &s->piece[pair[2 * i]], buf), name_of(s, &s->piece[pair[2 * i + 1]], buf));
        if (one && json_array_append_new(list, one) == 0) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *added_json(const struct dan_tok_spec *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->n && list; i++) {
        const struct dan_spec_piece *p = &s->piece[i];
        int f = p->flags;
        if (!(f & DAN_PIECE_ADDED) || p->n == 0) continue;
        json_t *one = json_pack("{s:I, s:s%, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)i, "content", s->bytes.p + p->at, (size_t)p->n, "single_word",
                                !!(f & DAN_PIECE_SINGLE_WORD), "lstrip", !!(f & DAN_PIECE_LSTRIP), "rstrip", !!(f & DAN_PIECE_RSTRIP),
                                "normalized", !!(f & DAN_PIECE_NORMALIZED), "special", !!(f & DAN_PIECE_SPECIAL));
        if (one && json_array_append_new(list, one) == 0) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *or_null(const char *text) { return *text ? json_string(text) : json_null(); }

static json_t *unk_name(const struct dan_tok_spec *s, struct dan_str *buf)
{
    return s->unk >= 0 ? name_of(s, &s->piece[s->unk], buf) : s->model == DAN_SPEC_BPE ? json_null() : json_string("<unk>");
}

static json_t *bpe_json(const struct dan_tok_spec *s, struct dan_str *buf, struct dan_err *e)
{
    int32_t *made = NULL;
    const int32_t *pair = s->merge;
    size_t n = s->n_merges;
    if (s->merges == DAN_MERGES_BY_SCORE) {
        if (dan_charbpe_list_merges(s, &made, &n, e)) return NULL;
        pair = made;
    }
    json_t *j = json_pack("{s:s, s:n, s:o, s:o, s:o, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", "unk_token", unk_name(s, buf),
                          "continuing_subword_prefix", or_null(s->prefix), "end_of_word_suffix", or_null(s->suffix), "fuse_unk", s->fuse_unk,
                          "byte_fallback", s->byte_fallback, "ignore_merges", s->ignore_merges, "vocab", vocab_object(s, buf), "merges",
                          merges_json(s, pair, n, buf));
    dan_free(made);
    return j;
}

static json_t *model_json(const struct dan_tok_spec *s, struct dan_str *buf, struct dan_err *e)
{
    if (s->model == DAN_SPEC_BPE) return bpe_json(s, buf, e);
    if (s->model == DAN_SPEC_UNIGRAM)
        return json_pack("{s:s, s:o, s:o, s:b}", "type", "Unigram", "unk_id", s->unk >= 0 ? json_integer(s->unk) : json_null(), "vocab",
                         vocab_list(s, buf), "byte_fallback", s->byte_fallback);
    if (s->model == DAN_SPEC_WORDPIECE)
        return json_pack("{s:s, s:o, s:s, s:I, s:o}", "type", "WordPiece", "unk_token", unk_name(s, buf), "continuing_subword_prefix", s->prefix,
                         "max_input_chars_per_word", (json_int_t)s->max_chars, "vocab", vocab_object(s, buf));
    return json_pack("{s:s, s:o, s:o}", "type", "WordLevel", "vocab", vocab_object(s, buf), "unk_token", unk_name(s, buf));
}

static json_t *part(json_t *j) { return j ? json_incref(j) : json_null(); }

int dan_spec_to_json(const struct dan_tok_spec *s, struct dan_str *out, struct dan_err *e)
{
    struct dan_str buf = {0};
    struct dan_err own = {0};
    json_t *model = model_json(s, &buf, &own);
    json_t *root = !model ? NULL
        : json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:o, s:o, s:o}", "version", "1.0", "truncation", "padding", "added_tokens", added_json(s),
                    "normalizer", part(s->normalizer), "pre_tokenizer", part(s->pre_tokenizer), "post_processor", part(s->post_processor),
                    "decoder", part(s->decoder), "model", model);
    dan_str_release(&buf);
    if (own.code) return dan_fail(e, own.code, "%s", own.msg);
    int bad = !root || dan_json_text(root, out) != 0;
    json_decref(root);
    return bad ? dan_fail(e, DAN_ENOMEM, "cannot write %s as tokenizer.json: out of memory, or a token is no UTF-8", s->where) : DAN_OK;
}
