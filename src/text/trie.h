/* Set of byte strings, each with a number: a double array (Aoe 1989).  A node's children stand in one block of 256 units, child c
 * at (base of the node) xor c; no two nodes share a base, so a unit belongs to the node if its label is c. */
#ifndef DAN_TEXT_TRIE_H
#define DAN_TEXT_TRIE_H
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

/* base in bits 0..31, label in 32..40 (256: free), value + 1 in 41..63 (0: no string ends here).  One load for each byte. */
typedef uint64_t dan_trie_unit;
enum { DAN_TRIE_MOST = (1 << 23) - 2 };        /* the largest value */

struct dan_trie { dan_trie_unit *unit; size_t n, huge; };         /* unit[0] is the root; {0} has no units: not to be walked */
struct dan_trie_key { const char *p; size_t n; int32_t value; };

/* Sorts key[n].  Of equal strings the one with the highest value stays; empty ones are left out. */
int  dan_trie_build(struct dan_trie *t, struct dan_trie_key *key, size_t n, struct dan_err *e);
void dan_trie_release(struct dan_trie *t);

/* *node: unit[0] at first.  0: no string goes on with c. */
static inline int dan_trie_step(const struct dan_trie *t, dan_trie_unit *node, unsigned char c)
{
    *node = t->unit[(uint32_t)*node ^ c];
    return (*node >> 32 & 511) == c;
}
static inline int32_t dan_trie_value(dan_trie_unit node) { return (int32_t)(node >> 41) - 1; }     /* -1: none */

/* The value of exactly these bytes, -1: none. */
int32_t dan_trie_find(const struct dan_trie *t, const char *p, size_t n);
/* Length of the longest string that begins p, 0: none; its value in *value. */
size_t  dan_trie_longest(const struct dan_trie *t, const char *p, size_t n, int32_t *value);

#endif
