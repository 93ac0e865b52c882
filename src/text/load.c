/* Which reader for which file. */
#include "text/load.h"
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "io/gguf.h"
#include "io/json.h"

void dan_path_dir(struct dan_str *out, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash) dan_str_append(out, path, (size_t)(slash - path) + (slash == path));
    else dan_str_puts(out, ".");
}

/* --- readers: a file, the directory that it lies in */
static int beside(const char *dir, const char *const names[2], struct dan_tok_spec *s, struct dan_err *e)
{
    struct dan_str vocab = {0}, merges = {0};
    dan_path_join(&vocab, dir, names[0]);
    dan_path_join(&merges, dir, names[1]);
    int r = vocab.failed || merges.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for the path '%.200s'", dir)
                                          : dan_spec_from_vocab_merges(vocab.p, merges.p, s, e);
    dan_str_release(&vocab);
    dan_str_release(&merges);
    return r;
}

static int read_gpt2(const char *path, const char *dir, struct dan_tok_spec *s, struct dan_err *e)
{
    return (void)path, beside(dir, (const char *const[]){"vocab.json", "merges.txt"}, s, e);
}

static int read_encoder(const char *path, const char *dir, struct dan_tok_spec *s, struct dan_err *e)
{
    return (void)path, beside(dir, (const char *const[]){"encoder.json", "vocab.bpe"}, s, e);
}

static int read_json(const char *path, const char *dir, struct dan_tok_spec *s, struct dan_err *e)
{
    return (void)dir, dan_spec_from_json(path, s, e);
}

static int read_txt(const char *path, const char *dir, struct dan_tok_spec *s, struct dan_err *e)
{
    return (void)dir, dan_spec_from_vocab_txt(path, s, e);
}

static int read_ranks(const char *path, const char *dir, struct dan_tok_spec *s, struct dan_err *e)
{
    return (void)dir, dan_spec_from_tiktoken(path, s, e);
}

static int read_bin(const char *path, const char *dir, struct dan_tok_spec *s, struct dan_err *e)
{
    return (void)dir, dan_spec_from_llama2c(path, s, e);
}


/* Llama 3 calls its ranks tokenizer.model as well. */
static int read_model(const char *path, const char *dir, struct dan_tok_spec *s, struct dan_err *e)
{
    struct dan_mapping m;
    int r = dan_map_file(path, &m, e);
    if (r) return r;
    bool ranks = dan_spec_is_tiktoken(m.p, m.n);
    dan_unmap_file(&m);
    return (void)dir, ranks ? dan_spec_from_tiktoken(path, s, e) : dan_spec_from_sentencepiece(path, s, e);
}

static int read_gguf(const char *path, const char *dir, struct dan_tok_spec *s, struct dan_err *e)
{
    struct dan_gguf *g;
    int r = dan_gguf_open(path, &g, e);
    if (r) return r;
    r = dan_spec_from_gguf(g, s, e);
    dan_gguf_close(g);
    return (void)dir, r;
}

/* In a directory the first that is there counts; `with` must be there too.  A name that begins with '.' is any file of that ending.
 * silent: the format does not say which tokens begin and end a text; of the others "none" is an answer. */
static const struct reader {
    const char *name, *with;
    int (*read)(const char *path, const char *dir, struct dan_tok_spec *s, struct dan_err *e);
    bool silent;
} readers[] = {
    {"tokenizer.json", NULL, read_json, true},
    {"vocab.json", "merges.txt", read_gpt2, true},
    {"encoder.json", "vocab.bpe", read_encoder, true},
    {"tokenizer.model", NULL, read_model, false},
    {"spiece.model", NULL, read_model, false},
    {"sentencepiece.bpe.model", NULL, read_model, false},
    {"vocab.txt", NULL, read_txt, true},
    {".tiktoken", NULL, read_ranks, false},
    {"tokenizer.bin", NULL, read_bin, false},
    {".model", NULL, read_model, false},
    {".spm", NULL, read_model, false},
    {".gguf", NULL, read_gguf, false},
    /* only when named */
    {"merges.txt", "vocab.json", read_gpt2, true},
    {"vocab.bpe", "encoder.json", read_encoder, true},
    {".txt", NULL, read_txt, true},
    {".bin", NULL, read_bin, false},
    {".json", NULL, read_json, true},
};
enum { N_READERS = sizeof readers / sizeof *readers, N_IN_DIRECTORY = 12 };

static bool is_in(const char *dir, const char *name)
{
    struct dan_str path = {0};
    dan_path_join(&path, dir, name);
    bool yes = !path.failed && dan_path_exists(path.p);
    dan_str_release(&path);
    return yes;
}

static bool fits(const struct reader *r, const char *name)
{
    return r->name[0] == '.' ? dan_str_ends(name, r->name) : strcmp(r->name, name) == 0;
}

