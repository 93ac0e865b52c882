/* Arena: many small allocations, one release.  Owns graphs, programs, configs, requests. */
#ifndef DAN_BASE_ARENA_H
#define DAN_BASE_ARENA_H
#include <stdbool.h>
#include <stddef.h>

struct dan_arena;
struct dan_arena *dan_arena_new(void);                            /* NULL when out of memory */
void  dan_arena_free(struct dan_arena *a);                        /* releases everything; NULL is fine */
void *dan_arena_alloc(struct dan_arena *a, size_t n_bytes);       /* zeroed, 64-byte aligned; NULL when out of memory */
char *dan_arena_strdup(struct dan_arena *a, const char *s);
char *dan_arena_printf(struct dan_arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool  dan_arena_failed(const struct dan_arena *a);                /* some allocation failed: for callers that go on without it and tell later */
size_t dan_arena_bytes(const struct dan_arena *a);                /* handed out so far */

#endif
