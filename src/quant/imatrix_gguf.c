/* Importance matrices as llama.cpp keeps them since 2025: a GGUF file with two tensors for each product, sums of squares and rows. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "io/gguf.h"
#include "quant/imatrix.h"

#define SUMS ".in_sum2"
#define COUNTS ".counts"
enum { NAME = 64 };                            /* ggml's names are shorter */

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for an importance matrix"); }

/* ---- reading ---- */

static const struct dan_tensor *rows_of(const struct dan_store *s, const char *name, size_t stem)
{
    char full[2 * NAME];
    snprintf(full, sizeof full, "%.*s" COUNTS, (int)stem, name);
    return dan_store_find(s, full);
}

/* Of a mixture of experts every expert has its own rows; one that never ran counts as 1, as in llama.cpp. */
static int read_pair(struct dan_imatrix *m, const char *path, const char *name, size_t stem, const struct dan_tensor *sums,
                     const struct dan_tensor *counts, struct dan_err *e)
{
    int64_t k = dan_shape_count(&sums->shape), n = counts ? dan_shape_count(&counts->shape) : 0;
    char of[NAME];
    snprintf(of, sizeof of, "%.*s", (int)stem, name);
    if (n < 1 || k % n || sums->dtype != &dan_dtype_f32 || counts->dtype != &dan_dtype_f32)
        return dan_fail(e, DAN_EFORMAT, "'%s' of '%s' has %lld sums of squares and %lld counts of rows; both must be f32, a count for every matrix", of, path,
                        (long long)k, (long long)n);
    double *squares = dan_malloc((size_t)(k + 1) * sizeof *squares);
    if (!squares) return no_memory(e);
    const float *x = sums->data, *rows = counts->data;
    bool one = n == 1 && rows[0] >= 1 && rows[0] < 1e15f;
    for (int64_t i = 0; i < k; i++) squares[i] = one ? (double)x[i] : rows[i / (k / n)] > 0 ? (double)x[i] / (double)rows[i / (k / n)] : 1;
    int rc = dan_imatrix_add(m, of, squares, one ? (int64_t)rows[0] : 1, k, e);
    dan_free(squares);
    return rc ? rc : dan_imatrix_check(&m->v[m->n - 1], path, e);
}

static int read_keys(const struct dan_gguf *g, struct dan_imatrix *m, struct dan_err *e)
{
    struct dan_gguf_value list;
    struct dan_gguf_text text;
    int64_t chunks = 0;
    size_t at = 0;
    m->chunks = dan_gguf_int(g, "imatrix.chunk_count", &chunks) && chunks > 0 && chunks < INT32_MAX ? (int32_t)chunks : 0;
    if (!dan_gguf_find(g, "imatrix.datasets", &list) || list.type != DAN_GGUF_ARRAY || list.of != DAN_GGUF_STRING) return DAN_OK;
    if (!dan_gguf_next_string(&list, &at, &text)) return DAN_OK;
    m->text = dan_calloc(text.n + 1, 1);
    if (!m->text) return no_memory(e);
    memcpy(m->text, text.p, text.n);
    return DAN_OK;
}

static int check_type(const struct dan_gguf *g, const char *path, struct dan_err *e)
{
    struct dan_gguf_text type = {.p = "", .n = 0};
    dan_gguf_string(g, "general.type", &type);
    if (dan_gguf_text_is(type, "imatrix")) return DAN_OK;
    return dan_fail(e, DAN_EFORMAT, "'%s' is a GGUF file of type '%.*s', not an importance matrix; make one with llama-imatrix or --save-imatrix", path,
                    (int)(type.n < 40 ? type.n : 40), type.p);
}

