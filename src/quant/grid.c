#include "quant/grid.h"
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "core/half.h"
#include "model/quantize.h"

/* ---- forms by name ---- */

static bool parse_fake(const char *name, struct dan_quant_form *out)
{
    int bits, group, end = 0;
    if (sscanf(name, "w%d_g%d%n", &bits, &group, &end) != 2 || bits < 2 || bits > 8 || group < 8 || group > 4096) return false;
    bool asymmetric = !strcmp(name + end, "_asym");
    if (!asymmetric && name[end]) return false;
    *out = (struct dan_quant_form){.kind = DAN_FORM_FAKE, .bits = bits, .group = group, .asymmetric = asymmetric};
    return true;
}

int dan_quant_form_find(const char *name, struct dan_quant_form *out, struct dan_err *e)
{
    struct dan_quant_form f = {.kind = DAN_FORM_ROWS};
    if (dan_rows_format_find(name, &f.rows, NULL) && !parse_fake(name, &f)) {
        f = (struct dan_quant_form){.kind = DAN_FORM_BLOCKS};
        struct dan_err why = {0};
        int rc = dan_quant_format(name, &f.blocks, &why);
        if (rc) return dan_fail(e, rc, "%s; int8, int8_asym, int8_tensor, f8 (a scale per row); w3_g32, w2_g32, ... (to see what few bits cost)", why.msg);
    }
    snprintf(f.name, sizeof f.name, "%s", name);
    *out = f;
    return DAN_OK;
}

static int64_t group_of(const struct dan_quant_form *f, int64_t cols)
{
    return f->kind == DAN_FORM_BLOCKS ? f->blocks->block : f->kind == DAN_FORM_FAKE ? f->group : cols;
}

size_t dan_quant_form_bytes(const struct dan_quant_form *f, int64_t rows, int64_t cols)
{
    size_t n = (size_t)rows * (size_t)cols, r = (size_t)rows;
    if (f->kind == DAN_FORM_BLOCKS) return dan_dtype_bytes(f->blocks, rows * cols);
    if (f->kind == DAN_FORM_ROWS) return n + (f->rows.asymmetric ? 2 : 1) * sizeof(float) * r;
    return (n * (size_t)f->bits + 7) / 8 + r * (size_t)(cols / f->group) * (f->asymmetric ? 4 : 2);
}

bool dan_quant_form_misfit(const struct dan_quant_form *f, int64_t cols, char *out, size_t n)
{
    int64_t group = group_of(f, cols);
    if (cols > 0 && cols % group == 0) return false;
    if (out) snprintf(out, n, "rows of %lld are no multiple of %lld", (long long)cols, (long long)group);
    return true;
}

bool dan_quant_form_steps(const struct dan_quant_form *f) { return f->kind != DAN_FORM_BLOCKS || (f->blocks->fit && f->blocks->put); }

/* ---- a grid ---- */

static const struct dan_dtype *stored_as(const struct dan_quant_form *f)
{
    return f->kind == DAN_FORM_BLOCKS ? f->blocks : f->kind == DAN_FORM_ROWS ? f->rows.to : &dan_dtype_f32;
}

static int add_scales(struct dan_grid *g, const float *w, struct dan_err *e)
{
    size_t n = (size_t)(g->rows * (g->cols / g->group));
    if (g->form.kind == DAN_FORM_BLOCKS) return DAN_OK;
    g->scale = dan_calloc(n ? n : 1, sizeof *g->scale);
    g->zero = dan_calloc(n ? n : 1, sizeof *g->zero);
    if (!g->scale || !g->zero) return dan_fail(e, DAN_ENOMEM, "not enough memory for the scales of a matrix");
    if (g->form.kind != DAN_FORM_ROWS || !g->form.rows.per_tensor) return DAN_OK;
    DAN_ASSERT(w);
    float scale, zero;
    dan_row_scale(&g->form.rows, w, g->rows * g->cols, &scale, &zero);
    for (int64_t r = 0; r < g->rows; r++) g->scale[r] = scale, g->zero[r] = zero;
    return DAN_OK;
}

