#include "io/runs.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"

struct dan_runs { sqlite3 *db; char path[4096]; };

enum { SCHEMA = 1, BUSY_MS = 5000 };

/* pid_start tells a process from a later one with the same number. */
static const char create_sql[] =
    "CREATE TABLE IF NOT EXISTS runs("
    "id INTEGER PRIMARY KEY AUTOINCREMENT, started INTEGER NOT NULL, ended INTEGER NOT NULL DEFAULT 0,"
    "pid INTEGER NOT NULL, pid_start INTEGER NOT NULL, command TEXT NOT NULL, dir TEXT, model TEXT, status TEXT NOT NULL,"
    "recipe TEXT, version TEXT, host TEXT, cpu TEXT, steps INTEGER NOT NULL DEFAULT 0, params INTEGER NOT NULL DEFAULT 0,"
    "tokens INTEGER NOT NULL DEFAULT 0, seed INTEGER NOT NULL DEFAULT 0, final_loss REAL, val_loss REAL);"
    "PRAGMA user_version=1;";

#define COLUMNS "id,started,ended,pid,pid_start,command,dir,model,status,recipe,version,host,cpu," \
    "steps,params,tokens,seed,final_loss,val_loss"

static int db_fail(const struct dan_runs *r, struct dan_err *e)
{
    int code = sqlite3_errcode(r->db) & 0xff;
    const char *do_this = code == SQLITE_FULL ? "free disk space" : code == SQLITE_BUSY ? "another program holds it; try again"
                        : code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? "move the file away, a new one is made"
                        : "check its permissions, or set DANLU_HOME to another folder";
    return dan_fail(e, DAN_EIO, "runs database '%s': %s; %s", r->path, sqlite3_errmsg(r->db), do_this);
}

static int exec(struct dan_runs *r, const char *sql, struct dan_err *e)
{
    return sqlite3_exec(r->db, sql, NULL, NULL, NULL) == SQLITE_OK ? DAN_OK : db_fail(r, e);
}

static int prepare(struct dan_runs *r, const char *sql, sqlite3_stmt **s, struct dan_err *e)
{
    return sqlite3_prepare_v2(r->db, sql, -1, s, NULL) == SQLITE_OK ? DAN_OK : db_fail(r, e);
}

/* Runs a statement that returns no rows, and frees it. */
static int finish_step(struct dan_runs *r, sqlite3_stmt *s, struct dan_err *e)
{
    int rc = sqlite3_step(s) == SQLITE_DONE ? DAN_OK : db_fail(r, e);
    sqlite3_finalize(s);
    return rc;
}

static int user_version(struct dan_runs *r, int *version, struct dan_err *e)
{
    sqlite3_stmt *s;
    int rc = prepare(r, "PRAGMA user_version", &s, e);
    if (rc)
        return rc;
    rc = sqlite3_step(s) == SQLITE_ROW ? DAN_OK : db_fail(r, e);
    *version = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    return rc;
}

