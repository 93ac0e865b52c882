#include "io/hf_labels.h"
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "io/json.h"

static int set_names(const json_t *config, struct dan_hf_labels *l, struct dan_err *e)
{
    const json_t *map = dan_json_at(config, "id2label");
    char key[32], plain[32];
    for (int64_t i = 0; i < l->n; i++) {
        snprintf(key, sizeof key, "%lld", (long long)i);
        snprintf(plain, sizeof plain, "LABEL_%lld", (long long)i);
        const char *name = json_string_value(json_object_get(map, key));
        size_t bytes = strlen(name ? name : plain) + 1;
        if (!(l->name[i] = dan_malloc(bytes))) return dan_fail(e, DAN_ENOMEM, "not enough memory for the names of %lld classes", (long long)l->n);
        memcpy(l->name[i], name ? name : plain, bytes);
    }
    return DAN_OK;
}

static int set_problem(const char *dir, const json_t *config, struct dan_hf_labels *l, struct dan_err *e)
{
    static const struct { const char *name; enum dan_problem p; } known[] = {
        {"single_label_classification", DAN_PROBLEM_ONE}, {"multi_label_classification", DAN_PROBLEM_MANY}, {"regression", DAN_PROBLEM_NUMBER}};
    const json_t *j = dan_json_at(config, "problem_type");
    const char *name = json_string_value(j);
    l->problem = l->n == 1 ? DAN_PROBLEM_MANY : DAN_PROBLEM_ONE;
    if (!j) return DAN_OK;
    for (size_t i = 0; name && i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0) {
            if (known[i].p != DAN_PROBLEM_ONE || l->n > 1) l->problem = known[i].p;
            return DAN_OK;
        }
    return dan_fail(e, DAN_EFORMAT, "'problem_type' is '%.40s' in the config.json of '%s'; it must be single_label_classification, "
                    "multi_label_classification or regression", name ? name : "?", dir);
}

int dan_hf_labels_load(const char *dir, int64_t n, struct dan_hf_labels *out, struct dan_err *e)
{
    struct dan_str path = {0};
    json_t *config = NULL;
    *out = (struct dan_hf_labels){.n = n, .name = dan_calloc((size_t)n + 1, sizeof *out->name)};
    dan_path_join(&path, dir, "config.json");
    int rc = path.failed || !out->name ? dan_fail(e, DAN_ENOMEM, "not enough memory for the names of %lld classes", (long long)n)
                                       : dan_json_read(path.p, &config, e);
    if (!rc) rc = set_names(config, out, e);
    if (!rc) rc = set_problem(dir, config, out, e);
    json_decref(config);
    dan_str_release(&path);
    if (rc) dan_hf_labels_release(out);
    return rc;
}

void dan_hf_labels_release(struct dan_hf_labels *l)
{
    for (int64_t i = 0; l->name && i < l->n; i++) dan_free(l->name[i]);
    dan_free(l->name);
    *l = (struct dan_hf_labels){0};
}
