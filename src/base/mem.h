/* Heap memory: the only door to malloc outside arena.c and the CLI. */
#ifndef DAN_BASE_MEM_H
#define DAN_BASE_MEM_H
#include <stddef.h>

void *dan_malloc(size_t n);                   /* uninitialised; NULL when out of memory */
void *dan_calloc(size_t n, size_t size);      /* zeroed; NULL when out of memory or on overflow */
void *dan_realloc(void *p, size_t n);
void  dan_free(void *p);
char *dan_strdup(const char *s);              /* free with dan_free */

/* Page-aligned zeroed memory, 2 MiB pages where the system gives them (a third more read
 * bandwidth on virtual machines).  Free with dan_huge_free and the same size. */
void *dan_huge_alloc(size_t n_bytes);
void  dan_huge_free(void *p, size_t n_bytes);

/* Makes room for `need` elements of `size` bytes in *(void**)vec, doubling *cap.
 * Returns 0, or -1 when out of memory (then nothing changed). */
int dan_vec_grow(void *vec, size_t *cap, size_t need, size_t size);

#endif
