/* Which ids of a rendered conversation the loss counts, and how a template treats a conversation. */
#include <string.h>
#include "text/chat_impl.h"

int dan_chat_text_of_first(const struct dan_chat_template *t, const struct dan_chat_input *in, size_t n, bool open, struct dan_jinja_out *out,
                           struct dan_err *e)
{
    struct dan_chat_input part = *in;
    json_t *messages = json_array();
    bool bad = !messages;
    for (size_t i = 0; i < n && !bad; i++) bad = json_array_append(messages, json_array_get(in->messages, i)) != 0;
    part.messages = messages;
    part.open = open;
    int rc = bad ? dan_fail(e, DAN_ENOMEM, "not enough memory for a conversation") : dan_chat_text(t, &part, out, e);
    json_decref(messages);
    return rc;
}

/* --- where the assistant's turns are, in bytes of the text */

struct finding {
    const struct dan_chat_template *t;
    const struct dan_chat_input *in;
    struct dan_chat_out *out;
    struct dan_chat_turns *turns;
    size_t past;                               /* what is before belongs to earlier turns */
};

/* The bytes of message i from byte `from` on: the first, and behind the last; false: none. */
static bool message_bytes(const struct dan_chat_out *out, size_t i, size_t from, struct dan_span *at)
{
    const struct dan_str *mark = &out->r.mark;
    char mine = (char)dan_jinja_assistant_mark(i);
    const char *first = from < mark->n ? memchr(mark->p + from, mine, mark->n - from) : NULL;
    if (!first) return false;
    at->from = (size_t)(first - mark->p);
    for (size_t k = at->from; k < mark->n && (!mark->p[k] || mark->p[k] == mine); k++)
        if (mark->p[k]) at->to = k + 1;
    return true;
}

/* Behind the first special token that the template has at or behind byte `from`, before another message's bytes; 0: there is none. */
static size_t end_of_turn(const struct dan_chat_out *out, const struct dan_tokenizer *tok, size_t from, size_t to)
{
    for (size_t k = 0; k < out->ids.n && out->at.v[k].to <= to; k++) {
        if (out->at.v[k].from < from || out->at.v[k].to == 0) continue;
        if (out->source.p[k] != DAN_CHAT_TEMPLATE && !dan_tokenizer_is_special(tok, out->ids.v[k])) return 0;
        if (dan_tokenizer_is_special(tok, out->ids.v[k])) return out->at.v[k].to;
    }
    return 0;
}

/* Special tokens that follow one another belong together (<|END_RESPONSE|><|END_OF_TURN_TOKEN|>): behind the last of them. */
static size_t end_of_run(const struct dan_chat_out *out, const struct dan_tokenizer *tok, size_t end, size_t to)
{
    for (size_t k = 0; k < out->ids.n && out->at.v[k].to <= to; k++)
        if (out->at.v[k].from == end && out->at.v[k].to > end && dan_tokenizer_is_special(tok, out->ids.v[k])) end = out->at.v[k].to;
    return end;
}

static size_t common(const struct dan_str *a, const struct dan_str *b)
{
    size_t n = 0;
    while (n < a->n && n < b->n && a->p[n] == b->p[n]) n++;
    return n;
}

/* The turn between the rendering before message i and the one up to it, when both begin the whole text. */
static bool turn_by_prefix(const struct finding *f, size_t i, struct dan_span *at)
{
    struct dan_jinja_out before = {0}, upto = {0};
    const struct dan_str *all = &f->out->r.text;
    bool ok = !dan_chat_text_of_first(f->t, f->in, i, true, &before, NULL) && !dan_chat_text_of_first(f->t, f->in, i + 1, false, &upto, NULL) &&
              upto.text.n > before.text.n && common(&before.text, &upto.text) == before.text.n && common(&upto.text, all) == upto.text.n;
    *at = (struct dan_span){before.text.n, upto.text.n};
    dan_jinja_out_release(&before);
    dan_jinja_out_release(&upto);
    return ok && at->from >= f->past;
}

