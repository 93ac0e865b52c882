/* Aligned columns. */
#include <string.h>
#include "cli/ui.h"

enum { GAP = 2, MIN_CUT = 8, MAX_COLS = 32 };

void dan_table_init(struct dan_table *t, const char *align, const char *const *headers)
{
    *t = (struct dan_table){.n_cols = strlen(align), .align = align};
    dan_table_row(t, headers);
}

void dan_table_row(struct dan_table *t, const char *const *cells)
{
    for (size_t i = 0; i < t->n_cols; i++) {   /* cells lie one after the other, each ended by NUL */
        const char *c = cells[i] ? cells[i] : "";
        dan_str_append(&t->cells, c, strlen(c) + 1);
    }
    t->n_cells += t->n_cols;
}

void dan_table_release(struct dan_table *t) { dan_str_release(&t->cells); }

static void measure(const struct dan_table *t, int *width)
{
    const char *p = t->cells.p;
    for (size_t i = 0; i < t->n_cols; i++)
        width[i] = 0;
    for (size_t i = 0; i < t->n_cells; i++, p += strlen(p) + 1) {
        int w = dan_text_width(p, strlen(p));
        if (w > width[i % t->n_cols])
            width[i % t->n_cols] = w;
    }
}

/* Takes columns off the widest left-aligned column until the table fits or nothing can give. */
static void squeeze(const struct dan_table *t, int *width, int limit)
{
    for (;;) {
        int total = 0, widest = -1;
        for (size_t i = 0; i < t->n_cols; i++) {
            total += width[i] + (i ? GAP : 0);
            if (t->align[i] == 'l' && (widest < 0 || width[i] > width[widest]))
                widest = (int)i;
        }
        if (total <= limit || widest < 0 || width[widest] <= MIN_CUT)
            return;
        width[widest]--;
    }
}

static void put_cell(const char *text, int width, char align, bool last, struct dan_str *out)
{
    size_t n = strlen(text);
    bool cut = dan_text_width(text, n) > width;
    if (cut)
        n = dan_text_fit(text, n, width - 1);
    int pad = width - dan_text_width(text, n) - cut;
    if (align == 'r')
        dan_str_printf(out, "%*s", pad, "");
    dan_str_append(out, text, n);
    dan_str_puts(out, cut ? "…" : "");
    if (align != 'r' && !last)
        dan_str_printf(out, "%*s", pad, "");
}

void dan_table_print(const struct dan_table *t, int width, bool colour, struct dan_str *out)
{
    int cols[MAX_COLS];
    const char *p = t->cells.p;
    if (!p || t->cells.failed || t->n_cols > MAX_COLS)
        return;
    measure(t, cols);
    if (width > 0)
        squeeze(t, cols, width);
    for (size_t i = 0; i < t->n_cells; i++, p += strlen(p) + 1) {
        size_t c = i % t->n_cols;
        if (i == 0 && colour)
            dan_str_puts(out, "\033[1m");
        dan_str_printf(out, "%*s", c ? GAP : 0, "");
        put_cell(p, cols[c], t->align[c], c + 1 == t->n_cols, out);
        if (c + 1 == t->n_cols)
            dan_str_puts(out, i + 1 == t->n_cols && colour ? "\033[0m\n" : "\n");
    }
}
