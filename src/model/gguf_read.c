/* GGUF files as models: keys to a family's config, tensors to its params. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "io/gguf.h"
#include "model/files_impl.h"

struct reading { const struct dan_gguf *g; struct dan_lm *lm; char arch[64]; struct dan_err *e; };

static void arch_key(const struct reading *r, const char *name, char out[160]) { snprintf(out, 160, "%s.%s", r->arch, name); }

/* "llama" is LLaMA without a window and Mistral with one. */
static bool has_window(const struct dan_model *m)
{
    for (const struct dan_field *f = m->fields; f->hf; f++)
        if (f->type == 'w') return true;
    return false;
}

static int find_family(struct reading *r)
{
    struct dan_gguf_text arch;
    struct dan_str list = {0};
    if (!dan_gguf_string(r->g, "general.architecture", &arch) || arch.n >= sizeof r->arch)
        return dan_fail(r->e, DAN_EFORMAT, "'general.architecture' is missing in '%s': it is no model", dan_gguf_path(r->g));
    snprintf(r->arch, sizeof r->arch, "%.*s", (int)arch.n, arch.p);
    char key[160];
    int64_t width = 0;
    arch_key(r, "attention.sliding_window", key);
    bool windowed = dan_gguf_int(r->g, key, &width) && width > 0;
    for (int i = 0; dan_models[i]; i++) {
        const char *name = dan_models[i]->gguf_arch;
        if (!name) continue;
        if (!strcmp(name, r->arch) && (!r->lm->model || has_window(dan_models[i]) == windowed)) r->lm->model = dan_models[i];
        dan_str_printf(&list, "%s%s", list.n ? ", " : "", name);
    }
    int rc = r->lm->model ? DAN_OK : dan_fail(r->e, DAN_EUNSUPPORTED, "architecture '%s' of '%s' is not supported; danlu runs GGUF files of: %s", r->arch,
                                              dan_gguf_path(r->g), dan_str_c(&list));
    dan_str_release(&list);
    return rc;
}

/* The i-th of "a|b|c". */
static bool alternative(const char *list, int i, char out[96])
{
    for (; i > 0; i--) {
        list = strchr(list, '|');
        if (!list++) return false;
    }
    snprintf(out, 96, "%.*s", (int)strcspn(list, "|"), list);
    return true;
}

static bool find_field(const struct reading *r, const char *names, char key[160], struct dan_gguf_value *v)
{
    char name[96];
    for (int i = 0; alternative(names, i, name); i++) {
        arch_key(r, name, key);
        if (dan_gguf_find(r->g, key, v)) return true;
    }
    return false;
}

/* A list has one number for each layer: all must be the same. */
static bool same_everywhere(const struct dan_gguf_value *v, int64_t *out)
{
    int64_t x;
    for (uint64_t i = 0; i < v->n; i++) {
        if (!dan_gguf_int_at(v, i, &x) || (i && x != *out)) return false;
        *out = x;
    }
    return v->n > 0;
}

/* The shortest decimal that is this float: 1e-05, not 9.99999974737875e-06, as other files of the model have it. */
static double plain_decimal(double v)
{
    char s[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, v);
        if ((float)strtod(s, NULL) == (float)v) return strtod(s, NULL);
    }
    return v;
}

static int set_int(struct reading *r, const char *key, const struct dan_gguf_value *v, void *at)
{
    int64_t x = 0;
    bool ok = v->type == DAN_GGUF_ARRAY ? same_everywhere(v, &x) : dan_gguf_int(r->g, key, &x);
    if (!ok && v->type == DAN_GGUF_ARRAY)
        return dan_fail(r->e, DAN_EUNSUPPORTED, "'%s' of '%s' differs between layers, which is not supported", key, dan_gguf_path(r->g));
    if (!ok) return dan_fail(r->e, DAN_EFORMAT, "bad value of '%s' in '%s': expected an integer", key, dan_gguf_path(r->g));
    memcpy(at, &x, sizeof x);
    return DAN_OK;
}

static int set_number(struct reading *r, const char *key, const struct dan_gguf_value *v, void *at)
{
    double x;
    if (!dan_gguf_number(r->g, key, &x)) return dan_fail(r->e, DAN_EFORMAT, "bad value of '%s' in '%s': expected a number", key, dan_gguf_path(r->g));
    if (v->type == DAN_GGUF_F32) x = plain_decimal(x);
    memcpy(at, &x, sizeof x);
    return DAN_OK;
}

