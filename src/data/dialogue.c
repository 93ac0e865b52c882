/* Lists of messages of every spelling -> [{"role": "user", "content": "..."}, ...]. */
#include <string.h>
#include "base/str.h"
#include "data/example_impl.h"

int dan_example_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "out of memory reading a row of data"); }

const char *dan_message_role(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    return role ? role : "";
}

int dan_message_append(json_t *list, const char *role, const char *content, size_t n, struct dan_err *e)
{
    return json_array_append_new(list, json_pack("{s:s,s:s%}", "role", role, "content", content, n)) ? dan_example_memory(e) : DAN_OK;
}

/* What the formats call the speakers. */
static const struct { const char *from, *role; } speakers[] = {
    {"system", "system"},       {"developer", "developer"}, {"user", "user"},      {"human", "user"},    {"assistant", "assistant"},
    {"gpt", "assistant"},       {"chatgpt", "assistant"},   {"model", "assistant"}, {"bing", "assistant"}, {"bard", "assistant"},
    {"function_call", "call"},  {"tool_call", "call"},      {"tool", "tool"},       {"function", "tool"}, {"observation", "tool"},
};

static const char *role_of(const char *from)
{
    for (size_t i = 0; from && i < sizeof speakers / sizeof *speakers; i++)
        if (!strcmp(speakers[i].from, from)) return speakers[i].role;
    return NULL;
}

/* The text of OpenAI's content: a string, null beside tool calls, or parts of which all are text. */
static int content_of(const json_t *m, const json_t *content, size_t at, const char *field, struct dan_str *out, struct dan_err *e)
{
    size_t i;
    const json_t *part;
    if (json_is_string(content)) dan_str_append(out, json_string_value(content), json_string_length(content));
    if (json_is_string(content) || ((!content || json_is_null(content)) && json_object_get(m, "tool_calls"))) return DAN_OK;
    if (!json_is_array(content))
        return dan_fail(e, DAN_EFORMAT, "message %zu of '%s' has no text: expected \"content\" (or \"value\"), a string", at + 1, field);
    json_array_foreach((json_t *)(uintptr_t)content, i, part) {
        const json_t *text = json_object_get(part, "text");
        if (!json_is_string(text))
            return dan_fail(e, DAN_EUNSUPPORTED, "part %zu of message %zu of '%s' is not text: only parts {\"type\": \"text\", \"text\": ...} are read",
                            i + 1, at + 1, field);
        dan_str_append(out, json_string_value(text), json_string_length(text));
    }
    return DAN_OK;
}

/* {"name": ..., "arguments": ...} as text -> an assistant's message with a tool call. */
static int call_message(json_t *list, const char *text, size_t n, size_t at, const char *field, struct dan_err *e)
{
    json_error_t je;
    json_t *call = json_loadb(text, n, JSON_ALLOW_NUL, &je);
    if (!json_is_string(json_object_get(call, "name"))) {
        json_decref(call);
        return dan_fail(e, DAN_EFORMAT, "message %zu of '%s' is a function call that is no JSON: expected {\"name\": ..., \"arguments\": {...}}",
                        at + 1, field);
    }
    json_t *m = json_pack("{s:s,s:s,s:[{s:s,s:o}]}", "role", "assistant", "content", "", "tool_calls", "type", "function", "function", call);
    return json_array_append_new(list, m) ? dan_example_memory(e) : DAN_OK;
}

/* A message with what else its object says: tool calls, names, weights, reasoning. */
static int plain_message(json_t *list, const json_t *m, const char *role, const struct dan_str *text, struct dan_err *e)
{
    const char *key;
    json_t *v, *copy = json_pack("{s:s,s:s%}", "role", role, "content", text->p ? text->p : "", text->n);
    if (!copy) return dan_example_memory(e);
    json_object_foreach((json_t *)(uintptr_t)m, key, v)
        if (strcmp(key, "role") && strcmp(key, "content") && strcmp(key, "from") && strcmp(key, "value")) json_object_set(copy, key, v);
    return json_array_append_new(list, copy) ? dan_example_memory(e) : DAN_OK;
}

