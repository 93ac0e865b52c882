#include "infer/session.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "core/kv.h"
#include "exec/exec.h"

/* Prefill reads all weights once a run: on a machine whose AMX outruns its memory, 512 rows a run are faster than 256. */
enum { DEFAULT_ROWS = 512, JOIN_BYTES = 64 << 20 };

/* Weights in bf16 are laid out for the kernels, which takes about a second a gigabyte and as much memory again: at once where several sequences
 * share them, after PATIENCE short runs for one, whose first token should not wait; never for one beyond PACK_BYTES.  So are those that learn, in f32, too:
 * once for all runs up to the next change. */
enum { PATIENCE = 4, SHORT = 4, PACK_BYTES = 512 << 20 };

/* Row arrays of a run, all [max_rows] but select [max_select] and lane [slots]. */
enum { TOKENS, POS, START, STOP, SELF, RESET, HOLD, N_ROW_ARRAYS };

struct slot { int64_t length, fed; };          /* fed: tokens of the current feed that are in the cache */

struct dan_session {
    struct dan_lm *lm;
    struct dan_session_opts o;
    struct dan_graph *graph;
    struct dan_program *program;
    struct dan_store *states;
    int64_t stride;                            /* cache rows from one slot to the next */
    struct slot *slot;
    int32_t *row[N_ROW_ARRAYS], *select, *lane;
    int32_t *memory;
    struct dan_adapter adapter[DAN_MAX_ADAPTERS];  /* as they were when the graph was made: lm's may change */
    int32_t  n_adapters;
    float   *weight, *weight_row;              /* of adapters: [slots, n_adapters]; [n_adapters, max_rows] of the run */
    float  **to;                               /* where the logits of select[i] go */
    int64_t rows, selected;                    /* of the run that is being made */
    int64_t n_short;                           /* runs of few rows so far */
    int32_t logits_output;
};

int dan_kv_type_of(const char *name, const struct dan_dtype **t, struct dan_err *e)
{
    static const struct {
        const char *name;
        const struct dan_dtype *type;
    } types[] = {{"f32", &dan_dtype_f32}, {"bf16", &dan_dtype_bf16}, {"q8", &dan_dtype_i8}};
    if (!name || !strcmp(name, "auto")) return DAN_OK;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(name, types[i].name)) {
            *t = types[i].type;
            return DAN_OK;
        }
    return dan_fail(e, DAN_EINVAL, "keys and values cannot be kept as '%s'; use auto, f32, bf16 or q8", name);
}

static int check_opts(const struct dan_lm *lm, struct dan_session_opts *o, struct dan_err *e)
{
    bool recurrent = lm->model->time_major;
    if (o->slots < 1) o->slots = 1;
    if (o->context < 1) o->context = recurrent ? INT32_MAX : lm->cfg.context;
    if (o->max_rows < 1) o->max_rows = DEFAULT_ROWS;
    if (o->max_rows < o->slots) o->max_rows = o->slots;
    if (recurrent) o->max_rows = o->max_rows / o->slots * o->slots;
    if (o->max_select < o->slots) o->max_select = o->slots;
    if (!recurrent && o->context > dan_lm_longest(&lm->cfg))
        return dan_fail(e, DAN_EINVAL, "the model was made for %lld positions, %lld were asked for; use --context %lld or less",
                        (long long)dan_lm_longest(&lm->cfg), (long long)o->context, (long long)dan_lm_longest(&lm->cfg));
    if (!recurrent && o->slots > (INT32_MAX - DAN_KV_GROUP) / (o->context + DAN_KV_GROUP))
        return dan_fail(e, DAN_EINVAL, "%lld sequences of %lld tokens are too many for one cache; use fewer or a smaller --context",
                        (long long)o->slots, (long long)o->context);
    if (!recurrent && o->max_rows > o->slots * o->context) o->max_rows = o->slots * o->context;      /* no run can be larger */
    if (o->max_select > o->max_rows) o->max_select = o->max_rows;
    return DAN_OK;
}

/* Joining q, k, v and gate, up copies them out of the mapped file, and fresh memory is slow on a virtual machine: 220 ms
 * for a model of 220 MB, whose first token then takes 60.  What it saves, a barrier a product, is 4 % of a token of a 30 MB
 * model with 2 threads, nothing with one, and less in larger models. */
static const char *fusion_of(const struct dan_session *s)
{
    if (s->o.live) return "-fuse_horizontal";
    if (s->o.fusion && strcmp(s->o.fusion, "on")) return s->o.fusion;
    return dan_store_bytes(s->lm->store) > JOIN_BYTES ? "-fuse_horizontal" : NULL;
}

