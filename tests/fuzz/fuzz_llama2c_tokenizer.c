/* llama2.c's tokenizer.bin.  Input that begins with '+' is pieces, one a line, "score text", behind the 259 that every file has. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "fuzz.h"

static void put_piece(struct dan_str *out, float score, const char *p, size_t n)
{
    uint32_t len = (uint32_t)n;
    dan_str_append(out, &score, 4);
    dan_str_append(out, &len, 4);
    dan_str_append(out, p, n);
}

/* The longest piece, then those that every file has: made once. */
static const struct dan_str *common_pieces(void)
{
    static const char *const first[] = {"<unk>", "\n<s>\n", "\n</s>\n"};
    static struct dan_str made;
    char name[16];
    if (made.n) return &made;
    dan_str_append(&made, &(uint32_t){16}, 4);
    for (int i = 0; i < 3; i++) put_piece(&made, 0, first[i], strlen(first[i]));
    for (int b = 0; b < 256; b++) put_piece(&made, 0, name, (size_t)snprintf(name, sizeof name, "<0x%02X>", (unsigned)b));
    return &made;
}

static void put_file(const char *line, const char *end)
{
    struct dan_str out = {0};
    char name[32];
    dan_str_append(&out, common_pieces()->p, common_pieces()->n);
    while (line < end) {
        const char *stop = memchr(line, '\n', (size_t)(end - line));
        if (!stop) stop = end;
        char *after;
        snprintf(name, sizeof name, "%.*s", (int)(stop - line < 31 ? stop - line : 31), line);
        float score = strtof(name, &after);
        const char *text = line + (after - name) + 1;
        if (text <= stop) put_piece(&out, score, text, (size_t)(stop - text));
        line = stop + 1;
    }
    fuzz_put("tokenizer.bin", out.p, out.n);
    dan_str_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    fuzz_clear();
    if (n && p[0] == '+') put_file((const char *)p + 1, (const char *)p + n);
    else fuzz_put("tokenizer.bin", p, n);
    fuzz_load_tokenizer("tokenizer.bin", p, n);
    return 0;
}
