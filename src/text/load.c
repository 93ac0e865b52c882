/* tokenizer.json -> struct dan_tokenizer. */
#include "text/load.h"
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "io/json.h"
#include "text/wordpiece.h"

enum { MAX_VOCAB = 1 << 24 };

int dan_tok_unsupported(const char *path, const char *key, const char *value, struct dan_err *e)
{
    return dan_fail(e, DAN_EUNSUPPORTED, "%s: %s '%.160s' is not supported yet; danlu reads byte-level BPE (GPT-2, Llama 3, Qwen 2, "
                    "SmolLM), WordPiece (BERT) and character tokenizers", path, key, value);
}

const char *dan_tok_text(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

/* --- the vocabulary: "model.vocab" and "added_tokens" as entries by id */
struct vocab { const char *path; struct dan_tok_entry *entry; size_t n; char *raw; size_t raw_n; };

static int bad_id(const char *path, const char *what, json_int_t id, struct dan_err *e)
{
    return dan_fail(e, DAN_EFORMAT, "%s: bad id %lld of token '%.60s'; ids are 0 to %d, each once; the file is damaged", path,
                    (long long)id, what, MAX_VOCAB - 1);
}

/* Upper bounds: largest id + 1, bytes of all texts. */
static int vocab_measure(struct vocab *v, json_t *words, json_t *added, size_t *bytes, struct dan_err *e)
{
    const char *key;
    json_t *value;
    size_t i, len;
    json_object_keylen_foreach(words, key, len, value) {
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= MAX_VOCAB) return bad_id(v->path, key, id, e);
        if ((size_t)id >= v->n) v->n = (size_t)id + 1;
        *bytes += len;
    }
    json_array_foreach(added, i, value) {
        json_t *number = json_object_get(value, "id");
        json_int_t id = json_is_integer(number) ? json_integer_value(number) : -1;
        if (id < 0 || id >= MAX_VOCAB) return bad_id(v->path, dan_tok_text(value, "content"), id, e);
        if ((size_t)id >= v->n) v->n = (size_t)id + 1;
    }
    return DAN_OK;
}

static int vocab_words(struct vocab *v, json_t *words, bool alphabet, struct dan_err *e)
{
    const char *key;
    json_t *value;
    size_t len;
    json_object_keylen_foreach(words, key, len, value) {
        struct dan_tok_entry *t = &v->entry[json_integer_value(value)];
        if (t->p) return bad_id(v->path, key, json_integer_value(value), e);
        char *raw = v->raw + v->raw_n;
        if (alphabet) len = dan_alphabet_get(key, len, raw);
        else memcpy(raw, key, len);
        *t = (struct dan_tok_entry){raw, len, 0};
        v->raw_n += len;
    }
    return DAN_OK;
}

/* Added tokens stand for their text, whatever the vocabulary said. */
static int vocab_added(struct vocab *v, json_t *added, struct dan_err *e)
{
    json_t *a;
    size_t i;
    json_array_foreach(added, i, a) {
        const char *text = dan_tok_text(a, "content");
        if (!*text) return dan_fail(e, DAN_EFORMAT, "%s: added token %zu has no content; give it a text", v->path, i);
        if (json_is_true(json_object_get(a, "single_word")))
            return dan_fail(e, DAN_EUNSUPPORTED, "%s: added_tokens '%s' has single_word true, which is not supported yet; set it to false "
                            "if the token may touch letters", v->path, text);
        int kind = json_is_true(json_object_get(a, "special")) ? 1 : 2;
        kind += 4 * json_is_true(json_object_get(a, "lstrip")) + 8 * json_is_true(json_object_get(a, "rstrip"));
        v->entry[json_integer_value(json_object_get(a, "id"))] = (struct dan_tok_entry){text, strlen(text), (uint8_t)kind};
    }
    return DAN_OK;
}

