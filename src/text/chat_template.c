#include "text/chat_template.h"
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "io/json.h"
#include "text/chat_impl.h"
#include "text/impl.h"
#include "text/normal.h"

/* --- opening */

static int take_text(struct dan_chat_template *t, const char *text, size_t n, struct dan_err *e)
{
    t->text = dan_malloc(n + 1);
    if (!t->text) return dan_fail(e, DAN_ENOMEM, "not enough memory for a chat template of %zu bytes", n);
    memcpy(t->text, text, n);
    t->text[n] = 0;
    t->n = n;
    return DAN_OK;
}

static bool ends_in_token(const char *key) { return dan_str_ends(key, "_token"); }

/* The tokens that tokenizer_config.json names: "text" or {"content": "text"}. */
static void named_tokens(struct dan_chat_template *t, const json_t *config)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)config, key, v) {
        const json_t *text = json_is_object(v) ? json_object_get(v, "content") : v;
        if (ends_in_token(key) && json_is_string(text)) json_object_set(t->tokens, key, (json_t *)text);
    }
}

/* Those that only ids name (GGUF).  A key of the configuration that is null says that there is none. */
static void tokens_by_id(struct dan_chat_template *t, const json_t *config)
{
    const struct { const char *key; int32_t id; } all[] = {
        {"bos_token", t->tok->bos}, {"eos_token", t->tok->eos}, {"unk_token", t->tok->unk}, {"pad_token", t->tok->pad}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        size_t n;
        const char *p = dan_tokenizer_token(t->tok, all[i].id, &n);
        if (p && !json_object_get(config, all[i].key) && !json_object_get(t->tokens, all[i].key))
            json_object_set_new(t->tokens, all[i].key, json_stringn(p, n));
    }
}

static const json_t *template_in(const json_t *config, const char *name)
{
    size_t i;
    const json_t *one;
    json_array_foreach(json_object_get(config, "chat_template"), i, one)
        if (!strcmp(dan_json_name(one, "name"), name)) return json_object_get(one, "template");
    return NULL;
}

static int no_template(const char *which, struct dan_err *e)
{
    struct dan_str names = {0};
    for (size_t i = 0; dan_chat_builtin_at(i); i++) dan_str_printf(&names, "%s%s", i ? ", " : "", dan_chat_builtin_at(i));
    dan_fail(e, DAN_EINVAL, "there is no chat template '%s': it is no file, and the built-in ones are %s", which, dan_str_c(&names));
    dan_str_release(&names);
    return DAN_EINVAL;
}

static int from_builtin(struct dan_chat_template *t, const char *name, const struct dan_ids *before, struct dan_err *e)
{
    const struct dan_chat_builtin_template *b = dan_chat_builtin_find(name);
    t->builtin = b->name;
    for (size_t i = 0; before && i < before->n; i++) dan_ids_push(&t->before, before->v[i]);
    if (t->before.failed) return dan_fail(e, DAN_ENOMEM, "not enough memory for a chat template");
    return take_text(t, b->text, strlen(b->text), e);
}

static int from_file(struct dan_chat_template *t, const char *path, struct dan_err *e)
{
    int rc = dan_read_file(path, &t->text, &t->n, e);
    if (!rc && memchr(t->text, 0, t->n)) rc = dan_fail(e, DAN_EFORMAT, "'%s' is no chat template: it has a zero byte in it", path);
    return rc;
}

static int choose(struct dan_chat_template *t, const json_t *config, const char *which, const struct dan_ids *before, struct dan_err *e)
{
    const char *own = dan_tokenizer_chat_template(t->tok);
    if (!which) return own ? take_text(t, own, strlen(own), e) : from_builtin(t, dan_chat_builtin_for(t->tok), before, e);
    const json_t *more = json_object_get(t->tok->more_templates, which), *named = more ? more : template_in(config, which);
    if (json_is_string(named)) return take_text(t, json_string_value(named), json_string_length(named), e);
    if (dan_chat_builtin_find(which)) return from_builtin(t, which, before, e);
    return dan_path_exists(which) && !dan_path_is_dir(which) ? from_file(t, which, e) : no_template(which, e);
}

