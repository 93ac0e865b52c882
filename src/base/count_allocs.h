/* For tests: counts the calls of the heap, and makes the n-th fail.  Included by one file of a program, which then
 * has its own malloc in front of glibc's.  Elsewhere, and under sanitizers (which have their own), nothing is
 * counted: `count_allocs` is false, and tests skip. */
#ifndef DAN_BASE_COUNT_ALLOCS_H
#define DAN_BASE_COUNT_ALLOCS_H
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

static _Atomic int64_t heap_calls __attribute__((unused)), heap_live __attribute__((unused));      /* allocations; those not freed */
static _Atomic int64_t heap_fail_at __attribute__((unused));      /* number of the one that fails, 0 = none */

#ifndef __has_feature
#define __has_feature(x) 0                     /* clang's way of telling; gcc has the macros */
#endif
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
enum { count_allocs = false };
#else
enum { count_allocs = true };
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void  __libc_free(void *p);

static bool heap_refuses(void)
{
    bool no = ++heap_calls == heap_fail_at;
    if (no) errno = ENOMEM;
    return no;
}

void *malloc(size_t n)
{
    void *p = heap_refuses() ? NULL : __libc_malloc(n);
    heap_live += p != NULL;
    return p;
}

void *calloc(size_t n, size_t size)
{
    void *p = heap_refuses() ? NULL : __libc_calloc(n, size);
    heap_live += p != NULL;
    return p;
}

void *realloc(void *old, size_t n)
{
    void *p = heap_refuses() ? NULL : __libc_realloc(old, n);
    heap_live += p && !old;
    return p;
}

void free(void *p)
{
    heap_live -= p != NULL;
    __libc_free(p);
}
#endif
#endif
