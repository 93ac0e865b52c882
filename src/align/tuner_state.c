#include "align/tuner_state.h"
#include <string.h>
#include "base/str.h"

struct gather { const struct dan_store *state, *weights; const char *prefix; struct dan_store *into; };

/* Shares `from`'s tensor FULL ("m:a+b+c") as PREFIX"m:a", PREFIX"m:b", ...: the rows of a joined weight follow one another.  at: its data. */
static int share_parts(const struct gather *g, const char *full, struct dan_err *e)
{
    const size_t kind = strcspn(full, ":") + 1;
    float *at = dan_store_find(g->state, full)->data;
    struct dan_str name = {0};
    int rc = DAN_OK;
    for (const char *p = full + kind; *p && !rc;) {
        size_t n = strcspn(p, "+"), skip = strlen(g->prefix) + kind;
        dan_str_clear(&name);
        dan_str_printf(&name, "%s%.*s%.*s", g->prefix, (int)kind, full, (int)n, p);
        const struct dan_tensor *w = name.failed ? NULL : dan_store_find(g->weights, dan_str_c(&name) + skip);
        rc = w             ? dan_store_share(g->into, dan_str_c(&name), g->state, full, e)
             : name.failed ? dan_fail(e, DAN_ENOMEM, "not enough memory for a name")
                           : dan_fail(e, DAN_EINVAL, "the tuner's state '%s' is of a weight that the model does not have; give the model that the tuner was made of", full);
        if (rc) break;
        int64_t count = dan_shape_count(&w->shape);
        *dan_store_find(g->into, dan_str_c(&name)) = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(count), at);
        at += count;
        p += n + (p[n] == '+');
    }
    dan_str_release(&name);
    return rc;
}

/* The weights of "a+b+c", each by its own name. */
static int share_weights(const struct gather *g, const char *names, struct dan_err *e)
{
    struct dan_str name = {0};
    int rc = DAN_OK;
    for (const char *p = names; *p && !rc;) {
        size_t n = strcspn(p, "+"), skip = strlen(g->prefix) + 2;
        dan_str_clear(&name);
        dan_str_printf(&name, "%sw:%.*s", g->prefix, (int)n, p);
        rc = name.failed ? dan_fail(e, DAN_ENOMEM, "not enough memory for a name")
                         : dan_store_share(g->into, dan_str_c(&name), g->weights, dan_str_c(&name) + skip, e);
        p += n + (p[n] == '+');
    }
    dan_str_release(&name);
    return rc;
}

/* Every parameter has a sum of gradients, which is empty between steps: it names the weights. */
int dan_tuner_gather(struct dan_tuner *t, const struct dan_lm *lm, const char *prefix, struct dan_store *into, struct dan_err *e)
{
    struct gather g = {dan_tuner_state(t), lm->store, prefix, into};
    int rc = DAN_OK;
    for (size_t i = 0; i < dan_store_count(g.state) && !rc; i++) {
        const char *name = dan_store_name(g.state, i);
        if (dan_str_starts(name, "sum:")) rc = share_weights(&g, name + strlen("sum:"), e);
        else rc = share_parts(&g, name, e);
    }
    return rc;
}
