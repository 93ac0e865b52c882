/* One row -> struct dan_example: which format it is, and its parts. */
#include <math.h>
#include <string.h>
#include "base/str.h"
#include "data/example_impl.h"

const char *dan_example_kind_name(enum dan_example_kind k)
{
    static const char *const names[] = {"text", "dialogue", "prompt", "preference pair", "labelled answer", "ranked answers"};
    return names[k];
}

void dan_example_release(struct dan_example *ex)
{
    json_decref(ex->messages);
    json_decref(ex->answers);
    json_decref(ex->tools);
    *ex = (struct dan_example){0};
}

static bool has(const json_t *row, const char *field)
{
    const json_t *v = json_object_get(row, field);
    return v && !json_is_null(v);
}

static int string_of(const json_t *row, const char *field, const json_t **out, struct dan_err *e)
{
    *out = json_object_get(row, field);
    return json_is_string(*out) ? DAN_OK : dan_fail(e, DAN_EFORMAT, "field '%s' is no string", field);
}

static int append_string(json_t *list, const char *role, const json_t *s, struct dan_err *e)
{
    return dan_message_append(list, role, json_string_value(s), json_string_length(s), e);
}

static json_t *last_of(const json_t *list) { return json_array_get(list, json_array_size(list) - 1); }
static bool ends_with_assistant(const json_t *list) { return json_array_size(list) && !strcmp(dan_message_role(last_of(list)), "assistant"); }

/* ---- prompts ---- */

/* Alpaca: system, history [[question, answer], ...], instruction and input. */
static int alpaca_prompt(const json_t *row, json_t *list, struct dan_err *e)
{
    const json_t *instruction, *input = json_object_get(row, "input"), *pair, *history = json_object_get(row, "history");
    size_t i;
    int rc = string_of(row, "instruction", &instruction, e);
    if (!rc && has(row, "system")) rc = json_is_string(json_object_get(row, "system")) ? append_string(list, "system", json_object_get(row, "system"), e)
                                                                                      : dan_fail(e, DAN_EFORMAT, "field 'system' is no string");
    json_array_foreach((json_t *)(uintptr_t)history, i, pair) {
        const json_t *q = json_array_get(pair, 0), *a = json_array_get(pair, 1);
        if (!rc && (!json_is_string(q) || !json_is_string(a)))
            rc = dan_fail(e, DAN_EFORMAT, "entry %zu of 'history' is no [question, answer]: expected two strings", i + 1);
        if (!rc) rc = append_string(list, "user", q, e);
        if (!rc) rc = append_string(list, "assistant", a, e);
    }
    if (!rc && has(row, "input") && !json_is_string(input)) rc = dan_fail(e, DAN_EFORMAT, "field 'input' is no string");
    struct dan_str text = {0};
    if (!rc) dan_str_append(&text, json_string_value(instruction), json_string_length(instruction));
    if (!rc && json_string_length(input)) {
        dan_str_putc(&text, '\n');
        dan_str_append(&text, json_string_value(input), json_string_length(input));
    }
    if (!rc) rc = text.failed ? dan_example_memory(e) : dan_message_append(list, "user", dan_str_c(&text), text.n, e);
    dan_str_release(&text);
    return rc;
}

/* A string becomes one message of `role`; a list stays one. */
static int messages_of(const json_t *v, const char *field, const char *role, json_t **out, struct dan_err *e)
{
    if (!json_is_string(v)) return dan_dialogue_of(v, field, out, e);
    *out = json_array();
    int rc = *out ? append_string(*out, role, v, e) : dan_example_memory(e);
    if (rc) json_decref(*out);
    return rc;
}

/* ShareGPT keeps the system's text beside the list. */
static int put_system_first(const json_t *row, json_t *list, struct dan_err *e)
{
    const json_t *s = json_object_get(row, "system");
    if (!json_is_string(s) || !json_string_length(s) || !strcmp(dan_message_role(json_array_get(list, 0)), "system")) return DAN_OK;
    json_t *m = json_pack("{s:s,s:O}", "role", "system", "content", s);
    return json_array_insert_new(list, 0, m) ? dan_example_memory(e) : DAN_OK;
}

