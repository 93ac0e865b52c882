#ifndef DAN_CLI_INSPECT_FILE_H
#define DAN_CLI_INSPECT_FILE_H
#include "cli/cmd.h"

/* Everything that a file or folder holds, as far as it is good; then fails with what is damaged. */
int inspect_file(struct dan_cli *cli, const char *path, struct dan_err *e);

#endif
