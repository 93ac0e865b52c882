/* Params and states by name from a store.  A name "a+b+c" (fuse_horizontal) joins rows: the parts
 * move into one contiguous tensor and the store's tensors become views of it, so loading,
 * saving and the optimiser go on seeing a, b, c. */
#include <stdio.h>
#include <string.h>
#include "exec/exec.h"
#include "exec/program.h"

/* Rows of t go into the joined tensor as they are: same type, same shape but for the first dimension. */
static bool same_rows(const struct dan_tensor *t, const struct dan_node *joined)
{
    bool ok = t->dtype == joined->dtype && t->shape.n == joined->shape.n;
    for (int i = 1; ok && i < t->shape.n; i++) ok = t->shape.d[i] == joined->shape.d[i];
    return ok;
}

static int check_parts(struct dan_store *s, const struct dan_node *node, struct dan_err *e)
{
    char name[256];
    const char *joined = node->name;
    const struct dan_shape *want = &node->shape;
    int64_t rows = 0;
    for (const char *p = joined; *p;) {
        size_t n = strcspn(p, "+");
        if (n >= sizeof name) return dan_fail(e, DAN_EINVAL, "the name '%.60s...' is too long", p);
        memcpy(name, p, n);
        name[n] = 0;
        const struct dan_tensor *t = dan_store_find(s, name);
        if (!t) return dan_fail(e, DAN_EFORMAT, "the weights have no tensor '%s'", name);
        if (dan_store_bound(s, name, false))
            return dan_fail(e, DAN_EINVAL,
                            "'%s' is in use by another program and cannot move into '%s'; bind the program that joins most first", name,
                            joined);
        if (!same_rows(t, node))
            return dan_fail(e, DAN_ESHAPE,
                            "'%s' has another type or row length than '%s', into which it should move; build the graph from these weights",
                            name, joined);
        rows += t->shape.d[0];
        p += n + (p[n] == '+');
    }
    return rows == want->d[0]
               ? DAN_OK
               : dan_fail(e, DAN_ESHAPE, "'%s' has %lld rows in all, expected %lld", joined, (long long)rows, (long long)want->d[0]);
}

static int move_parts(struct dan_store *s, const char *joined, char *to, struct dan_buffer *buf, struct dan_err *e)
{
    char name[256];
    for (const char *p = joined; *p;) {
        size_t n = strcspn(p, "+");
        memcpy(name, p, n);
        name[n] = 0;
        struct dan_tensor old = *dan_store_find(s, name), view = dan_tensor_of(old.dtype, old.shape, to);
        size_t row = dan_dtype_bytes(old.dtype, dan_cols(&old));
        for (int64_t r = 0; r < dan_rows(&old); r++) memcpy(to + (size_t)r * row, dan_row(&old, r), row);
        int rc = dan_store_put(s, name, view, buf, e);
        if (rc) return rc;
        to += (size_t)dan_rows(&old) * row;
        p += n + (p[n] == '+');
    }
    return DAN_OK;
}

static int join(struct dan_store *s, const struct dan_node *n, struct dan_err *e)
{
    struct dan_buffer *buf;
    struct dan_tensor t = dan_tensor_of(n->dtype, n->shape, NULL);
    int rc = check_parts(s, n, e);
    if (!rc) rc = dan_buffer_new(dan_tensor_bytes(&t), &buf, e);
    if (rc) return rc;
    t.data = buf->data;
    rc = move_parts(s, n->name, t.data, buf, e);
    if (!rc) rc = dan_store_put(s, n->name, t, buf, e);
    dan_buffer_drop(buf);
    return rc;
}

/* Parts of a joined tensor are in use with it. */
static void mark_bound(struct dan_store *s, const char *name)
{
    char part[256];
    dan_store_bound(s, name, true);
    for (const char *p = strchr(name, '+') && !dan_is_folded(name) ? name : ""; *p;) {
        size_t n = strcspn(p, "+");
        snprintf(part, sizeof part, "%.*s", (int)n, p);
        dan_store_bound(s, part, true);
        p += n + (p[n] == '+');
    }
}

int dan_bind_store(struct dan_program *p, struct dan_store *s, struct dan_err *e)
{
    for (int32_t i = 1; i < p->g.n; i++) {
        const struct dan_node *n = &p->g.node[i];
        if (!dan_op_is(n, "param") && !dan_op_is(n, "state")) continue;
        if (!dan_store_find(s, n->name) && (dan_is_folded(n->name) || strchr(n->name, '+'))) {
            int rc = dan_is_folded(n->name) ? dan_store_fold(s, n, e) : join(s, n, e);
            if (rc) return rc;
        }
        const struct dan_tensor *t = dan_store_find(s, n->name);
        if (!t && dan_op_is(n, "state") && p->unit[p->first_unit[i]].t.data) continue;
        if (!t) return dan_fail(e, DAN_EFORMAT, "the weights have no tensor '%s'", n->name);
        int rc = dan_bind(p, n->name, t, e);
        if (rc) return rc;
        mark_bound(s, n->name);
    }
    if (p->opts.pack) dan_program_pack(p, dan_store_packs(s));
    return DAN_OK;
}
