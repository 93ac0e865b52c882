#include "text/split.h"
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/uni_case.h"

enum { UPPER = 1, LOWER = 2 };                 /* may be in [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}], in [\p{Ll}\p{Lm}\p{Lo}\p{M}] */
enum { S = DAN_CLASS_SPACE, L = DAN_CLASS_LETTER, N = DAN_CLASS_NUMBER, O = DAN_CLASS_OTHER };

const uint8_t dan_ascii_class[128] = {
    O, O, O, O, O, O, O, O, O, S, S, S, S, S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
    S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, N, N, N, N, N, N, N, N, N, N, O, O, O, O, O, O,
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O,
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O,
};

static void set_bits(uint8_t *two, const struct dan_range *r, size_t n, int value)
{
    for (size_t i = 0; i < n; i++)
        for (int32_t cp = r[i].first, step = r[i].value ? r[i].value : 1; cp <= r[i].last; cp += step) {
            int32_t at = dan_class_place(cp);
            if (at >= 0) two[at >> 2] = (uint8_t)((two[at >> 2] & ~(3 << (2 * (at & 3)))) | value << (2 * (at & 3)));
        }
}

static void set_class(uint8_t *two, enum dan_uni what, int value)
{
    size_t n;
    const struct dan_range *r = dan_uni_ranges(what, &n);
    set_bits(two, r, n, value);
}

/* Letters without case and marks are in both of [UPPER] and [LOWER]. */
static void set_cases(uint8_t *two)
{
    set_class(two, DAN_UNI_LETTER, UPPER | LOWER);
    set_bits(two, uni_m, sizeof uni_m / sizeof *uni_m, UPPER | LOWER);
    set_bits(two, uni_upper, sizeof uni_upper / sizeof *uni_upper, UPPER);
    set_bits(two, uni_lower, sizeof uni_lower / sizeof *uni_lower, LOWER);
}

uint8_t *dan_classes_new(const struct dan_split *s)
{
    bool cased = s && s->cased;
    uint8_t *c = dan_calloc(cased ? 2 : 1, DAN_CLASSED / 4);
    if (!c) return NULL;
    memset(c, O * 0x55, DAN_CLASSED / 4);
    set_class(c, DAN_UNI_SPACE, S);
    set_class(c, DAN_UNI_LETTER, L);
    set_class(c, DAN_UNI_NUMBER, N);
    if (s && s->marks) set_bits(c, uni_m, sizeof uni_m / sizeof *uni_m, L);
    if (cased) set_cases(c + DAN_CLASSED / 4);
    return c;
}

/* End of the run of class c that goes on at i. */
static inline size_t run_end(const uint8_t *classes, const char *p, size_t n, size_t i, int c)
{
    for (size_t len; i < n && dan_class_at(classes, p + i, n - i, &len) == c; i += len) {}
    return i;
}

/* A run of white space: its end, where its last character begins, the end of its last CR or LF (0: none). */
struct white { size_t end, last, newline; };
static struct white white_run(const uint8_t *classes, const char *p, size_t n)
{
    struct white w = {0};
    for (size_t len; w.end < n && dan_class_at(classes, p + w.end, n - w.end, &len) == S; w.end += len) {
        w.last = w.end;
        if (p[w.end] == '\n' || p[w.end] == '\r') w.newline = w.end + 1;
    }
    return w;
}

/* \s+(?!\S)|\s+ : before something visible the run leaves its last character, unless it is the only one. */
static size_t white_next(const struct white *w, size_t n) { return w->end == n || w->last == 0 ? w->end : w->last; }

