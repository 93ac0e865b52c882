#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/tensor_file.h"

enum { DATA_ALIGN = 64 };

enum part { WHOLE, INTS, SCALES, BYTES };      /* INTS and SCALES: of a q8_0 tensor; BYTES: blocks of another format */

struct saver {
    const char *path;
    const struct dan_named *list;
    size_t n;
    json_t *head;
    struct dan_str text;                       /* the padded header */
    int64_t n_data;
    struct dan_err *e;
};

static int fail_out_of_memory(struct saver *s) { return dan_fail(s->e, DAN_ENOMEM, "out of memory writing '%s'", s->path); }

static int64_t part_cols(const struct dan_tensor *t, enum part p)
{
    return p == SCALES ? dan_cols(t) / 32 : p == BYTES ? dan_cols(t) / t->dtype->block * t->dtype->bytes : dan_cols(t);
}

/* The file's dtype of a part and the bytes of one element; NULL: it has none. */
static const char *part_type(const struct dan_tensor *t, enum part p, int64_t *bytes)
{
    const struct dan_dtype *type = p == INTS ? &dan_dtype_i8 : p == SCALES ? &dan_dtype_f16 : t->dtype;
    *bytes = p == BYTES ? 1 : type->bytes;
    return p == BYTES ? "U8" : type->safetensors;
}

static int add_entry(struct saver *s, const char *name, const struct dan_tensor *t, enum part p)
{
    int64_t size;
    const char *type = part_type(t, p, &size);
    if (!type)
        return dan_fail(s->e, DAN_EUNSUPPORTED, "cannot write '%s': safetensors has no dtype for tensor '%s' (%s); save it as f32 or "
                        "as gguf", s->path, name, t->dtype->name);
    if (!strcmp(name, "__metadata__") || json_object_get(s->head, name))
        return dan_fail(s->e, DAN_EINVAL, "cannot write '%s': two entries would be named '%s'", s->path, name);
    json_t *shape = json_array();
    for (int i = 0; i < t->shape.n; i++) json_array_append_new(shape, json_integer(i + 1 < t->shape.n ? t->shape.d[i] : part_cols(t, p)));
    int64_t bytes = size * dan_rows(t) * part_cols(t, p);
    json_t *entry = json_pack("{s:s, s:o, s:[I,I]}", "dtype", type, "shape", shape, "data_offsets",
                              (json_int_t)s->n_data, (json_int_t)(s->n_data + bytes));
    s->n_data += bytes;
    return entry && !json_object_set_new(s->head, name, entry)
               ? DAN_OK : dan_fail(s->e, DAN_EINVAL, "cannot write '%s': the name of tensor '%s' is no UTF-8", s->path, name);
}

/* Adds the name to the metadata entry of its format, "danlu.q4_k": "NAME,NAME". */
static int list_name(struct saver *s, json_t *meta, const struct dan_named *x)
{
    char key[64];
    struct dan_str names = {0};
    if (strchr(x->name, ',')) return dan_fail(s->e, DAN_EINVAL, "cannot write '%s': tensor name '%s' has a comma", s->path, x->name);
    snprintf(key, sizeof key, "danlu.%s", x->t->dtype->name);
    const char *before = json_string_value(json_object_get(meta, key));
    dan_str_printf(&names, "%s%s%s", before ? before : "", before ? "," : "", x->name);
    int bad = names.failed || json_object_set_new(meta, key, json_string(names.p));
    dan_str_release(&names);
    return bad ? fail_out_of_memory(s) : DAN_OK;
}

static int add_tensor(struct saver *s, json_t *meta, const struct dan_named *x)
{
    if (x->t->dtype->block == 1) return add_entry(s, x->name, x->t, WHOLE);
    int rc = list_name(s, meta, x);
    if (rc || x->t->dtype != &dan_dtype_q8_0) return rc ? rc : add_entry(s, x->name, x->t, BYTES);
    struct dan_str scale = {0};
    dan_str_printf(&scale, "%s.scale", x->name);
    rc = add_entry(s, x->name, x->t, INTS);
    if (!rc) rc = add_entry(s, dan_str_c(&scale), x->t, SCALES);
    dan_str_release(&scale);
    return rc;
}

static int put_text(const char *text, size_t n, void *out)
{
    dan_str_append(out, text, n);
    return 0;
}

