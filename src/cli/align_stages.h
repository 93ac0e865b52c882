/* The stages of danlu align. */
#ifndef DAN_CLI_ALIGN_STAGES_H
#define DAN_CLI_ALIGN_STAGES_H
#include "cli/cmd.h"

struct align_opts {
    const char *model, *method, *template, *out;
    struct dan_strings sft, pairs, prompts, ptx, forget, reward, set;
    int64_t lora_rank;
};
struct align {
    const struct align_opts *o;
    struct dan_cli *cli;
    const char *model;                         /* what the next stage begins with */
    json_t *stages;                            /* [{"stage", "command", "folder", "seconds", "report"}] */
};
const char *align_method(const struct align_opts *o);            /* auto is resolved */
struct align_kind {
    const char *name, *command;                /* as --set calls the stage; what it runs */
    const char *methods;                       /* those that run it, "ppo|grpo"; NULL: all */
    uint16_t    data;                          /* offset in align_opts of the dan_strings without which it does not run; 0: none */
    const char *give;                          /* how these are given */
};
const struct align_kind *align_kind(const char *name, size_t n); /* NULL: there is none */
/* --set names stages that run, options that these have, and values that fit. */
int  align_check_set(const struct align *a, struct dan_err *e);
/* All stages; a->model is the last one's. */
int  align_run(struct align *a, struct dan_err *e);

/* A row for each stage. */
void align_table(const json_t *stages, int width, bool colour, struct dan_str *out);
/* OUT/report.html; samples may be NULL. */
int  align_page(const char *title, const char *dir, const struct dan_str *text, const json_t *stages, const json_t *samples, struct dan_err *e);

#endif
