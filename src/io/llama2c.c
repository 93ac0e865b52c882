#include "io/llama2c.h"
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "io/tensor_file.h"

enum { MAGIC = 0x616b3432, N_INTS = 7, HEADER = 256 };

/* The tensors of a file in their order.  Sizes by letter: C hidden, F ffn, Q heads D, K kv_heads D, V vocabulary, D head dim, T context;
 * cols 0: a vector.  skip: nobody reads it (tables of cosines).  norm: stays f32 in version 2. */
struct part { const char *name; char rows, cols; bool layers, skip, untied, norm; };
static const struct part legacy[] = {
    {"token_embd.weight", 'V', 'C', .layers = false}, {"blk.%d.attn_norm.weight", 'C', 0, .layers = true},
    {"blk.%d.attn_q.weight", 'Q', 'C', .layers = true}, {"blk.%d.attn_k.weight", 'K', 'C', .layers = true},
    {"blk.%d.attn_v.weight", 'K', 'C', .layers = true}, {"blk.%d.attn_output.weight", 'C', 'Q', .layers = true},
    {"blk.%d.ffn_norm.weight", 'C', 0, .layers = true}, {"blk.%d.ffn_gate.weight", 'F', 'C', .layers = true},
    {"blk.%d.ffn_down.weight", 'C', 'F', .layers = true}, {"blk.%d.ffn_up.weight", 'F', 'C', .layers = true},
    {"output_norm.weight", 'C', 0, .norm = true}, {"cosines", 'T', 'D', .skip = true}, {"output.weight", 'V', 'C', .untied = true}, {0},
};
static const struct part newer[] = {
    {"blk.%d.attn_norm.weight", 'C', 0, .layers = true, .norm = true}, {"blk.%d.ffn_norm.weight", 'C', 0, .layers = true, .norm = true},
    {"output_norm.weight", 'C', 0, .norm = true}, {"token_embd.weight", 'V', 'C', .layers = false},
    {"blk.%d.attn_q.weight", 'Q', 'C', .layers = true}, {"blk.%d.attn_k.weight", 'K', 'C', .layers = true},
    {"blk.%d.attn_v.weight", 'K', 'C', .layers = true}, {"blk.%d.attn_output.weight", 'C', 'Q', .layers = true},
    {"blk.%d.ffn_gate.weight", 'F', 'C', .layers = true}, {"blk.%d.ffn_down.weight", 'C', 'F', .layers = true},
    {"blk.%d.ffn_up.weight", 'F', 'C', .layers = true}, {"output.weight", 'V', 'C', .untied = true}, {0},
};

struct reader {
    const char *path, *p;
    size_t n, at;
    struct dan_llama2c h;
    struct dan_buffer *file;
    struct dan_store *store;                   /* NULL: only count */
    struct dan_err *e;
};

static int64_t int_at(const char *p) { return (int64_t)(int32_t)dan_le(p, 4); }

static const struct part *parts_of(const struct dan_llama2c *h) { return h->version ? newer : legacy; }

static int64_t size_of(const struct dan_llama2c *h, char letter)
{
    int64_t d = h->hidden / h->heads;
    switch (letter) {
    case 'C': return h->hidden;
    case 'F': return h->ffn;
    case 'Q': return h->heads * d;
    case 'K': return h->kv_heads * d;
    case 'V': return h->vocab;
    case 'T': return h->context;
    case 'D': return d;
    default: return 1;
    }
}

/* Limits keep products of two sizes and 8 bytes below 2^63. */
static bool sane(const struct dan_llama2c *h)
{
    const int64_t v[] = {h->hidden, h->ffn, h->layers, h->heads, h->kv_heads, h->vocab, h->context}, most = 1 << 24;
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
        if (v[i] < 1 || v[i] > most) return false;
    if (h->layers > 4096 || h->hidden % h->heads || h->heads % h->kv_heads || h->hidden / h->heads % 2) return false;
    return h->version < 2 || (h->group >= 1 && h->hidden % h->group == 0 && h->ffn % h->group == 0);
}

static void read_ints(struct dan_llama2c *h, const char *p)
{
    int64_t *const to[N_INTS] = {&h->hidden, &h->ffn, &h->layers, &h->heads, &h->kv_heads, &h->vocab, &h->context};
    for (int i = 0; i < N_INTS; i++) *to[i] = int_at(p + 4 * i);
}

static bool read_head(struct reader *r)
{
    struct dan_llama2c *h = &r->h;
    if (r->n < 4 * N_INTS) return false;
    if (dan_le(r->p, 4) != MAGIC) {
        read_ints(h, r->p);
        h->tied = h->vocab > 0;                /* the sign of the vocabulary says so */
        if (!h->tied) h->vocab = -h->vocab;
        r->at = 4 * N_INTS;
        return sane(h);
    }
    if (r->n < HEADER) return false;
    h->version = int_at(r->p + 4);
    read_ints(h, r->p + 8);
    h->tied = r->p[8 + 4 * N_INTS] != 0;
    if (h->version == 2) h->group = int_at(r->p + 9 + 4 * N_INTS);
    r->at = HEADER;
    return (h->version == 1 || h->version == 2) && sane(h);
}

