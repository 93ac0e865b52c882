/* In front of base/mem.h, and of the tables over all characters (--wrap).
 *
 * A tokenizer asks for tables of 30 to 300 KB, fills them and gives them back.  With every input that costs pages from the system (under
 * AddressSanitizer mmap and munmap of each, with their shadow), which is many times what reading the input does.  Blocks of LEAST bytes and more,
 * and what dan_huge_alloc maps, therefore come out of a fixed set of slots.  They are no less watched: poisoned behind their end,
 * poisoned when they are given back, and counted when an input is done (fuzz_done). */
#include "fuzz.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "base/mem.h"
#include "text/split.h"
#include "text/wordpiece.h"
#ifdef __has_include
#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#endif
#endif

enum { SLOTS = 32, LEAST = 12 << 10, MOST = 1 << 20, PAGE = 4096, SLOT = MOST + PAGE, DIRT = 4096 };

void *__real_dan_malloc(size_t n);
void *__real_dan_calloc(size_t n, size_t size);
void *__real_dan_realloc(void *p, size_t n);
void  __real_dan_free(void *p);
int   __real_dan_vec_grow(void *vec, size_t *cap, size_t need, size_t size);
void *__real_dan_huge_alloc(size_t n);
void  __real_dan_huge_free(void *p, size_t n);
uint8_t *__real_dan_classes_new(const struct dan_split *s);
int   __real_dan_bert_prepare(struct dan_wordpiece *w, struct dan_err *e);
void *__wrap_dan_malloc(size_t n);
void *__wrap_dan_calloc(size_t n, size_t size);
void *__wrap_dan_realloc(void *p, size_t n);
void  __wrap_dan_free(void *p);
int   __wrap_dan_vec_grow(void *vec, size_t *cap, size_t need, size_t size);
void *__wrap_dan_huge_alloc(size_t n);
void  __wrap_dan_huge_free(void *p, size_t n);
uint8_t *__wrap_dan_classes_new(const struct dan_split *s);
int   __wrap_dan_bert_prepare(struct dan_wordpiece *w, struct dan_err *e);

/* Mapped, not an array: a leak's pointers in a slot that was given back must not count as reachable. */
static char *slots;
static size_t used[SLOTS];                     /* bytes asked for, 0: free */
static size_t n_used;
static bool staying;

static void hide(const void *p, size_t n)
{
#ifdef ASAN_POISON_MEMORY_REGION
    ASAN_POISON_MEMORY_REGION(p, n);
#else
    (void)p, (void)n;
#endif
}

static void show(const void *p, size_t n)
{
#ifdef ASAN_UNPOISON_MEMORY_REGION
    ASAN_UNPOISON_MEMORY_REGION(p, n);
#else
    (void)p, (void)n;
#endif
}

