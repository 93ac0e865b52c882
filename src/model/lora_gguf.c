/* Adapters as GGUF files, as llama.cpp reads and writes them. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "io/gguf.h"
#include "model/files_impl.h"
#include "model/lora_files.h"
#include "model/score.h"

bool dan_lora_is_gguf(const char *path)
{
    struct dan_gguf *g = NULL;
    struct dan_gguf_text type;
    bool is = dan_str_ends(path, ".gguf") && !dan_gguf_open(path, &g, NULL) && dan_gguf_string(g, "general.type", &type) && dan_gguf_text_is(type, "adapter");
    dan_gguf_close(g);
    return is;
}

/* ---- writing ---- */

struct saving { const struct dan_lm *lm; const struct dan_adapter *a; struct dan_gguf_named *list; char (*name)[DAN_LORA_NAME]; struct dan_store *made; size_t n; int64_t rank; };

static void scale_all(const struct dan_tensor *t, double by)
{
    for (int64_t k = 0; k < dan_shape_count(&t->shape); k++) ((float *)t->data)[k] = (float)(by * (double)((float *)t->data)[k]);
}

static int add_tensor(struct saving *s, const char *base, int which, const struct dan_tensor *t, const struct dan_edit *edit, double by, struct dan_err *e)
{
    char *name = s->name[s->n];
    snprintf(name, DAN_LORA_NAME, "%.480s.lora_%c", base, 'a' + which);
    if (edit->row || by != 1) {
        int rc = dan_copy_edited(s->made, name, t, edit, e);
        if (rc) return rc;
        t = dan_store_find(s->made, name);
        if (by != 1) scale_all(t, by);
    }
    s->list[s->n++] = (struct dan_gguf_named){name, t};
    return DAN_OK;
}

/* One alpha for all: where a rank differs from the first, B takes the quotient. */
static int add_pair(struct saving *s, const char *base, struct dan_err *e)
{
    const struct dan_tensor *a = dan_lora_part(s->lm, base, s->a->name, "lora_a"), *b = dan_lora_part(s->lm, base, s->a->name, "lora_b");
    struct dan_edit none = {0}, rows = {.to = &dan_dtype_f32};
    if (!strcmp(base, "token_embd.weight"))
        return dan_fail(e, DAN_EUNSUPPORTED, "the adapter changes '%s' as a head, which llama.cpp would apply to the embeddings too: merge it", base);
    if (!s->rank) s->rank = a->shape.d[0];
    if (s->lm->model->gguf_pairs && dan_is_rotary(base)) {
        rows.row = dan_row_of_halves;
        rows.d = s->lm->cfg.head_dim;
    }
    int rc = add_tensor(s, base, 0, a, &none, 1, e);
    return rc ? rc : add_tensor(s, base, 1, b, &rows, (double)a->shape.d[0] / (double)s->rank, e);
}

static int collect(struct saving *s, struct dan_err *e)
{
    char base[DAN_LORA_NAME];
    int rc = DAN_OK;
    for (size_t i = 0; i < dan_store_count(s->lm->store) && !rc; i++)
        if (dan_lora_base_of(dan_store_name(s->lm->store, i), s->a->name, base)) rc = add_pair(s, base, e);
    return rc;
}

static int write(const struct saving *s, const char *path, struct dan_err *e)
{
    struct dan_gguf_out *o = NULL;
    int rc = dan_gguf_out_new(&o, e);
    if (rc) return rc;
    dan_gguf_out_string(o, "general.architecture", s->lm->model->gguf_arch, strlen(s->lm->model->gguf_arch));
    dan_gguf_out_string(o, "general.type", "adapter", 7);
    dan_gguf_out_string(o, "general.name", s->a->name, strlen(s->a->name));
    dan_gguf_out_string(o, "adapter.type", "lora", 4);
    dan_gguf_out_f32(o, "adapter.lora.alpha", (float)(s->a->scale * (double)s->rank));
    rc = dan_gguf_out_write(o, path, s->list, s->n, e);
    dan_gguf_out_free(o);
    return rc;
}

int dan_lora_save_gguf(const struct dan_lm *lm, const char *name, const char *path, struct dan_err *e)
{
    size_t n = dan_store_count(lm->store);
    struct saving s = {.lm = lm, .a = dan_lora_find((struct dan_lm *)(uintptr_t)lm, name)};
    if (!s.a) return dan_fail(e, DAN_EINVAL, "there is no adapter '%s'", name);
    if (!lm->model->gguf_arch) return dan_fail(e, DAN_EUNSUPPORTED, "family '%s' has no GGUF form", lm->model->name);
    if (dan_lm_score_of(lm, name)) return dan_fail(e, DAN_EUNSUPPORTED, "the adapter has a head of its own, which has no form in GGUF: merge it (danlu finetune merge)");
    if (dan_lora_is_dora(lm, name)) return dan_fail(e, DAN_EUNSUPPORTED, "DoRA has no form in GGUF: merge the adapter (danlu finetune merge) and convert the model");
    s.list = dan_calloc(n + 1, sizeof *s.list);
    s.name = dan_calloc(n + 1, sizeof *s.name);
    int rc = s.list && s.name ? dan_store_new(&s.made, e) : dan_fail(e, DAN_ENOMEM, "not enough memory for an adapter");
    if (!rc) rc = collect(&s, e);
    if (!rc) rc = write(&s, path, e);
    dan_store_free(s.made);
    dan_free(s.list);
    dan_free(s.name);
    return rc;
}

