/* danlu generate: text that continues prompts. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/adapter_options.h"
#include "cli/trace.h"
#include "io/json.h"

enum { SLOTS = 16 };                           /* prompts that run together */

struct generate_opts {
    const char *model, *prompt_file, *fusion, *kv_type;
    struct dan_strings prompts, stop, adapters;
    struct lm_sampling sampling;
    int64_t context;
    bool    echo, ignore_eos, trace, ref;
};

#define AT(f) offsetof(struct generate_opts, f)
static const struct dan_opt options[] = {
    {.name = "model", .type = 'p', .offset = AT(model), .meta = "MODEL", .help = "model folder"},
    {.name = "prompt",
     .letter = 'p',
     .type = 'S',
     .offset = AT(prompts),
     .meta = "TEXT",
     .help = "text to continue; several are continued together"},
    {.name = "prompt-file",
     .letter = 'f',
     .type = 's',
     .offset = AT(prompt_file),
     .meta = "FILE",
     .help = "take the prompt from a file (without both: from standard input)"},
    DAN_ADAPTER_OPTION(struct generate_opts),
    LM_SAMPLING_OPTIONS(struct generate_opts, sampling, "256"),
    {.name = "stop", .type = 'S', .offset = AT(stop), .meta = "TEXT", .help = "end before any of these strings"},
    {.name = "ignore-eos", .type = 'b', .offset = AT(ignore_eos), .help = "go on after the end-of-text token"},
    {.name = "context",
     .type = 'i',
     .offset = AT(context),
     .dflt = "0",
     .meta = "N",
     .min = 0,
     .max = INT32_MAX,
     .help = "tokens of prompt and text (0: what is needed, up to the model's)"},
    {.name = "echo", .type = 'b', .offset = AT(echo), .section = "Output", .help = "print the prompt before its continuation"},
    DAN_TRACE_OPTIONS(struct generate_opts),
    DAN_FUSION_OPTION(struct generate_opts),
    DAN_KV_OPTION(struct generate_opts),
    {.name = NULL}};

struct prompt { const char *text; size_t n; struct dan_gen gen; };
struct job {
    const struct generate_opts *o;
    struct dan_cli *cli;
    struct lm_files m;
    struct dan_gen_opts gen;
    struct prompt *prompt;
    size_t n;
    struct dan_trace trace;
    char  *read;                               /* what came from a file or standard input */
    struct dan_gen_times times;
    double opened, load_seconds, first_seconds;    /* when the model was opened; until a prompt is fed; until its first token */
    int    out_rc;
    struct dan_err out_err;
};

static int read_stdin(struct job *j, size_t *n, struct dan_err *e)
{
    struct dan_str s = {0};
    char buf[1 << 14];
    ssize_t got;
    if (isatty(0)) dan_say(&j->cli->ui, "reading the prompt from standard input; Ctrl-D ends it");
    while ((got = read(0, buf, sizeof buf)) > 0) dan_str_append(&s, buf, (size_t)got);
    if (got < 0) return dan_fail(e, DAN_EIO, "cannot read standard input: %s", strerror(errno));
    if (s.failed) return dan_fail(e, DAN_ENOMEM, "not enough memory for the prompt");
    *n = s.n;
    j->read = s.p ? s.p : dan_strdup("");
    return DAN_OK;
}

static int collect(struct job *j, struct dan_err *e)
{
    const struct generate_opts *o = j->o;
    size_t n = 0;
    int rc = DAN_OK;
    if (o->prompts.n && o->prompt_file) return dan_fail(e, DAN_EUSAGE, "--prompt and --prompt-file are both given; use one");
    if (o->prompt_file) rc = dan_read_file(o->prompt_file, &j->read, &n, e);
    else if (!o->prompts.n) rc = read_stdin(j, &n, e);
    if (rc) return rc;
    j->n = o->prompts.n ? o->prompts.n : 1;
    j->prompt = dan_arena_alloc(j->cli->arena, sizeof *j->prompt * j->n);
    if (!j->prompt) return dan_fail(e, DAN_ENOMEM, "not enough memory for %zu prompts", j->n);
    for (size_t i = 0; i < o->prompts.n; i++) {
        j->prompt[i].text = o->prompts.v[i];
        j->prompt[i].n = strlen(o->prompts.v[i]);
    }
    if (!o->prompts.n) j->prompt[0].text = j->read;
    if (!o->prompts.n) j->prompt[0].n = n;
    return DAN_OK;
}

