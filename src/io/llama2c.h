/* Checkpoints of llama2.c: the legacy layout (7 ints, then f32), version 1 ("ak42", f32) and version 2 (int8 with a scale per
 * group).  export.py and run.c of that project are the source of the layouts.  A file says nothing of its tokenizer,
 * which is a tokenizer.bin. */
#ifndef DAN_IO_LLAMA2C_H
#define DAN_IO_LLAMA2C_H
#include "core/buffer.h"

struct dan_llama2c {
    int64_t version;                           /* 0: legacy */
    int64_t hidden, ffn, layers, heads, kv_heads, vocab, context;
    int64_t group;                             /* of version 2: weights per scale */
    bool    tied;                              /* the table is the head, too */
};

/* Whether the header is that of such a file and its size is what the header says; nothing is left open. */
bool dan_llama2c_is(const char *path);
/* Tensors by danlu's names ("blk.0.attn_q.weight").  f32 is a view of the mapped file, which the store keeps; int8 is made f32 in own
 * memory.  Rows of attn_q and attn_k lie as pairs (2i, 2i+1) of each head. */
int dan_llama2c_open(const char *path, struct dan_llama2c *head, struct dan_store **out, struct dan_err *e);

#endif
