/* tokenizer.json with model WordPiece, and vocab.txt -> struct dan_wordpiece. */
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "io/json.h"
#include "text/load.h"
#include "text/wordpiece.h"

enum { MAX_CHARS = 1 << 20 };

static bool is_true(const json_t *o, const char *key, bool absent)
{
    const json_t *v = json_object_get(o, key);
    return v && !json_is_null(v) ? json_is_true(v) : absent;
}

static int normalizer(struct dan_wordpiece *w, const char *path, const json_t *root, struct dan_err *e)
{
    const json_t *n = json_object_get(root, "normalizer");
    if (!n || json_is_null(n)) return DAN_OK;
    const char *type = dan_tok_text(n, "type");
    if (strcmp(type, "BertNormalizer") != 0) return dan_tok_unsupported(path, "normalizer.type", type, e);
    w->clean = is_true(n, "clean_text", true);
    w->chinese = is_true(n, "handle_chinese_chars", true);
    w->lower = is_true(n, "lowercase", true);
    w->strip = is_true(n, "strip_accents", w->lower);          /* null: as lowercase */
    return DAN_OK;
}

static int limits(struct dan_wordpiece *w, const char *path, const json_t *model, struct dan_err *e)
{
    const json_t *prefix = json_object_get(model, "continuing_subword_prefix"), *most = json_object_get(model, "max_input_chars_per_word");
    const char *text = json_is_string(prefix) ? json_string_value(prefix) : "##";
    int64_t chars = json_is_integer(most) ? json_integer_value(most) : 100;
    w->prefix_n = strlen(text);
    if (w->prefix_n >= sizeof w->prefix) return dan_tok_unsupported(path, "model.continuing_subword_prefix", text, e);
    memcpy(w->prefix, text, w->prefix_n);
    if (chars < 0 || chars > MAX_CHARS)
        return dan_fail(e, DAN_EFORMAT, "%s: model.max_input_chars_per_word is %lld; it must be 0 to %d", path, (long long)chars,
                        MAX_CHARS);
    w->max_chars = (size_t)chars;
    return DAN_OK;
}

static int unknown(struct dan_tokenizer *t, const char *path, const json_t *model, struct dan_err *e)
{
    const char *text = *dan_tok_text(model, "unk_token") ? dan_tok_text(model, "unk_token") : "[UNK]";
    const json_t *id = json_object_get(json_object_get(model, "vocab"), text);
    t->unk = json_is_integer(id) ? (int32_t)json_integer_value(id) : dan_tokenizer_find_special(t, text);
    if (t->unk < 0) return dan_fail(e, DAN_EFORMAT, "%s: model.unk_token '%.60s' is not in the vocabulary; WordPiece needs it", path, text);
    t->wordpiece->unk = t->unk;
    return DAN_OK;
}

/* Added tokens that are matched in normalised text would need the text normalised first. */
static int check_added(const char *path, const json_t *root, struct dan_err *e)
{
    size_t i;
    json_t *a;
    json_array_foreach(json_object_get(root, "added_tokens"), i, a)
        if (!json_is_true(json_object_get(a, "special")) && json_is_true(json_object_get(a, "normalized")))
            return dan_fail(e, DAN_EUNSUPPORTED, "%s: added_tokens '%.60s' has normalized true, which is not supported with WordPiece "
                            "yet; set it to false if its exact spelling is meant", path, dan_tok_text(a, "content"));
    return DAN_OK;
}

int dan_tok_load_wordpiece(struct dan_tokenizer *t, const char *path, const json_t *root, const json_t *model, struct dan_err *e)
{
    const char *pre = dan_tok_text(json_object_get(root, "pre_tokenizer"), "type");
    if (strcmp(pre, "BertPreTokenizer") != 0) return dan_tok_unsupported(path, "pre_tokenizer.type", *pre ? pre : "null", e);
    struct dan_wordpiece *w = t->wordpiece = dan_calloc(1, sizeof *w);
    if (!w) return dan_fail(e, DAN_ENOMEM, "out of memory for the tokenizer '%s'", path);
    t->kind = &dan_tok_wordpiece;
    w->cleanup = is_true(json_object_get(root, "decoder"), "cleanup", true);
    int r = normalizer(w, path, root, e);
    if (!r) r = limits(w, path, model, e);
    if (!r) r = check_added(path, root, e);
    if (!r) r = dan_tok_load_vocab(t, path, root, model, false, e);
    if (!r) r = unknown(t, path, model, e);
    if (!r) r = dan_wordpiece_set_vocab(w, json_object_get(model, "vocab"), e);
    return r ? r : dan_bert_prepare(w, e);
}

