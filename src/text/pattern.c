#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pattern.h"
#include <pcre2.h>
#include <string.h>
#include "base/mem.h"
#include "base/sys.h"
#include "base/utf8.h"

enum {
    MOST_BYTES = 1 << 16,                      /* of a pattern */
    MOST_COMPILED = 16 << 20,
    MATCH_LIMIT = 1000000,                     /* steps of one match */
    DEPTH_LIMIT = 100000, HEAP_KIB = 64 << 10, /* of the interpreter, which runs when the JIT's stack is too small */
    STACK_FIRST = 32 << 10, STACK_MOST = 4 << 20,
};
/* Seconds for one text: 0.05 MB/s is far below every honest pattern. */
static const double least_seconds = 10, seconds_per_byte = 20e-6;

struct dan_pattern {
    char  *text;                               /* as written, for messages and literals */
    size_t n;
    pcre2_code *code;                          /* NULL: literal */
    bool   jit;
};

static int compile(struct dan_pattern *x, const struct dan_str *s, const char *where, struct dan_err *e)
{
    int error;
    PCRE2_SIZE at, size = 0;
    pcre2_compile_context *c = pcre2_compile_context_create(NULL);
    if (!c) return dan_fail(e, DAN_ENOMEM, "out of memory for the pattern of %s", where);
    pcre2_set_newline(c, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(c, 100);
    pcre2_set_bsr(c, PCRE2_BSR_UNICODE);
    x->code = pcre2_compile((PCRE2_SPTR)dan_str_c(s), s->n, PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &at, c);
    pcre2_compile_context_free(c);
    if (!x->code) {
        PCRE2_UCHAR why[160] = "";
        pcre2_get_error_message(error, why, sizeof why);
        return dan_fail(e, DAN_EUNSUPPORTED, "%s '%.150s' is a pattern that danlu cannot run: %s (at '%.30s')", where, x->text,
                        (const char *)why, at <= s->n ? dan_str_c(s) + at : "");
    }
    pcre2_pattern_info(x->code, PCRE2_INFO_SIZE, &size);
    if (size > MOST_COMPILED)
        return dan_fail(e, DAN_EUNSUPPORTED, "%s '%.150s' is a pattern of %zu bytes when compiled, more than %d; write it shorter", where,
                        x->text, (size_t)size, MOST_COMPILED);
    x->jit = pcre2_jit_compile(x->code, PCRE2_JIT_COMPLETE) == 0;
    return DAN_OK;
}

int dan_pattern_new(const char *p, size_t n, bool literal, const char *where, struct dan_pattern **out, struct dan_err *e)
{
    if (n > MOST_BYTES)
        return dan_fail(e, DAN_EUNSUPPORTED, "%s is a pattern of %zu bytes, more than %d; the file is damaged", where, n, MOST_BYTES);
    struct dan_pattern *x = dan_calloc(1, sizeof *x);
    if (x) x->text = dan_calloc(n + 1, 1);
    if (!x || !x->text) {
        dan_free(x);
        return dan_fail(e, DAN_ENOMEM, "out of memory for the pattern of %s", where);
    }
    memcpy(x->text, p, n);
    x->n = n;
    struct dan_str s = {0};
    const char *what = NULL;
    int r = DAN_OK;
    if (literal && n) *out = x;
    else if (!literal && dan_pattern_translate(p, n, &s, &what) != 0)
        r = dan_fail(e, DAN_EUNSUPPORTED, "%s '%.150s' uses %s, which danlu does not run", where, x->text, what);
    else if (s.failed) r = dan_fail(e, DAN_ENOMEM, "out of memory for the pattern of %s", where);
    else r = compile(x, &s, where, e);
    dan_str_release(&s);
    if (r) dan_pattern_free(x);
    else *out = x;
    return r;
}

void dan_pattern_free(struct dan_pattern *x)
{
    if (!x) return;
    if (x->code) pcre2_code_free(x->code);
    dan_free(x->text);
    dan_free(x);
}

const char *dan_pattern_literal(const struct dan_pattern *x, size_t *n)
{
    *n = x->n;
    return x->code ? NULL : x->text;
}

void dan_parts_push(struct dan_parts *s, size_t from, size_t to, bool match)
{
    if (s->n == s->cap && (s->failed || dan_vec_grow(&s->v, &s->cap, s->n + 1, sizeof *s->v) != 0)) {
        s->failed = true;
        return;
    }
    s->v[s->n++] = (struct dan_part){from, to, match};
}

void dan_parts_release(struct dan_parts *s)
{
    dan_free(s->v);
    *s = (struct dan_parts){0};
}

void dan_pattern_room_release(struct dan_pattern_room *r)
{
    if (r->data) pcre2_match_data_free(r->data);
    if (r->context) pcre2_match_context_free(r->context);
    if (r->stack) pcre2_jit_stack_free(r->stack);
    dan_str_release(&r->shadow);
    *r = (struct dan_pattern_room){0};
}

static int prepare(struct dan_pattern_room *r, struct dan_err *e)
{
    if (r->data) return DAN_OK;
    r->data = pcre2_match_data_create(1, NULL);
    r->context = pcre2_match_context_create(NULL);
    r->stack = pcre2_jit_stack_create(STACK_FIRST, STACK_MOST, NULL);
    if (!r->data || !r->context || !r->stack) {
        dan_pattern_room_release(r);
        return dan_fail(e, DAN_ENOMEM, "out of memory to match a pattern");
    }
    pcre2_set_match_limit(r->context, MATCH_LIMIT);
    pcre2_set_depth_limit(r->context, DEPTH_LIMIT);
    pcre2_set_heap_limit(r->context, HEAP_KIB);
    pcre2_jit_stack_assign(r->context, NULL, r->stack);
    return DAN_OK;
}

static int too_long(const struct dan_pattern *x, size_t at, struct dan_err *e)
{
    return dan_fail(e, DAN_EINVAL, "the pattern '%.150s' takes too long on this text (at byte %zu): it backtracks without end; cut the "
                    "text, or use another tokenizer", x->text, at);
}

/* 1: a match at [*from, *to), 0: none. */
static int match(const struct dan_pattern *x, struct dan_pattern_room *r, const char *p, size_t n, size_t at, size_t *from, size_t *to,
                 struct dan_err *e)
{
    if ((++r->calls & 15) == 0 && dan_now() > r->deadline) return too_long(x, at, e);
    PCRE2_SPTR s = (PCRE2_SPTR)p;
    int k = x->jit ? pcre2_jit_match(x->code, s, n, at, 0, r->data, r->context) : PCRE2_ERROR_JIT_STACKLIMIT;
    if (k == PCRE2_ERROR_JIT_STACKLIMIT) k = pcre2_match(x->code, s, n, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, r->data, r->context);
    if (k == PCRE2_ERROR_NOMATCH) return 0;
    if (k == PCRE2_ERROR_NOMEMORY) return dan_fail(e, DAN_ENOMEM, "out of memory to match the pattern '%.150s'", x->text);
    if (k < 0) return too_long(x, at, e);
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(r->data);
    *from = v[0] < at ? at : v[0];
    *to = v[1] < *from ? *from : v[1];
    return 1;
}

static int literal_match(const struct dan_pattern *x, const char *p, size_t n, size_t at, size_t *from, size_t *to)
{
    const char *hit = at < n ? memmem(p + at, n - at, x->text, x->n) : NULL;
    if (!hit) return 0;
    *from = (size_t)(hit - p);
    *to = *from + x->n;
    return 1;
}

/* PCRE2 wants UTF-8: a copy in which each invalid byte is a control character, which no class of the usual patterns knows. */
static const char *valid(struct dan_pattern_room *r, const char *p, size_t n)
{
    size_t good = dan_utf8_check(p, n);
    if (good == n) return p;
    dan_str_clear(&r->shadow);
    dan_str_append(&r->shadow, p, n);
    while (good < n && !r->shadow.failed) {
        r->shadow.p[good++] = 1;
        good += dan_utf8_check(p + good, n - good);
    }
    return r->shadow.failed ? NULL : r->shadow.p;
}

/* The matches of Oniguruma's iterator: an empty one right after the last match does not count. */
static int each_match(const struct dan_pattern *x, struct dan_pattern_room *room, const char *p, size_t n, struct dan_parts *out,
                      struct dan_err *e)
{
    size_t from = 0, to = 0, prev = 0, last = SIZE_MAX;
    for (size_t at = 0; at <= n;) {
        int k = x->code ? match(x, room, p, n, at, &from, &to, e) : literal_match(x, p, n, at, &from, &to);
        if (k < 0) return k;
        if (k == 0) break;
        if (from == to && last == to) {
            int32_t cp;
            at += at < n ? (size_t)dan_utf8_next(p + at, n - at, &cp) : 1;
            continue;
        }
        at = last = to;
        if (prev < from) dan_parts_push(out, prev, from, false);
        dan_parts_push(out, from, to, true);
        prev = to;
    }
    if (prev < n) dan_parts_push(out, prev, n, false);
    return DAN_OK;
}

int dan_pattern_cut(const struct dan_pattern *x, struct dan_pattern_room *room, const char *p, size_t n, struct dan_parts *out,
                    struct dan_err *e)
{
    if (n == 0) {
        dan_parts_push(out, 0, 0, false);
        return DAN_OK;
    }
    int r = prepare(room, e);
    if (r) return r;
    const char *text = x->code ? valid(room, p, n) : p;
    if (!text) return dan_fail(e, DAN_ENOMEM, "out of memory for a copy of %zu bytes", n);
    if (room->deadline == 0) room->deadline = dan_now() + least_seconds;
    room->deadline += (double)n * seconds_per_byte;
    r = each_match(x, room, text, n, out, e);
    return r ? r : out->failed ? dan_fail(e, DAN_ENOMEM, "out of memory for the parts of %zu bytes", n) : DAN_OK;
}
