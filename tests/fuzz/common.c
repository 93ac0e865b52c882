#include "fuzz.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "core/buffer.h"
#include "text/tokenizer.h"

/* --- the folder in memory */

enum { MAX_FILES = 16, MAX_MAPS = 64 };
struct memory_file { char name[64]; char *p; size_t n; };
static struct memory_file files[MAX_FILES];
static size_t n_files;
static const char *maps[MAX_MAPS];             /* mappings given out */

int  __real_dan_map_file(const char *path, struct dan_mapping *out, struct dan_err *e);
void __real_dan_unmap_file(struct dan_mapping *m);
int  __real_dan_read_file(const char *path, char **bytes, size_t *n, struct dan_err *e);
bool __real_dan_path_exists(const char *path);
bool __real_dan_path_is_dir(const char *path);
bool __real_dan_path_stays(const char *dir, const char *path);
int64_t __real_dan_file_size(const char *path);
int  __real_dan_file_crc(const char *path, uint32_t *crc, int64_t *bytes, struct dan_err *e);
int  __real_dan_list_dir(const char *path, char ***names, size_t *n, struct dan_err *e);
int  __wrap_dan_map_file(const char *path, struct dan_mapping *out, struct dan_err *e);
void __wrap_dan_unmap_file(struct dan_mapping *m);
int  __wrap_dan_read_file(const char *path, char **bytes, size_t *n, struct dan_err *e);
bool __wrap_dan_path_exists(const char *path);
bool __wrap_dan_path_is_dir(const char *path);
bool __wrap_dan_path_stays(const char *dir, const char *path);
int64_t __wrap_dan_file_size(const char *path);
int  __wrap_dan_file_crc(const char *path, uint32_t *crc, int64_t *bytes, struct dan_err *e);
int  __wrap_dan_list_dir(const char *path, char ***names, size_t *n, struct dan_err *e);

void fuzz_clear(void)
{
    for (size_t i = 0; i < n_files; i++) free(files[i].p);
    n_files = 0;
}

void fuzz_put(const char *name, const void *p, size_t n)
{
    DAN_ASSERT(n_files < MAX_FILES && strlen(name) < sizeof files[0].name);
    struct memory_file *f = &files[n_files++];
    snprintf(f->name, sizeof f->name, "%s", name);
    f->n = n;
    f->p = malloc(n + 1);
    DAN_ASSERT(f->p);
    if (n) memcpy(f->p, p, n);
}

/* "mem", "mem/" and below; NULL: a path of the real system. */
static const char *in_memory(const char *path)
{
    if (strncmp(path, "mem", 3) || (path[3] && path[3] != '/')) return NULL;
    for (path += 3; *path == '/';) path++;
    return path;
}

static const struct memory_file *find(const char *name)
{
    for (size_t i = 0; i < n_files; i++)
        if (!strcmp(files[i].name, name)) return &files[i];
    return NULL;
}

static int no_file(const char *path, struct dan_err *e)
{
    return dan_fail(e, DAN_EIO, "cannot open '%s': no such file; check the path", path);
}

int __wrap_dan_map_file(const char *path, struct dan_mapping *out, struct dan_err *e)
{
    const char *name = in_memory(path);
    if (!name) return __real_dan_map_file(path, out, e);
    const struct memory_file *f = find(name);
    if (!f) return no_file(path, e);
    *out = (struct dan_mapping){"", f->n};
    if (!f->n) return DAN_OK;
    char *p = malloc(f->n);                    /* its own size: a byte too far is found */
    size_t i = 0;
    while (i < MAX_MAPS && maps[i]) i++;
    DAN_ASSERT(p && i < MAX_MAPS);
    memcpy(p, f->p, f->n);
    maps[i] = out->p = p;
    return DAN_OK;
}

void __wrap_dan_unmap_file(struct dan_mapping *m)
{
    for (size_t i = 0; i < MAX_MAPS && m->n; i++) {
        if (maps[i] != m->p) continue;
        free((void *)(uintptr_t)m->p);
        maps[i] = NULL;
        *m = (struct dan_mapping){0};
        return;
    }
    __real_dan_unmap_file(m);
}

int __wrap_dan_read_file(const char *path, char **bytes, size_t *n, struct dan_err *e)
{
    const char *name = in_memory(path);
    if (!name) return __real_dan_read_file(path, bytes, n, e);
    const struct memory_file *f = find(name);
    if (!f) return no_file(path, e);
    char *p = dan_malloc(f->n + 1);
    DAN_ASSERT(p);
    if (f->n) memcpy(p, f->p, f->n);
    p[f->n] = '\0';
    *bytes = p;
    if (n) *n = f->n;
    return DAN_OK;
}

