#include "model/lora.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "model/score.h"

enum { NAME = 256 };

struct dan_adapter *dan_lora_find(struct dan_lm *lm, const char *name)
{
    for (int i = 0; i < lm->n_adapters; i++)
        if (!strcmp(lm->adapter[i].name, name)) return &lm->adapter[i];
    return NULL;
}

const char *dan_lora_base_of(const char *tensor, const char *name, char base[DAN_LORA_NAME])
{
    const char *of;
    size_t of_n, n = dan_lora_base(tensor, &of, &of_n);
    if (!n || strlen(name) != of_n || strncmp(of, name, of_n) || strcmp(of + of_n, ".lora_a")) return NULL;
    snprintf(base, DAN_LORA_NAME, "%.*s", (int)n, tensor);
    return base;
}

size_t dan_lora_base(const char *tensor, const char **name, size_t *name_n)
{
    const char *at = strrchr(tensor, '@'), *dot = at ? strchr(at, '.') : NULL;
    if (!dot || strchr(tensor, '+')) return 0;  /* joined tensors show what is there already */
    *name = at + 1;
    *name_n = (size_t)(dot - at - 1);
    return (size_t)(at - tensor);
}

bool dan_lora_owns(const char *tensor, const char *name)
{
    const char *found;
    size_t n;
    return dan_lora_base(tensor, &found, &n) && strlen(name) == n && !strncmp(found, name, n);
}

int64_t dan_lora_params(const struct dan_lm *lm, const char *name)
{
    int64_t n = 0;
    for (size_t i = 0; i < dan_store_count(lm->store); i++)
        if (dan_lora_owns(dan_store_name(lm->store, i), name) && !dan_str_ends(dan_store_name(lm->store, i), ".dora_norm"))
            n += dan_shape_count(&dan_store_at(lm->store, i)->shape);
    return n;
}

int dan_lora_register(struct dan_lm *lm, const char *name, double scale, struct dan_err *e)
{
    size_t n = strlen(name);
    if (n == 0 || n >= sizeof lm->adapter[0].name || strpbrk(name, "@+.:/"))
        return dan_fail(e, DAN_EINVAL, "'%.40s' cannot name an adapter: use 1 to %zu characters other than @ + . : /", name, sizeof lm->adapter[0].name - 1);
    if (dan_lora_find(lm, name)) return dan_fail(e, DAN_EINVAL, "there is an adapter '%s' already; choose another name", name);
    if (lm->n_adapters == DAN_MAX_ADAPTERS)
        return dan_fail(e, DAN_EUNSUPPORTED, "a model takes %d adapters at once; merge one first", DAN_MAX_ADAPTERS);
    struct dan_adapter *a = &lm->adapter[lm->n_adapters++];
    *a = (struct dan_adapter){.scale = scale, .on = true};
    snprintf(a->name, sizeof a->name, "%s", name);
    return DAN_OK;
}

/* ---- targets ---- */

static const char *const attention[] = {"attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight", "attn_qkv.weight"};
static const char *const feed_forward[] = {"ffn_gate.weight", "ffn_up.weight", "ffn_down.weight"};

static bool is_one_of(const char *name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(name, list[i])) return true;
    return false;
}

/* "q_proj" is the last part but one of "model.layers.0.self_attn.q_proj.weight"; "self_attn.q_proj" fits, too. */
static bool ends_as(const char *full, const char *item, size_t n)
{
    size_t k = strlen(full);
    if (dan_str_ends(full, ".weight")) k -= strlen(".weight");
    return k >= n && !strncmp(full + k - n, item, n) && (k == n || full[k - n - 1] == '.');
}

static bool is_named(const struct dan_lm *lm, const char *ours, const char *item, size_t n)
{
    char hf[NAME];
    bool turned;
    bool head = lm->cfg.tied && !strcmp(ours, "token_embd.weight");        /* a product as the head alone */
    return ends_as(ours, item, n) || (dan_lm_hf_name(lm->model, ours, hf, sizeof hf, &turned) && ends_as(hf, item, n)) ||
           (head && dan_lm_hf_name(lm->model, "output.weight", hf, sizeof hf, &turned) && ends_as(hf, item, n));
}

static bool fits_item(const struct dan_lm *lm, const char *ours, bool in_layer, const char *local, const char *item, size_t n)
{
    if (n == 10 && !strncmp(item, "all-linear", n)) return in_layer;
    if (n == 4 && !strncmp(item, "attn", n)) return in_layer && is_one_of(local, attention, sizeof attention / sizeof *attention);
    if (n == 3 && !strncmp(item, "mlp", n)) return in_layer && is_one_of(local, feed_forward, sizeof feed_forward / sizeof *feed_forward);
    return is_named(lm, ours, item, n);
}

static bool is_target(const struct dan_lm *lm, const struct dan_lora_opts *o, const char *ours, const char *item, size_t n)
{
    int layer = -1, skip = 0;
    bool in_layer = sscanf(ours, "blk.%d.%n", &layer, &skip) == 1 && skip > 0;
    if (in_layer && (layer < o->first_layer || (o->last_layer >= 0 && layer > o->last_layer))) return false;
    return fits_item(lm, ours, in_layer, ours + skip, item, n);
}

static bool any_fits(const struct dan_lm *lm, const struct dan_lora_opts *o, const char *ours)
{
    for (const char *p = o->targets; *p; p += *p == ',') {
        size_t n = strcspn(p, ",");
        if (is_target(lm, o, ours, p, n)) return true;
        p += n;
    }
    return false;
}

/* ---- adding ---- */

