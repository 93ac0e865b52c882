/* Files.  Every failure names the path, the system's reason and what to do. */
#ifndef DAN_BASE_FILE_H
#define DAN_BASE_FILE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

struct dan_mapping { const char *p; size_t n; };               /* read-only view of a file */
int  dan_map_file(const char *path, struct dan_mapping *out, struct dan_err *e);   /* empty file: p = "", n = 0 */
void dan_unmap_file(struct dan_mapping *m);
/* NUL-terminated; dan_free.  At most 1 GiB, or 64 MiB of what is no regular file; a pipe that nobody opens for writing is an error
 * after half a second. */
int  dan_read_file(const char *path, char **bytes, size_t *n, struct dan_err *e);

/* CRC-32 and size of a file, read in pieces: a mapping would count as resident memory. */
int  dan_file_crc(const char *path, uint32_t *crc, int64_t *bytes, struct dan_err *e);

/* All or nothing: writes PATH.tmp-PID, fsyncs, renames, fsyncs the directory. */
int  dan_write_file(const char *path, const void *bytes, size_t n, struct dan_err *e);
int  dan_append_file(const char *path, const void *bytes, size_t n, struct dan_err *e);

/* A file being written; errors (disk full) are returned by write and by close. */
struct dan_writer;
int  dan_writer_open(const char *path, struct dan_writer **out, struct dan_err *e);
int  dan_writer_put(struct dan_writer *w, const void *bytes, size_t n, struct dan_err *e);
uint32_t dan_writer_crc(const struct dan_writer *w);            /* CRC-32 of what was put so far */
int  dan_writer_close(struct dan_writer *w, struct dan_err *e); /* flush, fsync, close; frees w always */
void dan_writer_abort(struct dan_writer *w);                    /* close and unlink */

bool dan_path_exists(const char *path);
bool dan_path_is_dir(const char *path);
/* Whether PATH, links followed, lies in DIR itself, or in the blobs of the Hugging Face cache that DIR is a snapshot of.  True when there
 * is no such path. */
bool dan_path_stays(const char *dir, const char *path);
int64_t dan_file_size(const char *path);                        /* -1 when there is none */
int  dan_mkdirs(const char *path, struct dan_err *e);           /* like mkdir -p */
int  dan_rename_dir(const char *from, const char *to, struct dan_err *e);   /* rename + fsync of the parent */
int  dan_remove_tree(const char *path, struct dan_err *e);
/* Names in a directory, sorted bytewise; free each and the list with dan_free_list. */
int  dan_list_dir(const char *path, char ***names, size_t *n, struct dan_err *e);
void dan_free_list(char **names, size_t n);
int64_t dan_disk_free(const char *path);                        /* bytes, -1 unknown */
uint32_t dan_crc32(uint32_t crc, const void *bytes, size_t n);  /* zlib's polynomial; start with 0 */

#endif
