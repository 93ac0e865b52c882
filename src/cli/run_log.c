/* log.jsonl of a run. */
#include "cli/run_log.h"
#include <jansson.h>
#include <math.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"

static struct log_column *column(struct run_log *l, const char *key)
{
    for (size_t i = 0; i < l->n; i++)
        if (!strcmp(l->v[i].key, key)) return &l->v[i];
    if (dan_vec_grow(&l->v, &l->cap, l->n + 1, sizeof *l->v)) return NULL;
    struct log_column *c = &l->v[l->n];
    *c = (struct log_column){.key = dan_strdup(key)};
    l->n += c->key != NULL;
    return c->key ? c : NULL;
}

static int add_row(struct run_log *l, const json_t *row, double number)
{
    const char *key;
    json_t *v, *step = json_object_get(row, "step");
    json_object_foreach((json_t *)row, key, v) {
        if (!json_is_number(v) || !strcmp(key, "step")) continue;
        struct log_column *c = column(l, key);
        if (!c || dan_vec_grow(&c->y, &c->cap, c->n + 1, sizeof *c->y) || dan_vec_grow(&c->step, &c->step_cap, c->n + 1, sizeof *c->step)) return -1;
        c->step[c->n] = json_is_number(step) ? json_number_value(step) : number;
        c->y[c->n++] = json_number_value(v);
    }
    return 0;
}

int run_log_read(const char *dir, struct run_log *out)
{
    struct dan_str path = {0};
    char *bytes, *end;
    size_t n;
    int bad = 0;
    double number = 0;
    *out = (struct run_log){0};
    dan_str_printf(&path, "%s/log.jsonl", dir);
    bool ok = !path.failed && !dan_read_file(path.p, &bytes, &n, NULL);
    dan_str_release(&path);
    if (!ok) return 0;
    for (char *line = bytes; line < bytes + n && !bad; line = end + 1) {
        end = memchr(line, '\n', (size_t)(bytes + n - line));
        end = end ? end : bytes + n;
        json_t *row = json_loadb(line, (size_t)(end - line), 0, NULL);
        bad = add_row(out, row, ++number);
        json_decref(row);
    }
    dan_free(bytes);
    return bad;
}

void run_log_release(struct run_log *l)
{
    for (size_t i = 0; i < l->n; i++) {
        dan_free(l->v[i].key);
        dan_free(l->v[i].step);
        dan_free(l->v[i].y);
    }
    dan_free(l->v);
    *l = (struct run_log){0};
}

const char *run_log_title(const char *key)
{
    static const struct { const char *key, *title; } titles[] = {
        {"loss", "training loss"}, {"val_loss", "validation loss"}, {"accuracy", "accuracy"}, {"rewards/accuracies", "accuracy"},
        {"rewards/margins", "reward margin"}, {"reward", "reward"}, {"objective/rlhf_reward", "reward less KL"}, {"objective/scores", "reward"},
        {"kl", "KL from the reference"}, {"objective/kl", "KL from the reference"}, {"entropy", "entropy"}, {"objective/entropy", "entropy"},
        {"completions/mean_length", "tokens of an answer"}, {"train/num_gen_batches", "rounds of answers a step"}};
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++)
        if (!strcmp(titles[i].key, key)) return titles[i].title;
    return NULL;
}
