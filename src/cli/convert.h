#ifndef DAN_CLI_CONVERT_H
#define DAN_CLI_CONVERT_H
#include "cli/cmd.h"
#include "io/gguf.h"
#include "io/sniff.h"
#include "model/lm.h"

int convert_copy_file(const char *from, const char *to, struct dan_err *e);
/* The tokenizer of src (for llama2.c: `given`, or tokenizer.bin or tokN.bin beside it), with the chat template of an adapter's folder where that is not NULL and
 * has one.  A model without one is converted without, and that is said; so is a tokenizer that the other format has no form for. */
int convert_tokenizer_to_gguf(struct dan_ui *ui, const char *src, enum dan_file_kind kind, const char *given, const char *adapter, const struct dan_lm *lm,
                              struct dan_gguf_out *out, struct dan_err *e);
int convert_tokenizer_to_dir(struct dan_ui *ui, const char *src, enum dan_file_kind kind, const char *given, const char *adapter, const struct dan_lm *lm,
                             const char *dir, struct dan_err *e);
/* Where the tokenizer of a llama2.c checkpoint is: false when nowhere. */
bool convert_find_llama2c_tokenizer(const char *checkpoint, int64_t vocab, struct dan_str *out);
/* Two paths to one file or folder that is there. */
bool convert_same_place(const char *a, const char *b);

#endif
