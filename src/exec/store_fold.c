/* Params that the pass fold_cbr asks for: made from the store's tensors when a program is bound, in double, rounded once.
 * The originals stay as they are, for saving and for programs that do not fold. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "exec/program.h"
#include "pass/fold.h"

struct parts { char name[DAN_FOLD_PARTS][256]; double eps; };

static int parse(const char *name, struct parts *p, struct dan_err *e)
{
    const char *at = strchr(name, ':') + 1;
    for (int k = 0; k < DAN_FOLD_PARTS; k++) {
        size_t n = strcspn(at, "|");
        if (n >= sizeof p->name[k] || !at[n]) return dan_fail(e, DAN_EINVAL, "the name '%.60s...' of a folded weight is damaged", name);
        memcpy(p->name[k], at, n);
        p->name[k][n] = 0;
        at += n + 1;
    }
    p->eps = strtod(at, NULL);
    return DAN_OK;
}

static double number(const struct dan_tensor *t, int64_t i)
{
    float f;
    if (t->dtype == &dan_dtype_f64) return ((const double *)t->data)[i];
    t->dtype->to_f32((const char *)t->data + i * t->dtype->bytes, &f, 1);
    return (double)f;
}

static void set_number(const struct dan_tensor *t, int64_t i, double v)
{
    float f = (float)v;
    if (t->dtype == &dan_dtype_f64) ((double *)t->data)[i] = v;
    else t->dtype->from_f32(&f, (char *)t->data + i * t->dtype->bytes, 1);
}

/* The tensors of the parts; absent ones stay NULL. */
static int find_parts(const struct dan_store *s, const struct parts *p, const struct dan_tensor **t, struct dan_err *e)
{
    for (int k = 0; k < DAN_FOLD_PARTS; k++) {
        t[k] = p->name[k][0] ? dan_store_find(s, p->name[k]) : NULL;
        if (p->name[k][0] && !t[k]) return dan_fail(e, DAN_EFORMAT, "the weights have no tensor '%s'", p->name[k]);
        if (t[k] && (t[k]->dtype->block != 1 || (k && dan_shape_count(&t[k]->shape) != t[0]->shape.d[0]) || !dan_tensor_contiguous(t[k])))
            return dan_fail(e, DAN_ESHAPE, "'%s' does not fit the channels of '%s'", p->name[k], p->name[0]);
    }
    return DAN_OK;
}

static struct dan_channel channel(const struct dan_tensor *const *t, int64_t i)
{
    return (struct dan_channel){.bias = t[DAN_FOLD_B] ? number(t[DAN_FOLD_B], i) : 0, .mean = number(t[DAN_FOLD_MEAN], i),
                                .var = number(t[DAN_FOLD_VAR], i), .gamma = t[DAN_FOLD_GAMMA] ? number(t[DAN_FOLD_GAMMA], i) : 1,
                                .beta = t[DAN_FOLD_BETA] ? number(t[DAN_FOLD_BETA], i) : 0};
}

bool dan_is_folded(const char *name)
{
    return strncmp(name, DAN_FOLD_WEIGHT, strlen(DAN_FOLD_WEIGHT)) == 0 || strncmp(name, DAN_FOLD_BIAS, strlen(DAN_FOLD_BIAS)) == 0;
}

int dan_store_fold(struct dan_store *s, const struct dan_node *n, struct dan_err *e)
{
    const struct dan_tensor *t[DAN_FOLD_PARTS];
    struct parts p;
    int rc = parse(n->name, &p, e);
    if (!rc) rc = find_parts(s, &p, t, e);
    if (!rc) rc = dan_store_add(s, n->name, n->dtype, n->shape, e);
    if (!rc) rc = find_parts(s, &p, t, e);     /* the store's array may have moved */
    if (rc) return rc;
    const struct dan_tensor *y = dan_store_find(s, n->name);
    bool bias = strncmp(n->name, DAN_FOLD_BIAS, strlen(DAN_FOLD_BIAS)) == 0;
    int64_t channels = t[DAN_FOLD_W]->shape.d[0], each = channels ? dan_shape_count(&t[DAN_FOLD_W]->shape) / channels : 0;
    for (int64_t i = 0; i < channels; i++) {
        struct dan_channel c = channel(t, i);
        double scale = dan_fold_scale(&c, p.eps);
        if (bias) set_number(y, i, dan_fold_bias(&c, p.eps));
        for (int64_t k = 0; k < each && !bias; k++) set_number(y, i * each + k, scale * number(t[DAN_FOLD_W], i * each + k));
    }
    return DAN_OK;
}
