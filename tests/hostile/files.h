/* Files that want to do harm, each made by a few lines.  README.md says where each comes from. */
#ifndef DAN_HOSTILE_FILES_H
#define DAN_HOSTILE_FILES_H
#include <stdbool.h>
#include <stddef.h>

enum hostile_reader { AS_GGUF, AS_WEIGHTS, AS_TOKENIZER, AS_ENCODER, AS_TEMPLATE };      /* AS_ENCODER: a tokenizer that loads, and then a text */
struct hostile_file {
    const char *name;                          /* of the file, or of the folder that holds it: the advisory */
    enum hostile_reader reader;
    const char *says;                          /* what the refusal must say; NULL: it may load, and does no harm */
};
/* The i-th; NULL at the end. */
const struct hostile_file *hostile_file(size_t i);
/* Makes it below dir; the path that is to be opened goes to path[n].  False when this file system cannot hold it. */
bool hostile_make(size_t i, const char *dir, char *path, size_t n);

/* Files that are none of what a command expects. */
const char *odd_name(size_t i);                /* NULL at the end */
bool odd_make(size_t i, const char *path);     /* false when it cannot be made here (no such device, running as root) */

#endif
