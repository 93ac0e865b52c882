#include "core/packs.h"
#include <string.h>
#include "base/mem.h"

struct dan_packs { int32_t refs; struct dan_pack *first; };
struct pack_room { int32_t refs; size_t bytes; char *data; };      /* counts the packs in it */

struct dan_packs *dan_packs_new(void)
{
    struct dan_packs *s = dan_calloc(1, sizeof *s);
    if (s) s->refs = 1;
    return s;
}

struct dan_packs *dan_packs_keep(struct dan_packs *s)
{
    s->refs++;
    return s;
}

void dan_packs_drop(struct dan_packs *s)
{
    if (s && --s->refs == 0) dan_free(s);
}

static bool made_of(const struct dan_pack *p, const struct dan_tensor *from, const void *kernel)
{
    return p->kernel == kernel && p->from.data == from->data && p->from.dtype == from->dtype && dan_shape_equal(&p->from.shape, &from->shape) &&
           memcmp(p->from.stride, from->stride, sizeof *from->stride * (size_t)from->shape.n) == 0;
}

struct dan_pack *dan_packs_take(struct dan_packs *s, const struct dan_tensor *from, const void *kernel, size_t bytes)
{
    struct dan_pack *p = s->first;
    while (p && !made_of(p, from, kernel)) p = p->next;
    if (!p) {
        if (!(p = dan_calloc(1, sizeof *p))) return NULL;
        *p = (struct dan_pack){.next = s->first, .from = *from, .kernel = kernel, .bytes = (bytes + 63) / 64 * 64};
        s->first = p;
    }
    p->refs++;
    return p;
}

bool dan_packs_room(struct dan_packs *s)
{
    size_t bytes = 0;
    for (const struct dan_pack *p = s->first; p; p = p->next) bytes += p->data ? 0 : p->bytes;
    if (!bytes) return true;
    struct pack_room *r = dan_calloc(1, sizeof *r);
    char *at = r ? dan_huge_alloc(bytes) : NULL;
    if (!at) {
        dan_free(r);
        return false;
    }
    *r = (struct pack_room){.bytes = bytes, .data = at};
    for (struct dan_pack *p = s->first; p; p = p->next) {
        if (p->data) continue;
        p->data = at;
        p->room = r;
        at += p->bytes;
        r->refs++;
    }
    return true;
}

void dan_packs_release(struct dan_packs *s, struct dan_pack *p)
{
    if (!p || --p->refs) return;
    struct dan_pack **at = &s->first;
    while (*at != p) at = &(*at)->next;
    *at = p->next;
    if (p->room && --p->room->refs == 0) {
        dan_huge_free(p->room->data, p->room->bytes);
        dan_free(p->room);
    }
    dan_free(p);
}
