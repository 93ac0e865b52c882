#include "core/tensor.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "base/err.h"

struct dan_shape dan_shape_of(const int64_t *d, int n)
{
    DAN_ASSERT(n >= 0 && n <= DAN_MAX_DIMS);
    struct dan_shape s = {.n = n};
    for (int i = 0; i < n; i++) s.d[i] = d[i];
    return s;
}

bool dan_shape_equal(const struct dan_shape *a, const struct dan_shape *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->d, b->d, (size_t)a->n * sizeof *a->d) == 0);
}

bool dan_shape_fits(const struct dan_shape *s)
{
    int64_t n = 1;
    for (int i = 0; i < s->n; i++) {
        int64_t d = s->d[i] ? s->d[i] : 1;
        if (d < 0 || __builtin_mul_overflow(n, d, &n) || n >= (int64_t)1 << 48) return false;
    }
    return true;
}

int64_t dan_shape_count(const struct dan_shape *s)
{
    int64_t n = 1;
    for (int i = 0; i < s->n; i++) n *= s->d[i];
    return n;
}

/* Returns the whole text's length, as snprintf does. */
size_t dan_shape_text(const struct dan_shape *s, char *out, size_t n)
{
    char text[DAN_MAX_DIMS * 21 + 3] = "[";
    size_t at = 1;
    for (int i = 0; i < s->n; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%" PRId64, i ? "," : "", s->d[i]);
    text[at++] = ']';
    text[at] = 0;
    return (size_t)snprintf(out, n, "%s", text);
}

struct dan_tensor dan_tensor_of(const struct dan_dtype *t, struct dan_shape s, void *data)
{
    struct dan_tensor x = {.dtype = t, .shape = s, .data = data};
    if (s.n == 0) return x;
    x.stride[s.n - 1] = t->bytes;
    int64_t row = (int64_t)dan_dtype_bytes(t, s.d[s.n - 1]);
    for (int i = s.n - 2; i >= 0; i--) {
        x.stride[i] = row;
        row *= s.d[i];
    }
    return x;
}

/* A dimension of size 1 is never stepped over, so its stride does not matter. */
bool dan_tensor_contiguous(const struct dan_tensor *t)
{
    if (dan_shape_count(&t->shape) == 0) return true;
    int64_t row = (int64_t)dan_dtype_bytes(t->dtype, dan_cols(t));
    for (int i = t->shape.n - 2; i >= 0; i--) {
        if (t->shape.d[i] != 1 && t->stride[i] != row) return false;
        row *= t->shape.d[i];
    }
    return true;
}

size_t dan_tensor_bytes(const struct dan_tensor *t)
{
    return (size_t)dan_rows(t) * dan_dtype_bytes(t->dtype, dan_cols(t));
}
