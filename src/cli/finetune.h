#ifndef DAN_CLI_FINETUNE_H
#define DAN_CLI_FINETUNE_H
#include "cli/cmd.h"

extern const struct dan_cmd finetune_cmd_merge, finetune_cmd_unmerge, finetune_cmd_stack;    /* finetune_adapters.c */

#endif
