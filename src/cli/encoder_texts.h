/* What fill and classify share: an encoder opened for use, and texts (or pairs of texts) as its sentences. */
#ifndef DAN_CLI_ENCODER_TEXTS_H
#define DAN_CLI_ENCODER_TEXTS_H
#include "cli/cmd.h"
#include "infer/encode.h"
#include "text/tokenizer.h"

struct enc_files { const char *dir; struct dan_encoder enc; struct dan_tokenizer *tok; struct dan_pool *pool; };
int  enc_open(struct dan_cli *cli, const char *dir, enum dan_prec prec, struct enc_files *m, struct dan_err *e);
void enc_close(struct enc_files *m);

/* Text i is text[i].p[0 .. n), views of arguments or of `memory`; its ids start[i] .. start[i + 1] - 1. */
struct enc_texts {
    char   *memory;
    struct enc_text { const char *p; size_t n; } *text;
    size_t  n, text_cap, start_cap;
    struct dan_ids ids, types;
    int64_t *start;
    int64_t cut;                               /* texts that were longer than the model takes */
};
/* Bytes of a file (NULL or "-": standard input): what is no text is refused, invalid UTF-8 is warned of. */
int  enc_check(struct dan_cli *cli, const char *file, const char *p, size_t n, struct dan_err *e);
/* The arguments, else the lines of `file` (NULL or "-": standard input). */
int  enc_read(struct dan_cli *cli, const struct dan_strings *args, const char *file, struct enc_texts *x, struct dan_err *e);
/* Ids of all texts, control tokens around them; pair: each is two, with a tab between.  flags: enum dan_encode_flags.
 * What is too long is cut from the end of the longer part, and counted. */
int  enc_encode(const struct enc_files *m, struct enc_texts *x, bool pair, int flags, struct dan_err *e);
struct dan_sentences enc_sentences(const struct enc_texts *x);
void enc_texts_release(struct enc_texts *x);

#endif