int dan_grid_new(const struct dan_quant_form *f, int64_t rows, int64_t cols, const float *w, struct dan_grid *out, struct dan_err *e)
{
    char why[96];
    *out = (struct dan_grid){.form = *f, .rows = rows, .cols = cols, .group = group_of(f, cols)};
    if (dan_quant_form_misfit(f, cols, why, sizeof why)) return dan_fail(e, DAN_ESHAPE, "%s: %s cannot hold them", why, f->name);
    int rc = dan_store_new(&out->store, e);
    if (!rc) rc = dan_store_add(out->store, "w", stored_as(f), DAN_SHAPE(rows, cols), e);
    if (!rc) rc = add_scales(out, w, e);
    if (rc) dan_grid_release(out);
    else out->t = *dan_store_find(out->store, "w");
    return rc;
}

void dan_grid_release(struct dan_grid *g)
{
    dan_store_free(g->store);
    dan_free(g->scale);
    dan_free(g->zero);
    *g = (struct dan_grid){0};
}

/* ---- fit ---- */

static char *block_at(const struct dan_grid *g, int64_t row, int64_t col)
{
    return (char *)dan_row(&g->t, row) + col / g->group * g->t.dtype->bytes;
}

static float half(float x) { return dan_f16_to_f32(dan_f32_to_f16(x)); }

/* Symmetric as q4_0: the value of largest magnitude becomes -2^(bits-1).  Asymmetric as q4_1: minimum and step. */
static void fit_fake(struct dan_grid *g, int64_t at, const float *x)
{
    float largest = 0, min = x[0], max = x[0];
    for (int64_t i = 0; i < g->group; i++) {
        if (fabsf(x[i]) > fabsf(largest)) largest = x[i];
        if (x[i] < min) min = x[i];
        if (x[i] > max) max = x[i];
    }
    if (g->form.asymmetric) {
        g->scale[at] = half((max - min) / (float)((1 << g->form.bits) - 1));
        g->zero[at] = half(min);
    } else {
        g->scale[at] = half(largest / (float)-(1 << (g->form.bits - 1)));
    }
}

void dan_grid_fit(struct dan_grid *g, int64_t row, int64_t col, const float *x, const float *importance)
{
    if (g->form.kind == DAN_FORM_BLOCKS) g->form.blocks->fit(x, importance, block_at(g, row, col));
    else if (g->form.kind == DAN_FORM_FAKE) fit_fake(g, row * (g->cols / g->group) + col / g->group, x);
    else if (!g->form.rows.per_tensor) dan_row_scale(&g->form.rows, x, g->cols, &g->scale[row], &g->zero[row]);
}

/* ---- put ---- */

static float put_fake(struct dan_grid *g, int64_t row, int64_t col, float x)
{
    int64_t at = row * (g->cols / g->group) + col / g->group;
    float d = g->scale[at], v = 0, low = g->form.asymmetric ? 0 : -(float)(1 << (g->form.bits - 1));
    if (d != 0) {
        v = rintf((x - g->zero[at]) / d);
        v = v < low ? low : v > low + (float)((1 << g->form.bits) - 1) ? low + (float)((1 << g->form.bits) - 1) : v;
    }
    v = v * d + g->zero[at];
    ((float *)dan_row(&g->t, row))[col] = v;
    return v;
}

static float row_value(const struct dan_grid *g, int64_t row, int64_t col)
{
    const char *q = (const char *)dan_row(&g->t, row) + col * g->t.dtype->bytes;
    float v;
    g->t.dtype->to_f32(q, &v, 1);
    return g->scale[row] * (v - g->zero[row]);
}

static float put_row(struct dan_grid *g, int64_t row, int64_t col, float x)
{
    dan_row_levels(&g->form.rows, &x, 1, g->scale[row], g->zero[row], (char *)dan_row(&g->t, row) + col * g->t.dtype->bytes);
    return row_value(g, row, col);
}

