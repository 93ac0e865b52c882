/* vocab.json + merges.txt (GPT-2, RoBERTa, CLIP, Qwen 2; GPT-2's encoder.json + vocab.bpe are the same), and vocab.txt (WordPiece), with
 * what lies beside them: the slow tokenizers of `transformers`, whose rules are code there and are written down here. */
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "io/json.h"
#include "text/load.h"

/* --- what lies beside */
int dan_json_beside(const char *dir, const char *name, json_t **out, struct dan_err *e)
{
    struct dan_str path = {0};
    dan_path_join(&path, dir, name);
    *out = NULL;
    int r = path.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for the name of '%s'", name) : DAN_OK;
    if (!r && dan_path_exists(path.p)) r = dan_json_read(path.p, out, e);
    dan_str_release(&path);
    return r;
}

const char *dan_token_text(const json_t *config, const char *key)
{
    const json_t *v = json_object_get(config, key);
    return json_is_string(v) ? json_string_value(v) : dan_json_name(v, "content");
}

int64_t dan_tok_spec_find(const struct dan_tok_spec *s, const char *p, size_t n)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->piece[i].flags && s->piece[i].n == n && memcmp(s->bytes.p + s->piece[i].at, p, n) == 0) return (int64_t)i;
    return -1;
}

int dan_tok_spec_add(struct dan_tok_spec *s, int64_t id, const char *text, int flags, struct dan_err *e)
{
    size_t n = strlen(text);
    if (n == 0) return DAN_OK;
    int64_t have = dan_tok_spec_find(s, text, n);
    if (have >= 0) id = have;
    return dan_tok_spec_put(s, id >= 0 ? id : (int64_t)s->n, text, n, 0, DAN_PIECE_ADDED | flags, e);
}

struct beside { json_t *config, *map, *added; };

static int beside_read(struct beside *b, const char *dir, struct dan_err *e)
{
    *b = (struct beside){0};
    int r = dan_json_beside(dir, "tokenizer_config.json", &b->config, e);
    if (!r) r = dan_json_beside(dir, "special_tokens_map.json", &b->map, e);
    return r ? r : dan_json_beside(dir, "added_tokens.json", &b->added, e);
}

static void beside_release(struct beside *b)
{
    json_decref(b->config);
    json_decref(b->map);
    json_decref(b->added);
}

static const char *role(const struct beside *b, const char *key, const char *absent)
{
    const char *text = dan_token_text(b->config, key);
    if (!*text) text = dan_token_text(b->map, key);
    return *text ? text : absent;
}

static int flags_of(const json_t *token, bool special)
{
    return (dan_json_flag(token, "special", special) ? DAN_PIECE_SPECIAL : 0) | (dan_json_flag(token, "lstrip", false) ? DAN_PIECE_LSTRIP : 0) |
           (dan_json_flag(token, "rstrip", false) ? DAN_PIECE_RSTRIP : 0) | (dan_json_flag(token, "single_word", false) ? DAN_PIECE_SINGLE_WORD : 0) |
           (dan_json_flag(token, "normalized", false) ? DAN_PIECE_NORMALIZED : 0);
}

static int decoder_entries(struct dan_tok_spec *s, const json_t *list, struct dan_err *e)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)list, key, value) {
        int64_t id = 0;
        for (const char *c = key; *c >= '0' && *c <= '9' && id < 1 << 25; c++) id = id * 10 + (*c - '0');
        int r = dan_tok_spec_add(s, id, dan_json_name(value, "content"), flags_of(value, false), e);
        if (r) return r;
    }
    return DAN_OK;
}

static const char *const roles[] = {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};
enum { N_ROLES = sizeof roles / sizeof *roles };

static int one_role(struct dan_tok_spec *s, const json_t *from, const char *key, struct dan_err *e)
{
    const json_t *v = json_object_get(from, key);
    return dan_tok_spec_add(s, -1, dan_token_text(from, key), flags_of(v, true), e);
}

