/* Counted storage for weights, states and mapped files. */
#ifndef DAN_CORE_BUFFER_H
#define DAN_CORE_BUFFER_H
#include "base/err.h"
#include "core/packs.h"

struct dan_buffer { int32_t refs; size_t n_bytes; void *data; void (*release)(struct dan_buffer *b); void *ctx; };
int  dan_buffer_new(size_t n_bytes, struct dan_buffer **out, struct dan_err *e);    /* zeroed, huge pages when large */
int  dan_buffer_wrap(void *data, size_t n_bytes, void (*release)(struct dan_buffer *), void *ctx,
                     struct dan_buffer **out, struct dan_err *e);
struct dan_buffer *dan_buffer_keep(struct dan_buffer *b);
void dan_buffer_drop(struct dan_buffer *b);                       /* NULL is fine */

/* Named tensors: parameters, states, what a file holds.  Names are copied; order of insertion. */
struct dan_store;
int  dan_store_new(struct dan_store **out, struct dan_err *e);
void dan_store_free(struct dan_store *s);
/* Takes a reference on b.  A name that exists is replaced. */
int  dan_store_put(struct dan_store *s, const char *name, struct dan_tensor t, struct dan_buffer *b, struct dan_err *e);
/* The tensor `from_name` of another store under a new name, sharing its memory. */
int  dan_store_share(struct dan_store *s, const char *name, const struct dan_store *from, const char *from_name, struct dan_err *e);
/* A program reads this tensor's memory by address: it may not move any more.  mark = false only asks. */
bool dan_store_bound(struct dan_store *s, const char *name, bool mark);
/* Allocates a zeroed contiguous tensor. */
int  dan_store_add(struct dan_store *s, const char *name, const struct dan_dtype *t, struct dan_shape shape, struct dan_err *e);
struct dan_tensor *dan_store_find(const struct dan_store *s, const char *name);   /* NULL when there is none */
size_t dan_store_count(const struct dan_store *s);
const char *dan_store_name(const struct dan_store *s, size_t i);
struct dan_tensor *dan_store_at(const struct dan_store *s, size_t i);
size_t dan_store_bytes(const struct dan_store *s);       /* of all tensors; memory that several have, such as parts of a joined one, counts once */
struct dan_packs *dan_store_packs(struct dan_store *s);           /* of programs over the store, which may outlive it; NULL: out of memory */

#endif