static bool is_quantised(const struct reader *r, const struct part *p) { return r->h.version == 2 && !p->norm; }

static size_t bytes_of(const struct reader *r, const struct part *p)
{
    size_t count = (size_t)size_of(&r->h, p->rows) * (size_t)size_of(&r->h, p->cols);
    return is_quantised(r, p) ? count + count / (size_t)r->h.group * 4 : count * 4;
}

/* int8, then one f32 for each group. */
static int put_quantised(struct reader *r, const char *name, struct dan_shape shape, const char *q)
{
    int rc = dan_store_add(r->store, name, &dan_dtype_f32, shape, r->e);
    if (rc) return rc;
    float *out = dan_store_find(r->store, name)->data, scale;
    int64_t n = dan_shape_count(&shape);
    for (int64_t i = 0; i < n; i++) {
        memcpy(&scale, q + n + i / r->h.group * 4, 4);
        out[i] = scale * (float)(int8_t)q[i];
    }
    return DAN_OK;
}

static int put_one(struct reader *r, const struct part *p, int64_t layer)
{
    char name[96];
    const char *at = r->p + r->at;
    int64_t rows = size_of(&r->h, p->rows), cols = size_of(&r->h, p->cols);
    struct dan_shape shape = p->cols ? DAN_SHAPE(rows, cols) : DAN_SHAPE(rows);
    const char *mark = strstr(p->name, "%d");
    if (mark) snprintf(name, sizeof name, "%.*s%lld%s", (int)(mark - p->name), p->name, (long long)layer, mark + 2);
    else snprintf(name, sizeof name, "%s", p->name);
    if (is_quantised(r, p)) return put_quantised(r, name, shape, at);
    if ((uintptr_t)at % 4 == 0) return dan_store_put(r->store, name, dan_tensor_of(&dan_dtype_f32, shape, (void *)(uintptr_t)at), r->file, r->e);
    int rc = dan_store_add(r->store, name, &dan_dtype_f32, shape, r->e);
    if (!rc) memcpy(dan_store_find(r->store, name)->data, at, bytes_of(r, p));
    return rc;
}

static int too_short(struct reader *r, const struct part *p)
{
    return dan_fail(r->e, DAN_EFORMAT, "'%s' is no whole llama2.c checkpoint: '%s' would end after byte %zu, where the file does; fetch or "
                    "export it again", r->path, p->name, r->n);
}

static int walk(struct reader *r)
{
    for (const struct part *p = parts_of(&r->h); p->name; p++) {
        size_t bytes = bytes_of(r, p);
        if (p->untied && r->h.tied) continue;
        for (int64_t i = 0; i < (p->layers ? r->h.layers : 1); i++) {
            if (bytes > r->n - r->at) return too_short(r, p);
            int rc = r->store && !p->skip ? put_one(r, p, i) : DAN_OK;
            if (rc) return rc;
            r->at += bytes;
        }
    }
    if (r->at == r->n) return DAN_OK;
    return dan_fail(r->e, DAN_EFORMAT, "'%s' is no llama2.c checkpoint: %zu bytes follow the last tensor, which ends at byte %zu", r->path,
                    r->n - r->at, r->at);
}

static int read_file(struct reader *r)
{
    if (!read_head(r))
        return dan_fail(r->e, DAN_EFORMAT, "'%s' is no llama2.c checkpoint: its header does not hold the sizes of a model (versions 0 to 2)", r->path);
    return walk(r);
}

bool dan_llama2c_is(const char *path)
{
    struct dan_mapping m = {0};
    struct dan_err ignored = {0};
    if (dan_map_file(path, &m, &ignored)) return false;
    struct reader r = {.path = path, .p = m.p, .n = m.n, .e = &ignored};
    bool ok = (r.n >= 4 && dan_le(r.p, 4) == MAGIC) || read_file(&r) == DAN_OK;
    dan_unmap_file(&m);
    return ok;
}

int dan_llama2c_open(const char *path, struct dan_llama2c *head, struct dan_store **out, struct dan_err *e)
{
    struct reader r = {.path = path, .e = e};
    int rc = dan_map_buffer(path, &r.file, e);
    if (!rc) rc = dan_store_new(&r.store, e);
    if (!rc) {
        r.p = r.file->data;
        r.n = r.file->n_bytes;
        rc = read_file(&r);
    }
    dan_buffer_drop(r.file);
    if (rc) {
        dan_store_free(r.store);
        return rc;
    }
    *head = r.h;
    *out = r.store;
    return DAN_OK;
}
