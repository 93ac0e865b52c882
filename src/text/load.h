/* What the readers of tokenizer.json share. */
#ifndef DAN_TEXT_LOAD_H
#define DAN_TEXT_LOAD_H
#include <jansson.h>
#include "text/impl.h"

/* "PATH: KEY 'VALUE' is not supported yet; ..." */
int dan_tok_unsupported(const char *path, const char *key, const char *value, struct dan_err *e);
/* "" when the key is absent, null or no string. */
const char *dan_tok_text(const json_t *object, const char *key);

/* "model.vocab" (in GPT-2's alphabet of bytes or not) and "added_tokens". */
int dan_tok_load_vocab(struct dan_tokenizer *t, const char *path, const json_t *root, const json_t *model, bool alphabet,
                       struct dan_err *e);
/* What "post_processor" puts before and after a text. */
int dan_tok_load_template(struct dan_tokenizer *t, const char *path, const json_t *root, struct dan_err *e);

/* The scanner for "pre_tokenizer". */
int dan_tok_load_split(const char *path, const json_t *pre, struct dan_split *out, struct dan_err *e);
/* bos, eos, unk and chat template from what lies beside tokenizer.json in dir; fine when nothing does. */
int dan_tok_load_config(struct dan_tokenizer *t, const char *dir, struct dan_err *e);

#endif