static const char *tensor_name(char out[DAN_LORA_NAME], const char *base, const char *adapter, const char *which)
{
    snprintf(out, DAN_LORA_NAME, "%.255s@%s.%s", base, adapter, which);
    return out;
}

struct dan_tensor *dan_lora_part(const struct dan_lm *lm, const char *base, const char *adapter, const char *which)
{
    char name[DAN_LORA_NAME];
    return dan_store_find(lm->store, tensor_name(name, base, adapter, which));
}

static bool is_product_weight(const struct dan_graph *g, const char *name)
{
    dan_ref p = dan_leaf(g, name);
    for (int32_t i = 1; p && i < g->n; i++) {
        const struct dan_node *n = &g->node[i];
        if (dan_op_is(n, "matmul") && n->in[1] == p && n->attr[DAN_MATMUL_TB].i && !n->attr[DAN_MATMUL_TA].i) return true;
    }
    return false;
}

static int add_one(struct dan_lm *lm, const struct dan_lora_opts *o, const char *adapter, const char *base, struct dan_err *e)
{
    char name[DAN_LORA_NAME];
    const struct dan_tensor w = *dan_store_find(lm->store, base);
    int64_t out = w.shape.d[0], in = w.shape.d[1];
    if (o->rank > out || o->rank > in)
        return dan_fail(e, DAN_EINVAL, "rank %lld is more than '%s' has (%lld by %lld): lower --lora-rank", (long long)o->rank, base, (long long)out,
                        (long long)in);
    int rc = dan_store_add(lm->store, tensor_name(name, base, adapter, "lora_a"), &dan_dtype_f32, DAN_SHAPE(o->rank, in), e);
    if (rc) return rc;
    struct dan_rng r = {.seed = o->seed, .stream = dan_hash(name, strlen(name), 0)};
    float *a = dan_store_find(lm->store, name)->data;
    for (int64_t i = 0; i < o->rank * in; i++) a[i] = (float)((2 * dan_rng_uniform(&r) - 1) / sqrt((double)in));
    rc = dan_store_add(lm->store, tensor_name(name, base, adapter, "lora_b"), &dan_dtype_f32, DAN_SHAPE(out, o->rank), e);
    return rc || !o->dora ? rc : dan_lora_add_dora(lm, adapter, base, e);
}

static int no_target(const struct dan_lm *lm, const struct dan_graph *g, const char *targets, struct dan_err *e)
{
    struct dan_str list = {0};
    for (size_t i = 0; i < dan_store_count(lm->store) && list.n < 300; i++) {
        const char *name = dan_store_name(lm->store, i);
        if (!strncmp(name, "blk.0.", 6) && is_product_weight(g, name)) dan_str_printf(&list, "%s%.*s", list.n ? ", " : "", (int)(strlen(name) - 13), name + 6);
    }
    int rc = dan_fail(e, DAN_EINVAL, "no matrix of this model is a target '%s'; use all-linear, attn, mlp, or some of: %s", targets, dan_str_c(&list));
    dan_str_release(&list);
    return rc;
}

/* Every item has to name something: a misspelt one must not pass in silence. */
static int check_items(const struct dan_lm *lm, const struct dan_lora_opts *o, const struct dan_graph *g, struct dan_err *e)
{
    struct dan_lora_opts everywhere = *o;
    everywhere.first_layer = 0;
    everywhere.last_layer = -1;
    for (const char *p = o->targets; *p; p += *p == ',') {
        size_t n = strcspn(p, ","), found = 0;
        for (size_t i = 0; i < dan_store_count(lm->store); i++) {
            const char *name = dan_store_name(lm->store, i);
            found += is_product_weight(g, name) && is_target(lm, &everywhere, name, p, n);
        }
        char item[64];
        snprintf(item, sizeof item, "%.*s", (int)n, p);
        if (!found) return no_target(lm, g, item, e);
        p += n;
    }
    return DAN_OK;
}

static int add_all(struct dan_lm *lm, const struct dan_lora_opts *o, const char *adapter, const struct dan_graph *g, struct dan_err *e)
{
    size_t n = dan_store_count(lm->store), added = 0;
    int rc = check_items(lm, o, g, e);
    for (size_t i = 0; i < n && !rc; i++) {
        const char *name = dan_store_name(lm->store, i);
        if (strpbrk(name, "@+") || !is_product_weight(g, name) || !any_fits(lm, o, name)) continue;
        rc = add_one(lm, o, adapter, name, e);
        added++;
    }
    if (!rc && !added) rc = dan_fail(e, DAN_EINVAL, "layers %lld to %lld hold no target: the model has %lld", (long long)o->first_layer,
                                     (long long)o->last_layer, (long long)lm->cfg.layers);
    return rc;
}

int dan_lora_add(struct dan_lm *lm, const struct dan_lora_opts *o, struct dan_err *e)
{
    struct dan_graph *g = NULL;
    struct dan_io io = dan_lm_plain_io(lm);
    const char *name = o->name ? o->name : "default";
    if (o->rank < 1) return dan_fail(e, DAN_EINVAL, "rank %lld: use 1 or more", (long long)o->rank);
    int before = lm->n_adapters;
    int rc = dan_lora_register(lm, name, o->rslora ? o->alpha / sqrt((double)o->rank) : o->alpha / (double)o->rank, e);
    if (rc) return rc;
    lm->n_adapters = before;                   /* the graph without it */
    rc = dan_lm_graph(lm, &io, "", NULL, &g, e);
    if (!rc) rc = add_all(lm, o, name, g, e);
    if (!rc) lm->n_adapters = before + 1;
    if (!rc && o->dora) rc = dan_lora_set_magnitudes(lm, name, e);
    if (rc) lm->n_adapters = before;
    dan_graph_free(g);
    return rc;
}
