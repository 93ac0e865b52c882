#include "base/mem.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* A larger request is a bug or a hostile file, and sanitizers would abort on it; weights, which
 * may be that large one day, come from dan_huge_alloc. */
static const size_t MOST = (size_t)1 << (sizeof(size_t) == 8 ? 39 : 30);

/* One byte for n = 0, so that NULL always means out of memory. */
void *dan_malloc(size_t n) { return n > MOST ? NULL : malloc(n ? n : 1); }

void *dan_calloc(size_t n, size_t size)
{
    if (n == 0 || size == 0) return calloc(1, 1);
    return n > MOST / size ? NULL : calloc(n, size);
}

void *dan_realloc(void *p, size_t n) { return n > MOST ? NULL : realloc(p, n ? n : 1); }
void dan_free(void *p) { free(p); }

char *dan_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = dan_malloc(n);
    return p ? memcpy(p, s, n) : NULL;
}

enum { PAGE = 4096, HUGE = 2 << 20 };

/* 64 KiB pages exist on some ARM systems; munmap rounds lengths up, so 4 KiB is safe there too. */
static size_t round_to_page(size_t n) { return n ? (n + PAGE - 1) / PAGE * PAGE : PAGE; }

/* Maps `align` bytes too much and gives the ends back. */
static void *map_aligned(size_t n, size_t align)
{
    char *p = mmap(NULL, n + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    size_t head = (align - (uintptr_t)p % align) % align;
    if (head) munmap(p, head);
    if (head < align) munmap(p + head + n, align - head);
    return p + head;
}

void *dan_huge_alloc(size_t n_bytes)
{
    if (n_bytes > SIZE_MAX / 4) return NULL;
    size_t n = round_to_page(n_bytes);
    if (n >= HUGE) {
        void *big = map_aligned(n, HUGE);
        if (big) madvise(big, n, MADV_HUGEPAGE);   /* a wish: small pages work too */
        return big;
    }
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void dan_huge_free(void *p, size_t n_bytes)
{
    if (p) munmap(p, round_to_page(n_bytes));
}

int dan_vec_grow(void *vec, size_t *cap, size_t need, size_t size)
{
    if (need <= *cap) return 0;
    size_t to = *cap ? *cap : 8;
    while (to < need) {
        if (to > SIZE_MAX / 2) return -1;
        to *= 2;
    }
    if (to > SIZE_MAX / size) return -1;
    void *p;
    memcpy(&p, vec, sizeof p);                     /* vec is some T **: aliasing forbids *(void **) */
    p = dan_realloc(p, to * size);
    if (!p) return -1;
    memcpy(vec, &p, sizeof p);
    *cap = to;
    return 0;
}
