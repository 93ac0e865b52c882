/* Calibration text: what a model is shown before it is quantised. */
#ifndef DAN_QUANT_CALIBRATION_H
#define DAN_QUANT_CALIBRATION_H
#include "quant/observe.h"
#include "text/tokenizer.h"

struct dan_calibration_opts {
    int64_t sequences, length;                 /* 0: 128 of 512 tokens, or of the model's context */
    const int32_t *prefix;                     /* ids before every sequence (bos) */
    size_t  n_prefix;
    const char *field;                         /* JSONL; NULL: "text" */
    bool    allow_invalid;
};
struct dan_calibration {
    struct dan_sequences text;                 /* pieces of documents, spread evenly over the text */
    int64_t tokens, bytes;                     /* in the sequences; bytes of text that they stand for, about */
    int64_t text_bytes, docs;                  /* of the files */
    int64_t unknown;                           /* tokens that are <unk> or one byte of a character */
    int64_t widest;                            /* inputs of the model's widest product */
    int64_t vocab;
};
/* paths: files and folders, as dan_text_open takes them.  At most sequences x length tokens; a longer text is sampled evenly, its
 * memory is bounded.  Fails below 64 tokens. */
int  dan_calibration_read(const char *const *paths, size_t n, const struct dan_tokenizer *tok, const struct dan_lm *lm,
                          const struct dan_calibration_opts *o, struct dan_calibration *out, struct dan_err *e);
void dan_calibration_release(struct dan_calibration *c);

/* Appends a line for each reason to doubt the result, with its numbers: too few tokens for the widest product, a text that the model
 * does not know (cross entropy near that of guessing, many unknown characters).  seen: what dan_observe said of this text with the
 * float model; NULL: not known. */
void dan_calibration_doubts(const struct dan_calibration *c, const struct dan_observed *seen, struct dan_str *out);

#endif