/* ---- reading ---- */

static int check(const struct dan_lm *lm, const struct dan_gguf *g, double *alpha, struct dan_err *e)
{
    struct dan_gguf_text type = {0}, kind = {0}, arch = {0};
    const char *path = dan_gguf_path(g);
    dan_gguf_string(g, "general.type", &type);
    dan_gguf_string(g, "adapter.type", &kind);
    dan_gguf_string(g, "general.architecture", &arch);
    if (!dan_gguf_text_is(type, "adapter") || !dan_gguf_text_is(kind, "lora")) return dan_fail(e, DAN_EFORMAT, "'%s' is no LoRA adapter: general.type or adapter.type says otherwise", path);
    if (!lm->model->gguf_arch || !dan_gguf_text_is(arch, lm->model->gguf_arch))
        return dan_fail(e, DAN_EFORMAT, "'%s' is an adapter of architecture '%.*s', the model is '%s'", path, (int)(arch.n < 40 ? arch.n : 40), arch.p, lm->model->name);
    if (!dan_gguf_number(g, "adapter.lora.alpha", alpha) || !isfinite(*alpha)) return dan_fail(e, DAN_EFORMAT, "'%s' has no number 'adapter.lora.alpha'", path);
    return DAN_OK;
}

static int take(struct dan_lm *lm, const char *adapter, const char *name, const struct dan_tensor *t, struct dan_err *e)
{
    char base[DAN_LORA_NAME], ours[DAN_LORA_NAME];
    size_t n = strlen(name);
    bool is_b = dan_str_ends(name, ".lora_b");
    if (n >= 256 || (!is_b && !dan_str_ends(name, ".lora_a"))) return dan_fail(e, DAN_EUNSUPPORTED, "the adapter's tensor '%.80s' ends in neither .lora_a nor .lora_b", name);
    snprintf(base, sizeof base, "%.*s", (int)(n - strlen(".lora_a")), name);
    const struct dan_tensor *w = dan_store_find(lm->store, base);
    if (!w || w->shape.n != 2) return dan_fail(e, DAN_EFORMAT, "the model has no matrix '%s', which the adapter changes: is it an adapter of another model?", base);
    if (t->shape.n != 2 || t->shape.d[is_b ? 0 : 1] != w->shape.d[is_b ? 0 : 1])
        return dan_fail(e, DAN_ESHAPE, "'%s' does not fit the model's '%s' [%lld,%lld]: it is an adapter of another model", name, base, (long long)w->shape.d[0],
                        (long long)w->shape.d[1]);
    struct dan_edit edit = {.to = &dan_dtype_f32};
    if (is_b && lm->model->gguf_pairs && dan_is_rotary(base)) {
        edit.row = dan_row_of_pairs;
        edit.d = lm->cfg.head_dim;
    }
    snprintf(ours, sizeof ours, "%.255s@%s.lora_%c", base, adapter, is_b ? 'b' : 'a');
    return dan_copy_edited(lm->store, ours, t, &edit, e);
}

/* Pairs of one rank; llama.cpp's scale is alpha / the pair's own rank, ours that of the first. */
static int even_out(struct dan_lm *lm, const char *adapter, double alpha, double *scale, struct dan_err *e)
{
    int64_t first = 0, halves = 0;
    for (size_t i = 0; i < dan_store_count(lm->store); i++) {
        char base[DAN_LORA_NAME];
        halves += dan_lora_owns(dan_store_name(lm->store, i), adapter);
        if (!dan_lora_base_of(dan_store_name(lm->store, i), adapter, base)) continue;
        const struct dan_tensor *a = dan_lora_part(lm, base, adapter, "lora_a"), *b = dan_lora_part(lm, base, adapter, "lora_b");
        if (!b || b->shape.d[1] != a->shape.d[0]) return dan_fail(e, DAN_EFORMAT, "the adapter has no pair of one rank for '%s'", base);
        halves -= 2;
        if (!first) first = a->shape.d[0];
        if (a->shape.d[0] != first) scale_all(b, (double)first / (double)a->shape.d[0]);
    }
    if (!first || halves) return dan_fail(e, DAN_EFORMAT, "the adapter has lora_b without lora_a, or nothing at all");
    *scale = alpha / (double)first;
    return DAN_OK;
}

int dan_lora_load_gguf(struct dan_lm *lm, const char *path, const char *name, struct dan_err *e)
{
    struct dan_gguf *g = NULL;
    struct dan_store *file = NULL;
    double alpha = 0, scale = 0;
    int before = lm->n_adapters;
    int rc = dan_gguf_open(path, &g, e);
    if (!rc) rc = check(lm, g, &alpha, e);
    if (!rc) rc = dan_gguf_store(g, &file, e);
    if (!rc) rc = dan_lora_register(lm, name, 1, e);
    for (size_t i = 0; !rc && i < dan_store_count(file); i++) rc = take(lm, name, dan_store_name(file, i), dan_store_at(file, i), e);
    if (!rc) rc = even_out(lm, name, alpha, &scale, e);
    if (!rc) dan_lora_find(lm, name)->scale = scale;
    else if (lm->n_adapters > before) lm->n_adapters = before;
    dan_store_free(file);
    dan_gguf_close(g);
    return rc;
}
