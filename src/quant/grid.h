/* What a matrix can be rounded to, and rounding it one weight at a time.
 *
 * Three kinds of form share one interface, so that a method of rounding (quant/round.h) knows none of them: the block formats of
 * src/dtype/ that have fit and put; int8 and fp8 with a scale per row (model/quantize_rows.h); and levels of 2 to 8 bits in groups for
 * which no storage format exists.  The last are kept as f32 values: they show what so few bits would cost and save no memory. */
#ifndef DAN_QUANT_GRID_H
#define DAN_QUANT_GRID_H
#include "model/quantize_rows.h"

enum dan_form_kind { DAN_FORM_BLOCKS, DAN_FORM_ROWS, DAN_FORM_FAKE };
struct dan_quant_form {
    char name[24];
    enum dan_form_kind kind;
    const struct dan_dtype *blocks;            /* BLOCKS */
    struct dan_rows_format rows;               /* ROWS */
    int bits, group;                           /* FAKE: levels of so many bits, an f16 scale (and minimum) for so many columns */
    bool asymmetric;                           /* FAKE */
};
/* A writable block format ("q4_0"), "int8", "int8_asym", "int8_tensor", "f8", or "wB_gG" and "wB_gG_asym" with B bits in groups of G
 * columns ("w3_g32").  The error lists them. */
int    dan_quant_form_find(const char *name, struct dan_quant_form *out, struct dan_err *e);
/* Bytes of [rows, cols] with its scales; for FAKE, of the bits if they were packed.  cols must fit, see dan_quant_form_why_not. */
size_t dan_quant_form_bytes(const struct dan_quant_form *f, int64_t rows, int64_t cols);
/* Why rows of so many columns cannot have this form ("rows of 48 are no multiple of 32"), written to out[n]; false: they can. */
bool   dan_quant_form_misfit(const struct dan_quant_form *f, int64_t cols, char *out, size_t n);
/* Whether levels can be chosen one by one: fit and put below. */
bool   dan_quant_form_steps(const struct dan_quant_form *f);

struct dan_grid {
    struct dan_quant_form form;
    int64_t rows, cols, group;                 /* group: columns that share what fit chooses; divides cols */
    struct dan_tensor t;                       /* BLOCKS: the blocks; ROWS: levels; FAKE: f32 values; all [rows, cols] */
    float *scale, *zero;                       /* ROWS: [rows]; FAKE: [rows, cols / group], zero is the minimum there */
    struct dan_store *store;                   /* holds t as "w" */
};
/* Of zeros.  w[rows, cols]: what will be rounded; read here where one scale serves the whole matrix, else it may be NULL. */
int  dan_grid_new(const struct dan_quant_form *f, int64_t rows, int64_t cols, const float *w, struct dan_grid *out, struct dan_err *e);
void dan_grid_release(struct dan_grid *g);
/* Chooses the scales of one group from x[group]; importance[group] >= 0 weighs squared errors, NULL: all the same. */
void  dan_grid_fit(struct dan_grid *g, int64_t row, int64_t col, const float *x, const float *importance);
/* Rounds one weight to the nearest level of its group and returns that level's value. */
float dan_grid_put(struct dan_grid *g, int64_t row, int64_t col, float x);
/* fit with the scales, among some fifty candidates, whose squared (weighted) error over x[group] is least.  scratch[group].
 * Formats that search scales themselves (K-quants) and forms with one scale for the matrix are only fitted. */
void  dan_grid_fit_best(struct dan_grid *g, int64_t row, int64_t col, const float *x, const float *importance, float *scratch);
/* A whole row in the form's own way: from_f32, or from_f32_weighted when importance[cols] is given and the format has it. */
void  dan_grid_row(struct dan_grid *g, int64_t row, const float *x, const float *importance);
/* Values of a row, out[cols]. */
void  dan_grid_values(const struct dan_grid *g, int64_t row, float *out);

#endif
