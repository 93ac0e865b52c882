/* tiktoken's files: a token a line, base64 of its bytes, a space, its rank, which is its id.  They say neither how text is cut nor
 * which special tokens there are.  Both come from what is known of a family (by the file's name, then by how many ranks there are),
 * added tokens also from a tokenizer_config.json beside the file; for an unknown one the pattern is cl100k_base's, and the spec says so. */
#include <string.h>
#include "base/file.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "io/json.h"
#include "text/load.h"
#include "text/spec_bpe.h"

enum { MAX_HOLE = 1 << 16 };                /* ids between the last token and an added one */

/* texts: "TEXT", or count of them, "TEXT" number "|>", numbered from `first`. */
struct special { int32_t id; const char *text; int32_t count, first; };
struct family {
    const char *name;                          /* of the file, up to the first '.', '-' for others */
    const char *style;                         /* dan_bpe_style_named */
    int32_t ranks;                             /* how many lines, where that tells the family */
    int32_t bos, eos;                          /* ids, -1: none */
    struct special special[20];
};
static const struct family families[] = {
    {"r50k_base", "gpt-2", 50256, -1, 50256, {{50256, "<|endoftext|>", 0, 0}}},
    {"p50k_base", "gpt-2", 50280, -1, 50256, {{50256, "<|endoftext|>", 0, 0}}},
    {"p50k_edit", "gpt-2", 0, -1, 50256, {{50256, "<|endoftext|>", 0, 0}, {50281, "<|fim_prefix|>", 0, 0}, {50282, "<|fim_middle|>", 0, 0},
                                        {50283, "<|fim_suffix|>", 0, 0}}},
    {"cl100k_base", "cl100k_base", 100256, -1, 100257,
     {{100257, "<|endoftext|>", 0, 0}, {100258, "<|fim_prefix|>", 0, 0}, {100259, "<|fim_middle|>", 0, 0}, {100260, "<|fim_suffix|>", 0, 0},
      {100276, "<|endofprompt|>", 0, 0}}},
    {"o200k_base", "o200k_base", 199998, -1, 199999, {{199999, "<|endoftext|>", 0, 0}, {200018, "<|endofprompt|>", 0, 0}}},
    {"o200k_harmony", "o200k_base", 0, 199998, 199999,
     {{199998, "<|startoftext|>", 0, 0}, {199999, "<|endoftext|>", 0, 0}, {200000, "<|reserved_", 2, 200000}, {200002, "<|return|>", 0, 0},
      {200003, "<|constrain|>", 0, 0}, {200004, "<|reserved_", 1, 200004}, {200005, "<|channel|>", 0, 0}, {200006, "<|start|>", 0, 0},
      {200007, "<|end|>", 0, 0}, {200008, "<|message|>", 0, 0}, {200009, "<|reserved_", 3, 200009}, {200012, "<|call|>", 0, 0},
      {200013, "<|reserved_", 5, 200013}, {200018, "<|endofprompt|>", 0, 0}, {200019, "<|reserved_", 1069, 200019}}},
    {"qwen", "qwen2", 151643, -1, 151643, {{151643, "<|endoftext|>", 0, 0}, {151644, "<|im_start|>", 0, 0}, {151645, "<|im_end|>", 0, 0},
                                           {151646, "<|extra_", 205, 0}}},
    {"-llama3", "llama3", 128000, 128000, 128001,
     {{128000, "<|begin_of_text|>", 0, 0}, {128001, "<|end_of_text|>", 0, 0}, {128002, "<|reserved_special_token_", 2, 0},
      {128004, "<|finetune_right_pad_id|>", 0, 0}, {128005, "<|reserved_special_token_", 1, 2}, {128006, "<|start_header_id|>", 0, 0},
      {128007, "<|end_header_id|>", 0, 0}, {128008, "<|eom_id|>", 0, 0}, {128009, "<|eot_id|>", 0, 0}, {128010, "<|python_tag|>", 0, 0},
      {128011, "<|reserved_special_token_", 245, 3}}},
    {"-glm4", "glm4", 151329, -1, 151329, {{151329, "<|endoftext|>", 0, 0}, {151330, "[MASK]", 0, 0}, {151331, "[gMASK]", 0, 0},
                                           {151332, "[sMASK]", 0, 0}, {151333, "<sop>", 0, 0}, {151334, "<eop>", 0, 0}, {151335, "<|system|>", 0, 0},
                                           {151336, "<|user|>", 0, 0}, {151337, "<|assistant|>", 0, 0}, {151338, "<|observation|>", 0, 0},
                                           {151339, "<|begin_of_image|>", 0, 0}, {151340, "<|end_of_image|>", 0, 0},
                                           {151341, "<|begin_of_video|>", 0, 0}, {151342, "<|end_of_video|>", 0, 0}}},
};

