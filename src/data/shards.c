#include "data/shards.h"
#include <jansson.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "data/shards_format.h"

struct dan_shards {
    struct dan_shard   *shard;
    struct dan_mapping *map;                   /* of each; p = NULL for one in memory */
    size_t   n;
    char    *dir, *split;
    void    *own;                              /* tokens and starts in memory */
    int64_t  tokens, docs, bytes, vocab, eos;
    uint64_t hash;
};

static int fail_out_of_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "out of memory opening token shards"); }

static void shard_path(const struct dan_shards *s, size_t i, struct dan_str *out)
{
    dan_str_printf(out, "%s/%s-%05zu.bin", s->dir, s->split, i);
}

/* ---- one file ---- */

static int bad_shard(const char *path, const char *what, struct dan_err *e)
{
    return dan_fail(e, DAN_EFORMAT, "damaged token shard '%s': %s; remove its directory, so that the text is tokenised again", path, what);
}

static int check_docs(const char *path, const struct dan_shard *s, struct dan_err *e)
{
    if (s->doc[0] != 0) return bad_shard(path, "its first document does not begin at 0", e);
    for (int64_t i = 1; i < s->n_docs; i++)
        if (s->doc[i] <= s->doc[i - 1] || s->doc[i] >= (uint64_t)s->n) return bad_shard(path, "its documents are out of order", e);
    return DAN_OK;
}

static int read_shard(struct dan_shards *all, const char *path, size_t i, struct dan_err *e)
{
    const struct dan_mapping *m = &all->map[i];
    struct dan_shard_head h;
    struct dan_shard_tail t;
    if (m->n < sizeof h + sizeof t) return bad_shard(path, "it is too short", e);
    memcpy(&h, m->p, sizeof h);
    memcpy(&t, m->p + m->n - sizeof t, sizeof t);
    if (memcmp(h.magic, DAN_SHARD_MAGIC, 8)) return bad_shard(path, "it is no token shard", e);
    if (h.version != DAN_SHARD_VERSION || (h.width != 2 && h.width != 4)) return bad_shard(path, "it was written by another version", e);
    if (memcmp(t.magic, DAN_SHARD_END, 8)) return bad_shard(path, "its end is missing, it was cut off", e);
    if (t.index != i || t.n == 0 || t.n > m->n || t.n_docs == 0 || t.n_docs > t.n ||
        sizeof h + dan_shard_padded(t.n, h.width) + 8 * t.n_docs + sizeof t != m->n ||
        h.vocab > INT32_MAX || t.bytes > (uint64_t)(INT64_MAX - all->bytes))
        return bad_shard(path, "its counts do not fit its size", e);
    if (i > 0 && (h.hash != all->hash || (int64_t)h.vocab != all->vocab || h.eos != all->eos))
        return bad_shard(path, "it was made with another tokenizer than the first", e);
    all->hash = h.hash;
    all->vocab = (int64_t)h.vocab;
    all->eos = h.eos;
    all->shard[i] = (struct dan_shard){m->p + sizeof h, (const uint64_t *)(const void *)(m->p + sizeof h + dan_shard_padded(t.n, h.width)),
                                       (int64_t)t.n, (int64_t)t.n_docs, (int64_t)t.bytes, (int32_t)h.width};
    all->tokens += (int64_t)t.n;
    all->docs += (int64_t)t.n_docs;
    all->bytes += (int64_t)t.bytes;
    return check_docs(path, &all->shard[i], e);
}

static int open_shard(struct dan_shards *s, size_t i, struct dan_err *e)
{
    struct dan_str path = {0};
    shard_path(s, i, &path);
    int rc = path.failed ? fail_out_of_memory(e) : dan_map_file(path.p, &s->map[i], e);
    if (!rc) rc = read_shard(s, path.p, i, e);
    dan_str_release(&path);
    return rc;
}

/* ---- all of a split ---- */

/* The number of shards, from data.json: a missing last one must not go unnoticed. */
static int read_totals(const char *dir, const char *split, size_t *n, struct dan_err *e)
{
    struct dan_str path = {0};
    json_error_t je;
    char *text = NULL;
    size_t len;
    dan_str_printf(&path, "%s/data.json", dir);
    int rc = path.failed ? fail_out_of_memory(e) : dan_read_file(path.p, &text, &len, e);
    json_t *j = rc ? NULL : json_loadb(text, len, JSON_REJECT_DUPLICATES, &je);
    json_int_t k = json_integer_value(json_object_get(json_object_get(json_object_get(j, "splits"), split), "shards"));
    if (!rc && !j) rc = dan_fail(e, DAN_EFORMAT, "invalid JSON in '%s', line %d: %s; tokenise the text again", path.p, je.line, je.text);
    else if (!rc && (k < 1 || k > 1000000))
        rc = dan_fail(e, DAN_EINVAL, "no '%s' split in '%s': it was made without one; use --val-fraction when tokenising", split, dir);
    *n = (size_t)k;
    json_decref(j);
    dan_free(text);
    dan_str_release(&path);
    return rc;
}

