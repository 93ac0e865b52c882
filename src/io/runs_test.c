#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/file.h"
#include "base/sys.h"
#include "io/runs.h"

static char home[64];

static int setup(void **state)
{
    (void)state;
    snprintf(home, sizeof home, "/tmp/danlu-runs-test-%d", (int)getpid());
    return dan_remove_tree(home, NULL), 0;
}

static int teardown(void **state)
{
    (void)state;
    dan_remove_tree(home, NULL);
    return 0;
}

static const struct dan_run sample = {
    .command = "train", .dir = "runs/a'b", .model = "llama", .recipe = "{\"lr\": 0.1}", .version = "0.1.0", .cpu = "a cpu",
    .params = 1000, .seed = 7, .final_loss = NAN, .val_loss = NAN,
};

static void test_life(void **state)
{
    (void)state;
    struct dan_runs *r;
    struct dan_err e = {0};
    struct dan_arena *a = dan_arena_new();
    struct dan_run got, after = sample;
    int64_t id;
    assert_int_equal(dan_runs_open(home, &r, &e), DAN_OK);
    assert_int_equal(dan_runs_start(r, &sample, &id, &e), DAN_OK);
    assert_int_equal(dan_runs_get(r, id, a, &got, &e), DAN_OK);
    assert_string_equal(got.status, "running");
    assert_string_equal(got.dir, "runs/a'b");
    assert_true(isnan(got.final_loss) && got.ended == 0 && got.pid == getpid());
    assert_true(dan_unix_time() - got.started < 10);
    assert_int_equal(dan_runs_remove(r, id, &e), DAN_EINVAL);  /* it is running: this process */
    e = (struct dan_err){0};
    after.steps = 100;
    after.tokens = 6400;
    after.final_loss = 2.5;
    after.val_loss = 2.75;
    assert_int_equal(dan_runs_update(r, id, &after, &e), DAN_OK);
    assert_int_equal(dan_runs_finish(r, id, "finished", &e), DAN_OK);
    dan_runs_close(r);
    assert_int_equal(dan_runs_open(home, &r, &e), DAN_OK);     /* and it is on disk */
    assert_int_equal(dan_runs_get(r, id, a, &got, &e), DAN_OK);
    assert_string_equal(got.status, "finished");
    assert_string_equal(got.recipe, "{\"lr\": 0.1}");
    assert_true(got.final_loss == 2.5 && got.val_loss == 2.75 && got.steps == 100 && got.tokens == 6400 && got.params == 1000);
    assert_true(got.ended >= got.started && got.seed == 7);
    assert_int_equal(dan_runs_remove(r, id, &e), DAN_OK);
    assert_int_equal(dan_runs_get(r, id, a, &got, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "no run "));
    dan_runs_close(r);
    dan_arena_free(a);
}

/* A process that dies without a word leaves `running` behind. */
static void test_interrupted(void **state)
{
    (void)state;
    struct dan_runs *r;
    struct dan_err e = {0};
    struct dan_arena *a = dan_arena_new();
    struct dan_run *runs;
    size_t n;
    pid_t child = fork();
    if (child == 0) {
        int64_t id;
        _exit(dan_runs_open(home, &r, NULL) || dan_runs_start(r, &sample, &id, NULL));
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(dan_runs_open(home, &r, &e), DAN_OK);
    assert_int_equal(dan_runs_list(r, 0, a, &runs, &n, &e), DAN_OK);
    assert_int_equal(n, 1);
    assert_string_equal(runs[0].status, "interrupted");
    assert_int_equal(dan_runs_remove(r, runs[0].id, &e), DAN_OK);
    dan_runs_close(r);
    dan_arena_free(a);
}

/* Several first starts at once, each writing: nothing is lost. */
static void test_many_processes(void **state)
{
    (void)state;
    enum { PROCESSES = 6, EACH = 20 };
    struct dan_runs *r;
    struct dan_err e = {0};
    struct dan_arena *a = dan_arena_new();
    struct dan_run *runs;
    size_t n;
    int status;
    for (int p = 0; p < PROCESSES; p++)
        if (fork() == 0) {
            int rc = dan_runs_open(home, &r, &e);
            for (int i = 0; i < EACH && !rc; i++) {
                int64_t id = 0;
                rc = dan_runs_start(r, &sample, &id, &e);
                if (!rc)
                    rc = dan_runs_finish(r, id, "finished", &e);
            }
            if (rc)
                fprintf(stderr, "%s\n", e.msg);
            _exit(rc != 0);
        }
    for (int p = 0; p < PROCESSES; p++) {
        wait(&status);
        assert_int_equal(status, 0);
    }
    assert_int_equal(dan_runs_open(home, &r, &e), DAN_OK);
    assert_int_equal(dan_runs_list(r, 0, a, &runs, &n, &e), DAN_OK);
    assert_int_equal(n, PROCESSES * EACH);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(runs[i].status, "finished");
        assert_true(i == 0 || runs[i].id < runs[i - 1].id);    /* newest first */
    }
    assert_int_equal(dan_runs_list(r, 5, a, &runs, &n, &e), DAN_OK);
    assert_int_equal(n, 5);
    dan_runs_close(r);
    dan_arena_free(a);
}

static void test_failures(void **state)
{
    (void)state;
    struct dan_runs *r;
    struct dan_err e = {0};
    char path[128];
    assert_int_equal(dan_runs_open(NULL, &r, &e), DAN_EINVAL);
    assert_null(r);
    e = (struct dan_err){0};
    assert_true(dan_runs_open("/proc/no-such-place", &r, &e) != DAN_OK);
    assert_null(r);
    e = (struct dan_err){0};
    assert_int_equal(dan_mkdirs(home, &e), DAN_OK);
    snprintf(path, sizeof path, "%s/runs.db", home);
    char junk[8192];
    memset(junk, 'x', sizeof junk);
    assert_int_equal(dan_write_file(path, junk, sizeof junk, &e), DAN_OK);
    assert_int_equal(dan_runs_open(home, &r, &e), DAN_EIO);
    assert_non_null(strstr(e.msg, "move the file away"));
    int64_t id = -1;                           /* a run goes on without a database */
    assert_int_equal(dan_runs_start(NULL, &sample, &id, NULL), DAN_OK);
    assert_int_equal(dan_runs_update(NULL, id, &sample, NULL), DAN_OK);
    assert_int_equal(dan_runs_finish(NULL, id, "finished", NULL), DAN_OK);
    dan_runs_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_life, setup, teardown),
        cmocka_unit_test_setup_teardown(test_interrupted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_processes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_failures, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