static int add_message(json_t *list, const json_t *m, size_t at, const char *field, struct dan_err *e)
{
    const json_t *who = json_object_get(m, "role"), *what = json_object_get(m, "content");
    if (!who) who = json_object_get(m, "from");
    if (!what) what = json_object_get(m, "value");
    const char *role = role_of(json_string_value(who));
    if (!json_is_object(m)) return dan_fail(e, DAN_EFORMAT, "message %zu of '%s' is no object: expected {\"role\": ..., \"content\": ...}", at + 1, field);
    if (!who) return dan_fail(e, DAN_EFORMAT, "message %zu of '%s' has no \"role\" (or \"from\")", at + 1, field);
    if (!role)
        return dan_fail(e, DAN_EFORMAT, "message %zu of '%s' is from '%.40s': expected system, user, assistant, tool (or human, gpt, observation, "
                        "function_call)", at + 1, field, json_is_string(who) ? json_string_value(who) : "?");
    struct dan_str text = {0};
    int rc = content_of(m, what, at, field, &text, e);
    if (!rc && text.failed) rc = dan_example_memory(e);
    if (!rc) rc = strcmp(role, "call") ? plain_message(list, m, role, &text, e) : call_message(list, dan_str_c(&text), text.n, at, field, e);
    dan_str_release(&text);
    return rc;
}

int dan_dialogue_of(const json_t *list, const char *field, json_t **out, struct dan_err *e)
{
    size_t n = json_is_array(list) ? json_array_size(list) : 1;
    if (!json_is_object(list) && !json_is_array(list))
        return dan_fail(e, DAN_EFORMAT, "'%s' is no list of messages: expected [{\"role\": ..., \"content\": ...}, ...]", field);
    if (n == 0) return dan_fail(e, DAN_EFORMAT, "'%s' is empty: expected at least one message", field);
    json_t *messages = json_array();
    int rc = messages ? DAN_OK : dan_example_memory(e);
    for (size_t i = 0; i < n && !rc; i++) rc = add_message(messages, json_is_array(list) ? json_array_get(list, i) : list, i, field, e);
    if (rc) json_decref(messages);
    else *out = messages;
    return rc;
}

static const char human[] = "\n\nHuman:", assistant[] = "\n\nAssistant:";

/* The next turn mark at or after p, and whose it is; end when there is none. */
static const char *next_turn(const char *p, const char *end, const char **role, size_t *n)
{
    const char *h = memmem(p, (size_t)(end - p), human, sizeof human - 1), *a = memmem(p, (size_t)(end - p), assistant, sizeof assistant - 1);
    bool is_human = h && (!a || h < a);
    *role = is_human ? "user" : "assistant";
    *n = is_human ? sizeof human - 1 : sizeof assistant - 1;
    return is_human ? h : a ? a : end;
}

int dan_dialogue_of_hh(const json_t *text, const char *field, json_t **out, struct dan_err *e)
{
    const char *p = json_string_value(text), *end = p + json_string_length(text), *role, *next;
    size_t n;
    *out = NULL;
    if (next_turn(p, end, &role, &n) != p || p == end) return DAN_OK;
    json_t *messages = json_array();
    int rc = messages ? DAN_OK : dan_example_memory(e);
    while (p < end && !rc) {
        const char *begin = p + n, *who = role;
        next = next_turn(begin, end, &role, &n);
        while (begin < next && *begin == ' ') begin++;
        rc = dan_message_append(messages, who, begin, (size_t)(next - begin), e);
        p = next;
    }
    if (!rc && strcmp(dan_message_role(json_array_get(messages, json_array_size(messages) - 1)), "assistant"))
        rc = dan_fail(e, DAN_EFORMAT, "'%s' does not end with a turn of the assistant: expected \"\\n\\nAssistant: ...\" last", field);
    if (rc) json_decref(messages);
    else *out = messages;
    return rc;
}
