/* struct dan_tokenizer -> tokenizer.json, tokenizer_config.json. */
#include <jansson.h>
#include <string.h>
#include "base/file.h"
#include "io/json.h"
#include "text/spec.h"

/* NULL anywhere means out of memory; jansson passes it on, so one check at the end is enough. */
static json_t *byte_level(void)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 1);
}

static json_t *text_json(const struct dan_str *s) { return s->failed ? NULL : json_stringn(dan_str_c(s), s->n); }

/* The token as it stands in model.vocab. */
static void token_text(const struct dan_tokenizer *t, int32_t id, struct dan_str *out)
{
    size_t n;
    const char *p = dan_tokenizer_token(t, id, &n);
    dan_str_clear(out);
    if (t->kind == &dan_tok_char) dan_str_append(out, p, n);
    else dan_alphabet_put(out, p, n);
}

static json_t *vocab_json(const struct dan_tokenizer *t)
{
    json_t *vocab = json_object();
    struct dan_str text = {0};
    bool ok = vocab != NULL;
    size_t k = 0;                              /* added tokens passed: both lists ascend */
    for (int32_t id = 0; id < t->n_vocab && ok; id++) {
        size_t n;
        const char *p = dan_tokenizer_token(t, id, &n);
        if (!p) continue;
        if (k < t->n_added && t->added[k].id == id) {
            k++;
            dan_str_clear(&text);
            dan_str_append(&text, p, n);
        } else token_text(t, id, &text);
        ok = !text.failed && json_object_setn_new(vocab, text.p, text.n, json_integer(id)) == 0;
    }
    dan_str_release(&text);
    if (ok) return vocab;
    json_decref(vocab);
    return NULL;
}

static json_t *merges_json(const struct dan_tokenizer *t)
{
    json_t *list = json_array();
    struct dan_str half = {0}, line = {0};
    bool ok = list != NULL;
    for (size_t r = 0; r < t->n_merges && ok; r++) {
        dan_str_clear(&line);
        for (int k = 0; k < 2; k++) {
            token_text(t, t->merge_pair[2 * r + (size_t)k], &half);
            if (k) dan_str_putc(&line, ' ');
            dan_str_append(&line, half.p, half.n);
        }
        ok = !half.failed && json_array_append_new(list, text_json(&line)) == 0;
    }
    dan_str_release(&half);
    dan_str_release(&line);
    if (ok) return list;
    json_decref(list);
    return NULL;
}

static json_t *added_json(const struct dan_tokenizer *t)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < t->n_added; i++) {
        const struct dan_added *a = &t->added[i];
        json_t *one = json_pack("{s:i, s:s%, s:b, s:b, s:b, s:b, s:b}", "id", (int)a->id, "content", a->p, a->n, "single_word", 0, "lstrip",
                                0, "rstrip", 0, "normalized", 0, "special", a->special);
        if (json_array_append_new(list, one) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static json_t *split_json(const struct dan_tokenizer *t)
{
    if (t->split.regex)
        return json_pack("{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, {s:s, s:b, s:b, s:b}]}", "type", "Sequence", "pretokenizers", "type", "Split",
                         "pattern", "Regex", t->split.regex, "behavior", "Isolated", "invert", 0, "type", "ByteLevel", "add_prefix_space",
                         0, "trim_offsets", 1, "use_regex", 0);
    if (t->split.digits_alone)
        return json_pack("{s:s, s:[{s:s, s:b}, o]}", "type", "Sequence", "pretokenizers", "type", "Digits", "individual_digits", 1,
                         byte_level());
    return byte_level();
}

static json_t *bpe_json(const struct dan_tokenizer *t)
{
    json_t *model = json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout", "unk_token",
                              "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 0, "ignore_merges",
                              t->ignore_merges, "vocab", vocab_json(t), "merges", merges_json(t));
    return json_pack("{s:s, s:n, s:n, s:o, s:o, s:o, s:n, s:o, s:o}", "version", "1.0", "truncation", "padding", "added_tokens",
                     added_json(t), "normalizer", t->nfc ? json_pack("{s:s}", "type", "NFC") : json_null(), "pre_tokenizer", split_json(t),
                     "post_processor", "decoder", byte_level(), "model", model);
}

static json_t *char_json(const struct dan_tokenizer *t)
{
    struct dan_str unk = {0};
    size_t n;
    const char *p = dan_tokenizer_token(t, t->unk, &n);
    dan_str_append(&unk, p ? p : "<unk>", p ? n : 5);              /* WordLevel insists on a name, present or not */
    json_t *model = json_pack("{s:s, s:o, s:o}", "type", "WordLevel", "vocab", vocab_json(t), "unk_token", text_json(&unk));
    json_t *pre = json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", "[\\s\\S]", "behavior", "Isolated",
                            "invert", 0);
    dan_str_release(&unk);
    return json_pack("{s:s, s:n, s:n, s:o, s:n, s:o, s:n, s:{s:s}, s:o}", "version", "1.0", "truncation", "padding", "added_tokens",
                     added_json(t), "normalizer", "pre_tokenizer", pre, "post_processor", "decoder", "type", "Fuse", "model", model);
}

