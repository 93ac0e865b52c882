/* The patterns of split.c, 64 characters at a time.  A character is a bit: what it is (space, letter, ...) becomes a few words of
 * 64 bits, and where pre-tokens begin is computed with shifts.  A block begins where a pre-token begins and the patterns do not
 * look back, so blocks know nothing of each other; what depends on characters behind the block is left to the next one.
 * The functions in split.c, one pre-token at a time, are the definition, and take over where 64 characters decide nothing. */
#include "text/split.h"
#include "base/utf8.h"
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum { BLOCK = 64 };
struct dan_block {
    uint64_t space, letter, number, other;     /* classes, no character in two */
    uint64_t blank, newline, apostrophe;       /* ' '; CR and LF; '\'' */
    unsigned n;                                /* characters */
    bool     ascii, ends;                      /* one byte each; the text ends with the block */
    uint16_t at[BLOCK + 1];                    /* offsets of the characters, unless ascii */
};

static inline size_t offset(const struct dan_block *b, unsigned k) { return b->ascii ? k : b->at[k]; }
static inline unsigned lowest(uint64_t x) { return (unsigned)__builtin_ctzll(x); }
static inline uint64_t below(unsigned n) { return n >= BLOCK ? UINT64_MAX : (UINT64_C(1) << n) - 1; }

#if defined(__SSE2__)
struct bits { uint32_t high, letter, number, space, blank, newline, apostrophe; };

/* x - low < span, unsigned, as bits. */
static inline uint32_t in_range(__m128i x, char low, char span)
{
    __m128i d = _mm_sub_epi8(x, _mm_set1_epi8(low));
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(d, _mm_set1_epi8((char)(span - 1))), d));
}
static inline uint32_t is_byte(__m128i x, char c) { return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, _mm_set1_epi8(c))); }

/* 64 bytes of ASCII; false when there are others. */
static inline bool fill_ascii(struct dan_block *b, const char *p)
{
    uint64_t high = 0, white = 0;
    b->letter = b->number = b->blank = b->newline = b->apostrophe = 0;
    for (int i = 0; i < 4; i++) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i));
        high |= (uint64_t)(uint32_t)_mm_movemask_epi8(x) << 16 * i;
        b->letter |= (uint64_t)in_range(_mm_or_si128(x, _mm_set1_epi8(0x20)), 'a', 26) << 16 * i;
        b->number |= (uint64_t)in_range(x, '0', 10) << 16 * i;
        white |= (uint64_t)in_range(x, '\t', 5) << 16 * i;
        b->blank |= (uint64_t)is_byte(x, ' ') << 16 * i;
        b->newline |= (uint64_t)(is_byte(x, '\n') | is_byte(x, '\r')) << 16 * i;
        b->apostrophe |= (uint64_t)is_byte(x, '\'') << 16 * i;
    }
    b->space = white | b->blank;
    b->other = ~(b->space | b->letter | b->number);
    b->n = BLOCK;
    b->ascii = true;
    return high == 0;
}
#else
static inline bool fill_ascii(struct dan_block *b, const char *p) { return (void)b, (void)p, false; }
#endif

/* Up to 64 characters of n > 0 bytes. */
static void fill_any(struct dan_block *b, const uint8_t *classes, const char *p, size_t n)
{
    uint64_t of[4] = {0}, blank = 0, newline = 0, apostrophe = 0;
    size_t i = 0, len;
    unsigned k = 0;
    for (; k < BLOCK && i < n; k++, i += len) {
        b->at[k] = (uint16_t)i;
        of[dan_class_at(classes, p + i, n - i, &len)] |= UINT64_C(1) << k;
        blank |= (uint64_t)(p[i] == ' ') << k;
        newline |= (uint64_t)(p[i] == '\n' || p[i] == '\r') << k;
        apostrophe |= (uint64_t)(p[i] == '\'') << k;
    }
    b->at[k] = (uint16_t)i;
    b->space = of[DAN_CLASS_SPACE], b->letter = of[DAN_CLASS_LETTER], b->number = of[DAN_CLASS_NUMBER], b->other = of[DAN_CLASS_OTHER];
    b->blank = blank, b->newline = newline, b->apostrophe = apostrophe;
    b->n = k;
    b->ascii = false;
    b->ends = i == n;
}

static inline uint64_t starts_of(uint64_t runs) { return runs & ~(runs << 1); }

/* Each of these returns the characters at which pre-tokens begin, the first always; *sure: only those below count. */

