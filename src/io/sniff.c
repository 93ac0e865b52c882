#include "io/sniff.h"
#include <string.h>
#include <strings.h>
#include "base/file.h"
#include "base/utf8.h"
#include "io/llama2c.h"

static const struct { const char *name, *advice; } kinds[] = {
    [DAN_FILE_UNKNOWN] = {"a file of no known format", "a model is a folder from Hugging Face, a .gguf or a llama2.c .bin"},
    [DAN_FILE_EMPTY] = {"an empty file", "fetch it again"},
    [DAN_FILE_DIR] = {"a folder", NULL},
    [DAN_FILE_GGUF] = {"GGUF", NULL},
    [DAN_FILE_SAFETENSORS] = {"safetensors", NULL},
    [DAN_FILE_LLAMA2C] = {"a llama2.c checkpoint", NULL},
    [DAN_FILE_JSON] = {"JSON", NULL},
    [DAN_FILE_TEXT] = {"text", NULL},
    [DAN_FILE_LFS_POINTER] = {"a Git LFS pointer, not the file itself", "run 'git lfs pull' in its repository, or fetch the file from its web page"},
    [DAN_FILE_HTML] = {"a web page, not a model", "fetch the file with its direct link (.../resolve/main/NAME)"},
    [DAN_FILE_ZIP] = {"a PyTorch checkpoint or another zip archive", "it may hold code, so danlu does not read it: save it as safetensors "
                      "(model.save_pretrained(DIR, safe_serialization=True))"},
    [DAN_FILE_PICKLE] = {"a Python pickle", "it may hold code, so danlu does not read it: save it as safetensors "
                         "(model.save_pretrained(DIR, safe_serialization=True))"},
    [DAN_FILE_GZIP] = {"a gzip archive", "unpack it first (gunzip or tar xzf)"},
    [DAN_FILE_ZSTD] = {"a zstd archive", "unpack it first (unzstd)"},
    [DAN_FILE_OLD_GGML] = {"a GGML file of before GGUF (August 2023)", "convert the original model with a current tool"},
    [DAN_FILE_HDF5] = {"an HDF5 file (Keras)", "save the model as safetensors first"},
    [DAN_FILE_NPY] = {"a NumPy array", "save the model as safetensors first"},
};

static const struct { const char *mark; size_t n; enum dan_file_kind kind; } marks[] = {
    {"GGUF", 4, DAN_FILE_GGUF}, {"version https://git-lfs", 23, DAN_FILE_LFS_POINTER}, {"PK\3\4", 4, DAN_FILE_ZIP}, {"\x80\2", 2, DAN_FILE_PICKLE},
    {"\x80\3", 2, DAN_FILE_PICKLE}, {"\x80\4", 2, DAN_FILE_PICKLE}, {"\x80\5", 2, DAN_FILE_PICKLE}, {"\x1f\x8b", 2, DAN_FILE_GZIP},
    {"\x28\xb5\x2f\xfd", 4, DAN_FILE_ZSTD}, {"tjgg", 4, DAN_FILE_OLD_GGML}, {"lmgg", 4, DAN_FILE_OLD_GGML}, {"fmgg", 4, DAN_FILE_OLD_GGML},
    {"algg", 4, DAN_FILE_OLD_GGML}, {"\x89HDF\r\n", 6, DAN_FILE_HDF5}, {"\x93NUMPY", 6, DAN_FILE_NPY},
};

static bool starts_nocase(const char *p, size_t n, const char *what) { return n >= strlen(what) && !strncasecmp(p, what, strlen(what)); }

/* A header length and then '{': no other format looks so. */
static bool looks_like_safetensors(const char *p, size_t n) { return n > 8 && p[8] == '{' && !p[5] && !p[6] && !p[7]; }

static enum dan_file_kind kind_of_text(const char *p, size_t n)
{
    size_t skip = 0, look = n < 4096 ? n : 4096;
    if (n >= 3 && !memcmp(p, "\xef\xbb\xbf", 3)) skip = 3;
    while (skip < look && strchr(" \t\r\n", p[skip])) skip++;
    if (starts_nocase(p + skip, n - skip, "<!doctype html") || starts_nocase(p + skip, n - skip, "<html")) return DAN_FILE_HTML;
    if (skip < n && (p[skip] == '{' || p[skip] == '[')) return DAN_FILE_JSON;
    bool valid = dan_utf8_check(p, look) + 4 > look && !memchr(p, 0, look);    /* a character may be cut */
    return valid ? DAN_FILE_TEXT : DAN_FILE_UNKNOWN;
}

static enum dan_file_kind kind_of_bytes(const char *path, const char *p, size_t n)
{
    if (!n) return DAN_FILE_EMPTY;
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (n >= marks[i].n && !memcmp(p, marks[i].mark, marks[i].n)) return marks[i].kind;
    if (looks_like_safetensors(p, n)) return DAN_FILE_SAFETENSORS;
    return dan_llama2c_is(path) ? DAN_FILE_LLAMA2C : kind_of_text(p, n);
}

int dan_file_kind(const char *path, enum dan_file_kind *out, struct dan_err *e)
{
    struct dan_mapping m = {0};
    if (dan_path_is_dir(path)) {
        *out = DAN_FILE_DIR;
        return DAN_OK;
    }
    int rc = dan_map_file(path, &m, e);
    if (rc) return rc;
    *out = kind_of_bytes(path, m.p, m.n);
    dan_unmap_file(&m);
    return DAN_OK;
}

const char *dan_file_kind_name(enum dan_file_kind k) { return kinds[k].name; }
const char *dan_file_kind_advice(enum dan_file_kind k) { return kinds[k].advice; }
