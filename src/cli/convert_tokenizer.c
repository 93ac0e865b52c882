/* Tokenizers from one file format to another. */
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "cli/convert.h"
#include "io/json.h"
#include "text/chat_template.h"
#include "text/gguf_keys.h"
#include "text/tokenizer.h"

/* The key that GGUF has for tokenizer.json as a whole: the way back is exact. */
static const char WHOLE[] = "tokenizer.huggingface.json";

int convert_copy_file(const char *from, const char *to, struct dan_err *e)
{
    struct dan_mapping m;
    int rc = dan_map_file(from, &m, e);
    if (rc) return rc;
    rc = dan_write_file(to, m.p, m.n, e);
    dan_unmap_file(&m);
    return rc;
}

static bool beside(const char *file, const char *name, struct dan_str *out)
{
    const char *slash = strrchr(file, '/');
    dan_str_clear(out);
    if (slash) dan_str_append(out, file, (size_t)(slash - file) + 1);
    dan_str_puts(out, name);
    return dan_path_exists(dan_str_c(out));
}

bool convert_find_llama2c_tokenizer(const char *checkpoint, int64_t vocab, struct dan_str *out)
{
    char name[32];
    snprintf(name, sizeof name, "tok%lld.bin", (long long)vocab);
    return beside(checkpoint, name, out) || beside(checkpoint, "tokenizer.bin", out);
}

/* The file to read, or the model itself (GGUF); false: there is none. */
static bool tokenizer_path(const char *src, enum dan_file_kind kind, const char *given, int64_t vocab, struct dan_str *out)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"};
    if (given || kind == DAN_FILE_GGUF) {
        dan_str_puts(out, given ? given : src);
        return true;
    }
    if (kind == DAN_FILE_LLAMA2C) return convert_find_llama2c_tokenizer(src, vocab, out);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        dan_str_clear(out);
        dan_path_join(out, src, names[i]);
        if (dan_path_exists(dan_str_c(out))) return true;
    }
    return false;
}

static int read_spec(const char *path, struct dan_tok_spec *s, struct dan_err *e)
{
    struct dan_gguf *g = NULL;
    dan_tok_spec_init(s, DAN_SPEC_BPE, path);
    if (dan_str_ends(path, ".json")) return dan_spec_from_json(path, s, e);
    if (dan_str_ends(path, ".model")) return dan_spec_from_sentencepiece(path, s, e);
    if (dan_str_ends(path, ".bin")) return dan_spec_from_llama2c(path, s, e);
    int rc = dan_gguf_open(path, &g, e);
    if (!rc) rc = dan_spec_from_gguf(g, s, e);
    dan_gguf_close(g);
    return rc;
}

static int put_whole(const char *path, struct dan_gguf_out *out, struct dan_err *e)
{
    struct dan_mapping m;
    if (!dan_str_ends(path, "tokenizer.json")) return DAN_OK;
    int rc = dan_map_file(path, &m, e);
    if (rc) return rc;
    dan_gguf_out_string(out, WHOLE, m.p, m.n);
    dan_unmap_file(&m);
    return DAN_OK;
}

static int64_t first_of(int64_t a, int64_t b) { return a >= 0 ? a : b; }

static bool config_adds_bos(const char *dir)
{
    struct dan_str path = {0};
    struct dan_err ignored = {0};
    json_t *j = NULL;
    dan_path_join(&path, dir, "tokenizer_config.json");
    bool yes = dan_path_exists(dan_str_c(&path)) && dan_json_read(dan_str_c(&path), &j, &ignored) == DAN_OK &&
               json_is_true(json_object_get(j, "add_bos_token"));
    json_decref(j);
    dan_str_release(&path);
    return yes;
}

/* run.c begins every text with bos; a folder says so in its configuration. */
static int say_bos(const char *dir, struct dan_err *e)
{
    struct dan_str path = {0};
    json_t *j = NULL;
    dan_path_join(&path, dir, "tokenizer_config.json");
    int rc = path.failed ? dan_fail(e, DAN_ENOMEM, "out of memory writing '%s'", dir) : dan_json_read(path.p, &j, e);
    if (!rc && json_object_set_new(j, "add_bos_token", json_true())) rc = dan_fail(e, DAN_ENOMEM, "out of memory writing '%s'", dir);
    if (!rc) rc = dan_json_write(path.p, j, e);
    json_decref(j);
    dan_str_release(&path);
    return rc;
}

