/* Hugging Face directories -> struct dan_encoder, and its graphs. */
#include "model/encoder.h"
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "io/safetensors.h"
#include "model/lm.h"

enum { NAME = 256 };

const struct dan_encoder_family *dan_encoder_family_find(const char *hf_model_type)
{
    for (int i = 0; dan_encoder_families[i]; i++)
        if (strcmp(dan_encoder_families[i]->hf_model_type, hf_model_type) == 0) return dan_encoder_families[i];
    return NULL;
}

/* --- names: with and without the family's prefix; files from TensorFlow call weight and bias of a norm gamma and beta */

static bool present(const struct dan_store *file, const char *prefix, const char *name, char out[NAME])
{
    snprintf(out, NAME, "%s%s", prefix, name);
    return dan_store_find(file, out) != NULL;
}

static bool old_norm_name(char name[NAME])
{
    char *weight = strstr(name, "LayerNorm.weight"), *bias = strstr(name, "LayerNorm.bias");
    if (!weight && !bias) return false;
    strcpy((weight ? weight : bias) + strlen("LayerNorm."), weight ? "gamma" : "beta");
    return true;
}

/* The file's name for one of ours; false (and the plain name) when the file does not have it. */
static bool name_in_file(const struct dan_encoder_family *f, const struct dan_store *file, const char *ours, char out[NAME])
{
    const struct dan_model names = {.names = f->names};
    char hf[NAME];
    bool turn;
    if (!dan_lm_hf_name(&names, ours, hf, sizeof hf, &turn)) snprintf(hf, sizeof hf, "%s", ours);
    if (present(file, f->prefix, hf, out) || present(file, "", hf, out)) return true;
    char old[NAME];
    memcpy(old, hf, sizeof old);
    if (old_norm_name(old) && (present(file, f->prefix, old, out) || present(file, "", old, out))) return true;
    memcpy(out, hf, NAME);
    return false;
}

/* --- weights */

static int converted(struct dan_store *to, const char *name, const struct dan_tensor *t, const struct dan_dtype *want, struct dan_err *e)
{
    int rc = dan_store_add(to, name, want, t->shape, e);
    if (rc) return rc;
    struct dan_tensor *out = dan_store_find(to, name);
    int64_t cols = dan_cols(t);
    struct dan_store *tmp = NULL;
    if (want != &dan_dtype_f32) {
        rc = dan_store_new(&tmp, e);
        if (!rc) rc = dan_store_add(tmp, "row", &dan_dtype_f32, DAN_SHAPE(cols), e);
    }
    for (int64_t r = 0; r < dan_rows(t) && !rc; r++) {
        float *row = tmp ? dan_store_find(tmp, "row")->data : dan_row(out, r);
        t->dtype->to_f32(dan_row(t, r), row, cols);
        if (tmp) want->from_f32(row, dan_row(out, r), cols);
    }
    dan_store_free(tmp);
    return rc;
}

/* Tables are read row by row, one rounding less: only what is multiplied becomes bf16. */
static const struct dan_dtype *stored_as(const struct dan_node *p, enum dan_prec prec)
{
    bool product = p->shape.n == 2 && !strstr(p->name, "_embd.") && strcmp(p->name, "token_types.weight");
    return product && prec == DAN_PREC_BF16 ? &dan_dtype_bf16 : &dan_dtype_f32;
}

static int take(struct dan_encoder *enc, const struct dan_node *p, const struct dan_store *file, enum dan_prec prec, struct dan_err *e)
{
    char hf[NAME], want[96], got[96];
    if (!name_in_file(enc->family, file, p->name, hf))
        return dan_fail(e, DAN_EFORMAT, "the weights have no tensor '%s'; is the file complete, and does config.json belong to it?", hf);
    const struct dan_tensor *t = dan_store_find(file, hf);
    if (!dan_shape_equal(&p->shape, &t->shape)) {
        dan_shape_text(&p->shape, want, sizeof want);
        dan_shape_text(&t->shape, got, sizeof got);
        return dan_fail(e, DAN_ESHAPE, "tensor '%s' has shape %s, config.json says %s; do they belong together?", hf, got, want);
    }
    if (t->dtype->block > 1 || t->dtype->bytes == 1)
        return dan_fail(e, DAN_EUNSUPPORTED, "tensor '%s' is stored as '%s'; encoders take f32, f16 and bf16 weights", hf, t->dtype->name);
    const struct dan_dtype *as = stored_as(p, prec);
    if (t->dtype == as) return dan_store_share(enc->store, p->name, file, hf, e);
    return converted(enc->store, p->name, t, as, e);
}

static void find_heads(struct dan_encoder *enc, const struct dan_store *file)
{
    char hf[NAME];
    enc->pooler = name_in_file(enc->family, file, "pooler.weight", hf);
    enc->masked_lm = name_in_file(enc->family, file, "mlm_dense.weight", hf);
    bool has = name_in_file(enc->family, file, enc->tagger ? "tagger.weight" : "classifier.weight", hf) && dan_store_find(file, hf)->shape.n == 2;
    enc->cfg.labels = has ? dan_store_find(file, hf)->shape.d[0] : 0;
    enc->classifier = has && !enc->tagger;
    enc->tagger = has && enc->tagger;
}

