/* A conversation through a model's chat template, to ids: one way for serving and for training, so that both have the same ids.
 *
 * The ids are those of transformers' tokenizer.apply_chat_template(messages, tools=..., add_generation_prompt=...), which encodes
 * the whole rendered text at once and adds nothing around it, so a template that writes bos writes it once.  One difference, meant: what a
 * message says makes no special token and breaks none (dan_tokenizer_encode_marked). */
#ifndef DAN_TEXT_CHAT_TEMPLATE_H
#define DAN_TEXT_CHAT_TEMPLATE_H
#include "text/jinja.h"

struct dan_chat_template {
    const struct dan_tokenizer *tok;
    char  *text;
    size_t n;
    const char *builtin;                       /* its name, or NULL: the model's own or a file's */
    json_t *tokens;                            /* what the template knows: bos_token, eos_token, pad_token, ... */
    struct dan_ids before;                     /* stand before every rendering; empty unless builtin: built-in templates write no bos */
};

/* One of the templates that danlu has: "chatml", "llama3", "llama2", "mistral", "gemma", "phi3", "zephyr", "alpaca", "plain".  NULL: none of that
 * name.  _at lists the names, NULL at the end; _for names the first whose control tokens are all in the vocabulary, else "plain". */
const char *dan_chat_builtin(const char *name);
const char *dan_chat_builtin_at(size_t i);
const char *dan_chat_builtin_for(const struct dan_tokenizer *tok);

/* which NULL: the tokenizer's template, or, if there is none, a built-in one.  Else one of the named templates in tokenizer_config.json, a
 * built-in one, or the path of a file with a template, the first of these.  before: what belongs before a text of the model, for built-in
 * templates (copied); NULL: none.  tok must outlive *out.  *out must be {0}; release it in any case. */
int  dan_chat_template_open(struct dan_chat_template *out, const struct dan_tokenizer *tok, const char *which, const struct dan_ids *before,
                            struct dan_err *e);
void dan_chat_template_release(struct dan_chat_template *t);

/* The same with `before` written in its text, as a file has to say it: for what learns by it, and is used by the file later. */
int dan_chat_template_settle(struct dan_chat_template *t, struct dan_err *e);
/* Writes DIR/chat_template.jinja; t is settled. */
int dan_chat_template_save(const struct dan_chat_template *t, const char *dir, struct dan_err *e);
/* Appended: DIR/chat_template.jinja; nothing where it is not there, or DIR is no folder. */
int dan_chat_template_find(const char *dir, struct dan_str *path, struct dan_err *e);
int dan_chat_template_read(const char *dir, struct dan_str *text, struct dan_err *e);          /* the same of what is in it */
/* From a folder that has one to another, in place of what is there. */
int dan_chat_template_copy(const char *from, const char *to, struct dan_err *e);
/* DIR/chat_template.jinja becomes the tokenizer's own template, where there is one (*found): an adapter's folder has the one that it learnt with. */
int dan_chat_template_take(struct dan_tokenizer *tok, const char *dir, bool *found, struct dan_err *e);

struct dan_chat_input {
    const json_t *messages;                    /* array of {"role", "content", ...}; text, or whatever the template reads */
    const json_t *tools, *documents;           /* arrays, as apply_chat_template takes them, or NULL: None */
    const json_t *vars;                        /* object of more variables ("enable_thinking"), or NULL; marked as messages are */
    bool open;                                 /* add_generation_prompt */
    bool has_now;                              /* strftime_now works; without it a template that asks for the date fails */
    int64_t now;                               /* seconds since 1970, UTC */
};
enum dan_chat_source { DAN_CHAT_TEMPLATE, DAN_CHAT_MESSAGE, DAN_CHAT_ASSISTANT };
struct dan_chat_out {
    struct dan_jinja_out r;                    /* the text, its marks, what is inside {% generation %} */
    struct dan_ids ids;
    struct dan_spans at;                       /* for each id its bytes of the text; [0, 0) for those of `before` */
    struct dan_str source;                     /* for each id enum dan_chat_source: the highest of its bytes */
    struct dan_str learn;                      /* for each id 1: the loss counts it.  Empty until dan_chat_mask */
};
void dan_chat_out_release(struct dan_chat_out *out);

/* The text alone, and with ids.  Fails as dan_jinja_render does (the line of the template is in the message), and with DAN_EINVAL when
 * messages is no array of objects.  *out must be {0}; release it in any case. */
int dan_chat_text(const struct dan_chat_template *t, const struct dan_chat_input *in, struct dan_jinja_out *out, struct dan_err *e);
int dan_chat_render(const struct dan_chat_template *t, const struct dan_chat_input *in, struct dan_chat_out *out, struct dan_err *e);

/* What is known of the assistant's turns in a rendering. */
struct dan_chat_turns {
    int64_t n;                                 /* assistant messages */
    int64_t lost;                              /* of these, not in the text at all */
    int64_t inexact;                           /* of these, found by the bytes of the message alone, see below */
    int64_t unended;                           /* of these, without a special token behind them that is learnt */
    bool    blocks;                            /* {% generation %} told */
};
/* Fills out->learn: the assistant's tokens and the special token that ends each turn, not what the template writes before or behind
 * them.  With {% generation %} blocks: the ids with a byte inside, as transformers' return_assistant_tokens_mask.  Without: a turn is what the
 * rendering up to its message has more than the rendering before it with the generation prompt, up to the first special token behind
 * the message's bytes.  Where these are no prefixes of each other (a template that drops old thoughts, say), it is from the first byte
 * of the message that is in the text: inexact, for the template's own words at its beginning (<think>, <tool_call>) are not learnt. */
int dan_chat_mask(const struct dan_chat_template *t, const struct dan_chat_input *in, struct dan_chat_out *out, struct dan_chat_turns *turns,
                  struct dan_err *e);

/* What the template does with a short conversation (user, assistant, user, assistant). */
struct dan_chat_traits {
    bool prefix_preserving;                    /* ids of a shorter conversation, generation prompt included, begin those of a longer one */
    bool stop_trained;                         /* the mask holds a special token at the end of every turn */
    bool takes_system;                         /* renders a system message, and its text is there */
    int32_t stop;                              /* the special token that ends an assistant's turn, -1: none */
    struct dan_str stop_text;                  /* without one: the text by which the next turn begins, or empty */
};
void dan_chat_traits_release(struct dan_chat_traits *t);
/* Fails when the template cannot render (user, assistant).  has_now and now as in dan_chat_input.  *out must be {0}. */
int dan_chat_traits_of(const struct dan_chat_template *t, bool has_now, int64_t now, struct dan_chat_traits *out, struct dan_err *e);

#endif
