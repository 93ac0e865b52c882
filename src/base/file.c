#include "base/file.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/file_error.h"

/* ---- reading ---- */

enum { READ_MAX = 1 << 30, STREAM_MAX = 64 << 20, PATIENCE = 500 };     /* bytes of a file, of what is none; ms for a pipe's writer to come */

/* Opens for reading; directories are refused here, where the message can say so.  A pipe that nobody writes to does not
 * keep open() waiting. */
static int open_read(const char *path, struct stat *st, struct dan_err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return dan_fail_errno(e, "open", path, errno);
    if (fstat(fd, st) == 0 && !S_ISDIR(st->st_mode)) return fd;
    int why = S_ISDIR(st->st_mode) ? EISDIR : errno;
    close(fd);
    return dan_fail_errno(e, "read", path, why);
}

int dan_map_file(const char *path, struct dan_mapping *out, struct dan_err *e)
{
    struct stat st = {0};
    int fd = open_read(path, &st, e);
    if (fd < 0) return fd;
    if (!S_ISREG(st.st_mode)) {                    /* mmap would see an empty pipe */
        close(fd);
        return dan_fail(e, DAN_EIO, "cannot map '%.300s': not a regular file; copy it to one first", path);
    }
    size_t n = (size_t)st.st_size;
    void *p = n ? mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    int why = errno;
    close(fd);
    if (p == MAP_FAILED) return dan_fail_errno(e, "map", path, why);
    *out = (struct dan_mapping){n ? p : "", n};
    return DAN_OK;
}

void dan_unmap_file(struct dan_mapping *m)
{
    if (m->n) munmap((void *)(uintptr_t)m->p, m->n);
    *m = (struct dan_mapping){0};
}

/* A pipe's first byte.  0: it is there, or will be (somebody has opened the other end); EPIPE: nobody came. */
static int wait_for_writer(int fd, char *first, size_t *n)
{
    for (int ms = 0; ms < PATIENCE; ms += 10) {
        ssize_t k = read(fd, first, 1);
        if (k > 0) *n = 1;
        if (k > 0 || (k < 0 && errno == EAGAIN)) return fcntl(fd, F_SETFL, 0) ? errno : 0;
        if (k < 0 && errno != EINTR) return errno;
        poll(NULL, 0, 10);
    }
    return EPIPE;
}

/* Reads to the end whatever the size said: pipes and /proc have none.  EFBIG: more than most. */
static int read_all(int fd, char **bytes, size_t *n, size_t *cap, size_t most)
{
    while (*n <= most) {
        if (dan_vec_grow(bytes, cap, *n + 2, 1) != 0) return ENOMEM;
        ssize_t k = read(fd, *bytes + *n, *cap - *n - 1);
        if (k == 0) return 0;
        if (k < 0 && errno != EINTR) return errno;
        if (k > 0) *n += (size_t)k;
    }
    return EFBIG;
}

static int read_open(int fd, const struct stat *st, char **bytes, size_t *n)
{
    size_t most = S_ISREG(st->st_mode) ? READ_MAX : STREAM_MAX;
    if (st->st_size > READ_MAX) return EFBIG;
    size_t cap = (size_t)st->st_size + 2;          /* one to see the end, one for the NUL */
    *bytes = dan_malloc(cap);
    int why = !*bytes ? ENOMEM : S_ISFIFO(st->st_mode) ? wait_for_writer(fd, *bytes, n) : fcntl(fd, F_SETFL, 0) ? errno : 0;
    return why ? why : read_all(fd, bytes, n, &cap, most);
}

int dan_read_file(const char *path, char **bytes, size_t *n, struct dan_err *e)
{
    struct stat st = {0};
    int fd = open_read(path, &st, e);
    if (fd < 0) return fd;
    size_t got = 0;
    char *p = NULL;
    int why = read_open(fd, &st, &p, &got);
    close(fd);
    if (why) {
        dan_free(p);
        if (why == EFBIG)
            return dan_fail(e, DAN_EIO, "cannot read '%.300s': it is larger than %d MiB, or does not end; is it the right file?", path,
                            (S_ISREG(st.st_mode) ? READ_MAX : STREAM_MAX) >> 20);
        if (why == EPIPE) return dan_fail(e, DAN_EIO, "cannot read '%.300s': nobody writes to this pipe; start its writer first", path);
        return dan_fail_errno(e, "read", path, why);
    }
    p[got] = 0;
    *bytes = p;
    if (n) *n = got;
    return DAN_OK;
}