/* Any weights in fewer bits than f32. */
static bool is_small(const struct dan_store *s)
{
    for (size_t i = 0; i < dan_store_count(s); i++) {
        const struct dan_dtype *t = dan_store_at(s, i)->dtype;
        if (t->bytes < 4 * t->block) return true;
    }
    return false;
}

/* Every attention has a kernel. */
static bool attends_fast(const struct dan_session *s)
{
    for (int32_t i = 1; i < s->graph->n; i++)
        if (dan_op_is(&s->graph->node[i], "attend") && strcmp(dan_program_kernel(s->program, i), "ref") == 0) return false;
    return true;
}

static int compile_with(struct dan_session *s, const struct dan_dtype *cache, struct dan_err *e)
{
    bool recurrent = s->lm->model->time_major, small = dan_store_bytes(s->lm->store) <= PACK_BYTES;
    struct dan_io io = {.max_rows = s->o.max_rows, .lanes = recurrent ? s->o.slots : 0, .logits = true, .max_select = s->o.max_select,
                        .cache_rows = recurrent ? s->o.slots : s->o.slots * s->stride, .cache_type = cache, .adapter_rows = s->o.adapters};
    struct dan_exec_opts x = {.pool = s->o.pool, .ref = s->o.ref, .cpu_mask = s->o.cpu_mask, .pack = !s->o.live || small, .pack_floats = s->o.slots > 1, .pack_f32 = s->o.live,
                              .trace = s->o.trace, .trace_ctx = s->o.trace_ctx};
    struct dan_exec_choice choice = dan_exec_choice_of(&x);
    struct dan_pass_opts p = {.prec = s->o.prec, .fusion = fusion_of(s), .rounds = dan_exec_rounds, .rounds_ctx = &choice};
    int rc = dan_lm_graph(s->lm, &io, DAN_PIPELINE_INFER, &p, &s->graph, e);
    return rc ? rc : dan_compile(s->graph, &x, &s->program, e);
}

/* Unless told otherwise, a model whose weights are rounded keeps its keys and values as bf16, where a kernel attends to them: half the
 * bytes of a long context. */
static int compile(struct dan_session *s, struct dan_err *e)
{
    bool automatic = !s->o.kv_type || !strcmp(s->o.kv_type, "auto");
    const struct dan_dtype *type = is_small(s->lm->store) ? &dan_dtype_bf16 : NULL;
    int rc = dan_kv_type_of(s->o.kv_type, &type, e);
    if (s->lm->model->time_major) type = NULL;
    s->stride = (s->o.context + DAN_KV_GROUP - 1) / DAN_KV_GROUP * DAN_KV_GROUP;
    if (!rc) rc = compile_with(s, type, e);
    if (rc || !automatic || !type || attends_fast(s)) return rc;
    dan_program_free(s->program);
    dan_graph_free(s->graph);
    s->program = NULL;
    s->graph = NULL;
    return compile_with(s, NULL, e);
}

static int bind_weights(struct dan_session *s, struct dan_err *e)
{
    int rc = dan_store_new(&s->states, e);
    for (int32_t i = 1; i < s->graph->n && !rc; i++) {
        const struct dan_node *n = &s->graph->node[i];
        if (!dan_op_is(n, "state")) continue;
        rc = dan_store_add(s->states, n->name, n->dtype, n->shape, e);
        if (!rc) rc = dan_bind(s->program, n->name, dan_store_find(s->states, n->name), e);
    }
    return rc ? rc : dan_bind_store(s->program, s->lm->store, e);
}