/* added_tokens_decoder says all; older files say it in three places. */
static int add_beside(struct dan_tok_spec *s, const struct beside *b, struct dan_err *e)
{
    const char *key;
    json_t *value;
    size_t i;
    int r = decoder_entries(s, json_object_get(b->config, "added_tokens_decoder"), e);
    if (!json_is_array(b->added))
        json_object_foreach(b->added, key, value) if (!r) r = dan_tok_spec_add(s, json_integer_value(value), key, 0, e);
    for (int k = 0; k < N_ROLES && !r; k++) {
        r = one_role(s, b->config, roles[k], e);
        if (!r) r = one_role(s, b->map, roles[k], e);
    }
    json_array_foreach(json_object_get(b->map, "additional_special_tokens"), i, value) {
        const char *text = json_is_string(value) ? json_string_value(value) : dan_json_name(value, "content");
        if (!r) r = dan_tok_spec_add(s, -1, text, DAN_PIECE_SPECIAL, e);
    }
    return r;
}

/* --- vocab.json + merges.txt */
#define QWEN2 "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CLIP "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"

enum family { GPT2, ROBERTA, CLIP_TEXT, QWEN };

/* The classes of `transformers` by what they hold in their names. */
static enum family family_of(const struct beside *b, const struct dan_map *words)
{
    static const struct { const char *part; enum family family; } names[] = {
        {"Roberta", ROBERTA}, {"Bart", ROBERTA}, {"Longformer", ROBERTA}, {"LED", ROBERTA}, {"CLIP", CLIP_TEXT}, {"Qwen2", QWEN}, {"GPT2", GPT2},
    };
    const char *class = dan_json_name(b->config, "tokenizer_class");
    int64_t id;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strstr(class, names[i].part)) return names[i].family;
    if (dan_map_get(words, "!</w>", 5, &id)) return CLIP_TEXT;
    bool s = dan_map_get(words, "<s>", 3, &id) && dan_map_get(words, "</s>", 4, &id) && dan_map_get(words, "<mask>", 6, &id);
    return s ? ROBERTA : GPT2;
}

static json_t *byte_level(bool prefix, bool trim, bool regex)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", prefix, "trim_offsets", trim, "use_regex", regex);
}

static json_t *split_then_bytes(const char *pattern, const char *behaviour, bool invert)
{
    return json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, o]}", "type", "Sequence", "pretokenizers", "type", "Split", "pattern", "Regex", pattern,
                     "behavior", behaviour, "invert", invert, byte_level(false, true, false));
}

static json_t *pair(const char *name, const json_t *vocab) { return json_pack("[s, I]", name, json_integer_value(json_object_get(vocab, name))); }

static json_t *parts(enum family f, const struct beside *b, const json_t *vocab)
{
    bool prefix = dan_json_flag(b->config, "add_prefix_space", false);
    json_t *root = json_object();
    const char *cls = role(b, "cls_token", "<s>"), *sep = role(b, "sep_token", "</s>");
    if (f == QWEN) {
        json_object_set_new(root, "normalizer", json_pack("{s:s}", "type", "NFC"));
        json_object_set_new(root, "pre_tokenizer", split_then_bytes(QWEN2, "Isolated", false));
    } else if (f == CLIP_TEXT) {
        json_object_set_new(root, "normalizer", json_pack("{s:s, s:[{s:s}, {s:s, s:{s:s}, s:s}, {s:s}]}", "type", "Sequence", "normalizers", "type",
                                                          "NFC", "type", "Replace", "pattern", "Regex", "\\s+", "content", " ", "type", "Lowercase"));
        json_object_set_new(root, "pre_tokenizer", split_then_bytes(CLIP, "Removed", true));
        cls = role(b, "bos_token", "<|startoftext|>"), sep = role(b, "eos_token", "<|endoftext|>");
    } else json_object_set_new(root, "pre_tokenizer", byte_level(prefix, true, true));
    if (f == GPT2 || f == QWEN) json_object_set_new(root, "post_processor", byte_level(prefix, false, true));
    else
        json_object_set_new(root, "post_processor", json_pack("{s:s, s:o, s:o, s:b, s:b}", "type", "RobertaProcessing", "sep", pair(sep, vocab), "cls",
                                                              pair(cls, vocab), "trim_offsets", f == ROBERTA, "add_prefix_space", prefix));
    json_object_set_new(root, "decoder", byte_level(prefix, true, true));
    return root;
}