/* Two first starts at once: the lock makes one wait, and then find the table. */
static int create(struct dan_runs *r, struct dan_err *e)
{
    int version = 0, rc = user_version(r, &version, e);
    if (!rc && version > SCHEMA)
        return dan_fail(e, DAN_EFORMAT, "runs database '%s' was written by a newer danlu (layout %d, this one knows %d); "
                        "update danlu or set DANLU_HOME to another folder", r->path, version, SCHEMA);
    if (rc || version == SCHEMA)
        return rc;
    rc = exec(r, "BEGIN IMMEDIATE", e);
    if (!rc)
        rc = exec(r, create_sql, e);
    if (!rc)
        rc = exec(r, "COMMIT", e);
    else
        sqlite3_exec(r->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

static int open_db(struct dan_runs *r, struct dan_err *e)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    if (sqlite3_open_v2(r->path, &r->db, flags, NULL) != SQLITE_OK)
        return db_fail(r, e);
    sqlite3_busy_timeout(r->db, BUSY_MS);
    int rc = create(r, e);
    /* Where the file system cannot do WAL (some network mounts) SQLite keeps its old journal: also safe. */
    if (!rc)
        sqlite3_exec(r->db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL", NULL, NULL, NULL);
    return rc;
}

int dan_runs_open(const char *home, struct dan_runs **out, struct dan_err *e)
{
    *out = NULL;
    if (!home)
        return dan_fail(e, DAN_EINVAL, "no folder for the runs database; set DANLU_HOME to one");
    int rc = dan_mkdirs(home, e);
    if (rc)
        return rc;
    struct dan_runs *r = dan_calloc(1, sizeof *r);
    if (!r)
        return dan_fail(e, DAN_ENOMEM, "out of memory for the runs database; close other programs");
    if (snprintf(r->path, sizeof r->path, "%s/runs.db", home) >= (int)sizeof r->path)
        rc = dan_fail(e, DAN_EINVAL, "path too long: DANLU_HOME '%.200s...'; choose a shorter one", home);
    else
        rc = open_db(r, e);
    if (rc)
        dan_runs_close(r);
    else
        *out = r;
    return rc;
}

void dan_runs_close(struct dan_runs *r)
{
    if (!r)
        return;
    sqlite3_close(r->db);
    dan_free(r);
}

/* Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat); 0 unknown. */
static int64_t process_start(int64_t pid)
{
    char path[64], *bytes, *p;
    size_t n;
    long long start = 0;
    snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
    if (dan_read_file(path, &bytes, &n, NULL))
        return 0;
    p = strrchr(bytes, ')');                   /* field 2, the name, may hold blanks and brackets */
    for (int field = 2; p && field < 22; field++)
        p = strchr(p + 1, ' ');
    if (p)
        start = strtoll(p, NULL, 10);
    dan_free(bytes);
    return start;
}

static void host_name(char *out, size_t n)
{
    if (gethostname(out, n))
        out[0] = 0;
    out[n - 1] = 0;
}

/* On another host (a shared home) one cannot know: believed. */
static bool still_there(int64_t pid, int64_t pid_start, const char *host)
{
    char here[256];
    host_name(here, sizeof here);
    if (strcmp(here, host))
        return true;
    int64_t now = process_start(pid);
    if (now && pid_start)
        return now == pid_start;
    return kill((pid_t)pid, 0) == 0 || errno == EPERM;
}

static void bind_loss(sqlite3_stmt *s, int i, double loss)
{
    if (isfinite(loss))
        sqlite3_bind_double(s, i, loss);
    else
        sqlite3_bind_null(s, i);
}

static void bind_text(sqlite3_stmt *s, int i, const char *text)
{
    sqlite3_bind_text(s, i, text, -1, SQLITE_TRANSIENT);       /* NULL binds NULL */
}

int dan_runs_start(struct dan_runs *r, const struct dan_run *run, int64_t *id, struct dan_err *e)
{
    sqlite3_stmt *s;
    char host[256];
    if (!r)
        return DAN_OK;
    int rc = prepare(r, "INSERT INTO runs(started,pid,pid_start,command,dir,model,status,recipe,version,host,cpu,steps,params,tokens,"
                        "seed,final_loss,val_loss) VALUES(?,?,?,?,?,?,'running',?,?,?,?,?,?,?,?,?,?)", &s, e);
    if (rc)
        return rc;
    host_name(host, sizeof host);
    sqlite3_bind_int64(s, 1, dan_unix_time());
    sqlite3_bind_int64(s, 2, getpid());
    sqlite3_bind_int64(s, 3, process_start(getpid()));
    const char *text[] = {run->command ? run->command : "", run->dir, run->model, run->recipe, run->version, host, run->cpu};
    for (int i = 0; i < 7; i++)
        bind_text(s, 4 + i, text[i]);
    const int64_t number[] = {run->steps, run->params, run->tokens, run->seed};
    for (int i = 0; i < 4; i++)
        sqlite3_bind_int64(s, 11 + i, number[i]);
    bind_loss(s, 15, run->final_loss);
    bind_loss(s, 16, run->val_loss);
    rc = finish_step(r, s, e);
    if (!rc)
        *id = sqlite3_last_insert_rowid(r->db);
    return rc;
}

static int no_run(const struct dan_runs *r, int64_t id, struct dan_err *e)
{
    return dan_fail(e, DAN_EINVAL, "no run %lld in '%s'; 'danlu runs' lists them", (long long)id, r->path);
}

int dan_runs_update(struct dan_runs *r, int64_t id, const struct dan_run *run, struct dan_err *e)
{
    sqlite3_stmt *s;
    if (!r)
        return DAN_OK;
    int rc = prepare(r, "UPDATE runs SET steps=?,tokens=?,params=?,final_loss=?,val_loss=? WHERE id=?", &s, e);
    if (rc)
        return rc;
    sqlite3_bind_int64(s, 1, run->steps);
    sqlite3_bind_int64(s, 2, run->tokens);
    sqlite3_bind_int64(s, 3, run->params);
    bind_loss(s, 4, run->final_loss);
    bind_loss(s, 5, run->val_loss);
    sqlite3_bind_int64(s, 6, id);
    rc = finish_step(r, s, e);
    return rc ? rc : sqlite3_changes(r->db) ? DAN_OK : no_run(r, id, e);
}

int dan_runs_finish(struct dan_runs *r, int64_t id, const char *status, struct dan_err *e)
{
    sqlite3_stmt *s;
    if (!r)
        return DAN_OK;
    int rc = prepare(r, "UPDATE runs SET status=?,ended=? WHERE id=?", &s, e);
    if (rc)
        return rc;
    bind_text(s, 1, status);
    sqlite3_bind_int64(s, 2, dan_unix_time());
    sqlite3_bind_int64(s, 3, id);
    rc = finish_step(r, s, e);
    return rc ? rc : sqlite3_changes(r->db) ? DAN_OK : no_run(r, id, e);
}

static const char *column_text(sqlite3_stmt *s, int i, struct dan_arena *a)
{
    const char *t = (const char *)sqlite3_column_text(s, i);
    t = dan_arena_strdup(a, t ? t : "");
    return t ? t : "";
}

static double column_loss(sqlite3_stmt *s, int i)
{
    return sqlite3_column_type(s, i) == SQLITE_NULL ? NAN : sqlite3_column_double(s, i);
}

/* Order of COLUMNS. */
static void read_row(sqlite3_stmt *s, struct dan_arena *a, struct dan_run *run)
{
    int64_t pid_start = sqlite3_column_int64(s, 4);
    *run = (struct dan_run){
        .id = sqlite3_column_int64(s, 0), .started = sqlite3_column_int64(s, 1), .ended = sqlite3_column_int64(s, 2),
        .pid = sqlite3_column_int64(s, 3), .command = column_text(s, 5, a), .dir = column_text(s, 6, a),
        .model = column_text(s, 7, a), .status = column_text(s, 8, a), .recipe = column_text(s, 9, a),
        .version = column_text(s, 10, a), .host = column_text(s, 11, a), .cpu = column_text(s, 12, a),
        .steps = sqlite3_column_int64(s, 13), .params = sqlite3_column_int64(s, 14), .tokens = sqlite3_column_int64(s, 15),
        .seed = sqlite3_column_int64(s, 16), .final_loss = column_loss(s, 17), .val_loss = column_loss(s, 18),
    };
    if (!strcmp(run->status, "running") && !still_there(run->pid, pid_start, run->host))
        run->status = "interrupted";
}

static int count(struct dan_runs *r, int64_t *n, struct dan_err *e)
{
    sqlite3_stmt *s;
    int rc = prepare(r, "SELECT count(*) FROM runs", &s, e);
    if (rc)
        return rc;
    rc = sqlite3_step(s) == SQLITE_ROW ? DAN_OK : db_fail(r, e);
    *n = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return rc;
}

int dan_runs_list(struct dan_runs *r, int64_t limit, struct dan_arena *a, struct dan_run **runs, size_t *n, struct dan_err *e)
{
    sqlite3_stmt *s;
    int64_t rows = 0;
    int step = SQLITE_DONE;
    *n = 0;
    *runs = NULL;
    if (!r)
        return DAN_OK;
    int rc = count(r, &rows, e);
    if (rc || (rc = prepare(r, "SELECT " COLUMNS " FROM runs ORDER BY id DESC LIMIT ?", &s, e)))
        return rc;
    if (limit > 0 && limit < rows)
        rows = limit;
    sqlite3_bind_int64(s, 1, rows);
    *runs = dan_arena_alloc(a, ((size_t)rows + 1) * sizeof **runs);
    while (*runs && (int64_t)*n < rows && (step = sqlite3_step(s)) == SQLITE_ROW)
        read_row(s, a, &(*runs)[(*n)++]);
    if (!*runs)
        rc = dan_fail(e, DAN_ENOMEM, "out of memory for %lld runs; ask for fewer with '--limit'", (long long)rows);
    else if (step != SQLITE_ROW && step != SQLITE_DONE)
        rc = db_fail(r, e);
    sqlite3_finalize(s);
    return rc;
}

int dan_runs_get(struct dan_runs *r, int64_t id, struct dan_arena *a, struct dan_run *run, struct dan_err *e)
{
    sqlite3_stmt *s;
    if (!r)
        return dan_fail(e, DAN_EINVAL, "no runs database; set DANLU_HOME to a folder");
    int rc = prepare(r, "SELECT " COLUMNS " FROM runs WHERE id=?", &s, e);
    if (rc)
        return rc;
    sqlite3_bind_int64(s, 1, id);
    int step = sqlite3_step(s);
    if (step == SQLITE_ROW)
        read_row(s, a, run);
    else
        rc = step == SQLITE_DONE ? no_run(r, id, e) : db_fail(r, e);
    sqlite3_finalize(s);
    return rc;
}

static int delete_row(struct dan_runs *r, int64_t id, struct dan_err *e)
{
    sqlite3_stmt *s;
    int rc = prepare(r, "DELETE FROM runs WHERE id=?", &s, e);
    if (rc)
        return rc;
    sqlite3_bind_int64(s, 1, id);
    return finish_step(r, s, e);
}

int dan_runs_remove(struct dan_runs *r, int64_t id, struct dan_err *e)
{
    struct dan_run run;
    struct dan_arena *a = dan_arena_new();
    if (!a)
        return dan_fail(e, DAN_ENOMEM, "out of memory for the runs database; close other programs");
    int rc = dan_runs_get(r, id, a, &run, e);
    if (!rc && !strcmp(run.status, "running"))
        rc = dan_fail(e, DAN_EINVAL, "run %lld is still running (process %lld); stop it first", (long long)id, (long long)run.pid);
    if (!rc)
        rc = delete_row(r, id, e);
    dan_arena_free(a);
    return rc;
}
