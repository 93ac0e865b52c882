#include "io/checkpoint.h"
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/mem.h"
#include "io/json.h"
#include "io/safetensors.h"

static const char TENSORS[] = "tensors.safetensors", STATE[] = "state.json", MANIFEST[] = "manifest.json";
static const char STEP[] = "step-", TMP[] = ".tmp-";

/* ---- paths ---- */

static int fail_out_of_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "out of memory for a checkpoint"); }

static void clean_dir(struct dan_str *out, const char *dir)
{
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/') n--;
    dan_str_append(out, dir, n);
}

/* "a/b/step-1" -> parent "a/b", name "step-1" (a pointer into dir) */
static const char *split_path(const char *dir, struct dan_str *parent)
{
    const char *slash = strrchr(dir, '/');
    dan_str_append(parent, slash ? dir : ".", slash ? (size_t)(slash - dir) : 1);
    if (slash == dir) dan_str_puts(parent, "/");
    return slash ? slash + 1 : dir;
}

void dan_checkpoint_path(const char *out_dir, int64_t step, struct dan_str *path)
{
    dan_path_join(path, out_dir, "checkpoints/");
    dan_str_printf(path, "%s%06lld", STEP, (long long)step);
}

/* ---- saving ---- */

/* Read back from the file: what was written is what is vouched for. */
static int add_to_manifest(json_t *files, const char *dir, const char *name, struct dan_err *e)
{
    struct dan_str path = {0};
    uint32_t crc = 0;
    int64_t bytes = 0;
    dan_path_join(&path, dir, name);
    int rc = path.failed ? fail_out_of_memory(e) : dan_file_crc(path.p, &crc, &bytes, e);
    dan_str_release(&path);
    if (rc) return rc;
    json_t *j = json_pack("{s:s, s:I, s:I}", "name", name, "bytes", (json_int_t)bytes, "crc32", (json_int_t)crc);
    return json_array_append_new(files, j) ? fail_out_of_memory(e) : DAN_OK;
}

static int write_manifest(const char *dir, struct dan_err *e)
{
    json_t *files = json_array(), *j = json_pack("{s:s, s:i, s:O}", "format", "danlu checkpoint", "version", 1, "files", files);
    struct dan_str path = {0};
    dan_path_join(&path, dir, MANIFEST);
    int rc = j && !path.failed ? DAN_OK : fail_out_of_memory(e);
    if (!rc) rc = add_to_manifest(files, dir, TENSORS, e);
    if (!rc) rc = add_to_manifest(files, dir, STATE, e);
    if (!rc) rc = dan_json_write(path.p, j, e);
    json_decref(files);
    json_decref(j);
    dan_str_release(&path);
    return rc;
}

static int write_files(const char *dir, const struct dan_store *tensors, const char *state, struct dan_err *e)
{
    struct dan_str a = {0}, b = {0};
    dan_path_join(&a, dir, TENSORS);
    dan_path_join(&b, dir, STATE);
    int rc = a.failed || b.failed ? fail_out_of_memory(e) : DAN_OK;
    if (!rc) rc = dan_safetensors_save(a.p, tensors, NULL, 0, e);
    if (!rc) rc = dan_write_file(b.p, state, strlen(state), e);
    if (!rc) rc = write_manifest(dir, e);
    dan_str_release(&a);
    dan_str_release(&b);
    return rc;
}

/* An old directory of that name steps aside first and goes last. */
static int replace_dir(const char *temp, const char *dir, struct dan_err *e)
{
    if (!dan_path_exists(dir)) return dan_rename_dir(temp, dir, e);
    struct dan_str old = {0};
    dan_str_printf(&old, "%s-old", temp);
    int rc = old.failed ? fail_out_of_memory(e) : dan_rename_dir(dir, old.p, e);
    if (!rc && (rc = dan_rename_dir(temp, dir, e))) dan_rename_dir(old.p, dir, NULL);
    if (!rc) dan_remove_tree(old.p, NULL);
    dan_str_release(&old);
    return rc;
}

static int remove_temps(const char *parent, struct dan_err *e)
{
    char **names;
    size_t n;
    int rc = dan_list_dir(parent, &names, &n, e);
    if (rc) return rc;
    struct dan_str path = {0};
    for (size_t i = 0; i < n && !rc; i++) {
        if (!dan_str_starts(names[i], TMP)) continue;
        dan_str_clear(&path);
        dan_path_join(&path, parent, names[i]);
        rc = path.failed ? fail_out_of_memory(e) : dan_remove_tree(path.p, e);
    }
    dan_str_release(&path);
    dan_free_list(names, n);
    return rc;
}