bool __wrap_dan_path_exists(const char *path)
{
    const char *name = in_memory(path);
    return name ? !*name || find(name) : __real_dan_path_exists(path);
}

bool __wrap_dan_path_is_dir(const char *path)
{
    const char *name = in_memory(path);
    return name ? !*name : __real_dan_path_is_dir(path);
}

bool __wrap_dan_path_stays(const char *dir, const char *path) { return in_memory(path) || __real_dan_path_stays(dir, path); }

int64_t __wrap_dan_file_size(const char *path)
{
    const char *name = in_memory(path);
    if (!name) return __real_dan_file_size(path);
    const struct memory_file *f = find(name);
    return f ? (int64_t)f->n : -1;
}

int __wrap_dan_file_crc(const char *path, uint32_t *crc, int64_t *bytes, struct dan_err *e)
{
    const char *name = in_memory(path);
    if (!name) return __real_dan_file_crc(path, crc, bytes, e);
    const struct memory_file *f = find(name);
    if (!f) return no_file(path, e);
    *crc = dan_crc32(0, f->p, f->n);
    *bytes = (int64_t)f->n;
    return DAN_OK;
}

int __wrap_dan_list_dir(const char *path, char ***names, size_t *n, struct dan_err *e)
{
    const char *name = in_memory(path);
    if (!name) return __real_dan_list_dir(path, names, n, e);
    *names = dan_calloc(n_files + 1, sizeof **names);
    DAN_ASSERT(*names);
    for (size_t i = 0; i < n_files; i++) (*names)[i] = dan_strdup(files[i].name);
    *n = n_files;
    return DAN_OK;
}

/* --- inputs */

bool fuzz_next(struct fuzz_input *in, struct fuzz_input *part)
{
    static const char cut[] = FUZZ_CUT;
    if (!in->p) return false;
    const uint8_t *at = memmem(in->p, in->n, cut, sizeof cut - 1);
    *part = (struct fuzz_input){in->p, at ? (size_t)(at - in->p) : in->n};
    size_t used = part->n + (at ? sizeof cut - 1 : 0);
    *in = at ? (struct fuzz_input){in->p + used, in->n - used} : (struct fuzz_input){0};
    return true;
}

void fuzz_put_parts(const uint8_t *p, size_t n, const char *const *names, size_t n_names)
{
    struct fuzz_input in = {p ? p : (const uint8_t *)"", n}, part;
    fuzz_clear();
    for (size_t i = 0; i < n_names && fuzz_next(&in, &part); i++) fuzz_put(names[i], part.p, part.n);
}

void fuzz_put_safetensors(const char *name, const uint8_t *p, size_t n)
{
    const uint8_t *last = n && p[0] == '{' ? memrchr(p, '}', n) : NULL;
    if (!last) {
        fuzz_put(name, p, n);
        return;
    }
    uint64_t head = (uint64_t)(last - p) + 1;
    char *file = malloc(8 + n);
    DAN_ASSERT(file);
    for (int i = 0; i < 8; i++) file[i] = (char)(head >> 8 * i);
    memcpy(file + 8, p, n);
    fuzz_put(name, file, 8 + n);
    free(file);
}

int fuzz_expect(int rc, const struct dan_err *e)
{
    DAN_ASSERT(rc <= 0 && (rc == 0) == (e->code == 0) && (rc == 0 || e->msg[0]));
    if (rc == DAN_ENOMEM) fprintf(stderr, "%s\n", e->msg), abort();
    for (const char *p = rc ? e->msg : ""; *p; p++) DAN_ASSERT((unsigned char)*p >= ' ' && *p != 0x7f);
    return rc;
}

/* --- using what was loaded */

enum { OWN = 48 };                             /* bytes of an input that are a text to encode */

void fuzz_touch(const void *p, size_t n)
{
    volatile char sink = 0;
    const char *c = p;
    if (n) sink = (char)(c[0] ^ c[n / 2] ^ c[n - 1]);
    (void)sink;
}

static void use_tensor(const struct dan_tensor *t)
{
    float row[512];
    int64_t rows = dan_rows(t), cols = dan_cols(t);
    fuzz_touch(t->data, dan_tensor_bytes(t));
    if (rows < 1 || cols < 1 || cols > 512 || !t->dtype->to_f32) return;
    t->dtype->to_f32(dan_row(t, 0), row, cols);
    t->dtype->to_f32(dan_row(t, rows - 1), row, cols);
}

