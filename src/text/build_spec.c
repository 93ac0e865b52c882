/* struct dan_tok_spec -> struct dan_tokenizer: the fast way where the parts are the usual ones, else the pipeline. */
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/decoder.h"
#include "text/pipeline.h"
#include "text/post.h"
#include "text/sp_model.h"
#include "text/wordpiece.h"

/* --- which way */
static bool is_type(const json_t *j, const char *type) { return strcmp(dan_json_name(j, "type"), type) == 0; }
static bool is_nothing(const json_t *j)
{
    return !j || json_is_null(j) || (is_type(j, "Sequence") && !json_array_size(json_object_get(j, "normalizers")));
}

static bool is_byte_level(const json_t *j, bool regex)
{
    return is_type(j, "ByteLevel") && !dan_json_flag(j, "add_prefix_space", false) && dan_json_flag(j, "use_regex", true) == regex;
}

static const struct dan_split *known_split(const json_t *j)
{
    const char *behaviour = dan_json_name(j, "behavior");
    bool invert = dan_json_flag(j, "invert", false), alone = strcmp(behaviour, "Isolated") == 0, kept = strcmp(behaviour, "Removed") == 0 && invert;
    return is_type(j, "Split") && (alone || kept) ? dan_split_of_regex(dan_json_name(json_object_get(j, "pattern"), "Regex")) : NULL;
}

/* The scanner that does what pre_tokenizer says, NULL: there is none. */
static const struct dan_split *scanner(const json_t *pre)
{
    const json_t *list = json_object_get(pre, "pretokenizers"), *first = json_array_get(list, 0), *second = json_array_get(list, 1);
    if (is_byte_level(pre, true)) return dan_split_named("gpt2");
    if (!is_type(pre, "Sequence")) return NULL;
    if (json_array_size(list) == 1) return scanner(first);
    if (json_array_size(list) != 2) return NULL;
    if (is_type(first, "Digits") && dan_json_flag(first, "individual_digits", false) && is_byte_level(second, true))
        return dan_split_named("gpt2-digits");
    return is_byte_level(second, false) ? known_split(first) : NULL;
}

static bool any_piece(const struct dan_tok_spec *s, int with, int without)
{
    for (size_t i = 0; i < s->n; i++)
        if ((s->piece[i].flags & with) == with && !(s->piece[i].flags & without)) return true;
    return false;
}

/* Byte-level BPE with a scanner: tokens that are found in normalised text are only what they say without a normaliser. */
static const struct dan_split *fast_bpe(const struct dan_tok_spec *s)
{
    if (s->model != DAN_SPEC_BPE || !s->byte_level) return NULL;
    bool none = is_nothing(s->normalizer), nfc = s->normalizer && is_type(s->normalizer, "NFC");
    if (!none && (!nfc || any_piece(s, DAN_PIECE_ADDED | DAN_PIECE_NORMALIZED, 0))) return NULL;
    return scanner(s->pre_tokenizer);
}

static size_t longest(const struct dan_tok_spec *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) n = s->piece[i].n > n ? s->piece[i].n : n;
    return n;
}

static bool fast_wordpiece(const struct dan_tok_spec *s)
{
    return s->model == DAN_SPEC_WORDPIECE && is_type(s->pre_tokenizer, "BertPreTokenizer") && strlen(s->prefix) < 16 &&
           (is_nothing(s->normalizer) || is_type(s->normalizer, "BertNormalizer")) && !any_piece(s, DAN_PIECE_ADDED | DAN_PIECE_NORMALIZED, 0) &&
           longest(s) <= 250;                  /* what the fast tables hold */
}

static bool one_char(const struct dan_tok_spec *s, const struct dan_spec_piece *one)
{
    int32_t cp;
    return one->n && (size_t)dan_utf8_next(s->bytes.p + one->at, one->n, &cp) == one->n && cp >= 0;
}