/* --- vocab.txt: a token a line, its number is its id; white space at the end does not count */

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f'; }

static json_t *words_of(const struct dan_mapping *m)
{
    json_t *words = json_object();
    int64_t id = 0;
    for (size_t i = 0; i < m->n && words; id++) {
        const char *end = memchr(m->p + i, '\n', m->n - i);
        size_t n = end ? (size_t)(end - (m->p + i)) : m->n - i, keep = n;
        while (keep && blank(m->p[i + keep - 1])) keep--;
        if (json_object_setn_new(words, m->p + i, keep, json_integer(id)) != 0) {
            json_decref(words);
            return NULL;
        }
        i += n + 1;
    }
    return words;
}

static const char *const roles[] = {"pad_token", "unk_token", "cls_token", "sep_token", "mask_token"};
static const char *const usual[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};

static const char *role(const json_t *config, size_t i)
{
    const json_t *v = json_object_get(config, roles[i]);
    const char *text = json_is_string(v) ? json_string_value(v) : dan_tok_text(v, "content");
    return *text ? text : usual[i];
}

static json_t *added_of(const json_t *words, const json_t *config)
{
    json_t *list = json_array();
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        json_t *id = json_object_get(words, role(config, i));
        if (id)
            json_array_append_new(list, json_pack("{s:O,s:s,s:b,s:b,s:b,s:b,s:b}", "id", id, "content", role(config, i), "single_word", 0,
                                                  "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1));
    }
    return list;
}

static json_t *post_of(const json_t *words, const json_t *config)
{
    const char *cls = role(config, 2), *sep = role(config, 3);
    json_int_t cls_id = json_integer_value(json_object_get(words, cls)), sep_id = json_integer_value(json_object_get(words, sep));
    return json_pack("{s:s,s:[s,I],s:[s,I]}", "type", "BertProcessing", "sep", sep, sep_id, "cls", cls, cls_id);
}

static json_t *root_of(json_t *words, const json_t *config)
{
    json_t *strip = json_object_get(config, "strip_accents");
    json_t *norm = json_pack("{s:s,s:b,s:b,s:o,s:b}", "type", "BertNormalizer", "clean_text", 1, "handle_chinese_chars",
                             is_true(config, "tokenize_chinese_chars", true), "strip_accents", strip ? json_incref(strip) : json_null(),
                             "lowercase", is_true(config, "do_lower_case", true));
    return json_pack("{s:s,s:o,s:o,s:{s:s},s:o,s:{s:s,s:s,s:b},s:{s:s,s:s,s:s,s:i,s:O}}", "version", "1.0", "added_tokens",
                     added_of(words, config), "normalizer", norm, "pre_tokenizer", "type", "BertPreTokenizer", "post_processor",
                     post_of(words, config), "decoder", "type", "WordPiece", "prefix", "##", "cleanup", 1, "model", "type", "WordPiece",
                     "unk_token", role(config, 1), "continuing_subword_prefix", "##", "max_input_chars_per_word", 100, "vocab", words);
}

int dan_tok_vocab_txt(const char *vocab_txt, const char *config_json, json_t **root, struct dan_err *e)
{
    struct dan_mapping m;
    json_t *config = NULL;
    int r = dan_map_file(vocab_txt, &m, e);
    if (r) return r;
    json_t *words = words_of(&m);
    bool text = dan_utf8_check(m.p, m.n) == m.n;
    dan_unmap_file(&m);
    if (!text) r = dan_fail(e, DAN_EFORMAT, "'%s' is not UTF-8; is it a vocabulary of WordPiece, one token a line?", vocab_txt);
    if (!r && dan_path_exists(config_json)) r = dan_json_read(config_json, &config, e);
    *root = !r && words ? root_of(words, config) : NULL;
    if (!r && !*root) r = dan_fail(e, DAN_ENOMEM, "out of memory for the vocabulary '%s'", vocab_txt);
    json_decref(words);
    json_decref(config);
    return r;
}