static int save_at(const char *dir, const char *parent, const char *temp, const struct dan_store *tensors, const char *state,
                   struct dan_err *e)
{
    int64_t need = dan_safetensors_size(tensors, NULL, 0) + (int64_t)strlen(state) + 4096;
    struct dan_err why = {0};
    int rc = dan_mkdirs(parent, e);
    if (!rc) rc = remove_temps(parent, e);
    if (!rc) rc = dan_mkdirs(temp, e);
    if (rc) return rc;
    rc = write_files(temp, tensors, state, &why);
    int64_t have = dan_disk_free(parent);      /* asked before the half-written files go */
    if (!rc) rc = replace_dir(temp, dir, &why);
    if (!rc) return DAN_OK;
    dan_remove_tree(temp, NULL);
    return dan_fail(e, rc, "checkpoint '%s' was not written (%lld bytes are needed, %lld were left); older checkpoints are intact: %s",
                    dir, (long long)need, (long long)have, why.msg);
}

static int check_state(const char *state, struct dan_err *e)
{
    json_t *j;
    int rc = dan_json_parse("the state of a checkpoint", state, strlen(state), DAN_JSON_MAX_DEPTH, &j, e);
    if (!rc) json_decref(j);
    return rc;
}

int dan_checkpoint_save(const char *dir, const struct dan_store *tensors, const char *state_json, struct dan_err *e)
{
    int rc = check_state(state_json, e);
    if (rc) return rc;
    struct dan_str clean = {0}, parent = {0}, temp = {0};
    clean_dir(&clean, dir);
    const char *name = split_path(dan_str_c(&clean), &parent);
    dan_str_printf(&temp, "%s/%s%s-%ld", dan_str_c(&parent), TMP, name, (long)getpid());
    if (clean.failed || parent.failed || temp.failed) rc = fail_out_of_memory(e);
    else rc = save_at(clean.p, parent.p, temp.p, tensors, state_json, e);
    dan_str_release(&clean);
    dan_str_release(&parent);
    dan_str_release(&temp);
    return rc;
}

/* ---- verifying and loading ---- */

static const char ADVICE[] = "use the previous checkpoint (the newest whole one is found when resuming from the run's directory)";

static int verify_file(const char *dir, const json_t *entry, struct dan_err *e)
{
    const char *name = json_string_value(json_object_get(entry, "name"));
    const json_t *bytes = json_object_get(entry, "bytes"), *crc = json_object_get(entry, "crc32");
    if (!name || strchr(name, '/') || !json_is_integer(bytes) || !json_is_integer(crc))
        return dan_fail(e, DAN_EFORMAT, "damaged manifest.json in '%s': %s", dir, ADVICE);
    struct dan_str path = {0};
    uint32_t found_crc = 0;
    int64_t found = -1;
    dan_path_join(&path, dir, name);
    int rc = path.failed ? fail_out_of_memory(e) : DAN_OK;
    if (!rc && !dan_path_exists(path.p)) rc = dan_fail(e, DAN_EFORMAT, "'%s' is missing: %s", path.p, ADVICE);
    if (!rc) rc = dan_file_crc(path.p, &found_crc, &found, e);
    if (!rc && found != json_integer_value(bytes))
        rc = dan_fail(e, DAN_EFORMAT, "'%s' has %lld bytes, expected %lld: the file was cut off or changed; %s", path.p, (long long)found,
                      (long long)json_integer_value(bytes), ADVICE);
    if (!rc && (json_int_t)found_crc != json_integer_value(crc))
        rc = dan_fail(e, DAN_EFORMAT, "checksum of '%s' is %08x, expected %08x: the file is damaged; %s", path.p, found_crc,
                      (unsigned)json_integer_value(crc), ADVICE);
    dan_str_release(&path);
    return rc;
}

static bool is_listed(const json_t *files, const char *name)
{
    for (size_t i = 0; i < json_array_size(files); i++) {
        const char *s = json_string_value(json_object_get(json_array_get(files, i), "name"));
        if (s && !strcmp(s, name)) return true;
    }
    return false;
}

int dan_checkpoint_verify(const char *dir, struct dan_err *e)
{
    struct dan_str path = {0};
    json_t *j = NULL;
    dan_path_join(&path, dir, MANIFEST);
    int rc = path.failed ? fail_out_of_memory(e) : DAN_OK;
    if (!rc && !dan_path_exists(path.p))
        rc = dan_fail(e, DAN_EFORMAT, "'%s' is no checkpoint: it has no %s; %s", dir, MANIFEST, ADVICE);
    if (!rc) rc = dan_json_read(path.p, &j, e);
    const json_t *files = json_object_get(j, "files");
    if (!rc && (!is_listed(files, TENSORS) || !is_listed(files, STATE)))
        rc = dan_fail(e, DAN_EFORMAT, "'%s' lists no %s and %s; %s", path.p, TENSORS, STATE, ADVICE);
    for (size_t i = 0; i < json_array_size(files) && !rc; i++) rc = verify_file(dir, json_array_get(files, i), e);
    json_decref(j);
    dan_str_release(&path);
    return rc;
}

