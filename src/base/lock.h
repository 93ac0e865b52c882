/* One program at a time in a directory. */
#ifndef DAN_BASE_LOCK_H
#define DAN_BASE_LOCK_H
#include "base/err.h"

/* Keeps a directory for this program, until dan_unlock_dir or its end: two that write into one place would mix their files.  Held by another:
 * DAN_EINVAL.  *lock: 0 where nothing is held, also on file systems without locks. */
int  dan_lock_dir(const char *path, int *lock, struct dan_err *e);
void dan_unlock_dir(int *lock);

#endif