size_t dan_split_contraction(const char *p, size_t n, bool fold)
{
    if (n < 2 || p[0] != '\'') return 0;
    char a = p[1], b = n > 2 ? p[2] : 0;
    if (fold && n > 2 && (unsigned char)a == 0xC5 && (unsigned char)b == 0xBF) return 3;
    if (fold && a >= 'A' && a <= 'Z') a |= 0x20;
    if (fold && b >= 'A' && b <= 'Z') b |= 0x20;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* '(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t gpt2_next(const struct dan_split *s, const char *p, size_t n)
{
    size_t len, i = 0, k = dan_split_contraction(p, n, false);
    if (k) return k;
    int c = dan_class_at(s->classes, p, n, &len);
    if (p[0] == ' ' && n > 1) {
        int after = dan_class_at(s->classes, p + 1, n - 1, &len);
        if (after != S && !(after == N && s->digits_alone)) {
            c = after;
            i = 1;
        }
    }
    if (c == N && s->digits_alone) return len;
    if (c != S) return run_end(s->classes, p, n, i + len, c);
    struct white w = white_run(s->classes, p, n);
    if (s->digits_alone && w.end < n && dan_class_at(s->classes, p + w.end, n - w.end, &len) == N) return w.end;
    return white_next(&w, n);
}

static size_t newlines(const char *p, size_t n, size_t i)
{
    while (i < n && (p[i] == '\n' || p[i] == '\r')) i++;
    return i;
}

/* \p{N}{1,max}, of which the first ends at i */
static size_t digits(const struct dan_split *s, const char *p, size_t n, size_t i)
{
    size_t len;
    for (int m = 1; m < s->max_digits && i < n && dan_class_at(s->classes, p + i, n - i, &len) == N; m++) i += len;
    return i;
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t llama3_next(const struct dan_split *s, const char *p, size_t n)
{
    size_t first, len, k = dan_split_contraction(p, n, true);
    if (k) return k;
    int c = dan_class_at(s->classes, p, n, &first);
    if (c == L) return run_end(s->classes, p, n, first, L);
    if (c == N) return digits(s, p, n, first);
    int after = first < n ? dan_class_at(s->classes, p + first, n - first, &len) : S;
    if (after == L && p[0] != '\n' && p[0] != '\r') return run_end(s->classes, p, n, first + len, L);
    if (c == O) return newlines(p, n, run_end(s->classes, p, n, first, O));
    if (p[0] == ' ' && after == O) return newlines(p, n, run_end(s->classes, p, n, first + len, O));
    struct white w = white_run(s->classes, p, n);
    return w.newline ? w.newline : white_next(&w, n);
}

/* What the character is in a word: UPPER, LOWER, both, 0: it is in none. */
static inline int case_at(const struct dan_split *s, const char *p, size_t n, size_t *len)
{
    int32_t cp = (unsigned char)*p;
    *len = 1;
    if (cp >= 0x80) *len = (size_t)dan_utf8_next(p, n, &cp);
    int32_t at = dan_class_place(cp);
    return at < 0 ? 0 : s->classes[DAN_CLASSED / 4 + (at >> 2)] >> (2 * (at & 3)) & 3;
}

/* [UPPER]*[LOWER]+ at i: its end, 0: there is none.  The longest [UPPER]* with a lower character behind it; if there is none, it gives
 * back characters up to one that is both.  *upper: where [UPPER]* alone ends. */
static size_t cased_end(const struct dan_split *s, const char *p, size_t n, size_t i, size_t *upper)
{
    size_t both = 0, len;
    int c = 0;
    while (i < n && (c = case_at(s, p + i, n - i, &len)) & UPPER) {
        i += len;
        if (c & LOWER) both = i;
    }
    *upper = i;
    if (i == n || c != LOWER) return both;
    while (i < n && case_at(s, p + i, n - i, &len) & LOWER) i += len;
    return i;
}

/* The first two of the pattern below, without contractions; 0: neither.  A first character that is no letter is taken along if it can be;
 * a mark may also be the word itself. */
static size_t cased_word(const struct dan_split *s, const char *p, size_t n, int class, size_t first)
{
    size_t len, end = 0, behind = 0, upper = 0;
    bool takes = class != L && class != N && *p != '\n' && *p != '\r' && first < n;
    int c = case_at(s, p, n, &len);
    if (takes) end = cased_end(s, p, n, first, &behind);
    if (!end && c) end = cased_end(s, p, n, 0, &upper);
    if (!end && takes && behind > first) end = behind;
    return end ? end : upper;
}

/* [^\r\n\p{L}\p{N}]?[UPPER]*[LOWER]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[UPPER]+[LOWER]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|
 * \p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t cased_next(const struct dan_split *s, const char *p, size_t n)
{
    size_t first, len, i = 0;
    int c = dan_class_at(s->classes, p, n, &first);
    size_t end = cased_word(s, p, n, c, first);
    if (end) return end + (s->contractions ? dan_split_contraction(p + end, n - end, true) : 0);
    if (c == N) return digits(s, p, n, first);
    if (*p == ' ' && n > 1 && dan_class_at(s->classes, p + 1, n - 1, &len) == O) c = O, i = 1;
    if (c == O) {
        i = run_end(s->classes, p, n, i, O);
        while (i < n && (p[i] == '\n' || p[i] == '\r' || p[i] == '/')) i++;
        return i;
    }
    struct white w = white_run(s->classes, p, n);
    return w.newline ? w.newline : white_next(&w, n);
}

#define FOLD "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3_HEAD FOLD "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define LLAMA3_TAIL "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL
#define UPPERS "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWERS "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(end) "[^\\r\\n\\p{L}\\p{N}]?" UPPERS "*" LOWERS "+" end "|[^\\r\\n\\p{L}\\p{N}]?" UPPERS "+" LOWERS "*" end "|"

static const struct dan_split splits[] = {
    {.name = "gpt2", .next = gpt2_next, .starts = dan_gpt2_starts, .aliases = "|gpt-2|phi-2|mpt|olmo|"},
    {.name = "gpt2-digits", .next = gpt2_next, .starts = dan_gpt2_starts, .digits_alone = true, .aliases = "|smollm|starcoder|refact|command-r|codeshell|"},
    {.name = "llama3", .next = llama3_next, .starts = dan_llama3_starts, .max_digits = 3, .regex = LLAMA3_HEAD "\\p{N}{1,3}" LLAMA3_TAIL,
     .aliases = "|cl100k|llama-bpe|llama-v3|falcon3|dbrx|smaug-bpe|"},
    {.name = "qwen2", .next = llama3_next, .starts = dan_llama3_starts, .max_digits = 1, .regex = LLAMA3_HEAD "\\p{N}" LLAMA3_TAIL,
     .aliases = "|deepseek-r1-qwen|stablelm2|"},
    {.name = "qwen35", .next = llama3_next, .starts = dan_llama3_starts, .max_digits = 1, .marks = true, .aliases = "|",
     .regex = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" TAIL},
    {.name = "o200k", .next = cased_next, .max_digits = 3, .cased = true, .contractions = true, .aliases = "|gpt-4o|o200k_base|llama4|",
     .regex = CASED(FOLD "?") "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" TAIL},
    {.name = "tekken", .next = cased_next, .max_digits = 1, .cased = true, .aliases = "|",
     .regex = CASED("") "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" TAIL},
};
enum { N_SPLITS = sizeof splits / sizeof splits[0] };

static bool has_alias(const struct dan_split *s, const char *name)
{
    size_t n = strlen(name);
    if (strchr(name, '|')) return false;
    for (const char *a = s->aliases; (a = strstr(a, name)) != NULL; a++)
        if (n && a[-1] == '|' && a[n] == '|') return true;
    return false;
}

const struct dan_split *dan_split_named(const char *name)
{
    for (int i = 0; i < N_SPLITS; i++)
        if (strcmp(splits[i].name, name) == 0 || has_alias(&splits[i], name)) return &splits[i];
    return NULL;
}

const struct dan_split *dan_split_of_regex(const char *regex)
{
    for (int i = 0; i < N_SPLITS; i++)
        if (splits[i].regex && strcmp(splits[i].regex, regex) == 0) return &splits[i];
    return NULL;
}
