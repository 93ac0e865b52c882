#include "base/child.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/mem.h"

enum { MOST = 64 << 20, PIECE = 65536, GRACE_MS = 500 };
extern char **environ;

struct dan_child { pid_t pid; int fd; char *command; };          /* pid 0: it has ended */

/* A process group of its own, so that what it started ends with it. */
static int spawn(const char *command, int fd, pid_t *pid)
{
    char *const argv[] = {"sh", "-c", (char *)(uintptr_t)command, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fd, 0);
    posix_spawn_file_actions_adddup2(&actions, fd, 1);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP);
    posix_spawnattr_setpgroup(&attr, 0);
    int failed = posix_spawn(pid, "/bin/sh", &actions, &attr, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    return failed;
}

/* One socket for both directions: unlike a pipe, writing to a program that has ended is an error and no signal. */
int dan_child_start(const char *command, struct dan_child **out, struct dan_err *e)
{
    struct dan_child *c = dan_calloc(1, sizeof *c);
    int pair[2], rc;
    if (!c || !(c->command = dan_strdup(command))) {
        dan_free(c);
        return dan_fail(e, DAN_ENOMEM, "out of memory starting '%.60s'", command);
    }
    c->fd = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) {
        rc = dan_fail(e, DAN_EIO, "cannot connect to '%.60s': %s", command, strerror(errno));
        dan_child_stop(c);
        return rc;
    }
    int failed = spawn(command, pair[1], &c->pid);
    close(pair[1]);
    c->fd = pair[0];
    if (failed) {
        c->pid = 0;
        rc = dan_fail(e, DAN_EIO, "cannot start '%.60s': %s", command, strerror(failed));
        dan_child_stop(c);
        return rc;
    }
    *out = c;
    return DAN_OK;
}

static size_t count_lines(const char *p, size_t n)
{
    size_t lines = 0;
    for (size_t i = 0; i < n; i++) lines += p[i] == '\n';
    return lines;
}

static int has_ended(struct dan_child *c, size_t got, size_t wanted, struct dan_err *e)
{
    int status = 0;
    waitpid(c->pid, &status, 0);
    c->pid = 0;
    if (WIFSIGNALED(status))
        return dan_fail(e, DAN_EIO, "'%.60s' was ended by signal %d after %zu of %zu answers", c->command, WTERMSIG(status), got, wanted);
    return dan_fail(e, DAN_EIO, "'%.60s' ended with status %d after %zu of %zu answers: it has to answer every line until its input ends", c->command,
                    WEXITSTATUS(status), got, wanted);
}

/* Reads what there is; 0 bytes: it has closed its output. */
static int receive(struct dan_child *c, struct dan_str *out, size_t *got, size_t wanted, struct dan_err *e)
{
    char piece[PIECE];
    ssize_t k = recv(c->fd, piece, sizeof piece, 0);
    if (k < 0 && (errno == EINTR || errno == EAGAIN)) return DAN_OK;
    if (k <= 0) return has_ended(c, *got, wanted, e);
    *got += count_lines(piece, (size_t)k);
    dan_str_append(out, piece, (size_t)k);
    if (out->failed) return dan_fail(e, DAN_ENOMEM, "out of memory reading from '%.60s'", c->command);
    if (out->n > MOST) return dan_fail(e, DAN_EFORMAT, "'%.60s' answers more than %d MiB to %zu lines", c->command, MOST >> 20, wanted);
    if (*got > wanted || (*got == wanted && piece[k - 1] != '\n'))
        return dan_fail(e, DAN_EFORMAT, "'%.60s' answers more lines than it was asked (%zu): expected one for each", c->command, wanted);
    return DAN_OK;
}

static int send_some(struct dan_child *c, const char **p, size_t *n, size_t got, size_t wanted, struct dan_err *e)
{
    ssize_t k = send(c->fd, *p, *n, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (k < 0 && (errno == EINTR || errno == EAGAIN)) return DAN_OK;
    if (k < 0) return has_ended(c, got, wanted, e);
    *p += k;
    *n -= (size_t)k;
    return DAN_OK;
}

int dan_child_ask(struct dan_child *c, const char *p, size_t n, size_t lines, double seconds, struct dan_str *out, struct dan_err *e)
{
    size_t got = 0;
    int rc = c->pid ? DAN_OK : dan_fail(e, DAN_EIO, "'%.60s' has ended", c->command);
    while (!rc && (n || got < lines)) {
        struct pollfd f = {.fd = c->fd, .events = (short)(POLLIN | (n ? POLLOUT : 0))};
        int ready = poll(&f, 1, (int)(1000 * seconds));
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) return dan_fail(e, DAN_EIO, "'%.60s' has said nothing for %g s after %zu of %zu answers", c->command, seconds, got, lines);
        if (f.revents & (POLLIN | POLLHUP | POLLERR)) rc = receive(c, out, &got, lines, e);
        if (!rc && f.revents & POLLOUT && n) rc = send_some(c, &p, &n, got, lines, e);
    }
    return rc;
}

static bool ends_by_itself(pid_t pid)
{
    for (int ms = 0; ms < GRACE_MS; ms += 10) {
        if (waitpid(pid, NULL, WNOHANG)) return true;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return false;
}

void dan_child_stop(struct dan_child *c)
{
    if (!c) return;
    if (c->fd >= 0) close(c->fd);
    if (c->pid && !ends_by_itself(c->pid)) {
        kill(-c->pid, SIGKILL);
        waitpid(c->pid, NULL, 0);
    }
    dan_free(c->command);
    dan_free(c);
}