static int set_bool(struct reading *r, const char *key, void *at)
{
    int64_t x;
    if (!dan_gguf_int(r->g, key, &x)) return dan_fail(r->e, DAN_EFORMAT, "bad value of '%s' in '%s': expected true or false", key, dan_gguf_path(r->g));
    bool b = x != 0;
    memcpy(at, &b, sizeof b);
    return DAN_OK;
}

static int read_field(struct reading *r, const struct dan_field *f)
{
    char key[160];
    struct dan_gguf_value v;
    void *at = (char *)&r->lm->cfg + f->offset;
    if (find_field(r, f->hf, key, &v))
        return f->type == 'i' ? set_int(r, key, &v, at) : f->type == 'f' ? set_number(r, key, &v, at) : set_bool(r, key, at);
    if (f->dflt.i == INT64_MIN)
        return dan_fail(r->e, DAN_EFORMAT, "'%s.%s' is missing in '%s': the model cannot be built without it", r->arch, f->hf, dan_gguf_path(r->g));
    bool b = f->dflt.i != 0;
    if (f->type == 'b') memcpy(at, &b, sizeof b);
    else memcpy(at, &f->dflt, sizeof f->dflt);
    return DAN_OK;
}

/* Keys that change the arithmetic and that no family reads; `off`: the value that changes nothing. */
static const struct { const char *key; double off; } rules[] = {
    {"expert_count", 0}, {"logit_scale", 1}, {"residual_scale", 1}, {"embedding_scale", 1}, {"attention.scale", 0}, {"attn_logit_softcapping", 0},
    {"final_logit_softcapping", 0}, {"attention.max_alibi_bias", 0}, {"attention.clamp_kqv", 0},
    {"use_parallel_residual", 0}, {"attention.causal", 1}, {"pooling_type", 0}, {"rope.scaling.yarn_log_multiplier", 0},
};

static bool is_field(const struct dan_field *fields, const char *key)
{
    char name[96];
    for (const struct dan_field *f = fields; f->hf; f++)
        for (int i = 0; alternative(f->hf, i, name); i++)
            if (!strcmp(name, key)) return true;
    return false;
}

static int check_rules(struct reading *r)
{
    char key[160];
    double v;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        arch_key(r, rules[i].key, key);
        if (!is_field(r->lm->model->gguf, rules[i].key) && dan_gguf_number(r->g, key, &v) && v != rules[i].off)
            return dan_fail(r->e, DAN_EUNSUPPORTED, "unsupported '%s' (%g) in '%s': it changes the arithmetic of the model", key, v, dan_gguf_path(r->g));
    }
    return DAN_OK;
}

static int64_t token_of(const struct reading *r, const char *key)
{
    int64_t id;
    return dan_gguf_int(r->g, key, &id) && id >= 0 && id < INT32_MAX ? id : -1;
}

/* What no family's table has. */
static int read_common(struct reading *r, const struct dan_store *file)
{
    struct dan_lm_config *c = &r->lm->cfg;
    const struct dan_tensor *table = dan_store_find(file, "token_embd.weight");
    if (!table || table->shape.n != 2)
        return dan_fail(r->e, DAN_EFORMAT, "'%s' has no table of tokens ('token_embd.weight'): it is a vocabulary or a part of a model", dan_gguf_path(r->g));
    c->vocab = table->shape.d[0];
    c->tied = !dan_store_find(file, "output.weight");
    c->qkv_bias = dan_store_find(file, "blk.0.attn_q.bias") != NULL;
    c->bias = c->out_bias = dan_store_find(file, "blk.0.attn_output.bias") != NULL;
    c->mlp_bias = dan_store_find(file, "blk.0.ffn_up.bias") != NULL;
    c->bos = token_of(r, "tokenizer.ggml.bos_token_id");
    c->eos = token_of(r, "tokenizer.ggml.eos_token_id");
    c->pad = token_of(r, "tokenizer.ggml.padding_token_id");
    return DAN_OK;
}

/* Numbers that do not fit an int32 are none that a model has. */
static double number_or(const struct reading *r, const char *name, double dflt)
{
    char key[160];
    double v;
    arch_key(r, name, key);
    return dan_gguf_number(r->g, key, &v) && fabs(v) < INT32_MAX ? plain_decimal(v) : dflt;
}

