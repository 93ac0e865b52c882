#include "pass/origin.h"

static size_t count(const dan_ref *a)
{
    size_t n = 0;
    while (a && a[n]) n++;
    return n;
}

void dan_origin_start(struct dan_graph *g)
{
    dan_ref *self = dan_arena_alloc(g->arena, sizeof *self * 2 * (size_t)g->n);
    for (int32_t i = 1; i < g->n && self; i++) {
        self[2 * i] = i;
        if (!g->node[i].origin) g->node[i].origin = &self[2 * i];
    }
}

static bool holds(const dan_ref *a, const dan_ref *b)
{
    for (; *b; b++) {
        while (*a && *a < *b) a++;
        if (*a != *b) return false;
    }
    return true;
}

const dan_ref *dan_origin_merge(struct dan_arena *m, const dan_ref *a, const dan_ref *b)
{
    if (!a || !b) return a ? a : b;
    if (holds(a, b)) return a;
    if (holds(b, a)) return b;
    dan_ref *all = dan_arena_alloc(m, sizeof *all * (count(a) + count(b) + 1)), *to = all;
    if (!all) return a;
    while (*a || *b) {
        dan_ref next = !*b || (*a && *a < *b) ? *a : *b;
        a += *a == next;
        b += *b == next;
        *to++ = next;
    }
    return all;
}

const dan_ref *dan_origin_gradient(struct dan_arena *m, const dan_ref *a)
{
    size_t n = count(a), k = n;
    dan_ref *all = dan_arena_alloc(m, sizeof *all * (n + 1));
    if (!all) return NULL;
    for (size_t i = 0; i < n; i++) {           /* insertion by value: -|i|, ascending */
        dan_ref x = a[i] < 0 ? a[i] : -a[i];
        for (k = i; k > 0 && all[k - 1] > x; k--) all[k] = all[k - 1];
        all[k] = x;
    }
    return all;
}