int dan_checkpoint_load(const char *dir, struct dan_store **tensors, char **state_json, struct dan_err *e)
{
    int rc = dan_checkpoint_verify(dir, e);
    if (rc) return rc;
    struct dan_str a = {0}, b = {0};
    char *state = NULL;
    size_t n;
    dan_path_join(&a, dir, TENSORS);
    dan_path_join(&b, dir, STATE);
    rc = a.failed || b.failed ? fail_out_of_memory(e) : dan_read_file(b.p, &state, &n, e);
    if (!rc) rc = dan_safetensors_open(a.p, tensors, e);
    if (rc) dan_free(state);
    else *state_json = state;
    dan_str_release(&a);
    dan_str_release(&b);
    return rc;
}

/* ---- the list of checkpoints ---- */

static int64_t step_of(const char *name)
{
    int64_t step = 0;
    if (!dan_str_starts(name, STEP) || !name[5]) return -1;
    for (const char *p = name + 5; *p; p++) {
        if (*p < '0' || *p > '9' || step > INT64_MAX / 10 - 1) return -1;
        step = step * 10 + (*p - '0');
    }
    return step;
}

/* Position of the newest name below `before` (steps), or -1. */
static int64_t newest(char **names, size_t n, int64_t before)
{
    int64_t best = -1;
    for (size_t i = 0; i < n; i++) {
        int64_t s = step_of(names[i]);
        if (s >= 0 && s < before && (best < 0 || s > step_of(names[best]))) best = (int64_t)i;
    }
    return best;
}

static int list_steps(const char *out_dir, struct dan_str *parent, char ***names, size_t *n, struct dan_err *e)
{
    *names = NULL;
    *n = 0;
    dan_path_join(parent, out_dir, "checkpoints");
    if (parent->failed) return fail_out_of_memory(e);
    return dan_path_is_dir(parent->p) ? dan_list_dir(parent->p, names, n, e) : DAN_OK;
}

/* Tries from the newest down. */
static int find_valid(const char *parent, char **names, size_t n, struct dan_str *path, struct dan_str *skipped, struct dan_err *e)
{
    struct dan_err first = {0};
    int broken = 0;
    for (int64_t i = newest(names, n, INT64_MAX); i >= 0; i = newest(names, n, step_of(names[i]))) {
        struct dan_err why = {0};
        dan_str_clear(path);
        dan_path_join(path, parent, names[i]);
        if (path->failed) return fail_out_of_memory(e);
        if (!dan_checkpoint_verify(path->p, &why)) return DAN_OK;
        if (skipped) dan_str_printf(skipped, "skipped checkpoint '%s': %s\n", path->p, why.msg);
        if (!broken++) first = why;
    }
    dan_str_clear(path);
    if (!broken) return DAN_OK;
    return dan_fail(e, DAN_EFORMAT, "all %d checkpoints in '%s' are damaged: start again, or restore one from a backup; the newest: %s",
                    broken, parent, first.msg);
}

int dan_checkpoint_latest(const char *out_dir, struct dan_str *path, struct dan_str *skipped, struct dan_err *e)
{
    struct dan_str parent = {0};
    char **names;
    size_t n;
    int rc = list_steps(out_dir, &parent, &names, &n, e);
    if (!rc) rc = find_valid(parent.p, names, n, path, skipped, e);
    dan_free_list(names, n);
    dan_str_release(&parent);
    return rc;
}

int dan_checkpoint_prune(const char *out_dir, int keep, struct dan_err *e)
{
    struct dan_str parent = {0}, path = {0};
    char **names;
    size_t n;
    int seen = 0, rc = list_steps(out_dir, &parent, &names, &n, e);
    if (!rc && dan_path_is_dir(parent.p)) rc = remove_temps(parent.p, e);
    for (int64_t i = newest(names, n, INT64_MAX); i >= 0 && !rc; i = newest(names, n, step_of(names[i]))) {
        if (seen++ < (keep > 1 ? keep : 1)) continue;
        dan_str_clear(&path);
        dan_path_join(&path, parent.p, names[i]);
        rc = path.failed ? fail_out_of_memory(e) : dan_remove_tree(path.p, e);
    }
    dan_free_list(names, n);
    dan_str_release(&parent);
    dan_str_release(&path);
    return rc;
}
