/* A program that runs beside danlu and answers lines with lines: an external reward. */
#ifndef DAN_BASE_CHILD_H
#define DAN_BASE_CHILD_H
#include "base/err.h"
#include "base/str.h"

struct dan_child;
/* Starts `command` by /bin/sh, with its standard input and output connected; its standard error is ours. */
int  dan_child_start(const char *command, struct dan_child **out, struct dan_err *e);
/* Sends n bytes (whole lines) and appends what comes back to `out` until that has `lines` more lines.  The program may answer while
 * it still reads.  Fails when it ends before, says nothing for `seconds`, answers more than it was asked or over 64 MiB. */
int  dan_child_ask(struct dan_child *c, const char *p, size_t n, size_t lines, double seconds, struct dan_str *out, struct dan_err *e);
/* Closes its input, waits a moment, then ends it.  NULL is fine. */
void dan_child_stop(struct dan_child *c);

#endif