static int take_tools(const json_t *row, struct dan_example *ex, struct dan_err *e)
{
    const json_t *v = json_object_get(row, "tools");
    json_error_t je;
    if (!v || json_is_null(v) || (json_is_string(v) && !json_string_length(v))) return DAN_OK;
    ex->tools = json_is_string(v) ? json_loadb(json_string_value(v), json_string_length(v), JSON_ALLOW_NUL, &je) : json_incref((json_t *)(uintptr_t)v);
    if (json_is_array(ex->tools)) return DAN_OK;
    return dan_fail(e, DAN_EFORMAT, "field 'tools' is no list of tools (nor the JSON of one as a string)");
}

/* Whatever the row has in place of a prompt or dialogue; ex->messages stays NULL when it has none. */
static int take_messages(const json_t *row, struct dan_example *ex, struct dan_err *e)
{
    static const char *const lists[] = {"messages", "conversations"};
    for (int i = 0; i < 2; i++) {
        if (!has(row, lists[i])) continue;
        int rc = dan_dialogue_of(json_object_get(row, lists[i]), lists[i], &ex->messages, e);
        return rc ? rc : put_system_first(row, ex->messages, e);
    }
    if (has(row, "prompt")) {
        int rc = messages_of(json_object_get(row, "prompt"), "prompt", "user", &ex->messages, e);
        return rc ? rc : put_system_first(row, ex->messages, e);
    }
    if (!has(row, "instruction") && !has(row, "question")) return DAN_OK;
    ex->messages = json_array();
    if (!ex->messages) return dan_example_memory(e);
    if (has(row, "instruction")) return alpaca_prompt(row, ex->messages, e);
    const json_t *question;
    int rc = string_of(row, "question", &question, e);
    return rc ? rc : append_string(ex->messages, "user", question, e);
}

/* ---- answers ---- */

static int add_answer(struct dan_example *ex, const json_t *v, const char *field, struct dan_err *e)
{
    json_t *messages = NULL;
    if (!ex->answers && !(ex->answers = json_array())) return dan_example_memory(e);
    int rc = messages_of(v, field, "assistant", &messages, e);
    if (rc) return rc;
    if (!ends_with_assistant(messages)) {
        json_decref(messages);
        return dan_fail(e, DAN_EFORMAT, "'%s' does not end with a message of the assistant: there is nothing to learn from it", field);
    }
    return json_array_append_new(ex->answers, messages) ? dan_example_memory(e) : DAN_OK;
}

/* Moves the messages that all answers begin with to the prompt; what is left of each must be something. */
static int split_common(struct dan_example *ex, struct dan_err *e)
{
    json_t *a = json_array_get(ex->answers, 0), *b = json_array_get(ex->answers, 1);
    if (!ex->messages && !(ex->messages = json_array())) return dan_example_memory(e);
    while (json_array_size(a) > 1 && json_array_size(b) > 1 && json_equal(json_array_get(a, 0), json_array_get(b, 0))) {
        if (json_array_append(ex->messages, json_array_get(a, 0))) return dan_example_memory(e);
        json_array_remove(a, 0);
        json_array_remove(b, 0);
    }
    return json_array_size(ex->messages) ? DAN_OK
                                         : dan_fail(e, DAN_EFORMAT, "'chosen' and 'rejected' have no common beginning and there is no 'prompt': expected two "
                                                                    "answers to one prompt");
}

static int take_hh(const json_t *row, struct dan_example *ex, bool *is_hh, struct dan_err *e)
{
    static const char *const fields[] = {"chosen", "rejected"};
    json_t *side[2] = {NULL, NULL};
    int rc = DAN_OK;
    for (int k = 0; k < 2 && !rc; k++) rc = dan_dialogue_of_hh(json_object_get(row, fields[k]), fields[k], &side[k], e);
    *is_hh = !rc && side[0] && side[1];
    if (*is_hh) {
        ex->answers = json_pack("[O,O]", side[0], side[1]);
        rc = ex->answers ? split_common(ex, e) : dan_example_memory(e);
    }
    json_decref(side[0]);
    json_decref(side[1]);
    return rc;
}

