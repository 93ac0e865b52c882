/* Training text: files and directories -> a stream of documents.
 *
 *   .txt .md .text   one file is one document; lines that are exactly <|endoftext|> separate documents
 *   .jsonl           one line is one document: its "text" field
 *   directory        all of these below it, sorted bytewise, hidden names left out
 *   other names      given by themselves: read as text
 *
 * Documents that hold only white space are left out and counted.  A UTF-8 byte order mark is skipped.
 * Refused with file, line and what to do: missing, empty, binary (a NUL byte, or more than 1 % control
 * characters in the first 64 KiB), UTF-16, compressed, invalid UTF-8, JSONL rows without the field. */
#ifndef DAN_DATA_TEXT_H
#define DAN_DATA_TEXT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/err.h"

struct dan_text_opts {
    const char *field;                         /* JSONL; NULL: "text" */
    bool allow_invalid;                        /* pass invalid UTF-8 on (byte-level tokenizers can take it) */
};

struct dan_text;
/* Finds the files; opens none.  At least one must be found. */
int  dan_text_open(const char *const *paths, size_t n, const struct dan_text_opts *o, struct dan_text **out, struct dan_err *e);
void dan_text_free(struct dan_text *t);
size_t      dan_text_n_files(const struct dan_text *t);
const char *dan_text_file(const struct dan_text *t, size_t i);

struct dan_document {
    const char *p;                             /* not NUL-terminated; valid until the next call */
    size_t  n;                                 /* bytes */
    int64_t index;                             /* 0, 1, ... over the whole corpus */
    const char *file;
    int64_t line;                              /* where it begins, from 1 */
};
/* Is what a file begins with text?  No: DAN_EFORMAT, and what it is, what to do (compressed, UTF-16, Parquet, a Git LFS pointer, binary). */
int  dan_text_check(const char *path, const char *p, size_t n, struct dan_err *e);

/* The next document; doc->p = NULL at the end of the corpus. */
int  dan_text_next(struct dan_text *t, struct dan_document *doc, struct dan_err *e);
void dan_text_rewind(struct dan_text *t);

struct dan_text_stats { int64_t docs, bytes, blank, longest; };   /* bytes of all documents; of the longest */
/* Walks the whole corpus once (so every file is checked) and rewinds. */
int  dan_text_count(struct dan_text *t, struct dan_text_stats *out, struct dan_err *e);

#endif