static bool find_turn(struct finding *f, size_t i, struct dan_span *turn)
{
    struct dan_span said = {0};
    bool exact = turn_by_prefix(f, i, turn), any = message_bytes(f->out, i, exact ? turn->from : f->past, &said);
    if (!exact && !any) {
        f->turns->lost++;
        return false;
    }
    if (any && exact && said.from >= turn->to) any = false;    /* an empty message: these are a later one's */
    size_t limit = exact ? turn->to : f->out->r.text.n, last = any ? said.to : turn->from;
    if (!exact) {
        f->turns->inexact++;
        turn->from = said.from;
    }
    size_t end = end_of_turn(f->out, f->t->tok, last, limit);
    if (!end) f->turns->unended++;
    else if (exact) end = end_of_run(f->out, f->t->tok, end, limit);
    turn->to = end ? end : last;
    f->past = turn->to;
    return turn->to > turn->from;
}

static bool is_assistant(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    return role && (!strcmp(role, "assistant") || !strcmp(role, "model"));
}

/* Every id with a byte inside. */
static void learn(struct dan_chat_out *out, struct dan_span at)
{
    for (size_t k = 0; k < out->ids.n && !out->learn.failed; k++)
        if (out->at.v[k].from < at.to && out->at.v[k].to > at.from) out->learn.p[k] = 1;
}

static void by_blocks(struct finding *f)
{
    f->turns->blocks = true;
    for (size_t i = 0; i < f->out->r.generation.n; i++) {
        struct dan_span at = f->out->r.generation.v[i];
        size_t said = at.to;
        while (said > at.from && !f->out->r.mark.p[said - 1]) said--;
        learn(f->out, at);
        if (!end_of_turn(f->out, f->t->tok, said, at.to)) f->turns->unended++;
    }
}

int dan_chat_mask(const struct dan_chat_template *t, const struct dan_chat_input *in, struct dan_chat_out *out, struct dan_chat_turns *turns,
                  struct dan_err *e)
{
    struct finding f = {t, in, out, turns, 0};
    *turns = (struct dan_chat_turns){0};
    dan_str_clear(&out->learn);
    for (size_t k = 0; k < out->ids.n; k++) dan_str_putc(&out->learn, 0);
    if (out->learn.failed) return dan_fail(e, DAN_ENOMEM, "not enough memory for the mask of a conversation");
    if (out->r.generation.n) by_blocks(&f);
    size_t i;
    const json_t *one;
    json_array_foreach(in->messages, i, one) {
        struct dan_span turn;
        turns->n += is_assistant(one);
        if (is_assistant(one) && !turns->blocks && find_turn(&f, i, &turn)) learn(out, turn);
    }
    return DAN_OK;
}

/* --- traits */

/* A conversation of n messages, after a system message if there is one. */
static json_t *sample(size_t n, const char *system)
{
    static const char *const said[] = {"How many moons has Mars?", "It has two.", "And Venus?", "Venus has none."};
    json_t *all = json_array();
    if (system) json_array_append_new(all, json_pack("{s:s, s:s}", "role", "system", "content", system));
    for (size_t i = 0; i < n; i++) json_array_append_new(all, json_pack("{s:s, s:s}", "role", i % 2 ? "assistant" : "user", "content", said[i]));
    return all;
}

static int render_sample(const struct dan_chat_template *t, const struct dan_chat_input *base, size_t n, const char *system, bool open,
                         struct dan_chat_out *out, struct dan_err *e)
{
    struct dan_chat_input in = *base;
    json_t *messages = sample(n, system);
    in.messages = messages;
    in.open = open;
    int rc = messages ? dan_chat_render(t, &in, out, e) : dan_fail(e, DAN_ENOMEM, "not enough memory for a conversation");
    json_decref(messages);
    return rc;
}

static bool begins(const struct dan_ids *a, const struct dan_ids *b)
{
    return a->n <= b->n && (!a->n || !memcmp(a->v, b->v, a->n * sizeof *a->v));
}

static bool preserves_prefixes(const struct dan_chat_template *t, const struct dan_chat_input *base)
{
    struct dan_chat_out before = {0}, after = {0};
    bool yes = true;
    for (size_t n = 1; n <= 4 && yes; n++) {
        yes = !render_sample(t, base, n, NULL, n % 2, &after, NULL) && begins(&before.ids, &after.ids);
        dan_chat_out_release(&before);
        before = after;
        after = (struct dan_chat_out){0};
    }
    dan_chat_out_release(&before);
    return yes;
}

