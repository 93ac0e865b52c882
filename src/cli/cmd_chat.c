/* danlu chat: a conversation in the terminal, line by line, in the form of the model's chat template. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"
#include "cli/adapter_options.h"
#include "cli/trace.h"
#include "infer/chat.h"
#include "io/json.h"

struct chat_opts {
    const char *model, *system, *template, *tools, *fusion, *kv_type;
    struct dan_strings stop, adapters;
    struct lm_sampling sampling;
    int64_t context;
};

#define AT(f) offsetof(struct chat_opts, f)
static const struct dan_opt options[] = {
    {.name = "model", .type = 'p', .offset = AT(model), .meta = "MODEL", .help = "model folder"},
    {.name = "system", .type = 's', .offset = AT(system), .meta = "TEXT", .help = "instructions that stand before the conversation"},
    {.name = "template", .type = 's', .offset = AT(template), .meta = "FILE|NAME", .alias = "chat-template",
     .help = "a chat template (Jinja) instead of the model's: a file, a name in its tokenizer_config.json, or chatml, llama3, llama2, mistral, gemma, "
             "phi3, zephyr, alpaca, plain"},
    {.name = "tools", .type = 's', .offset = AT(tools), .meta = "FILE", .help = "functions that the model may ask for: a JSON list, as OpenAI's \"tools\"; its calls are shown as it writes them"},
    DAN_ADAPTER_OPTION(struct chat_opts),
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
    DAN_KV_OPTION(struct chat_opts),
    {.name = NULL}};

enum { DEFAULT_CONTEXT = 4096 };

struct talk {
    const struct chat_opts *o;
    struct dan_cli *cli;
    struct lm_files m;
    struct dan_session *s;
    struct dan_chat_template template;
    struct dan_chat_traits traits;
    struct dan_chat chat;
    struct dan_gen_opts gen;
    const char **stop;                         /* [stop.n + 1] */
    struct dan_ids eos;
    struct dan_ids held;                       /* what the session's slot holds */
    uint64_t answers;
    bool    started;                           /* something of the answer is on the screen */
    int     out_rc;
    struct dan_err out_err;
};

/* An answer ends at the model's eos, at the token that the template puts behind one, and at the text of the next turn where that is no
 * token. */
static int gen_options(struct talk *t, struct dan_err *e)
{
    size_t n = 0;
    t->stop = dan_calloc(t->o->stop.n + 1, sizeof *t->stop);
    if (t->traits.stop_text.n && t->stop) t->stop[n++] = t->traits.stop_text.p;
    for (size_t i = 0; i < t->o->stop.n && t->stop; i++) t->stop[n++] = t->o->stop.v[i];
    for (size_t i = 0; i < t->m.n_eos; i++) dan_ids_push(&t->eos, t->m.eos[i]);
    if (t->traits.stop >= 0) dan_ids_push(&t->eos, t->traits.stop);
    t->gen = (struct dan_gen_opts){.sampling = lm_sampling_of(t->cli, &t->o->sampling, &t->m), .max_tokens = t->o->sampling.max_tokens,
                                   .stop = t->stop, .n_stop = n, .eos = t->eos.v, .n_eos = t->eos.n};
    return t->stop && !t->eos.failed ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for a conversation");
}

static int64_t context_of(const struct talk *t)
{
    if (t->o->context || t->m.lm.model->time_major) return t->o->context;
    return t->m.lm.cfg.context < DEFAULT_CONTEXT ? t->m.lm.cfg.context : DEFAULT_CONTEXT;
}

static void say_template(const struct talk *t)
{
    if (t->o->template || !t->template.builtin) return;
    if (!strcmp(t->template.builtin, "plain"))
        dan_say(&t->cli->ui, "the model has no chat template: it continues a text of the form 'User: ... / Assistant:'");
    else dan_say(&t->cli->ui, "the model has no chat template: talking to it as '%s', whose tokens it has (--template chooses another)", t->template.builtin);
}

/* A template that has no place for a system text raises, or leaves it out. */
static int check_system(const struct talk *t, struct dan_err *e)
{
    struct dan_chat one = {0};
    struct dan_ids ids = {0};
    struct dan_err why = {0};
    size_t dropped;
    if (!t->o->system || t->traits.takes_system) return DAN_OK;
    int rc = dan_chat_init(&one, &t->template, t->chat.now, &why);
    if (!rc) rc = dan_chat_system(&one, t->o->system, strlen(t->o->system), &why);
    if (!rc) rc = dan_chat_user(&one, "Hello", 5, &why);
    if (!rc) rc = dan_chat_prompt(&one, INT64_MAX, &ids, &dropped, &why);
    if (!rc) dan_warn(&t->cli->ui, "the chat template leaves the text of --system out");
    dan_ids_release(&ids);
    dan_chat_release(&one);
    return rc ? dan_fail(e, rc, "the chat template takes no --system text (%s); leave it out, or choose another template with --template", why.msg) : DAN_OK;
}

