#include "io/safetensors.h"
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/map.h"
#include "base/mem.h"
#include "io/json.h"
#include "io/tensor_file.h"

enum { HEADER_MAX = 100000000, HEADER_DEPTH = 4 };

struct item {                                  /* one header entry, checked */
    const char *name;
    const char *type;                          /* "F32": as in the file */
    const struct dan_dtype *dtype;             /* NULL: a dtype danlu has no arithmetic for */
    struct dan_shape shape;
    uint64_t lo, hi;                           /* bytes from the start of the data */
};

struct reader {
    const char *path;
    const char *data;                          /* first byte after the header */
    uint64_t    n_data;
    json_t     *head;
    struct item *item;
    size_t      n;
    struct dan_buffer *file;
    struct dan_map *index;                     /* name -> item */
    struct dan_map *quant;                     /* names of tensors in block formats -> JOINED, SCALES, BLOCKS + k */
    struct dan_store *store;
    struct dan_err *e;
};

/* Dtypes of the format that dan_dtypes may lack: their sizes, so that the file is checked whole. */
static const struct { const char *name; int bits; } foreign[] = {
    {"BOOL", 8}, {"U8", 8}, {"I16", 16}, {"U16", 16}, {"U32", 32}, {"U64", 64}, {"F8_E5M2", 8}, {"F8_E4M3", 8},
    {"F8_E8M0", 8}, {"F4", 4}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"C64", 64},
};
/* Buffers that exporters leave in and that are no weights. */
static const char *const not_weights[] = {".attn.bias", ".masked_bias", ".inv_freq", ".position_ids"};

static bool is_weight(const char *name)
{
    for (size_t i = 0; i < sizeof not_weights / sizeof not_weights[0]; i++)
        if (dan_str_ends(name, not_weights[i])) return false;
    return true;
}

static int type_bits(const char *type, const struct dan_dtype **dtype)
{
    *dtype = dan_dtype_find_safetensors(type);
    if (*dtype) return (*dtype)->bytes * 8;
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        if (!strcmp(type, foreign[i].name)) return foreign[i].bits;
    return 0;
}

static int fail_out_of_memory(struct reader *r) { return dan_fail(r->e, DAN_ENOMEM, "out of memory reading '%s'", r->path); }

static int read_shape(struct reader *r, struct item *it, const json_t *j, uint64_t *count)
{
    if (!json_is_array(j) || json_array_size(j) > DAN_MAX_DIMS)
        return dan_fail(r->e, DAN_EFORMAT, "bad shape of tensor '%s' in '%s': expected a list of at most %d sizes",
                        it->name, r->path, DAN_MAX_DIMS);
    it->shape.n = (int32_t)json_array_size(j);
    for (int i = 0; i < it->shape.n; i++) {
        const json_t *d = json_array_get(j, (size_t)i);
        it->shape.d[i] = json_is_integer(d) ? json_integer_value(d) : -1;
    }
    if (!dan_shape_fits(&it->shape))
        return dan_fail(r->e, DAN_EFORMAT, "bad shape of tensor '%s' in '%s': a dimension is no size, or the product overflows", it->name,
                        r->path);
    *count = (uint64_t)dan_shape_count(&it->shape);
    return DAN_OK;
}

static int read_offsets(struct reader *r, struct item *it, const json_t *j)
{
    const json_t *lo = json_array_get(j, 0), *hi = json_array_get(j, 1);
    if (json_array_size(j) != 2 || !json_is_integer(lo) || !json_is_integer(hi) || json_integer_value(lo) < 0 ||
        json_integer_value(hi) < json_integer_value(lo))
        return dan_fail(r->e, DAN_EFORMAT, "bad data_offsets of tensor '%s' in '%s': expected [begin, end]", it->name, r->path);
    it->lo = (uint64_t)json_integer_value(lo);
    it->hi = (uint64_t)json_integer_value(hi);
    return DAN_OK;
}

