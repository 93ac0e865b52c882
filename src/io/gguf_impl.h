/* Shared by the files that implement gguf.h. */
#ifndef DAN_IO_GGUF_IMPL_H
#define DAN_IO_GGUF_IMPL_H
#include "base/map.h"
#include "io/gguf.h"
#include "io/tensor_file.h"

struct dan_gguf_shard { char *path; struct dan_buffer *file; const char *p; size_t n; };

struct dan_gguf {
    struct dan_gguf_shard *shard;              /* one, or the files of a sharded model in their order */
    size_t   n_shards;
    uint32_t version;                          /* of the first */
    size_t   alignment;
    struct entry { struct dan_gguf_text key; struct dan_gguf_value value; } *key;
    size_t   n_keys, keys_cap;
    struct dan_gguf_tensor *tensor;
    uint16_t *of_shard;                        /* [n_tensors] */
    size_t   n_tensors, tensors_cap, of_cap;
    struct dan_map *keys, *tensors;            /* name -> number */
};

/* ggml's storage formats.  Those that ggml has removed again are listed too: old files name them. */
struct dan_ggml_type { const char *name; uint16_t block, bytes; };
const struct dan_ggml_type *dan_ggml_type_at(uint32_t number);     /* NULL: the format names no such type */
const struct dan_dtype *dan_ggml_dtype(uint32_t number);           /* NULL: danlu cannot compute with it */

size_t dan_gguf_type_bytes(enum dan_gguf_type t);                  /* of a scalar; 0 for strings and arrays */

#endif
