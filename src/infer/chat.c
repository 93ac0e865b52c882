#include "infer/chat.h"
#include <string.h>
#include "base/mem.h"

static const struct dan_chat_format formats[] = {
    {.name = "chatml", .mark = "<|im_start|>", .system = "<|im_start|>system\n%<|im_end|>\n", .user = "<|im_start|>user\n%<|im_end|>\n",
     .open = "<|im_start|>assistant\n", .close = "<|im_end|>\n", .end = "<|im_end|>"},
    {.name = "llama3", .mark = "<|start_header_id|>", .system = "<|start_header_id|>system<|end_header_id|>\n\n%<|eot_id|>",
     .user = "<|start_header_id|>user<|end_header_id|>\n\n%<|eot_id|>", .open = "<|start_header_id|>assistant<|end_header_id|>\n\n",
     .close = "<|eot_id|>", .end = "<|eot_id|>"},
    {.name = "phi3", .mark = "<|end|>", .system = "<|system|>\n%<|end|>\n", .user = "<|user|>\n%<|end|>\n", .open = "<|assistant|>\n",
     .close = "<|end|>\n", .end = "<|end|>"},
    {.name = "plain", .system = "%\n\n", .user = "User: %\n", .open = "Assistant:", .close = "\n", .stop = "\nUser:"},
};
enum { N_FORMATS = sizeof formats / sizeof *formats };

const struct dan_chat_format *dan_chat_format_of(const struct dan_tokenizer *tok, bool *known)
{
    const char *template = dan_tokenizer_chat_template(tok);
    for (int i = 0; template && i < N_FORMATS; i++) {
        const char *mark = formats[i].mark;
        if (!mark || !strstr(template, mark) || dan_tokenizer_find_special(tok, mark) < 0) continue;
        *known = true;
        return &formats[i];
    }
    *known = !template;
    return &formats[N_FORMATS - 1];
}

void dan_chat_init(struct dan_chat *c, const struct dan_tokenizer *tok, const struct dan_chat_format *f, const struct dan_ids *prefix)
{
    *c = (struct dan_chat){.tok = tok, .format = f, .prefix = prefix};
}

void dan_chat_clear(struct dan_chat *c)
{
    for (size_t i = 0; i < c->n; i++) dan_ids_release(&c->turn[i].ids);
    c->n = 0;
}

void dan_chat_release(struct dan_chat *c)
{
    dan_chat_clear(c);
    dan_ids_release(&c->system);
    dan_free(c->turn);
}

static int encode_marked(const struct dan_chat *c, const char *p, size_t n, struct dan_ids *out, struct dan_err *e)
{
    return dan_tokenizer_encode(c->tok, p, n, DAN_ENCODE_SPECIAL | DAN_ENCODE_UNK, out, e);
}

/* A turn.  Only the format's own special tokens become control tokens; the plain text of the format that touches the
 * user's is encoded together with it, as it would be in the whole conversation. */
static int encode_turn(const struct dan_chat *c, const char *pattern, const char *text, size_t n, struct dan_ids *out, struct dan_err *e)
{
    const char *at = strchr(pattern, '%'), *after = at + 1, *touch = at;
    while (touch > pattern && touch[-1] != '>') touch--;
    size_t head = strcspn(after, "<");
    struct dan_str s = {0};
    dan_str_append(&s, touch, (size_t)(at - touch));
    dan_str_append(&s, text, n);
    dan_str_append(&s, after, head);
    int rc = encode_marked(c, pattern, (size_t)(touch - pattern), out, e);
    if (!rc) rc = dan_tokenizer_encode(c->tok, dan_str_c(&s), s.n, DAN_ENCODE_UNK, out, e);
    if (!rc) rc = encode_marked(c, after + head, strlen(after + head), out, e);
    if (!rc && (s.failed || out->failed)) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for a turn of %zu bytes", n);
    dan_str_release(&s);
    return rc;
}

static struct dan_ids *new_turn(struct dan_chat *c, struct dan_err *e)
{
    if (dan_vec_grow(&c->turn, &c->cap, c->n + 1, sizeof *c->turn)) {
        dan_fail(e, DAN_ENOMEM, "not enough memory for another turn");
        return NULL;
    }
    c->turn[c->n] = (struct dan_chat_turn){0};
    return &c->turn[c->n].ids;
}