static int read_item(struct reader *r, struct item *it, const json_t *j)
{
    uint64_t count = 0;
    it->type = json_string_value(json_object_get(j, "dtype"));
    int bits = it->type ? type_bits(it->type, &it->dtype) : 0;
    if (!bits)
        return dan_fail(r->e, DAN_EFORMAT, "unknown dtype '%s' of tensor '%s' in '%s'", it->type ? it->type : "", it->name, r->path);
    int rc = read_shape(r, it, json_object_get(j, "shape"), &count);
    if (!rc) rc = read_offsets(r, it, json_object_get(j, "data_offsets"));
    if (rc) return rc;
    if (count * (uint64_t)bits % 8 || it->hi - it->lo != count * (uint64_t)bits / 8)
        return dan_fail(r->e, DAN_EFORMAT, "sizes of tensor '%s' in '%s' disagree: %llu elements of %s, but %llu bytes", it->name, r->path,
                        (unsigned long long)count, it->type, (unsigned long long)(it->hi - it->lo));
    return DAN_OK;
}

static int read_items(struct reader *r)
{
    const char *name;
    json_t *j;
    r->item = dan_calloc(json_object_size(r->head) + 1, sizeof *r->item);
    r->index = dan_map_new();
    if (!r->item || !r->index) return fail_out_of_memory(r);
    json_object_foreach(r->head, name, j) {
        if (!strcmp(name, "__metadata__")) continue;
        r->item[r->n].name = name;
        int rc = read_item(r, &r->item[r->n], j);
        if (!rc && dan_map_put(r->index, name, strlen(name), (int64_t)r->n)) rc = fail_out_of_memory(r);
        if (rc) return rc;
        r->n++;
    }
    return DAN_OK;
}

static int by_offset(const void *a, const void *b)
{
    const struct item *x = *(const struct item *const *)a, *y = *(const struct item *const *)b;
    if (x->lo != y->lo) return x->lo < y->lo ? -1 : 1;
    return x->hi < y->hi ? -1 : x->hi > y->hi;
}

static int check_order(struct reader *r, struct item **by)
{
    uint64_t at = 0;
    for (size_t i = 0; i < r->n; at = by[i++]->hi) {
        if (by[i]->lo != at)
            return dan_fail(r->e, DAN_EFORMAT, "tensor '%s' in '%s' begins at byte %llu, but the one before ends at %llu: "
                            "tensors must follow each other; write the file again with a current tool",
                            by[i]->name, r->path, (unsigned long long)by[i]->lo, (unsigned long long)at);
        if (by[i]->hi > r->n_data)
            return dan_fail(r->e, DAN_EFORMAT, "truncated file '%s': tensor '%s' needs bytes %llu to %llu of the data, which end at %llu; "
                            "the first %zu of %zu tensors are whole; fetch the file again", r->path, by[i]->name,
                            (unsigned long long)by[i]->lo, (unsigned long long)by[i]->hi, (unsigned long long)r->n_data, i, r->n);
    }
    if (at != r->n_data)
        return dan_fail(r->e, DAN_EFORMAT, "'%s' has %llu bytes after its last tensor: all %zu tensors are whole, but the file is not "
                        "what its header says; fetch it again", r->path, (unsigned long long)(r->n_data - at), r->n);
    return DAN_OK;
}

/* In range, no gap, no overlap: by order of offset. */
static int check_cover(struct reader *r)
{
    struct item **by = dan_malloc((r->n + 1) * sizeof *by);
    if (!by) return fail_out_of_memory(r);
    for (size_t i = 0; i < r->n; i++) by[i] = &r->item[i];
    qsort(by, r->n, sizeof *by, by_offset);
    int rc = check_order(r, by);
    dan_free(by);
    return rc;
}

static int check_meta(struct reader *r)
{
    const json_t *meta = json_object_get(r->head, "__metadata__");
    const char *key;
    json_t *v;
    if (meta && !json_is_object(meta))
        return dan_fail(r->e, DAN_EFORMAT, "__metadata__ of '%s' is no object of strings", r->path);
    json_object_foreach((json_t *)(uintptr_t)meta, key, v)
        if (!json_is_string(v)) return dan_fail(r->e, DAN_EFORMAT, "__metadata__ entry '%s' of '%s' is no string", key, r->path);
    return DAN_OK;
}