int dan_chat_template_open(struct dan_chat_template *out, const struct dan_tokenizer *tok, const char *which, const struct dan_ids *before,
                           struct dan_err *e)
{
    json_t *config = NULL;
    out->tok = tok;
    out->tokens = json_object();
    int rc = out->tokens ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for a chat template");
    if (!rc && tok->config) rc = dan_json_parse("tokenizer_config.json", tok->config, tok->config_n, DAN_JSON_MAX_DEPTH, &config, e);
    if (!rc) {
        named_tokens(out, config);
        tokens_by_id(out, config);
        rc = choose(out, config, which, before, e);
    }
    json_decref(config);
    return rc;
}

void dan_chat_template_release(struct dan_chat_template *t)
{
    dan_free(t->text);
    json_decref(t->tokens);
    dan_ids_release(&t->before);
    *t = (struct dan_chat_template){0};
}

/* --- rendering */

static int check_messages(const json_t *messages, struct dan_err *e)
{
    size_t i;
    const json_t *one;
    if (!json_is_array(messages)) return dan_fail(e, DAN_EINVAL, "messages is no list; it must be [{\"role\": ..., \"content\": ...}, ...]");
    json_array_foreach(messages, i, one)
        if (!json_is_object(one)) return dan_fail(e, DAN_EINVAL, "message %zu is no object with \"role\" and \"content\"", i);
    return DAN_OK;
}

/* What apply_chat_template gives a template.  NULL: out of memory. */
static json_t *user_vars(const struct dan_chat_input *in)
{
    json_t *v = in->vars ? json_copy((json_t *)in->vars) : json_object();
    if (!v) return NULL;
    bool bad = json_object_set(v, "messages", (json_t *)in->messages) != 0;
    bad |= json_object_set_new(v, "tools", in->tools ? json_incref((json_t *)in->tools) : json_null()) != 0;
    bad |= json_object_set_new(v, "documents", in->documents ? json_incref((json_t *)in->documents) : json_null()) != 0;
    bad |= json_object_set_new(v, "add_generation_prompt", json_boolean(in->open)) != 0;
    if (!bad) return v;
    json_decref(v);
    return NULL;
}

int dan_chat_text(const struct dan_chat_template *t, const struct dan_chat_input *in, struct dan_jinja_out *out, struct dan_err *e)
{
    struct dan_jinja_opts o = {.has_now = in->has_now, .now = in->now};
    int rc = check_messages(in->messages, e);
    json_t *vars = rc ? NULL : user_vars(in);
    if (!rc && !vars) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for a conversation");
    if (!rc) rc = dan_jinja_render(t->text, t->n, t->tokens, vars, &o, out, e);
    json_decref(vars);
    return rc;
}

static char source_of(const struct dan_jinja_out *r, struct dan_span at)
{
    char most = DAN_CHAT_TEMPLATE;
    for (size_t i = at.from; i < at.to && i < r->mark.n; i++) {
        unsigned char m = (unsigned char)r->mark.p[i];
        char s = m >= DAN_JINJA_ASSISTANT ? DAN_CHAT_ASSISTANT : m ? DAN_CHAT_MESSAGE : DAN_CHAT_TEMPLATE;
        if (s > most) most = s;
    }
    return most;
}

int dan_chat_render(const struct dan_chat_template *t, const struct dan_chat_input *in, struct dan_chat_out *out, struct dan_err *e)
{
    int rc = dan_chat_text(t, in, &out->r, e);
    for (size_t i = 0; !rc && i < t->before.n; i++) {
        dan_ids_push(&out->ids, t->before.v[i]);
        dan_spans_push(&out->at, 0, 0);
    }
    if (!rc && out->r.text.n)
        rc = dan_tokenizer_encode_marked(t->tok, out->r.text.p, (const uint8_t *)out->r.mark.p, out->r.text.n, DAN_ENCODE_SPECIAL | DAN_ENCODE_UNK,
                                         &out->ids, &out->at, e);
    for (size_t i = 0; !rc && i < out->ids.n; i++) dan_str_putc(&out->source, source_of(&out->r, out->at.v[i]));
    if (!rc && (out->ids.failed || out->at.failed || out->source.failed)) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for a conversation");
    return rc;
}

void dan_chat_out_release(struct dan_chat_out *out)
{
    dan_jinja_out_release(&out->r);
    dan_ids_release(&out->ids);
    dan_spans_release(&out->at);
    dan_str_release(&out->source);
    dan_str_release(&out->learn);
}
