/* What readers and writers of tensor files share. */
#ifndef DAN_IO_TENSOR_FILE_H
#define DAN_IO_TENSOR_FILE_H
#include "base/file.h"
#include "core/buffer.h"

/* A mapped file as a counted buffer: views of it live as long as the last holder. */
int dan_map_buffer(const char *path, struct dan_buffer **out, struct dan_err *e);
/* n <= 8 bytes, little-endian, at any address. */
uint64_t dan_le(const char *p, size_t n);

/* The elements in order, also of a view. */
int dan_put_tensor(struct dan_writer *w, const struct dan_tensor *t, struct dan_err *e);
/* Asked before writing: half a file would only fill the disk. */
int dan_check_space(const char *path, int64_t need, struct dan_err *e);
/* Calls put(w, ctx) on a temporary file beside PATH, then renames it: PATH is whole or as it was. */
int dan_write_whole(const char *path, int (*put)(struct dan_writer *w, void *ctx, struct dan_err *e), void *ctx, struct dan_err *e);

#endif
