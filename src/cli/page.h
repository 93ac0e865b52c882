/* DIR/report.html: one page of a run, without scripts and with nothing from outside. */
#ifndef DAN_CLI_PAGE_H
#define DAN_CLI_PAGE_H
#include <jansson.h>
#include "base/err.h"
#include "base/str.h"

void page_begin(struct dan_str *out, const char *title);
void page_heading(struct dan_str *out, const char *text);
void page_text(struct dan_str *out, const char *text, size_t n);           /* as it is in a terminal */
/* [{"prompt", "before", "after", ...}] as a table; NULL: none. */
void page_samples(struct dan_str *out, const json_t *samples);
/* A curve for every number in DIR/log.jsonl. */
int  page_curves(struct dan_str *out, const char *dir, struct dan_err *e);
/* [{"predicted", "observed"}] in rising order, beside the diagonal; NULL: none. */
int  page_calibration(struct dan_str *out, const json_t *bins, struct dan_err *e);
int  page_write(struct dan_str *out, const char *dir, struct dan_err *e);  /* ends it */

#endif
