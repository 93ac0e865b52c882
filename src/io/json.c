#include "io/json.h"
#include <math.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"

/* Deepest nesting of brackets outside strings.  Counted before parsing: jansson recurses. */
static int nesting(const char *p, size_t n)
{
    int depth = 0, deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        if (in_string && p[i] == '\\') i++;
        else if (p[i] == '"') in_string = !in_string;
        else if (in_string) continue;
        else if (p[i] == '{' || p[i] == '[') deepest = ++depth > deepest ? depth : deepest;
        else if (p[i] == '}' || p[i] == ']') depth--;
    }
    return deepest;
}

/* What people get instead of JSON, NULL: none of these. */
static const char *mistaken(const char *p, size_t n)
{
    static const struct { const char *mark; size_t n; const char *what; } kinds[] = {
        {"version https://git-lfs", 23, "is a Git LFS pointer, not the file itself: run 'git lfs pull' in its repository"},
        {"\xff\xfe", 2, "is UTF-16: convert it (iconv -f UTF-16 -t UTF-8)"},
        {"\xfe\xff", 2, "is UTF-16: convert it (iconv -f UTF-16 -t UTF-8)"},
        {"<", 1, "is a web page or XML, not JSON: fetch the file with its direct link"},
    };
    if (!n) return "is empty: fetch or write it again";
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (n >= kinds[i].n && !memcmp(p, kinds[i].mark, kinds[i].n)) return kinds[i].what;
    return NULL;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Beyond 9223372036854775807; with a minus sign -9223372036854775808 becomes a real, too, which is the same number. */
static bool too_big(const char *p, size_t digits) { return digits > 19 || (digits == 19 && memcmp(p, "9223372036854775807", 19) > 0); }

/* The text with "e0" behind whole numbers of more than 64 bits. */
static void big_as_reals(const char *p, size_t n, struct dan_str *out)
{
    bool in_string = false;
    for (size_t i = 0, from = 0; i <= n; i++) {
        size_t k = i;
        if (i == n) dan_str_append(out, p + from, n - from);
        else if (in_string && p[i] == '\\') i++;
        else if (p[i] == '"') in_string = !in_string;
        else if (in_string || !is_digit(p[i])) continue;
        else {
            while (k < n && is_digit(p[k])) k++;
            bool whole = (k == n || !strchr(".eE", p[k])) && (i == 0 || !strchr(".eE+", p[i - 1])) && (i < 2 || p[i - 1] != '-' || !strchr("eE", p[i - 2]));
            if (whole && too_big(p + i, k - i)) {
                dan_str_append(out, p + from, k - from);
                dan_str_puts(out, "e0");
                from = k;
            }
            i = k - 1;
        }
    }
}

/* jansson refuses whole numbers over 64 bits.  Configurations have them (transformers writes int(1e30) as model_max_length): they become
 * reals. */
static json_t *load(const char *p, size_t n, json_error_t *je)
{
    json_t *j = json_loadb(p, n, JSON_REJECT_DUPLICATES, je);
    if (j || json_error_code(je) != json_error_numeric_overflow) return j;
    struct dan_str s = {0};
    big_as_reals(p, n, &s);
    if (!s.failed) j = json_loadb(dan_str_c(&s), s.n, JSON_REJECT_DUPLICATES, je);
    dan_str_release(&s);
    return j;
}

int dan_json_parse(const char *path, const char *bytes, size_t n, int max_depth, json_t **out, struct dan_err *e)
{
    const char *other = mistaken(bytes, n);
    if (other) return dan_fail(e, DAN_EFORMAT, "'%s' %s", path, other);
    size_t mark = n >= 3 && !memcmp(bytes, "\xef\xbb\xbf", 3) ? 3 : 0;     /* a UTF-8 byte order mark, as Windows' editors write */
    bytes += mark;
    n -= mark;
    int depth = nesting(bytes, n);
    if (depth > max_depth)
        return dan_fail(e, DAN_EFORMAT, "JSON of '%s' is nested %d deep (at most %d is allowed): the file is not what its name says",
                        path, depth, max_depth);
    json_error_t je;
    json_t *j = load(bytes, n, &je);
    if (!j)
        return dan_fail(e, DAN_EFORMAT, "invalid JSON in '%s' at line %d, column %d: %s; the file may be cut off: fetch or write it again",
                        path, je.line, je.column, je.text);
    if (!json_is_object(j)) {
        json_decref(j);
        return dan_fail(e, DAN_EFORMAT, "'%s' holds no JSON object: expected {...}", path);
    }
    *out = j;
    return DAN_OK;
}

int dan_json_read(const char *path, json_t **out, struct dan_err *e)
{
    char *bytes;
    size_t n;
    int rc = dan_read_file(path, &bytes, &n, e);
    if (rc) return rc;
    rc = dan_json_parse(path, bytes, n, DAN_JSON_MAX_DEPTH, out, e);
    dan_free(bytes);
    return rc;
}

static int put_text(const char *text, size_t n, void *out)
{
    dan_str_append(out, text, n);
    return 0;
}

int dan_json_text(const json_t *j, struct dan_str *out) { return json_dump_callback(j, put_text, out, JSON_COMPACT) || out->failed ? -1 : 0; }

json_t *dan_json_string_of(const char *p, size_t n)
{
    struct dan_str clean = {0};
    for (size_t i = 0; i < n;) {
        int32_t cp;
        char bytes[4];
        i += (size_t)dan_utf8_next(p + i, n - i, &cp);
        dan_str_append(&clean, bytes, (size_t)dan_utf8_put(cp < 0 ? 0xFFFD : cp, bytes));
    }
    json_t *j = clean.failed ? NULL : json_stringn(dan_str_c(&clean), clean.n);
    dan_str_release(&clean);
    return j;
}

int dan_json_write(const char *path, const json_t *j, struct dan_err *e)
{
    struct dan_str s = {0};
    int bad = json_dump_callback(j, put_text, &s, JSON_INDENT(2));
    dan_str_putc(&s, '\n');
    int rc = bad || s.failed ? dan_fail(e, DAN_ENOMEM, "out of memory writing '%s'", path) : dan_write_file(path, s.p, s.n, e);
    dan_str_release(&s);
    return rc;
}

json_t *dan_json_at(const json_t *object, const char *dotted)
{
    char key[128];
    for (;;) {
        size_t n = strcspn(dotted, ".");
        if (n >= sizeof key) return NULL;
        memcpy(key, dotted, n);
        key[n] = '\0';
        json_t *j = json_object_get(object, key);
        if (!j || json_is_null(j)) return NULL;
        if (dotted[n] == '\0') return j;
        object = j;
        dotted += n + 1;
    }
}

bool dan_json_int(const json_t *j, int64_t *out)
{
    if (json_is_integer(j)) {
        *out = json_integer_value(j);
        return true;
    }
    double d = json_real_value(j);             /* 0 for what is no real */
    if (!json_is_real(j) || d != floor(d) || fabs(d) > 9007199254740992.0) return false;
    *out = (int64_t)d;
    return true;
}

void dan_path_join(struct dan_str *out, const char *dir, const char *name)
{
    if (dir && dir[0]) dan_str_printf(out, dir[strlen(dir) - 1] == '/' ? "%s" : "%s/", dir);
    dan_str_puts(out, name);
}