static int make_arrays(struct dan_session *s, struct dan_err *e)
{
    size_t rows = ((size_t)s->o.max_rows + 15) & ~(size_t)15, n = rows * N_ROW_ARRAYS + (size_t)s->o.max_select + (size_t)s->o.slots;
    s->memory = dan_calloc(n, sizeof *s->memory);
    s->slot = dan_calloc((size_t)s->o.slots, sizeof *s->slot);
    s->to = dan_calloc((size_t)s->o.max_select, sizeof *s->to);
    if (!s->memory || !s->slot || !s->to)
        return dan_fail(e, DAN_ENOMEM, "not enough memory for runs of %lld rows", (long long)s->o.max_rows);
    if (s->o.adapters) {
        size_t n_adapters = (size_t)s->n_adapters + 1;
        s->weight = dan_malloc(n_adapters * (size_t)s->o.slots * sizeof *s->weight);
        s->weight_row = dan_calloc(n_adapters * rows, sizeof *s->weight_row);
        if (!s->weight || !s->weight_row) return dan_fail(e, DAN_ENOMEM, "not enough memory for the weights of %d adapters", s->n_adapters);
        for (size_t i = 0; i < n_adapters * (size_t)s->o.slots; i++) s->weight[i] = 1;
    }
    for (int i = 0; i < N_ROW_ARRAYS; i++) s->row[i] = s->memory + rows * (size_t)i;
    s->select = s->memory + rows * N_ROW_ARRAYS;
    s->lane = s->select + s->o.max_select;
    for (int64_t i = 0; i < s->o.slots; i++) s->lane[i] = (int32_t)i;
    for (int32_t i = 0; i < s->graph->n_out; i++)
        if (strcmp(s->graph->out_name[i], "logits") == 0) s->logits_output = i;
    return DAN_OK;
}

int dan_session_new(struct dan_lm *lm, const struct dan_session_opts *o, struct dan_session **out, struct dan_err *e)
{
    struct dan_session *s = dan_calloc(1, sizeof *s);
    if (!s) return dan_fail(e, DAN_ENOMEM, "not enough memory for a session");
    s->lm = lm;
    memcpy(s->adapter, lm->adapter, sizeof s->adapter);
    s->n_adapters = lm->n_adapters;
    if (o) s->o = *o;
    int rc = check_opts(lm, &s->o, e);
    if (!rc) rc = compile(s, e);
    if (!rc) rc = bind_weights(s, e);
    if (!rc) rc = make_arrays(s, e);
    if (rc) {
        dan_session_free(s);
        return rc;
    }
    *out = s;
    return DAN_OK;
}

void dan_session_free(struct dan_session *s)
{
    if (!s) return;
    dan_program_free(s->program);
    dan_graph_free(s->graph);
    dan_store_free(s->states);
    dan_free(s->memory);
    dan_free(s->weight);
    dan_free(s->weight_row);
    dan_free(s->slot);
    dan_free(s->to);
    dan_free(s);
}

static int check_feed(const struct dan_session *s, const struct dan_feed *f, struct dan_err *e)
{
    if (f->slot < 0 || f->slot >= s->o.slots || f->n_logits > f->n || f->n < 0 || f->n_logits < 0)
        return dan_fail(e, DAN_EINVAL, "slot %d of %lld cannot take %lld tokens and give %lld logits; this is a bug of the caller",
                        f->slot, (long long)s->o.slots, (long long)f->n, (long long)f->n_logits);
    if (f->n > dan_session_room(s, f->slot))
        return dan_fail(e, DAN_EINVAL,
                        "%lld tokens do not fit: the context of %lld holds %lld already; use a larger --context or a shorter text",
                        (long long)f->n, (long long)s->o.context, (long long)s->slot[f->slot].length);
    for (int64_t i = 0; i < f->n; i++)
        if (f->tokens[i] < 0 || f->tokens[i] >= s->lm->cfg.vocab)
            return dan_fail(e, DAN_EINVAL, "token %d is not in the model's vocabulary of %lld; do tokenizer and model belong together?",
                            f->tokens[i], (long long)s->lm->cfg.vocab);
    return DAN_OK;
}

static int bind_ints(struct dan_session *s, const char *name, int32_t *data, int64_t n, struct dan_err *e)
{
    struct dan_tensor t = dan_tensor_of(&dan_dtype_i32, DAN_SHAPE(n), data);
    return dan_bind(s->program, name, &t, e);
}

static int bind_adapters(struct dan_session *s, struct dan_err *e)
{
    int rc = DAN_OK;
    for (int k = 0; k < s->n_adapters && !rc; k++) {
        char name[64];
        snprintf(name, sizeof name, "adapter:%s", s->adapter[k].name);
        struct dan_tensor t = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(s->rows, 1), s->weight_row + k * s->o.max_rows);
        if (dan_leaf(s->graph, name)) rc = dan_bind(s->program, name, &t, e);
    }
    return rc;
}

/* The row of the run that belongs to a slot. */
static void weigh_row(struct dan_session *s, int64_t slot, int64_t row)
{
    const int n = s->n_adapters;
    for (int k = 0; s->o.adapters && k < n; k++) s->weight_row[k * s->o.max_rows + row] = s->weight[slot * n + k];
}