static int parse_head(struct reader *r, const char *p, size_t size)
{
    uint64_t n = 0;
    if (size < 8)
        return dan_fail(r->e, DAN_EFORMAT, "truncated file '%s': %zu bytes are no safetensors file; fetch it again", r->path, size);
    for (int i = 0; i < 8; i++) n |= (uint64_t)(unsigned char)p[i] << (8 * i);
    if (n > HEADER_MAX)
        return dan_fail(r->e, DAN_EFORMAT, "'%s' is no safetensors file: its header would have %llu bytes (at most %d)", r->path,
                        (unsigned long long)n, HEADER_MAX);
    if (n > size - 8)
        return dan_fail(r->e, DAN_EFORMAT, "truncated file '%s': the header needs %llu bytes, the file has %zu; no tensor is whole; "
                        "fetch it again", r->path, (unsigned long long)n, size);
    if (n < 2 || p[8] != '{')
        return dan_fail(r->e, DAN_EFORMAT, "'%s' is no safetensors file: its header does not begin with '{'", r->path);
    r->data = p + 8 + n;
    r->n_data = size - 8 - n;
    return dan_json_parse(r->path, p + 8, (size_t)n, HEADER_DEPTH, &r->head, r->e);
}

static int read_head(struct reader *r, const char *p, size_t size)
{
    int rc = parse_head(r, p, size);
    if (!rc) rc = check_meta(r);
    if (!rc) rc = read_items(r);
    return rc ? rc : check_cover(r);
}

static const struct item *find_item(const struct reader *r, const char *name)
{
    int64_t i;
    return dan_map_get(r->index, name, strlen(name), &i) ? &r->item[i] : NULL;
}

/* What reader.quant says of a name: q8_0 integers, their scales, or BLOCKS + the format's place in dan_dtypes. */
enum { JOINED = 1, SCALES, BLOCKS };

/* Marks the names of "danlu.q8_0" and of their scales, and checks both are there and fit. */
static int mark_quant(struct reader *r, const char *name)
{
    struct dan_str scale = {0};
    dan_str_printf(&scale, "%s.scale", name);
    const struct item *q = find_item(r, name), *s = find_item(r, dan_str_c(&scale));
    int rc = DAN_OK, last = q ? q->shape.n - 1 : -1;
    bool ok = q && s && last >= 0 && q->dtype == &dan_dtype_i8 && s->dtype == &dan_dtype_f16 && s->shape.n == q->shape.n &&
              q->shape.d[last] % 32 == 0 && s->shape.d[last] == q->shape.d[last] / 32 &&
              !memcmp(q->shape.d, s->shape.d, (size_t)last * sizeof q->shape.d[0]);
    if (!ok)
        rc = dan_fail(r->e, DAN_EFORMAT, "q8_0 tensor '%s' in '%s' needs '%s' I8 [.., K] and '%s.scale' F16 [.., K/32]",
                      name, r->path, name, name);
    else if (dan_map_put(r->quant, name, strlen(name), JOINED) || dan_map_put(r->quant, scale.p, scale.n, SCALES))
        rc = fail_out_of_memory(r);
    dan_str_release(&scale);
    return rc;
}

static int mark_blocks(struct reader *r, const char *name, int k)
{
    const struct dan_dtype *t = dan_dtypes[k];
    const struct item *q = find_item(r, name);
    int last = q ? q->shape.n - 1 : -1;
    if (last < 0 || strcmp(q->type, "U8") || q->shape.d[last] % t->bytes)
        return dan_fail(r->e, DAN_EFORMAT, "%s tensor '%s' in '%s' needs '%s' U8 [.., K/%d*%d]", t->name, name, r->path, name, t->block, t->bytes);
    struct dan_shape shape = q->shape;
    shape.d[last] = shape.d[last] / t->bytes * t->block;
    if (!dan_shape_fits(&shape)) return dan_fail(r->e, DAN_EFORMAT, "%s tensor '%s' in '%s' has too many elements", t->name, name, r->path);
    return dan_map_put(r->quant, name, strlen(name), BLOCKS + k) ? fail_out_of_memory(r) : DAN_OK;
}

