/* A model in several safetensors files: model-00001-of-00003.safetensors and so on, and their index. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/mem.h"
#include "io/json.h"
#include "io/safetensors.h"

/* What a tensor takes in a file: q8_0 as int8 and f16, which is the same. */
static int64_t bytes_of(const struct dan_named *x) { return (int64_t)dan_tensor_bytes(x->t); }

/* end[k]: one past the last tensor of shard k.  A tensor that is larger than a shard has one for itself. */
static size_t cut(const struct dan_named *list, size_t n, int64_t most, size_t *end)
{
    size_t k = 0;
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t bytes = bytes_of(&list[i]);
        if (i && sum + bytes > most && sum > 0) {
            end[k++] = i;
            sum = 0;
        }
        sum += bytes;
    }
    end[k++] = n;
    return k;
}

static void shard_name(char out[64], size_t k, size_t n)
{
    if (n == 1) snprintf(out, 64, "model.safetensors");
    else snprintf(out, 64, "model-%05zu-of-%05zu.safetensors", k + 1, n);
}

static int map_name(json_t *map, const struct dan_named *x, const char *file)
{
    struct dan_str scale = {0};
    int bad = json_object_set_new(map, x->name, json_string(file));
    if (x->t->dtype == &dan_dtype_q8_0) {
        dan_str_printf(&scale, "%s.scale", x->name);
        bad |= json_object_set_new(map, dan_str_c(&scale), json_string(file));
    }
    dan_str_release(&scale);
    return bad;
}

static int write_index(const char *dir, const struct dan_named *list, const size_t *end, size_t k, struct dan_err *e)
{
    char file[64];
    json_t *map = json_object();
    json_int_t total = 0;
    int bad = !map;
    for (size_t s = 0, i = 0; s < k && !bad; s++) {
        shard_name(file, s, k);
        for (; i < end[s] && !bad; i++) {
            bad = map_name(map, &list[i], file);
            total += bytes_of(&list[i]);
        }
    }
    json_t *index = bad ? NULL : json_pack("{s:{s:I},s:O}", "metadata", "total_size", total, "weight_map", map);
    struct dan_str path = {0};
    dan_path_join(&path, dir, "model.safetensors.index.json");
    int rc = !index || path.failed ? dan_fail(e, DAN_ENOMEM, "out of memory writing the index of '%s'", dir) : dan_json_write(path.p, index, e);
    dan_str_release(&path);
    json_decref(index);
    json_decref(map);
    return rc;
}

/* A reader would take an index or a single file of before for this model's. */
static void remove_other(const char *dir, bool one)
{
    struct dan_str path = {0};
    dan_path_join(&path, dir, one ? "model.safetensors.index.json" : "model.safetensors");
    if (!path.failed) unlink(path.p);
    dan_str_release(&path);
}

int dan_safetensors_save_dir(const char *dir, const struct dan_named *list, size_t n, int64_t shard_bytes, struct dan_err *e)
{
    size_t *end = dan_malloc((n + 1) * sizeof *end);
    if (!end) return dan_fail(e, DAN_ENOMEM, "out of memory writing '%s'", dir);
    size_t k = cut(list, n, shard_bytes > 0 ? shard_bytes : INT64_MAX, end);
    int rc = DAN_OK;
    for (size_t s = 0; s < k && !rc; s++) {
        char file[64];
        struct dan_str path = {0};
        shard_name(file, s, k);
        dan_path_join(&path, dir, file);
        size_t from = s ? end[s - 1] : 0;
        rc = path.failed ? dan_fail(e, DAN_ENOMEM, "out of memory writing '%s'", dir)
                         : dan_safetensors_save_list(path.p, list + from, end[s] - from, NULL, 0, e);
        dan_str_release(&path);
    }
    if (!rc && k > 1) rc = write_index(dir, list, end, k, e);
    if (!rc) remove_other(dir, k == 1);
    dan_free(end);
    return rc;
}
