/* Constant operands as kernels laid them out (dan_kernel.pack): made once, shared by the programs over one store, freed when no program
 * needs them.  Not for two threads at once, as binding is not. */
#ifndef DAN_CORE_PACKS_H
#define DAN_CORE_PACKS_H
#include "core/tensor.h"

struct dan_packs;
struct pack_room;
struct dan_pack {
    struct dan_pack *next;
    struct dan_tensor from;                    /* key: this memory, in this shape */
    const void *kernel;                        /* key */
    int32_t refs;
    size_t  bytes;
    void   *data;                              /* 64-byte aligned; NULL: new, dan_packs_room gives it memory */
    struct pack_room *room;
};

struct dan_packs *dan_packs_new(void);                             /* counted, 1; NULL: out of memory */
struct dan_packs *dan_packs_keep(struct dan_packs *s);
void dan_packs_drop(struct dan_packs *s);                          /* NULL is fine; all packs were released before the last drop */
/* What was made of `from` for `kernel`, or a new one.  NULL: out of memory. */
struct dan_pack *dan_packs_take(struct dan_packs *s, const struct dan_tensor *from, const void *kernel, size_t bytes);
/* One piece of memory for all that are new: many are smaller than a page of 2 MiB.  False: out of memory. */
bool dan_packs_room(struct dan_packs *s);
void dan_packs_release(struct dan_packs *s, struct dan_pack *p);   /* NULL is fine */

#endif