/* Ends of turns that the mask holds, in a conversation whose answers are followed by something. */
static bool trains_stop(const struct dan_chat_template *t, const struct dan_chat_input *base)
{
    struct dan_chat_out out = {0};
    struct dan_chat_turns turns;
    struct dan_chat_input in = *base;
    json_t *messages = sample(4, NULL);
    in.messages = messages;
    bool yes = messages && !dan_chat_render(t, &in, &out, NULL) && !dan_chat_mask(t, &in, &out, &turns, NULL) && !turns.lost && !turns.unended;
    dan_chat_out_release(&out);
    json_decref(messages);
    return yes;
}

static bool takes_system(const struct dan_chat_template *t, const struct dan_chat_input *base)
{
    static const char text[] = "Speak of planets.";
    struct dan_chat_out out = {0};
    bool yes = !render_sample(t, base, 1, text, true, &out, NULL) && strstr(dan_str_c(&out.r.text), text);
    dan_chat_out_release(&out);
    return yes;
}

/* The last special token of the answer whose bytes end at `said`, else the first one behind it (some formats end an answer by the
 * next turn's), else the template's text up to the next question, without the white space at its end. */
static int stop_behind(const struct dan_chat_template *t, const struct dan_chat_input *base, struct dan_chat_out *r, size_t said,
                       struct dan_chat_traits *out, struct dan_err *e)
{
    struct dan_chat_turns turns;
    const char *p = r->r.text.p, *mark = r->r.mark.p;
    json_t *messages = sample(3, NULL);
    struct dan_chat_input in = *base;
    in.messages = messages;
    int rc = messages ? dan_chat_mask(t, &in, r, &turns, e) : dan_fail(e, DAN_ENOMEM, "not enough memory for a conversation");
    json_decref(messages);
    size_t end = end_of_turn(r, t->tok, said, r->r.text.n), next = said;
    while (next < r->r.text.n && !mark[next]) next++;
    for (size_t k = 0; !rc && k < r->ids.n && r->at.v[k].to <= next; k++) {
        bool ours = r->learn.p[k] || (out->stop < 0 && r->at.v[k].to == end);
        if (ours && r->at.v[k].from >= said && dan_tokenizer_is_special(t->tok, r->ids.v[k])) out->stop = r->ids.v[k];
    }
    while (next > said && strchr(" \n\t", p[next - 1])) next--;
    if (!end && next < r->r.text.n) dan_str_append(&out->stop_text, p + said, next - said);
    return rc || !out->stop_text.failed ? rc : dan_fail(e, DAN_ENOMEM, "not enough memory for a chat template");
}

static int find_stop(const struct dan_chat_template *t, const struct dan_chat_input *base, struct dan_chat_traits *out, struct dan_err *e)
{
    struct dan_chat_out r = {0};
    struct dan_span said = {0};
    int rc = render_sample(t, base, 3, NULL, false, &r, NULL);
    if (rc) {                                  /* a template that wants pairs */
        dan_chat_out_release(&r);
        r = (struct dan_chat_out){0};
        rc = render_sample(t, base, 2, NULL, false, &r, e);
    }
    if (!rc && message_bytes(&r, 1, 0, &said)) rc = stop_behind(t, base, &r, said.to, out, e);
    dan_chat_out_release(&r);
    return rc;
}

int dan_chat_traits_of(const struct dan_chat_template *t, bool has_now, int64_t now, struct dan_chat_traits *out, struct dan_err *e)
{
    struct dan_chat_input base = {.has_now = has_now, .now = now};
    out->stop = -1;
    int rc = find_stop(t, &base, out, e);
    if (rc) return rc;
    out->prefix_preserving = preserves_prefixes(t, &base);
    out->stop_trained = trains_stop(t, &base);
    out->takes_system = takes_system(t, &base);
    return DAN_OK;
}

void dan_chat_traits_release(struct dan_chat_traits *t)
{
    dan_str_release(&t->stop_text);
    *t = (struct dan_chat_traits){.stop = -1};
}
