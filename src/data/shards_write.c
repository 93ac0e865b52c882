#include <jansson.h>
#include <math.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "base/utf8.h"
#include "data/shards.h"
#include "data/shards_format.h"

enum { SPREAD_FROM = 20 };                     /* documents; with fewer the end of the corpus is cut off */
static const uint64_t SPLIT_STREAM = 0x56414c53;
static const int64_t PIECE = 4 << 20, MAX_TOKENS = 64 << 20;

struct split {
    const char *name;
    struct dan_split_stats *stats;
    struct dan_writer *w;                      /* the open shard */
    int64_t n, bytes;                          /* of it */
    uint64_t *doc;
    size_t n_docs, cap;
    bool begins;                               /* the next token begins a document */
};

struct job {
    const struct dan_encoder *enc;
    const struct dan_shard_opts *o;
    const char *dir;                           /* the temporary one */
    struct dan_shard_stats *stats;
    struct split split[2];                     /* train, val */
    struct dan_token_list ids;
    int64_t max_tokens, piece, done, total;
    uint32_t width;
    struct dan_err *e;
};

static int fail_out_of_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "out of memory writing token shards"); }

/* ---- one shard ---- */

static int open_shard(struct job *j, struct split *s)
{
    struct dan_str path = {0};
    struct dan_shard_head h = {.magic = DAN_SHARD_MAGIC, .version = DAN_SHARD_VERSION, .width = j->width, .vocab = (uint64_t)j->enc->vocab,
                               .eos = j->enc->eos, .hash = j->enc->hash};
    dan_str_printf(&path, "%s/%s-%05lld.bin", j->dir, s->name, (long long)s->stats->shards);
    int rc = path.failed ? fail_out_of_memory(j->e) : dan_writer_open(path.p, &s->w, j->e);
    dan_str_release(&path);
    if (rc) return rc;
    s->n = s->bytes = 0;
    s->n_docs = 0;
    s->begins = true;
    return dan_writer_put(s->w, &h, sizeof h, j->e);
}

static int close_shard(struct job *j, struct split *s)
{
    static const char zeros[8];
    if (!s->w) return DAN_OK;
    struct dan_shard_tail t = {.n = (uint64_t)s->n, .n_docs = s->n_docs, .bytes = (uint64_t)s->bytes,
                               .index = (uint64_t)s->stats->shards, .magic = DAN_SHARD_END};
    uint64_t pad = dan_shard_padded(t.n, j->width) - t.n * j->width;
    int rc = dan_writer_put(s->w, zeros, pad, j->e);
    if (!rc) rc = dan_writer_put(s->w, s->doc, s->n_docs * sizeof *s->doc, j->e);
    if (!rc) rc = dan_writer_put(s->w, &t, DAN_SHARD_SUMMED, j->e);
    t.crc = dan_writer_crc(s->w);
    if (!rc) rc = dan_writer_put(s->w, (const char *)&t + DAN_SHARD_SUMMED, sizeof t - DAN_SHARD_SUMMED, j->e);
    if (rc) dan_writer_abort(s->w);
    else rc = dan_writer_close(s->w, j->e);
    s->w = NULL;
    s->stats->shards++;
    return rc;
}

static int put_tokens(struct job *j, struct split *s, const int32_t *ids, size_t n)
{
    enum { CHUNK = 4096 };
    uint16_t narrow[CHUNK];
    int rc = DAN_OK;
    if (j->width == 4) return dan_writer_put(s->w, ids, n * sizeof *ids, j->e);
    for (size_t at = 0; at < n && !rc; at += CHUNK) {
        size_t k = n - at < CHUNK ? n - at : CHUNK;
        for (size_t i = 0; i < k; i++) narrow[i] = (uint16_t)ids[at + i];
        rc = dan_writer_put(s->w, narrow, k * sizeof *narrow, j->e);
    }
    return rc;
}