int dan_tok_load_vocab(struct dan_tokenizer *t, const char *path, const json_t *root, const json_t *model, bool alphabet,
                       struct dan_err *e)
{
    json_t *words = json_object_get(model, "vocab"), *added = json_object_get(root, "added_tokens");
    struct vocab v = {.path = path};
    size_t bytes = 0;
    if (!json_is_object(words)) return dan_fail(e, DAN_EFORMAT, "%s: model.vocab is missing; the file is damaged", path);
    int r = vocab_measure(&v, words, added, &bytes, e);
    if (r) return r;
    v.entry = dan_calloc(v.n + 1, sizeof *v.entry);
    v.raw = dan_malloc(bytes + 1);
    if (!v.entry || !v.raw) r = dan_fail(e, DAN_ENOMEM, "out of memory for a vocabulary of %zu tokens", v.n);
    if (!r) r = vocab_words(&v, words, alphabet, e);
    if (!r) r = vocab_added(&v, added, e);
    if (!r && v.n == 0) r = dan_fail(e, DAN_EFORMAT, "%s: model.vocab is empty; the file is damaged", path);
    if (!r) r = dan_tok_set_vocab(t, v.entry, v.n, e);
    dan_free(v.entry);
    dan_free(v.raw);
    return r;
}

/* --- merges: "a b" or ["a", "b"] */
static int merge_halves(const json_t *m, const char *half[2], size_t n[2])
{
    if (json_is_string(m)) {
        const char *s = json_string_value(m), *space = strchr(s, ' ');
        if (!space) return -1;
        half[0] = s, n[0] = (size_t)(space - s);
        half[1] = space + 1, n[1] = strlen(space + 1);
        return 0;
    }
    for (int i = 0; i < 2; i++) {
        const json_t *h = json_array_get(m, (size_t)i);
        if (!json_is_string(h)) return -1;
        half[i] = json_string_value(h), n[i] = json_string_length(h);
    }
    return json_array_size(m) == 2 ? 0 : -1;
}

static int load_merges(struct dan_tokenizer *t, const char *path, const json_t *model, struct dan_err *e)
{
    json_t *merges = json_object_get(model, "merges"), *m;
    if (!json_is_array(merges)) return dan_fail(e, DAN_EFORMAT, "%s: model.merges is missing; the file is damaged", path);
    int32_t *pair = dan_malloc((json_array_size(merges) + 1) * 2 * sizeof *pair);
    struct dan_str raw = {0};
    size_t r;
    int status = pair ? DAN_OK : dan_fail(e, DAN_ENOMEM, "out of memory for %zu merges", json_array_size(merges));
    json_array_foreach(merges, r, m) {
        const char *half[2] = {"", ""};
        size_t n[2] = {0, 0};
        if (status) break;
        if (merge_halves(m, half, n) != 0)
            status = dan_fail(e, DAN_EFORMAT, "%s: merge %zu is not two tokens; the file is damaged", path, r);
        for (int i = 0; i < 2 && !status; i++) {
            if (raw.cap < n[i] + 1 && dan_vec_grow(&raw.p, &raw.cap, n[i] + 1, 1) != 0)
                status = dan_fail(e, DAN_ENOMEM, "out of memory for merge %zu", r);
            else if ((pair[2 * r + (size_t)i] = dan_tok_id_of(t, half[i], n[i], raw.p)) < 0)
                status = dan_fail(e, DAN_EFORMAT, "%s: merge %zu names '%.*s', which is not in the vocabulary; the file is damaged", path,
                                  r, (int)(n[i] > 80 ? 80 : n[i]), half[i]);
        }
    }
    dan_free(raw.p);
    if (!status) return dan_tok_set_merges(t, pair, json_array_size(merges), path, e);
    dan_free(pair);
    return status;
}

