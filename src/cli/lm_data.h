/* Text -> tokenizer and token shards, with progress: shared by train and its relatives. */
#ifndef DAN_CLI_LM_DATA_H
#define DAN_CLI_LM_DATA_H
#include "cli/cmd.h"
#include "data/shards.h"
#include "text/tokenizer.h"

struct lm_data_opts {
    struct dan_strings paths;
    const char *tokenizer;                     /* "char", "bytes", "bpe", or a path */
    int64_t vocab;
    const char *field;
    double  val_fraction;
    bool    allow_invalid;
    const char *model_dir;                     /* the tokenizer is saved here */
    const char *data_dir;                      /* the shards */
};
int lm_data_make(struct dan_cli *cli, const struct lm_data_opts *o, struct dan_tokenizer **tok, struct dan_err *e);

#endif