/* The names that metadata lists for format k. */
static int read_quant_names(struct reader *r, const char *list, int k)
{
    struct dan_str name = {0};
    int rc = DAN_OK;
    while (!rc && list && *list) {
        size_t n = strcspn(list, ",");
        dan_str_clear(&name);
        dan_str_append(&name, list, n);
        rc = dan_dtypes[k] == &dan_dtype_q8_0 ? mark_quant(r, dan_str_c(&name)) : mark_blocks(r, dan_str_c(&name), k);
        list += n + (list[n] == ',');
    }
    dan_str_release(&name);
    return rc;
}

static int read_quant(struct reader *r)
{
    const json_t *meta = json_object_get(r->head, "__metadata__");
    char key[64];
    int rc = (r->quant = dan_map_new()) ? DAN_OK : fail_out_of_memory(r);
    for (int k = 0; dan_dtypes[k] && !rc; k++) {
        if (dan_dtypes[k]->block == 1) continue;
        snprintf(key, sizeof key, "danlu.%s", dan_dtypes[k]->name);
        rc = read_quant_names(r, json_string_value(json_object_get(meta, key)), k);
    }
    return rc;
}

/* q8_0 blocks: f16 scale, then 32 int8. */
static int put_quant(struct reader *r, const struct item *q)
{
    struct dan_str scale = {0};
    dan_str_printf(&scale, "%s.scale", q->name);
    const struct item *s = find_item(r, dan_str_c(&scale));
    dan_str_release(&scale);
    if (!s) return fail_out_of_memory(r);
    int rc = dan_store_add(r->store, q->name, &dan_dtype_q8_0, q->shape, r->e);
    if (rc) return rc;
    char *out = dan_store_find(r->store, q->name)->data;
    const char *scales = r->data + s->lo, *ints = r->data + q->lo;
    for (uint64_t i = 0; i < (q->hi - q->lo) / 32; i++, out += 34) {
        memcpy(out, scales + 2 * i, 2);
        memcpy(out + 2, ints + 32 * i, 32);
    }
    return DAN_OK;
}

/* A view of the file; a copy where it does not lie at a multiple of `align`. */
static int put_view(struct reader *r, const struct item *it, const struct dan_dtype *t, struct dan_shape shape, size_t align)
{
    const char *p = r->data + it->lo;
    if ((uintptr_t)p % align == 0) return dan_store_put(r->store, it->name, dan_tensor_of(t, shape, (void *)(uintptr_t)p), r->file, r->e);
    int rc = dan_store_add(r->store, it->name, t, shape, r->e);
    if (!rc && it->hi > it->lo) memcpy(dan_store_find(r->store, it->name)->data, p, it->hi - it->lo);
    return rc;
}

static int put_blocks(struct reader *r, const struct item *it, const struct dan_dtype *t)
{
    struct dan_shape shape = it->shape;
    shape.d[shape.n - 1] = shape.d[shape.n - 1] / t->bytes * t->block;
    return put_view(r, it, t, shape, 2);       /* blocks hold f16 at most */
}

static int put_item(struct reader *r, const struct item *it)
{
    int64_t quant = 0;
    dan_map_get(r->quant, it->name, strlen(it->name), &quant);
    if (quant == SCALES) return DAN_OK;
    if (quant < BLOCKS && !it->dtype && !is_weight(it->name)) return DAN_OK;
    if (quant < BLOCKS && !it->dtype)
        return dan_fail(r->e, DAN_EUNSUPPORTED, "dtype %s of tensor '%s' in '%s' is not supported: convert the model to F32, F16 or BF16 "
                        "first", it->type, it->name, r->path);
    if (dan_store_find(r->store, it->name))
        return dan_fail(r->e, DAN_EFORMAT, "tensor '%s' of '%s' is in another shard too", it->name, r->path);
    if (quant >= BLOCKS) return put_blocks(r, it, dan_dtypes[quant - BLOCKS]);
    return quant ? put_quant(r, it) : put_view(r, it, it->dtype, it->shape, it->dtype->bytes);
}