/* --- the kinds */
static int check_bpe(const char *path, const json_t *model, struct dan_err *e)
{
    if (*dan_tok_text(model, "continuing_subword_prefix"))
        return dan_tok_unsupported(path, "model.continuing_subword_prefix", dan_tok_text(model, "continuing_subword_prefix"), e);
    if (*dan_tok_text(model, "end_of_word_suffix"))
        return dan_tok_unsupported(path, "model.end_of_word_suffix", dan_tok_text(model, "end_of_word_suffix"), e);
    if (json_is_true(json_object_get(model, "byte_fallback"))) return dan_tok_unsupported(path, "model.byte_fallback", "true", e);
    if (json_number_value(json_object_get(model, "dropout")) > 0) return dan_tok_unsupported(path, "model.dropout", "> 0", e);
    return DAN_OK;
}

static int load_normalizer(struct dan_tokenizer *t, const char *path, const json_t *root, struct dan_err *e)
{
    const json_t *n = json_object_get(root, "normalizer");
    const char *type = dan_tok_text(n, "type");
    if (strcmp(type, "Sequence") == 0 && json_array_size(json_object_get(n, "normalizers")) == 0) n = NULL;
    t->nfc = strcmp(type, "NFC") == 0;
    return !n || json_is_null(n) || t->nfc ? DAN_OK : dan_tok_unsupported(path, "normalizer.type", type, e);
}

static bool is_identity(const struct dan_tokenizer *t)
{
    if (t->n_merges) return false;
    for (int b = 0; b < 256; b++)
        if (t->byte_id[b] != b) return false;
    return true;
}

static int load_bpe(struct dan_tokenizer *t, const char *path, const json_t *root, const json_t *model, struct dan_err *e)
{
    int r = check_bpe(path, model, e);
    if (!r) r = dan_tok_load_split(path, json_object_get(root, "pre_tokenizer"), &t->split, e);
    if (!r) r = load_normalizer(t, path, root, e);
    if (!r) r = dan_tok_load_vocab(t, path, root, model, true, e);
    if (!r) r = load_merges(t, path, model, e);
    if (r) return r;
    t->ignore_merges = json_is_true(json_object_get(model, "ignore_merges"));
    if (is_identity(t)) t->kind = &dan_tok_bytes;
    t->split.classes = dan_classes_new();
    return t->split.classes ? DAN_OK : dan_fail(e, DAN_ENOMEM, "out of memory for the tokenizer '%s'", path);
}

static int load_char(struct dan_tokenizer *t, const char *path, const json_t *root, const json_t *model, struct dan_err *e)
{
    const json_t *pre = json_object_get(root, "pre_tokenizer"), *norm = json_object_get(root, "normalizer");
    const char *type = dan_tok_text(pre, "type"), *regex = dan_tok_text(json_object_get(pre, "pattern"), "Regex");
    t->kind = &dan_tok_char;
    bool one = strcmp(type, "Split") == 0 && (strcmp(regex, "[\\s\\S]") == 0 || strcmp(regex, "(?s:.)") == 0);
    bool fixed = strcmp(type, "FixedLength") == 0 && json_integer_value(json_object_get(pre, "length")) == 1;
    if (!one && !fixed) return dan_tok_unsupported(path, "pre_tokenizer.type", *type ? type : "null", e);
    if (norm && !json_is_null(norm)) return dan_tok_unsupported(path, "normalizer.type", dan_tok_text(norm, "type"), e);
    int r = dan_tok_load_vocab(t, path, root, model, false, e);
    if (r) return r;
    int64_t id;
    const char *unk = dan_tok_text(model, "unk_token");
    t->unk = dan_tokenizer_find_special(t, unk);
    if (t->unk < 0 && dan_map_get(t->by_bytes, unk, strlen(unk), &id)) t->unk = (int32_t)id;
    return dan_tok_set_chars(t, e);
}

