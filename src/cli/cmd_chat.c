/* danlu chat: a conversation in the terminal, line by line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/sys.h"
#include "cli/lm_open.h"
#include "cli/trace.h"
#include "infer/chat.h"

struct chat_opts {
    const char *model, *system, *fusion;
    struct dan_strings stop;
    struct lm_sampling sampling;
    int64_t context;
};

#define AT(f) offsetof(struct chat_opts, f)
static const struct dan_opt options[] = {
    {.name = "model", .type = 'p', .offset = AT(model), .meta = "MODEL", .help = "model folder"},
    {.name = "system", .type = 's', .offset = AT(system), .meta = "TEXT", .help = "instructions that stand before the conversation"},
    LM_SAMPLING_OPTIONS(struct chat_opts, sampling, "512"),
    {.name = "stop", .type = 'S', .offset = AT(stop), .meta = "TEXT", .help = "end an answer before any of these strings"},
    {.name = "context",
     .type = 'i',
     .offset = AT(context),
     .dflt = "0",
     .meta = "N",
     .min = 0,
     .max = INT32_MAX,
     .help = "tokens to remember (0: the model's context, 4096 at most)"},
    DAN_FUSION_OPTION(struct chat_opts),
    {.name = NULL}};

enum { DEFAULT_CONTEXT = 4096, MAX_STOPS = 16 };

struct talk {
    const struct chat_opts *o;
    struct dan_cli *cli;
    struct lm_files m;
    struct dan_session *s;
    struct dan_chat chat;
    struct dan_gen_opts gen;
    const char *stop[MAX_STOPS];
    int32_t eos[16];
    struct dan_ids held;                       /* what the session's slot holds */
    uint64_t answers;
    bool    started;                           /* something of the answer is on the screen */
    int     out_rc;
    struct dan_err out_err;
};

static void gen_options(struct talk *t)
{
    const struct dan_chat_format *f = t->chat.format;
    t->gen = (struct dan_gen_opts){.sampling = lm_sampling_of(t->cli, &t->o->sampling, &t->m),
                                   .max_tokens = t->o->sampling.max_tokens,
                                   .stop = t->stop,
                                   .eos = t->eos};
    if (f->stop) t->stop[t->gen.n_stop++] = f->stop;
    for (size_t i = 0; i < t->o->stop.n && t->gen.n_stop < MAX_STOPS; i++) t->stop[t->gen.n_stop++] = t->o->stop.v[i];
    for (size_t i = 0; i < t->m.n_eos; i++) t->eos[t->gen.n_eos++] = t->m.eos[i];
    if (f->end) t->eos[t->gen.n_eos++] = dan_tokenizer_find_special(t->m.tok, f->end);
}

static int64_t context_of(const struct talk *t)
{
    if (t->o->context || t->m.lm.model->time_major) return t->o->context;
    return t->m.lm.cfg.context < DEFAULT_CONTEXT ? t->m.lm.cfg.context : DEFAULT_CONTEXT;
}

static int open_talk(struct talk *t, struct dan_err *e)
{
    bool known;
    int rc = lm_open(t->cli, t->o->model, true, &t->m, e);
    if (rc) return rc;
    const struct dan_chat_format *f = dan_chat_format_of(t->m.tok, &known);
    dan_chat_init(&t->chat, t->m.tok, f, &t->m.prefix);
    if (!known)
        dan_warn(&t->cli->ui,
                 "the model's chat template is of a kind that danlu does not know; talking to it in the form 'User: ... / Assistant:'");
    else if (!f->mark) dan_say(&t->cli->ui, "the model has no chat template: it continues a text of the form 'User: ... / Assistant:'");
    gen_options(t);
    rc = dan_sampling_check(&t->gen.sampling, e);
    if (!rc && t->o->system) rc = dan_chat_system(&t->chat, t->o->system, strlen(t->o->system), e);
    struct dan_session_opts so = {.slots = 1, .context = context_of(t), .pool = t->m.pool, .cpu_mask = dan_isa_mask(t->cli->isa), .fusion = t->o->fusion};
    return rc ? rc : dan_session_new(&t->m.lm, &so, &t->s, e);
}

static void put(struct talk *t, const char *p, size_t n)
{
    if (!t->out_rc) t->out_rc = dan_out(&t->cli->ui, p, n, &t->out_err);
    if (!t->out_rc) t->out_rc = dan_out_flush(&t->cli->ui, &t->out_err);
}

static void on_text(void *ctx, const struct dan_gen *g, const char *p, size_t n)
{
    struct talk *t = ctx;
    (void)g;
    if (t->cli->json) return;
    for (; !t->started && n && (*p == ' ' || *p == '\n'); p++) n--;
    if (n) put(t, p, n);
    t->started = t->started || n;
}

static bool go_on(void *ctx) { const struct talk *t = ctx; return !t->cli->stop && !t->out_rc; }

/* Keeps as much of the slot as the new prompt begins with. */
static void reuse(struct talk *t, const struct dan_ids *prompt)
{
    size_t same = 0;
    while (same < t->held.n && same + 1 < prompt->n && t->held.v[same] == prompt->v[same]) same++;
    if (!dan_session_truncate(t->s, 0, (int64_t)same)) dan_session_reset(t->s, 0);
}

static void remember(struct talk *t, const struct dan_gen *g)
{
    t->held.n = 0;
    for (int64_t i = 0; i < dan_session_length(t->s, 0) && i < (int64_t)g->ids.n; i++) dan_ids_push(&t->held, g->ids.v[i]);
}

