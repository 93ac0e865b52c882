/* What sentence-transformers writes beside a Hugging Face model: modules.json, 1_Pooling/config.json and
 * sentence_bert_config.json.  A model without them is no error: everything says "not given". */
#ifndef DAN_IO_ST_CONFIG_H
#define DAN_IO_ST_CONFIG_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

struct dan_st_config {
    char    pooling[32];                       /* "mean", "cls", "max"; "" not given */
    bool    normalize;                         /* vectors are divided by their Euclidean norm */
    int64_t max_tokens;                        /* of a sentence, [CLS] and [SEP] included; 0: not given */
};
/* Modules and poolings other than these change the vectors: they are refused by name. */
int dan_st_config_load(const char *dir, struct dan_st_config *out, struct dan_err *e);

#endif