static int load_json(struct dan_tokenizer *t, const char *path, const json_t *root, struct dan_err *e)
{
    const json_t *model = json_object_get(root, "model");
    const char *type = dan_tok_text(model, "type");
    if (!json_is_object(model))
        return dan_fail(e, DAN_EFORMAT, "no 'model' in '%s'; is it a tokenizer.json of Hugging Face tokenizers?", path);
    /* files before 2019-12 have no type; only BPE has merges */
    if (strcmp(type, "BPE") == 0 || (!*type && json_object_get(model, "merges"))) return load_bpe(t, path, root, model, e);
    if (strcmp(type, "WordLevel") == 0) return load_char(t, path, root, model, e);
    if (strcmp(type, "WordPiece") == 0) return dan_tok_load_wordpiece(t, path, root, model, e);
    return dan_tok_unsupported(path, "model.type", *type ? type : "null", e);
}

static int read_json(struct dan_tokenizer *t, const char *path, json_t **root, struct dan_err *e)
{
    int r = dan_read_file(path, &t->json, &t->json_n, e);
    return r ? r : dan_json_parse(path, t->json, t->json_n, DAN_JSON_MAX_DEPTH, root, e);
}

/* vocab.txt: what is saved later is the tokenizer.json that means the same. */
static int read_vocab_txt(struct dan_tokenizer *t, const char *path, const char *dir, json_t **root, struct dan_err *e)
{
    struct dan_str config = {0};
    dan_path_join(&config, dir, "tokenizer_config.json");
    int r = config.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for the path '%.200s'", dir) : DAN_OK;
    if (!r) r = dan_tok_vocab_txt(path, config.p, root, e);
    dan_str_release(&config);
    struct dan_str text = {0};
    if (!r && dan_json_text(*root, &text)) r = dan_fail(e, DAN_ENOMEM, "out of memory for the vocabulary '%s'", path);
    t->json = text.p;
    t->json_n = text.n;
    return r;
}

static int load_file(struct dan_tokenizer *t, const char *path, const char *dir, struct dan_err *e)
{
    json_t *root = NULL;
    int r = dan_str_ends(path, ".txt") ? read_vocab_txt(t, path, dir, &root, e) : read_json(t, path, &root, e);
    if (!r) r = load_json(t, path, root, e);
    if (!r) r = dan_tok_load_template(t, path, root, e);
    json_decref(root);
    return r;
}

/* path -> the file and the directory that it lies in */
static int find_files(const char *path, struct dan_str *file, struct dan_str *dir, struct dan_err *e)
{
    const char *slash = strrchr(path, '/');
    if (dan_path_is_dir(path)) {
        dan_str_puts(dir, path);
        dan_path_join(file, path, "tokenizer.json");
    } else {
        dan_str_puts(file, path);
        if (slash) dan_str_append(dir, path, (size_t)(slash - path) + (slash == path));
        else dan_str_puts(dir, ".");
    }
    if (dan_path_is_dir(path) && !file->failed && !dan_path_exists(file->p)) {
        dan_str_clear(file);
        dan_path_join(file, path, "vocab.txt");
    }
    if (file->failed || dir->failed) return dan_fail(e, DAN_ENOMEM, "out of memory for the path '%.200s'", path);
    if (dan_path_exists(file->p)) return DAN_OK;
    return dan_fail(e, DAN_EIO, "no tokenizer at '%s'; give a model directory with tokenizer.json or vocab.txt, or make one with "
                    "'danlu tokenizer train'", path);
}

int dan_tokenizer_load(const char *path, struct dan_tokenizer **out, struct dan_err *e)
{
    struct dan_str file = {0}, dir = {0};
    struct dan_tokenizer *t = dan_tok_new(&dan_tok_bpe);
    int r = t ? find_files(path, &file, &dir, e) : dan_fail(e, DAN_ENOMEM, "out of memory for a tokenizer");
    if (!r) r = load_file(t, file.p, dir.p, e);
    if (!r) r = dan_tok_load_config(t, dir.p, e);
    dan_str_release(&file);
    dan_str_release(&dir);
    if (r) {
        dan_tokenizer_free(t);
        return r;
    }
    dan_tok_finish(t);
    *out = t;
    return DAN_OK;
}