int dan_file_crc(const char *path, uint32_t *crc, int64_t *bytes, struct dan_err *e)
{
    enum { PIECE = 1 << 20 };
    struct stat st = {0};
    int fd = open_read(path, &st, e), why = 0;
    if (fd < 0) return fd;
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return dan_fail(e, DAN_EIO, "cannot read '%.300s': not a regular file", path);
    }
    char *p = dan_malloc(PIECE);
    ssize_t got = 1;
    *crc = 0;
    *bytes = 0;
    while (p && got > 0) {
        got = read(fd, p, PIECE);
        if (got < 0 && errno == EINTR) got = 1;
        else if (got < 0) why = errno;
        else {
            *crc = dan_crc32(*crc, p, (size_t)got);
            *bytes += got;
        }
    }
    dan_free(p);
    close(fd);
    return !p ? dan_fail_errno(e, "read", path, ENOMEM) : why ? dan_fail_errno(e, "read", path, why) : DAN_OK;
}

/* ---- writing ---- */

enum { WRITE_BUFFER = 1 << 16 };

struct dan_writer {
    int fd, failed;                                /* failed: the first errno; nothing is written after it */
    bool regular;                                  /* devices and pipes cannot be synced nor should be unlinked */
    uint32_t crc;
    size_t n;
    char *path;
    char buffer[WRITE_BUFFER];
};

static int write_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return k < 0 ? errno : EIO;
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

int dan_writer_open(const char *path, struct dan_writer **out, struct dan_err *e)
{
    struct dan_writer *w = dan_malloc(sizeof *w);
    char *copy = dan_strdup(path);
    struct stat st;
    int fd = w && copy ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    if (fd < 0) {
        int why = w && copy ? errno : ENOMEM;
        dan_free(w);
        dan_free(copy);
        return dan_fail_errno(e, "create", path, why);
    }
    w->fd = fd;
    w->failed = 0;
    w->regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    w->crc = 0;
    w->n = 0;
    w->path = copy;
    *out = w;
    return DAN_OK;
}

static void flush(struct dan_writer *w)
{
    if (!w->failed && w->n) w->failed = write_all(w->fd, w->buffer, w->n);
    w->n = 0;
}

int dan_writer_put(struct dan_writer *w, const void *bytes, size_t n, struct dan_err *e)
{
    w->crc = dan_crc32(w->crc, bytes, n);
    if (n > WRITE_BUFFER - w->n) flush(w);
    if (n >= WRITE_BUFFER) {
        if (!w->failed) w->failed = write_all(w->fd, bytes, n);
    } else if (n) {
        memcpy(w->buffer + w->n, bytes, n);
        w->n += n;
    }
    return w->failed ? dan_fail_errno(e, "write", w->path, w->failed) : DAN_OK;
}

uint32_t dan_writer_crc(const struct dan_writer *w) { return w->crc; }

static void writer_free(struct dan_writer *w)
{
    dan_free(w->path);
    dan_free(w);
}

/* Half a file is worse than none: it goes when anything failed. */
int dan_writer_close(struct dan_writer *w, struct dan_err *e)
{
    flush(w);
    if (!w->failed && w->regular && fsync(w->fd) != 0) w->failed = errno;
    if (close(w->fd) != 0 && !w->failed && errno != EINTR) w->failed = errno;
    int status = DAN_OK;
    if (w->failed) {
        if (w->regular) unlink(w->path);
        status = dan_fail_errno(e, "write", w->path, w->failed);
    }
    writer_free(w);
    return status;
}

void dan_writer_abort(struct dan_writer *w)
{
    if (!w) return;
    close(w->fd);
    if (w->regular) unlink(w->path);
    writer_free(w);
}

static int write_whole(const char *path, const void *bytes, size_t n, struct dan_err *e)
{
    struct dan_writer *w;
    int status = dan_writer_open(path, &w, e);
    if (status != DAN_OK) return status;
    dan_writer_put(w, bytes, n, e);                /* close returns its failure */
    return dan_writer_close(w, e);
}

int dan_write_file(const char *path, const void *bytes, size_t n, struct dan_err *e)
{
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return write_whole(path, bytes, n, e);     /* a rename would replace /dev/stdout by a file */
    size_t room = strlen(path) + 32;
    char *temp = dan_malloc(room);
    if (!temp) return dan_fail_errno(e, "write", path, ENOMEM);
    snprintf(temp, room, "%s.tmp-%ld", path, (long)getpid());
    int status = write_whole(temp, bytes, n, e);
    if (status == DAN_OK && rename(temp, path) != 0) {
        status = dan_fail_errno(e, "write", path, errno);
        unlink(temp);
    }
    if (status == DAN_OK) status = dan_sync_parent(path, e);
    dan_free(temp);
    return status;
}

/* For logs: no fsync, which would cost milliseconds a line; a killed process loses nothing. */
int dan_append_file(const char *path, const void *bytes, size_t n, struct dan_err *e)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) return dan_fail_errno(e, "open", path, errno);
    int why = write_all(fd, bytes, n);
    if (close(fd) != 0 && !why && errno != EINTR) why = errno;
    return why ? dan_fail_errno(e, "append to", path, why) : DAN_OK;
}