static int begin(struct job *j, struct dan_err *e)
{
    int rc = DAN_OK;
    for (size_t i = 0; i < j->n && !rc; i++) {
        struct dan_ids ids = {0};
        struct prompt *p = &j->prompt[i];
        rc = dan_prompt_encode(j->m.tok, &j->m.prefix, p->text, p->n, &ids, e);
        if (!rc) rc = dan_gen_begin(&p->gen, &j->gen, j->m.tok, (int32_t)(i % SLOTS), i, ids.v, ids.n, e);
        dan_ids_release(&ids);
    }
    return rc;
}

/* Room for the longest prompt and its text, not for everything the model could hold. */
static int open_session(struct job *j, struct dan_session **s, struct dan_err *e)
{
    int64_t most = 0, limit = j->m.lm.model->time_major ? INT32_MAX : dan_lm_longest(&j->m.lm.cfg);
    for (size_t i = 0; i < j->n; i++)
        if ((int64_t)j->prompt[i].gen.n_prompt > most) most = (int64_t)j->prompt[i].gen.n_prompt;
    int64_t want = j->gen.max_tokens > 0 && most + j->gen.max_tokens < limit ? most + j->gen.max_tokens : limit;
    struct dan_session_opts o = {.slots = j->n < SLOTS ? (int64_t)j->n : SLOTS,
                                 .context = j->o->context ? j->o->context : want,
                                 .pool = j->m.pool,
                                 .cpu_mask = dan_isa_mask(j->cli->isa),
                                 .ref = j->o->ref,
                                 .fusion = j->o->fusion,
                                 .kv_type = j->o->kv_type,
                                 .trace = j->o->trace ? dan_trace_node : NULL,
                                 .trace_ctx = &j->trace};
    j->trace.ui = &j->cli->ui;
    return dan_session_new(&j->m.lm, &o, s, e);
}

static void put(struct job *j, const char *p, size_t n)
{
    if (!j->out_rc) j->out_rc = dan_out(&j->cli->ui, p, n, &j->out_err);
}

static void on_text(void *ctx, const struct dan_gen *g, const char *bytes, size_t n)
{
    struct job *j = ctx;
    (void)g;
    if (j->cli->json || j->n > 1) return;      /* several at once cannot share a screen: shown when done */
    put(j, bytes, n);
    if (!j->out_rc) j->out_rc = dan_out_flush(&j->cli->ui, &j->out_err);
}

static bool go_on(void *ctx) { const struct job *j = ctx; return !j->cli->stop && !j->out_rc; }

static json_t *ids_json(const struct dan_gen *g)
{
    json_t *a = json_array();
    for (size_t i = g->n_prompt; i < g->ids.n; i++) json_array_append_new(a, json_integer(g->ids.v[i]));
    return a;
}

static double rate(int64_t n, double seconds) { return seconds > 0 ? (double)n / seconds : 0; }

static int print_json(struct job *j, const struct prompt *p, const struct dan_gen_times *t, struct dan_err *e)
{
    const struct dan_gen *g = &p->gen;
    json_t *timings = json_pack("{s:f,s:f,s:f,s:f,s:f}", "first_token_seconds", j->load_seconds + t->prompt_seconds, "prompt_seconds", t->prompt_seconds, "decode_seconds", t->decode_seconds,
                                "prompt_tokens_per_second", rate(t->prompt_tokens, t->prompt_seconds),
                                "decode_tokens_per_second", rate(t->decode_tokens, t->decode_seconds));
    return dan_out_json(&j->cli->ui,
                        json_pack("{s:o,s:o,s:o,s:I,s:I,s:s,s:o}", "prompt", dan_json_string_of(p->text, p->n), "text",
                                  dan_json_string_of(dan_str_c(&g->text), g->text.n), "tokens", ids_json(g), "prompt_tokens",
                                  (json_int_t)g->n_prompt, "new_tokens", (json_int_t)dan_gen_new_tokens(g), "finish_reason",
                                  dan_finish_name(g->finish), "timings", timings),
                        e);
}

static int print_done(struct job *j, size_t i, const struct dan_gen_times *t, struct dan_err *e)
{
    const struct prompt *p = &j->prompt[i];
    if (j->cli->json) return print_json(j, p, t, e);
    char head[48];
    snprintf(head, sizeof head, "%s--- %zu\n", i ? "\n" : "", i + 1);
    if (j->n > 1) put(j, head, strlen(head));
    if (j->n > 1 && j->o->echo) put(j, p->text, p->n);
    if (j->n > 1) put(j, dan_str_c(&p->gen.text), p->gen.text.n);
    put(j, "\n", 1);
    if (j->out_rc) dan_fail(e, j->out_rc, "%s", j->out_err.msg);
    return j->out_rc;
}