int dan_session_adapter(struct dan_session *s, int32_t slot, const char *name, double weight, struct dan_err *e)
{
    const int n = s->n_adapters;
    bool found = false;
    if (!s->o.adapters || slot < 0 || slot >= s->o.slots)
        return dan_fail(e, DAN_EINVAL, "the session has no adapters to weigh for slot %d; this is a bug of the caller", slot);
    for (int k = 0; k < n; k++) {
        if (name && strcmp(s->adapter[k].name, name)) continue;
        if (name && !s->adapter[k].on) return dan_fail(e, DAN_EINVAL, "adapter '%s' was off when the session was made", name);
        s->weight[slot * n + k] = (float)weight;
        found = true;
    }
    return found || !name ? DAN_OK : dan_fail(e, DAN_EINVAL, "there is no adapter '%s'", name);
}

static int bind_rows(struct dan_session *s, struct dan_err *e)
{
    static const struct {
        const char *name;
        int array;
    } packed[] = {{"tokens", TOKENS}, {"pos", POS}, {"start", START}, {"stop", STOP}, {"self", SELF}};
    static const struct { const char *name; int array; } timed[] = {{"tokens", TOKENS}, {"reset", RESET}, {"hold", HOLD}};
    int rc = DAN_OK;
    if (s->lm->model->time_major) {
        for (int i = 0; i < 3 && !rc; i++) rc = bind_ints(s, timed[i].name, s->row[timed[i].array], s->rows, e);
        if (!rc) rc = bind_ints(s, "lane", s->lane, s->o.slots, e);
    } else {
        for (int i = 0; i < 5 && !rc; i++) rc = bind_ints(s, packed[i].name, s->row[packed[i].array], s->rows, e);
    }
    if (!rc && s->o.adapters) rc = bind_adapters(s, e);
    return rc ? rc : bind_ints(s, "select", s->select, s->selected, e);
}

void dan_session_refresh(struct dan_session *s) { dan_program_repack(s->program); }

static void pack_late(struct dan_session *s)
{
    if (s->rows > SHORT || ++s->n_short != PATIENCE || dan_store_bytes(s->lm->store) > PACK_BYTES) return;
    dan_program_pack_floats(s->program);
}

static int run(struct dan_session *s, struct dan_err *e)
{
    pack_late(s);
    int rc = bind_rows(s, e);
    if (!rc) rc = dan_run(s->program, e);
    if (rc) return rc;
    const struct dan_tensor *logits = dan_result(s->program, s->logits_output);
    for (int64_t i = 0; i < s->selected; i++) memcpy(s->to[i], dan_row(logits, i), sizeof(float) * (size_t)s->lm->cfg.vocab);
    return DAN_OK;
}

/* The logits of token `at` of a feed, when they are wanted. */
static bool wants(const struct dan_feed *f, int64_t at) { return at >= f->n - f->n_logits; }

static void select_row(struct dan_session *s, const struct dan_feed *f, int64_t at, int64_t row)
{
    if (!wants(f, at)) return;
    s->select[s->selected] = (int32_t)row;
    s->to[s->selected++] = f->logits + (at - (f->n - f->n_logits)) * s->lm->cfg.vocab;
}

/* --- attention families: rows of all feeds one after the other */

static void put_row(struct dan_session *s, const struct dan_feed *f)
{
    struct slot *slot = &s->slot[f->slot];
    int64_t r = s->rows++, start = f->slot * s->stride;
    s->row[TOKENS][r] = f->tokens[slot->fed];
    s->row[POS][r] = (int32_t)slot->length;
    s->row[START][r] = (int32_t)start;
    s->row[STOP][r] = (int32_t)(start + slot->length + 1);
    s->row[SELF][r] = (int32_t)(start + slot->length);
    weigh_row(s, f->slot, r);
    select_row(s, f, slot->fed, r);
    slot->length++;
    slot->fed++;
}

static bool fits(const struct dan_session *s, const struct dan_feed *f, int64_t at)
{
    return s->rows < s->o.max_rows && (!wants(f, at) || s->selected < s->o.max_select);
}

static int feed_packed(struct dan_session *s, const struct dan_feed *feeds, int64_t n, struct dan_err *e)
{
    for (int64_t i = 0; i < n;) {
        s->rows = s->selected = 0;
        while (i < n) {
            const struct dan_feed *f = &feeds[i];
            struct slot *slot = &s->slot[f->slot];
            while (slot->fed < f->n && fits(s, f, slot->fed)) put_row(s, f);
            if (slot->fed < f->n) break;
            i++;
        }
        int rc = s->rows ? run(s, e) : DAN_OK;
        if (rc) return rc;
    }
    return DAN_OK;
}

