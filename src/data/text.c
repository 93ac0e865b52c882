#include "data/text.h"
#include <jansson.h>
#include <string.h>
#include <strings.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/utf8.h"

enum { MAX_DEPTH = 32, PROBE = 65536 };

static const char separator[] = "<|endoftext|>";
static const char *const suffixes[] = {".txt", ".md", ".text", ".jsonl"};

struct source { char *path; bool named, checked; };              /* named: given by the user, not found in a directory */

struct dan_text {
    struct source *file;
    size_t n, cap;
    char  *field;
    bool   allow_invalid;
    /* where the walk is */
    size_t at;                                 /* file */
    bool   open;
    struct dan_mapping map;
    size_t pos;                                /* byte of it */
    int64_t line;                              /* of pos, from 1 */
    int64_t docs, blank;
    json_t *row;                               /* owns the text of a JSONL document */
};

static int fail_out_of_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "out of memory gathering text"); }

/* ---- finding files ---- */

static bool has_suffix(const char *path, const char *suffix)
{
    size_t n = strlen(path), k = strlen(suffix);
    return n > k && !strcasecmp(path + n - k, suffix);
}

static bool is_text_name(const char *path)
{
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++)
        if (has_suffix(path, suffixes[i])) return true;
    return false;
}

static int add_file(struct dan_text *t, const char *path, bool named, struct dan_err *e)
{
    char *copy = dan_strdup(path);
    if (!copy || dan_vec_grow(&t->file, &t->cap, t->n + 1, sizeof *t->file)) {
        dan_free(copy);
        return fail_out_of_memory(e);
    }
    t->file[t->n++] = (struct source){copy, named, false};
    return DAN_OK;
}

static int add_dir(struct dan_text *t, const char *dir, int depth, struct dan_err *e)
{
    char **names;
    size_t n;
    if (depth > MAX_DEPTH)
        return dan_fail(e, DAN_EINVAL, "directories are nested more than %d deep at '%s': a link may lead back; give the files themselves",
                        MAX_DEPTH, dir);
    int rc = dan_list_dir(dir, &names, &n, e);
    if (rc) return rc;
    struct dan_str path = {0};
    for (size_t i = 0; i < n && !rc; i++) {
        if (names[i][0] == '.') continue;
        dan_str_clear(&path);
        dan_str_printf(&path, "%s%s%s", dir, dan_str_ends(dir, "/") ? "" : "/", names[i]);
        if (path.failed) rc = fail_out_of_memory(e);
        else if (dan_path_is_dir(path.p)) rc = add_dir(t, path.p, depth + 1, e);
        else if (is_text_name(path.p)) rc = add_file(t, path.p, false, e);
    }
    dan_str_release(&path);
    dan_free_list(names, n);
    return rc;
}

static int add_path(struct dan_text *t, const char *path, struct dan_err *e)
{
    size_t before = t->n;
    if (!dan_path_exists(path))
        return dan_fail(e, DAN_EIO, "no such file or directory '%s': check the path", path);
    if (has_suffix(path, ".json"))
        return dan_fail(e, DAN_EUNSUPPORTED, "'%s' is not read as text: write JSON lines (.jsonl), one object with a \"text\" field a line",
                        path);
    if (!dan_path_is_dir(path)) return add_file(t, path, true, e);
    int rc = add_dir(t, path, 0, e);
    if (!rc && t->n == before)
        rc = dan_fail(e, DAN_EINVAL, "no text in '%s': looked for .txt .md .text .jsonl below it; name other files themselves", path);
    return rc;
}

int dan_text_open(const char *const *paths, size_t n, const struct dan_text_opts *o, struct dan_text **out, struct dan_err *e)
{
    struct dan_text *t = dan_calloc(1, sizeof *t);
    if (!t) return fail_out_of_memory(e);
    t->line = 1;
    t->allow_invalid = o && o->allow_invalid;
    t->field = dan_strdup(o && o->field ? o->field : "text");
    int rc = !t->field ? fail_out_of_memory(e) : n ? DAN_OK : dan_fail(e, DAN_EINVAL, "no text was given: name files or directories");
    for (size_t i = 0; i < n && !rc; i++) rc = add_path(t, paths[i], e);
    if (rc) dan_text_free(t);
    else *out = t;
    return rc;
}

static void close_file(struct dan_text *t)
{
    json_decref(t->row);
    t->row = NULL;
    if (t->open) dan_unmap_file(&t->map);
    t->open = false;
}

void dan_text_free(struct dan_text *t)
{
    if (!t) return;
    close_file(t);
    for (size_t i = 0; i < t->n; i++) dan_free(t->file[i].path);
    dan_free(t->file);
    dan_free(t->field);
    dan_free(t);
}

size_t dan_text_n_files(const struct dan_text *t) { return t->n; }
const char *dan_text_file(const struct dan_text *t, size_t i) { return t->file[i].path; }

