#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "base/lock.h"
#include "base/mem.h"

/* Each test runs in a fresh directory, which is *state. */
static int enter(void **state)
{
    char *dir = dan_strdup("/tmp/dan-file-test-XXXXXX");
    *state = dir;
    return dir && mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int leave(void **state)
{
    int status = chdir("/") == 0 ? dan_remove_tree(*state, NULL) : -1;
    dan_free(*state);
    return status;
}

static size_t n_files(void)
{
    char **names;
    size_t n;
    assert_int_equal(dan_list_dir(".", &names, &n, NULL), DAN_OK);
    dan_free_list(names, n);
    return n;
}

static uint32_t slow_crc(uint32_t crc, const unsigned char *p, size_t n)
{
    for (crc = ~crc; n; n--) {
        crc ^= *p++;
        for (int k = 0; k < 8; k++) crc = crc & 1 ? 0xEDB88320u ^ crc >> 1 : crc >> 1;
    }
    return ~crc;
}

static void crc(void **state)
{
    (void)state;
    assert_int_equal(dan_crc32(0, "123456789", 9), 0xcbf43926);
    unsigned char b[300];
    for (int i = 0; i < 300; i++) b[i] = (unsigned char)(i * 151 + i / 7);
    for (size_t n = 0; n < 300; n++) {
        assert_int_equal(dan_crc32(0, b, n), slow_crc(0, b, n));
        assert_int_equal(dan_crc32(dan_crc32(0, b, n), b + n, 300 - n), slow_crc(0, b, 300));
    }
}

static void write_read_and_map(void **state)
{
    (void)state;
    char *text;
    size_t n;
    struct dan_mapping m;
    assert_int_equal(dan_write_file("a", "first", 5, NULL), DAN_OK);
    assert_int_equal(dan_write_file("a", "new\0", 4, NULL), DAN_OK);
    assert_int_equal(dan_append_file("a", "end", 3, NULL), DAN_OK);
    assert_int_equal(n_files(), 1);
    assert_int_equal(dan_file_size("a"), 7);
    assert_int_equal(dan_read_file("a", &text, &n, NULL), DAN_OK);
    assert_int_equal(n, 7);
    assert_memory_equal(text, "new\0end", 8);
    dan_free(text);
    assert_int_equal(dan_map_file("a", &m, NULL), DAN_OK);
    assert_int_equal(m.n, 7);
    assert_memory_equal(m.p, "new\0end", 7);
    dan_unmap_file(&m);
    assert_int_equal(dan_write_file("empty", "", 0, NULL), DAN_OK);
    assert_int_equal(dan_map_file("empty", &m, NULL), DAN_OK);
    assert_true(m.n == 0 && m.p != NULL);
    dan_unmap_file(&m);
    assert_int_equal(dan_read_file("/proc/self/status", &text, &n, NULL), DAN_OK);     /* says size 0 */
    assert_int_equal(strlen(text), n);
    assert_non_null(strstr(text, "VmPeak"));
    dan_free(text);
}

static void writer_counts_and_aborts(void **state)
{
    (void)state;
    struct dan_writer *w;
    size_t total = 0, n;
    uint32_t sum = 0;
    char *big = dan_calloc(200000, 1), *back;
    assert_int_equal(dan_writer_open("w", &w, NULL), DAN_OK);
    for (size_t i = 0; i < 300; i++) {
        size_t k = i * i % 1000 + (i % 100 == 99 ? 150000 : 0);
        memset(big, (int)i & 255, k);
        assert_int_equal(dan_writer_put(w, big, k, NULL), DAN_OK);
        sum = dan_crc32(sum, big, k);
        total += k;
    }
    assert_int_equal(dan_writer_crc(w), sum);
    assert_int_equal(dan_writer_close(w, NULL), DAN_OK);
    assert_int_equal(dan_read_file("w", &back, &n, NULL), DAN_OK);
    assert_int_equal(n, total);
    assert_int_equal(dan_crc32(0, back, n), sum);
    assert_int_equal(dan_writer_open("gone", &w, NULL), DAN_OK);
    dan_writer_abort(w);
    assert_false(dan_path_exists("gone"));
    dan_free(back);
    dan_free(big);
}

static void failures_say_what_to_do(void **state)
{
    (void)state;
    struct dan_mapping m;
    char *text;
    struct dan_err e = {0};
    assert_int_equal(dan_map_file("x", &m, &e), DAN_EIO);
    assert_string_equal(e.msg, "cannot open 'x': No such file or directory; check the path");
    e.code = 0;
    assert_int_equal(dan_read_file(".", &text, NULL, &e), DAN_EIO);
    assert_string_equal(e.msg, "cannot read '.': Is a directory; give a file");
    e.code = 0;
    assert_int_equal(dan_write_file("no/such", "", 0, &e), DAN_EIO);
    assert_non_null(strstr(e.msg, "check the path"));
    e.code = 0;
    char longname[600];
    memset(longname, 'n', 599);
    longname[599] = 0;
    assert_int_equal(dan_map_file(longname, &m, &e), DAN_EIO);
    assert_non_null(strstr(e.msg, "choose a shorter name"));
}

/* /dev/full takes nothing: the failure must come from put or from close, and it must survive. */
static void full_disk(void **state)
{
    (void)state;
    struct dan_err e = {0};
    struct dan_writer *w;
    assert_int_equal(dan_writer_open("/dev/full", &w, &e), DAN_OK);
    assert_int_equal(dan_writer_put(w, "x", 1, &e), DAN_OK);       /* buffered */
    assert_int_equal(dan_writer_close(w, &e), DAN_EIO);
    assert_non_null(strstr(e.msg, "No space left on device; free some disk space"));
    char *big = dan_calloc(100000, 1);
    assert_int_equal(dan_writer_open("/dev/full", &w, NULL), DAN_OK);
    assert_int_equal(dan_writer_put(w, big, 100000, NULL), DAN_EIO);
    assert_int_equal(dan_writer_put(w, big, 1, NULL), DAN_EIO);
    assert_int_equal(dan_writer_close(w, NULL), DAN_EIO);
    dan_free(big);
    assert_int_equal(dan_append_file("/dev/full", "x", 1, NULL), DAN_EIO);
    assert_int_equal(dan_write_file("/dev/full", "x", 1, NULL), DAN_EIO);
    assert_true(dan_path_exists("/dev/full"));
}

/* A file size limit makes write(2) fail in the middle of a regular file, as a full disk does. */
static void no_half_file_stays(void **state)
{
    (void)state;
    struct rlimit old, small;
    struct dan_err e = {0};
    char *big = dan_calloc(300000, 1), *text;
    assert_int_equal(dan_write_file("kept", "old", 3, NULL), DAN_OK);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 100000;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int status = dan_write_file("kept", big, 300000, &e);
    struct dan_writer *w;
    int opened = dan_writer_open("half", &w, NULL);
    for (int i = 0; i < 30; i++) dan_writer_put(w, big, 10000, NULL);
    int closed = dan_writer_close(w, NULL);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(status, DAN_EIO);
    assert_int_equal(opened, DAN_OK);
    assert_int_equal(closed, DAN_EIO);
    assert_non_null(strstr(e.msg, "File too large"));
    assert_int_equal(n_files(), 1);
    assert_int_equal(dan_read_file("kept", &text, NULL, NULL), DAN_OK);
    assert_string_equal(text, "old");
    dan_free(text);
    dan_free(big);
}

static void directories(void **state)
{
    (void)state;
    struct dan_err e = {0};
    char **names;
    size_t n;
    assert_int_equal(dan_mkdirs("a/b//c/", NULL), DAN_OK);
    assert_int_equal(dan_mkdirs("a/b/c", NULL), DAN_OK);
    assert_true(dan_path_is_dir("a/b/c"));
    assert_int_equal(dan_write_file("a/z", "", 0, NULL), DAN_OK);
    assert_int_equal(dan_write_file("a/B", "", 0, NULL), DAN_OK);
    assert_int_equal(dan_list_dir("a", &names, &n, NULL), DAN_OK);
    assert_int_equal(n, 3);
    assert_string_equal(names[0], "B");
    assert_string_equal(names[1], "b");
    assert_string_equal(names[2], "z");
    dan_free_list(names, n);
    assert_int_equal(dan_mkdirs("a/z/q", &e), DAN_EIO);
    assert_int_equal(dan_mkdirs("a/z", NULL), DAN_EIO);
    assert_int_equal(dan_rename_dir("a", "moved", NULL), DAN_OK);
    assert_int_equal(dan_mkdirs("other/full", NULL), DAN_OK);
    e.code = 0;
    assert_int_equal(dan_rename_dir("moved", "other", &e), DAN_EIO);
    assert_non_null(strstr(e.msg, "remove it first"));
    assert_int_equal(symlink("other", "moved/link"), 0);
    assert_int_equal(dan_remove_tree("moved", NULL), DAN_OK);
    assert_false(dan_path_exists("moved"));
    assert_true(dan_path_exists("other/full"));
    assert_int_equal(dan_remove_tree("moved", NULL), DAN_OK);
    assert_true(dan_disk_free(".") > 0);
    assert_int_equal(dan_disk_free("moved"), -1);
    assert_int_equal(dan_file_size("moved"), -1);
}

/* What is no file, or far too large for one that is read whole, is refused soon. */
static void read_odd_files(void **state)
{
    (void)state;
    char *p;
    size_t n;
    assert_int_equal(mkfifo("pipe", 0666), 0);
    struct dan_err e = {0};
    assert_int_equal(dan_read_file("pipe", &p, &n, &e), DAN_EIO);
    assert_non_null(strstr(e.msg, "nobody writes to this pipe"));
    struct dan_mapping m;
    assert_int_equal(dan_map_file("pipe", &m, NULL), DAN_EIO);
    assert_int_equal(dan_write_file("large", "", 0, NULL), DAN_OK);
    if (truncate("large", (off_t)1 << 40) == 0) assert_int_equal(dan_read_file("large", &p, &n, NULL), DAN_EIO);
    assert_int_equal(dan_read_file("/dev/zero", &p, &n, NULL), DAN_EIO);
}

static void links_lead_out(void **state)
{
    (void)state;
    assert_int_equal(dan_mkdirs("hub/snapshots/1", NULL), DAN_OK);
    assert_int_equal(dan_mkdirs("hub/blobs", NULL), DAN_OK);
    assert_int_equal(dan_write_file("hub/blobs/b", "x", 1, NULL), DAN_OK);
    assert_int_equal(dan_write_file("outside", "x", 1, NULL), DAN_OK);
    assert_int_equal(dan_write_file("hub/snapshots/1/here", "x", 1, NULL), DAN_OK);
    assert_int_equal(symlink("../../blobs/b", "hub/snapshots/1/blob"), 0);
    assert_int_equal(symlink("../../../outside", "hub/snapshots/1/out"), 0);
    assert_true(dan_path_stays("hub/snapshots/1", "hub/snapshots/1/here"));
    assert_true(dan_path_stays("hub/snapshots/1", "hub/snapshots/1/blob"));
    assert_false(dan_path_stays("hub/snapshots/1", "hub/snapshots/1/out"));
    assert_true(dan_path_stays("hub/snapshots/1", "hub/snapshots/1/none"));
}

static void one_writer(void **state)
{
    int mine, other;
    struct dan_err e = {0};
    (void)state;
    assert_int_equal(dan_mkdirs("run", &e), DAN_OK);
    assert_int_equal(dan_lock_dir("run", &mine, &e), DAN_OK);
    assert_true(mine > 0);
    assert_int_equal(dan_lock_dir("run", &other, &e), DAN_EINVAL);
    assert_int_equal(other, 0);
    assert_non_null(strstr(e.msg, "another danlu"));
    dan_unlock_dir(&mine);
    e = (struct dan_err){0};
    assert_int_equal(dan_lock_dir("run", &other, &e), DAN_OK);
    dan_unlock_dir(&other);
    dan_unlock_dir(&other);
    assert_int_equal(dan_lock_dir("gone", &other, &e), DAN_EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc),
        cmocka_unit_test_setup_teardown(read_odd_files, enter, leave),
        cmocka_unit_test_setup_teardown(links_lead_out, enter, leave),
        cmocka_unit_test_setup_teardown(write_read_and_map, enter, leave),
        cmocka_unit_test_setup_teardown(writer_counts_and_aborts, enter, leave),
        cmocka_unit_test_setup_teardown(failures_say_what_to_do, enter, leave),
        cmocka_unit_test_setup_teardown(full_disk, enter, leave),
        cmocka_unit_test_setup_teardown(no_half_file_stays, enter, leave),
        cmocka_unit_test_setup_teardown(directories, enter, leave),
        cmocka_unit_test_setup_teardown(one_writer, enter, leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
