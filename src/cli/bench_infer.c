/* danlu bench infer: how fast a model reads prompts and writes tokens, without sampling and text. */
#include "cli/bench_infer.h"
#include <stdio.h>
#include <stdlib.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/lm_open.h"
#include "cli/trace.h"
#include "exec/machine.h"

enum { WARM = 16, MOST = 64, STREAMS = 256 };  /* tokens before the clock starts; repetitions; sequences at once */

struct infer_opts {
    const char *model, *logits, *kv_type;
    struct dan_strings prefill, depth, streams;
    int64_t decode, repeat;
};

#define AT(f) offsetof(struct infer_opts, f)
static const struct dan_opt options[] = {
    {.name = "model", .type = 'p', .offset = AT(model), .meta = "MODEL", .help = "model folder"},
    {.name = "prefill", .type = 'S', .offset = AT(prefill), .dflt = "128 512", .meta = "N", .help = "prompts of so many tokens; 0 for none"},
    {.name = "decode", .type = 'i', .offset = AT(decode), .dflt = "64", .meta = "N", .min = 1, .max = 1 << 20, .help = "tokens to write"},
    {.name = "depth", .type = 'S', .offset = AT(depth), .dflt = "16 1536", .meta = "N", .help = "write after so many tokens; 0 for none"},
    {.name = "streams", .type = 'S', .offset = AT(streams), .dflt = "1", .meta = "N", .help = "sequences read or written at the same time"},
    {.name = "repeat", .type = 'i', .offset = AT(repeat), .dflt = "5", .meta = "N", .min = 1, .max = MOST, .help = "times; the median counts"},
    {.name = "logits", .type = 's', .offset = AT(logits), .meta = "FILE",
     .help = "write the logits of a 32-token prompt's last token: f32, one per word of the vocabulary"},
    DAN_KV_OPTION(struct infer_opts),
    {.name = NULL}};

struct bench {
    struct dan_cli *cli;
    const struct infer_opts *o;
    struct lm_files m;
    struct dan_session *s;
    int32_t *ids;
    int64_t  streams;                          /* measured now */
    bool     decodes;                          /* something was said of bytes that steps read */
    float   *logits;                           /* [streams, V] */
    struct dan_feed *feeds;
    struct dan_table table;
    json_t  *results;
};

/* Appends ids [at, at + n) to every stream; the logits of the last are made. */
static int feed(struct bench *b, int64_t at, int64_t n, double *seconds, struct dan_err *e)
{
    for (int64_t k = 0; k < b->streams; k++)
        b->feeds[k] = (struct dan_feed){.slot = (int32_t)k, .tokens = b->ids + at, .n = n, .n_logits = 1,
                                        .logits = b->logits + k * dan_session_vocab(b->s)};
    double t0 = dan_now();
    int rc = n ? dan_session_feed(b->s, b->feeds, b->streams, e) : DAN_OK;
    *seconds += dan_now() - t0;
    return rc;
}

