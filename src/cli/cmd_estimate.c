/* danlu estimate: parameters, arithmetic and memory of a model that may not exist yet. */
#include <stdio.h>
#include <string.h>
#include "cli/lm_open.h"
#include "cli/trace.h"
#include "train/estimate.h"

struct estimate_opts {
    const char *dir, *model, *optimizer, *dtype, *fusion;
    int64_t layers, hidden, heads, kv_heads, ffn, context, vocab, batch, accumulate;
    double  ema;
    bool    tied, bias, remat;
};

#define AT(f) offsetof(struct estimate_opts, f)
static const char *model_name(size_t i) { return dan_models[i] ? dan_models[i]->name : NULL; }
static const char *optim_name(size_t i) { return dan_optims[i] ? dan_optims[i]->name : NULL; }

/* Names and defaults as in `danlu train`. */
static const struct dan_opt options[] = {
    {.name = "folder", .type = 'P', .offset = AT(dir), .meta = "MODEL", .help = "an existing model (without: the options below)"},
    {.name = "model", .type = 'e', .offset = AT(model), .dflt = "llama", .choice_at = model_name, .section = "Model", .help = "family"},
    {.name = "layers",
     .type = 'i',
     .offset = AT(layers),
     .dflt = "4",
     .meta = "N",
     .min = 1,
     .max = 1000,
     .alias = "n-layer|num-layers|depth",
     .help = "layers"},
    {.name = "hidden",
     .type = 'i',
     .offset = AT(hidden),
     .dflt = "128",
     .meta = "N",
     .min = 1,
     .max = 65536,
     .alias = "hidden-size|n-embd|dim|width",
     .help = "hidden size"},
    {.name = "heads",
     .type = 'i',
     .offset = AT(heads),
     .dflt = "4",
     .meta = "N",
     .min = 1,
     .max = 1024,
     .alias = "n-head|num-heads",
     .help = "attention heads"},
    {.name = "kv-heads",
     .type = 'i',
     .offset = AT(kv_heads),
     .dflt = "0",
     .meta = "N",
     .min = 0,
     .max = 1024,
     .help = "key/value heads (0: as many as heads)"},
    {.name = "ffn",
     .type = 'i',
     .offset = AT(ffn),
     .dflt = "0",
     .meta = "N",
     .min = 0,
     .max = 1 << 20,
     .alias = "intermediate-size",
     .help = "feed-forward size (0: the family's rule)"},
    {.name = "vocab",
     .type = 'i',
     .offset = AT(vocab),
     .dflt = "2048",
     .meta = "N",
     .min = 1,
     .max = 1 << 20,
     .alias = "vocab-size",
     .help = "vocabulary"},
    {.name = "tied", .type = 'b', .offset = AT(tied), .dflt = "true", .help = "output head shares the token embedding"},
    {.name = "bias", .type = 'b', .offset = AT(bias), .dflt = "true", .help = "biases in linear layers and norms (gpt)"},
    {.name = "context",
     .type = 'i',
     .offset = AT(context),
     .dflt = "128",
     .meta = "N",
     .min = 1,
     .max = 1 << 20,
     .alias = "block-size|seq-len|context-length|max-length",
     .section = "Training",
     .help = "context length in tokens"},
    {.name = "batch",
     .type = 'i',
     .offset = AT(batch),
     .dflt = "16",
     .meta = "N",
     .min = 1,
     .max = 1 << 20,
     .alias = "batch-size",
     .help = "sequences of a micro-batch"},
    {.name = "accumulate",
     .type = 'i',
     .offset = AT(accumulate),
     .dflt = "1",
     .meta = "N",
     .min = 1,
     .max = 1 << 20,
     .help = "micro-batches of a step"},
    {.name = "optimizer",
     .type = 'e',
     .offset = AT(optimizer),
     .dflt = "adamw",
     .choice_at = optim_name,
     .alias = "optim|optimiser",
     .help = "update rule"},
    {.name = "ema",
     .type = 'f',
     .offset = AT(ema),
     .dflt = "0",
     .meta = "X",
     .min = 0,
     .max = 0.999999,
     .help = "moving average of the weights (0: off)"},
    {.name = "dtype", .type = 'e', .offset = AT(dtype), .dflt = "f32", .choices = "f32|bf16", .help = "of matrix products"},
    {.name = "remat",
     .type = 'b',
     .offset = AT(remat),
     .alias = "gradient-checkpointing|activation-checkpointing",
     .help = "recompute activations to save memory"},
    DAN_FUSION_OPTION(struct estimate_opts),
    {.name = NULL}};

