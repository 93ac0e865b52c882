#include "io/tensor_file.h"
#include <string.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/str.h"

uint64_t dan_le(const char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) v |= (uint64_t)(unsigned char)p[i] << (8 * i);
    return v;
}

static void unmap(struct dan_buffer *b)
{
    dan_unmap_file(b->ctx);
    dan_free(b->ctx);
}

int dan_map_buffer(const char *path, struct dan_buffer **out, struct dan_err *e)
{
    struct dan_mapping *own = dan_calloc(1, sizeof *own);
    int rc = own ? dan_map_file(path, own, e) : dan_fail(e, DAN_ENOMEM, "out of memory reading '%s'", path);
    if (!rc && (rc = dan_buffer_wrap((void *)(uintptr_t)own->p, own->n, unmap, own, out, e))) dan_unmap_file(own);
    if (rc) dan_free(own);
    return rc;
}

int dan_put_tensor(struct dan_writer *w, const struct dan_tensor *t, struct dan_err *e)
{
    if (dan_tensor_contiguous(t)) return dan_writer_put(w, t->data, dan_tensor_bytes(t), e);
    int rc = DAN_OK;
    size_t row = dan_dtype_bytes(t->dtype, dan_cols(t));
    for (int64_t r = 0; r < dan_rows(t) && !rc; r++) rc = dan_writer_put(w, dan_row(t, r), row, e);
    return rc;
}

int dan_check_space(const char *path, int64_t need, struct dan_err *e)
{
    struct dan_str dir = {0};
    const char *slash = strrchr(path, '/');
    if (slash) dan_str_append(&dir, path, (size_t)(slash - path) + 1);
    int64_t have = dan_disk_free(slash ? dan_str_c(&dir) : ".");
    dan_str_release(&dir);
    if (have < 0 || have >= need) return DAN_OK;
    return dan_fail(e, DAN_EIO, "not enough disk space for '%s': %lld bytes are needed, %lld are free; free some or choose "
                    "another place", path, (long long)need, (long long)have);
}

static int write_temp(const char *temp, int (*put)(struct dan_writer *w, void *ctx, struct dan_err *e), void *ctx, struct dan_err *e)
{
    struct dan_writer *w;
    int rc = dan_writer_open(temp, &w, e);
    if (rc) return rc;
    rc = put(w, ctx, e);
    if (!rc) return dan_writer_close(w, e);
    dan_writer_abort(w);
    return rc;
}

int dan_write_whole(const char *path, int (*put)(struct dan_writer *w, void *ctx, struct dan_err *e), void *ctx, struct dan_err *e)
{
    struct dan_str temp = {0};
    dan_str_printf(&temp, "%s.tmp-%ld", path, (long)getpid());
    int rc = temp.failed ? dan_fail(e, DAN_ENOMEM, "out of memory writing '%s'", path) : write_temp(temp.p, put, ctx, e);
    if (!rc && (rc = dan_rename_dir(temp.p, path, e))) unlink(temp.p);
    dan_str_release(&temp);
    return rc;
}
