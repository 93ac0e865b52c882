/* What the readers of files about tokenizers share. */
#ifndef DAN_TEXT_LOAD_H
#define DAN_TEXT_LOAD_H
#include "text/normal.h"
#include "text/spec.h"

/* bos, eos, unk and chat template from what lies beside the tokenizer's file in dir; fine when nothing does. */
int  dan_tok_load_config(struct dan_tokenizer *t, const char *dir, struct dan_err *e);

/* The directory of a file. */
void dan_path_dir(struct dan_str *out, const char *path);
/* An object, from DIR/NAME or the first of several names; *out NULL when there is none. */
int  dan_json_beside(const char *dir, const char *name, json_t **out, struct dan_err *e);
/* The text of a token: "text" or {"content": "text"}; "" when absent. */
const char *dan_token_text(const json_t *config, const char *key);
/* A token that was put under this text, -1: none. */
int64_t dan_tok_spec_find(const struct dan_tok_spec *s, const char *p, size_t n);
/* Makes a piece an added token (it need not be in the vocabulary: id -1 then means the next free one). */
int  dan_tok_spec_add(struct dan_tok_spec *s, int64_t id, const char *text, int flags, struct dan_err *e);

#endif
