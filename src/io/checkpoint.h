/* Checkpoints: directories that are whole or not there.
 *
 *   OUT/checkpoints/step-000123/  tensors.safetensors  state.json  manifest.json
 *
 * Written as a hidden sibling .tmp-step-000123-PID: files first (fsync), the manifest with every
 * file's size and CRC-32 last, then rename, then fsync of the parent.  A kill at any moment leaves the
 * older checkpoints and at most one .tmp- directory, which the next save removes. */
#ifndef DAN_IO_CHECKPOINT_H
#define DAN_IO_CHECKPOINT_H
#include "core/buffer.h"
#include "base/str.h"

/* Writes DIR ("OUT/checkpoints/step-000123"; parents are made).  state_json: one JSON object.  An
 * existing DIR is replaced.  Disk full: the message says how many bytes were needed and how many are
 * free; the temporary directory is removed. */
int dan_checkpoint_save(const char *dir, const struct dan_store *tensors, const char *state_json, struct dan_err *e);

/* Verifies sizes and checksums, then opens.  Tensors are read-only views of the file (see
 * dan_store_restore in io/safetensors.h); *state_json is freed with dan_free.  The message of a damaged
 * checkpoint names the file, what was expected and found, and what to do. */
int dan_checkpoint_load(const char *dir, struct dan_store **tensors, char **state_json, struct dan_err *e);
int dan_checkpoint_verify(const char *dir, struct dan_err *e);

/* The newest checkpoint of OUT/checkpoints that verifies -> *path.  Broken ones are skipped, each with
 * a line in *skipped (may be NULL).  None there: DAN_OK and an empty path.  All broken: an error. */
int dan_checkpoint_latest(const char *out_dir, struct dan_str *path, struct dan_str *skipped, struct dan_err *e);

/* Removes all but the newest `keep` (>= 1) of OUT/checkpoints, and left-over .tmp- directories. */
int dan_checkpoint_prune(const char *out_dir, int keep, struct dan_err *e);

/* "OUT/checkpoints/step-000123" */
void dan_checkpoint_path(const char *out_dir, int64_t step, struct dan_str *path);

#endif
