#ifndef DAN_CLI_INSPECT_H
#define DAN_CLI_INSPECT_H
#include "cli/cmd.h"

int inspect_ops(struct dan_cli *cli, struct dan_err *e);

#endif