static void reader_release(struct reader *r)
{
    json_decref(r->head);
    dan_map_free(r->quant);
    dan_map_free(r->index);
    dan_free(r->item);
    dan_buffer_drop(r->file);
}

static int open_file(struct dan_store *store, const char *path, struct dan_err *e)
{
    struct reader r = {.path = path, .store = store, .e = e};
    int rc = dan_map_buffer(path, &r.file, e);
    if (!rc) rc = read_head(&r, r.file->data, r.file->n_bytes);
    if (!rc) rc = read_quant(&r);
    for (size_t i = 0; i < r.n && !rc; i++) rc = put_item(&r, &r.item[i]);
    reader_release(&r);
    return rc;
}

/* Names of shards come from a file: they may not lead out of its directory. */
static bool plain_name(const char *s)
{
    return s[0] && s[0] != '.' && s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")] == '\0';
}

static bool found_in(const struct dan_store *store, const char *name)
{
    if (dan_store_find(store, name) || !is_weight(name)) return true;
    if (!dan_str_ends(name, ".scale")) return false;
    struct dan_str base = {0};
    dan_str_append(&base, name, strlen(name) - strlen(".scale"));
    const struct dan_tensor *t = dan_store_find(store, dan_str_c(&base));
    dan_str_release(&base);
    return t && t->dtype == &dan_dtype_q8_0;
}

static int open_shard(struct dan_store *store, struct dan_map *seen, const char *dir, const char *index, const char *file,
                      struct dan_err *e)
{
    int64_t old;
    if (!file || !plain_name(file))
        return dan_fail(e, DAN_EFORMAT, "bad file name '%s' in '%s': shards must lie beside their index", file ? file : "", index);
    if (dan_map_get(seen, file, strlen(file), &old)) return DAN_OK;
    if (dan_map_put(seen, file, strlen(file), 1)) return dan_fail(e, DAN_ENOMEM, "out of memory reading '%s'", index);
    struct dan_str path = {0};
    dan_path_join(&path, dir, file);
    int rc = dan_path_stays(dir, dan_str_c(&path)) ? open_file(store, dan_str_c(&path), e)
        : dan_fail(e, DAN_EFORMAT, "'%s' is a link that leads out of the folder of '%s': shards must lie beside their index", file, index);
    dan_str_release(&path);
    return rc;
}

static int open_map(struct dan_store *store, const char *index, const char *dir, const json_t *map, struct dan_err *e)
{
    struct dan_map *seen = dan_map_new();
    int rc = seen ? DAN_OK : dan_fail(e, DAN_ENOMEM, "out of memory reading '%s'", index);
    const char *name;
    json_t *file;
    if (!rc && !json_object_size(map)) rc = dan_fail(e, DAN_EFORMAT, "'%s' has no \"weight_map\" of tensor names to files", index);
    json_object_foreach((json_t *)(uintptr_t)map, name, file)
        if (!rc) rc = open_shard(store, seen, dir, index, json_string_value(file), e);
    json_object_foreach((json_t *)(uintptr_t)map, name, file)
        if (!rc && !found_in(store, name))
            rc = dan_fail(e, DAN_EFORMAT, "tensor '%s' is not in '%s', where '%s' says it is", name, json_string_value(file), index);
    dan_map_free(seen);
    return rc;
}

static int open_index(struct dan_store *store, const char *index, struct dan_err *e)
{
    json_t *j;
    int rc = dan_json_read(index, &j, e);
    if (rc) return rc;
    struct dan_str dir = {0};
    const char *slash = strrchr(index, '/');
    if (slash) dan_str_append(&dir, index, (size_t)(slash - index) + 1);
    rc = open_map(store, index, dan_str_c(&dir), json_object_get(j, "weight_map"), e);
    dan_str_release(&dir);
    json_decref(j);
    return rc;
}

