/* Text in pages. */
#ifndef DAN_IO_HTML_H
#define DAN_IO_HTML_H
#include "base/str.h"

/* Text with &, <, > and quotes as HTML and XML want them.  _line: of one line, in which control characters, which XML does not allow, are spaces. */
void dan_html_put(const char *s, size_t n, struct dan_str *out);
void dan_html_line(const char *s, struct dan_str *out);

#endif
