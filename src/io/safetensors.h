/* Hugging Face safetensors: u64 header length, JSON header, data
 * (https://github.com/huggingface/safetensors, "Format").
 *
 * Files are not trusted: the header is bounded by the file and by 100 MB, nesting by 4; dtypes, shape
 * products, offsets and sizes are checked; tensors must cover the data without gap or overlap.
 *
 * q8_0 has no safetensors dtype.  danlu stores NAME as I8 [.., K] and NAME.scale as F16 [.., K/32]
 * (weight = int8 * scale of its group of 32 along the last axis) and lists the names in the metadata
 * entry "danlu.q8_0": "NAME,NAME,...".  Other tools see two plain tensors; danlu joins them again
 * to q8_0 blocks (in own memory).  Every other block format of dan_dtypes is stored as it lies in memory: NAME as U8
 * [.., bytes of a row], its name listed in "danlu.FORMAT"; reading is a view. */
#ifndef DAN_IO_SAFETENSORS_H
#define DAN_IO_SAFETENSORS_H
#include "core/buffer.h"
#include "io/pair.h"

/* Opens PATH: a file, a model.safetensors.index.json, or a directory that holds model.safetensors or
 * the index.  Tensors are read-only views of the mapped file; they live until the store is freed
 * (only a tensor that is not aligned to its element size in the file is copied).  Shards named by an
 * index must lie beside it.  Tensors of a dtype danlu has no arithmetic for (U8, BOOL, ...) are an
 * error, except the mask and frequency buffers some exporters leave in (".attn.bias",
 * ".masked_bias", ".inv_freq", ".position_ids"), which are left out.
 * Errors name the file, the tensor, and how many tensors are whole. */
int dan_safetensors_open(const char *path, struct dan_store **out, struct dan_err *e);

/* One entry of "__metadata__" of a single file; *value = NULL when there is none, else dan_free it. */
int dan_safetensors_meta(const char *path, const char *key, char **value, struct dan_err *e);

/* The header alone, for a look inside, also of a truncated file: its JSON (json_decref), the byte at which the data begins and the size
 * of the file.  Tensors are not checked; dan_safetensors_open does. */
struct json_t;
int dan_safetensors_head(const char *path, struct json_t **head, uint64_t *data, uint64_t *bytes, struct dan_err *e);

struct dan_named { const char *name; const struct dan_tensor *t; };

/* Writes a file whole or not at all (temporary file beside it, fsync, rename).  Tensors keep the order
 * of the list; the data starts 64-byte aligned.  dtypes: all with a safetensors name, and block formats as above.
 * meta: extra "__metadata__" entries; "format": "pt" is added, which transformers insists on.
 * Names must be unique and not "__metadata__".  Running out of disk says how much was needed. */
int dan_safetensors_save_list(const char *path, const struct dan_named *list, size_t n,
                              const struct dan_pair *meta, size_t n_meta, struct dan_err *e);
int dan_safetensors_save(const char *path, const struct dan_store *s, const struct dan_pair *meta, size_t n_meta, struct dan_err *e);
/* model.safetensors in dir, or, when the tensors take more than shard_bytes (> 0), shards of at most that and their index.  The
 * other form of before is removed. */
int dan_safetensors_save_dir(const char *dir, const struct dan_named *list, size_t n, int64_t shard_bytes, struct dan_err *e);
/* Size of the file that save would write; 0 when it would refuse. */
int64_t dan_safetensors_size(const struct dan_store *s, const struct dan_pair *meta, size_t n_meta);

/* Copies every tensor of `from` into the tensor of the same name in `into`.  Both must hold the same
 * names, shapes and dtypes; the message names the first that differs, and nothing is copied then. */
int dan_store_restore(struct dan_store *into, const struct dan_store *from, struct dan_err *e);

#endif
