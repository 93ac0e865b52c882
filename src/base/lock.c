#include "base/lock.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/file.h>
#include <unistd.h>
#include "base/file_error.h"

/* Of the directory itself: no file stays behind when a program is killed. */
int dan_lock_dir(const char *path, int *lock, struct dan_err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *lock = 0;
    if (fd < 0) return dan_fail_errno(e, "open", path, errno);
    bool held = !flock(fd, LOCK_EX | LOCK_NB), taken = !held && errno == EWOULDBLOCK;
    if (held) *lock = fd + 1;
    else close(fd);
    return taken ? dan_fail(e, DAN_EINVAL, "another danlu is writing into '%s'; wait until it is done, or choose another place", path) : DAN_OK;
}

void dan_unlock_dir(int *lock)
{
    if (*lock) close(*lock - 1);
    *lock = 0;
}
