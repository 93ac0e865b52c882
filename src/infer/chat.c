#include "infer/chat.h"
#include "io/json.h"

int dan_chat_init(struct dan_chat *c, const struct dan_chat_template *by, int64_t now, struct dan_err *e)
{
    *c = (struct dan_chat){.by = by, .messages = json_array(), .now = now};
    return c->messages ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for a conversation");
}

void dan_chat_release(struct dan_chat *c)
{
    json_decref(c->messages);
    json_decref(c->tools);
    *c = (struct dan_chat){0};
}

void dan_chat_clear(struct dan_chat *c)
{
    while (json_array_size(c->messages) > c->system) json_array_remove(c->messages, json_array_size(c->messages) - 1);
}

/* A message; NULL: out of memory. */
static json_t *message(const char *role, const char *text, size_t n)
{
    return json_pack("{s:s, s:o}", "role", role, "content", dan_json_string_of(text, n));
}

static int add(struct dan_chat *c, const char *role, const char *text, size_t n, struct dan_err *e)
{
    return json_array_append_new(c->messages, message(role, text, n)) ? dan_fail(e, DAN_ENOMEM, "not enough memory for a message of %zu bytes", n) : DAN_OK;
}

int dan_chat_system(struct dan_chat *c, const char *text, size_t n, struct dan_err *e)
{
    if (c->system) json_array_remove(c->messages, 0);
    c->system = !json_array_insert_new(c->messages, 0, message("system", text, n));
    return c->system ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for a message of %zu bytes", n);
}

int dan_chat_user(struct dan_chat *c, const char *text, size_t n, struct dan_err *e) { return add(c, "user", text, n, e); }
int dan_chat_answer(struct dan_chat *c, const char *text, size_t n, struct dan_err *e) { return add(c, "assistant", text, n, e); }

void dan_chat_drop_last(struct dan_chat *c)
{
    size_t n = json_array_size(c->messages);
    if (n > c->system) json_array_remove(c->messages, n - 1);
}

static int too_long(size_t n, int64_t most, struct dan_err *e)
{
    return dan_fail(e, DAN_EINVAL, "the message, with the system text and the template around it, has %zu tokens, and %lld is the most that leaves room for an "
                                   "answer; make it shorter or raise --context", n, (long long)most);
}

int dan_chat_prompt(struct dan_chat *c, int64_t most, struct dan_ids *out, size_t *dropped, struct dan_err *e)
{
    struct dan_chat_input in = {.messages = c->messages, .tools = c->tools, .open = true, .has_now = true, .now = c->now};
    *dropped = 0;
    for (;;) {
        struct dan_chat_out r = {0};
        int rc = dan_chat_render(c->by, &in, &r, e);
        bool fits = (int64_t)r.ids.n <= most, more = json_array_size(c->messages) >= 3 + (size_t)c->system;
        for (size_t i = 0; !rc && fits && i < r.ids.n; i++) dan_ids_push(out, r.ids.v[i]);
        if (!rc && !fits && !more) rc = too_long(r.ids.n, most, e);
        if (!rc && out->failed) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for the conversation");
        dan_chat_out_release(&r);
        if (rc || fits) return rc;
        for (int k = 0; k < 2; k++) json_array_remove(c->messages, c->system);
        *dropped += 2;
    }
}