/* merges.txt: "#version" first, then "a b" a line. */
static json_t *merge_lines(const char *p, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n;) {
        const char *end = memchr(p + i, '\n', n - i);
        size_t len = end ? (size_t)(end - (p + i)) : n - i, keep = len;
        if (keep && p[i + keep - 1] == '\r') keep--;
        if (keep && !(i == 0 && keep > 8 && memcmp(p, "#version", 8) == 0)) json_array_append_new(list, json_stringn(p + i, keep));
        i += len + 1;
    }
    return list;
}

/* The tokenizer.json that means the same, as text: one reader for both. */
static int as_json(const json_t *vocab, const char *merges, size_t n, const struct beside *b, struct dan_str *out, const char *where,
                   struct dan_err *e)
{
    struct dan_map *words = dan_map_new();
    const char *key;
    json_t *value;
    bool bad = !words;
    json_object_foreach((json_t *)(uintptr_t)vocab, key, value) bad = bad || dan_map_put(words, key, strlen(key), 0) != 0;
    enum family f = bad ? GPT2 : family_of(b, words);
    const char *unk = role(b, "unk_token", "");
    json_t *root = parts(f, b, vocab);
    json_t *model = json_pack("{s:s, s:s*, s:s, s:O, s:o}", "type", "BPE", "unk_token", *unk ? unk : NULL, "end_of_word_suffix",
                              f == CLIP_TEXT ? "</w>" : "", "vocab", vocab, "merges", merge_lines(merges, n));
    bad = bad || !root || !model || json_object_set(root, "model", model) != 0 || dan_json_text(root, out) != 0;
    json_decref(model);
    json_decref(root);
    dan_map_free(words);
    return bad ? dan_fail(e, DAN_ENOMEM, "out of memory for the vocabulary '%s' (or text that is no UTF-8 in its merges)", where) : DAN_OK;
}

int dan_spec_from_vocab_merges(const char *vocab_json, const char *merges_txt, struct dan_tok_spec *s, struct dan_err *e)
{
    struct dan_mapping m;
    struct beside b = {0};
    struct dan_str dir = {0}, text = {0};
    json_t *vocab = NULL;
    int r = dan_map_file(merges_txt, &m, e);
    if (r) return r;
    dan_path_dir(&dir, vocab_json);
    r = dir.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for the path '%s'", vocab_json) : dan_json_read(vocab_json, &vocab, e);
    if (!r) r = beside_read(&b, dir.p, e);
    if (!r) r = as_json(vocab, m.p, m.n, &b, &text, vocab_json, e);
    if (!r) r = dan_spec_of_json_text(text.p, text.n, s, e);
    if (!r) r = add_beside(s, &b, e);
    if (!r && !b.config && !b.map && dan_tok_spec_find(s, DAN_END_OF_TEXT, strlen(DAN_END_OF_TEXT)) >= 0)
        r = dan_tok_spec_add(s, -1, DAN_END_OF_TEXT, DAN_PIECE_SPECIAL, e);
    beside_release(&b);
    json_decref(vocab);
    dan_str_release(&dir);
    dan_str_release(&text);
    dan_unmap_file(&m);
    return r;
}

/* --- vocab.txt: a token a line, its number is its id; white space at the end does not count */
static bool blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f'; }

