/* Before the first step: tokenizer, token shards, model, memory, trainer. */
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/lock.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/lm_data.h"
#include "cli/train_run.h"
#include "exec/precision.h"
#include "io/checkpoint.h"

const char *train_path(struct train_run *r, const char *name) { return dan_arena_printf(r->cli->arena, "%s/%s", r->o.out, name); }

static int prepare_data(struct train_run *r, struct dan_err *e)
{
    const char *dir = train_path(r, "data");
    int rc = DAN_OK;
    if (!r->o.resume || !dan_path_is_dir(dir)) {
        struct lm_data_opts d = {.paths = r->o.data,
                                 .tokenizer = r->o.tokenizer,
                                 .vocab = r->o.vocab,
                                 .field = r->o.field,
                                 .val_fraction = r->o.val_fraction,
                                 .allow_invalid = r->o.allow_invalid,
                                 .model_dir = r->o.out,
                                 .data_dir = dir};
        rc = lm_data_make(r->cli, &d, &r->tok, e);
    } else {
        rc = dan_tokenizer_load(r->o.out, &r->tok, e);
    }
    if (!rc) rc = dan_shards_open(dir, "train", &r->train, e);
    if (!rc && r->o.val_fraction > 0) rc = dan_shards_open(dir, "val", &r->val, e);
    if (!rc) rc = dan_shards_verify(r->train, e);
    if (!rc && r->val) rc = dan_shards_verify(r->val, e);
    return rc;
}

/* What --init decides already. */
static int check_init(const struct train_run *r, struct dan_err *e)
{
    static const char *const shape[] = {"model", "layers", "hidden", "heads", "kv-heads", "ffn", "tied", "bias", "init-std", "vocab"};
    static const char *const trained[] = {"char", "bytes", "bpe"};
    for (size_t i = 0; i < sizeof shape / sizeof *shape && !r->o.resume; i++)
        if (dan_given(r->cli, shape[i]))
            return dan_fail(e, DAN_EUSAGE, "--%s and --init are both given; the model '%s' has its own: leave one out", shape[i], r->o.init);
    for (int i = 0; i < 3 && !r->o.resume; i++)
        if (dan_given(r->cli, "tokenizer") && !strcmp(r->o.tokenizer, trained[i]))
            return dan_fail(e, DAN_EUSAGE, "--tokenizer %s makes a new vocabulary, '%s' has learnt its own; leave it out, or give the folder of the model's tokenizer", trained[i], r->o.init);
    return DAN_OK;
}

/* The model of --init as it lies there, and what follows for the options. */
static int load_init(struct train_run *r, struct dan_err *e)
{
    int rc = check_init(r, e);
    if (!rc) rc = dan_lm_load(&r->lm, r->o.init, true, e);
    if (rc) return rc;
    r->o.model = r->lm.model->name;
    if (!dan_given(r->cli, "tokenizer")) r->o.tokenizer = r->o.init;
    if (!dan_given(r->cli, "context") && r->lm.cfg.context < r->o.context) r->o.context = r->lm.cfg.context;
    if (r->o.context > dan_lm_longest(&r->lm.cfg))
        return dan_fail(e, DAN_EUSAGE, "--context %lld is more than the %lld tokens that '%s' can take", (long long)r->o.context,
                        (long long)dan_lm_longest(&r->lm.cfg), r->o.init);
    return DAN_OK;
}

static int check_vocabulary(const struct train_run *r, struct dan_err *e)
{
    int64_t n = dan_tokenizer_vocab_size(r->tok);
    if (!r->o.init || n <= r->lm.cfg.vocab) return DAN_OK;
    return dan_fail(e, DAN_EINVAL, "the tokenizer has %lld tokens and '%s' %lld: use the model's own tokenizer", (long long)n, r->o.init,
                    (long long)r->lm.cfg.vocab);
}

static void model_config(const struct train_run *r, struct dan_lm_config *c)
{
    const struct train_opts *o = &r->o;
    *c = (struct dan_lm_config){.vocab = dan_tokenizer_vocab_size(r->tok),
                                .context = o->context,
                                .hidden = o->hidden,
                                .layers = o->layers,
                                .heads = o->heads,
                                .kv_heads = o->kv_heads,
                                .ffn = o->ffn,
                                .tied = o->tied,
                                .bias = o->bias,
                                .init_std = o->init_std,
                                .bos = dan_tokenizer_bos(r->tok), .pad = -1,
                                .eos = dan_tokenizer_eos(r->tok)};
}

/* bf16 would round what --qat has rounded already. */
static enum dan_prec precision(const char *dtype, uint64_t mask, bool qat) { return qat && !strcmp(dtype, "auto") ? DAN_PREC_F32 : dan_prec_of(dtype, mask); }

static void print_graph(void *ctx, const char *pass, const char *text)
{
    struct dan_cli *cli = ctx;
    struct dan_str s = {0};
    dan_str_printf(&s, "; after %s\n%s\n", pass, text);
    dan_out(&cli->ui, dan_str_c(&s), s.n, NULL);
    dan_str_release(&s);
}

