#include "core/buffer.h"
#include <string.h>
#include "base/map.h"
#include "base/mem.h"

/* ---- counted buffers ---- */

enum { ALIGN = 64, HUGE_FROM = 64 << 10 };

static void release_huge(struct dan_buffer *b) { dan_huge_free(b->data, b->n_bytes); }
static void release_heap(struct dan_buffer *b) { dan_free(b->ctx); }

/* On failure the caller still owns `data`.  `release` frees what b->data and b->ctx mean, not b. */
int dan_buffer_wrap(void *data, size_t n_bytes, void (*release)(struct dan_buffer *), void *ctx,
                    struct dan_buffer **out, struct dan_err *e)
{
    struct dan_buffer *b = dan_malloc(sizeof *b);
    if (!b) return dan_fail(e, DAN_ENOMEM, "out of memory for a buffer; use a smaller model or batch");
    *b = (struct dan_buffer){.refs = 1, .n_bytes = n_bytes, .data = data, .release = release, .ctx = ctx};
    *out = b;
    return DAN_OK;
}

int dan_buffer_new(size_t n_bytes, struct dan_buffer **out, struct dan_err *e)
{
    bool huge = n_bytes >= HUGE_FROM;
    char *raw = huge ? dan_huge_alloc(n_bytes) : dan_calloc(n_bytes + ALIGN, 1);
    if (!raw)
        return dan_fail(e, DAN_ENOMEM, "out of memory for a buffer of %zu bytes; use a smaller model or batch", n_bytes);
    char *data = huge ? raw : raw + (ALIGN - (uintptr_t)raw % ALIGN) % ALIGN;
    int status = dan_buffer_wrap(data, n_bytes, huge ? release_huge : release_heap, raw, out, e);
    if (status == DAN_OK) return status;
    if (huge) dan_huge_free(raw, n_bytes);
    else dan_free(raw);
    return status;
}

/* Counted atomically: a server's threads share weights. */
struct dan_buffer *dan_buffer_keep(struct dan_buffer *b)
{
    if (b) __atomic_add_fetch(&b->refs, 1, __ATOMIC_RELAXED);
    return b;
}

void dan_buffer_drop(struct dan_buffer *b)
{
    if (!b || __atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL) > 0) return;
    if (b->release) b->release(b);
    dan_free(b);
}

/* ---- named tensors ---- */

struct item { const char *name; struct dan_tensor t; struct dan_buffer *b; bool bound; };

struct dan_store {
    struct dan_map *index;                         /* name -> number of the item; owns the names */
    struct item **item;                            /* apart, so that a found tensor stays where it is */
    size_t n, cap;
    struct dan_packs *packs;                       /* NULL: not asked for yet */
};

int dan_store_new(struct dan_store **out, struct dan_err *e)
{
    struct dan_store *s = dan_calloc(1, sizeof *s);
    if (s) s->index = dan_map_new();
    if (!s || !s->index) {
        dan_free(s);
        return dan_fail(e, DAN_ENOMEM, "out of memory for a parameter store; free some memory");
    }
    *out = s;
    return DAN_OK;
}

void dan_store_free(struct dan_store *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->n; i++) {
        dan_buffer_drop(s->item[i]->b);
        dan_free(s->item[i]);
    }
    dan_packs_drop(s->packs);
    dan_free(s->item);
    dan_map_free(s->index);
    dan_free(s);
}

static struct item *item_find(const struct dan_store *s, const char *name)
{
    int64_t i;
    return dan_map_get(s->index, name, strlen(name), &i) ? s->item[i] : NULL;
}

/* The map goes last: until it knows the name, nothing has changed. */
static struct item *item_new(struct dan_store *s, const char *name)
{
    if (dan_vec_grow(&s->item, &s->cap, s->n + 1, sizeof *s->item) != 0) return NULL;
    struct item *it = dan_calloc(1, sizeof *it);
    if (!it || dan_map_put(s->index, name, strlen(name), (int64_t)s->n) != 0) {
        dan_free(it);
        return NULL;
    }
    dan_map_at(s->index, s->n, &it->name, NULL, NULL);
    s->item[s->n++] = it;
    return it;
}

