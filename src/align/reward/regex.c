/* 1 where a pattern is found in the answer. */
#include <string.h>
#include "align/reward.h"
#include "base/mem.h"
#include "text/pattern.h"

static int open_pattern(const char *arg, void **state, struct dan_err *e)
{
    struct dan_pattern *p = NULL;
    int rc = dan_pattern_new(arg, strlen(arg), false, "reward regex", &p, e);
    *state = p;
    return rc;
}

static int score(void *state, const struct dan_answer *a, size_t n, double *out, struct dan_err *e)
{
    struct dan_pattern_room room = {0};
    int rc = DAN_OK;
    for (size_t i = 0; i < n && !rc; i++) {
        struct dan_parts parts = {0};
        rc = dan_pattern_cut(state, &room, a[i].text, a[i].n, &parts, e);
        out[i] = 0;
        for (size_t k = 0; k < parts.n; k++)
            if (parts.v[k].match) out[i] = 1;
        if (!rc && parts.failed) rc = dan_fail(e, DAN_ENOMEM, "out of memory matching an answer");
        dan_parts_release(&parts);
    }
    dan_pattern_room_release(&room);
    return rc;
}

static void close_pattern(void *state) { dan_pattern_free(state); }

const struct dan_reward_kind dan_reward_kind_regex = {
    .name = "regex", .arg = "PATTERN", .doc = "1 if the pattern is found in the answer, else 0", .open = open_pattern, .score = score, .close = close_pattern};
