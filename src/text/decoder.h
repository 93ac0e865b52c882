/* "decoder" of tokenizer.json: from tokens to text, a chain of steps.  The same chain serves a whole decode and one id at a
 * time: a step gives out what later tokens cannot change any more, so that the pieces together are the whole. */
#ifndef DAN_TEXT_DECODER_H
#define DAN_TEXT_DECODER_H
#include "text/normal.h"

struct dan_decoder;
/* j NULL or null: tokens joined with spaces. */
int  dan_decoder_new(const json_t *j, const char *where, struct dan_decoder **out, struct dan_err *e);
void dan_decoder_free(struct dan_decoder *d);          /* NULL is fine */
/* Is it ByteLevel alone?  Then the pieces' bytes are the text. */
bool dan_decoder_is_bytes(const json_t *j);

struct dan_decoding;
struct dan_decoding *dan_decoding_new(const struct dan_decoder *d);    /* NULL: out of memory */
void dan_decoding_push(struct dan_decoding *g, const char *token, size_t n, struct dan_str *out);
void dan_decoding_finish(struct dan_decoding *g, struct dan_str *out);         /* what still waits; then it begins anew */
void dan_decoding_free(struct dan_decoding *g);        /* NULL is fine */

#endif
