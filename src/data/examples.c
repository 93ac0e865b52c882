#include "data/examples.h"
#include <string.h>
#include <strings.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "data/example_impl.h"
#include "data/text.h"

enum { MAX_DEPTH = 32, LONGEST_LINE = 64 << 20 };

struct dan_examples {
    char **file;
    size_t n, cap;
    size_t at;                                 /* file */
    bool   open, endless;                      /* endless: a line that no row of data has */
    struct dan_mapping map;
    size_t pos;                                /* byte of it */
    int64_t line;                              /* of pos, from 1 */
    json_t *array;                             /* a .json file that is one array */
    json_t *row;
    struct dan_example ex;
};

static bool has_suffix(const char *path, const char *suffix)
{
    size_t n = strlen(path), k = strlen(suffix);
    return n > k && !strcasecmp(path + n - k, suffix);
}

static int add_path(struct dan_examples *x, const char *path, bool named, int depth, struct dan_err *e);

static int add_dir(struct dan_examples *x, const char *dir, int depth, struct dan_err *e)
{
    char **names;
    size_t n;
    struct dan_str path = {0};
    if (depth > MAX_DEPTH) return dan_fail(e, DAN_EINVAL, "directories are nested more than %d deep at '%s': give the files themselves", MAX_DEPTH, dir);
    int rc = dan_list_dir(dir, &names, &n, e);
    if (rc) return rc;
    for (size_t i = 0; i < n && !rc; i++) {
        if (names[i][0] == '.') continue;
        dan_str_clear(&path);
        dan_str_printf(&path, "%s%s%s", dir, dan_str_ends(dir, "/") ? "" : "/", names[i]);
        rc = path.failed ? dan_example_memory(e) : add_path(x, path.p, false, depth, e);
    }
    dan_str_release(&path);
    dan_free_list(names, n);
    return rc;
}

static int add_path(struct dan_examples *x, const char *path, bool named, int depth, struct dan_err *e)
{
    if (!dan_path_exists(path)) return dan_fail(e, DAN_EIO, "no such file or directory '%s': check the path", path);
    if (dan_path_is_dir(path)) return add_dir(x, path, depth + 1, e);
    if (!named && !has_suffix(path, ".jsonl") && !has_suffix(path, ".json")) return DAN_OK;
    char *copy = dan_strdup(path);
    if (!copy || dan_vec_grow(&x->file, &x->cap, x->n + 1, sizeof *x->file)) {
        dan_free(copy);
        return dan_example_memory(e);
    }
    x->file[x->n++] = copy;
    return DAN_OK;
}

int dan_examples_open(const char *const *paths, size_t n, struct dan_examples **out, struct dan_err *e)
{
    struct dan_examples *x = dan_calloc(1, sizeof *x);
    int rc = !x ? dan_example_memory(e) : n ? DAN_OK : dan_fail(e, DAN_EINVAL, "no data was given: name .jsonl files or directories");
    for (size_t i = 0; i < n && !rc; i++) {
        size_t before = x->n;
        rc = add_path(x, paths[i], true, 0, e);
        if (!rc && x->n == before) rc = dan_fail(e, DAN_EINVAL, "no .jsonl or .json below '%s': name other files themselves", paths[i]);
    }
    if (rc) dan_examples_free(x);
    else *out = x;
    return rc;
}

static void close_row(struct dan_examples *x)
{
    dan_example_release(&x->ex);
    json_decref(x->row);
    x->row = NULL;
}

static void close_file(struct dan_examples *x)
{
    close_row(x);
    json_decref(x->array);
    x->array = NULL;
    if (x->open) dan_unmap_file(&x->map);
    x->open = false;
}

void dan_examples_free(struct dan_examples *x)
{
    if (!x) return;
    close_file(x);
    for (size_t i = 0; i < x->n; i++) dan_free(x->file[i]);
    dan_free(x->file);
    dan_free(x);
}

void dan_examples_rewind(struct dan_examples *x)
{
    close_file(x);
    x->at = 0;
}

static const char *skip_blank(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || (*p >= '\t' && *p <= '\r'))) p++;
    return p;
}