static int take_pair(const json_t *row, struct dan_example *ex, struct dan_err *e)
{
    const json_t *chosen = json_object_get(row, "chosen"), *rejected = json_object_get(row, "rejected"), *margin = json_object_get(row, "margin");
    bool done = false;
    ex->kind = DAN_EXAMPLE_PAIR;
    if (!has(row, "chosen")) return dan_fail(e, DAN_EFORMAT, "'rejected' stands without 'chosen'");
    if (!has(row, "rejected")) return dan_fail(e, DAN_EFORMAT, "'chosen' stands without 'rejected'");
    if (json_equal((json_t *)(uintptr_t)chosen, (json_t *)(uintptr_t)rejected))
        return dan_fail(e, DAN_EFORMAT, "'chosen' and 'rejected' are the same: there is no preference to learn");
    if (has(row, "margin") && !json_is_number(margin)) return dan_fail(e, DAN_EFORMAT, "field 'margin' is no number");
    ex->margin = json_number_value(margin);
    int rc = !ex->messages && json_is_string(chosen) && json_is_string(rejected) ? take_hh(row, ex, &done, e) : DAN_OK;
    if (rc || done) return rc;
    if (!ex->messages && (json_is_string(chosen) || json_is_string(rejected)))
        return dan_fail(e, DAN_EFORMAT, "there is no prompt: expected 'prompt' beside 'chosen' and 'rejected', or dialogues in these (\"\\n\\nHuman: ... "
                        "\\n\\nAssistant: ...\")");
    rc = add_answer(ex, chosen, "chosen", e);
    if (!rc) rc = add_answer(ex, rejected, "rejected", e);
    return rc ? rc : split_common(ex, e);
}

static int take_ranked(const json_t *row, struct dan_example *ex, struct dan_err *e)
{
    const json_t *list = json_object_get(row, "completions"), *v;
    size_t i;
    ex->kind = DAN_EXAMPLE_RANKED;
    ex->ranks = json_object_get(row, "ranks");
    if (!ex->messages) return dan_fail(e, DAN_EFORMAT, "'completions' stand without 'prompt'");
    if (!json_is_array(list) || json_array_size(list) < 2) return dan_fail(e, DAN_EFORMAT, "'completions' is no list of two or more answers");
    if (!json_is_array(ex->ranks) || json_array_size(ex->ranks) != json_array_size(list))
        return dan_fail(e, DAN_EFORMAT, "'ranks' is no list of as many integers as there are completions (%zu): 1 is best", json_array_size(list));
    json_array_foreach(ex->ranks, i, v)
        if (!json_is_integer(v)) return dan_fail(e, DAN_EFORMAT, "rank %zu is no integer", i + 1);
    json_array_foreach((json_t *)(uintptr_t)list, i, v) {
        int rc = add_answer(ex, v, "completions", e);
        if (rc) return rc;
    }
    return DAN_OK;
}

static const char *const answer_fields[] = {"completion", "output", "response", "answer"};

/* The row's one answer, as the field of the first that is there. */
static const char *answer_field(const json_t *row)
{
    for (size_t i = 0; i < sizeof answer_fields / sizeof *answer_fields; i++)
        if (has(row, answer_fields[i])) return answer_fields[i];
    return NULL;
}

/* A dialogue whose last turn is the answer: it moves from messages to answers. */
static int split_last(struct dan_example *ex, struct dan_err *e)
{
    size_t n = json_array_size(ex->messages);
    if (n < 2 || !ends_with_assistant(ex->messages)) return dan_fail(e, DAN_EFORMAT, "a labelled dialogue has to end with a message of the assistant");
    ex->answers = json_pack("[[O]]", last_of(ex->messages));
    if (!ex->answers) return dan_example_memory(e);
    json_array_remove(ex->messages, n - 1);
    return DAN_OK;
}

static int take_labelled(const json_t *row, struct dan_example *ex, struct dan_err *e)
{
    const char *field = answer_field(row), *which = has(row, "label") ? "label" : "kto_tag";
    const json_t *label = json_object_get(row, which);
    ex->kind = DAN_EXAMPLE_LABELLED;
    if (!json_is_boolean(label)) return dan_fail(e, DAN_EFORMAT, "field '%s' is neither true nor false", which);
    ex->desirable = json_is_true(label);
    return field ? add_answer(ex, json_object_get(row, field), field, e) : split_last(ex, e);
}