/* A list of {"type": "function", "function": {"name", "description", "parameters"}}, or of the inner objects alone. */
static int read_tools(struct talk *t, struct dan_err *e)
{
    const char *file = t->o->tools;
    json_t *whole = NULL;
    size_t i;
    const json_t *one;
    char *bytes;
    size_t n;
    struct dan_str object = {0};
    int rc = file ? dan_read_file(file, &bytes, &n, e) : DAN_OK;
    if (rc || !file) return rc;
    dan_str_printf(&object, "{\"tools\":%s}", bytes);
    dan_free(bytes);
    rc = object.failed ? dan_fail(e, DAN_ENOMEM, "not enough memory for '%s'", file) : dan_json_parse(file, object.p, object.n, DAN_JSON_MAX_DEPTH, &whole, e);
    dan_str_release(&object);
    if (rc) return rc;
    const json_t *j = t->chat.tools = json_incref(json_object_get(whole, "tools"));
    json_decref(whole);
    if (!json_is_array(j)) return dan_fail(e, DAN_EINVAL, "--tools '%s' is no JSON list of tools", file);
    json_array_foreach(j, i, one) {
        const json_t *f = json_object_get(one, "function");
        if (!json_is_string(json_object_get(f ? f : one, "name")))
            return dan_fail(e, DAN_EINVAL, "--tools '%s': tool %zu has no name: write {\"type\": \"function\", \"function\": {\"name\": ..., \"description\": ..., \"parameters\": {...}}}",
                            file, i + 1);
    }
    return DAN_OK;
}

/* A template that does not know tools leaves them out without a word. */
static int check_tools(struct talk *t, struct dan_err *e)
{
    static const char hello[] = "[{\"role\": \"user\", \"content\": \"Hello\"}]";
    if (!t->chat.tools) return DAN_OK;
    struct dan_jinja_out with = {0}, without = {0};
    json_t *messages = json_loads(hello, 0, NULL);
    struct dan_chat_input in = {.messages = messages, .tools = t->chat.tools, .open = true, .has_now = true, .now = t->chat.now};
    int rc = messages ? dan_chat_text(&t->template, &in, &with, e) : dan_fail(e, DAN_ENOMEM, "not enough memory for a conversation");
    in.tools = NULL;
    if (!rc) rc = dan_chat_text(&t->template, &in, &without, e);
    if (!rc && with.text.n == without.text.n && !memcmp(dan_str_c(&with.text), dan_str_c(&without.text), with.text.n))
        dan_warn(&t->cli->ui, "the chat template leaves --tools out: the model does not see them");
    json_decref(messages);
    dan_jinja_out_release(&with);
    dan_jinja_out_release(&without);
    return rc;
}

static int open_chat(struct talk *t, struct dan_err *e)
{
    struct dan_err why = {0};
    int64_t now = (int64_t)time(NULL);
    int rc = dan_chat_template_open(&t->template, t->m.tok, t->o->template, &t->m.prefix, e);
    if (rc) return rc;
    say_template(t);
    if (dan_chat_traits_of(&t->template, true, now, &t->traits, &why))
        return dan_fail(e, why.code, "the chat template '%s' does not fit this model: %s; choose another one with --template, or use 'danlu generate'",
                        t->template.builtin ? t->template.builtin : "of the model", why.msg);
    rc = dan_chat_init(&t->chat, &t->template, now, e);
    if (!rc) rc = check_system(t, e);
    if (!rc && t->o->system) rc = dan_chat_system(&t->chat, t->o->system, strlen(t->o->system), e);
    if (!rc) rc = read_tools(t, e);
    return rc ? rc : check_tools(t, e);
}

