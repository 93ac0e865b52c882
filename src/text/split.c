#include "text/split.h"
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/unicode.h"

enum { N_CLASSED = 0x40000, S = DAN_CLASS_SPACE, L = DAN_CLASS_LETTER, N = DAN_CLASS_NUMBER, O = DAN_CLASS_OTHER };

const uint8_t dan_ascii_class[128] = {
    O, O, O, O, O, O, O, O, O, S, S, S, S, S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O,
    S, O, O, O, O, O, O, O, O, O, O, O, O, O, O, O, N, N, N, N, N, N, N, N, N, N, O, O, O, O, O, O,
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O,
    O, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, L, O, O, O, O, O,
};

uint8_t *dan_classes_new(void)
{
    static const struct { enum dan_uni what; int class; } of[] = {{DAN_UNI_SPACE, S}, {DAN_UNI_LETTER, L}, {DAN_UNI_NUMBER, N}};
    uint8_t *c = dan_malloc(N_CLASSED / 4);
    if (!c) return NULL;
    memset(c, O * 0x55, N_CLASSED / 4);
    for (int k = 0; k < 3; k++) {
        size_t n;
        const struct dan_range *r = dan_uni_ranges(of[k].what, &n);
        for (size_t i = 0; i < n; i++)
            for (int32_t cp = r[i].first; cp <= r[i].last && cp < N_CLASSED; cp++)
                c[cp >> 2] = (uint8_t)((c[cp >> 2] & ~(3 << (2 * (cp & 3)))) | of[k].class << (2 * (cp & 3)));
    }
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

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t llama3_next(const struct dan_split *s, const char *p, size_t n)
{
    size_t first, len, k = dan_split_contraction(p, n, true);
    if (k) return k;
    int c = dan_class_at(s->classes, p, n, &first);
    if (c == L) return run_end(s->classes, p, n, first, L);
    if (c == N) {
        size_t i = first;
        for (int m = 1; m < s->max_digits && i < n && dan_class_at(s->classes, p + i, n - i, &len) == N; m++) i += len;
        return i;
    }
    int after = first < n ? dan_class_at(s->classes, p + first, n - first, &len) : S;
    if (after == L && p[0] != '\n' && p[0] != '\r') return run_end(s->classes, p, n, first + len, L);
    if (c == O) return newlines(p, n, run_end(s->classes, p, n, first, O));
    if (p[0] == ' ' && after == O) return newlines(p, n, run_end(s->classes, p, n, first + len, O));
    struct white w = white_run(s->classes, p, n);
    return w.newline ? w.newline : white_next(&w, n);
}

#define LLAMA3_HEAD "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define LLAMA3_TAIL "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct dan_split splits[] = {
    {.name = "gpt2", .next = gpt2_next, .starts = dan_gpt2_starts, .aliases = "|gpt-2|phi-2|mpt|olmo|"},
    {.name = "gpt2-digits", .next = gpt2_next, .starts = dan_gpt2_starts, .digits_alone = true, .aliases = "|smollm|starcoder|refact|command-r|codeshell|"},
    {.name = "llama3", .next = llama3_next, .starts = dan_llama3_starts, .max_digits = 3, .regex = LLAMA3_HEAD "\\p{N}{1,3}" LLAMA3_TAIL,
     .aliases = "|cl100k|llama-bpe|llama-v3|falcon3|dbrx|smaug-bpe|"},
    {.name = "qwen2", .next = llama3_next, .starts = dan_llama3_starts, .max_digits = 1, .regex = LLAMA3_HEAD "\\p{N}" LLAMA3_TAIL,
     .aliases = "|deepseek-r1-qwen|stablelm2|"},
};
enum { N_SPLITS = sizeof splits / sizeof splits[0] };

static bool has_alias(const struct dan_split *s, const char *name)
{
    size_t n = strlen(name);
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
