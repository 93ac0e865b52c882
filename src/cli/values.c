/* Values of options: text in, typed field out, with messages that say what was expected. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cmd.h"

static const struct { const char *text; double times; } suffixes[] = {
    {"", 1}, {"k", 1e3}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9}, {"B", 1e9},
    {"Ki", 1024.0}, {"Mi", 1048576.0}, {"Gi", 1073741824.0},
};

static bool suffix_times(const char *s, double *times)
{
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++)
        if (!strcmp(s, suffixes[i].text)) {
            *times = suffixes[i].times;
            return true;
        }
    return false;
}

bool dan_parse_num(const char *s, double *v)
{
    char *end;
    double times;
    if (!*s || !strchr("+-.0123456789", *s) || strpbrk(s, "xX"))
        return false;                          /* no "inf", "nan", blanks before it, 0x10 */
    double x = strtod(s, &end);
    if (end == s || !isfinite(x) || !suffix_times(end, &times))
        return false;
    *v = x * times;
    return isfinite(*v);
}

bool dan_parse_int(const char *s, int64_t *v)
{
    char *end;
    double times, x;
    if (!*s || !strchr("+-.0123456789", *s))
        return false;
    errno = 0;
    long long n = strtoll(s, &end, 10);
    if (errno == 0 && end != s && suffix_times(end, &times))
        return !__builtin_mul_overflow((int64_t)n, (int64_t)times, v);
    /* 1e6, 2.5M; 1.005k is 1004.9999999999999 in binary; beyond 2^53 a double skips integers */
    if (!dan_parse_num(s, &x) || fabs(x - round(x)) > 1e-12 * fabs(x) || fabs(x) > 9e15)
        return false;
    *v = (int64_t)round(x);
    return true;
}

const char *dan_choice_at(const struct dan_opt *opt, size_t i, char *buf, size_t n)
{
    if (opt->choice_at)
        return opt->choice_at(i);
    const char *p = opt->choices;
    while (p && i--) {
        p = strchr(p, '|');
        p = p ? p + 1 : NULL;
    }
    if (!p)
        return NULL;
    size_t len = strcspn(p, "|");
    len = len < n ? len : n - 1;
    memcpy(buf, p, len);
    buf[len] = 0;
    return buf;
}

int dan_choice_index(const struct dan_opt *opt, const char *value)
{
    char buf[64];
    const char *c;
    for (size_t i = 0; value && (c = dan_choice_at(opt, i, buf, sizeof buf)); i++)
        if (!strcmp(c, value))
            return (int)i;
    return -1;
}

static void expect_choices(const struct dan_opt *opt, const char *given, struct dan_str *out)
{
    char buf[64];
    const char *c;
    for (size_t i = 0; (c = dan_choice_at(opt, i, buf, sizeof buf)); i++)
        dan_str_printf(out, "%s%s", i ? ", " : "one of ", c);
    int best = 99;
    char nearest[64] = "";
    for (size_t i = 0; (c = dan_choice_at(opt, i, buf, sizeof buf)); i++) {
        int d = dan_option_distance(given, c, NULL);
        if (d < best) {
            best = d;
            size_t n = strlen(c) < sizeof nearest ? strlen(c) : sizeof nearest - 1;
            memcpy(nearest, c, n);
            nearest[n] = 0;
        }
    }
    if (*nearest)
        dan_str_printf(out, "; did you mean '%s'?", nearest);
}

/* "an integer between 1 and 100" */
static void expect_number(const struct dan_opt *opt, struct dan_str *out)
{
    dan_str_puts(out, opt->type == 'i' ? "an integer" : "a number");
    if (!(opt->min < opt->max)) {
        if (opt->type == 'i')
            dan_str_puts(out, " such as 100, 10k or 2M");
    } else if (isinf(opt->max)) {
        dan_str_printf(out, " of at least %.15g", opt->min);
    } else if (isinf(opt->min)) {
        dan_str_printf(out, " of at most %.15g", opt->max);
    } else {
        dan_str_printf(out, " between %.15g and %.15g", opt->min, opt->max);
    }
}

static int refuse(const struct dan_opt *opt, const char *text, const char *label, struct dan_err *e)
{
    struct dan_str want = {0};
    if (opt->type == 'e')
        expect_choices(opt, text, &want);
    else if (opt->type == 'b')
        dan_str_puts(&want, "true or false");
    else
        expect_number(opt, &want);
    dan_fail(e, DAN_EUSAGE, "wrong value '%s' for %s; it takes %s", text, label, dan_str_c(&want));
    dan_str_release(&want);
    return DAN_EUSAGE;
}

static bool in_range(const struct dan_opt *opt, double x)
{
    return !(opt->min < opt->max) || (x >= opt->min && x <= opt->max);
}

static bool parse_bool(const char *s, bool *v)
{
    static const char *const words[] = {"false", "true", "no", "yes", "0", "1", "off", "on"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcmp(s, words[i])) {
            *v = i & 1;
            return true;
        }
    return false;
}

static const char *pick_choice(struct dan_arena *a, const struct dan_opt *opt, const char *text)
{
    int i = dan_choice_index(opt, text);
    if (i < 0)
        return NULL;
    return opt->choice_at ? opt->choice_at((size_t)i) : dan_arena_strdup(a, text);
}

/* The arena gives nothing back: room doubles, so a list of n costs at most 4n pointers. */
static int append(struct dan_arena *a, struct dan_strings *list, const char *text, struct dan_err *e)
{
    if ((list->n & (list->n - 1)) == 0) {
        const char **v = dan_arena_alloc(a, (list->n ? 2 * list->n : 1) * sizeof *v);
        if (!v)
            return dan_fail(e, DAN_ENOMEM, "out of memory while reading options; close other programs and try again");
        if (list->n)
            memcpy(v, list->v, list->n * sizeof *v);
        list->v = v;
    }
    list->v[list->n++] = text;
    return DAN_OK;
}

int dan_option_set(struct dan_arena *a, const struct dan_opt *opt, void *base, const char *text, const char *label,
                   struct dan_err *e)
{
    void *field = (char *)base + opt->offset;
    int64_t i;
    double x;
    switch (opt->type) {
    case 'i':
        if (!dan_parse_int(text, &i) || !in_range(opt, (double)i))
            return refuse(opt, text, label, e);
        *(int64_t *)field = i;
        return DAN_OK;
    case 'f':
        if (!dan_parse_num(text, &x) || !in_range(opt, x))
            return refuse(opt, text, label, e);
        *(double *)field = x;
        return DAN_OK;
    case 'b':
        return parse_bool(text, field) ? DAN_OK : refuse(opt, text, label, e);
    case 'e':
        if (!(*(const char **)field = pick_choice(a, opt, text)))
            return refuse(opt, text, label, e);
        return DAN_OK;
    case 'S': case 'R':
        return append(a, field, text, e);
    default:
        DAN_ASSERT(opt->type == 's' || opt->type == 'p' || opt->type == 'P');
        *(const char **)field = text;
        return DAN_OK;
    }
}
