#include "base/sys.h"
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

double dan_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int64_t dan_unix_time(void) { return (int64_t)time(NULL); }

const char *dan_env(const char *name)
{
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

/* A file of /proc or /sys as text, cut at n - 1 bytes. */
static bool read_text(const char *path, char *out, size_t n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    size_t got = 0;
    for (ssize_t k; got + 1 < n && (k = read(fd, out + got, n - 1 - got)) > 0;) got += (size_t)k;
    close(fd);
    out[got] = 0;
    return got > 0;
}

static bool read_dir_text(const char *dir, const char *name, char *out, size_t n)
{
    char path[PATH_MAX];
    int len = snprintf(path, sizeof path, "%s/%s", dir, name);
    return len > 0 && (size_t)len < sizeof path && read_text(path, out, n);
}

/* The number after `key` at the start of a line; -1 when there is none. */
static int64_t number_after(const char *text, const char *key)
{
    size_t n = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, n) == 0) return strtoll(line + n, NULL, 10);
    }
    return -1;
}

/* ---- cgroups: v2 has one tree, v1 one per controller; limits of all ancestors count ---- */

struct cgroup { char dir[PATH_MAX]; size_t root; };        /* root: length of the mount point */

/* A line is "id:controllers:path"; v2's has no controllers. */
static bool line_matches(const char *line, const char *controller)
{
    const char *list = strchr(line, ':');
    const char *end = list ? strchr(list + 1, ':') : NULL;
    if (!end) return false;
    list++;
    size_t n = strlen(controller);
    if (n == 0) return list == end;
    for (const char *c = list; c < end; c += strcspn(c, ",:") + 1)
        if (strncmp(c, controller, n) == 0 && (c[n] == ',' || c[n] == ':')) return true;
    return false;
}

static bool cgroup_locate(const char *controllers, struct cgroup *g)
{
    char text[8192];
    if (!read_text("/proc/self/cgroup", text, sizeof text)) return false;
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        if (!line_matches(line, controllers)) continue;
        const char *path = strchr(strchr(line, ':') + 1, ':') + 1;
        g->root = (size_t)snprintf(g->dir, sizeof g->dir, "/sys/fs/cgroup%s%s", *controllers ? "/" : "", controllers);
        snprintf(g->dir + g->root, sizeof g->dir - g->root, "%s", strcmp(path, "/") == 0 ? "" : path);
        return true;
    }
    return false;
}

/* In a container the path may be the host's and not exist here; walking up ends at the mount. */
static bool cgroup_up(struct cgroup *g)
{
    if (strlen(g->dir) <= g->root) return false;
    *strrchr(g->dir, '/') = 0;
    return true;
}

static double min_limit(double a, double b) { return a < b ? a : b; }

/* Smallest limit on the way up; INFINITY when there is none. */
static double cgroup_limit(const char *controller, double (*v1)(const char *dir), double (*v2)(const char *dir))
{
    struct cgroup g;
    bool is_v1 = cgroup_locate(controller, &g);
    if (!is_v1 && !cgroup_locate("", &g)) return INFINITY;
    double least = INFINITY;
    do least = min_limit(least, (is_v1 ? v1 : v2)(g.dir)); while (cgroup_up(&g));
    return least;
}

static double cores_v2(const char *dir)
{
    char text[64];
    double quota, period;
    if (!read_dir_text(dir, "cpu.max", text, sizeof text)) return INFINITY;
    return sscanf(text, "%lf %lf", &quota, &period) == 2 && period > 0 ? quota / period : INFINITY;   /* "max 100000" */
}

static double cores_v1(const char *dir)
{
    char quota[32], period[32];
    if (!read_dir_text(dir, "cpu.cfs_quota_us", quota, sizeof quota) ||
        !read_dir_text(dir, "cpu.cfs_period_us", period, sizeof period)) return INFINITY;
    double q = atof(quota), p = atof(period);
    return q > 0 && p > 0 ? q / p : INFINITY;
}

/* Pages of files that nobody used lately count as usage but are given up on demand. */
static double memory_left(const char *dir, const char *max, const char *usage, const char *reclaimable)
{
    char text[8192];
    if (!read_dir_text(dir, max, text, sizeof text) || text[0] == 'm') return INFINITY;    /* "max" */
    double limit = atof(text);
    if (!read_dir_text(dir, usage, text, sizeof text)) return INFINITY;
    double used = atof(text);
    int64_t cache = read_dir_text(dir, "memory.stat", text, sizeof text) ? number_after(text, reclaimable) : 0;
    if (cache > 0) used -= min_limit(used, (double)cache);
    return limit > used ? limit - used : 0;
}

static double memory_v2(const char *dir)
{
    return memory_left(dir, "memory.max", "memory.current", "inactive_file ");
}

static double memory_v1(const char *dir)
{
    return memory_left(dir, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ");
}

/* The kernel refuses a set smaller than its own, hence the loop. */
static int affinity_cores(void)
{
    for (int n = 1024; n <= 1 << 18; n *= 2) {
        cpu_set_t *set = CPU_ALLOC(n);
        if (!set) break;
        size_t bytes = CPU_ALLOC_SIZE(n);
        int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
        CPU_FREE(set);
        if (count > 0) return count;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

int dan_n_cores(void)
{
    double n = affinity_cores(), quota = ceil(cgroup_limit("cpu", cores_v1, cores_v2));
    n = min_limit(n, quota);
    return n >= 1 ? (int)n : 1;
}

int64_t dan_cache_bytes(int level)
{
#ifdef _SC_LEVEL1_DCACHE_SIZE
    static const int name[] = {_SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE};
    if (level >= 1 && level <= 3) return sysconf(name[level - 1]);
#else
    (void)level;
#endif
    return -1;
}

/* RLIMIT_AS counts address space; /proc/self/statm begins with it, in pages. */
static double address_space_left(void)
{
    struct rlimit r;
    char text[128];
    if (getrlimit(RLIMIT_AS, &r) != 0 || r.rlim_cur == RLIM_INFINITY) return INFINITY;
    if (!read_text("/proc/self/statm", text, sizeof text)) return (double)r.rlim_cur;
    double used = atof(text) * (double)sysconf(_SC_PAGESIZE);
    return (double)r.rlim_cur > used ? (double)r.rlim_cur - used : 0;
}

int64_t dan_memory_available(void)
{
    char text[4096];
    int64_t kib = read_text("/proc/meminfo", text, sizeof text) ? number_after(text, "MemAvailable:") : -1;
    double n = kib >= 0 ? (double)kib * 1024 : INFINITY;
    n = min_limit(n, cgroup_limit("memory", memory_v1, memory_v2));
    n = min_limit(n, address_space_left());
    return n < 0x1p62 ? (int64_t)n : -1;
}

static int64_t status_bytes(const char *key)
{
    char text[4096];
    int64_t kib = read_text("/proc/self/status", text, sizeof text) ? number_after(text, key) : -1;
    return kib >= 0 ? kib * 1024 : -1;
}

/* Not getrusage: its maximum survives exec and would show the parent's. */
int64_t dan_peak_rss(void) { return status_bytes("VmHWM:"); }
int64_t dan_rss(void) { return status_bytes("VmRSS:"); }