/* Prompts [first, first + n), which fill the slots from 0. */
static int run_group(struct job *j, struct dan_session *s, size_t first, size_t n, struct dan_err *e)
{
    struct dan_gen *group[SLOTS];
    struct dan_gen_times t = {0};
    struct dan_gen_hooks hooks = {on_text, go_on, j};
    for (size_t i = 0; i < n; i++) {
        group[i] = &j->prompt[first + i].gen;
        dan_session_reset(s, (int32_t)i);
    }
    if (j->n == 1 && j->o->echo && !j->cli->json) put(j, j->prompt[0].text, j->prompt[0].n);
    j->cli->ui.heeds = 1;
    if (!j->load_seconds) j->load_seconds = dan_now() - j->opened;
    int rc = dan_gen_run(s, group, (int64_t)n, &hooks, &t, e);
    if (!j->first_seconds) j->first_seconds = j->load_seconds + t.prompt_seconds;
    for (size_t i = 0; i < n && !rc; i++) rc = print_done(j, first + i, &t, e);
    j->times.prompt_tokens += t.prompt_tokens;
    j->times.prompt_seconds += t.prompt_seconds;
    j->times.new_tokens += t.new_tokens;
    j->times.decode_tokens += t.decode_tokens;
    j->times.decode_seconds += t.decode_seconds;
    return rc ? rc : j->cli->stop ? dan_fail(e, DAN_ECANCELLED, "interrupted") : DAN_OK;
}

static void say_times(struct job *j)
{
    char a[DAN_NUM], b[DAN_NUM];
    const struct dan_gen_times *t = &j->times;
    dan_out_flush(&j->cli->ui, NULL);          /* the text first, where both go to one screen */
    dan_say(&j->cli->ui, "first token after %.3g s; prompt %lld tokens, %s/s; text %lld tokens, %s/s; %s", j->first_seconds,
            (long long)t->prompt_tokens,
            dan_fmt_count(rate(t->prompt_tokens, t->prompt_seconds), a), (long long)t->new_tokens,
            dan_fmt_count(rate(t->decode_tokens, t->decode_seconds), b),
            j->n == 1 && j->prompt[0].gen.finish == DAN_GEN_LENGTH ? "ended by length" : "done");
}

static int generate(struct job *j, struct dan_err *e)
{
    struct dan_session *s = NULL;
    j->opened = dan_now();
    int rc = lm_open(j->cli, j->o->model, true, &j->m, e);
    if (!rc) rc = adapters_load(j->cli, &j->m, &j->o->adapters, e);
    if (!rc) {
        j->gen = (struct dan_gen_opts){.sampling = lm_sampling_of(j->cli, &j->o->sampling, &j->m),
                                       .max_tokens = j->o->sampling.max_tokens,
                                       .stop = j->o->stop.v,
                                       .n_stop = j->o->stop.n,
                                       .eos = j->m.eos,
                                       .n_eos = j->m.n_eos,
                                       .ignore_eos = j->o->ignore_eos};
        rc = dan_sampling_check(&j->gen.sampling, e);
    }
    if (!rc && j->m.lm.model->time_major && j->gen.max_tokens == 0 && (j->gen.ignore_eos || j->gen.n_eos == 0))
        rc = dan_fail(e, DAN_EUSAGE, "a recurrent model has no context that fills up; give --max-tokens");
    if (!rc) rc = begin(j, e);
    if (!rc) rc = open_session(j, &s, e);
    for (size_t i = 0; i < j->n && !rc; i += SLOTS) rc = run_group(j, s, i, j->n - i < SLOTS ? j->n - i : SLOTS, e);
    if (!rc) say_times(j);
    dan_session_free(s);
    return rc;
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct job j = {.o = opts, .cli = cli};
    int rc = collect(&j, e);
    if (!rc) rc = generate(&j, e);
    for (size_t i = 0; i < j.n; i++) dan_gen_release(&j.prompt[i].gen);
    lm_close(&j.m);
    dan_free(j.read);
    return rc;
}

const struct dan_cmd dan_cmd_generate = {
    .name = "generate",
    .doc = "continue a text with a model",
    .group = DAN_GROUP_USE,
    .rank = 1,
    .about =
        "Prints the continuation as it is made.  Several prompts are continued together, each as if it were alone: the text depends on "
        "the\n"
        "model, the prompt, its number, the sampling options and --seed, not on its company or --threads.\n\n"
        "Sampling options that are not given come from the model's generation_config.json when that says to sample.  They apply in this\n"
        "order: repetition penalty, temperature, top-k, top-p, min-p.",
    .example = "danlu generate runs/book --prompt \"Once upon a time\" --max-tokens 200\ndanlu generate runs/book --prompt A B C "
               "--temperature 0 --json",
    .opts = options,
    .opts_bytes = sizeof(struct generate_opts),
    .run = run};
