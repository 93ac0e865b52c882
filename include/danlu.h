/* danlu.h: the public C API.  Opaque types, no globals; a library call never prints, exits or reads the
 * environment.  Link with libdanlu.a -llapacke -ljansson -lutf8proc -lpcre2-8 -lsqlite3 -lm -lpthread.
 *
 * Stable tier: everything in this file.  Headers below src/ are experimental and may change.
 *
 * Failures return a negative number and write a message (lower case, with what to do about it) into
 * err, when that is not NULL. */
#ifndef DANLU_H
#define DANLU_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

const char *danlu_version(void);               /* "0.1.0" */

typedef struct danlu_model danlu_model;

/* Opens a model folder in the Hugging Face layout.  threads 0: every core this process may use. */
int  danlu_open(const char *dir, int threads, danlu_model **out, char *err, size_t err_bytes);
void danlu_close(danlu_model *m);              /* NULL is fine */
int64_t danlu_vocab_size(const danlu_model *m);
int64_t danlu_context(const danlu_model *m);   /* tokens a sequence may hold */
int64_t danlu_n_params(const danlu_model *m);

typedef struct danlu_sampling {
    double   temperature;                      /* 0: the likeliest token */
    int64_t  top_k;                            /* 0: off */
    double   top_p, min_p, repetition_penalty; /* 1, 0, 1: off */
    uint64_t seed;                             /* same seed, same text, on any number of threads */
    int64_t  max_tokens;                       /* 0: until the context is full */
} danlu_sampling;
danlu_sampling danlu_sampling_default(void);

/* Continues `prompt` (UTF-8).  on_text is called with text as it becomes final, never half a character; it
 * returns 0 to go on, anything else to stop.  Returns the number of new tokens. */
int64_t danlu_generate(danlu_model *m, const char *prompt, const danlu_sampling *s,
                       int (*on_text)(void *ctx, const char *bytes, size_t n), void *ctx, char *err, size_t err_bytes);

/* Text -> ids: writes at most `cap`, returns how many there are. */
int64_t danlu_encode(const danlu_model *m, const char *text, size_t n, int32_t *ids, size_t cap, char *err, size_t err_bytes);
/* Ids -> exact bytes: writes at most `cap` - 1 and a NUL, returns how many there are. */
int64_t danlu_decode(const danlu_model *m, const int32_t *ids, size_t n, char *text, size_t cap);
/* Next-token logits [vocab] after the n ids. */
int  danlu_logits(danlu_model *m, const int32_t *ids, size_t n, float *logits, char *err, size_t err_bytes);

#ifdef __cplusplus
}
#endif
#endif
