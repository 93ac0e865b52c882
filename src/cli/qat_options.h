/* --qat and its kin, for every command that trains: the options, what they mean, and the folder of integers at the end. */
#ifndef DAN_CLI_QAT_OPTIONS_H
#define DAN_CLI_QAT_OPTIONS_H
#include "cli/cmd.h"
#include "train/qat.h"

struct qat_cli { const char *scheme, *method, *inputs; int64_t start, group; double freeze, rate; bool head; };

#define DAN_QAT_METHOD_OPTIONS(owner, field)                                                                                             \
    {.name = "qat-method", .type = 'e', .offset = offsetof(owner, field.method), .dflt = "ste",                                          \
     .choices = "ste|clipped-ste|pact|lsq|dsq|dsq-soft|quantnoise", .help = "ste for 8 and 4 bits, lsq or clipped-ste below"},            \
    {.name = "qat-group", .type = 'i', .offset = offsetof(owner, field.group), .dflt = "-1", .meta = "N", .min = -1, .max = 128,          \
     .help = "weights that share a scale: 0 a row or 32 at 8 bits; 32, 64 or 128 below (-1: 0 or 32)"},                                  \
    {.name = "qat-freeze", .type = 'f', .offset = offsetof(owner, field.freeze), .dflt = "0.1", .meta = "F", .min = 0, .max = 1,          \
     .help = "last part of the steps, in which learned scales rest"},                                                                    \
    {.name = "qat-rate", .type = 'f', .offset = offsetof(owner, field.rate), .dflt = "0.5", .meta = "P", .min = 0, .max = 1,              \
     .help = "quantnoise: part of the weights that a step rounds"}
#define DAN_QAT_OPTIONS(owner, field)                                                                                                    \
    {.name = "qat", .type = 'e', .offset = offsetof(owner, field.scheme), .dflt = "off", .choices = "off|w8a8|w8|w4a8|w4|w3|w2|w4a4",     \
     .section = "Quantisation while training", .help = "bits of weights and inputs that products train with"},                           \
    DAN_QAT_METHOD_OPTIONS(owner, field),                                                                                                \
    {.name = "qat-start", .type = 'i', .offset = offsetof(owner, field.start), .dflt = "0", .meta = "STEP", .min = 0, .max = 1e12,        \
     .help = "first step with rounding; float before"},                                                                                  \
    {.name = "qat-inputs", .type = 'e', .offset = offsetof(owner, field.inputs), .dflt = "dynamic", .choices = "dynamic|static",          \
     .help = "scales of products' inputs: from each row, or one that is observed and (pact, lsq, dsq) learned"},                         \
    {.name = "qat-head", .type = 'b', .offset = offsetof(owner, field.head), .help = "round the output head too (needs --tied false)"}

/* What changes the meaning of a run's state. */
#define DAN_QAT_FIXED "qat", "qat-method", "qat-start", "qat-group", "qat-inputs", "qat-head"

/* off unless --qat says something; fails on combinations that make no sense or have no format to be exported to. */
int qat_options(struct dan_cli *cli, const struct qat_cli *o, struct dan_qat_opts *out, struct dan_err *e);
/* Writes DIR/quantised: the weights as integers, with the tokenizer files of DIR beside them. */
int qat_save(struct dan_cli *cli, const struct dan_lm *lm, const struct dan_qat_opts *q, const char *dir, bool tell, struct dan_err *e);

#endif
