/* Asking an open GGUF file for values. */
#include <math.h>
#include <string.h>
#include "core/half.h"
#include "io/gguf_impl.h"

bool dan_gguf_find(const struct dan_gguf *g, const char *key, struct dan_gguf_value *out)
{
    int64_t i;
    if (!dan_map_get(g->keys, key, strlen(key), &i)) return false;
    *out = g->key[i].value;
    return true;
}

static int64_t sign_extend(uint64_t v, size_t bytes)
{
    int unused = 64 - 8 * (int)bytes;
    int64_t s;
    v <<= unused;
    memcpy(&s, &v, sizeof s);
    return s >> unused;
}

static bool int_of(enum dan_gguf_type t, const char *p, int64_t *out)
{
    size_t n = dan_gguf_type_bytes(t);
    uint64_t v = dan_le(p, n);
    switch (t) {
    case DAN_GGUF_I8: case DAN_GGUF_I16: case DAN_GGUF_I32: case DAN_GGUF_I64: *out = sign_extend(v, n); return true;
    case DAN_GGUF_U8: case DAN_GGUF_U16: case DAN_GGUF_U32: case DAN_GGUF_U64: case DAN_GGUF_BOOL: *out = (int64_t)v; return v <= INT64_MAX;
    default: return false;
    }
}

static bool number_of(enum dan_gguf_type t, const char *p, double *out)
{
    int64_t i;
    uint64_t bits = dan_le(p, dan_gguf_type_bytes(t));
    if (t == DAN_GGUF_F32) *out = (double)dan_bits_float((uint32_t)bits);
    else if (t == DAN_GGUF_F64) memcpy(out, &bits, sizeof *out);
    else if (t == DAN_GGUF_U64) *out = (double)bits;
    else if (int_of(t, p, &i)) *out = (double)i;
    else return false;
    return true;
}

bool dan_gguf_int(const struct dan_gguf *g, const char *key, int64_t *out)
{
    struct dan_gguf_value v;
    return dan_gguf_find(g, key, &v) && int_of(v.type, v.data, out);
}

bool dan_gguf_number(const struct dan_gguf *g, const char *key, double *out)
{
    struct dan_gguf_value v;
    return dan_gguf_find(g, key, &v) && number_of(v.type, v.data, out);
}

bool dan_gguf_string(const struct dan_gguf *g, const char *key, struct dan_gguf_text *out)
{
    struct dan_gguf_value v;
    if (!dan_gguf_find(g, key, &v) || v.type != DAN_GGUF_STRING) return false;
    *out = (struct dan_gguf_text){v.data + 8, v.bytes - 8};
    return true;
}

bool dan_gguf_int_at(const struct dan_gguf_value *v, uint64_t i, int64_t *out)
{
    return v->type == DAN_GGUF_ARRAY && i < v->n && int_of(v->of, v->data + i * dan_gguf_type_bytes(v->of), out);
}

bool dan_gguf_number_at(const struct dan_gguf_value *v, uint64_t i, double *out)
{
    return v->type == DAN_GGUF_ARRAY && i < v->n && number_of(v->of, v->data + i * dan_gguf_type_bytes(v->of), out);
}

/* The lengths were checked when the file was opened. */
bool dan_gguf_next_string(const struct dan_gguf_value *v, size_t *at, struct dan_gguf_text *out)
{
    if (v->type != DAN_GGUF_ARRAY || v->of != DAN_GGUF_STRING || *at >= v->bytes) return false;
    size_t n = (size_t)dan_le(v->data + *at, 8);
    *out = (struct dan_gguf_text){v->data + *at + 8, n};
    *at += 8 + n;
    return true;
}

uint32_t dan_gguf_version(const struct dan_gguf *g) { return g->version; }
size_t dan_gguf_alignment(const struct dan_gguf *g) { return g->alignment; }
const char *dan_gguf_path(const struct dan_gguf *g) { return g->shard[0].path; }
size_t dan_gguf_n_keys(const struct dan_gguf *g) { return g->n_keys; }
size_t dan_gguf_n_tensors(const struct dan_gguf *g) { return g->n_tensors; }
const struct dan_gguf_tensor *dan_gguf_tensor(const struct dan_gguf *g, size_t i) { return &g->tensor[i]; }
const char *dan_gguf_tensor_path(const struct dan_gguf *g, size_t i) { return g->shard[g->of_shard[i]].path; }

size_t dan_gguf_file_bytes(const struct dan_gguf *g)
{
    size_t n = 0;
    for (size_t i = 0; i < g->n_shards; i++) n += g->shard[i].n;
    return n;
}

struct dan_gguf_text dan_gguf_key(const struct dan_gguf *g, size_t i, struct dan_gguf_value *value)
{
    if (value) *value = g->key[i].value;
    return g->key[i].key;
}