int dan_shards_open(const char *dir, const char *split, struct dan_shards **out, struct dan_err *e)
{
    size_t n;
    int rc = read_totals(dir, split, &n, e);
    if (rc) return rc;
    struct dan_shards *s = dan_calloc(1, sizeof *s);
    if (!s) return fail_out_of_memory(e);
    s->shard = dan_calloc(n, sizeof *s->shard);
    s->map = dan_calloc(n, sizeof *s->map);
    s->dir = dan_strdup(dir);
    s->split = dan_strdup(split);
    if (!s->shard || !s->map || !s->dir || !s->split) rc = fail_out_of_memory(e);
    for (size_t i = 0; i < n && !rc; i++, s->n++) rc = open_shard(s, i, e);
    if (rc) dan_shards_free(s);
    else *out = s;
    return rc;
}

int dan_shards_verify(const struct dan_shards *s, struct dan_err *e)
{
    int rc = DAN_OK;
    for (size_t i = 0; i < s->n && s->dir && !rc; i++) {
        struct dan_shard_tail t;
        const struct dan_mapping *m = &s->map[i];
        struct dan_str path = {0};
        memcpy(&t, m->p + m->n - sizeof t, sizeof t);
        shard_path(s, i, &path);
        if (t.zero32 || dan_crc32(0, m->p, m->n - sizeof t + DAN_SHARD_SUMMED) != t.crc)
            rc = bad_shard(dan_str_c(&path), "its checksum is wrong", e);
        dan_str_release(&path);
    }
    return rc;
}

int dan_shards_of(const int32_t *ids, int64_t n, const int64_t *doc, int64_t n_docs, int64_t eos,
                  struct dan_shards **out, struct dan_err *e)
{
    if (n < 1 || n_docs < 1 || n_docs > n || doc[0] != 0)
        return dan_fail(e, DAN_EINVAL, "%lld tokens in %lld documents: both must be there, and the first begin at 0", (long long)n,
                        (long long)n_docs);
    size_t at = dan_shard_padded((uint64_t)n, 4);
    struct dan_shards *s = dan_calloc(1, sizeof *s);
    char *own = s ? dan_malloc(at + 8 * (size_t)n_docs) : NULL;
    if (own) s->shard = dan_calloc(1, sizeof *s->shard);
    if (!own || !s->shard) {
        dan_free(own);
        dan_free(s);
        return fail_out_of_memory(e);
    }
    memcpy(own, ids, 4 * (size_t)n);
    memcpy(own + at, doc, 8 * (size_t)n_docs);
    s->own = own;
    s->n = 1;
    s->tokens = n;
    s->docs = n_docs;
    s->eos = eos;
    s->shard[0] = (struct dan_shard){own, (const uint64_t *)(void *)(own + at), n, n_docs, 0, 4};
    *out = s;
    return DAN_OK;
}

void dan_shards_free(struct dan_shards *s)
{
    if (!s) return;
    for (size_t i = 0; s->map && i < s->n; i++) dan_unmap_file(&s->map[i]);
    dan_free(s->own);
    dan_free(s->shard);
    dan_free(s->map);
    dan_free(s->dir);
    dan_free(s->split);
    dan_free(s);
}

int64_t dan_shards_tokens(const struct dan_shards *s) { return s->tokens; }
int64_t dan_shards_docs(const struct dan_shards *s) { return s->docs; }
int64_t dan_shards_bytes(const struct dan_shards *s) { return s->bytes; }
int64_t dan_shards_vocab(const struct dan_shards *s) { return s->vocab; }
int64_t dan_shards_eos(const struct dan_shards *s) { return s->eos; }
uint64_t dan_shards_hash(const struct dan_shards *s) { return s->hash; }
size_t dan_shards_count(const struct dan_shards *s) { return s->n; }
const struct dan_shard *dan_shards_at(const struct dan_shards *s, size_t i) { return &s->shard[i]; }

int64_t dan_shard_doc_of(const struct dan_shard *s, int64_t i)
{
    int64_t lo = 0, hi = s->n_docs;            /* doc[lo] <= i < doc[hi] */
    while (hi - lo > 1) {
        int64_t mid = lo + (hi - lo) / 2;
        if (s->doc[mid] <= (uint64_t)i) lo = mid;
        else hi = mid;
    }
    return lo;
}