/* tok: the compiled tokenizer, which has read the configuration beside it. */
static int put_tokenizer(const char *path, const char *src, const struct dan_tokenizer *tok, enum dan_file_kind kind, const struct dan_lm *lm,
                         struct dan_gguf_out *out, struct dan_err *e)
{
    struct dan_tok_spec s;
    int rc = read_spec(path, &s, e);
    const struct dan_ids *before = dan_tokenizer_before(tok);
    struct dan_gguf_tokens m = {.vocab = lm->cfg.vocab, .bos = first_of(dan_tokenizer_bos(tok), lm->cfg.bos), .eos = first_of(lm->cfg.eos, dan_tokenizer_eos(tok)),
                                .pad = lm->cfg.pad, .chat_template = dan_tokenizer_chat_template(tok)};
    m.add_bos = kind == DAN_FILE_LLAMA2C || (before->n > 0 && before->v[0] == m.bos) || (kind == DAN_FILE_DIR && m.bos >= 0 && config_adds_bos(src));
    if (!rc) rc = dan_spec_to_gguf(&s, &m, out, e);
    dan_tok_spec_release(&s);
    return rc ? rc : put_whole(path, out, e);
}

static int load(const char *path, const char *src, enum dan_file_kind kind, struct dan_tokenizer **tok, struct dan_err *e)
{
    return dan_tokenizer_load(kind == DAN_FILE_DIR && !dan_str_ends(path, ".bin") ? src : path, tok, e);
}

/* Without a tokenizer, the ids that the model's own configuration names. */
static void put_ids(const struct dan_lm *lm, struct dan_gguf_out *out)
{
    if (lm->cfg.bos >= 0) dan_gguf_out_u32(out, "tokenizer.ggml.bos_token_id", (uint32_t)lm->cfg.bos);
    if (lm->cfg.eos >= 0) dan_gguf_out_u32(out, "tokenizer.ggml.eos_token_id", (uint32_t)lm->cfg.eos);
    if (lm->cfg.pad >= 0) dan_gguf_out_u32(out, "tokenizer.ggml.padding_token_id", (uint32_t)lm->cfg.pad);
}

static int take_template(struct dan_tokenizer *tok, const char *adapter, struct dan_err *e)
{
    bool found;
    return adapter && dan_path_is_dir(adapter) ? dan_chat_template_take(tok, adapter, &found, e) : DAN_OK;
}

int convert_tokenizer_to_gguf(struct dan_ui *ui, const char *src, enum dan_file_kind kind, const char *given, const char *adapter, const struct dan_lm *lm,
                              struct dan_gguf_out *out, struct dan_err *e)
{
    struct dan_str path = {0};
    struct dan_tokenizer *tok = NULL;
    struct dan_err why = {0};
    int rc = DAN_OK;
    bool none = !tokenizer_path(src, kind, given, lm->cfg.vocab, &path);
    if (none) dan_warn(ui, "there is no tokenizer beside '%s': the file is written without one", src);
    else {
        rc = load(dan_str_c(&path), src, kind, &tok, &why);
        if (!rc) rc = take_template(tok, adapter, &why);
        if (!rc) rc = put_tokenizer(dan_str_c(&path), src, tok, kind, lm, out, &why);
        if (rc == DAN_EUNSUPPORTED || (rc && kind == DAN_FILE_GGUF && !given)) {   /* a GGUF file may have none */
            dan_warn(ui, "the file is written without a tokenizer: %s", why.msg);
            rc = DAN_OK;
            none = true;
        }
    }
    if (none) put_ids(lm, out);
    if (rc) dan_fail(e, rc, "%s", why.msg);
    dan_tokenizer_free(tok);
    dan_str_release(&path);
    return rc;
}

/* What tokenizer.json was, when the file has it. */
static int put_back(const char *src, const char *dir, struct dan_err *e)
{
    struct dan_gguf *g = NULL;
    struct dan_gguf_text t;
    struct dan_str path = {0};
    int rc = dan_gguf_open(src, &g, e);
    dan_path_join(&path, dir, "tokenizer.json");
    if (!rc && dan_gguf_string(g, WHOLE, &t)) rc = dan_write_file(dan_str_c(&path), t.p, t.n, e);
    dan_str_release(&path);
    dan_gguf_close(g);
    return rc;
}

int convert_tokenizer_to_dir(struct dan_ui *ui, const char *src, enum dan_file_kind kind, const char *given, const char *adapter, const struct dan_lm *lm,
                             const char *dir, struct dan_err *e)
{
    struct dan_str path = {0};
    struct dan_tokenizer *tok = NULL;
    struct dan_err why = {0};
    int rc = DAN_OK;
    if (!tokenizer_path(src, kind, given, lm->cfg.vocab, &path)) dan_warn(ui, "there is no tokenizer beside '%s': the folder has none", src);
    else if (dan_tokenizer_load(path.p, &tok, &why)) dan_warn(ui, "the folder has no tokenizer: %s", why.msg);
    else if (!(rc = take_template(tok, adapter, e))) rc = dan_tokenizer_save(tok, dir, e);
    if (!rc && tok && kind == DAN_FILE_LLAMA2C) rc = say_bos(dir, e);
    if (!rc && tok && kind == DAN_FILE_GGUF && !given) rc = put_back(src, dir, e);
    dan_tokenizer_free(tok);
    dan_str_release(&path);
    return rc;
}