float dan_grid_put(struct dan_grid *g, int64_t row, int64_t col, float x)
{
    if (g->form.kind == DAN_FORM_BLOCKS) return g->form.blocks->put(block_at(g, row, col), (int)(col % g->group), x);
    return g->form.kind == DAN_FORM_FAKE ? put_fake(g, row, col, x) : put_row(g, row, col, x);
}

/* ---- the best scales ---- */

struct search {
    struct dan_grid *g;
    int64_t row, col;
    const float *x, *importance;
    float *y;                                  /* what is fitted instead of x */
    double best, ratio;                        /* ratio: sum x v / sum v^2 of the best: how much larger its scale should be */
    float by, from;                            /* the best y: from + by (x - from) */
};

static void try_one(struct search *s, float by, float from)
{
    double error = 0, xv = 0, vv = 0;
    for (int64_t i = 0; i < s->g->group; i++) s->y[i] = from + by * (s->x[i] - from);
    dan_grid_fit(s->g, s->row, s->col, s->y, s->importance);
    for (int64_t i = 0; i < s->g->group; i++) {
        double v = (double)dan_grid_put(s->g, s->row, s->col + i, s->x[i]), x = (double)s->x[i], w = s->importance ? (double)s->importance[i] : 1;
        error += w * (x - v) * (x - v);
        if (error >= s->best) return;
        xv += w * x * v;
        vv += w * v * v;
    }
    s->best = error;
    s->ratio = vv > 0 ? xv / vv : 1;
    s->by = by;
    s->from = from;
}

/* K-quants fit every 16 or 32 columns by a search of their own; one scale for all rows is not one row's to move. */
static bool fits_itself(const struct dan_grid *g)
{
    return g->form.kind == DAN_FORM_BLOCKS ? g->group > 128 : g->form.kind == DAN_FORM_ROWS && g->form.rows.per_tensor;
}

void dan_grid_fit_best(struct dan_grid *g, int64_t row, int64_t col, const float *x, const float *importance, float *scratch)
{
    struct search s = {.g = g, .row = row, .col = col, .x = x, .importance = importance, .y = scratch, .best = DBL_MAX, .by = 1};
    float min = x[0], max = x[0];
    for (int64_t i = 1; i < g->group; i++) min = x[i] < min ? x[i] : min, max = x[i] > max ? x[i] : max;
    if (!fits_itself(g)) {
        try_one(&s, 1, 0);
        for (int i = 0; i <= 16; i++) {
            float by = 0.6f + 0.04f * (float)i;        /* 0.6 .. 1.24: also beyond the largest, where that rounds better */
            try_one(&s, by, 0);
            try_one(&s, -by, 0);                       /* formats with one level more on one side */
            try_one(&s, by, (min + max) / 2);          /* formats with a minimum */
        }
        for (int i = 0; i < 2; i++) try_one(&s, (float)((double)s.by * s.ratio), s.from);
    }
    for (int64_t i = 0; i < g->group; i++) s.y[i] = s.from + s.by * (x[i] - s.from);
    dan_grid_fit(g, row, col, s.by == 1 ? x : s.y, importance);
}

/* ---- whole rows ---- */

void dan_grid_row(struct dan_grid *g, int64_t row, const float *x, const float *importance)
{
    if (g->form.kind == DAN_FORM_BLOCKS) {
        const struct dan_dtype *t = g->form.blocks;
        if (importance && t->from_f32_weighted) t->from_f32_weighted(x, importance, dan_row(&g->t, row), g->cols);
        else t->from_f32(x, dan_row(&g->t, row), g->cols);
        return;
    }
    for (int64_t c = 0; c < g->cols; c += g->group) {
        dan_grid_fit(g, row, c, x + c, importance ? importance + c : NULL);
        for (int64_t i = 0; i < g->group; i++) dan_grid_put(g, row, c + i, x[c + i]);
    }
}

void dan_grid_values(const struct dan_grid *g, int64_t row, float *out)
{
    if (g->form.kind != DAN_FORM_ROWS) {
        g->t.dtype->to_f32(dan_row(&g->t, row), out, g->cols);
        return;
    }
    for (int64_t i = 0; i < g->cols; i++) out[i] = row_value(g, row, i);
}