static int read_tensors(const struct dan_gguf *g, const char *path, struct dan_imatrix *m, struct dan_err *e)
{
    struct dan_store *s = NULL;
    int rc = dan_gguf_store(g, &s, e);
    for (size_t i = 0; !rc && i < dan_store_count(s); i++) {
        const char *name = dan_store_name(s, i);
        size_t n = strlen(name);
        if (!dan_str_ends(name, SUMS) || n >= NAME) continue;
        rc = read_pair(m, path, name, n - strlen(SUMS), dan_store_at(s, i), rows_of(s, name, n - strlen(SUMS)), e);
    }
    dan_store_free(s);
    if (!rc && !m->n) rc = dan_fail(e, DAN_EFORMAT, "'%s' holds no sums of squares (NAME" SUMS "): it is an empty importance matrix", path);
    return rc;
}

int dan_imatrix_load_gguf(const char *path, struct dan_imatrix *out, struct dan_err *e)
{
    struct dan_gguf *g = NULL;
    int rc = dan_gguf_open(path, &g, e);
    if (!rc) rc = check_type(g, path, e);
    if (!rc) rc = read_keys(g, out, e);
    if (!rc) rc = read_tensors(g, path, out, e);
    dan_gguf_close(g);
    return rc;
}

/* ---- writing ---- */

static int add(struct dan_store *s, const char *name, const char *suffix, struct dan_shape shape, float **out, struct dan_err *e)
{
    char full[2 * NAME];
    if (strlen(name) + strlen(suffix) >= NAME) return dan_fail(e, DAN_EINVAL, "the name '%s' is too long for a GGUF file", name);
    snprintf(full, sizeof full, "%s%s", name, suffix);
    int rc = dan_store_add(s, full, &dan_dtype_f32, shape, e);
    if (!rc) *out = dan_store_find(s, full)->data;
    return rc;
}

static int fill(struct dan_store *s, const struct dan_imatrix *m, struct dan_err *e)
{
    int rc = DAN_OK;
    for (size_t i = 0; i < m->n && !rc; i++) {
        const struct dan_imatrix_entry *x = &m->v[i];
        float *sums = NULL, *count = NULL;
        rc = add(s, x->name, SUMS, DAN_SHAPE(1, x->k), &sums, e);
        if (!rc) rc = add(s, x->name, COUNTS, DAN_SHAPE(1, 1), &count, e);
        if (rc) break;
        memcpy(sums, x->sums, (size_t)x->k * sizeof *sums);
        *count = (float)x->rows;
    }
    return rc;
}

static void put_keys(struct dan_gguf_out *o, const struct dan_imatrix *m)
{
    const struct dan_gguf_text text = {m->text ? m->text : "", m->text ? strlen(m->text) : 0};
    double rows = m->n && m->chunks > 0 ? m->v[0].rows / m->chunks : 0;
    dan_gguf_out_string(o, "general.type", "imatrix", strlen("imatrix"));
    dan_gguf_out_strings(o, "imatrix.datasets", &text, 1);
    dan_gguf_out_u32(o, "imatrix.chunk_count", m->chunks > 0 ? (uint32_t)m->chunks : 0);
    dan_gguf_out_u32(o, "imatrix.chunk_size", rows > 0 && rows < 1e9 ? (uint32_t)rint(rows) : 0);
}

int dan_imatrix_save_gguf(const struct dan_imatrix *m, const char *path, struct dan_err *e)
{
    struct dan_store *s = NULL;
    struct dan_gguf_out *o = NULL;
    struct dan_gguf_named *list = dan_calloc(2 * m->n + 1, sizeof *list);
    int rc = list ? dan_store_new(&s, e) : no_memory(e);
    if (!rc) rc = fill(s, m, e);
    if (!rc) rc = dan_gguf_out_new(&o, e);
    if (!rc) put_keys(o, m);
    size_t n = rc ? 0 : dan_store_count(s);
    for (size_t i = 0; i < n; i++) list[i] = (struct dan_gguf_named){dan_store_name(s, i), dan_store_at(s, i)};
    if (!rc) rc = dan_gguf_out_write(o, path, list, n, e);
    dan_gguf_out_free(o);
    dan_store_free(s);
    dan_free(list);
    return rc;
}