static int begin_doc(struct job *j, struct split *s)
{
    if (dan_vec_grow(&s->doc, &s->cap, s->n_docs + 1, sizeof *s->doc)) return fail_out_of_memory(j->e);
    s->doc[s->n_docs++] = (uint64_t)s->n;
    s->begins = false;
    return DAN_OK;
}

/* Appends, into as many shards as it takes.  A document that goes on in the next shard begins anew there. */
static int add_tokens(struct job *j, struct split *s, const int32_t *ids, size_t n)
{
    int rc = DAN_OK;
    for (size_t at = 0; at < n && !rc;) {
        if (!s->w) rc = open_shard(j, s);
        if (!rc && s->begins) rc = begin_doc(j, s);
        if (rc) return rc;
        size_t room = (size_t)(j->max_tokens - s->n), k = n - at < room ? n - at : room;
        rc = put_tokens(j, s, ids + at, k);
        s->n += (int64_t)k;
        s->stats->tokens += (int64_t)k;
        at += k;
        if (!rc && s->n == j->max_tokens) rc = close_shard(j, s);
    }
    return rc;
}

/* ---- documents ---- */

static int32_t char_before(const char *p, size_t at)
{
    int32_t cp = -1;
    size_t k = 1;
    while (k < 4 && k < at && ((unsigned char)p[at - k] & 0xc0) == 0x80) k++;
    if (at) dan_utf8_next(p + at - k, k, &cp);
    return cp;
}

/* Characters beside which a single newline is a token of its own: letters and digits of ASCII and CJK,
 * and, before it, ASCII punctuation. */
