/* Hash map from byte strings to int64.  Keys are copied.  Open addressing, iteration in
 * insertion order (so everything derived from it is deterministic). */
#ifndef DAN_BASE_MAP_H
#define DAN_BASE_MAP_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dan_map;
struct dan_map *dan_map_new(void);
void    dan_map_free(struct dan_map *m);
int     dan_map_reserve(struct dan_map *m, size_t n);               /* room for n keys at once, for those who know; -1: out of memory */
bool    dan_map_get(const struct dan_map *m, const void *key, size_t n, int64_t *value);
struct dan_map_ask { const void *key; size_t n; int64_t value; bool found; };
void    dan_map_get_many(const struct dan_map *m, struct dan_map_ask *ask, size_t n);       /* the same, faster: the looks overlap */
int     dan_map_put(struct dan_map *m, const void *key, size_t n, int64_t value);   /* replaces; -1: out of memory */
int64_t *dan_map_slot(struct dan_map *m, const void *key, size_t n);  /* finds or inserts 0; valid until the next insert */
size_t  dan_map_count(const struct dan_map *m);
/* i-th entry in insertion order */
void    dan_map_at(const struct dan_map *m, size_t i, const char **key, size_t *n, int64_t *value);
uint64_t dan_hash(const void *bytes, size_t n, uint64_t seed);     /* wyhash-like, stable across machines */

#endif