/* --- recurrent families: row = t * slots + slot; slots without a token hold their state */

static const struct dan_feed *feed_of(const struct dan_feed *feeds, int64_t n, int64_t slot)
{
    for (int64_t i = 0; i < n; i++)
        if (feeds[i].slot == slot) return &feeds[i];
    return NULL;
}

static void put_lane(struct dan_session *s, const struct dan_feed *f, int64_t slot)
{
    int64_t r = s->rows++;
    struct slot *x = &s->slot[slot];
    bool has = f && x->fed < f->n;
    s->row[TOKENS][r] = has ? f->tokens[x->fed] : 0;
    s->row[RESET][r] = has && x->length == 0;
    s->row[HOLD][r] = !has;
    weigh_row(s, slot, r);
    if (!has) return;
    select_row(s, f, x->fed, r);
    x->length++;
    x->fed++;
}

static int64_t selects_next(const struct dan_session *s, const struct dan_feed *feeds, int64_t n)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) count += s->slot[feeds[i].slot].fed < feeds[i].n && wants(&feeds[i], s->slot[feeds[i].slot].fed);
    return count;
}

static bool unfinished(const struct dan_session *s, const struct dan_feed *feeds, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (s->slot[feeds[i].slot].fed < feeds[i].n) return true;
    return false;
}

static int feed_timed(struct dan_session *s, const struct dan_feed *feeds, int64_t n, struct dan_err *e)
{
    while (unfinished(s, feeds, n)) {
        s->rows = s->selected = 0;
        while (s->rows < s->o.max_rows && unfinished(s, feeds, n) && s->selected + selects_next(s, feeds, n) <= s->o.max_select)
            for (int64_t slot = 0; slot < s->o.slots; slot++) put_lane(s, feed_of(feeds, n, slot), slot);
        int rc = run(s, e);
        if (rc) return rc;
    }
    return DAN_OK;
}

int dan_session_feed(struct dan_session *s, const struct dan_feed *feeds, int64_t n_feeds, struct dan_err *e)
{
    for (int64_t i = 0; i < n_feeds; i++) {
        int rc = check_feed(s, &feeds[i], e);
        if (rc) return rc;
        if (feed_of(feeds, i, feeds[i].slot))
            return dan_fail(e, DAN_EINVAL, "slot %d was given two feeds at once; this is a bug of the caller", feeds[i].slot);
        s->slot[feeds[i].slot].fed = 0;
    }
    return s->lm->model->time_major ? feed_timed(s, feeds, n_feeds, e) : feed_packed(s, feeds, n_feeds, e);
}

void dan_session_reset(struct dan_session *s, int32_t slot) { s->slot[slot].length = 0; }

bool dan_session_truncate(struct dan_session *s, int32_t slot, int64_t length)
{
    struct slot *x = &s->slot[slot];
    if (length > x->length || length < 0) return false;
    if (s->lm->model->time_major && length != 0 && length != x->length) return false;
    x->length = length;
    return true;
}

int64_t dan_session_length(const struct dan_session *s, int32_t slot) { return s->slot[slot].length; }
int64_t dan_session_room(const struct dan_session *s, int32_t slot) { return s->o.context - s->slot[slot].length; }
int64_t dan_session_context(const struct dan_session *s) { return s->o.context; }
int64_t dan_session_slots(const struct dan_session *s) { return s->o.slots; }
int64_t dan_session_vocab(const struct dan_session *s) { return s->lm->cfg.vocab; }
const struct dan_lm *dan_session_lm(const struct dan_session *s) { return s->lm; }

void dan_session_memory(const struct dan_session *s, struct dan_session_memory *out)
{
    *out = (struct dan_session_memory){.state = dan_store_bytes(s->states), .activations = dan_program_bytes(s->program),
                                         .packed = dan_program_packed(s->program)};
}

double dan_session_step_bytes(const struct dan_session *s, int64_t sequences, int64_t length)
{
    struct dan_session_memory m;
    dan_session_memory(s, &m);
    const struct dan_tensor *table = s->lm->cfg.tied ? NULL : dan_store_find(s->lm->store, "token_embd.weight");    /* of which a row is read */
    size_t weights = dan_store_bytes(s->lm->store) - (table ? dan_tensor_bytes(table) : 0);
    double rows = s->lm->model->time_major ? (double)s->o.slots : (double)(s->o.slots * s->stride) / (double)length;
    return (double)weights + (double)m.state * (double)sequences / rows;
}
