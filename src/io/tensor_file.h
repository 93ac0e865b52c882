/* What writers of tensor files share. */
#ifndef DAN_IO_TENSOR_FILE_H
#define DAN_IO_TENSOR_FILE_H
#include "base/file.h"
#include "core/tensor.h"

/* The elements in order, also of a view. */
int dan_put_tensor(struct dan_writer *w, const struct dan_tensor *t, struct dan_err *e);
/* Asked before writing: half a file would only fill the disk. */
int dan_check_space(const char *path, int64_t need, struct dan_err *e);
/* Calls put(w, ctx) on a temporary file beside PATH, then renames it: PATH is whole or as it was. */
int dan_write_whole(const char *path, int (*put)(struct dan_writer *w, void *ctx, struct dan_err *e), void *ctx, struct dan_err *e);

#endif
