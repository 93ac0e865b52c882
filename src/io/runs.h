/* The runs database: one row per training run in HOME/runs.db (SQLite, WAL, safe for several
 * processes at once).  A broken database must not end a run: callers warn and go on; every
 * function accepts r = NULL and then does nothing. */
#ifndef DAN_IO_RUNS_H
#define DAN_IO_RUNS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/arena.h"
#include "base/err.h"

struct dan_run {
    int64_t id, started, ended;                /* unix seconds; ended 0: not yet */
    int64_t pid;
    const char *command, *dir, *model;         /* "train"; the run's folder; family or base model */
    const char *status;                        /* running finished failed interrupted */
    const char *recipe;                        /* JSON text of the resolved options */
    const char *version, *host, *cpu;
    int64_t steps, params, tokens, seed;       /* tokens seen in training */
    double  final_loss, val_loss;              /* nats per token; NAN: unknown */
};

struct dan_runs;
/* Creates the folder and the file when missing.  home NULL: fails with what to set. */
int  dan_runs_open(const char *home, struct dan_runs **out, struct dan_err *e);
void dan_runs_close(struct dan_runs *r);

/* Stores `run` as running now in this process (id, started, ended, pid, host and status are filled here);
 * *id names it from then on. */
int  dan_runs_start(struct dan_runs *r, const struct dan_run *run, int64_t *id, struct dan_err *e);
/* Stores steps, tokens, params, final_loss and val_loss of `run`. */
int  dan_runs_update(struct dan_runs *r, int64_t id, const struct dan_run *run, struct dan_err *e);
/* status: finished, failed or interrupted */
int  dan_runs_finish(struct dan_runs *r, int64_t id, const char *status, struct dan_err *e);

/* Newest first, at most `limit` (0: all); strings live in `a`.  A running entry whose process is gone
 * (on this host) is given as interrupted. */
int  dan_runs_list(struct dan_runs *r, int64_t limit, struct dan_arena *a, struct dan_run **runs, size_t *n, struct dan_err *e);
int  dan_runs_get(struct dan_runs *r, int64_t id, struct dan_arena *a, struct dan_run *run, struct dan_err *e);
/* Takes the row out; the run's folder stays.  A run that is still going is refused. */
int  dan_runs_remove(struct dan_runs *r, int64_t id, struct dan_err *e);

#endif
