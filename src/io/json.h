/* What the JSON readers of this room share: strict parsing with limits and messages that name the
 * file.  JSON itself is jansson's. */
#ifndef DAN_IO_JSON_H
#define DAN_IO_JSON_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/err.h"
#include "base/str.h"

enum { DAN_JSON_MAX_DEPTH = 64 };

/* Parses one JSON object.  Refuses nesting deeper than max_depth (before jansson recurses), keys that
 * occur twice and trailing bytes (`path` is for the message only).  Release with json_decref. */
int dan_json_parse(const char *path, const char *bytes, size_t n, int max_depth, json_t **out, struct dan_err *e);
int dan_json_read(const char *path, json_t **out, struct dan_err *e);                 /* a file that holds one object */
int dan_json_write(const char *path, const json_t *j, struct dan_err *e);             /* atomic, indented, ends with a newline */

int dan_json_text(const json_t *j, struct dan_str *out);                              /* compact; -1: out of memory */

/* n bytes as a JSON string; each byte that is no UTF-8 (models of bytes say it, answers that were cut end in it) becomes U+FFFD.  NULL: out of memory. */
json_t *dan_json_string_of(const char *p, size_t n);

/* Looks a key up; dots descend: "rope_parameters.rope_theta".  NULL when absent or JSON null. */
json_t *dan_json_at(const json_t *object, const char *dotted);
/* A JSON number with an integral value.  False when it is none or out of int64. */
bool dan_json_int(const json_t *j, int64_t *out);

/* DIR/NAME, or NAME alone when dir is empty.  Check out->failed at the end. */
void dan_path_join(struct dan_str *out, const char *dir, const char *name);

#endif
