/* Shared by the files that implement file.h. */
#ifndef DAN_BASE_FILE_ERROR_H
#define DAN_BASE_FILE_ERROR_H
#include "base/err.h"

/* "cannot VERB 'PATH': REASON; HINT".  Returns DAN_EIO, or DAN_ENOMEM for ENOMEM. */
int dan_fail_errno(struct dan_err *e, const char *verb, const char *path, int why);

/* Makes a rename or a new name in the directory of `path` durable. */
int dan_sync_parent(const char *path, struct dan_err *e);

#endif