/* Each character is a word. */
static bool is_char(const struct dan_tok_spec *s)
{
    const json_t *pre = s->pre_tokenizer;
    const char *regex = dan_json_name(json_object_get(pre, "pattern"), "Regex");
    bool split = is_type(pre, "Split") && (strcmp(regex, "[\\s\\S]") == 0 || strcmp(regex, "(?s:.)") == 0);
    bool fixed = is_type(pre, "FixedLength") && json_integer_value(json_object_get(pre, "length")) == 1;
    if (s->model != DAN_SPEC_WORDLEVEL || (!split && !fixed) || !is_nothing(s->normalizer)) return false;
    for (size_t i = 0; i < s->n; i++)
        if (s->piece[i].flags && !(s->piece[i].flags & DAN_PIECE_ADDED) && (int32_t)i != s->unk && !one_char(s, &s->piece[i])) return false;
    return true;
}

/* --- the vocabulary */
/* SentencePiece finds its user-defined pieces itself. */
static uint8_t entry_flags(const struct dan_tok_spec *s, int flags)
{
    bool special = flags & DAN_PIECE_SPECIAL;
    bool added = flags & DAN_PIECE_ADDED && (!s->sp || special);
    int f = added ? (special ? 1 : 2) : s->sp && special ? 1 : 0;
    if (f && flags & DAN_PIECE_LSTRIP) f |= 4;
    if (f && flags & DAN_PIECE_RSTRIP) f |= 8;
    if (f && flags & DAN_PIECE_SINGLE_WORD) f |= 16;
    if (f && flags & DAN_PIECE_NORMALIZED && !s->sp) f |= 32;
    if (f && flags & DAN_PIECE_MODEL && !special) f |= 64;
    if (flags & DAN_PIECE_UNUSED) f |= 128;
    return (uint8_t)f;
}

static int set_vocab(struct dan_tokenizer *t, const struct dan_tok_spec *s, struct dan_err *e)
{
    struct dan_tok_entry *entry = dan_calloc(s->n + 1, sizeof *entry);
    if (!entry) return dan_fail(e, DAN_ENOMEM, "out of memory for a vocabulary of %zu tokens", s->n);
    for (size_t i = 0; i < s->n; i++) {
        const struct dan_spec_piece *p = &s->piece[i];
        if (p->flags) entry[i] = (struct dan_tok_entry){s->bytes.p + p->at, p->n, entry_flags(s, p->n ? p->flags : p->flags & DAN_PIECE_MODEL)};
    }
    int r = dan_tok_set_vocab(t, entry, s->n, e);
    dan_free(entry);
    return r;
}

static bool is_special(const struct dan_tok_spec *s, int32_t id) { return s->piece[id].flags & DAN_PIECE_SPECIAL; }

/* Does the pair make a special token?  Text must not become one, so such a merge does not count. */
static bool makes_special(const struct dan_tokenizer *t, const struct dan_tok_spec *s, const int32_t pair[2], struct dan_str *buf)
{
    if (is_special(s, pair[0]) || is_special(s, pair[1])) return true;
    dan_str_clear(buf);
    for (int k = 0; k < 2; k++) dan_str_append(buf, s->bytes.p + s->piece[pair[k]].at, s->piece[pair[k]].n);
    const struct dan_added_set *set[2] = {&t->raw, &t->normal};
    int64_t i;
    for (int k = 0; k < 2 && !buf->failed; k++)
        if (set[k]->index && dan_map_get(set[k]->index, dan_str_c(buf), buf->n, &i) && t->added[i].special) return true;
    return false;
}

static int set_listed(struct dan_tokenizer *t, const struct dan_tok_spec *s, struct dan_err *e)
{
    int32_t *pair = dan_malloc((s->n_merges + 1) * 2 * sizeof *pair);
    struct dan_str buf = {0};
    size_t n = 0;
    if (!pair) return dan_fail(e, DAN_ENOMEM, "out of memory for %zu merges", s->n_merges);
    for (size_t i = 0; i < s->n_merges; i++) {
        const int32_t *m = s->merge + 2 * i;
        if (makes_special(t, s, m, &buf)) continue;
        pair[2 * n] = m[0];
        pair[2 * n + 1] = m[1];
        n++;
    }
    dan_str_release(&buf);
    return dan_tok_set_merges(t, pair, n, s->where, e);
}