void dan_text_rewind(struct dan_text *t)
{
    close_file(t);
    t->at = 0;
    t->docs = t->blank = 0;
}

/* ---- is it text? ---- */

static const struct { const char *magic; size_t n; const char *what, *todo; } kinds[] = {
    {"\x1f\x8b", 2, "compressed (gzip)", "unpack it first: gunzip"},
    {"\x28\xb5\x2f\xfd", 4, "compressed (zstd)", "unpack it first: zstd -d"},
    {"\xfd" "7zXZ", 5, "compressed (xz)", "unpack it first: xz -d"},
    {"PK\x03\x04", 4, "a zip archive", "unpack it first: unzip"},
    {"PAR1", 4, "a Parquet file", "export its text column as .jsonl or .txt first"},
    {"version https://git-lfs", 23, "a Git LFS pointer", "run 'git lfs pull' in its repository"},
    {"%PDF", 4, "a PDF", "extract its text first: pdftotext"},
    {"\xff\xfe", 2, "UTF-16", "convert it: iconv -f UTF-16 -t UTF-8"},
    {"\xfe\xff", 2, "UTF-16", "convert it: iconv -f UTF-16 -t UTF-8"},
};

static int64_t count_lines(const char *p, size_t n)
{
    int64_t lines = 0;
    for (const char *q = p, *end = p + n; q < end && (q = memchr(q, '\n', (size_t)(end - q))); q++) lines++;
    return lines;
}

static int check_binary(const char *path, const char *p, size_t n, struct dan_err *e)
{
    size_t control = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c == 0) return dan_fail(e, DAN_EFORMAT, "'%s' is binary, not text: byte %zu is NUL; leave it out", path, i);
        control += c < 0x20 && !strchr("\t\n\v\f\r\x1b", c);
    }
    if (control * 100 > n)
        return dan_fail(e, DAN_EFORMAT, "'%s' is binary, not text: %zu of its first %zu bytes are control characters; leave it out", path,
                        control, n);
    return DAN_OK;
}

int dan_text_check(const char *path, const char *p, size_t n, struct dan_err *e)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (n >= kinds[i].n && !memcmp(p, kinds[i].magic, kinds[i].n))
            return dan_fail(e, DAN_EFORMAT, "'%s' is %s, not plain text: %s", path, kinds[i].what, kinds[i].todo);
    return check_binary(path, p, n < PROBE ? n : PROBE, e);
}

static int check_file(const struct dan_text *t, const struct source *f, struct dan_err *e)
{
    const char *p = t->map.p;
    size_t n = t->map.n;
    if (n == 0) return f->named ? dan_fail(e, DAN_EFORMAT, "'%s' is empty: there is nothing to learn from it", f->path) : DAN_OK;
    int rc = dan_text_check(f->path, p, n, e);
    size_t bad = rc || t->allow_invalid ? n : dan_utf8_check(p, n);
    if (bad < n)
        return dan_fail(e, DAN_EFORMAT, "invalid UTF-8 in '%s' at byte %zu, line %lld: convert it (iconv -f LATIN1 -t UTF-8, or -f GB18030 "
                        "for Chinese), or pass it on as bytes with --allow-invalid", f->path, bad, (long long)count_lines(p, bad) + 1);
    return rc;
}

static int open_file(struct dan_text *t, struct dan_err *e)
{
    struct source *f = &t->file[t->at];
    int rc = dan_map_file(f->path, &t->map, e);
    if (rc) return rc;
    t->open = true;
    t->line = 1;
    if (!f->checked && (rc = check_file(t, f, e))) {
        close_file(t);
        return rc;
    }
    f->checked = true;
    t->blank += t->map.n == 0;
    t->pos = t->map.n >= 3 && !memcmp(t->map.p, "\xef\xbb\xbf", 3) ? 3 : 0;
    return DAN_OK;
}

/* ---- documents ---- */

static bool is_blank(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != ' ' && (p[i] < '\t' || p[i] > '\r')) return false;
    return true;
}

/* Start of the next separator line at or after `from`, and of the line after it; n, n when there is none. */
static size_t find_separator(const char *p, size_t n, size_t from, size_t *after)
{
    const size_t k = sizeof separator - 1;
    for (const char *s; (s = memmem(p + from, n - from, separator, k)); from = (size_t)(s - p) + k) {
        size_t begin = (size_t)(s - p), end = begin + k;
        if (begin > 0 && p[begin - 1] != '\n') continue;
        if (end < n && p[end] == '\r') end++;
        if (end < n && p[end] != '\n') continue;
        *after = end < n ? end + 1 : n;
        return begin;
    }
    return *after = n;
}