/* u64 length, JSON, spaces: the data begins 64-byte aligned. */
static int finish_head(struct saver *s)
{
    dan_str_append(&s->text, "\0\0\0\0\0\0\0", 8);
    int bad = json_dump_callback(s->head, put_text, &s->text, JSON_COMPACT);
    while (s->text.n % DATA_ALIGN && !s->text.failed) dan_str_putc(&s->text, ' ');
    if (bad || s->text.failed) return fail_out_of_memory(s);
    for (int i = 0; i < 8; i++) s->text.p[i] = (char)((s->text.n - 8) >> (8 * i));
    return DAN_OK;
}

static int make_head(struct saver *s, const struct dan_pair *meta, size_t n_meta)
{
    json_t *m = json_object();
    int bad = !(s->head = json_object()) || json_object_set_new(m, "format", json_string("pt")) ||
              json_object_set(s->head, "__metadata__", m);
    for (size_t i = 0; i < n_meta && !bad; i++) bad = json_object_set_new(m, meta[i].key, json_string(meta[i].value));
    int rc = bad ? dan_fail(s->e, DAN_EINVAL, "cannot write '%s': a metadata entry is no UTF-8 (or no memory is left)", s->path) : DAN_OK;
    for (size_t i = 0; i < s->n && !rc; i++) rc = add_tensor(s, m, &s->list[i]);
    if (!rc) rc = finish_head(s);
    json_decref(m);
    return rc;
}

/* One row of q8_0 blocks (f16 scale, 32 int8): its ints or its scales. */
static int put_quant_row(struct dan_writer *w, const char *row, int64_t cols, enum part p, struct dan_err *e)
{
    size_t from = p == INTS ? 2 : 0, n = p == INTS ? 32 : 2;
    int rc = DAN_OK;
    for (int64_t i = 0; i < cols / 32 && !rc; i++) rc = dan_writer_put(w, row + 34 * i + from, n, e);
    return rc;
}

static int put_quant(struct dan_writer *w, const struct dan_tensor *t, enum part p, struct dan_err *e)
{
    int rc = DAN_OK;
    for (int64_t r = 0; r < dan_rows(t) && !rc; r++) rc = put_quant_row(w, dan_row(t, r), dan_cols(t), p, e);
    return rc;
}

static int put_tensor(struct dan_writer *w, const struct dan_tensor *t, struct dan_err *e)
{
    if (t->dtype == &dan_dtype_q8_0) {
        int rc = put_quant(w, t, INTS, e);
        return rc ? rc : put_quant(w, t, SCALES, e);
    }
    return dan_put_tensor(w, t, e);
}

static int put_all(struct dan_writer *w, void *ctx, struct dan_err *e)
{
    const struct saver *s = ctx;
    int rc = dan_writer_put(w, s->text.p, s->text.n, e);
    for (size_t i = 0; i < s->n && !rc; i++) rc = put_tensor(w, s->list[i].t, e);
    return rc;
}

static int write_all(struct saver *s)
{
    int rc = dan_check_space(s->path, (int64_t)s->text.n + s->n_data, s->e);
    return rc ? rc : dan_write_whole(s->path, put_all, s, s->e);
}

static void saver_release(struct saver *s)
{
    json_decref(s->head);
    dan_str_release(&s->text);
}

int dan_safetensors_save_list(const char *path, const struct dan_named *list, size_t n,
                              const struct dan_pair *meta, size_t n_meta, struct dan_err *e)
{
    struct saver s = {.path = path, .list = list, .n = n, .e = e};
    int rc = make_head(&s, meta, n_meta);
    if (!rc) rc = write_all(&s);
    saver_release(&s);
    return rc;
}

/* NULL when out of memory. */
static struct dan_named *list_of(const struct dan_store *s)
{
    size_t n = dan_store_count(s);
    struct dan_named *list = dan_malloc((n + 1) * sizeof *list);
    for (size_t i = 0; i < n && list; i++) list[i] = (struct dan_named){dan_store_name(s, i), dan_store_at(s, i)};
    return list;
}

int dan_safetensors_save(const char *path, const struct dan_store *s, const struct dan_pair *meta, size_t n_meta, struct dan_err *e)
{
    struct dan_named *list = list_of(s);
    if (!list) return dan_fail(e, DAN_ENOMEM, "out of memory writing '%s'", path);
    int rc = dan_safetensors_save_list(path, list, dan_store_count(s), meta, n_meta, e);
    dan_free(list);
    return rc;
}

int64_t dan_safetensors_size(const struct dan_store *store, const struct dan_pair *meta, size_t n_meta)
{
    struct dan_named *list = list_of(store);
    struct saver s = {.path = "", .list = list, .n = list ? dan_store_count(store) : 0};
    int64_t n = list && make_head(&s, meta, n_meta) == DAN_OK ? (int64_t)s.text.n + s.n_data : 0;
    saver_release(&s);
    dan_free(list);
    return n;
}