static int take_all(struct dan_encoder *enc, const struct dan_store *file, enum dan_prec prec, struct dan_err *e)
{
    struct dan_graph *g = NULL;
    if ((size_t)enc->cfg.layers > dan_store_count(file))       /* before a graph is made of what a file only says */
        return dan_fail(e, DAN_EFORMAT, "num_hidden_layers is %lld, but the weights have %zu tensors; do they belong together?",
                        (long long)enc->cfg.layers, dan_store_count(file));
    find_heads(enc, file);
    struct dan_encoder_io io = {.max_rows = 1, .max_select = 1, .hidden = true, .pooled = enc->pooler, .classes = enc->classifier,
                                .words = enc->masked_lm, .tags = enc->tagger};
    int rc = dan_encoder_graph(enc, &io, "", NULL, &g, e);
    for (int32_t i = 1; !rc && i < g->n; i++)
        if (dan_op_is(&g->node[i], "param")) rc = take(enc, &g->node[i], file, prec, e);
    dan_graph_free(g);
    return rc;
}

/* --- config */

static int check(const struct dan_encoder *enc, const char *dir, struct dan_err *e)
{
    const struct dan_encoder_config *c = &enc->cfg;
    const struct { const char *key; int64_t v, most; } sizes[] = {{"vocab_size", c->vocab, INT32_MAX},
        {"max_position_embeddings", c->context, INT32_MAX}, {"hidden_size", c->hidden, 1 << 24}, {"num_hidden_layers", c->layers, 4096},
        {"num_attention_heads", c->heads, 65536}, {"intermediate_size", c->ffn, 1 << 24}, {"type_vocab_size", c->types, INT32_MAX}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if ((sizes[i].v < 1 && !(enc->family->no_types && i == 6)) || sizes[i].v > sizes[i].most)
            return dan_fail(e, DAN_EFORMAT, "'%s' is %lld in the config.json of '%s'; it must be 1 to %lld", sizes[i].key,
                            (long long)sizes[i].v, dir, (long long)sizes[i].most);
    if (c->hidden % c->heads)
        return dan_fail(e, DAN_EFORMAT, "num_attention_heads (%lld) does not divide hidden_size (%lld) in the config.json of '%s'",
                        (long long)c->heads, (long long)c->hidden, dir);
    if (!(c->norm_eps > 0)) return dan_fail(e, DAN_EFORMAT, "'layer_norm_eps' in the config.json of '%s' must be above 0", dir);
    if (c->pad < 0 || dan_encoder_max_tokens(enc) < 1)
        return dan_fail(e, DAN_EFORMAT, "'pad_token_id' (%lld) in the config.json of '%s' leaves no positions of %lld", (long long)c->pad,
                        dir, (long long)c->context);
    return DAN_OK;
}

static int read_config(struct dan_encoder *enc, const char *dir, struct dan_err *e)
{
    struct dan_str arch = {0}, type = {0};
    int rc = dan_hf_config_kind(dir, &arch, &type, e);
    if (!rc && !(enc->family = dan_encoder_family_find(dan_str_c(&type)))) {
        struct dan_str known = {0};
        for (int i = 0; dan_encoder_families[i]; i++) dan_str_printf(&known, "%s%s", i ? ", " : "", dan_encoder_families[i]->hf_model_type);
        rc = dan_fail(e, DAN_EUNSUPPORTED, "'%s' is no sentence encoder that danlu knows (model_type '%s', architecture '%s'); it reads %s",
                      dir, dan_str_c(&type), dan_str_c(&arch), dan_str_c(&known));
        dan_str_release(&known);
    }
    enc->tagger = dan_str_ends(dan_str_c(&arch), "ForTokenClassification");
    if (!rc) rc = dan_hf_config_load(dir, enc->family->hf_model_type, enc->family->fields, &enc->cfg, e);
    if (!rc) rc = check(enc, dir, e);
    dan_str_release(&arch);
    dan_str_release(&type);
    return rc;
}

int dan_encoder_load(struct dan_encoder *enc, const char *dir, enum dan_prec prec, struct dan_err *e)
{
    struct dan_store *file = NULL;
    *enc = (struct dan_encoder){0};
    if (dan_path_exists(dir) && !dan_path_is_dir(dir))
        return dan_fail(e, DAN_EFORMAT, "'%s' is a file: an encoder is a folder from Hugging Face or sentence-transformers, with config.json and model.safetensors", dir);
    int rc = read_config(enc, dir, e);
    if (!rc) rc = dan_safetensors_open(dir, &file, e);
    if (!rc) rc = dan_store_new(&enc->store, e);
    if (!rc) rc = take_all(enc, file, prec, e);
    dan_store_free(file);
    if (rc) dan_encoder_release(enc);
    return rc;
}

void dan_encoder_release(struct dan_encoder *enc)
{
    dan_store_free(enc->store);
    *enc = (struct dan_encoder){0};
}

int64_t dan_encoder_max_tokens(const struct dan_encoder *enc) { return enc->cfg.context - dan_encoder_first_pos(enc); }

static int retype(struct dan_graph *g, const struct dan_store *s, struct dan_err *e)
{
    for (int32_t i = 1; i < g->n; i++) {
        const struct dan_tensor *t = dan_op_is(&g->node[i], "param") ? dan_store_find(s, g->node[i].name) : NULL;
        if (t) g->node[i].dtype = t->dtype;
    }
    return dan_graph_infer(g, e);
}

int dan_encoder_graph(const struct dan_encoder *enc, const struct dan_encoder_io *io, const char *pipeline,
                      const struct dan_pass_opts *o, struct dan_graph **out, struct dan_err *e)
{
    struct dan_graph *g = dan_graph_new();
    if (!g) return dan_fail(e, DAN_ENOMEM, "not enough memory for a graph");
    struct dan_builder b;
    dan_builder_init(&b, g);
    enc->family->build(&b, &enc->cfg, io);
    int rc = dan_builder_check(&b, e);
    if (!rc && enc->store) rc = retype(g, enc->store, e);
    if (!rc) rc = dan_run_passes(g, pipeline, o, e);
    if (rc) {
        dan_graph_free(g);
        return rc;
    }
    *out = g;
    return DAN_OK;
}
