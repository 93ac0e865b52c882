#include "quant/imatrix.h"
#include <limits.h>
#include <math.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for an importance matrix"); }

static int new_entry(struct dan_imatrix *m, const char *name, size_t length, int64_t k, struct dan_imatrix_entry **out, struct dan_err *e)
{
    if (dan_vec_grow(&m->v, &m->cap, m->n + 1, sizeof *m->v)) return no_memory(e);
    struct dan_imatrix_entry *x = &m->v[m->n];
    *x = (struct dan_imatrix_entry){.k = k, .rows = 1, .name = dan_calloc(length + 1, 1), .sums = dan_calloc((size_t)k + 1, sizeof(float))};
    m->n++;
    if (!x->name || !x->sums) return no_memory(e);
    memcpy(x->name, name, length);
    *out = x;
    return DAN_OK;
}

int dan_imatrix_add(struct dan_imatrix *m, const char *name, const double *squares, int64_t rows, int64_t k, struct dan_err *e)
{
    struct dan_imatrix_entry *x;
    int rc = new_entry(m, name, strlen(name), k, &x, e);
    if (!rc && rows > 0) x->rows = (double)rows;
    for (int64_t i = 0; i < k && !rc; i++) x->sums[i] = (float)squares[i];
    return rc;
}

const struct dan_imatrix_entry *dan_imatrix_find(const struct dan_imatrix *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++)
        if (!strcmp(m->v[i].name, name)) return &m->v[i];
    return NULL;
}

void dan_imatrix_release(struct dan_imatrix *m)
{
    for (size_t i = 0; i < m->n; i++) {
        dan_free(m->v[i].name);
        dan_free(m->v[i].sums);
    }
    dan_free(m->v);
    dan_free(m->text);
    *m = (struct dan_imatrix){0};
}

/* ---- reading ---- */

struct reader { const char *path, *p; size_t left; struct dan_err *e; };

static int cut(struct reader *r)
{
    return dan_fail(r->e, DAN_EFORMAT, "'%s' is no importance matrix, or ends too early; make one with llama-imatrix or --save-imatrix", r->path);
}

/* n bytes into out, or over them when it is NULL. */
static int take(struct reader *r, void *out, size_t n)
{
    if (n > r->left) return cut(r);
    if (out) memcpy(out, r->p, n);
    r->p += n;
    r->left -= n;
    return DAN_OK;
}

static int take_count(struct reader *r, int32_t least, int32_t *out)
{
    int rc = take(r, out, sizeof *out);
    return rc ? rc : *out < least ? cut(r) : DAN_OK;
}

int dan_imatrix_check(const struct dan_imatrix_entry *x, const char *path, struct dan_err *e)
{
    for (int64_t i = 0; i < x->k; i++)
        if (!isfinite(x->sums[i]) || x->sums[i] < 0)
            return dan_fail(e, DAN_EFORMAT, "'%s' in '%s' has the value %g at column %lld; mean squares are finite and not negative", x->name, path,
                            (double)dan_imatrix_mean(x, i), (long long)i);
    return DAN_OK;
}

static int read_entry(struct reader *r, struct dan_imatrix *m)
{
    int32_t length = 0, calls = 0, n = 0;
    struct dan_imatrix_entry *x = NULL;
    int rc = take_count(r, 1, &length);
    const char *name = r->p;
    if (!rc) rc = take(r, NULL, (size_t)length);
    if (!rc) rc = take_count(r, 0, &calls);
    if (!rc) rc = take_count(r, 0, &n);
    if (!rc && (size_t)n > r->left / sizeof(float)) rc = cut(r);
    if (!rc) rc = new_entry(m, name, (size_t)length, n, &x, r->e);
    if (!rc) rc = take(r, x->sums, (size_t)n * sizeof(float));
    if (!rc && calls > 0) x->rows = calls;
    return rc ? rc : dan_imatrix_check(x, r->path, r->e);
}

static int read_all(struct reader *r, struct dan_imatrix *m)
{
    int32_t entries = 0, length = 0;
    int rc = take_count(r, 1, &entries);
    for (int32_t i = 0; i < entries && !rc; i++) rc = read_entry(r, m);
    if (rc || r->left == 0) return rc;         /* the oldest end here */
    rc = take(r, &m->chunks, sizeof m->chunks);
    if (!rc) rc = take_count(r, 0, &length);
    if (!rc && (size_t)length > r->left) rc = cut(r);
    if (rc) return rc;
    m->text = dan_calloc((size_t)length + 1, 1);
    return m->text ? take(r, m->text, (size_t)length) : no_memory(r->e);
}

int dan_imatrix_load(const char *path, struct dan_imatrix *out, struct dan_err *e)
{
    struct dan_mapping map;
    *out = (struct dan_imatrix){0};
    int rc = dan_map_file(path, &map, e);
    if (rc) return rc;
    struct reader r = {.path = path, .p = map.p, .left = map.n, .e = e};
    bool gguf = map.n >= 4 && !memcmp(map.p, "GGUF", 4);
    if (!gguf) rc = read_all(&r, out);
    dan_unmap_file(&map);
    if (gguf) rc = dan_imatrix_load_gguf(path, out, e);
    if (rc) dan_imatrix_release(out);
    return rc;
}

/* ---- writing ---- */

static void put_i32(struct dan_str *s, int64_t x) { dan_str_append(s, &(int32_t){(int32_t)x}, sizeof(int32_t)); }

static void put_text(struct dan_str *s, const char *text)
{
    put_i32(s, (int64_t)strlen(text));
    dan_str_append(s, text, strlen(text));
}

int dan_imatrix_save(const struct dan_imatrix *m, const char *path, struct dan_err *e)
{
    struct dan_str s = {0};
    if (dan_str_ends(path, ".gguf")) return dan_imatrix_save_gguf(m, path, e);
    put_i32(&s, (int64_t)m->n);
    for (size_t i = 0; i < m->n; i++) {
        put_text(&s, m->v[i].name);
        put_i32(&s, 1);
        put_i32(&s, m->v[i].k);
        for (int64_t k = 0; k < m->v[i].k; k++) dan_str_append(&s, &(float){dan_imatrix_mean(&m->v[i], k)}, sizeof(float));
    }
    put_i32(&s, m->chunks);
    put_text(&s, m->text ? m->text : "");
    int rc = s.failed ? no_memory(e) : dan_write_file(path, s.p, s.n, e);
    dan_str_release(&s);
    return rc;
}