/* self-instruct's seeds: the first of "instances". */
static int take_instance(const json_t *row, struct dan_example *ex, struct dan_err *e)
{
    const json_t *first = json_array_get(json_object_get(row, "instances"), 0);
    if (!json_is_string(json_object_get(first, "output")))
        return dan_fail(e, DAN_EFORMAT, "'instances' is no list of {\"input\": ..., \"output\": ...}");
    json_t *flat = json_pack("{s:O,s:O*,s:O}", "instruction", json_object_get(row, "instruction"), "input", json_object_get(first, "input"), "output",
                             json_object_get(first, "output"));
    if (!flat) return dan_fail(e, DAN_EFORMAT, "field 'instruction' is no string");
    int rc = dan_example_from(flat, ex, e);
    json_decref(flat);
    ex->row = row;
    return rc;
}

/* Prompt and one answer, or a dialogue as it is. */
static int take_chat(const json_t *row, struct dan_example *ex, struct dan_err *e)
{
    const char *field = answer_field(row);
    bool dialogue = has(row, "messages") || has(row, "conversations");
    if (dialogue) field = NULL;
    ex->kind = DAN_EXAMPLE_CHAT;
    if (field) {
        int rc = add_answer(ex, json_object_get(row, field), field, e);
        if (rc) return rc;
        if (json_array_extend(ex->messages, json_array_get(ex->answers, 0))) return dan_example_memory(e);
        json_decref(ex->answers);
        ex->answers = NULL;
    }
    for (size_t i = 0; i < json_array_size(ex->messages); i++)
        if (!strcmp(dan_message_role(json_array_get(ex->messages, i)), "assistant")) return DAN_OK;
    if (dialogue && strcmp(dan_message_role(last_of(ex->messages)), "user"))
        return dan_fail(e, DAN_EFORMAT, "the dialogue has no message of the assistant: there is nothing to learn from it");
    ex->kind = DAN_EXAMPLE_PROMPT;
    return DAN_OK;
}

static int unknown(const json_t *row, struct dan_err *e)
{
    struct dan_str keys = {0};
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)row, key, v)
        if (keys.n < 200) dan_str_printf(&keys, "%s%s", keys.n ? ", " : "", key);
    int rc = dan_fail(e, DAN_EFORMAT, "its fields (%s) are those of no known format: expected text, messages, conversations, instruction + output, "
                      "prompt + completion, or chosen + rejected", keys.n ? dan_str_c(&keys) : "none");
    dan_str_release(&keys);
    return rc;
}

static int fill(const json_t *row, struct dan_example *ex, struct dan_err *e)
{
    int rc = take_messages(row, ex, e);
    if (!rc) rc = take_tools(row, ex, e);
    if (rc) return rc;
    if (has(row, "chosen") || has(row, "rejected")) return take_pair(row, ex, e);
    if (has(row, "completions")) return take_ranked(row, ex, e);
    if (ex->messages && (has(row, "label") || has(row, "kto_tag"))) return take_labelled(row, ex, e);
    if (ex->messages) return take_chat(row, ex, e);
    const json_t *text = json_object_get(row, "text");
    if (!text) return unknown(row, e);
    if (!json_is_string(text)) return dan_fail(e, DAN_EFORMAT, "field 'text' is no string");
    ex->kind = DAN_EXAMPLE_TEXT;
    ex->text = json_string_value(text);
    ex->text_bytes = json_string_length(text);
    return DAN_OK;
}

int dan_example_from(const json_t *row, struct dan_example *ex, struct dan_err *e)
{
    *ex = (struct dan_example){.row = row};
    if (!json_is_object(row)) return dan_fail(e, DAN_EFORMAT, "the row is no JSON object");
    int rc = has(row, "instances") ? take_instance(row, ex, e) : fill(row, ex, e);
    if (rc) dan_example_release(ex);
    return rc;
}
