/* Reading: one pass over the header, then the tensors' places are checked by offset. */
#include "io/gguf.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "io/gguf_impl.h"

enum {
    KEYS_MAX = 65536, TENSORS_MAX = 1000000, STRING_MAX = 16 << 20, META_MAX = 256 << 20, KEY_BYTES_MAX = 65535, NAME_BYTES_MAX = 127,
    ALIGN_MAX = 1 << 20, ALIGN_DEFAULT = 32, SHARDS_MAX = 4096,
    KEY_BYTES_MIN = 8 + 1 + 4 + 1, INFO_BYTES_MIN = 8 + 1 + 4 + 4 + 8,      /* what the smallest key, tensor takes in the file */
};

struct reader {
    struct dan_gguf *g;
    const char *path, *p;
    size_t shard, n, at;
    size_t tensors_before;                     /* of earlier shards */
    size_t data;                               /* where the tensors begin */
    size_t alignment;
    struct dan_err *e;
};

static int bad(struct reader *r, size_t at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int bad(struct reader *r, size_t at, const char *fmt, ...)
{
    char what[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return dan_fail(r->e, DAN_EFORMAT, "bad GGUF file '%s' at byte %zu: %s; fetch it again, or see 'danlu inspect' for what is good of it",
                    r->path, at, what);
}

static int out_of_memory(struct reader *r) { return dan_fail(r->e, DAN_ENOMEM, "out of memory reading '%s'", r->path); }
static size_t left(const struct reader *r) { return r->n - r->at; }

static int take(struct reader *r, size_t n, const char *what, uint64_t *out)
{
    *out = 0;
    if (left(r) < n) return bad(r, r->at, "truncated: the file ends inside %s", what);
    *out = dan_le(r->p + r->at, n);
    r->at += n;
    return DAN_OK;
}

static int take_text(struct reader *r, size_t most, const char *what, struct dan_gguf_text *out)
{
    uint64_t n;
    size_t at = r->at;
    int rc = take(r, 8, what, &n);
    if (rc) return rc;
    if (n > most) return bad(r, at, "%s would have %llu bytes (at most %zu)", what, (unsigned long long)n, most);
    if (n > left(r)) return bad(r, at, "truncated: %s has %llu bytes, the file only %zu more", what, (unsigned long long)n, left(r));
    *out = (struct dan_gguf_text){r->p + r->at, (size_t)n};
    r->at += (size_t)n;
    return DAN_OK;
}

/* Keys and names go into messages and to terminals: no control characters. */
static int take_name(struct reader *r, size_t most, const char *what, struct dan_gguf_text *out)
{
    size_t at = r->at;
    int rc = take_text(r, most, what, out);
    if (!rc && !out->n) return bad(r, at, "%s is empty", what);
    for (size_t i = 0; !rc && i < out->n; i++)
        if ((unsigned char)out->p[i] < ' ' || out->p[i] == 127) rc = bad(r, at, "%s has a control character", what);
    return rc;
}

/* ---- keys ---- */

static int check_bools(struct reader *r, size_t at, const char *p, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if ((unsigned char)p[i] > 1) return bad(r, at + i, "a bool is neither 0 nor 1 but %d", (unsigned char)p[i]);
    return DAN_OK;
}

static int take_strings(struct reader *r, uint64_t n)
{
    struct dan_gguf_text s;
    int rc = n > left(r) / 8 ? bad(r, r->at, "truncated: %llu strings do not fit into the file", (unsigned long long)n) : DAN_OK;
    for (uint64_t i = 0; i < n && !rc; i++) rc = take_text(r, STRING_MAX, "a string of an array", &s);
    return rc;
}

/* n elements of a type that is no array. */
static int take_elements(struct reader *r, enum dan_gguf_type t, uint64_t n)
{
    size_t size = dan_gguf_type_bytes(t), at = r->at;
    if (t == DAN_GGUF_STRING) return take_strings(r, n);
    if (n > left(r) / size)
        return bad(r, at, "truncated: %llu values of %s do not fit into the file", (unsigned long long)n, dan_gguf_type_name(t));
    r->at += (size_t)n * size;
    return t == DAN_GGUF_BOOL ? check_bools(r, at, r->p + at, n) : DAN_OK;
}

static int take_type(struct reader *r, enum dan_gguf_type *out)
{
    uint64_t t = 0;
    size_t at = r->at;
    int rc = take(r, 4, "the type of a value", &t);
    if (!rc && t >= DAN_N_GGUF_TYPES) rc = bad(r, at, "a value has the type %llu, which the format does not name", (unsigned long long)t);
    *out = (enum dan_gguf_type)t;
    return rc;
}

static int take_value(struct reader *r, struct dan_gguf_value *v)
{
    *v = (struct dan_gguf_value){.n = 1};
    int rc = take_type(r, &v->type);
    v->of = v->type;
    if (!rc && v->type == DAN_GGUF_ARRAY) {
        size_t at = r->at;
        rc = take_type(r, &v->of);
        if (!rc && v->of == DAN_GGUF_ARRAY) rc = bad(r, at, "an array of arrays, which no reader supports");
        if (!rc) rc = take(r, 8, "the length of an array", &v->n);
    }
    size_t at = r->at;
    if (rc) return rc;
    rc = v->type == DAN_GGUF_STRING ? take_strings(r, 1) : take_elements(r, v->of, v->n);
    v->data = r->p + at;
    v->bytes = r->at - at;
    return rc;
}

static int put_name(struct reader *r, struct dan_map *map, size_t at, struct dan_gguf_text name, size_t number, const char *what)
{
    int64_t old;
    if (dan_map_get(map, name.p, name.n, &old)) return bad(r, at, "%s '%.*s' occurs twice", what, (int)(name.n < 64 ? name.n : 64), name.p);
    return dan_map_put(map, name.p, name.n, (int64_t)number) ? out_of_memory(r) : DAN_OK;
}

static int take_key(struct reader *r)
{
    struct dan_gguf *g = r->g;
    struct dan_gguf_text key = {0};
    struct dan_gguf_value v;
    size_t at = r->at;
    int rc = take_name(r, KEY_BYTES_MAX, "a key", &key);
    if (!rc) rc = take_value(r, &v);
    if (!rc && r->at > META_MAX) rc = bad(r, at, "the metadata is larger than %d bytes", META_MAX);
    if (!rc && key.n == 17 && !memcmp(key.p, "general.alignment", 17) && v.type == DAN_GGUF_U32) r->alignment = (size_t)dan_le(v.data, 4);
    if (rc || r->shard) return rc;             /* later shards repeat what the first has said */
    rc = put_name(r, g->keys, at, key, g->n_keys, "key");
    if (!rc && dan_vec_grow(&g->key, &g->keys_cap, g->n_keys + 1, sizeof *g->key)) rc = out_of_memory(r);
    if (!rc) g->key[g->n_keys++] = (struct entry){key, v};
    return rc;
}

/* ---- tensors ---- */

/* Dimensions come innermost first; their product and the bytes are checked. */
static int take_shape(struct reader *r, struct dan_gguf_tensor *t)
{
    uint64_t n, d;
    size_t at = r->at;
    int rc = take(r, 4, "a tensor", &n);
    if (!rc && n > 4) rc = bad(r, at, "tensor '%.*s' has %llu dimensions (at most 4)", (int)t->name.n, t->name.p, (unsigned long long)n);
    if (rc) return rc;
    t->shape.n = (int32_t)n;
    for (int i = (int)n - 1; i >= 0; i--) {
        rc = take(r, 8, "the shape of a tensor", &d);
        if (rc) return rc;
        t->shape.d[i] = d > INT64_MAX ? -1 : (int64_t)d;
    }
    return dan_shape_fits(&t->shape) ? DAN_OK : bad(r, at, "the shape of tensor '%.*s' overflows", (int)t->name.n, t->name.p);
}

static int set_type(struct reader *r, size_t at, struct dan_gguf_tensor *t)
{
    const struct dan_ggml_type *type = dan_ggml_type_at(t->type);
    int64_t cols = t->shape.n ? t->shape.d[t->shape.n - 1] : 1;
    if (!type) return DAN_OK;
    if (cols % type->block)
        return bad(r, at, "tensor '%.*s' has rows of %lld, but %s has blocks of %d", (int)t->name.n, t->name.p, (long long)cols, type->name,
                   type->block);
    t->type_name = type->name;
    t->dtype = dan_ggml_dtype(t->type);
    t->bytes = (uint64_t)dan_shape_count(&t->shape) / type->block * type->bytes;
    return DAN_OK;
}

static int take_tensor(struct reader *r)
{
    struct dan_gguf *g = r->g;
    struct dan_gguf_tensor t = {0};
    uint64_t type = 0;
    size_t at = r->at;
    int rc = take_name(r, NAME_BYTES_MAX, "the name of a tensor", &t.name);
    if (!rc) rc = take_shape(r, &t);
    if (!rc) rc = take(r, 4, "a tensor", &type);
    if (!rc) rc = take(r, 8, "a tensor", &t.offset);
    t.type = (uint32_t)type;
    if (!rc) rc = set_type(r, at, &t);
    if (!rc && r->at > META_MAX) rc = bad(r, at, "the metadata is larger than %d bytes", META_MAX);
    if (!rc) rc = put_name(r, g->tensors, at, t.name, g->n_tensors, "tensor");
    if (!rc && (dan_vec_grow(&g->tensor, &g->tensors_cap, g->n_tensors + 1, sizeof *g->tensor) ||
                dan_vec_grow(&g->of_shard, &g->of_cap, g->n_tensors + 1, sizeof *g->of_shard))) rc = out_of_memory(r);
    if (rc) return rc;
    g->of_shard[g->n_tensors] = (uint16_t)r->shard;
    g->tensor[g->n_tensors++] = t;
    return DAN_OK;
}

static int by_offset(const void *a, const void *b)
{
    const struct dan_gguf_tensor *x = *(struct dan_gguf_tensor *const *)a, *y = *(struct dan_gguf_tensor *const *)b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static int check_place(struct reader *r, const struct dan_gguf_tensor *t, const struct dan_gguf_tensor *before, size_t nth)
{
    const char *name = t->name.p;
    int len = (int)t->name.n;
    if (t->offset % r->alignment)
        return bad(r, r->data, "tensor '%.*s' begins at %llu of the data, which is no multiple of the alignment %zu", len, name,
                   (unsigned long long)t->offset, r->alignment);
    if (t->offset > r->n - r->data || t->bytes > r->n - r->data - t->offset)
        return bad(r, r->n, "truncated: tensor '%.*s' needs %llu bytes from byte %llu on; the first %zu of %zu tensors are whole", len, name,
                   (unsigned long long)t->bytes, (unsigned long long)t->offset + r->data, nth, r->g->n_tensors - r->tensors_before);
    if (before && t->offset < before->offset + before->bytes)
        return bad(r, r->data + (size_t)t->offset, "tensor '%.*s' overlaps '%.*s'", len, name, (int)before->name.n, before->name.p);
    return DAN_OK;
}

/* Aligned, inside the file, no overlap; then offsets count from the start of the file. */
static int place_tensors(struct reader *r)
{
    struct dan_gguf *g = r->g;
    size_t n = g->n_tensors - r->tensors_before;
    struct dan_gguf_tensor **by = dan_malloc((n + 1) * sizeof *by);
    int rc = by ? DAN_OK : out_of_memory(r);
    for (size_t i = 0; i < n && by; i++) by[i] = &g->tensor[r->tensors_before + i];
    if (by) qsort(by, n, sizeof *by, by_offset);
    size_t good = 0;
    while (!rc && good < n && !(rc = check_place(r, by[good], good ? by[good - 1] : NULL, good))) good++;
    for (size_t i = 0; i < good; i++) by[i]->whole = true;
    for (size_t i = 0; i < n && by; i++) by[i]->offset += r->data;
    dan_free(by);
    return rc;
}

/* ---- a file ---- */

static int check_magic(struct reader *r)
{
    uint64_t version = r->n >= 8 ? dan_le(r->p + 4, 4) : 0;
    if (r->n < 4 || memcmp(r->p, "GGUF", 4))
        return dan_fail(r->e, DAN_EFORMAT, "'%s' is no GGUF file: it does not begin with \"GGUF\"%s", r->path,
                        r->n >= 4 && (!memcmp(r->p, "tjgg", 4) || !memcmp(r->p, "lmgg", 4) || !memcmp(r->p, "fmgg", 4))
                            ? " but with the mark of GGML's formats of before August 2023; convert the original model again" : "");
    if (r->n < 8) return bad(r, r->n, "truncated: the file ends inside the version");
    if (version == 2 || version == 3) return DAN_OK;
    if (version == 1)
        return dan_fail(r->e, DAN_EUNSUPPORTED, "'%s' is GGUF version 1 (August 2023), which is not supported: convert the model again with a "
                        "current tool", r->path);
    if (version && !(version & 0xffff))
        return dan_fail(r->e, DAN_EUNSUPPORTED, "'%s' is a big-endian GGUF file, which is not supported: convert it with gguf-convert-endian of the "
                        "Python package gguf", r->path);
    return dan_fail(r->e, DAN_EUNSUPPORTED, "'%s' is GGUF version %llu; versions 2 and 3 are supported", r->path, (unsigned long long)version);
}

static int check_counts(struct reader *r, uint64_t n_tensors, uint64_t n_keys)
{
    if (n_keys > KEYS_MAX || n_keys > left(r) / KEY_BYTES_MIN)
        return bad(r, 16, "%llu keys (at most %d, and they must fit into the file)", (unsigned long long)n_keys, KEYS_MAX);
    if (n_tensors > TENSORS_MAX || n_tensors > left(r) / INFO_BYTES_MIN)
        return bad(r, 8, "%llu tensors (at most %d, and they must fit into the file)", (unsigned long long)n_tensors, TENSORS_MAX);
    return DAN_OK;
}

/* The data begins at the next multiple of the alignment; a file of keys alone may end before it. */
static int find_data(struct reader *r)
{
    if (r->alignment < 8 || r->alignment % 8 || r->alignment > ALIGN_MAX)
        return bad(r, r->at, "general.alignment is %zu: expected a multiple of 8, at most %d", r->alignment, ALIGN_MAX);
    r->data = r->at + (r->alignment - r->at % r->alignment) % r->alignment;
    if (r->data > r->n) r->data = r->n;
    return DAN_OK;
}

static int read_head(struct reader *r)
{
    uint64_t version, n_tensors = 0, n_keys = 0;
    int rc = check_magic(r);
    if (rc) return rc;
    r->at = 4;
    rc = take(r, 4, "the version", &version);
    if (!r->shard) r->g->version = (uint32_t)version;
    if (!rc) rc = take(r, 8, "the number of tensors", &n_tensors);
    if (!rc) rc = take(r, 8, "the number of keys", &n_keys);
    if (!rc) rc = check_counts(r, n_tensors, n_keys);
    for (uint64_t i = 0; i < n_keys && !rc; i++) rc = take_key(r);
    for (uint64_t i = 0; i < n_tensors && !rc; i++) rc = take_tensor(r);
    if (!rc) rc = find_data(r);
    if (!r->shard) r->g->alignment = r->alignment;
    return rc ? rc : place_tensors(r);
}

static int read_shard(struct dan_gguf *g, const char *path, struct dan_err *e)
{
    struct dan_gguf_shard *s = &g->shard[g->n_shards];
    s->path = dan_strdup(path);
    int rc = s->path ? dan_map_buffer(path, &s->file, e) : dan_fail(e, DAN_ENOMEM, "out of memory reading '%s'", path);
    if (!rc) {
        s->p = s->file->data;
        s->n = s->file->n_bytes;
    }
    struct reader r = {.g = g, .path = s->path, .p = s->p, .n = s->n, .shard = g->n_shards, .tensors_before = g->n_tensors, .alignment = ALIGN_DEFAULT, .e = e};
    g->n_shards++;
    return rc ? rc : read_head(&r);
}

/* ---- shards ---- */

/* NAME-00002-of-00005.gguf: the numbers, and how long NAME is. */
static bool shard_name(const char *path, size_t *stem, unsigned *nth, unsigned *count)
{
    static const char form[] = "-00000-of-00000.gguf";
    size_t n = strlen(path), k = sizeof form - 1;
    if (n <= k) return false;
    for (size_t i = 0; i < k; i++) {
        char c = path[n - k + i];
        if (form[i] == '0' ? c < '0' || c > '9' : c != form[i]) return false;
    }
    *stem = n - k;
    *nth = (unsigned)strtoul(path + n - k + 1, NULL, 10);
    *count = (unsigned)strtoul(path + n - k + 10, NULL, 10);
    return *nth >= 1 && *nth <= *count && *count <= SHARDS_MAX;
}

/* Names of shards are made from the name that was given, never read from a file. */
static int read_files(struct dan_gguf *g, const char *path, struct dan_err *e)
{
    size_t stem;
    unsigned nth, count;
    if (!shard_name(path, &stem, &nth, &count)) count = 1;
    g->shard = dan_calloc(count, sizeof *g->shard);
    if (!g->shard) return dan_fail(e, DAN_ENOMEM, "out of memory reading '%s'", path);
    if (count == 1) return read_shard(g, path, e);
    int rc = DAN_OK;
    for (unsigned i = 1; i <= count && !rc; i++) {
        struct dan_str name = {0};
        dan_str_append(&name, path, stem);
        dan_str_printf(&name, "-%05u-of-%05u.gguf", i, count);
        rc = name.failed ? dan_fail(e, DAN_ENOMEM, "out of memory reading '%s'", path) : read_shard(g, name.p, e);
        dan_str_release(&name);
    }
    return rc;
}

/* What the keys say of the split must be what was opened. */
static int check_split(struct dan_gguf *g, struct dan_err *e)
{
    int64_t count = 1, total;
    const char *path = g->shard[0].path;
    if (dan_gguf_int(g, "split.count", &count) && count > 0 && (uint64_t)count != g->n_shards)
        return dan_fail(e, DAN_EFORMAT, "'%s' is one of %lld files of a model, but its name is not that of one: name them "
                        "NAME-00001-of-%05lld.gguf and so on", path, (long long)count, (long long)count);
    if (g->n_shards > 1 && dan_gguf_int(g, "split.tensors.count", &total) && total >= 0 && (uint64_t)total != g->n_tensors)
        return dan_fail(e, DAN_EFORMAT, "the %zu files of '%s' hold %zu tensors, but 'split.tensors.count' says %lld: they do not belong together",
                        g->n_shards, path, g->n_tensors, (long long)total);
    return DAN_OK;
}

static int open_any(const char *path, struct dan_gguf **out, struct dan_err *e)
{
    struct dan_gguf *g = dan_calloc(1, sizeof *g);
    if (g) {
        g->keys = dan_map_new();
        g->tensors = dan_map_new();
    }
    *out = g;
    if (!g || !g->keys || !g->tensors) return dan_fail(e, DAN_ENOMEM, "out of memory reading '%s'", path);
    int rc = read_files(g, path, e);
    return rc ? rc : check_split(g, e);
}

int dan_gguf_open(const char *path, struct dan_gguf **out, struct dan_err *e)
{
    struct dan_gguf *g;
    int rc = open_any(path, &g, e);
    if (rc) dan_gguf_close(g);
    else *out = g;
    return rc;
}

int dan_gguf_open_damaged(const char *path, struct dan_gguf **out, struct dan_err *e)
{
    struct dan_gguf *g;
    int rc = open_any(path, &g, e);
    bool some = g && g->n_shards && g->shard[0].p && g->version;
    if (!some) dan_gguf_close(g);
    *out = some ? g : NULL;
    return rc;
}

void dan_gguf_close(struct dan_gguf *g)
{
    if (!g) return;
    for (size_t i = 0; i < g->n_shards; i++) {
        dan_buffer_drop(g->shard[i].file);
        dan_free(g->shard[i].path);
    }
    dan_map_free(g->keys);
    dan_map_free(g->tensors);
    dan_free(g->shard);
    dan_free(g->key);
    dan_free(g->tensor);
    dan_free(g->of_shard);
    dan_free(g);
}

/* ---- tensors as a store ---- */

static int put_tensor(const struct dan_gguf *g, size_t i, struct dan_store *to, struct dan_err *e)
{
    const struct dan_gguf_tensor *t = &g->tensor[i];
    const struct dan_gguf_shard *s = &g->shard[g->of_shard[i]];
    char name[NAME_BYTES_MAX + 1];
    memcpy(name, t->name.p, t->name.n);
    name[t->name.n] = '\0';
    if (!t->whole) return dan_fail(e, DAN_EFORMAT, "tensor '%s' of '%s' is not whole", name, s->path);
    if (!t->dtype)
        return dan_fail(e, DAN_EUNSUPPORTED, "tensor '%s' of '%s' is stored as %s (%u), which danlu lists but does not compute with: use a file with "
                        "another quantisation, such as Q8_0 or Q4_K_M", name, s->path, t->type_name ? t->type_name : "an unknown type", t->type);
    return dan_store_put(to, name, dan_tensor_of(t->dtype, t->shape, (void *)(uintptr_t)(s->p + t->offset)), s->file, e);
}

int dan_gguf_store(const struct dan_gguf *g, struct dan_store **out, struct dan_err *e)
{
    struct dan_store *s;
    int rc = dan_store_new(&s, e);
    for (size_t i = 0; i < g->n_tensors && !rc; i++) rc = put_tensor(g, i, s, e);
    if (rc) dan_store_free(s);
    else *out = s;
    return rc;
}