static int open_talk(struct talk *t, struct dan_err *e)
{
    int rc = lm_open(t->cli, t->o->model, true, &t->m, e);
    if (!rc) rc = adapters_load(t->cli, &t->m, &t->o->adapters, e);
    if (!rc && !t->o->template) rc = adapters_template(t->cli, &t->m, &t->o->adapters, e);
    if (!rc) rc = open_chat(t, e);
    if (!rc) rc = gen_options(t, e);
    if (!rc) rc = dan_sampling_check(&t->gen.sampling, e);
    if (rc) return rc;
    struct dan_session_opts so = {.slots = 1, .context = context_of(t), .pool = t->m.pool, .cpu_mask = dan_isa_mask(t->cli->isa), .fusion = t->o->fusion,
                                  .kv_type = t->o->kv_type, .adapters = t->m.lm.n_adapters > 0};
    return dan_session_new(&t->m.lm, &so, &t->s, e);
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
                            json_pack("{s:s,s:o,s:s,s:I,s:I}", "role", "assistant", "text", dan_json_string_of(dan_str_c(&g->text), g->text.n),
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
    if (!rc) rc = dan_chat_answer(&t->chat, dan_str_c(&g.text), g.text.n, e);
    if (!rc) rc = print_end(t, &g, &times, e);
    dan_gen_release(&g);
    return rc;
}

static int answer(struct talk *t, const char *line, size_t n, struct dan_err *e)
{
    struct dan_ids prompt = {0};
    size_t dropped = 0;
    int64_t context = dan_session_context(t->s), most = t->gen.max_tokens, reserve = most > 0 && most < context / 4 ? most : context / 4;
    struct dan_err why = {0};
    int rc = dan_chat_user(&t->chat, line, n, e);
    if (rc) return rc;
    int bad = dan_chat_prompt(&t->chat, context - (reserve > 0 ? reserve : 1), &prompt, &dropped, &why);
    if (dropped)
        dan_say(&t->cli->ui, "(the conversation is longer than the context of %lld tokens: forgetting its first %zu messages)",
                (long long)context, dropped);
    if (!bad) rc = generate(t, &prompt, e);
    if (bad || rc) dan_chat_drop_last(&t->chat);
    if (bad == DAN_ENOMEM) rc = dan_fail(e, bad, "%s", why.msg);
    else if (bad) dan_report(&t->cli->ui, "danlu chat", &why);     /* too long, or the template refuses: the next may do */
    dan_ids_release(&prompt);
    return rc;
}

/* The conversation stays; what the cache holds of it was computed with other adapters. */
static void switch_adapters(struct talk *t, const char *words)
{
    struct dan_str said = {0};
    struct dan_err e = {0};
    int rc = adapters_switch(t->s, &t->m.lm, words, &said, &e);
    if (rc) dan_report(&t->cli->ui, "danlu chat", &e);
    else dan_say(&t->cli->ui, "(%s)", dan_str_c(&said));
    if (!rc && *words) {
        dan_session_reset(t->s, 0);
        dan_ids_release(&t->held);
    }
    dan_str_release(&said);
}

/* One line from the user: true when the talk is over. */
static bool command(struct talk *t, const char *line)
{
    struct dan_ui *ui = &t->cli->ui;
    if (!strcmp(line, "/exit") || !strcmp(line, "/quit")) return true;
    if (!strcmp(line, "/reset")) {
        dan_chat_clear(&t->chat);
        dan_say(ui, "(forgotten; a new conversation)");
    } else if (!strncmp(line, "/adapter", 8) && (line[8] == ' ' || !line[8])) {
        switch_adapters(t, line + 8 + strspn(line + 8, " "));
    } else if (!strcmp(line, "/help")) {
        dan_say(ui, "/reset  begin a new conversation\n/adapter NAME[:W] ...|off   only these adapters; alone: what there is\n/exit   end (also Ctrl-D)\n/help   this\n"
                    "Ctrl-C  stops an answer; twice ends the program");
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
    t->cli->ui.heeds = 1;
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
    dan_chat_traits_release(&t.traits);
    dan_chat_template_release(&t.template);
    dan_ids_release(&t.held);
    dan_ids_release(&t.eos);
    dan_free(t.stop);
    lm_close(&t.m);
    return rc;
}

const struct dan_cmd dan_cmd_chat = {
    .name = "chat", .doc = "talk with a model", .group = DAN_GROUP_USE, .rank = 0,
    .about = "Reads one message a line and answers it, in the form of the model's own chat template (from tokenizer_config.json,\n"
             "chat_template.jinja or GGUF); nothing in a message becomes one of its control tokens. What was said stays in the model's cache, so\n"
             "only new words are computed. When the conversation outgrows the context, its oldest messages are forgotten, and chat says so.\n"
             "Ctrl-C stops an answer.",
    .example = "danlu chat runs/book --system \"You are brief.\"",
    .opts = options, .opts_bytes = sizeof(struct chat_opts), .run = run};