/* An array is parsed whole: what is not one object a line cannot be cut without parsing it. */
static int open_file(struct dan_examples *x, struct dan_err *e)
{
    const char *path = x->file[x->at];
    json_error_t je;
    int rc = dan_map_file(path, &x->map, e);
    if (rc) return rc;
    x->open = true;
    x->line = 1;
    x->pos = x->map.n >= 3 && !memcmp(x->map.p, "\xef\xbb\xbf", 3) ? 3 : 0;
    const char *p = x->map.p + x->pos, *end = x->map.p + x->map.n, *first = skip_blank(p, end);
    if (x->map.n == 0) return dan_fail(e, DAN_EFORMAT, "'%s' is empty: there is nothing to learn from it", path);
    if (first == end) return dan_fail(e, DAN_EFORMAT, "'%s' has no row: all of it is blank", path);
    if ((rc = dan_text_check(path, x->map.p, x->map.n, e))) return rc;
    if (*first != '[' || has_suffix(path, ".jsonl")) return DAN_OK;
    x->array = json_loadb(p, (size_t)(end - p), JSON_ALLOW_NUL, &je);
    if (!x->array) return dan_fail(e, DAN_EFORMAT, "invalid JSON in '%s', line %d, column %d: %s", path, je.line, je.column, je.text);
    return DAN_OK;
}

/* The next line that is not blank; false at the end of the file, or before an endless line. */
static bool next_line(struct dan_examples *x, const char **line, size_t *n)
{
    const char *end = x->map.p + x->map.n;
    while (x->pos < x->map.n) {
        size_t left = x->map.n - x->pos;
        const char *p = x->map.p + x->pos, *stop = memchr(p, '\n', left < LONGEST_LINE ? left : LONGEST_LINE);
        x->endless = !stop && left > LONGEST_LINE;
        if (x->endless) return false;
        if (!stop) stop = end;
        x->pos = (size_t)(stop - x->map.p) + 1;
        x->line++;
        if (skip_blank(p, stop) == stop) continue;
        *line = p;
        *n = (size_t)(stop - p);
        return true;
    }
    return false;
}

/* The next row of the open file: x->row stays NULL at its end.  *at: its line or element. */
static int next_row(struct dan_examples *x, int64_t *at, struct dan_err *e)
{
    const char *p;
    size_t n;
    json_error_t je;
    if (x->array) {
        *at = x->line;
        x->row = json_incref(json_array_get(x->array, (size_t)x->line++ - 1));
        return DAN_OK;
    }
    if (!next_line(x, &p, &n)) return DAN_OK;
    *at = x->line - 1;
    x->row = json_loadb(p, n, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &je);
    if (x->row) return DAN_OK;
    return dan_fail(e, DAN_EFORMAT, "invalid JSON in '%s', line %lld, column %d: %s", x->file[x->at], (long long)*at, je.column, je.text);
}

static int read_row(struct dan_examples *x, struct dan_example *ex, int64_t at, struct dan_err *e)
{
    struct dan_err inner = {0};
    int rc = dan_example_from(x->row, &x->ex, &inner);
    if (rc) return dan_fail(e, rc, "%s %lld of '%s': %s", x->array ? "element" : "line", (long long)at, x->file[x->at], inner.msg);
    *ex = x->ex;
    ex->file = x->file[x->at];
    ex->line = at;
    return DAN_OK;
}

int dan_examples_next(struct dan_examples *x, struct dan_example *ex, bool *more, struct dan_err *e)
{
    *ex = (struct dan_example){0};
    *more = false;
    close_row(x);
    for (; x->at < x->n; x->at++, close_file(x)) {
        int64_t at = 0;
        int rc = x->open ? DAN_OK : open_file(x, e);
        if (rc) return rc;
        rc = next_row(x, &at, e);
        if (x->endless)                        /* ends the reading, unlike a row that is only wrong: where the next begins, nobody knows */
            return dan_fail(e, DAN_EFORMAT, "line %lld of '%s' is longer than %d MiB: expected one JSON object a line", (long long)x->line, x->file[x->at], LONGEST_LINE >> 20);
        if (!rc && !x->row) continue;
        *more = true;
        ex->file = x->file[x->at];
        ex->line = at;
        return rc ? rc : read_row(x, ex, at, e);
    }
    return DAN_OK;
}
