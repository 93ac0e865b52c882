/* What the files of `danlu tokenizer` share. */
#ifndef DAN_CLI_TOKENIZER_CMD_H
#define DAN_CLI_TOKENIZER_CMD_H
#include "cli/cmd.h"
#include "text/tokenizer.h"

extern const struct dan_cmd dan_tokenizer_cmd_train, dan_tokenizer_cmd_info, dan_tokenizer_cmd_compare;

/* For terminals and JSON: what is no UTF-8 is shown as U+FFFD.  True when nothing had to be replaced. */
bool dan_put_valid(const char *p, size_t n, struct dan_str *out);
/* n bytes as a JSON string, valid whatever they are. */
json_t *dan_text_json(const char *p, size_t n);

#endif