static const struct family *family_of(const char *path, size_t ranks)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t n = strcspn(base, ".");
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (strlen(families[i].name) == n && memcmp(families[i].name, base, n) == 0) return &families[i];
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (families[i].ranks && (size_t)families[i].ranks == ranks) return &families[i];
    return NULL;
}

/* --- lines */

static int digit64(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* RFC 4648, section 4: padded, no bits left over that are not zero.  out holds 3 bytes for every 4.  Returns how many, -1: none such. */
static ptrdiff_t base64(const char *p, size_t n, char *out)
{
    size_t pad = n >= 4 && p[n - 1] == '=' ? 1 + (p[n - 2] == '=') : 0, m = 0;
    uint32_t bits = 0;
    if (n == 0 || n % 4) return -1;
    for (size_t i = 0; i < n; i++) {
        int d = i < n - pad ? digit64(p[i]) : 0;
        if (d < 0) return -1;
        bits = bits << 6 | (uint32_t)d;
        if (i % 4 < 3) continue;
        for (int k = 16; k >= 0; k -= 8) out[m++] = (char)(bits >> k);
        bits = 0;
    }
    for (size_t k = 1; k <= pad; k++)
        if (out[m - k]) return -1;
    return (ptrdiff_t)(m - pad);
}

/* A decimal number that ends with the line. */
static int64_t rank_of(const char *p, const char *end)
{
    int64_t v = 0;
    if (p == end || end - p > 9) return -1;
    for (; p < end; p++) {
        if (*p < '0' || *p > '9') return -1;
        v = v * 10 + (*p - '0');
    }
    return v;
}

struct line { const char *p, *end; size_t number; };
static bool next_line(struct line *l, const char *stop, const char *from)
{
    if (from >= stop) return false;
    const char *end = memchr(from, '\n', (size_t)(stop - from));
    l->p = from;
    l->end = end ? end : stop;
    l->number++;
    return true;
}
static const char *text_end(const struct line *l) { return l->end > l->p && l->end[-1] == '\r' ? l->end - 1 : l->end; }

bool dan_spec_is_tiktoken(const char *bytes, size_t n)
{
    char out[192];
    struct line l = {0};
    if (!next_line(&l, bytes + n, bytes) || l.end - l.p > 256) return false;
    const char *end = text_end(&l), *space = memchr(l.p, ' ', (size_t)(end - l.p));
    return space && base64(l.p, (size_t)(space - l.p), out) > 0 && rank_of(space + 1, end) >= 0;
}

struct reader { struct dan_tok_spec *s; struct dan_map *seen; struct dan_str raw; size_t ranks, bytes; };      /* bytes: of the file */

static int one_rank(struct reader *r, const struct line *l, struct dan_err *e)
{
    const char *end = text_end(l), *space = memchr(l->p, ' ', (size_t)(end - l->p));
    int64_t rank = space ? rank_of(space + 1, end) : -1;
    size_t n = space ? (size_t)(space - l->p) : 0;
    if (dan_vec_grow(&r->raw.p, &r->raw.cap, n + 4, 1) != 0) return dan_fail(e, DAN_ENOMEM, "out of memory for a token of %zu bytes", n);
    ptrdiff_t m = rank >= 0 ? base64(l->p, n, r->raw.p) : -1;
    if (m <= 0)
        return dan_fail(e, DAN_EFORMAT, "'%s', line %zu: not 'base64 rank'; is it a .tiktoken file, and whole? (unpack it first if it is "
                        "compressed)", r->s->where, l->number);
    if ((size_t)rank > r->bytes)               /* memory is for ranks that the file can have */
        return dan_fail(e, DAN_EFORMAT, "'%s', line %zu: the rank %lld is too large for so small a file; it is damaged", r->s->where, l->number,
                        (long long)rank);
    if ((size_t)rank < r->s->n && r->s->piece[rank].flags)
        return dan_fail(e, DAN_EFORMAT, "'%s', line %zu: the rank %lld is there twice; the file is damaged", r->s->where, l->number, (long long)rank);
    int64_t *slot = dan_map_slot(r->seen, r->raw.p, (size_t)m);
    if (!slot) return dan_fail(e, DAN_ENOMEM, "out of memory for a vocabulary of %zu tokens", r->ranks);
    if (*slot)
        return dan_fail(e, DAN_EFORMAT, "'%s', line %zu: the token of rank %lld is there twice, with rank %lld before; the file is damaged",
                        r->s->where, l->number, (long long)rank, (long long)(*slot - 1));
    *slot = rank + 1;
    r->ranks++;
    return dan_tok_spec_put(r->s, rank, r->raw.p, (size_t)m, 0, DAN_PIECE_MODEL, e);
}

static int all_ranks(struct reader *r, const char *p, size_t n, struct dan_err *e)
{
    struct line l = {0};
    for (const char *from = p; next_line(&l, p + n, from); from = l.end + 1) {
        int bad = text_end(&l) > l.p ? one_rank(r, &l, e) : DAN_OK;    /* empty lines are passed over, as tiktoken does */
        if (bad) return bad;
    }
    return r->ranks ? DAN_OK : dan_fail(e, DAN_EFORMAT, "'%s' holds no ranks; is it a .tiktoken file?", r->s->where);
}

/* --- special tokens */

static int put_special(struct dan_tok_spec *s, int32_t id, const char *text, size_t n, int flags, struct dan_err *e)
{
    return dan_tok_spec_put(s, id, text, n, 0, DAN_PIECE_ADDED | flags, e);
}

static int known_specials(struct dan_tok_spec *s, const struct family *f, struct dan_err *e)
{
    struct dan_str text = {0};
    int r = DAN_OK;
    for (const struct special *one = f->special; one->text && !r; one++)
        for (int32_t i = 0; i < (one->count ? one->count : 1) && !r; i++) {
            dan_str_clear(&text);
            dan_str_puts(&text, one->text);
            if (one->count) dan_str_printf(&text, "%d|>", one->first + i);
            r = text.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for a special token")
                            : put_special(s, one->id + i, text.p, text.n, DAN_PIECE_SPECIAL, e);
        }
    dan_str_release(&text);
    return r;
}

/* added_tokens_decoder: {"151329": {"content": ..., "special": ..., "lstrip": ...}} */
static int config_token(struct dan_tok_spec *s, const char *id, const json_t *token, struct dan_err *e)
{
    static const struct { const char *key; int flag; } keys[] = {{"special", DAN_PIECE_SPECIAL}, {"lstrip", DAN_PIECE_LSTRIP},
        {"rstrip", DAN_PIECE_RSTRIP}, {"single_word", DAN_PIECE_SINGLE_WORD}, {"normalized", DAN_PIECE_NORMALIZED}};
    const json_t *content = json_object_get(token, "content");
    int64_t number = rank_of(id, id + strlen(id));
    int flags = 0;
    if (number < 0 || (size_t)number > s->n + MAX_HOLE || !json_string_length(content))
        return dan_fail(e, DAN_EFORMAT, "tokenizer_config.json beside '%s': added_tokens_decoder '%.60s' has no content, or is no id; mend it or "
                        "take it away", s->where, id);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (json_is_true(json_object_get(token, keys[i].key))) flags |= keys[i].flag;
    if ((size_t)number < s->n && s->piece[number].flags & DAN_PIECE_ADDED) s->piece[number].flags = 0;     /* the file knows better */
    return put_special(s, (int32_t)number, json_string_value(content), json_string_length(content), flags, e);
}

static int32_t named(const struct dan_tok_spec *s, const json_t *config, const char *key)
{
    const char *text = dan_token_text(config, key);
    for (size_t i = 0; i < s->n && *text; i++)
        if (s->piece[i].flags & DAN_PIECE_ADDED && s->piece[i].n == strlen(text) && memcmp(s->bytes.p + s->piece[i].at, text, strlen(text)) == 0)
            return (int32_t)i;
    return -1;
}

static int from_config(struct dan_tok_spec *s, const char *path, struct dan_err *e)
{
    struct dan_str dir = {0}, file = {0};
    const char *slash = strrchr(path, '/');
    json_t *config = NULL, *token;
    const char *id;
    dan_str_append(&dir, path, slash ? (size_t)(slash - path) + (slash == path) : 0);
    dan_path_join(&file, dan_str_c(&dir), "tokenizer_config.json");
    int r = dir.failed || file.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for the path '%.200s'", path) : DAN_OK;
    if (!r && dan_path_exists(file.p)) r = dan_json_read(file.p, &config, e);
    if (config) {
        json_object_foreach(json_object_get(config, "added_tokens_decoder"), id, token) if (!r) r = config_token(s, id, token, e);
        int32_t bos = named(s, config, "bos_token"), eos = named(s, config, "eos_token");
        if (bos >= 0) s->bos = bos;
        if (eos >= 0) s->eos = eos;
    }
    json_decref(config);
    dan_str_release(&dir);
    dan_str_release(&file);
    return r;
}

static int complete(struct reader *r, const char *path, struct dan_err *e)
{
    const struct family *f = family_of(path, r->ranks);
    const char *style = f ? f->style : "cl100k_base";
    int bad = f ? known_specials(r->s, f, e) : DAN_OK;
    r->s->bos = f ? f->bos : -1;
    r->s->eos = f ? f->eos : -1;
    if (!f) r->s->assumed = "the pattern of cl100k_base, which the file does not say";
    if (!bad) bad = from_config(r->s, path, e);
    if (!bad) bad = dan_spec_set_style(r->s, dan_bpe_style_named(style, strlen(style)), e);
    if (!bad && dan_bpe_style_named(style, strlen(style))->bos) bad = dan_spec_set_around(r->s, r->s->bos, -1, e);
    r->s->merges = DAN_MERGES_BY_ID;
    r->s->ignore_merges = true;
    return bad;
}

int dan_spec_from_tiktoken(const char *path, struct dan_tok_spec *s, struct dan_err *e)
{
    struct dan_mapping m;
    struct reader r = {.s = s, .seen = dan_map_new()};
    s->model = DAN_SPEC_BPE;
    if (!r.seen) return dan_fail(e, DAN_ENOMEM, "out of memory for the tokenizer '%s'", path);
    int bad = dan_map_file(path, &m, e);
    if (!bad) {
        r.bytes = m.n;
        bad = all_ranks(&r, m.p, m.n, e);
        dan_unmap_file(&m);
    }
    if (!bad) bad = complete(&r, path, e);
    dan_map_free(r.seen);
    dan_free(r.raw.p);
    return bad;
}
