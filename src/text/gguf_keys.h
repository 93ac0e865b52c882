#ifndef DAN_TEXT_GGUF_KEYS_H
#define DAN_TEXT_GGUF_KEYS_H
#include "io/gguf.h"
#include "text/spec.h"

/* tokenizer.ggml.* as llama.cpp reads them: "gpt2" for byte-level BPE, "llama" for SentencePiece's BPE and for BPE over characters
 * with byte fallback, "t5" for unigram.  The list is filled up to vocab (rows of the model's table) with unused tokens.
 * bos, eos, pad: ids, -1 none.  Other kinds fail with DAN_EUNSUPPORTED, and o is as it was. */
struct dan_gguf_tokens { int64_t vocab, bos, eos, pad; bool add_bos; const char *chat_template; };
int dan_spec_to_gguf(const struct dan_tok_spec *s, const struct dan_gguf_tokens *m, struct dan_gguf_out *o, struct dan_err *e);

#endif
