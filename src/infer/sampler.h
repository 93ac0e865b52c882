/* From logits to the next token.
 *
 * Transformations (one const struct in one file of src/infer/sampler/ each) are applied in rising rank:
 *   repetition_penalty, temperature, top_k, top_p, min_p, then the draw
 * which is the order of Hugging Face's generate(), so that a model's generation_config.json means here
 * what it means there.  Temperature 0 is greedy: penalties, then the largest logit, lowest id among equals.
 *
 * The draw takes its number from Philox(seed, stream, counter): stream is the sequence's number, counter the
 * position of the new token.  A sequence's text never depends on who shares its batch. */
#ifndef DAN_INFER_SAMPLER_H
#define DAN_INFER_SAMPLER_H
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"

struct dan_sampling {
    double  temperature;                       /* 0: greedy */
    int64_t top_k;                             /* 0: off */
    double  top_p, min_p;                      /* 1 (or 0) and 0: off */
    double  repetition_penalty;                /* 1 (or 0): off */
    uint64_t seed, stream;
};
/* Temperature 1, all else off. */
#define DAN_SAMPLING_PLAIN ((struct dan_sampling){.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 1})
int dan_sampling_check(const struct dan_sampling *p, struct dan_err *e);

/* What is left to choose from: ids rise, so id[i] == i as long as n == vocab. */
struct dan_candidates {
    int32_t *id;
    float   *logit;
    int64_t  n, vocab;
    const int32_t *history;                    /* prompt and text so far */
    int64_t  n_history;
    double  *p;                                /* scratch [vocab] */
    float   *scratch;                          /* [vocab] */
    uint8_t *mark;                             /* [vocab], zeros between calls */
};

struct dan_sampler {
    const char *name, *doc;
    int32_t rank;
    bool    greedy;                            /* also applied at temperature 0 */
    bool  (*on)   (const struct dan_sampling *p);
    void  (*apply)(const struct dan_sampling *p, struct dan_candidates *c);   /* leaves at least one */
};
extern const struct dan_sampler *const dan_samplers[];           /* generated; NULL-terminated, by name */

struct dan_draw;                               /* memory for drawing; one per thread */
int  dan_draw_new(int64_t vocab, struct dan_draw **out, struct dan_err *e);
void dan_draw_free(struct dan_draw *d);
/* The next token, from logits [vocab]; they are not changed. */
int32_t dan_draw_token(struct dan_draw *d, const struct dan_sampling *p, const float *logits, const int32_t *history, int64_t n_history,
                       uint64_t counter);
/* The candidates after all transformations, for tests and for showing alternatives. */
const struct dan_candidates *dan_draw_candidates(struct dan_draw *d, const struct dan_sampling *p, const float *logits,
                                                 const int32_t *history, int64_t n_history);

/* For transformations. */
float dan_candidates_top(const struct dan_candidates *c);                   /* the largest logit */
double dan_candidates_softmax(const struct dan_candidates *c, double *p);    /* p [n]; returns the largest */
void  dan_candidates_at_least(struct dan_candidates *c, float logit);        /* drops smaller logits */

#endif
