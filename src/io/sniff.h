/* What kind of file a path is, by its first bytes, not by its name. */
#ifndef DAN_IO_SNIFF_H
#define DAN_IO_SNIFF_H
#include <stddef.h>
#include "base/err.h"

enum dan_file_kind {
    DAN_FILE_UNKNOWN, DAN_FILE_EMPTY, DAN_FILE_DIR, DAN_FILE_GGUF, DAN_FILE_SAFETENSORS, DAN_FILE_LLAMA2C, DAN_FILE_JSON, DAN_FILE_TEXT,
    DAN_FILE_LFS_POINTER, DAN_FILE_HTML, DAN_FILE_ZIP, DAN_FILE_PICKLE, DAN_FILE_GZIP, DAN_FILE_ZSTD, DAN_FILE_OLD_GGML, DAN_FILE_HDF5, DAN_FILE_NPY,
};
/* Fails when the path cannot be read (a pipe, nothing there). */
int dan_file_kind(const char *path, enum dan_file_kind *out, struct dan_err *e);
const char *dan_file_kind_name(enum dan_file_kind k);      /* "a Git LFS pointer" */
const char *dan_file_kind_advice(enum dan_file_kind k);    /* what to do about it; NULL: danlu reads it */

#endif
