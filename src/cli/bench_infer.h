/* `danlu bench infer`, a part of cmd_bench.c. */
#ifndef DAN_CLI_BENCH_INFER_H
#define DAN_CLI_BENCH_INFER_H
#include "cli/cmd.h"

extern const struct dan_cmd bench_infer_cmd;

#endif
