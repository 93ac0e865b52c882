#include "base/str.h"
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"

/* Room for n more bytes and the NUL. */
static bool reserve(struct dan_str *s, size_t n)
{
    if (s->failed) return false;
    if (n >= SIZE_MAX - s->n || dan_vec_grow(&s->p, &s->cap, s->n + n + 1, 1) != 0) s->failed = true;
    return !s->failed;
}

void dan_str_append(struct dan_str *s, const void *bytes, size_t n)
{
    if (!reserve(s, n)) return;
    if (n) memcpy(s->p + s->n, bytes, n);
    s->n += n;
    s->p[s->n] = 0;
}

void dan_str_puts(struct dan_str *s, const char *text) { dan_str_append(s, text, strlen(text)); }
void dan_str_putc(struct dan_str *s, char c) { dan_str_append(s, &c, 1); }

void dan_str_printf(struct dan_str *s, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n < 0) s->failed = true;
    else if (reserve(s, (size_t)n)) {
        vsnprintf(s->p + s->n, (size_t)n + 1, fmt, again);
        s->n += (size_t)n;
    }
    va_end(again);
    va_end(ap);
}

void dan_str_clear(struct dan_str *s)
{
    s->n = 0;
    s->failed = false;
    if (s->p) s->p[0] = 0;
}

void dan_str_release(struct dan_str *s)
{
    dan_free(s->p);
    *s = (struct dan_str){0};
}

const char *dan_str_c(const struct dan_str *s) { return s->p ? s->p : ""; }

static int min_int(int a, int b) { return a < b ? a : b; }

/* Optimal string alignment; rows i-2, i-1 and i of the table rotate through r[0..2]. */
static int distance_in(const char *a, int na, const char *b, int nb, int *r[3])
{
    for (int j = 0; j <= nb; j++) r[1][j] = j;
    for (int i = 1; i <= na; i++) {
        r[2][0] = i;
        for (int j = 1; j <= nb; j++) {
            int best = r[1][j - 1] + (a[i - 1] != b[j - 1]);
            best = min_int(best, min_int(r[1][j], r[2][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = min_int(best, r[0][j - 2] + 1);
            r[2][j] = best;
        }
        int *oldest = r[0];
        r[0] = r[1]; r[1] = r[2]; r[2] = oldest;
    }
    return r[1][nb];
}

int dan_str_distance(const char *a, const char *b)
{
    size_t na = strlen(a), nb = strlen(b);
    int *rows = dan_calloc(3, (nb + 1) * sizeof *rows);
    if (!rows) return (int)(na > nb ? na : nb);    /* an upper bound: nothing gets suggested */
    int *r[3] = {rows, rows + nb + 1, rows + 2 * (nb + 1)};
    int d = distance_in(a, (int)na, b, (int)nb, r);
    dan_free(rows);
    return d;
}

bool dan_str_starts(const char *s, const char *prefix) { return strncmp(s, prefix, strlen(prefix)) == 0; }

bool dan_str_ends(const char *s, const char *suffix)
{
    size_t n = strlen(s), k = strlen(suffix);
    return n >= k && memcmp(s + n - k, suffix, k) == 0;
}
