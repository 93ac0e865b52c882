/* A GGUF file from lines of text, so that a mutation need not guess lengths, counts and offsets:
 *
 *   key=s:text            also u:7 i:-7 U:7 (64 bits) f:0.5 b:1
 *   key=S:one|two         arrays: of strings; I:1,2 (i32), F:0.5,1 (f32), B:1,0 (u8)
 *   @name 2 32 4          a tensor: ggml's number of its type, dimensions innermost first; its data are zeros */
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "fuzz.h"
#include "io/gguf_impl.h"

enum { MAX_DATA = 1 << 12 };
struct gguf_text { struct dan_str keys, tensors; uint64_t n_keys, n_tensors, data; };

static void put_le(struct dan_str *s, uint64_t v, int bytes)
{
    char le[8];
    for (int i = 0; i < bytes; i++) le[i] = (char)(v >> 8 * i);
    dan_str_append(s, le, (size_t)bytes);
}

static void put_text(struct dan_str *s, const char *p, size_t n)
{
    put_le(s, n, 8);
    dan_str_append(s, p, n);
}

static void put_float(struct dan_str *s, const char *p)
{
    float f = strtof(p, NULL);
    dan_str_append(s, &f, sizeof f);
}

static void put_array(struct gguf_text *g, char kind, char *p)
{
    static const struct { char kind; int type, bytes; } kinds[] = {{'S', 8, 0}, {'I', 5, 4}, {'F', 6, 4}, {'B', 0, 1}};
    struct dan_str body = {0};
    uint64_t n = 0;
    size_t k = 0;
    while (k < 3 && kinds[k].kind != kind) k++;
    const char *end = kind == 'S' ? "|" : ",";
    for (char *at = p, *next; at; at = next, n++) {
        size_t len = strcspn(at, end);
        next = at[len] ? at + len + 1 : NULL;
        if (kind == 'S') put_text(&body, at, len);
        else if (kind == 'F') put_float(&body, at);
        else put_le(&body, (uint64_t)strtoll(at, NULL, 10), kinds[k].bytes);
    }
    put_le(&g->keys, 9, 4);
    put_le(&g->keys, (uint64_t)kinds[k].type, 4);
    put_le(&g->keys, n, 8);
    dan_str_append(&g->keys, dan_str_c(&body), body.n);
    dan_str_release(&body);
}

static void put_scalar(struct gguf_text *g, char kind, const char *p)
{
    static const struct { char kind; int type, bytes; } kinds[] = {{'u', 4, 4}, {'i', 5, 4}, {'U', 10, 8}, {'b', 7, 1}};
    size_t k = 0;
    while (k < 3 && kinds[k].kind != kind) k++;
    put_le(&g->keys, (uint64_t)(kind == 's' ? 8 : kind == 'f' ? 6 : kinds[k].type), 4);
    if (kind == 's') put_text(&g->keys, p, strlen(p));
    else if (kind == 'f') put_float(&g->keys, p);
    else put_le(&g->keys, (uint64_t)strtoll(p, NULL, 10), kinds[k].bytes);
}

static void put_key(struct gguf_text *g, char *line)
{
    char *equals = strchr(line, '=');
    if (!equals || !equals[1] || equals[2] != ':') return;
    put_text(&g->keys, line, (size_t)(equals - line));
    g->n_keys++;
    if (strchr("SIFB", equals[1])) put_array(g, equals[1], equals + 3);
    else put_scalar(g, equals[1], equals + 3);
}

static void put_tensor(struct gguf_text *g, char *line)
{
    uint64_t d[4], count = 1;
    uint32_t n = 0;
    char *end = strchr(line, ' ');
    if (!end) return;
    put_text(&g->tensors, line, (size_t)(end - line));
    uint32_t type = (uint32_t)strtoul(end, &end, 10);
    for (char *at = end; n < 4; at = end) {
        d[n] = strtoull(at, &end, 10);
        if (end == at) break;
        count *= d[n++];
    }
    put_le(&g->tensors, n, 4);
    for (uint32_t i = 0; i < n; i++) put_le(&g->tensors, d[i], 8);
    put_le(&g->tensors, type, 4);
    put_le(&g->tensors, g->data, 8);
    const struct dan_ggml_type *t = dan_ggml_type_at(type);
    uint64_t bytes = t ? count / t->block * t->bytes : 4 * count;
    g->data += bytes > MAX_DATA ? MAX_DATA : (bytes + 31) / 32 * 32;
    g->n_tensors++;
}

void fuzz_put_gguf(const char *name, const uint8_t *p, size_t n)
{
    struct gguf_text g = {0};
    struct dan_str file = {0};
    char *text = malloc(n + 1);
    DAN_ASSERT(text);
    memcpy(text, p, n);
    text[n] = '\0';
    for (char *line = text, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = '\0';
        if (line[0] == '@') put_tensor(&g, line + 1);
        else put_key(&g, line);
    }
    dan_str_append(&file, "GGUF\3\0\0\0", 8);
    put_le(&file, g.n_tensors, 8);
    put_le(&file, g.n_keys, 8);
    dan_str_append(&file, dan_str_c(&g.keys), g.keys.n);
    dan_str_append(&file, dan_str_c(&g.tensors), g.tensors.n);
    while (file.n % 32) dan_str_putc(&file, 0);
    if (g.data > MAX_DATA) g.data = MAX_DATA;
    static const char zeros[MAX_DATA];
    dan_str_append(&file, zeros, g.data);
    fuzz_put(name, file.p, file.n);
    dan_str_release(&file);
    dan_str_release(&g.keys);
    dan_str_release(&g.tensors);
    free(text);
}