static bool is_visible(int32_t c, bool before)
{
    if (c < 0x80) return before ? c > 0x20 && c < 0x7f : (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
    return (c >= 0x3400 && c < 0xa000) || (before && (c == 0x3002 || (c >= 0xff01 && c < 0xff60)));
}

/* The end of a piece that is about `want` bytes: see piece_bytes in the header. */
static size_t piece_end(const char *p, size_t n, size_t want)
{
    for (size_t at = want; at < n; at++) {
        const char *nl = memchr(p + at, '\n', n - at);
        if (!nl) break;
        int32_t next;
        at = (size_t)(nl - p);
        if (at + 1 >= n) break;
        dan_utf8_next(nl + 1, n - at - 1, &next);
        if (is_visible(char_before(p, at), true) && is_visible(next, false)) return at + 1;
    }
    return n;
}

static int check_ids(struct job *j)
{
    for (size_t i = 0; i < j->ids.n; i++)
        if (j->ids.p[i] < 0 || j->ids.p[i] >= j->enc->vocab)
            return dan_fail(j->e, DAN_EINVAL, "the tokenizer gave id %d, but its vocabulary ends at %lld: use the tokenizer that belongs "
                            "to it", j->ids.p[i], (long long)j->enc->vocab);
    return DAN_OK;
}

/* One document, or the part of it that belongs to this split; `ends`: its end is here. */
static int add_text(struct job *j, struct split *s, const char *p, size_t n, bool ends)
{
    int32_t eos = (int32_t)j->enc->eos;
    int rc = DAN_OK;
    s->begins = true;
    s->stats->docs++;
    s->stats->bytes += (int64_t)n;
    while (n && !rc) {
        size_t k = j->piece > 0 && (size_t)j->piece < n ? piece_end(p, n, (size_t)j->piece) : n;
        j->ids.n = 0;
        rc = j->enc->encode(j->enc->ctx, p, k, &j->ids, j->e);
        if (!rc) rc = check_ids(j);
        if (!rc && !s->w) rc = open_shard(j, s);
        s->bytes += (int64_t)k;
        if (!rc) rc = add_tokens(j, s, j->ids.p, j->ids.n);
        p += k;
        n -= k;
        j->done += (int64_t)k;
        if (!rc && j->o->progress && !j->o->progress(j->o->progress_ctx, j->done, j->total))
            rc = dan_fail(j->e, DAN_ECANCELLED, "interrupted while encoding the text; nothing was written");
    }
    if (!rc && ends && eos >= 0) rc = add_tokens(j, s, &eos, 1);
    return rc;
}

/* ---- which split ---- */

struct rule { double f, phase; int64_t cut; bool spread; };      /* cut: bytes before it are for training */

static struct rule split_rule(const struct dan_text_stats *s, const struct dan_shard_opts *o)
{
    uint32_t u[4];
    dan_philox(o->seed, SPLIT_STREAM, 0, u);
    return (struct rule){o->val_fraction, dan_u01(u[0]), (int64_t)((double)s->bytes * (1 - o->val_fraction)),
                         s->docs >= SPREAD_FROM && o->val_fraction > 0};
}

/* Every (1/f)-th document: where floor(i f + phase) steps. */
static bool is_val_doc(const struct rule *r, int64_t i)
{
    return floor((double)(i + 1) * r->f + r->phase) > floor((double)i * r->f + r->phase);
}

/* How many bytes of the document are for training. */
static size_t train_part(const struct rule *r, const struct dan_document *d, int64_t before)
{
    if (r->spread) return is_val_doc(r, d->index) ? 0 : d->n;
    if (before + (int64_t)d->n <= r->cut) return d->n;
    size_t k = before < r->cut ? (size_t)(r->cut - before) : 0;
    for (int back = 0; back < 3 && k && ((unsigned char)d->p[k] & 0xc0) == 0x80; back++) k--;
    return k;
}

static int add_all(struct job *j, struct dan_text *text, const struct rule *r)
{
    struct dan_document d;
    int rc;
    while (!(rc = dan_text_next(text, &d, j->e)) && d.p) {
        size_t k = train_part(r, &d, j->done);
        if (k) rc = add_text(j, &j->split[0], d.p, k, k == d.n);
        if (!rc && k < d.n) rc = add_text(j, &j->split[1], d.p + k, d.n - k, true);
        if (rc) return rc;
    }
    for (int i = 0; i < 2 && !rc; i++) rc = close_shard(j, &j->split[i]);
    return rc;
}

static int check_splits(const struct job *j, const struct dan_text_stats *s)
{
    for (int i = 0; i < 2; i++)
        if (j->split[i].stats->tokens == 0 && (i == 0 || j->o->val_fraction > 0))
            return dan_fail(j->e, DAN_EINVAL, "the %s split stays empty: %lld documents, %lld bytes, --val-fraction %g; give more text or "
                            "change the fraction", j->split[i].name, (long long)s->docs, (long long)s->bytes, j->o->val_fraction);
    return DAN_OK;
}

/* ---- the directory ---- */

static int put_json(const char *text, size_t n, void *out)
{
    dan_str_append(out, text, n);
    return 0;
}

static json_t *split_json(const struct dan_split_stats *s)
{
    return json_pack("{s:I, s:I, s:I, s:I}", "shards", (json_int_t)s->shards, "tokens", (json_int_t)s->tokens, "docs", (json_int_t)s->docs,
                     "bytes", (json_int_t)s->bytes);
}

static int write_totals(const struct job *j)
{
    char hash[20];
    struct dan_str text = {0}, path = {0};
    for (int i = 0; i < 16; i++) hash[i] = "0123456789abcdef"[j->enc->hash >> (60 - 4 * i) & 15];
    hash[16] = '\0';
    json_t *splits = json_object();
    for (int i = 0; i < 2; i++)
        if (j->split[i].stats->shards) json_object_set_new(splits, j->split[i].name, split_json(j->split[i].stats));
    json_t *o = json_pack("{s:s, s:i, s:s, s:I, s:I, s:o}", "format", "danlu tokens", "version", DAN_SHARD_VERSION, "tokenizer", hash,
                          "vocab", (json_int_t)j->enc->vocab, "eos", (json_int_t)j->enc->eos, "splits", splits);
    int bad = !o || json_dump_callback(o, put_json, &text, JSON_INDENT(2));
    dan_str_putc(&text, '\n');
    dan_str_printf(&path, "%s/data.json", j->dir);
    int rc = bad || text.failed || path.failed ? fail_out_of_memory(j->e) : dan_write_file(path.p, text.p, text.n, j->e);
    json_decref(o);
    dan_str_release(&text);
    dan_str_release(&path);
    return rc;
}

static int write_into(struct job *j, struct dan_text *text)
{
    struct dan_text_stats s;
    int rc = dan_text_count(text, &s, j->e);
    if (rc) return rc;
    struct rule r = split_rule(&s, j->o);
    j->total = s.bytes;
    j->stats->blank = s.blank;
    rc = add_all(j, text, &r);
    if (!rc) rc = check_splits(j, &s);
    if (!rc) rc = write_totals(j);
    dan_text_rewind(text);
    for (int i = 0; i < 2; i++) {
        dan_writer_abort(j->split[i].w);
        dan_free(j->split[i].doc);
    }
    dan_free(j->ids.p);
    return rc;
}

/* DIR becomes the temporary directory's contents; the old one goes only when the new one is in place. */
static int replace_dir(const char *temp, const char *dir, struct dan_err *e)
{
    struct dan_str old = {0};
    dan_str_printf(&old, "%s.old", temp);
    int rc = old.failed ? fail_out_of_memory(e) : dan_remove_tree(old.p, e);
    if (!rc && dan_path_exists(dir)) rc = dan_rename_dir(dir, old.p, e);
    if (!rc) rc = dan_rename_dir(temp, dir, e);
    if (!rc) dan_remove_tree(old.p, NULL);
    dan_str_release(&old);
    return rc;
}

static int check_opts(const struct dan_encoder *enc, const struct dan_shard_opts *o, struct dan_err *e)
{
    if (!(o->val_fraction >= 0 && o->val_fraction <= 0.5))
        return dan_fail(e, DAN_EINVAL, "--val-fraction %g is out of range: give 0 to 0.5", o->val_fraction);
    if (enc->vocab < 1 || enc->vocab > INT32_MAX || enc->eos >= enc->vocab)
        return dan_fail(e, DAN_EINVAL, "vocabulary of %lld ids with end-of-text %lld: load a tokenizer", (long long)enc->vocab,
                        (long long)enc->eos);
    return DAN_OK;
}

int dan_shards_write(struct dan_text *text, const struct dan_encoder *enc, const char *dir, const struct dan_shard_opts *o,
                     struct dan_shard_stats *out, struct dan_err *e)
{
    struct dan_shard_stats stats = {0};
    struct dan_str temp = {0};
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/') n--;
    dan_str_append(&temp, dir, n);
    dan_str_puts(&temp, ".tmp");
    struct job j = {.enc = enc, .o = o, .dir = dan_str_c(&temp), .stats = &stats,
                    .split = {{.name = "train", .stats = &stats.train}, {.name = "val", .stats = &stats.val}},
                    .max_tokens = o->max_tokens > 0 ? o->max_tokens : MAX_TOKENS, .piece = enc->piece_bytes ? enc->piece_bytes : PIECE,
                    .width = enc->vocab <= 65536 ? 2 : 4, .e = e};
    int rc = temp.failed ? fail_out_of_memory(e) : check_opts(enc, o, e);
    if (!rc) rc = dan_remove_tree(j.dir, e);   /* of a run that was killed */
    if (!rc) rc = dan_mkdirs(j.dir, e);
    if (!rc) rc = write_into(&j, text);
    if (!rc) rc = replace_dir(j.dir, dir, e);
    if (rc) dan_remove_tree(j.dir, NULL);
    else *out = stats;
    dan_str_release(&temp);
    return rc;
}
