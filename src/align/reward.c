#include "align/reward.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"

struct dan_reward { const struct dan_reward_kind *kind; void *state; };

const struct dan_reward_kind *dan_reward_find(const char *spec)
{
    size_t n = strcspn(spec, ":");
    for (int i = 0; dan_reward_kinds[i]; i++)
        if (strlen(dan_reward_kinds[i]->name) == n && !strncmp(dan_reward_kinds[i]->name, spec, n)) return dan_reward_kinds[i];
    return NULL;
}

static int unknown(const char *spec, struct dan_err *e)
{
    struct dan_str list = {0};
    for (int i = 0; dan_reward_kinds[i]; i++)
        dan_str_printf(&list, "%s%s%s%s", i ? ", " : "", dan_reward_kinds[i]->name, dan_reward_kinds[i]->arg ? ":" : "",
                       dan_reward_kinds[i]->arg ? dan_reward_kinds[i]->arg : "");
    int rc = dan_fail(e, DAN_EINVAL, "unknown reward '%.60s'; use one of: %s", spec, dan_str_c(&list));
    dan_str_release(&list);
    return rc;
}

int dan_reward_open(const char *spec, struct dan_reward **out, struct dan_err *e)
{
    return dan_reward_open_in(spec, &(struct dan_reward_env){0}, out, e);
}

int dan_reward_open_in(const char *spec, const struct dan_reward_env *env, struct dan_reward **out, struct dan_err *e)
{
    size_t n = strcspn(spec, ":");
    const char *arg = spec[n] ? spec + n + 1 : "";
    const struct dan_reward_kind *kind = dan_reward_find(spec);
    if (!kind) return unknown(spec, e);
    if (kind->arg && !*arg) return dan_fail(e, DAN_EINVAL, "reward '%s' lacks its argument: write %s:%s", kind->name, kind->name, kind->arg);
    if (!kind->arg && *arg) return dan_fail(e, DAN_EINVAL, "reward '%s' takes no argument", kind->name);
    struct dan_reward *r = dan_calloc(1, sizeof *r);
    if (!r) return dan_fail(e, DAN_ENOMEM, "out of memory opening reward '%s'", kind->name);
    r->kind = kind;
    int rc = kind->open_in ? kind->open_in(arg, env, &r->state, e) : kind->open ? kind->open(arg, &r->state, e) : DAN_OK;
    if (rc) dan_free(r);
    else *out = r;
    return rc;
}

int dan_reward_of(const struct dan_reward_kind *kind, void *state, struct dan_reward **out, struct dan_err *e)
{
    struct dan_reward *r = dan_calloc(1, sizeof *r);
    if (!r) return dan_fail(e, DAN_ENOMEM, "out of memory opening reward '%s'", kind->name);
    *r = (struct dan_reward){kind, state};
    *out = r;
    return DAN_OK;
}

void dan_reward_close(struct dan_reward *r)
{
    if (!r) return;
    if (r->kind->close) r->kind->close(r->state);
    dan_free(r);
}

const char *dan_reward_name(const struct dan_reward *r) { return r->kind->name; }

int dan_reward_score(struct dan_reward *r, const struct dan_answer *a, size_t n, double *out, struct dan_err *e)
{
    return n ? r->kind->score(r->state, a, n, out, e) : DAN_OK;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Where the number that ends before p[n] begins; commas between digits belong to it. */
static size_t begin_of(const char *p, size_t n)
{
    size_t i = n;
    while (i > 0 && (is_digit(p[i - 1]) || (i > 1 && (p[i - 1] == ',' || p[i - 1] == '.') && i < n && is_digit(p[i - 2]) && is_digit(p[i])))) i--;
    return i;
}

bool dan_last_number(const char *p, size_t n, double *out)
{
    char digits[64];
    size_t k = 0;
    while (n > 0 && !is_digit(p[n - 1])) n--;
    if (n == 0) return false;
    size_t i = begin_of(p, n);
    bool negative = i > 0 && p[i - 1] == '-' && (i < 2 || !is_digit(p[i - 2]));
    for (; i < n && k + 1 < sizeof digits; i++)
        if (p[i] != ',') digits[k++] = p[i];
    digits[k] = 0;
    *out = (negative ? -1 : 1) * strtod(digits, NULL);
    return true;
}

const char *dan_reference_answer(const json_t *row)
{
    static const char *const fields[] = {"answer", "solution", "target", "output"};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (json_is_string(json_object_get(row, fields[i]))) return json_string_value(json_object_get(row, fields[i]));
    return NULL;
}
