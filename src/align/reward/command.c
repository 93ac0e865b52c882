/* Any program: it reads a JSON object a line, {"prompt", "completion", "ended", ... the row's fields}, and answers each with a line:
 * a number, {"reward": number}, or null where it does not apply. */
#include <math.h>
#include <string.h>
#include "align/reward.h"
#include "base/child.h"
#include "io/json.h"

enum { PATIENCE = 600 };                       /* seconds that it may say nothing */

static int start(const char *arg, void **state, struct dan_err *e)
{
    struct dan_child *c = NULL;
    int rc = dan_child_start(arg, &c, e);
    *state = c;
    return rc;
}

static int append(const struct dan_answer *a, struct dan_str *out, struct dan_err *e)
{
    json_t *line = json_copy((json_t *)(uintptr_t)a->row);
    if (!line) line = json_object();
    int bad = json_object_set_new(line, "prompt", dan_json_string_of(a->prompt ? a->prompt : "", a->prompt ? strlen(a->prompt) : 0)) |
              json_object_set_new(line, "completion", dan_json_string_of(a->text, a->n)) | json_object_set_new(line, "ended", json_boolean(a->ended));
    if (!bad) bad = dan_json_text(line, out);
    json_decref(line);
    if (bad) return dan_fail(e, DAN_ENOMEM, "out of memory asking a reward command");
    dan_str_putc(out, '\n');
    return out->failed ? dan_fail(e, DAN_ENOMEM, "out of memory asking a reward command") : DAN_OK;
}

static int read_score(const char *p, size_t n, size_t at, double *out, struct dan_err *e)
{
    json_error_t je;
    json_t *v = json_loadb(p, n, JSON_DECODE_ANY, &je), *x = json_is_object(v) ? json_object_get(v, "reward") : v;
    bool number = json_is_number(x), none = json_is_null(x);
    *out = number ? json_number_value(x) : NAN;
    json_decref(v);
    if ((number && isfinite(*out)) || none) return DAN_OK;
    return dan_fail(e, DAN_EFORMAT, "line %zu of the reward command's answers is no number: '%.*s'; expected a number, {\"reward\": number} or null",
                    at + 1, (int)(n < 60 ? n : 60), p);
}

static int score(void *state, const struct dan_answer *a, size_t n, double *out, struct dan_err *e)
{
    struct dan_str in = {0}, got = {0};
    int rc = DAN_OK;
    for (size_t i = 0; i < n && !rc; i++) rc = append(&a[i], &in, e);
    if (!rc) rc = dan_child_ask(state, in.p, in.n, n, PATIENCE, &got, e);
    const char *p = dan_str_c(&got);
    for (size_t i = 0; i < n && !rc; i++) {
        size_t k = strcspn(p, "\n");
        rc = read_score(p, k, i, &out[i], e);
        p += k + 1;
    }
    dan_str_release(&in);
    dan_str_release(&got);
    return rc;
}

static void stop(void *state) { dan_child_stop(state); }

const struct dan_reward_kind dan_reward_kind_command = {
    .name = "command", .arg = "PROGRAM ARGS", .doc = "a program that reads a JSON object a line and answers each with a number", .free_text = true,
    .open = start, .score = score, .close = stop};
