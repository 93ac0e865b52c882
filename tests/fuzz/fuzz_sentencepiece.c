/* tokenizer.model: a protocol buffer, or lines that are made into one:
 *
 *   2bdre              digit: the algorithm; b byte pieces (added), d no dummy prefix, r keeps spaces, e no escapes, s suffix
 *   1 -2.5 piece       type, score, text: one a line
 *   <cut>              then the precompiled charsmap as it is */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "fuzz.h"

static void put_varint(struct dan_str *s, uint64_t v)
{
    for (; v >= 128; v >>= 7) dan_str_putc(s, (char)(v | 128));
    dan_str_putc(s, (char)v);
}

static void put_bytes(struct dan_str *s, unsigned field, const void *p, size_t n)
{
    put_varint(s, field << 3 | 2);
    put_varint(s, n);
    dan_str_append(s, p, n);
}

static void put_flag(struct dan_str *s, unsigned field, uint64_t v)
{
    put_varint(s, field << 3);
    put_varint(s, v);
}

static void put_piece(struct dan_str *out, int type, float score, const char *p, size_t n)
{
    static struct dan_str piece;               /* its memory is used again */
    dan_str_clear(&piece);
    put_bytes(&piece, 1, p, n);
    put_varint(&piece, 2 << 3 | 5);
    dan_str_append(&piece, &score, sizeof score);
    put_flag(&piece, 3, (uint64_t)type);
    put_bytes(out, 1, piece.p, piece.n);
}

/* <0x00> to <0xFF>, made once. */
static const struct dan_str *byte_pieces(void)
{
    static struct dan_str made;
    char name[16];
    if (made.n) return &made;
    for (int b = 0; b < 256; b++) put_piece(&made, 6, 0, name, (size_t)snprintf(name, sizeof name, "<0x%02X>", (unsigned)b));
    return &made;
}

static void put_pieces(struct dan_str *out, const char *line, const char *end, bool bytes)
{
    while (line < end) {
        const char *stop = memchr(line, '\n', (size_t)(end - line)), *text = NULL;
        if (!stop) stop = end;
        char number[32];
        snprintf(number, sizeof number, "%.*s", (int)(stop - line < 31 ? stop - line : 31), line);
        char *after = number + 1;
        float score = number[0] ? strtof(number + 1, &after) : 0;
        text = line + (after - number) + 1;
        if (text <= stop) put_piece(out, number[0] - '0', score, text, (size_t)(stop - text));
        line = stop + 1;
    }
    if (bytes) dan_str_append(out, byte_pieces()->p, byte_pieces()->n);
}

static void put_model(const uint8_t *p, size_t n)
{
    struct fuzz_input in = {p, n}, head, map = {0};
    struct dan_str out = {0}, rules = {0};
    fuzz_next(&in, &head);
    fuzz_next(&in, &map);
    const char *text = (const char *)head.p, *end = text + head.n, *line = memchr(text, '\n', head.n);
    size_t k = line ? (size_t)(line - text) : head.n;
    put_pieces(&out, line ? line + 1 : end, end, memchr(text, 'b', k));
    put_flag(&rules, 3, (uint64_t)(text[0] - '0'));
    put_flag(&rules, 24, memchr(text, 's', k) != NULL);
    put_flag(&rules, 35, memchr(text, 'b', k) != NULL);
    put_bytes(&out, 2, rules.p, rules.n);
    dan_str_clear(&rules);
    if (map.n) put_bytes(&rules, 2, map.p, map.n);
    put_flag(&rules, 3, !memchr(text, 'd', k));
    put_flag(&rules, 4, !memchr(text, 'r', k));
    put_flag(&rules, 5, !memchr(text, 'e', k));
    put_bytes(&out, 3, rules.p, rules.n);
    fuzz_put("tokenizer.model", out.p, out.n);
    dan_str_release(&out);
    dan_str_release(&rules);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    fuzz_clear();
    if (n && p[0] >= '0' && p[0] <= '9') put_model(p, n);
    else fuzz_put("tokenizer.model", p, n);
    fuzz_load_tokenizer("tokenizer.model", p, n);
    return 0;
}