static int set_merges(struct dan_tokenizer *t, const struct dan_tok_spec *s, struct dan_err *e)
{
    for (size_t i = 0; i < 2 * s->n_merges; i++)
        if (s->merge[i] < 0 || (size_t)s->merge[i] >= s->n)
            return dan_fail(e, DAN_EFORMAT, "%s: merge %zu names token %d, which is not in the vocabulary; the file is damaged", s->where, i / 2,
                            s->merge[i]);
    t->ignore_merges = s->ignore_merges;
    return s->merges == DAN_MERGES_BY_ID ? dan_tok_set_ranks(t, e) : set_listed(t, s, e);
}

/* --- the ways */
static bool is_identity(const struct dan_tokenizer *t)
{
    if (t->n_merges) return false;
    for (int b = 0; b < 256; b++)
        if (t->byte_id[b] != b) return false;
    return true;
}

static int build_bpe(struct dan_tokenizer *t, const struct dan_tok_spec *s, struct dan_err *e)
{
    t->split = *fast_bpe(s);
    t->nfc = s->normalizer && is_type(s->normalizer, "NFC");
    t->split.classes = dan_classes_new(&t->split);
    int r = t->split.classes ? set_merges(t, s, e) : dan_fail(e, DAN_ENOMEM, "out of memory for the tokenizer '%s'", s->where);
    if (!r && is_identity(t) && !t->nfc) t->kind = &dan_tok_bytes;
    return r ? r : dan_bpe_prepare(t, e);
}

static int build_wordpiece(struct dan_tokenizer *t, const struct dan_tok_spec *s, struct dan_err *e)
{
    struct dan_wordpiece *w = t->wordpiece = dan_calloc(1, sizeof *w);
    if (!w) return dan_fail(e, DAN_ENOMEM, "out of memory for the tokenizer '%s'", s->where);
    const json_t *n = s->normalizer;
    if (!is_nothing(n)) {
        w->clean = dan_json_flag(n, "clean_text", true);
        w->chinese = dan_json_flag(n, "handle_chinese_chars", true);
        w->lower = dan_json_flag(n, "lowercase", true);
        w->strip = dan_json_flag(n, "strip_accents", w->lower);    /* null: as lowercase */
    }
    w->prefix_n = strlen(s->prefix);
    memcpy(w->prefix, s->prefix, w->prefix_n);
    w->max_chars = s->max_chars > 0 ? (size_t)s->max_chars : 0;
    w->unk = s->unk;
    int r = dan_wordpiece_set_vocab(w, s, e);
    if (!r) r = dan_bert_prepare(w, e);
    return r ? r : dan_pipeline_new(t, s, &t->pipe, e);    /* for offsets */
}

static int build_sp(struct dan_tokenizer *t, const struct dan_tok_spec *s, struct dan_err *e) { return dan_sp_new(s, &t->sp, e); }
static int build_char(struct dan_tokenizer *t, const struct dan_tok_spec *s, struct dan_err *e) { return (void)s, dan_tok_set_chars(t, e); }

static int build_pipeline(struct dan_tokenizer *t, const struct dan_tok_spec *s, struct dan_err *e)
{
    int r = s->model == DAN_SPEC_BPE && s->byte_level ? set_merges(t, s, e) : DAN_OK;
    return r ? r : dan_pipeline_new(t, s, &t->pipe, e);
}

struct way { const struct dan_tok_kind *kind; int (*build)(struct dan_tokenizer *t, const struct dan_tok_spec *s, struct dan_err *e); };

static struct way way_of(const struct dan_tok_spec *s)
{
    static const struct dan_tok_kind *const pipeline[] = {
        [DAN_SPEC_BPE] = &dan_tok_pipeline_bpe, [DAN_SPEC_UNIGRAM] = &dan_tok_pipeline_unigram,
        [DAN_SPEC_WORDPIECE] = &dan_tok_pipeline_wordpiece, [DAN_SPEC_WORDLEVEL] = &dan_tok_pipeline_wordlevel,
    };
    if (s->sp) return (struct way){s->model == DAN_SPEC_BPE ? &dan_tok_sp_bpe : &dan_tok_sp_unigram, build_sp};
    if (fast_bpe(s)) return (struct way){&dan_tok_bpe, build_bpe};
    if (fast_wordpiece(s)) return (struct way){&dan_tok_wordpiece, build_wordpiece};
    if (is_char(s)) return (struct way){&dan_tok_char, build_char};
    return (struct way){pipeline[s->model], build_pipeline};
}