static void train_options(struct train_run *r)
{
    const struct train_opts *o = &r->o;
    r->t = (struct dan_train_opts){.steps = o->steps,
                                   .batch = o->batch,
                                   .accumulate = o->accumulate,
                                   .context = o->context,
                                   .lr = o->lr,
                                   .min_lr = o->min_lr < 0 ? o->lr / 10 : o->min_lr,
                                   .decay_fraction = o->decay_fraction,
                                   .warmup = o->warmup,
                                   .schedule = dan_schedule_find(o->schedule),
                                   .optim = dan_optim_find(o->optimizer),
                                   .weight_decay = o->weight_decay,
                                   .beta1 = o->beta1,
                                   .beta2 = o->beta2,
                                   .eps = o->eps,
                                   .momentum = o->momentum,
                                   .nesterov = o->nesterov,
                                   .clip = o->clip,
                                   .dropout = o->dropout,
                                   .ema = o->ema,
                                   .prec = precision(o->dtype, dan_isa_mask(r->cli->isa), strcmp(o->qat.scheme, "off") != 0),
                                   .cpu_mask = dan_isa_mask(r->cli->isa),
                                   .remat = o->remat,
                                   .seed = (uint64_t)r->cli->seed,
                                   .threads = r->cli->threads > 0 ? (int32_t)r->cli->threads : dan_n_cores(),
                                   .pass = {.fusion = o->fusion, .dump_after = o->dump_after, .dump = print_graph, .dump_ctx = r->cli},
                                   .ref = o->ref,
                                   .trace = o->trace ? dan_trace_node : NULL,
                                   .trace_ctx = &r->trace};
    r->trace = (struct dan_trace){.ui = &r->cli->ui};
}

static int check_dump(const struct train_run *r, struct dan_err *e)
{
    const char *name = r->o.dump_after;
    struct dan_str list = {0};
    if (!name || strcmp(name, "all") == 0) return DAN_OK;
    for (int i = 0; dan_passes[i]; i++) {
        if (strcmp(dan_passes[i]->name, name) == 0) {
            dan_str_release(&list);
            return DAN_OK;
        }
        dan_str_printf(&list, ", %s", dan_passes[i]->name);
    }
    dan_fail(e, DAN_EUSAGE, "there is no pass '%s' for --dump-after; use all%s", name, dan_str_c(&list));
    dan_str_release(&list);
    return DAN_EUSAGE;
}

/* Refused before the first step, with the numbers and what to change. */
static int check_memory(struct train_run *r, const struct dan_lm_config *c, struct dan_err *e)
{
    struct dan_memory m;
    int rc = dan_train_memory(r->lm.model, c, &r->t, &m, e);
    if (rc) return rc;
    int64_t have = dan_memory_available();
    if (r->o.memory_limit > 0) have = (int64_t)(r->o.memory_limit * (1 << 30));
    char total[DAN_NUM], avail[DAN_NUM], w[DAN_NUM], opt[DAN_NUM], act[DAN_NUM];
    if (have >= 0 && m.total + (64u << 20) > (size_t)have)
        return dan_fail(e, DAN_ENOMEM,
                        "this training needs %s of memory and %s are available (weights and gradients %s, optimiser %s, activations %s); "
                        "lower --batch (and raise --accumulate), --context, --hidden or --layers%s",
                        dan_fmt_bytes((double)m.total, total), dan_fmt_bytes((double)have, avail),
                        dan_fmt_bytes((double)(m.weights + m.gradients), w), dan_fmt_bytes((double)m.optimiser, opt),
                        dan_fmt_bytes((double)m.activations, act), r->o.remat ? "" : ", or use --remat");
    return DAN_OK;
}

static void announce(struct train_run *r)
{
    struct dan_memory m;
    char a[DAN_NUM], b[DAN_NUM], c[DAN_NUM], d[DAN_NUM], x[DAN_NUM];
    dan_trainer_memory(r->trainer, &m);
    struct dan_ui *ui = &r->cli->ui;
    dan_say(ui, "model    %s, %s parameters: %lld layers, hidden %lld, %lld heads, context %lld, vocabulary %lld", r->lm.model->name,
            dan_fmt_count((double)dan_lm_n_params(&r->lm), a), (long long)r->lm.cfg.layers, (long long)r->lm.cfg.hidden,
            (long long)r->lm.cfg.heads, (long long)r->lm.cfg.context, (long long)r->lm.cfg.vocab);
    dan_say(ui, "data     %s training tokens, %s for validation", dan_fmt_count((double)dan_shards_tokens(r->train), a),
            dan_fmt_count(r->val ? (double)dan_shards_tokens(r->val) : 0, b));
    /* Weights are in memory already; optimiser state, gradients and activations are reserved, not yet touched. */
    r->expected_peak = dan_rss() + (int64_t)(m.gradients + m.optimiser + m.activations);
    if (r->expected_peak < dan_peak_rss()) r->expected_peak = dan_peak_rss();
    dan_say(ui, "memory   peak %s expected: weights %s, gradients %s, optimiser %s, activations %s, the rest is the program and its data",
            dan_fmt_bytes((double)r->expected_peak, a), dan_fmt_bytes((double)m.weights, b), dan_fmt_bytes((double)m.gradients, c),
            dan_fmt_bytes((double)m.optimiser, d), dan_fmt_bytes((double)m.activations, x));
    dan_say(ui, "machine  %d threads, %s products, %s", dan_pool_size(r->pool), r->t.prec == DAN_PREC_BF16 ? "bf16" : "f32",
            r->t.remat ? "activations recomputed" : "activations kept");
    if (dan_qat_on(&r->t.qat))
        dan_say(ui, "qat      %s, %s, %s scales of inputs, from step %lld", r->o.qat.scheme, r->o.qat.method, r->o.qat.inputs, (long long)r->t.qat.start);
}