static json_t *parts_json(const struct dan_estimate *x)
{
    json_t *parts = json_object();
    for (int i = 0; i < DAN_N_PARTS; i++) json_object_set_new(parts, dan_part_name(i), json_integer(x->params[i]));
    json_object_set_new(parts, "total", json_integer(x->total));
    return parts;
}

static const char *state_key(const struct dan_model *m) { return m->time_major ? "state_bytes_per_sequence" : "kv_cache_bytes_per_token"; }

static int print_json(struct dan_cli *cli, const struct dan_model *m, const struct dan_train_opts *o, const struct dan_estimate *x,
                      struct dan_err *e)
{
    json_t *flops = json_pack("{s:f,s:f,s:f}", "forward", x->forward_flops, "training", x->train_flops, "rule_6n", x->rule_6n);
    json_t *memory = json_pack("{s:I,s:I,s:I,s:I,s:I,s:I}", "weights", (json_int_t)x->memory.weights, "gradients",
                               (json_int_t)x->memory.gradients, "optimiser", (json_int_t)x->memory.optimiser, "activations",
                               (json_int_t)x->memory.activations, "data", (json_int_t)x->memory.data, "total", (json_int_t)x->memory.total);
    return dan_out_json(&cli->ui,
                        json_pack("{s:s,s:I,s:I,s:o,s:o,s:o,s:I}", "family", m->name, "context", (json_int_t)o->context, "batch",
                                  (json_int_t)o->batch, "parameters", parts_json(x), "flops_per_token", flops, "training_bytes", memory,
                                  state_key(m), (json_int_t)x->state_bytes),
                        e);
}

static void put_memory(const struct dan_estimate *x, struct dan_str *s)
{
    const struct { const char *name; size_t bytes;
    } rows[] = {{"weights", x->memory.weights},         {"gradients", x->memory.gradients}, {"optimiser", x->memory.optimiser},
                {"activations", x->memory.activations}, {"data", x->memory.data},           {"total", x->memory.total}};
    char a[DAN_NUM];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        dan_str_printf(s, "  %-12s %s\n", rows[i].name, dan_fmt_bytes((double)rows[i].bytes, a));
}

static int print_text(struct dan_cli *cli, const struct dan_model *m, const struct dan_lm_config *c, const struct dan_train_opts *o,
                      const struct dan_estimate *x, struct dan_err *e)
{
    struct dan_str s = {0};
    char a[DAN_NUM], b[DAN_NUM];
    dan_str_printf(&s, "parameters\n");
    for (int i = 0; i < DAN_N_PARTS; i++)
        if (x->params[i])
            dan_str_printf(&s, "  %-12s %s  (%.1f %%)\n", dan_part_name(i), dan_fmt_count((double)x->params[i], a),
                           100 * (double)x->params[i] / (double)x->total);
    dan_str_printf(&s, "  %-12s %s  (%lld)\n", "total", dan_fmt_count((double)x->total, a), (long long)x->total);
    dan_str_printf(&s, "arithmetic per token at context %lld\n  forward      %sFLOP\n", (long long)o->context,
                   dan_fmt_count(x->forward_flops, a));
    dan_str_printf(&s, "  training     %sFLOP; the rule 6 x parameters says %sFLOP\n", dan_fmt_count(x->train_flops, a),
                   dan_fmt_count(x->rule_6n, b));
    dan_str_printf(&s, "memory of training, %lld sequences of %lld tokens%s\n", (long long)o->batch, (long long)o->context,
                   o->remat ? ", activations recomputed" : "");
    put_memory(x, &s);
    dan_str_printf(&s, "generating\n");
    if (m->time_major) dan_str_printf(&s, "  state        %s a sequence\n", dan_fmt_bytes((double)x->state_bytes, a));
    else
        dan_str_printf(&s, "  KV cache     %s a token, %s at context %lld\n", dan_fmt_bytes((double)x->state_bytes, a),
                       dan_fmt_bytes((double)(x->state_bytes * c->context), b), (long long)c->context);
    int rc = dan_out(&cli->ui, dan_str_c(&s), s.n, e);
    dan_str_release(&s);
    return rc;
}

