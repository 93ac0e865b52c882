#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "io/gguf_impl.h"

enum { ALIGN = 32, KEYS_MAX = 65536, NAME_BYTES_MAX = 64 };     /* ggml's own reader takes names below 64 bytes */

struct dan_gguf_out {
    struct dan_str keys;                       /* as they go to the file */
    size_t n_keys, alignment;
    struct dan_map *seen;
    struct dan_err err;                        /* the first failure of an out_* call */
};

int dan_gguf_out_new(struct dan_gguf_out **out, struct dan_err *e)
{
    struct dan_gguf_out *o = dan_calloc(1, sizeof *o);
    if (o) o->seen = dan_map_new();
    if (!o || !o->seen) {
        dan_free(o);
        return dan_fail(e, DAN_ENOMEM, "out of memory for a GGUF file");
    }
    o->alignment = ALIGN;
    *out = o;
    return DAN_OK;
}

void dan_gguf_out_free(struct dan_gguf_out *o)
{
    if (!o) return;
    dan_map_free(o->seen);
    dan_str_release(&o->keys);
    dan_free(o);
}

static void put_le(struct dan_str *s, uint64_t v, int n)
{
    char b[8];
    for (int i = 0; i < n; i++) b[i] = (char)(v >> (8 * i));
    dan_str_append(s, b, (size_t)n);
}

static void put_text(struct dan_str *s, const char *p, size_t n)
{
    put_le(s, n, 8);
    dan_str_append(s, p, n);
}

/* The key and the type; false: it is there already, or too much. */
static bool begin(struct dan_gguf_out *o, const char *key, enum dan_gguf_type t)
{
    int64_t old;
    if (dan_map_get(o->seen, key, strlen(key), &old)) dan_fail(&o->err, DAN_EINVAL, "GGUF key '%s' is written twice", key);
    else if (o->n_keys >= KEYS_MAX) dan_fail(&o->err, DAN_EINVAL, "more than %d GGUF keys", KEYS_MAX);
    else if (dan_map_put(o->seen, key, strlen(key), 1)) dan_fail(&o->err, DAN_ENOMEM, "out of memory for GGUF key '%s'", key);
    if (o->err.code) return false;
    put_text(&o->keys, key, strlen(key));
    put_le(&o->keys, t, 4);
    o->n_keys++;
    return true;
}

static void begin_array(struct dan_gguf_out *o, enum dan_gguf_type of, uint64_t n)
{
    put_le(&o->keys, of, 4);
    put_le(&o->keys, n, 8);
}

static void set_alignment(struct dan_gguf_out *o, uint64_t a)
{
    if (a < 8 || a % 8 || a > 1 << 20) dan_fail(&o->err, DAN_EINVAL, "general.alignment %llu is no multiple of 8 up to 1048576", (unsigned long long)a);
    else o->alignment = (size_t)a;
}

void dan_gguf_out_raw(struct dan_gguf_out *o, const char *key, const struct dan_gguf_value *v)
{
    if (!begin(o, key, v->type)) return;
    if (v->type == DAN_GGUF_ARRAY) begin_array(o, v->of, v->n);
    if (v->type == DAN_GGUF_U32 && !strcmp(key, "general.alignment")) set_alignment(o, dan_le(v->data, 4));
    dan_str_append(&o->keys, v->data, v->bytes);
}

static void put_number(struct dan_gguf_out *o, const char *key, enum dan_gguf_type t, const void *v)
{
    dan_gguf_out_raw(o, key, &(struct dan_gguf_value){.type = t, .of = t, .n = 1, .data = v, .bytes = dan_gguf_type_bytes(t)});
}

/* Machines that danlu runs on are little-endian, as the file is. */
void dan_gguf_out_u32(struct dan_gguf_out *o, const char *key, uint32_t v) { put_number(o, key, DAN_GGUF_U32, &v); }
void dan_gguf_out_f32(struct dan_gguf_out *o, const char *key, float v) { put_number(o, key, DAN_GGUF_F32, &v); }

void dan_gguf_out_bool(struct dan_gguf_out *o, const char *key, bool v)
{
    char byte = v;
    put_number(o, key, DAN_GGUF_BOOL, &byte);
}

void dan_gguf_out_string(struct dan_gguf_out *o, const char *key, const char *p, size_t n)
{
    if (begin(o, key, DAN_GGUF_STRING)) put_text(&o->keys, p, n);
}

void dan_gguf_out_array(struct dan_gguf_out *o, const char *key, enum dan_gguf_type of, const void *v, size_t n)
{
    dan_gguf_out_raw(o, key, &(struct dan_gguf_value){.type = DAN_GGUF_ARRAY, .of = of, .n = n, .data = v, .bytes = n * dan_gguf_type_bytes(of)});
}