int dan_store_put(struct dan_store *s, const char *name, struct dan_tensor t, struct dan_buffer *b, struct dan_err *e)
{
    struct item *it = item_find(s, name);
    if (!it) it = item_new(s, name);
    if (!it) return dan_fail(e, DAN_ENOMEM, "out of memory for tensor '%s'; use a smaller model or batch", name);
    struct dan_buffer *old = it->b;
    it->t = t;
    it->b = dan_buffer_keep(b);
    dan_buffer_drop(old);
    return DAN_OK;
}

bool dan_store_bound(struct dan_store *s, const char *name, bool mark)
{
    struct item *it = item_find(s, name);
    if (it && mark) it->bound = true;
    return it && it->bound;
}

int dan_store_share(struct dan_store *s, const char *name, const struct dan_store *from, const char *from_name, struct dan_err *e)
{
    struct item *it = item_find(from, from_name);
    if (!it) return dan_fail(e, DAN_EINVAL, "there is no tensor '%s' to share", from_name);
    return dan_store_put(s, name, it->t, it->b, e);
}

/* Element count, or -1 when a dimension is negative, does not fill blocks, or all is too much. */
static int64_t checked_count(const struct dan_dtype *t, const struct dan_shape *s)
{
    int64_t n = 1, bytes;
    for (int i = 0; i < s->n; i++)
        if (s->d[i] < 0 || __builtin_mul_overflow(n, s->d[i], &n)) return -1;
    int64_t cols = s->n ? s->d[s->n - 1] : 1;
    return cols % t->block || __builtin_mul_overflow(n, (int64_t)t->bytes, &bytes) ? -1 : n;
}

int dan_store_add(struct dan_store *s, const char *name, const struct dan_dtype *t, struct dan_shape shape,
                  struct dan_err *e)
{
    char text[160];
    int64_t n = checked_count(t, &shape);
    dan_shape_text(&shape, text, sizeof text);
    if (n < 0)
        return dan_fail(e, DAN_ESHAPE, "bad shape %s for tensor '%s' of type %s; the last dimension must be a "
                        "multiple of %d and no dimension negative", text, name, t->name, t->block);
    struct dan_buffer *b;
    if (dan_buffer_new(dan_dtype_bytes(t, n), &b, NULL) != DAN_OK)
        return dan_fail(e, DAN_ENOMEM, "out of memory for tensor '%s' %s of type %s; use a smaller model or batch",
                        name, text, t->name);
    int status = dan_store_put(s, name, dan_tensor_of(t, shape, b->data), b, e);
    dan_buffer_drop(b);
    return status;
}

struct dan_tensor *dan_store_find(const struct dan_store *s, const char *name)
{
    struct item *it = item_find(s, name);
    return it ? &it->t : NULL;
}

size_t dan_store_count(const struct dan_store *s) { return s->n; }
const char *dan_store_name(const struct dan_store *s, size_t i) { return s->item[i]->name; }
struct dan_tensor *dan_store_at(const struct dan_store *s, size_t i) { return &s->item[i]->t; }

/* Tensor i lies in another, or is another's whole memory and not the first. */
static bool lies_in_another(const struct dan_store *s, size_t i)
{
    const struct dan_tensor *t = &s->item[i]->t;
    if (!t->data) return false;
    const char *from = t->data, *to = from + dan_tensor_bytes(t);
    for (size_t k = 0; k < s->n; k++) {
        const char *lo = s->item[k]->t.data, *hi = lo ? lo + dan_tensor_bytes(&s->item[k]->t) : NULL;
        if (k != i && lo && lo <= from && to <= hi && (hi - lo > to - from || k < i)) return true;
    }
    return false;
}

size_t dan_store_bytes(const struct dan_store *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) n += lies_in_another(s, i) ? 0 : dan_tensor_bytes(&s->item[i]->t);
    return n;
}

struct dan_packs *dan_store_packs(struct dan_store *s)
{
    if (!s->packs) s->packs = dan_packs_new();
    return s->packs;
}