static void next_text(struct dan_text *t, struct dan_document *doc)
{
    const char *p = t->map.p;
    size_t after, end = find_separator(p, t->map.n, t->pos, &after), begin = t->pos;
    doc->p = p + begin;
    doc->line = t->line;
    t->line += count_lines(p + begin, after - begin);
    t->pos = after;
    if (end < t->map.n && end > begin && p[end - 1] == '\n') end--;        /* it ends the last line, before the separator */
    if (end < t->map.n && end > begin && p[end - 1] == '\r') end--;
    doc->n = end - begin;
}

static int bad_row(const struct dan_text *t, const char *path, const json_t *row, int64_t line, struct dan_err *e)
{
    static const char *const dialogues[] = {"messages", "conversations", "instruction", "chosen", "prompt"};
    if (!json_is_object(row))
        return dan_fail(e, DAN_EFORMAT, "line %lld of '%s' is no JSON object: expected {\"%s\": \"...\"}", (long long)line, path,
                        t->field);
    if (json_object_get(row, t->field))
        return dan_fail(e, DAN_EFORMAT, "field '%s' in line %lld of '%s' is no string", t->field, (long long)line, path);
    for (size_t i = 0; i < sizeof dialogues / sizeof dialogues[0]; i++)
        if (json_object_get(row, dialogues[i]))
            return dan_fail(e, DAN_EUNSUPPORTED, "line %lld of '%s' is a dialogue ('%s'), which is not supported here: this reads "
                            "plain text, {\"%s\": \"...\"}", (long long)line, path, dialogues[i], t->field);
    struct dan_str keys = {0};
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)row, key, v)
        if (json_is_string(v) && keys.n < 200) dan_str_printf(&keys, "%s%s", keys.n ? ", " : "", key);
    int rc = dan_fail(e, DAN_EFORMAT, "no field '%s' in line %lld of '%s' (text fields: %s): name one with --field", t->field,
                      (long long)line, path, keys.n ? dan_str_c(&keys) : "none");
    dan_str_release(&keys);
    return rc;
}

static int next_row(struct dan_text *t, struct dan_document *doc, struct dan_err *e)
{
    const char *path = t->file[t->at].path, *p = t->map.p + t->pos, *end = memchr(p, '\n', t->map.n - t->pos);
    size_t n = end ? (size_t)(end - p) : t->map.n - t->pos;
    json_error_t je;
    t->pos += n + (end != NULL);
    doc->line = t->line++;
    doc->p = p;
    doc->n = 0;
    if (is_blank(p, n)) return DAN_OK;
    json_decref(t->row);
    t->row = json_loadb(p, n, JSON_ALLOW_NUL, &je);
    if (!t->row)
        return dan_fail(e, DAN_EFORMAT, "invalid JSON in '%s', line %lld, column %d: %s", path, (long long)doc->line, je.column, je.text);
    const json_t *text = json_object_get(t->row, t->field);
    if (!json_is_string(text)) return bad_row(t, path, t->row, doc->line, e);
    doc->p = json_string_value(text);
    doc->n = json_string_length(text);
    return DAN_OK;
}

/* The next document of the open file, blank or not. */
static int next_doc(struct dan_text *t, struct dan_document *doc, struct dan_err *e)
{
    doc->file = t->file[t->at].path;
    if (has_suffix(doc->file, ".jsonl")) return next_row(t, doc, e);
    next_text(t, doc);
    return DAN_OK;
}

int dan_text_next(struct dan_text *t, struct dan_document *doc, struct dan_err *e)
{
    *doc = (struct dan_document){0};
    for (; t->at < t->n; t->at++, close_file(t)) {
        int rc = t->open ? DAN_OK : open_file(t, e);
        while (!rc && t->pos < t->map.n) {
            rc = next_doc(t, doc, e);
            if (!rc && !is_blank(doc->p, doc->n)) {
                doc->index = t->docs++;
                return DAN_OK;
            }
            t->blank += t->pos < t->map.n || doc->n == t->map.n;   /* what is left after the last separator is no document */
        }
        if (rc) return rc;
    }
    *doc = (struct dan_document){.index = t->docs};
    return DAN_OK;
}

int dan_text_count(struct dan_text *t, struct dan_text_stats *out, struct dan_err *e)
{
    struct dan_document doc;
    struct dan_text_stats s = {0};
    dan_text_rewind(t);
    int rc;
    while (!(rc = dan_text_next(t, &doc, e)) && doc.p) {
        s.docs++;
        s.bytes += (int64_t)doc.n;
        if ((int64_t)doc.n > s.longest) s.longest = (int64_t)doc.n;
    }
    s.blank = t->blank;
    dan_text_rewind(t);
    if (!rc && !s.docs)
        rc = dan_fail(e, DAN_EFORMAT, "no text in '%s'%s: all of it is blank", t->file[0].path, t->n > 1 ? " and the other files" : "");
    if (!rc) *out = s;
    return rc;
}