static int from_folder(struct dan_cli *cli, const struct estimate_opts *o, const struct dan_model **model, struct dan_lm_config *c,
                       struct dan_err *e)
{
    static const char *const shape[] = {"model", "layers", "hidden", "heads", "kv-heads", "ffn", "vocab", "tied", "bias"};
    struct lm_files m = {0};
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
        if (dan_given(cli, shape[i])) return dan_fail(e, DAN_EUSAGE, "--%s and a model folder are both given; use one", shape[i]);
    int rc = lm_open(cli, o->dir, false, &m, e);
    *model = m.lm.model;
    *c = m.lm.cfg;
    lm_close(&m);
    return rc;
}

static void from_options(const struct estimate_opts *o, const struct dan_model **model, struct dan_lm_config *c)
{
    *model = dan_model_find(o->model);
    *c = (struct dan_lm_config){.vocab = o->vocab,
                                .context = o->context,
                                .hidden = o->hidden,
                                .layers = o->layers,
                                .heads = o->heads,
                                .kv_heads = o->kv_heads,
                                .ffn = o->ffn,
                                .tied = o->tied,
                                .bias = o->bias,
                                .bos = -1,
                                .eos = -1};
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    const struct estimate_opts *o = opts;
    const struct dan_model *model = NULL;
    struct dan_lm_config c;
    struct dan_estimate x;
    int rc = DAN_OK;
    if (o->dir) rc = from_folder(cli, o, &model, &c, e);
    else from_options(o, &model, &c);
    struct dan_train_opts t = {.batch = o->batch,
                               .accumulate = o->accumulate,
                               .context = o->context,
                               .optim = dan_optim_find(o->optimizer),
                               .ema = o->ema,
                               .remat = o->remat,
                               .pass = {.fusion = o->fusion},
                               .prec = strcmp(o->dtype, "bf16") ? DAN_PREC_F32 : DAN_PREC_BF16};
    if (!rc && o->dir && !dan_given(cli, "context")) t.context = c.context;
    if (!rc && !model->time_major && t.context > c.context)
        rc = dan_fail(e, DAN_EINVAL, "the model was made for %lld positions; use --context %lld or less", (long long)c.context,
                      (long long)c.context);
    if (!rc) rc = dan_estimate(model, &c, &t, &x, e);
    if (rc) return rc;
    return cli->json ? print_json(cli, model, &t, &x, e) : print_text(cli, model, &c, &t, &x, e);
}

const struct dan_cmd dan_cmd_estimate = {.name = "estimate",
                                         .doc = "parameters, arithmetic and memory of a model before it is trained",
                                         .group = DAN_GROUP_MODEL,
                                         .rank = 3,
                                         .about = "Builds and plans the model's graphs without taking their memory, so the numbers are "
                                                  "those of the program that would run. Options have\n"
                                                  "the names and defaults of 'danlu train'.",
                                         .example = "danlu estimate --model gpt --layers 12 --hidden 768 --heads 12 --vocab 50257 "
                                                    "--context 1024 --batch 1\ndanlu estimate runs/book --json",
                                         .opts = options,
                                         .opts_bytes = sizeof(struct estimate_opts),
                                         .run = run};
