/* What the harnesses share.  A harness is tests/fuzz/fuzz_NAME.c with one LLVMFuzzerTestOneInput; fuzz.mk finds it.
 *
 * Readers take paths.  Under test they see a folder in memory, "mem": the linker puts common.c in front of base/file.h
 * (--wrap).  A mapped file is then a heap block of its exact size, so that AddressSanitizer sees every byte read
 * beyond its end or after it was unmapped; a real mapping would hide the first behind its last page. */
#ifndef DAN_FUZZ_H
#define DAN_FUZZ_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* The folder.  Names without "mem/"; bytes are copied. */
void fuzz_clear(void);
void fuzz_put(const char *name, const void *p, size_t n);

/* An input of several files: parts with FUZZ_CUT between them. */
#define FUZZ_CUT "\n<cut>\n"
struct fuzz_input { const uint8_t *p; size_t n; };
/* Takes the next part off; false when there is none. */
bool fuzz_next(struct fuzz_input *in, struct fuzz_input *part);
/* Every part as a file of that name, as many as there are; the folder is empty before. */
void fuzz_put_parts(const uint8_t *p, size_t n, const char *const *names, size_t n_names);

/* A safetensors file: one that begins with a brace gets the length of its header, which ends with the last brace, in front. */
void fuzz_put_safetensors(const char *name, const uint8_t *p, size_t n);

/* Lines of text as a GGUF file: gguf_text.c. */
void fuzz_put_gguf(const char *name, const uint8_t *p, size_t n);

/* The end of an input: the folder is empty again, and no large block (memory.c) is left. */
void fuzz_done(void);
/* What is allocated between true and false is for the next inputs too. */
void fuzz_stay(bool yes);

/* A failure must say so in one printable line, and may not be that memory is out; rc is given back. */
int fuzz_expect(int rc, const struct dan_err *e);

struct dan_store;
struct dan_tokenizer;
/* First and last byte of every tensor, its first row as f32. */
void fuzz_use_store(const struct dan_store *s);
/* Encodes a text that has everything and some of p[n], decodes the ids at once and one by one, asks for offsets: some of that, which, depends
 * on n, so that inputs are quick; all of it while fuzz_all is true. */
extern bool fuzz_all;
void fuzz_use_tokenizer(const struct dan_tokenizer *t, const uint8_t *p, size_t n);
/* Loads "mem/NAME" as a tokenizer and uses it. */
void fuzz_load_tokenizer(const char *name, const uint8_t *p, size_t n);
/* The bytes at both ends and in the middle are read. */
void fuzz_touch(const void *p, size_t n);

/* Inputs that load, for the harness `name`: tests/fuzz/seeds.c.  False at the end; valid until the next call. */
bool fuzz_seed(const char *name, size_t i, const uint8_t **p, size_t *n);

#endif