void dan_gguf_out_strings(struct dan_gguf_out *o, const char *key, const struct dan_gguf_text *v, size_t n)
{
    if (!begin(o, key, DAN_GGUF_ARRAY)) return;
    begin_array(o, DAN_GGUF_STRING, n);
    for (size_t i = 0; i < n; i++) put_text(&o->keys, v[i].p, v[i].n);
}

/* ---- the file ---- */

struct writing { const struct dan_gguf_out *o; const struct dan_gguf_named *list; size_t n; struct dan_str head; uint64_t n_data; };

static uint64_t round_up(uint64_t n, size_t to) { return (n + to - 1) / to * to; }

static int add_info(struct writing *w, struct dan_map *names, const struct dan_gguf_named *x, struct dan_err *e)
{
    int64_t old;
    const struct dan_tensor *t = x->t;
    if (t->dtype->gguf_id < 0) return dan_fail(e, DAN_EUNSUPPORTED, "GGUF has no type for tensor '%s' (%s); save it as f32", x->name, t->dtype->name);
    if (t->shape.n > 4) return dan_fail(e, DAN_EUNSUPPORTED, "tensor '%s' has %d dimensions; GGUF has 4", x->name, (int)t->shape.n);
    if (strlen(x->name) >= NAME_BYTES_MAX) return dan_fail(e, DAN_EUNSUPPORTED, "the name of tensor '%s' is longer than GGUF allows (63 bytes)", x->name);
    if (dan_map_get(names, x->name, strlen(x->name), &old)) return dan_fail(e, DAN_EINVAL, "two tensors are named '%s'", x->name);
    if (dan_map_put(names, x->name, strlen(x->name), 1)) return dan_fail(e, DAN_ENOMEM, "out of memory for tensor '%s'", x->name);
    put_text(&w->head, x->name, strlen(x->name));
    put_le(&w->head, (uint64_t)t->shape.n, 4);
    for (int i = t->shape.n - 1; i >= 0; i--) put_le(&w->head, (uint64_t)t->shape.d[i], 8);
    put_le(&w->head, (uint64_t)t->dtype->gguf_id, 4);
    put_le(&w->head, w->n_data, 8);
    w->n_data += round_up(dan_tensor_bytes(t), w->o->alignment);
    return DAN_OK;
}

static int make_head(struct writing *w, struct dan_err *e)
{
    struct dan_map *names = dan_map_new();
    int rc = names ? DAN_OK : dan_fail(e, DAN_ENOMEM, "out of memory for a GGUF file");
    dan_str_append(&w->head, "GGUF\3\0\0\0", 8);
    put_le(&w->head, w->n, 8);
    put_le(&w->head, w->o->n_keys, 8);
    dan_str_append(&w->head, dan_str_c(&w->o->keys), w->o->keys.n);
    for (size_t i = 0; i < w->n && !rc; i++) rc = add_info(w, names, &w->list[i], e);
    while (w->head.n % w->o->alignment && !w->head.failed) dan_str_putc(&w->head, '\0');
    dan_map_free(names);
    return !rc && w->head.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for a GGUF file") : rc;
}

static int put_padding(struct dan_writer *out, size_t n, struct dan_err *e)
{
    static const char zeros[64];
    int rc = DAN_OK;
    for (size_t k; n && !rc; n -= k) {
        k = n < sizeof zeros ? n : sizeof zeros;
        rc = dan_writer_put(out, zeros, k, e);
    }
    return rc;
}

static int put_all(struct dan_writer *out, void *ctx, struct dan_err *e)
{
    const struct writing *w = ctx;
    int rc = dan_writer_put(out, w->head.p, w->head.n, e);
    for (size_t i = 0; i < w->n && !rc; i++) {
        size_t n = dan_tensor_bytes(w->list[i].t);
        rc = dan_put_tensor(out, w->list[i].t, e);
        if (!rc) rc = put_padding(out, (size_t)round_up(n, w->o->alignment) - n, e);
    }
    return rc;
}

int dan_gguf_out_write(struct dan_gguf_out *o, const char *path, const struct dan_gguf_named *list, size_t n, struct dan_err *e)
{
    if (o->err.code) return dan_fail(e, o->err.code, "cannot write '%s': %s", path, o->err.msg);
    if (o->keys.failed) return dan_fail(e, DAN_ENOMEM, "out of memory writing '%s'", path);
    struct writing w = {.o = o, .list = list, .n = n};
    int rc = make_head(&w, e);
    if (!rc) rc = dan_check_space(path, (int64_t)(w.head.n + w.n_data), e);
    if (!rc) rc = dan_write_whole(path, put_all, &w, e);
    dan_str_release(&w.head);
    return rc;
}
