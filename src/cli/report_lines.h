/* What warnings and reports of several commands say alike. */
#ifndef DAN_CLI_REPORT_LINES_H
#define DAN_CLI_REPORT_LINES_H
#include "align/sft.h"
#include "cli/cmd.h"

/* "N of M rows were skipped: 2 too long, ...", with what was told of the first few; nothing where none was.  skipped[n] by reason, names[n]. */
void report_skipped(struct dan_ui *ui, int64_t rows, const int64_t *skipped, const char *const *names, int n, const struct dan_str *told);
/* other: what rows of another kind are called; NULL: as dan_skip_name does. */
void report_skipped_rows(struct dan_ui *ui, const struct dan_sft_data *d, const char *other);
/* How the mean loss of sequences changed, with its error: j[key], and a line that begins with `what` in `width` columns.  Nothing without sequences. */
void report_change(json_t *j, struct dan_str *text, const char *key, const char *what, int width, const struct dan_sft_data *d, const double *before, const double *after);

#endif
