#ifndef DAN_CLI_INSPECT_H
#define DAN_CLI_INSPECT_H
#include "cli/cmd.h"

struct inspect_fusion { const char *model, *rules, *html, *mode, *dtype; bool profile; int64_t rows; };     /* dtype, mode: as typed */
int inspect_fusion(struct dan_cli *cli, const struct inspect_fusion *o, struct dan_err *e);
int inspect_ops(struct dan_cli *cli, struct dan_err *e);

#endif