static int words_of(struct dan_tok_spec *s, const struct dan_mapping *m, struct dan_err *e)
{
    int64_t id = 0;
    for (size_t i = 0; i < m->n; id++) {
        const char *end = memchr(m->p + i, '\n', m->n - i);
        size_t n = end ? (size_t)(end - (m->p + i)) : m->n - i, keep = n;
        while (keep && blank(m->p[i + keep - 1])) keep--;
        int r = dan_tok_spec_put(s, id, m->p + i, keep, 0, DAN_PIECE_MODEL, e);
        if (r) return r;
        i += n + 1;
    }
    return DAN_OK;
}

static const struct { const char *key, *usual; } bert_roles[] = {
    {"pad_token", "[PAD]"}, {"unk_token", "[UNK]"}, {"cls_token", "[CLS]"}, {"sep_token", "[SEP]"}, {"mask_token", "[MASK]"}};

/* BertTokenizer's switches and what it puts around a text. */
static int bert_parts(struct dan_tok_spec *s, const struct beside *b, struct dan_err *e)
{
    json_t *strip = json_object_get(b->config, "strip_accents");
    const char *unk = role(b, "unk_token", "[UNK]"), *cls = role(b, "cls_token", "[CLS]"), *sep = role(b, "sep_token", "[SEP]");
    int64_t cls_id = dan_tok_spec_find(s, cls, strlen(cls)), sep_id = dan_tok_spec_find(s, sep, strlen(sep));
    s->normalizer = json_pack("{s:s,s:b,s:b,s:o,s:b}", "type", "BertNormalizer", "clean_text", 1, "handle_chinese_chars",
                              dan_json_flag(b->config, "tokenize_chinese_chars", true), "strip_accents", strip ? json_incref(strip) : json_null(),
                              "lowercase", dan_json_flag(b->config, "do_lower_case", true));
    s->pre_tokenizer = json_pack("{s:s}", "type", "BertPreTokenizer");
    s->decoder = json_pack("{s:s,s:s,s:b}", "type", "WordPiece", "prefix", "##", "cleanup", 1);
    if (cls_id >= 0 && sep_id >= 0)
        s->post_processor = json_pack("{s:s,s:[s,I],s:[s,I]}", "type", "BertProcessing", "sep", sep, (json_int_t)sep_id, "cls", cls, (json_int_t)cls_id);
    s->unk = (int32_t)dan_tok_spec_find(s, unk, strlen(unk));
    memcpy(s->prefix, "##", 3);
    if (s->unk < 0)
        return dan_fail(e, DAN_EFORMAT, "%s: the unknown token '%.60s' is not in the vocabulary; WordPiece needs it", s->where, unk);
    return s->normalizer && s->pre_tokenizer && s->decoder ? DAN_OK : dan_fail(e, DAN_ENOMEM, "out of memory for the vocabulary '%s'", s->where);
}

int dan_spec_from_vocab_txt(const char *path, struct dan_tok_spec *s, struct dan_err *e)
{
    struct dan_mapping m;
    struct beside b = {0};
    struct dan_str dir = {0};
    int r = dan_map_file(path, &m, e);
    if (r) return r;
    dan_path_dir(&dir, path);
    s->model = DAN_SPEC_WORDPIECE;
    s->max_ids = m.n + 65536;
    if (dan_utf8_check(m.p, m.n) != m.n)
        r = dan_fail(e, DAN_EFORMAT, "'%s' is not UTF-8; is it a vocabulary of WordPiece, one token a line?", path);
    if (!r) r = words_of(s, &m, e);
    if (!r) r = beside_read(&b, dan_str_c(&dir), e);
    if (!r) r = bert_parts(s, &b, e);
    for (size_t i = 0; i < sizeof bert_roles / sizeof *bert_roles && !r; i++) {
        const char *text = role(&b, bert_roles[i].key, bert_roles[i].usual);
        if (dan_tok_spec_find(s, text, strlen(text)) >= 0) r = dan_tok_spec_add(s, -1, text, DAN_PIECE_SPECIAL, e);
    }
    if (!r) r = decoder_entries(s, json_object_get(b.config, "added_tokens_decoder"), e);
    beside_release(&b);
    dan_str_release(&dir);
    dan_unmap_file(&m);
    return r;
}