static int resume(struct train_run *r, struct dan_err *e)
{
    struct dan_str path = {0}, skipped = {0};
    char *extra = NULL;
    int rc = dan_checkpoint_latest(r->o.out, &path, &skipped, e);
    if (skipped.n) dan_warn(&r->cli->ui, "%s", dan_str_c(&skipped));
    if (!rc && path.n) rc = dan_trainer_resume(r->trainer, dan_str_c(&path), &extra, e);
    if (!rc && path.n) dan_say(&r->cli->ui, "resume   from %s", dan_str_c(&path));
    if (!rc && !path.n) dan_say(&r->cli->ui, "resume   no checkpoint yet: starting from step 0");
    json_t *j = extra ? json_loads(extra, 0, NULL) : NULL;
    json_t *best = json_object_get(j, "best"), *bad = json_object_get(j, "bad_evals");
    r->best_saved = json_is_true(json_object_get(j, "best_saved"));
    if (r->o.patience <= 0 || r->best_saved) { /* --patience is new: its count begins here, with the weights there are */
        if (json_is_number(best)) r->best = json_number_value(best);
        if (json_is_integer(bad)) r->bad_evals = json_integer_value(bad);
    }
    json_decref(j);
    dan_free(extra);
    dan_str_release(&path);
    dan_str_release(&skipped);
    return rc;
}

int train_prepare(struct train_run *r, struct dan_err *e)
{
    struct dan_lm_config c;
    r->best = r->last_val = r->last_float = NAN;
    r->last_saved = -1;
    int rc = dan_fusion_check(r->o.fusion, e);
    if (!rc) rc = check_dump(r, e);
    const struct dan_model *m = dan_model_find(r->o.model);
    struct dan_lm_config probe = {.vocab = 257,
                                  .context = r->o.context,
                                  .hidden = r->o.hidden,
                                  .layers = r->o.layers,
                                  .heads = r->o.heads,
                                  .kv_heads = r->o.kv_heads,
                                  .ffn = r->o.ffn};
    if (!rc && r->o.init) rc = load_init(r, e);
    else if (!rc) rc = m->complete(&probe, e); /* before the data is touched */
    if (!rc) rc = qat_options(r->cli, &r->o.qat, &r->t.qat, e);
    if (!rc) rc = dan_mkdirs(r->o.out, e);
    if (!rc) rc = dan_lock_dir(r->o.out, &r->lock, e);
    if (!rc) rc = prepare_data(r, e);
    if (!rc) rc = check_vocabulary(r, e);
    if (rc) return rc;
    const struct dan_qat_opts qat = r->t.qat;
    train_options(r);
    r->t.qat = qat;
    if (r->o.init) c = r->lm.cfg;
    else model_config(r, &c);
    r->lm.model = dan_model_find(r->o.model);
    rc = r->lm.model->complete(&c, e);
    if (!rc) rc = check_memory(r, &c, e);
    if (!rc) rc = dan_pool_new((int)r->cli->threads, &r->pool, e);
    if (!rc && !r->o.init) rc = dan_lm_init(&r->lm, m, &c, r->t.seed, e);
    if (!rc) rc = dan_trainer_new(&r->lm, r->train, r->val, &r->t, r->pool, &r->trainer, e);
    if (!rc && r->o.graph) {
        struct dan_str s = {0};
        dan_graph_print(dan_trainer_graph(r->trainer), &s);
        rc = dan_out(&r->cli->ui, dan_str_c(&s), s.n, e);
        dan_str_release(&s);
        return rc;
    }
    if (!rc && r->o.resume) rc = resume(r, e);
    if (!rc) announce(r);
    return rc;
}

void train_release(struct train_run *r)
{
    dan_trainer_free(r->trainer);
    dan_lm_release(&r->lm);
    dan_shards_free(r->train);
    dan_shards_free(r->val);
    dan_tokenizer_free(r->tok);
    dan_pool_free(r->pool);
    dan_runs_close(r->runs);
    dan_unlock_dir(&r->lock);
    dan_free(r->loss.x);
    dan_free(r->loss.y);
    dan_free(r->val_loss.x);
    dan_free(r->val_loss.y);
}
