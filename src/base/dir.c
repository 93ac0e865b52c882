/* Directories, and what a failed system call is called; the rest of file.h is in file.c. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "base/file.h"
#include "base/file_error.h"
#include "base/mem.h"

static const struct { int why; const char *hint; } HINTS[] = {
    {ENOENT, "check the path"},
    {ENOTDIR, "check the path"},
    {EACCES, "check the permissions"},
    {EPERM, "check the permissions"},
    {EISDIR, "give a file"},
    {ENOSPC, "free some disk space or choose another place"},
    {EDQUOT, "free some of your quota or choose another place"},
    {EROFS, "choose another place"},
    {EEXIST, "choose another name"},
    {ENOTEMPTY, "remove it first or choose another name"},
    {EXDEV, "choose a place on the same file system"},
    {ENAMETOOLONG, "choose a shorter name"},
    {EMFILE, "close files or raise 'ulimit -n'"},
    {ENOMEM, "free some memory"},
    {EFBIG, "raise 'ulimit -f' or choose another file system"},
    {EIO, "check the disk"},
};

int dan_fail_errno(struct dan_err *e, const char *verb, const char *path, int why)
{
    const char *hint = "check that it is a readable, writable place";
    for (size_t i = 0; i < sizeof HINTS / sizeof *HINTS; i++)
        if (HINTS[i].why == why) hint = HINTS[i].hint;
    enum { SHOWN = 300 };                          /* of a longer path the end, which tells more */
    size_t n = strlen(path), skip = n > SHOWN ? n - SHOWN : 0;
    return dan_fail(e, why == ENOMEM ? DAN_ENOMEM : DAN_EIO, "cannot %s '%s%s': %s; %s", verb,
                    skip ? "..." : "", path + skip, strerror(why), hint);
}

static char *parent_of(const char *path)
{
    char *p = dan_strdup(path);
    if (!p) return NULL;
    size_t n = strlen(p);
    while (n > 1 && p[n - 1] == '/') n--;
    while (n > 0 && p[n - 1] != '/') n--;
    while (n > 1 && p[n - 1] == '/') n--;
    if (n == 0 && *p) p[n++] = '.';
    p[n] = 0;
    return p;
}

/* Some network file systems cannot sync a directory: that is no failure of ours. */
int dan_sync_parent(const char *path, struct dan_err *e)
{
    char *dir = parent_of(path);
    int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    dan_free(dir);
    if (fd < 0) return DAN_OK;                     /* a directory one may write but not read */
    int why = fsync(fd) != 0 ? errno : 0;
    close(fd);
    if (why == 0 || why == EINVAL || why == ENOTSUP) return DAN_OK;
    return dan_fail_errno(e, "sync the directory of", path, why);
}

/* The folder of a path without links: "" when there is no such path. */
static void real_parent(const char *path, char out[PATH_MAX])
{
    char whole[PATH_MAX];
    *out = '\0';
    if (!realpath(path, whole)) return;
    char *slash = strrchr(whole, '/');
    *(slash == whole ? slash + 1 : slash) = '\0';
    memcpy(out, whole, strlen(whole) + 1);
}

bool dan_path_stays(const char *dir, const char *path)
{
    char here[PATH_MAX], blobs[PATH_MAX], link[PATH_MAX], there[PATH_MAX];
    real_parent(path, there);
    if (!*there || !realpath(*dir ? dir : ".", here)) return true;             /* nothing there: opening it says so */
    if (!strcmp(here, there)) return true;
    int n = snprintf(link, sizeof link, "%s/../../blobs", here);
    return n > 0 && (size_t)n < sizeof link && realpath(link, blobs) && !strcmp(blobs, there);
}

bool dan_path_exists(const char *path) { return access(path, F_OK) == 0; }

bool dan_path_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int64_t dan_file_size(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
}

/* Errors of the parents do not count: only whether the directory is there in the end. */
static int mkdirs_in_place(char *p)
{
    for (char *s = p + strspn(p, "/"); *s; s++) {
        if (*s != '/') continue;
        *s = 0;
        if (mkdir(p, 0777) != 0 && errno != EEXIST && !dan_path_is_dir(p)) return errno;
        *s = '/';
    }
    if (mkdir(p, 0777) == 0 || dan_path_is_dir(p)) return 0;
    return errno == ENOENT || errno == EEXIST ? ENOTDIR : errno;
}

int dan_mkdirs(const char *path, struct dan_err *e)
{
    char *p = dan_strdup(path);
    int why = p ? mkdirs_in_place(p) : ENOMEM;
    dan_free(p);
    return why ? dan_fail_errno(e, "create directory", path, why) : DAN_OK;
}

int dan_rename_dir(const char *from, const char *to, struct dan_err *e)
{
    if (rename(from, to) == 0) return dan_sync_parent(to, e);
    int why = errno;
    return dan_fail_errno(e, "rename to", why == ENOENT ? from : to, why);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st; (void)type; (void)at;
    return remove(path) == 0 || errno == ENOENT ? 0 : errno;
}

/* Like rm -rf: links are not followed, and what is not there is removed already. */
int dan_remove_tree(const char *path, struct dan_err *e)
{
    int why = nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    if (why == -1) why = errno;
    return why && why != ENOENT ? dan_fail_errno(e, "remove", path, why) : DAN_OK;
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static int collect_names(DIR *d, char ***names, size_t *n)
{
    size_t cap = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(d);
        if (!entry) return errno;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (dan_vec_grow(names, &cap, *n + 1, sizeof **names) != 0) return ENOMEM;
        char *copy = dan_strdup(entry->d_name);
        if (!copy) return ENOMEM;
        (*names)[(*n)++] = copy;
    }
}

int dan_list_dir(const char *path, char ***names, size_t *n, struct dan_err *e)
{
    DIR *d = opendir(path);
    if (!d) return dan_fail_errno(e, "list", path, errno);
    char **list = NULL;
    size_t count = 0;
    int why = collect_names(d, &list, &count);
    closedir(d);
    if (why) {
        dan_free_list(list, count);
        return dan_fail_errno(e, "list", path, why);
    }
    if (count) qsort(list, count, sizeof *list, by_bytes);
    *names = list;
    *n = count;
    return DAN_OK;
}

void dan_free_list(char **names, size_t n)
{
    for (size_t i = 0; i < n; i++) dan_free(names[i]);
    dan_free(names);
}

int64_t dan_disk_free(const char *path)
{
    struct statvfs v;
    return statvfs(path, &v) == 0 ? (int64_t)v.f_bavail * (int64_t)v.f_frsize : -1;
}