/* llama.cpp multiplies its attn_factor with the formula's; the other readers' attention_factor is the product. */
static void read_yarn(const struct reading *r, struct dan_rope *rope)
{
    double by = number_or(r, "rope.scaling.attn_factor", 1);
    rope->kind = DAN_ROPE_YARN;
    rope->original = number_or(r, "rope.scaling.original_context_length", 0);
    rope->high = number_or(r, "rope.scaling.yarn_beta_fast", 0);
    rope->low = number_or(r, "rope.scaling.yarn_beta_slow", 0);
    if (by != 1 && rope->factor > 1) rope->by = by * (0.1 * log(rope->factor) + 1);
}

static int read_scaling(struct reading *r)
{
    char key[160];
    struct dan_gguf_text type = {0};
    struct dan_rope *rope = &r->lm->cfg.rope;
    arch_key(r, "rope.scaling.type", key);
    dan_gguf_string(r->g, key, &type);
    rope->dim = (int64_t)number_or(r, "rope.dimension_count", 0);
    rope->factor = number_or(r, "rope.scaling.factor", 0);
    if (dan_gguf_text_is(type, "linear")) rope->kind = DAN_ROPE_LINEAR;
    else if (dan_gguf_text_is(type, "yarn")) read_yarn(r, rope);
    else if (type.n && !dan_gguf_text_is(type, "none"))
        return dan_fail(r->e, DAN_EUNSUPPORTED, "unsupported '%s' (%.*s) in '%s'; supported: none, linear, yarn", key, (int)(type.n < 32 ? type.n : 32), type.p,
                        dan_gguf_path(r->g));
    return DAN_OK;
}

/* Llama 3's frequencies lie in the file as what divides each; danlu computes them.  After complete. */
static int read_factors(struct reading *r, const struct dan_store *file)
{
    const struct dan_tensor *t = dan_store_find(file, "rope_freqs.weight");
    struct dan_rope *rope = &r->lm->cfg.rope;
    if (!t) return DAN_OK;
    bool ones = t->dtype == &dan_dtype_f32;
    for (int64_t i = 0; ones && i < dan_shape_count(&t->shape); i++) ones = ((const float *)t->data)[i] == 1;
    if (ones || (t->dtype == &dan_dtype_f32 && dan_rope_llama3_from_factors(t->data, dan_shape_count(&t->shape), rope))) return DAN_OK;
    return dan_fail(r->e, DAN_EUNSUPPORTED, "unsupported 'rope_freqs.weight' in '%s': its factors are not those of Llama 3 (low 1, high 4, 8192 tokens)",
                    dan_gguf_path(r->g));
}

/* Which layers a window is for, the file does not say: each architecture has its rule. */
static void read_window(struct reading *r)
{
    static const struct { const char *arch; int64_t every; } global[] = {{"gemma2", 2}, {"gemma3", 6}};
    struct dan_lm_config *c = &r->lm->cfg;
    int64_t every = 0;
    c->window.width = (int64_t)number_or(r, "attention.sliding_window", 0);
    for (size_t i = 0; i < sizeof global / sizeof global[0]; i++)
        if (!strcmp(global[i].arch, r->arch)) every = global[i].every;
    for (int64_t i = 0; c->window.width > 0 && i < 256; i++)
        if (!every || i % every != every - 1) c->window.layer[i / 64] |= (uint64_t)1 << i % 64;
}

static int read_config(struct reading *r, const struct dan_store *file)
{
    int rc = find_family(r);
    if (!rc) rc = check_rules(r);
    if (!rc) rc = read_common(r, file);
    if (rc) return rc;
    for (const struct dan_field *f = r->lm->model->gguf; f->hf && !rc; f++) rc = read_field(r, f);
    if (!rc) rc = read_scaling(r);
    if (rc) return rc;
    read_window(r);
    rc = r->lm->model->complete(&r->lm->cfg, r->e);
    return rc ? rc : read_factors(r, file);
}

int dan_lm_load_gguf(struct dan_lm *lm, const char *path, enum dan_take how, struct dan_err *e)
{
    struct dan_gguf *g = NULL;
    struct dan_store *file = NULL;
    int rc = dan_gguf_open(path, &g, e);
    if (!rc) rc = dan_gguf_store(g, &file, e);
    if (!rc) rc = read_config(&(struct reading){.g = g, .lm = lm, .e = e}, file);
    if (!rc) rc = dan_store_new(&lm->store, e);
    if (!rc) {
        struct dan_source src = {.path = path, .file = file, .ours = true, .pairs = lm->model->gguf_pairs,
                                 .norm_plus = lm->model->gguf_norm_plus, .how = how};
        rc = dan_lm_take_all(lm, &src, e);
    }
    dan_store_free(file);
    dan_gguf_close(g);
    return rc;
}