/* '(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
uint64_t dan_gpt2_starts(const struct dan_split *s, const struct dan_block *b, const char *p, size_t n, unsigned *sure)
{
    (void)sure;
    uint64_t word = b->letter | b->other | (s->digits_alone ? 0 : b->number);        /* what takes a blank along */
    uint64_t number = s->digits_alone ? b->number : starts_of(b->number);
    uint64_t begin = starts_of(b->letter) | starts_of(b->other) | number;
    uint64_t t = 1 | starts_of(b->space) | (b->space & word >> 1) | (begin & ~(b->blank << 1 & word));
    for (uint64_t c = b->apostrophe & t & b->letter >> 1; c; c &= c - 1) {
        unsigned k = lowest(c);
        size_t at = offset(b, k), len = dan_split_contraction(p + at, n - at, false);
        if (!len) continue;
        t &= ~(UINT64_C(2) << k);
        if (k + len < b->n) t |= UINT64_C(1) << (k + len);
    }
    return t;
}

/* White space after a newline of the same run is a pre-token of its own when no newline follows in the run. */
static uint64_t after_newlines(const struct dan_block *b, uint64_t white, uint64_t candidates, unsigned *sure)
{
    uint64_t t = 0;
    for (; candidates; candidates &= candidates - 1) {
        unsigned k = lowest(candidates);
        uint64_t behind = ~(white >> k);
        unsigned end = behind ? k + lowest(behind) : BLOCK;
        if (end >= b->n && !b->ends) *sure = k < *sure ? k : *sure;
        else if (end >= b->n || !(b->newline >> end & 1)) t |= UINT64_C(1) << k;
    }
    return t;
}

/* \p{N}{1,max} */
static uint64_t digit_groups(uint64_t number, int max)
{
    uint64_t begin = starts_of(number), t = begin, more = number;
    if (max == 1) return number;
    for (int i = 1; i <= max; i++) more &= number << i;
    for (; more && begin; begin &= begin - 1) {
        unsigned k = lowest(begin);
        uint64_t behind = ~(number >> k);
        for (unsigned end = behind ? k + lowest(behind) : BLOCK, i = k; i < end; i += (unsigned)max) t |= UINT64_C(1) << i;
    }
    return t;
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 * A run of `other` takes the newlines behind it.  One character before letters joins them: white space, or an `other`
 * that is a run of its own and has no blank before it. */
uint64_t dan_llama3_starts(const struct dan_split *s, const struct dan_block *b, const char *p, size_t n, unsigned *sure)
{
    uint64_t taken = b->newline & ~(b->newline + (b->newline & b->other << 1));
    uint64_t space = b->space & ~taken, white = space & ~b->newline, visible = b->letter | b->other | b->number;
    uint64_t other = starts_of(b->other) & ~(b->blank << 1);
    uint64_t letter = starts_of(b->letter) & ~(white << 1) & ~(other << 1);
    uint64_t t = 1 | starts_of(space) | (white & visible >> 1) | other | letter | digit_groups(b->number, s->max_digits);
    t |= after_newlines(b, white, white & (space & b->newline) << 1, sure);
    for (uint64_t c = b->apostrophe & other & b->letter >> 1; c; c &= c - 1) {
        unsigned k = lowest(c);
        size_t at = offset(b, k), len = dan_split_contraction(p + at, n - at, true);
        unsigned chars = len == 3 && (unsigned char)p[at + 1] >= 0x80 ? 2 : (unsigned)len;
        if (len && k + chars < b->n) t |= UINT64_C(1) << (k + chars);
    }
    return t;
}

static size_t one_by_one(const struct dan_split *s, const char *p, size_t n, size_t *end, size_t max)
{
    size_t m = 0, at = 0;
    while (at < n && m < max) end[m++] = at += s->next(s, p + at, n - at);
    return m;
}

size_t dan_split_many(const struct dan_split *s, const char *p, size_t n, size_t *end, size_t max)
{
    size_t m = 0, at = 0;
    struct dan_block b;
    if (!s->starts) return one_by_one(s, p, n, end, max);
    while (at < n && max - m >= BLOCK) {
        b.ends = n - at == BLOCK;
        if (n - at < BLOCK || !fill_ascii(&b, p + at)) fill_any(&b, s->classes, p + at, n - at);
        unsigned sure = b.ends ? b.n : b.n - 1;
        uint64_t t = s->starts(s, &b, p + at, n - at, &sure) & below(sure) & ~UINT64_C(1);
        size_t base = at;
        for (; t; t &= t - 1) end[m++] = at = base + offset(&b, lowest(t));
        if (b.ends) end[m++] = at = n;
        else if (at == base) end[m++] = at += s->next(s, p + at, n - at);
    }
    return m;
}