static int keep_turn(struct dan_chat *c, int rc)
{
    if (rc) dan_ids_release(&c->turn[c->n].ids);
    else c->n++;
    return rc;
}

int dan_chat_system(struct dan_chat *c, const char *text, size_t n, struct dan_err *e)
{
    c->system.n = 0;
    return encode_turn(c, c->format->system, text, n, &c->system, e);
}

int dan_chat_user(struct dan_chat *c, const char *text, size_t n, struct dan_err *e)
{
    struct dan_ids *ids = new_turn(c, e);
    return ids ? keep_turn(c, encode_turn(c, c->format->user, text, n, ids, e)) : DAN_ENOMEM;
}

/* Bytes that the first n new tokens of g decode to. */
static size_t bytes_of(const struct dan_gen *g, size_t n)
{
    struct dan_str s = {0};
    dan_tokenizer_decode(g->detok.t, g->ids.v + g->n_prompt, n, &s);
    size_t bytes = s.n;
    dan_str_release(&s);
    return bytes;
}

/* After a stop string the last token may reach beyond the text: the part that counts is encoded anew. */
static int answer_ids(const struct dan_chat *c, const struct dan_gen *g, struct dan_ids *out, struct dan_err *e)
{
    size_t n = dan_gen_new_tokens(g), whole = n;
    if (g->finish == DAN_GEN_EOS) whole = n - 1;
    if (g->finish == DAN_GEN_STOP) whole = dan_gen_tokens_of(g, g->text.n);
    int rc = encode_marked(c, c->format->open, strlen(c->format->open), out, e);
    for (size_t i = 0; i < whole; i++) dan_ids_push(out, g->ids.v[g->n_prompt + i]);
    size_t bytes = g->finish == DAN_GEN_STOP ? bytes_of(g, whole) : g->text.n;
    if (!rc && bytes < g->text.n) rc = dan_tokenizer_encode(c->tok, g->text.p + bytes, g->text.n - bytes, DAN_ENCODE_UNK, out, e);
    return rc ? rc : encode_marked(c, c->format->close, strlen(c->format->close), out, e);
}

int dan_chat_answer(struct dan_chat *c, const struct dan_gen *g, struct dan_err *e)
{
    struct dan_ids *ids = new_turn(c, e);
    return ids ? keep_turn(c, answer_ids(c, g, ids, e)) : DAN_ENOMEM;
}

void dan_chat_drop_last(struct dan_chat *c)
{
    if (c->n) dan_ids_release(&c->turn[--c->n].ids);
}

static size_t total(const struct dan_chat *c, size_t first)
{
    size_t n = (c->prefix ? c->prefix->n : 0) + c->system.n;
    for (size_t i = first; i < c->n; i++) n += c->turn[i].ids.n;
    return n;
}

static void drop_first(struct dan_chat *c, size_t n)
{
    for (size_t i = 0; i < n; i++) dan_ids_release(&c->turn[i].ids);
    memmove(c->turn, c->turn + n, sizeof *c->turn * (c->n - n));
    c->n -= n;
}

static void append(struct dan_ids *out, const struct dan_ids *ids)
{
    for (size_t i = 0; ids && i < ids->n; i++) dan_ids_push(out, ids->v[i]);
}

int dan_chat_prompt(struct dan_chat *c, int64_t most, struct dan_ids *out, size_t *dropped, struct dan_err *e)
{
    struct dan_ids open = {0};
    int rc = encode_marked(c, c->format->open, strlen(c->format->open), &open, e);
    size_t first = 0;
    while (first + 2 < c->n && (int64_t)(total(c, first) + open.n) > most) first += 2;
    *dropped = first;
    if (!rc && (int64_t)(total(c, first) + open.n) > most)
        rc = dan_fail(e, DAN_EINVAL,
                      "the message has %zu tokens, with the system text and an answer that is more than the context; make it shorter or "
                      "raise --context",
                      c->n ? c->turn[c->n - 1].ids.n : 0);
    if (!rc) {
        drop_first(c, first);
        append(out, c->prefix);
        append(out, &c->system);
        for (size_t i = 0; i < c->n; i++) append(out, &c->turn[i].ids);
        append(out, &open);
        if (out->failed) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for the conversation");
    }
    dan_ids_release(&open);
    return rc;
}