static int print_end(struct talk *t, const struct dan_gen *g, const struct dan_gen_times *x, struct dan_err *e)
{
    if (t->cli->json)
        return dan_out_json(&t->cli->ui,
                            json_pack("{s:s,s:o,s:s,s:I,s:I}", "role", "assistant", "text", lm_json_text(dan_str_c(&g->text), g->text.n),
                                      "finish_reason", dan_finish_name(g->finish), "fed_tokens", (json_int_t)x->prompt_tokens, "new_tokens",
                                      (json_int_t)x->new_tokens),
                            e);
    put(t, "\n", 1);
    if (g->finish == DAN_GEN_LENGTH) dan_say(&t->cli->ui, dan_session_room(t->s, 0) ? "(ended by --max-tokens)" : "(the context is full)");
    if (g->finish == DAN_GEN_CANCELLED) dan_say(&t->cli->ui, "(stopped)");
    if (t->out_rc) dan_fail(e, t->out_rc, "%s", t->out_err.msg);
    return t->out_rc;
}

static int generate(struct talk *t, const struct dan_ids *prompt, struct dan_err *e)
{
    struct dan_gen g, *one[] = {&g};
    struct dan_gen_times times = {0};
    struct dan_gen_hooks hooks = {on_text, go_on, t};
    reuse(t, prompt);
    int rc = dan_gen_begin(&g, &t->gen, t->m.tok, 0, t->answers++, prompt->v, prompt->n, e);
    t->started = false;
    if (!rc) rc = dan_gen_run(t->s, one, 1, &hooks, &times, e);
    remember(t, &g);
    if (!rc) rc = dan_chat_answer(&t->chat, &g, e);
    if (!rc) rc = print_end(t, &g, &times, e);
    dan_gen_release(&g);
    return rc;
}

static int answer(struct talk *t, const char *line, size_t n, struct dan_err *e)
{
    struct dan_ids prompt = {0};
    size_t dropped = 0;
    int64_t context = dan_session_context(t->s), most = t->gen.max_tokens, reserve = most > 0 && most < context / 4 ? most : context / 4;
    int rc = dan_chat_user(&t->chat, line, n, e);
    if (rc) return rc;
    rc = dan_chat_prompt(&t->chat, context - (reserve > 0 ? reserve : 1), &prompt, &dropped, e);
    if (dropped)
        dan_say(&t->cli->ui, "(the conversation is longer than the context of %lld tokens: forgetting its first %zu messages)",
                (long long)context, dropped);
    if (rc) dan_chat_drop_last(&t->chat);
    else rc = generate(t, &prompt, e);
    dan_ids_release(&prompt);
    return rc;
}

/* One line from the user: true when the talk is over. */
static bool command(struct talk *t, const char *line)
{
    struct dan_ui *ui = &t->cli->ui;
    if (!strcmp(line, "/exit") || !strcmp(line, "/quit")) return true;
    if (!strcmp(line, "/reset")) {
        dan_chat_clear(&t->chat);
        dan_say(ui, "(forgotten; a new conversation)");
    } else if (!strcmp(line, "/help")) {
        dan_say(
            ui,
            "/reset  begin a new conversation\n/exit   end (also Ctrl-D)\n/help   this\nCtrl-C  stops an answer; twice ends the program");
    } else {
        dan_say(ui, "there is no '%s'; /help lists what there is", line);
    }
    return false;
}

static void show_prompt(struct talk *t)
{
    if (t->cli->ui.tty && isatty(0)) fputs("> ", stderr);
}

static int converse(struct talk *t, struct dan_err *e)
{
    char *line = NULL;
    size_t cap = 0;
    int rc = DAN_OK;
    for (show_prompt(t); !rc; show_prompt(t)) {
        ssize_t n = getline(&line, &cap, stdin);
        if (n < 0) break;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) line[--n] = 0;
        if (n == 0) continue;
        if (line[0] == '/' && command(t, line)) break;
        if (line[0] == '/') continue;
        struct dan_err mine = {0};
        t->cli->stop = 0;
        rc = answer(t, line, (size_t)n, &mine);
        t->cli->stop = 0;
        if (rc == DAN_EINVAL) {                /* a message that does not fit: the next may */
            dan_report(&t->cli->ui, "danlu chat", &mine);
            rc = DAN_OK;
        }
        if (rc) dan_fail(e, rc, "%s", mine.msg);
    }
    free(line);                                /* getline's */
    return rc;
}

static int run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    struct talk t = {.o = opts, .cli = cli};
    int rc = open_talk(&t, e);
    if (!rc && isatty(0)) dan_say(&cli->ui, "/help lists commands; Ctrl-D ends");
    if (!rc) rc = converse(&t, e);
    dan_session_free(t.s);
    dan_chat_release(&t.chat);
    dan_ids_release(&t.held);
    lm_close(&t.m);
    return rc;
}

const struct dan_cmd dan_cmd_chat = {
    .name = "chat", .doc = "talk with a model", .group = DAN_GROUP_USE, .rank = 0,
    .about = "Reads one message a line and answers it. What was said stays in the model's cache, so only new words are computed. When the\n"
             "conversation outgrows the context, its oldest messages are forgotten, and chat says so. Ctrl-C stops an answer.",
    .example = "danlu chat runs/book --system \"You are brief.\"",
    .opts = options, .opts_bytes = sizeof(struct chat_opts), .run = run};