void fuzz_use_store(const struct dan_store *s)
{
    for (size_t i = 0; i < dan_store_count(s); i++) {
        DAN_ASSERT(dan_store_find(s, dan_store_name(s, i)) == dan_store_at(s, i));
        use_tensor(dan_store_at(s, i));
    }
}

static const char sample[] = "Hi, World's  12\n\n\t don't <s>x</s>[MASK]<|endoftext|>\r\n"
                             "na\xc3\xafve \xe4\xbd\xa0\xe5\xa5\xbd\xe2\x96\x81\xf0\x9f\x91\x8d \xff\xc3\x00 e\xcc\x81 aaaaab";

static void use_offsets(const struct dan_tokenizer *t, const char *p, size_t n, int flags)
{
    struct dan_ids ids = {0};
    struct dan_spans spans = {0};
    struct dan_err e = {0};
    if (!fuzz_expect(dan_tokenizer_encode_offsets(t, p, n, flags, &ids, &spans, &e), &e)) DAN_ASSERT(spans.n == ids.n);
    for (size_t i = 0; i < spans.n; i++) DAN_ASSERT(spans.v[i].from <= spans.v[i].to && spans.v[i].to <= n);
    dan_ids_release(&ids);
    dan_spans_release(&spans);
}

static void use_encoder(const struct dan_tokenizer *t, const char *p, size_t n, int flags)
{
    struct dan_ids ids = {0};
    struct dan_str all = {0}, one = {0};
    struct dan_err e = {0};
    fuzz_expect(dan_tokenizer_encode(t, p, n, flags, &ids, &e), &e);
    DAN_ASSERT(!ids.failed);
    for (size_t i = 0; i < ids.n; i++) DAN_ASSERT(ids.v[i] >= 0 && ids.v[i] < dan_tokenizer_vocab_size(t));
    dan_tokenizer_decode(t, ids.v, ids.n, &all);
    struct dan_detok d = {.t = t};
    for (size_t i = 0; i < ids.n; i++) dan_detok_push(&d, ids.v[i], &one);
    dan_detok_finish(&d, &one);
    dan_ids_release(&ids);
    dan_str_release(&all);
    dan_str_release(&one);
}

bool fuzz_all;

static void ask(const struct dan_tokenizer *t, const uint8_t *p, size_t n, size_t which)
{
    size_t own = n < 2 * OWN ? n / 2 : OWN;
    const char *middle = (const char *)p + n / 2;
    use_encoder(t, sample, sizeof sample - 1, which & 1 ? DAN_ENCODE_SPECIAL | DAN_ENCODE_UNK : 0);
    if (which & 2) use_encoder(t, middle, own, DAN_ENCODE_UNK);
    else if (which & 4) use_offsets(t, sample, sizeof sample - 1, DAN_ENCODE_UNK);
    else use_offsets(t, middle, own, DAN_ENCODE_SPECIAL | DAN_ENCODE_UNK);
}

void fuzz_use_tokenizer(const struct dan_tokenizer *t, const uint8_t *p, size_t n)
{
    int32_t vocab = dan_tokenizer_vocab_size(t);
    struct dan_str out = {0};
    size_t bytes;
    ask(t, p, n, n);
    for (size_t which = 0; which < 8 && fuzz_all; which++) ask(t, p, n, which);
    const char *last = dan_tokenizer_token(t, vocab - 1, &bytes);
    fuzz_touch(last, last ? bytes : 0);
    const int32_t odd[] = {0, vocab - 1, vocab, -1, INT32_MIN, INT32_MAX, dan_tokenizer_bos(t), dan_tokenizer_eos(t)};
    dan_tokenizer_decode(t, odd, sizeof odd / sizeof *odd, &out);
    dan_str_release(&out);
    for (size_t i = 0; i < dan_tokenizer_before(t)->n; i++) DAN_ASSERT(dan_tokenizer_before(t)->v[i] < vocab);
}

void fuzz_load_tokenizer(const char *name, const uint8_t *p, size_t n)
{
    struct dan_err e = {0};
    struct dan_tokenizer *t = NULL;
    char path[80];
    snprintf(path, sizeof path, "mem%s%s", *name ? "/" : "", name);
    if (fuzz_expect(dan_tokenizer_load(path, &t, &e), &e)) return;
    fuzz_use_tokenizer(t, p, n);
    dan_tokenizer_free(t);
}