/* NULL: not for here. */
static void *slot_take(size_t n, bool zero)
{
    size_t i = 0;
    if (n > MOST || n == 0 || staying) return NULL;
    if (!slots) {
        slots = mmap(NULL, (size_t)SLOTS * SLOT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        DAN_ASSERT(slots != MAP_FAILED);
        hide(slots, (size_t)SLOTS * SLOT);
    }
    while (i < SLOTS && used[i]) i++;
    if (i == SLOTS) return NULL;
    used[i] = n;
    n_used++;
    char *p = slots + i * SLOT;
    show(p, n);
    return memset(p, zero ? 0 : 0xBE, zero || n < DIRT ? n : DIRT);
}

/* SLOTS: in none. */
static size_t slot_of(const void *p)
{
    size_t at = (size_t)((uintptr_t)p - (uintptr_t)slots);
    if (!slots || at >= (size_t)SLOTS * SLOT) return SLOTS;
    DAN_ASSERT(at % SLOT == 0 && used[at / SLOT]);             /* else given back twice, or not what was given */
    return at / SLOT;
}

static void slot_give(size_t i)
{
    hide(slots + i * SLOT, used[i]);
    used[i] = 0;
    n_used--;
}

/* A block that has to grow moves to the heap. */
static void *to_heap(size_t i, size_t n)
{
    void *p = __real_dan_malloc(n);
    if (!p) return NULL;
    memcpy(p, slots + i * SLOT, n < used[i] ? n : used[i]);
    slot_give(i);
    return p;
}

void *__wrap_dan_malloc(size_t n)
{
    void *p = n < LEAST ? NULL : slot_take(n, false);
    return p ? p : __real_dan_malloc(n);
}

void *__wrap_dan_calloc(size_t n, size_t size)
{
    void *p = n > MOST || size > MOST || n * size < LEAST ? NULL : slot_take(n * size, true);
    return p ? p : __real_dan_calloc(n, size);
}

void *__wrap_dan_realloc(void *p, size_t n)
{
    size_t i = slot_of(p);
    return i < SLOTS ? to_heap(i, n) : __real_dan_realloc(p, n);
}

int __wrap_dan_vec_grow(void *vec, size_t *cap, size_t need, size_t size)
{
    void *p;
    if (need <= *cap) return 0;
    memcpy(&p, vec, sizeof p);
    size_t i = slot_of(p);
    if (i < SLOTS) {
        if (!(p = to_heap(i, *cap * size))) return -1;
        memcpy(vec, &p, sizeof p);
    }
    return __real_dan_vec_grow(vec, cap, need, size);
}

void *__wrap_dan_huge_alloc(size_t n)
{
    void *p = slot_take(n, true);
    return p ? p : __real_dan_huge_alloc(n);
}

void __wrap_dan_huge_free(void *p, size_t n)
{
    size_t i = slot_of(p);
    if (i == SLOTS) __real_dan_huge_free(p, n);
    else slot_give(i);
}

/* --- tables over all characters, the same for every tokenizer: made once, shared */

enum { CLASSES = DAN_CLASSED / 4, ACTIONS = 65536 };
static uint8_t classes[2][CLASSES], cased[2][2 * CLASSES];     /* [1]: marks are letters */
static uint32_t actions[16][ACTIONS];          /* for each set of BERT's switches */

static bool is_shared(const void *p)
{
    for (int k = 0; k < 2; k++)
        if (p == classes[k] || p == cased[k]) return true;
    return (uintptr_t)p >= (uintptr_t)actions && (uintptr_t)p < (uintptr_t)actions + sizeof actions;
}

void __wrap_dan_free(void *p)
{
    if (!p) return;
    size_t i = slot_of(p);
    if (i < SLOTS) slot_give(i);
    else if (!is_shared(p)) __real_dan_free(p);
}

uint8_t *__wrap_dan_classes_new(const struct dan_split *s)
{
    static bool made[2][2];
    uint8_t *to = s->cased ? cased[s->marks] : classes[s->marks];
    if (!made[s->cased][s->marks]) {
        uint8_t *c = __real_dan_classes_new(s);
        DAN_ASSERT(c);
        memcpy(to, c, s->cased ? sizeof *cased : sizeof *classes);
        __wrap_dan_free(c);
        made[s->cased][s->marks] = true;
    }
    return to;
}

int __wrap_dan_bert_prepare(struct dan_wordpiece *w, struct dan_err *e)
{
    static struct dan_wordpiece made[16];
    struct dan_wordpiece *m = &made[w->clean | w->chinese << 1 | w->strip << 2 | w->lower << 3];
    if (!m->action) {
        m->clean = w->clean, m->chinese = w->chinese, m->strip = w->strip, m->lower = w->lower;
        DAN_ASSERT(!__real_dan_bert_prepare(m, e));
        memcpy(actions[m - made], m->action, sizeof *actions);
        __wrap_dan_free(m->action);
        m->action = actions[m - made];
    }
    w->action = m->action;
    memcpy(w->ascii, m->ascii, sizeof w->ascii);
    memcpy(w->ascii_low, m->ascii_low, sizeof w->ascii_low);
    return DAN_OK;
}

/* --- inputs */

void fuzz_stay(bool yes) { staying = yes; }

void fuzz_done(void)
{
    fuzz_clear();
    for (size_t i = 0; i < SLOTS && n_used; i++)
        if (used[i]) fprintf(stderr, "leak: a block of %zu bytes was not given back\n", used[i]);
    DAN_ASSERT(n_used == 0);
}
