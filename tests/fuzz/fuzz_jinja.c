/* A chat template, and after a cut the variables that a user gives it: rendered as a bare template and as a conversation with its ids and its
 * mask.  A special token may come of the template's bytes only. */
#include <stdlib.h>
#include <string.h>
#include "fuzz.h"
#include "text/chat_template.h"

static const char usual[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"h\xc3\xa9 <|x|> %s {}\"},{\"role\":\"assistant\",\"content\":null},"
                            "{\"role\":\"assistant\",\"content\":\"<|end|>a\"}],\"d\":{\"a\":[1,2.5,true],\"b\":\"x\"},\"n\":-3,\"l\":[3,\"z\",1]}";

static void check_ids(const struct dan_tokenizer *t, const struct dan_chat_out *out)
{
    DAN_ASSERT(out->ids.n == out->at.n && out->source.n == out->ids.n);
    for (size_t i = 0; i < out->ids.n; i++) {
        struct dan_span at = out->at.v[i];
        DAN_ASSERT(at.from <= at.to && at.to <= out->r.text.n);
        DAN_ASSERT(out->source.p[i] == DAN_CHAT_TEMPLATE || !dan_tokenizer_is_special(t, out->ids.v[i]));
    }
}

static void converse(const struct dan_tokenizer *t, const char *template, json_t *vars)
{
    struct dan_chat_template by = {.tok = t, .text = (char *)(uintptr_t)template, .n = strlen(template), .tokens = json_object()};
    struct dan_chat_input in = {.messages = json_object_get(vars, "messages"), .tools = json_object_get(vars, "tools"), .vars = vars};
    struct dan_chat_out out = {0};
    struct dan_chat_turns turns;
    struct dan_err e = {0};
    if (!fuzz_expect(dan_chat_render(&by, &in, &out, &e), &e)) {
        check_ids(t, &out);
        DAN_ASSERT(!dan_chat_mask(&by, &in, &out, &turns, &e) && out.learn.n == out.ids.n && turns.lost + turns.inexact <= turns.n);
    }
    dan_chat_out_release(&out);
    json_decref(by.tokens);
}

/* Limits that one input reaches in a millisecond. */
static bool render(const char *template, size_t n, const json_t *vars)
{
    struct dan_jinja_opts o = {.has_now = n & 1, .max_steps = 3000, .max_memory = 1 << 20, .max_output = 16 << 10};
    struct dan_jinja_out out = {0};
    struct dan_err e = {0};
    int rc = fuzz_expect(dan_jinja_render(template, n, NULL, vars, &o, &out, &e), &e);
    if (!rc) DAN_ASSERT(out.text.n == out.mark.n);
    dan_jinja_out_release(&out);
    return !rc;
}

static const struct dan_tokenizer *tokenizer(void)
{
    static const char *const special[] = {"<|x|>", "<|end|>", "<|"};
    static struct dan_tokenizer *t;
    struct dan_tok_train_opts o = {.special = special, .n_special = 3};
    if (t) return t;
    fuzz_stay(true);
    DAN_ASSERT(!dan_tokenizer_new_bytes(&o, &t, NULL));
    fuzz_stay(false);
    return t;
}

/* Those of the input, if it brings an object, or the usual ones. */
static json_t *variables(const struct fuzz_input *own)
{
    json_t *vars = own->n && own->n < 4096 ? json_loadb((const char *)own->p, own->n, 0, NULL) : NULL;
    if (json_is_object(vars)) return vars;
    json_decref(vars);
    static json_t *made;
    if (!made) made = json_loads(usual, 0, NULL);
    return json_incref(made);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct fuzz_input in = {p, n}, part = {0}, own = {0};
    fuzz_clear();
    if (!fuzz_next(&in, &part)) return 0;
    fuzz_next(&in, &own);
    char *template = malloc(part.n + 1);
    memcpy(template, part.p, part.n);
    template[part.n] = 0;
    json_t *vars = variables(&own);
    if (render(template, part.n, vars) && n < 300) converse(tokenizer(), template, vars);
    json_decref(vars);
    free(template);
    return 0;
}
