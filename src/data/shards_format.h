/* The bytes of a shard file, shared by writer and reader.  See data/shards.h. */
#ifndef DAN_DATA_SHARDS_FORMAT_H
#define DAN_DATA_SHARDS_FORMAT_H
#include <stdint.h>

enum { DAN_SHARD_VERSION = 1};
#define DAN_SHARD_MAGIC "DANLUTOK"
#define DAN_SHARD_END "DANLUEND"

struct dan_shard_head { char magic[8]; uint32_t version, width; uint64_t vocab; int64_t eos; uint64_t hash, zero[3]; };
struct dan_shard_tail { uint64_t n, n_docs, bytes, index, zero[2]; uint32_t crc, zero32; char magic[8]; };
_Static_assert(sizeof(struct dan_shard_head) == 64 && sizeof(struct dan_shard_tail) == 64, "as in the file");

enum { DAN_SHARD_SUMMED = 48 };                /* bytes of the tail that the CRC covers */

static inline uint64_t dan_shard_padded(uint64_t n_tokens, uint32_t width) { return (n_tokens * width + 7) / 8 * 8; }

#endif