static int set_token(json_t *config, const struct dan_tokenizer *t, const char *key, int32_t id)
{
    size_t n;
    const char *p = dan_tokenizer_token(t, id, &n);
    return p ? json_object_set_new(config, key, json_stringn(p, n)) : 0;
}

static json_t *config_json(const struct dan_tokenizer *t)
{
    json_t *c = json_pack("{s:s, s:b, s:b, s:b}", "tokenizer_class", "PreTrainedTokenizerFast", "clean_up_tokenization_spaces", 0,
                          "add_bos_token", 0, "add_eos_token", 0);
    bool ok = c && set_token(c, t, "bos_token", t->bos) == 0 && set_token(c, t, "eos_token", t->eos) == 0 &&
              set_token(c, t, "unk_token", t->unk) == 0;
    if (ok && t->chat_template) ok = json_object_set_new(c, "chat_template", json_string(t->chat_template)) == 0;
    if (ok) return c;
    json_decref(c);
    return NULL;
}

/* The bytes as they were read, or what is made of j; takes j over. */
static int put_file(const char *dir, const char *name, const char *kept, size_t n, json_t *j, struct dan_err *e)
{
    struct dan_str path = {0};
    dan_path_join(&path, dir, name);
    int r;
    if (path.failed || (!kept && !j)) r = dan_fail(e, DAN_ENOMEM, "out of memory writing '%s'", name);
    else r = kept ? dan_write_file(path.p, kept, n, e) : dan_json_write(path.p, j, e);
    dan_str_release(&path);
    json_decref(j);
    return r;
}

/* Ranks are written as the list of merges that they amount to. */
static int spec_json(const struct dan_tokenizer *t, struct dan_str *out, struct dan_err *e)
{
    struct dan_tok_spec s = *t->spec;          /* nothing of it is changed or released */
    if (s.merges == DAN_MERGES_BY_ID) {
        s.merges = DAN_MERGES_LISTED;
        s.merge = t->merge_pair;
        s.n_merges = t->n_merges;
        s.ignore_merges = t->ignore_merges;
    }
    return dan_spec_to_json(&s, out, e);
}

static int save_whole(const struct dan_tokenizer *t, const char *dir, struct dan_err *e)
{
    struct dan_str text = {0};
    if (t->json) return put_file(dir, "tokenizer.json", t->json, t->json_n, NULL, e);
    if (!t->spec) return put_file(dir, "tokenizer.json", NULL, 0, t->kind == &dan_tok_char ? char_json(t) : bpe_json(t), e);
    int r = spec_json(t, &text, e);
    if (!r) r = put_file(dir, "tokenizer.json", text.p, text.n, NULL, e);
    dan_str_release(&text);
    return r;
}

static int save_more_templates(const struct dan_tokenizer *t, const char *dir, struct dan_err *e)
{
    const char *name;
    json_t *text;
    struct dan_str sub = {0}, file = {0};
    dan_path_join(&sub, dir, DAN_MORE_TEMPLATES);
    int r = sub.failed ? dan_fail(e, DAN_ENOMEM, "out of memory writing '%s'", DAN_MORE_TEMPLATES) : dan_mkdirs(sub.p, e);
    json_object_foreach(t->more_templates, name, text) {
        dan_str_clear(&file);
        dan_str_printf(&file, "%s.jinja", name);
        if (!r) r = file.failed ? dan_fail(e, DAN_ENOMEM, "out of memory writing '%s'", name)
                                : put_file(sub.p, file.p, json_string_value(text), json_string_length(text), NULL, e);
    }
    dan_str_release(&sub);
    dan_str_release(&file);
    return r;
}

int dan_tokenizer_save(const struct dan_tokenizer *t, const char *dir, struct dan_err *e)
{
    int r = save_whole(t, dir, e);
    if (r) return r;
    r = put_file(dir, "tokenizer_config.json", t->config, t->config_n, t->config ? NULL : config_json(t), e);
    if (!r && t->template_file) r = put_file(dir, "chat_template.jinja", t->chat_template, strlen(t->chat_template), NULL, e);
    return r || !t->more_templates ? r : save_more_templates(t, dir, e);
}
