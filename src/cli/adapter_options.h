/* --adapter DIR[:WEIGHT]: adapters over a model that is opened for use. */
#ifndef DAN_CLI_ADAPTER_OPTIONS_H
#define DAN_CLI_ADAPTER_OPTIONS_H
#include "cli/lm_open.h"
#include "model/lora.h"

#define DAN_ADAPTER_OPTION(owner)                                                                                                     \
    {.name = "adapter", .type = 'S', .offset = offsetof(owner, adapters), .meta = "DIR[:W]", .alias = "lora|lora-adapter",            \
     .help = "adapters over the model (PEFT folders or .gguf), each with weight W (1); several add up"}

/* "DIR:0.5" -> DIR, 0.5; a path that exists as it stands has weight 1.  path: from the arena. */
int  adapter_spec(struct dan_arena *a, const char *spec, const char **path, double *weight, struct dan_err *e);
/* The adapter's name: the last part of its path, without what names may not hold; a number behind it when the model has that name already. */
void adapter_name(const struct dan_lm *lm, const char *path, char out[sizeof((struct dan_adapter *)0)->name]);
/* Loads them into m->lm, on, their scales times their weights. */
int  adapters_load(struct dan_cli *cli, struct lm_files *m, const struct dan_strings *specs, struct dan_err *e);
/* For who talks: one adapter's own chat template becomes that of m->tok; of several, which may differ, none does, and that is said. */
int  adapters_template(struct dan_cli *cli, struct lm_files *m, const struct dan_strings *specs, struct dan_err *e);

/* "off", or names as "a b:0.5": slot 0 of the session is fed with these alone from now on.  "": nothing changes.  *say: what there is, or what is on. */
int  adapters_switch(struct dan_session *s, const struct dan_lm *lm, const char *words, struct dan_str *say, struct dan_err *e);

#endif