static int open_dir(struct dan_store *store, const char *dir, struct dan_err *e)
{
    struct dan_str one = {0}, many = {0};
    dan_path_join(&one, dir, "model.safetensors");
    dan_path_join(&many, dir, "model.safetensors.index.json");
    int rc;
    if (dan_path_exists(dan_str_c(&one))) rc = open_file(store, one.p, e);
    else if (dan_path_exists(dan_str_c(&many))) rc = open_index(store, many.p, e);
    else rc = dan_fail(e, DAN_EIO, "no weights in '%s': expected model.safetensors or model.safetensors.index.json there", dir);
    dan_str_release(&one);
    dan_str_release(&many);
    return rc;
}

int dan_safetensors_open(const char *path, struct dan_store **out, struct dan_err *e)
{
    struct dan_store *store;
    int rc = dan_store_new(&store, e);
    if (rc) return rc;
    if (dan_path_is_dir(path)) rc = open_dir(store, path, e);
    else rc = dan_str_ends(path, ".json") ? open_index(store, path, e) : open_file(store, path, e);
    if (rc) dan_store_free(store);
    else *out = store;
    return rc;
}

int dan_safetensors_head(const char *path, struct json_t **head, uint64_t *data, uint64_t *bytes, struct dan_err *e)
{
    struct reader r = {.path = path, .e = e};
    int rc = dan_map_buffer(path, &r.file, e);
    if (!rc) rc = parse_head(&r, r.file->data, r.file->n_bytes);
    if (!rc) {
        *head = json_incref(r.head);
        *data = (uint64_t)(r.data - (const char *)r.file->data);
        *bytes = r.file->n_bytes;
    }
    reader_release(&r);
    return rc;
}

int dan_safetensors_meta(const char *path, const char *key, char **value, struct dan_err *e)
{
    struct reader r = {.path = path, .e = e};
    int rc = dan_map_buffer(path, &r.file, e);
    if (!rc) rc = read_head(&r, r.file->data, r.file->n_bytes);
    if (!rc) {
        const char *v = json_string_value(json_object_get(json_object_get(r.head, "__metadata__"), key));
        *value = v ? dan_strdup(v) : NULL;
        if (v && !*value) rc = fail_out_of_memory(&r);
    }
    reader_release(&r);
    return rc;
}

static int check_same(const struct dan_store *into, const struct dan_store *from, struct dan_err *e)
{
    char a[96], b[96];
    for (size_t i = 0; i < dan_store_count(into); i++) {
        const char *name = dan_store_name(into, i);
        const struct dan_tensor *x = dan_store_at(into, i), *y = dan_store_find(from, name);
        if (!y) return dan_fail(e, DAN_ESHAPE, "tensor '%s' is missing in what is loaded: it belongs to another model or version", name);
        dan_shape_text(&x->shape, a, sizeof a);
        dan_shape_text(&y->shape, b, sizeof b);
        if (x->dtype != y->dtype || !dan_shape_equal(&x->shape, &y->shape))
            return dan_fail(e, DAN_ESHAPE, "tensor '%s' is %s %s here and %s %s in what is loaded: use the options it was made with", name,
                            x->dtype->name, a, y->dtype->name, b);
    }
    for (size_t i = 0; i < dan_store_count(from); i++)
        if (!dan_store_find(into, dan_store_name(from, i)))
            return dan_fail(e, DAN_ESHAPE, "tensor '%s' is loaded but has no place here: use the options it was made with",
                            dan_store_name(from, i));
    return DAN_OK;
}

int dan_store_restore(struct dan_store *into, const struct dan_store *from, struct dan_err *e)
{
    int rc = check_same(into, from, e);
    for (size_t i = 0; i < dan_store_count(into) && !rc; i++) {
        struct dan_tensor *x = dan_store_at(into, i);
        const struct dan_tensor *y = dan_store_find(from, dan_store_name(into, i));
        size_t row = dan_dtype_bytes(x->dtype, dan_cols(x));
        for (int64_t k = 0; k < dan_rows(x); k++) memcpy(dan_row(x, k), dan_row(y, k), row);
    }
    return rc;
}
