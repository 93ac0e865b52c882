/* A run's log.jsonl as columns of numbers. */
#ifndef DAN_CLI_RUN_LOG_H
#define DAN_CLI_RUN_LOG_H
#include <stddef.h>
#include "base/str.h"

struct log_column { char *key; double *step, *y; size_t n, cap, step_cap; };   /* step: the line's "step", or its number */
struct run_log { struct log_column *v; size_t n, cap; };
/* Every key with a number, in order of first appearance, "step" itself not.  Lines that are no JSON objects are passed over; no file gives no columns.
 * -1: out of memory. */
int  run_log_read(const char *dir, struct run_log *out);
void run_log_release(struct run_log *l);
/* What people look at first: the column is worth a curve in a terminal; its title, or NULL. */
const char *run_log_title(const char *key);

#endif