/* The file of a directory and its reader; NULL: none. */
static const struct reader *look(const char *dir, struct dan_str *file, struct dan_err *e)
{
    char **names;
    size_t n;
    const struct reader *found = NULL;
    if (dan_list_dir(dir, &names, &n, e)) return NULL;
    for (int k = 0; k < N_IN_DIRECTORY && !found; k++)
        for (size_t i = 0; i < n && !found; i++) {
            if (!fits(&readers[k], names[i]) || (readers[k].with && !is_in(dir, readers[k].with))) continue;
            found = &readers[k];
            dan_path_join(file, dir, names[i]);
        }
    dan_free_list(names, n);
    if (!found)
        dan_fail(e, DAN_EIO, "no tokenizer at '%s'; give a model directory with tokenizer.json, vocab.json and merges.txt, vocab.txt, "
                 "tokenizer.model, a .tiktoken or a .gguf file, or make one with 'danlu tokenizer train'", dir);
    return found;
}

/* By its name, else by its first bytes. */
static const struct reader *reader_of(const char *path, const char *dir, struct dan_err *e)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    struct dan_mapping m;
    if (!dan_path_exists(path)) {
        dan_fail(e, DAN_EIO, "no tokenizer at '%s'; give a model directory with tokenizer.json or vocab.txt, or make one with "
                 "'danlu tokenizer train'", path);
        return NULL;
    }
    for (int k = 0; k < N_READERS; k++)
        if (fits(&readers[k], name) && (!readers[k].with || is_in(dir, readers[k].with))) return &readers[k];
    if (dan_map_file(path, &m, e)) return NULL;
    bool json = m.n && (m.p[0] == '{' || m.p[0] == ' ' || m.p[0] == '\n'), gguf = m.n > 4 && memcmp(m.p, "GGUF", 4) == 0;
    const char *as = json ? ".json" : gguf ? ".gguf" : ".model";
    dan_unmap_file(&m);
    for (int k = 0; k < N_READERS; k++)
        if (strcmp(readers[k].name, as) == 0) return &readers[k];
    return NULL;
}

/* What came from a tokenizer.json is saved as it was read. */
static int keep_json(struct dan_tokenizer *t, const char *path, struct dan_err *e)
{
    int r = dan_read_file(path, &t->json, &t->json_n, e);
    if (r) return r;
    dan_tok_spec_release(t->spec);
    dan_free(t->spec);
    t->spec = NULL;
    return DAN_OK;
}

/* GPT-2's token for both, where neither the file nor a configuration beside it says; what a configuration leaves out is left out on
 * purpose. */
static void assume_ends(struct dan_tokenizer *t)
{
    int32_t end = dan_tokenizer_find_special(t, DAN_END_OF_TEXT);
    if (t->config) return;
    if (t->eos < 0) t->eos = end;
    if (t->bos < 0) t->bos = end;
}

/* A vocabulary is read as a whole: a file that cannot be one is refused before it is walked through. */
static const int64_t MAX_FILE = (int64_t)1 << 30;

static int load(const struct reader *r, const char *path, const char *dir, struct dan_tokenizer **out, struct dan_err *e)
{
    struct dan_tok_spec s;
    int64_t bytes = dan_file_size(path);
    if (bytes > MAX_FILE && r->read != read_gguf)
        return dan_fail(e, DAN_EFORMAT, "'%s' has %lld bytes, no tokenizer's file is that large; is it the right file?", path, (long long)bytes);
    dan_tok_spec_init(&s, DAN_SPEC_BPE, path);
    int bad = r->read(path, dir, &s, e);
    if (!bad) bad = dan_tok_build(&s, out, e);
    dan_tok_spec_release(&s);
    if (bad) return bad;
    if (r->read == read_json) bad = keep_json(*out, path, e);
    if (!bad && r->read != read_gguf) bad = dan_tok_load_config(*out, dir, e);
    if (bad) dan_tokenizer_free(*out);
    else if (r->silent) assume_ends(*out);
    return bad;
}

int dan_tokenizer_load(const char *path, struct dan_tokenizer **out, struct dan_err *e)
{
    struct dan_str file = {0}, dir = {0};
    struct dan_err own = {0};
    struct dan_tokenizer *t = NULL;
    const struct reader *r;
    if (dan_path_is_dir(path)) {
        dan_str_puts(&dir, path);
        r = look(path, &file, &own);
    } else {
        dan_str_puts(&file, path);
        dan_path_dir(&dir, path);
        r = reader_of(path, dan_str_c(&dir), &own);
    }
    int bad = !r ? dan_fail(e, own.code ? own.code : DAN_EIO, "%s", own.msg) : DAN_OK;
    if (!bad && (file.failed || dir.failed)) bad = dan_fail(e, DAN_ENOMEM, "out of memory for the path '%.200s'", path);
    if (!bad) bad = load(r, file.p, dir.p, &t, e);
    dan_str_release(&file);
    dan_str_release(&dir);
    if (!bad) *out = t;
    return bad;
}