static void cut(struct bench *b, int64_t length)
{
    for (int32_t k = 0; k < b->streams; k++) dan_session_truncate(b->s, k, length);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* step_bytes: what each step reads; 0: nobody asks. */
static void report(struct bench *b, const char *what, int64_t depth, int64_t tokens, double step_bytes, double *seconds)
{
    char rate[DAN_NUM], best[DAN_NUM], at[DAN_NUM], n[DAN_NUM], streams[DAN_NUM], gigabytes[DAN_NUM] = "";
    size_t count = (size_t)b->o->repeat;
    json_t *all = json_array();
    for (size_t i = 0; i < count; i++) json_array_append_new(all, json_real(seconds[i]));
    qsort(seconds, count, sizeof *seconds, by_value);
    double median = (seconds[(count - 1) / 2] + seconds[count / 2]) / 2;
    snprintf(at, sizeof at, "%lld", (long long)depth);
    snprintf(n, sizeof n, "%lld", (long long)tokens);
    snprintf(streams, sizeof streams, "%lld", (long long)b->streams);
    double speed = step_bytes * (double)tokens / median;
    if (step_bytes > 0) snprintf(gigabytes, sizeof gigabytes, "%.1f", speed / 1e9);
    b->decodes |= step_bytes > 0;
    tokens *= b->streams;
    dan_table_row(&b->table, (const char *const[]){what, streams, n, at, dan_fmt_count((double)tokens / median, rate),
                                                   dan_fmt_count((double)tokens / seconds[0], best), gigabytes});
    json_array_append_new(b->results, json_pack("{s:s,s:I,s:I,s:I,s:f,s:f,s:o}", "what", what, "streams", (json_int_t)b->streams, "tokens",
                                                (json_int_t)(tokens / b->streams), "depth", (json_int_t)depth,
                                                "tokens_per_second", (double)tokens / median, "bytes_per_second", speed, "seconds", all));
}

static int prefill(struct bench *b, int64_t n, struct dan_err *e)
{
    double seconds[MOST] = {0}, warm = 0;
    int rc = DAN_OK;
    for (int64_t r = -1; r < b->o->repeat && !rc; r++) {
        cut(b, 0);
        rc = feed(b, 0, n, r < 0 ? &warm : &seconds[r], e);
    }
    if (!rc) report(b, "prefill", 0, n, 0, seconds);
    return rc;
}

static int decode(struct bench *b, int64_t depth, struct dan_err *e)
{
    double seconds[MOST] = {0}, warm = 0;
    cut(b, 0);
    int rc = feed(b, 0, depth, &warm, e);
    for (int64_t r = -1; r < b->o->repeat && !rc; r++) {
        int64_t n = r < 0 && b->o->decode > WARM ? WARM : b->o->decode;
        if (!rc) cut(b, depth);
        for (int64_t i = 0; i < n && !rc; i++) rc = feed(b, depth + i, 1, r < 0 ? &warm : &seconds[r], e);
    }
    double bytes = dan_session_step_bytes(b->s, b->streams, depth + b->o->decode / 2);
    if (!rc) report(b, "decode", depth, b->o->decode, bytes, seconds);
    return rc;
}

static int write_logits(struct bench *b, struct dan_err *e)
{
    double seconds = 0;
    if (!b->o->logits) return DAN_OK;
    b->streams = 1;
    cut(b, 0);
    int rc = feed(b, 0, 32, &seconds, e);
    return rc ? rc : dan_write_file(b->o->logits, b->logits, (size_t)dan_session_vocab(b->s) * sizeof *b->logits, e);
}

static int number(const char *text, const char *option, int64_t most, int64_t *n, struct dan_err *e)
{
    if (dan_parse_int(text, n) && *n >= 0 && *n <= most) return DAN_OK;
    return dan_fail(e, DAN_EUSAGE, "--%s '%s' is no number from 0 to %lld, the most that this command or the model's context takes", option, text,
                    (long long)most);
}

static int measure_streams(struct bench *b, struct dan_err *e)
{
    int64_t n, context = dan_session_context(b->s);
    int rc = DAN_OK;
    for (size_t i = 0; i < b->o->prefill.n && !rc; i++) {
        rc = number(b->o->prefill.v[i], "prefill", context, &n, e);
        if (!rc && n) rc = prefill(b, n, e);
    }
    for (size_t i = 0; i < b->o->depth.n && !rc; i++) {
        rc = number(b->o->depth.v[i], "depth", context - b->o->decode, &n, e);
        if (!rc && n) rc = decode(b, n, e);
    }
    cut(b, 0);
    return rc;
}

static int measure(struct bench *b, struct dan_err *e)
{
    int rc = write_logits(b, e);
    for (size_t i = 0; i < b->o->streams.n && !rc; i++) {
        rc = number(b->o->streams.v[i], "streams", STREAMS, &b->streams, e);
        if (!rc && b->streams) rc = measure_streams(b, e);
    }
    return rc;
}

/* Slots for the most streams, and, of several, a context no longer than what is measured. */
static int session_options(const struct bench *b, struct dan_session_opts *o, struct dan_err *e)
{
    bool recurrent = b->m.lm.model->time_major;
    int64_t n, most = 1, longest = 0, limit = recurrent ? 4096 : b->m.lm.cfg.context;
    int rc = DAN_OK;
    for (size_t i = 0; i < b->o->streams.n && !rc; i++) {
        rc = number(b->o->streams.v[i], "streams", STREAMS, &n, e);
        if (!rc && n > most) most = n;
    }
    for (size_t i = 0; i < b->o->prefill.n && !rc; i++) {
        rc = number(b->o->prefill.v[i], "prefill", limit, &n, e);
        if (!rc && n > longest) longest = n;
    }
    for (size_t i = 0; i < b->o->depth.n && !rc; i++) {
        rc = number(b->o->depth.v[i], "depth", limit - b->o->decode, &n, e);
        if (!rc && n + b->o->decode > longest) longest = n + b->o->decode;
    }
    *o = (struct dan_session_opts){.pool = b->m.pool, .cpu_mask = dan_isa_mask(b->cli->isa), .kv_type = b->o->kv_type, .slots = most,
                                   .context = most > 1 && longest >= 32 ? longest : recurrent ? 4096 : 0};
    return rc;
}

/* The same ids as bench/infer_vs_llamacpp.py. */
static int make_ids(struct bench *b, struct dan_err *e)
{
    int64_t n = dan_session_context(b->s), vocab = dan_session_vocab(b->s), streams = dan_session_slots(b->s);
    b->ids = dan_malloc(sizeof *b->ids * (size_t)n);
    b->logits = dan_malloc(sizeof *b->logits * (size_t)(vocab * streams));
    b->feeds = dan_calloc((size_t)streams, sizeof *b->feeds);
    if (!b->ids || !b->logits || !b->feeds) return dan_fail(e, DAN_ENOMEM, "not enough memory for %lld tokens", (long long)n);
    for (int64_t i = 0; i < n; i++) b->ids[i] = (int32_t)((i * 7919 + 13) % vocab);
    return DAN_OK;
}

/* For people, who read GB/s beside it: a decode near the limit can only be made faster by fewer bytes.  What was measured is said without it, too. */
static int print_limit(struct bench *b, struct dan_err *e)
{
    struct dan_machine m;
    struct dan_err why = {0};
    char line[64];
    struct dan_machine_opts o = {.pool = b->m.pool, .cpu_mask = dan_isa_mask(b->cli->isa), .seconds = 0.3};
    if (!b->decodes || dan_machine_measure(&o, &m, &why)) return DAN_OK;
    int n = snprintf(line, sizeof line, "memory reads at %.1f GB/s\n", m.bandwidth[DAN_FLOW_READ][DAN_LEVEL_MEMORY][m.n_points - 1] / 1e9);
    return dan_out(&b->cli->ui, line, (size_t)n, e);
}

static int print(struct bench *b, double load, double session, struct dan_err *e)
{
    struct dan_str out = {0};
    if (b->cli->json)
        return dan_out_json(&b->cli->ui,
                            json_pack("{s:s,s:i,s:f,s:f,s:O}", "model", b->o->model, "threads", dan_pool_size(b->m.pool), "load_seconds", load,
                                      "session_seconds", session, "results", b->results),
                            e);
    dan_table_print(&b->table, b->cli->ui.out_tty ? dan_ui_width() : 0, b->cli->ui.out_colour, &out);
    int rc = dan_out(&b->cli->ui, dan_str_c(&out), out.n, e);
    dan_str_release(&out);
    return rc ? rc : print_limit(b, e);
}

static int bench(struct bench *b, struct dan_err *e)
{
    double t0 = dan_now();
    int rc = lm_open(b->cli, b->o->model, false, &b->m, e);
    double t1 = dan_now();
    struct dan_session_opts o = {0};
    if (!rc) rc = session_options(b, &o, e);
    if (!rc) rc = dan_session_new(&b->m.lm, &o, &b->s, e);
    double t2 = dan_now();
    if (!rc) rc = make_ids(b, e);
    if (!rc) rc = measure(b, e);
    return rc ? rc : print(b, t1 - t0, t2 - t1, e);
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    static const char *const headers[] = {"what", "streams", "tokens", "after", "tokens/s", "best", "GB/s"};
    struct bench b = {.cli = cli, .o = opts, .results = json_array()};
    dan_table_init(&b.table, "lrrrrrr", headers);
    int rc = bench(&b, e);
    dan_table_release(&b.table);
    json_decref(b.results);
    dan_session_free(b.s);
    dan_free(b.ids);
    dan_free(b.logits);
    dan_free(b.feeds);
    lm_close(&b.m);
    return rc;
}

const struct dan_cmd bench_infer_cmd = {
    .name = "infer",
    .doc = "speed of reading prompts and writing tokens with a model",
    .about = "The time from token ids to logits: no tokenizer, no sampling.  'after' is the number of tokens that the cache of each stream holds\n"
             "before; rates count the tokens of all streams.  GB/s: weights, keys and values that the steps of decode read; the memory's limit is\n"
             "a line for people below the table.",
    .example = "danlu bench infer runs/book --prefill 512 --depth 16 1536 --threads 2",
    .opts = options,
    .opts_bytes = sizeof(struct infer_opts),
    .run = run};