/* --- decoder, post-processor */
/* Bytes one after the other, unless an added token's text would be read in the alphabet of bytes. */
static bool plain_decoder(const struct dan_tok_spec *s)
{
    if (s->sp) return true;
    if (!s->byte_level || (s->decoder && !json_is_null(s->decoder) && !dan_decoder_is_bytes(s->decoder))) return false;
    return true;
}

static void around(struct dan_tokenizer *t)
{
    static const struct dan_ids none = {0};
    int32_t mark = -1;
    struct dan_ids one = {&mark, 1, 1, false}, all = {0};
    dan_post_join(t->post, &none, NULL, &all, NULL);
    size_t n = all.n, at = 0;
    all.n = 0;
    dan_post_join(t->post, &one, NULL, &all, NULL);
    while (at < all.n && all.v[at] != mark) at++;
    for (size_t i = 0; i < at; i++) dan_ids_push(&t->before, all.v[i]);
    for (size_t i = at + 1; i < all.n && n; i++)
        if (all.v[i] != mark) dan_ids_push(&t->after, all.v[i]);
    t->before.failed = t->before.failed || all.failed;
    dan_ids_release(&all);
}

static int set_rest(struct dan_tokenizer *t, const struct dan_tok_spec *s, struct dan_err *e)
{
    t->bytes_are_text = s->byte_level;
    t->assumed = s->assumed;
    t->bos = s->bos, t->eos = s->eos, t->unk = s->unk, t->pad = s->pad;
    int r = plain_decoder(s) ? DAN_OK : dan_decoder_new(s->decoder, s->where, &t->decoder, e);
    if (!r) r = dan_post_new(s->post_processor, t->n_vocab, s->where, &t->post, e);
    if (!r) around(t);
    if (!r && s->chat_template && !(t->chat_template = dan_strdup(s->chat_template))) r = dan_fail(e, DAN_ENOMEM, "out of memory");
    if (!r && (t->before.failed || t->after.failed)) r = dan_fail(e, DAN_ENOMEM, "out of memory for the tokenizer '%s'", s->where);
    return r;
}

static int check(const struct dan_tok_spec *s, struct dan_err *e)
{
    const int32_t id[] = {s->bos, s->eos, s->pad, s->unk};
    for (int i = 0; i < 4; i++)
        if (id[i] < -1 || id[i] >= (int64_t)s->n)
            return dan_fail(e, DAN_EFORMAT, "%s: token %d is named as bos, eos, pad or unk and is not in the vocabulary; the file is damaged",
                            s->where, id[i]);
    return s->n ? DAN_OK : dan_fail(e, DAN_EFORMAT, "%s: the vocabulary is empty; the file is damaged", s->where);
}

/* For saving; messages are over. */
static int keep(struct dan_tokenizer *t, struct dan_tok_spec *s, struct dan_err *e)
{
    t->spec = dan_malloc(sizeof *t->spec);
    if (!t->spec) return dan_fail(e, DAN_ENOMEM, "out of memory for a tokenizer");
    *t->spec = *s;
    t->spec->where = "tokenizer";
    dan_tok_spec_init(s, s->model, s->where);
    return DAN_OK;
}

int dan_tok_build(struct dan_tok_spec *s, struct dan_tokenizer **out, struct dan_err *e)
{
    int r = check(s, e);
    if (r) return r;
    struct way way = way_of(s);
    struct dan_tokenizer *t = dan_tok_new(way.kind);
    if (!t) return dan_fail(e, DAN_ENOMEM, "out of memory for a tokenizer");
    r = set_vocab(t, s, e);
    if (!r) r = way.build(t, s, e);
    if (!r) r = set_rest(t, s, e);
    uint64_t parts = !r && !t->kind->encode ? dan_pipeline_hash(s, 1) : 0;
    if (!r) r = keep(t, s, e);
    if (r) {
        dan_tokenizer_free(t);
        return r;
    }
    dan_tok_finish(t);
    if (parts) t->hash = dan_hash(&parts, sizeof parts, t->hash);
    *out = t;
    return DAN_OK;
}
