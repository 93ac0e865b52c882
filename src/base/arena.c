#include "base/arena.h"
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"

enum { ALIGN = 64, FIRST_CHUNK = 16 << 10, MAX_CHUNK = 1 << 20 };

struct chunk { struct chunk *next; char *p, *end; };   /* free space is [p, end); p is aligned */

struct dan_arena { struct chunk *head; size_t next_size, n_bytes; bool failed; };

struct dan_arena *dan_arena_new(void)
{
    struct dan_arena *a = dan_calloc(1, sizeof *a);
    if (a) a->next_size = FIRST_CHUNK;
    return a;
}

void dan_arena_free(struct dan_arena *a)
{
    if (!a) return;
    for (struct chunk *c = a->head, *next; c; c = next) {
        next = c->next;
        dan_free(c);
    }
    dan_free(a);
}

/* calloc rather than aligned_alloc + memset: fresh pages come zeroed and untouched. */
static struct chunk *chunk_new(size_t room)
{
    struct chunk *c = dan_calloc(1, sizeof *c + ALIGN + room);
    if (!c) return NULL;
    uintptr_t start = (uintptr_t)(c + 1);
    c->p = (char *)(c + 1) + (ALIGN - start % ALIGN) % ALIGN;
    c->end = c->p + room;
    return c;
}

/* A large request gets a chunk of its own behind the head, which keeps its free space in use. */
static struct chunk *chunk_for(struct dan_arena *a, size_t n)
{
    struct chunk *h = a->head;
    if (h && (size_t)(h->end - h->p) >= n) return h;
    bool large = n > a->next_size / 4;
    struct chunk *c = chunk_new(large ? n : a->next_size);
    if (!c) return NULL;
    if (large && h) {
        c->next = h->next;
        h->next = c;
    } else {
        c->next = h;
        a->head = c;
    }
    if (!large && a->next_size < MAX_CHUNK) a->next_size *= 2;
    return c;
}

void *dan_arena_alloc(struct dan_arena *a, size_t n_bytes)
{
    size_t n = n_bytes ? (n_bytes + ALIGN - 1) / ALIGN * ALIGN : ALIGN;
    struct chunk *c = n_bytes > SIZE_MAX / 2 ? NULL : chunk_for(a, n);
    if (!c) {
        a->failed = true;
        return NULL;
    }
    void *p = c->p;
    c->p += n;
    a->n_bytes += n;
    return p;
}

char *dan_arena_strdup(struct dan_arena *a, const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = dan_arena_alloc(a, n);
    return p ? memcpy(p, s, n) : NULL;
}

char *dan_arena_printf(struct dan_arena *a, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *p = n < 0 ? NULL : dan_arena_alloc(a, (size_t)n + 1);
    if (p) vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return p;
}

bool dan_arena_failed(const struct dan_arena *a) { return a->failed; }

size_t dan_arena_bytes(const struct dan_arena *a) { return a->n_bytes; }
