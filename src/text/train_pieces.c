#include "text/train_pieces.h"
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/impl.h"
#include "text/train_file.h"
#include "text/unicode.h"

enum { N_CODE_POINTS = 0x110000, N_META = 3 };

/* --- text to words: each line is normalised, and cut before every mark */
static void cut_line(const struct dan_sp_training *k, const char *p, size_t n, struct dan_word_table *t)
{
    static const char padding[DAN_WORD_MOST + 1];
    struct dan_sp_buffer b;
    struct dan_err e = {0};
    dan_sp_buffer_init(&b, NULL);
    if (dan_sp_normalise(&k->normaliser, p, n, &b, &e)) t->failed = true;
    dan_str_clear(&t->room);
    dan_str_append(&t->room, b.p, b.n);
    dan_str_append(&t->room, padding, sizeof padding);
    size_t len = b.n;
    dan_sp_buffer_release(&b);
    if (t->room.failed) t->failed = true;
    for (size_t i = 0, end; i < len && !t->failed; i = end) {
        const char *next = memmem(t->room.p + i + 1, len - i - 1, DAN_WORD_MARK, 3);
        end = next ? (size_t)(next - t->room.p) : len;
        dan_word_table_put(t, t->room.p + i, end - i);
    }
}

static void cut_lines(const void *ctx, const char *p, size_t n, struct dan_word_table *t)
{
    for (size_t i = 0; i < n && !t->failed;) {
        const char *newline = memchr(p + i, '\n', n - i);
        size_t end = newline ? (size_t)(newline - p) : n;
        size_t len = end > i && p[end - 1] == '\r' ? end - i - 1 : end - i;
        if (len) cut_line(ctx, p + i, len, t);
        i = end + 1;
    }
}

static size_t safe_line(const void *ctx, const char *p, size_t n)
{
    const char *newline = memrchr(p, '\n', n - 1);
    (void)ctx;
    return newline ? (size_t)(newline - p) + 1 : 0;
}

/* --- characters */
static int by_count(const void *x, const void *y)
{
    const struct dan_sp_char *a = x, *b = y;
    if (a->count != b->count) return a->count > b->count ? -1 : 1;
    return (a->cp > b->cp) - (a->cp < b->cp);
}

static void count_chars(const struct dan_words *w, int64_t *count)
{
    for (size_t k = 0; k < dan_map_count(w->count); k++) {
        const char *p;
        size_t n;
        int64_t uses;
        int32_t cp;
        dan_map_at(w->count, k, &p, &n, &uses);
        for (size_t i = 0; i < n; i += (size_t)dan_utf8_next(p + i, n - i, &cp), count[cp > 0 ? cp : 0] += uses) {}
    }
    count[0] = 0;                              /* U+0000 is no character of a piece */
}

static int cover(struct dan_sp_training *t, struct dan_err *e)
{
    int64_t *count = dan_calloc(N_CODE_POINTS, sizeof *count), all = 0, so_far = 0;
    double coverage = t->o->coverage > 0 ? t->o->coverage : 0.9995;
    size_t n = 0, m = 0;
    t->covered = dan_calloc(N_CODE_POINTS / 8, 1);
    if (count && t->covered) count_chars(&t->words, count);
    for (int32_t cp = 0; count && cp < N_CODE_POINTS; cp++) n += count[cp] > 0;
    t->chars = dan_malloc((n + 1) * sizeof *t->chars);
    if (!count || !t->covered || !t->chars) {
        dan_free(count);
        return dan_fail(e, DAN_ENOMEM, "out of memory for %zu characters", n);
    }
    for (int32_t cp = 0; cp < N_CODE_POINTS; cp++) {
        if (!count[cp]) continue;
        t->chars[m++] = (struct dan_sp_char){cp, count[cp]};
        all += count[cp];
    }
    dan_free(count);
    qsort(t->chars, n, sizeof *t->chars, by_count);
    for (t->n_chars = 0; t->n_chars < n && (double)so_far / (double)all < coverage; t->n_chars++) {
        int32_t cp = t->chars[t->n_chars].cp;
        t->covered[cp >> 3] |= (uint8_t)(1 << (cp & 7));
        so_far += t->chars[t->n_chars].count;
    }
    return DAN_OK;
}

static bool is_digit(int32_t cp) { return (cp >= '0' && cp <= '9') || (cp >= 0xFF10 && cp <= 0xFF19); }

bool dan_sp_valid(const struct dan_sp_training *t, const int32_t *cp, size_t n)
{
    enum { ANY = -1, COMMON = 3, INHERITED = 5 };                  /* dan_uni_script's */
    int before = ANY;
    if (n == 0 || n > t->most) return false;
    for (size_t i = 0; i < n; i++) {
        if (cp[i] == DAN_WORD_MARK_CP) {
            if (i > 0) return false;
            continue;
        }
        if (!dan_sp_covered(t, cp[i])) return false;
        if (t->o->split_digits && is_digit(cp[i]) && n > 1) return false;
        int script = dan_uni_script(cp[i]);
        if (script == INHERITED) script = before;
        if (script == 0) script = COMMON;
        if (before != ANY && script != ANY && before != script) return false;
        before = script;
    }
    return true;
}

/* --- reading */
static int set_normal(struct dan_sp_training *t, struct dan_err *e)
{
    const char *how = t->o->normal ? t->o->normal : "nmt_nfkc";
    bool none = strcmp(how, "none") == 0;
    t->normal = (struct dan_sp_normal){.dummy_prefix = true, .remove_spaces = !none, .escape_spaces = true};
    int r = none ? DAN_OK : dan_charsmap_make(how, &t->normal.charsmap, e);
    return r ? r : dan_sp_normaliser_init(&t->normaliser, &t->normal, NULL, e);
}

static int check(struct dan_sp_training *t, struct dan_err *e)
{
    size_t least = t->n_chars + (size_t)t->o->vocab_size - dan_sp_training_room(t);
    if (!t->words.stats.distinct) return dan_fail(e, DAN_EINVAL, "no text to train a tokenizer on; give files with text");
    if (dan_sp_training_room(t) < t->n_chars)
        return dan_fail(e, DAN_EINVAL, "vocabulary of %d is too small; this text has %zu characters, so it needs at least %zu; raise it, or lower "
                        "the character coverage", t->o->vocab_size, t->n_chars, least);
    return DAN_OK;
}

static size_t n_given(const struct dan_tok_train_opts *o) { return o->special ? o->n_special : 0; }

size_t dan_sp_training_room(const struct dan_sp_training *t)
{
    size_t taken = N_META + n_given(t->o) + t->o->n_symbol + (t->o->byte_fallback ? 256 : 0);
    return (size_t)t->o->vocab_size > taken ? (size_t)t->o->vocab_size - taken : 0;
}

static int check_symbols(const struct dan_tok_train_opts *o, struct dan_err *e)
{
    static const char *const taken[] = {"<unk>", "<s>", "</s>"};
    for (size_t i = 0; i < n_given(o) + o->n_symbol; i++) {
        const char *s = i < n_given(o) ? o->special[i] : o->symbol[i - n_given(o)];
        if (!*s || dan_utf8_check(s, strlen(s)) != strlen(s))
            return dan_fail(e, DAN_EINVAL, "bad symbol %zu: empty or not UTF-8; write it like '<sep>'", i);
        for (size_t k = 0; k < sizeof taken / sizeof *taken + i; k++) {
            const char *other = k < 3 ? taken[k] : k - 3 < n_given(o) ? o->special[k - 3] : o->symbol[k - 3 - n_given(o)];
            if (strcmp(s, other) == 0) return dan_fail(e, DAN_EINVAL, "symbol '%s' is there twice; <unk>, <s> and </s> are always there", s);
        }
    }
    return DAN_OK;
}

int dan_sp_training_read(struct dan_sp_training *t, const struct dan_text_source *src, const struct dan_tok_train_opts *o, struct dan_err *e)
{
    *t = (struct dan_sp_training){.o = o, .most = o->max_piece > 0 ? (size_t)o->max_piece : DAN_PIECE_CHARS};
    if (o->max_piece > DAN_MOST_PIECE_CHARS)
        return dan_fail(e, DAN_EINVAL, "pieces of %d characters are too long; at most %d", (int)o->max_piece, DAN_MOST_PIECE_CHARS);
    int r = check_symbols(o, e);
    if (!r) r = set_normal(t, e);
    struct dan_cutter cutter = {t, cut_lines, safe_line};
    if (!r) r = dan_words_count(&t->words, src, &cutter, o, e);
    if (!r) r = cover(t, e);
    return r ? r : check(t, e);
}

void dan_sp_training_release(struct dan_sp_training *t)
{
    dan_sp_normaliser_release(&t->normaliser);
    dan_str_release(&t->normal.charsmap);
    dan_words_release(&t->words);
    dan_free(t->chars);
    dan_free(t->covered);
    *t = (struct dan_sp_training){0};
}

/* --- pieces */
int dan_pieces_put(struct dan_pieces *p, const char *text, size_t n, double score)
{
    if (p->n == p->cap && dan_vec_grow(&p->v, &p->cap, p->n + 1, sizeof *p->v)) return -1;
    p->v[p->n++] = (struct dan_train_piece){p->bytes.n, (uint32_t)n, score};
    dan_str_append(&p->bytes, text, n);
    return p->bytes.failed ? -1 : 0;
}

struct sorted { const char *p; struct dan_train_piece piece; };

static int by_score(const void *x, const void *y)
{
    const struct sorted *a = x, *b = y;
    if (a->piece.score != b->piece.score) return a->piece.score > b->piece.score ? -1 : 1;
    size_t least = a->piece.n < b->piece.n ? a->piece.n : b->piece.n;
    int c = memcmp(a->p, b->p, least);
    return c ? c : (a->piece.n > b->piece.n) - (a->piece.n < b->piece.n);
}

int dan_pieces_sort(struct dan_pieces *p)
{
    struct sorted *s = dan_malloc((p->n + 1) * sizeof *s);
    if (!s) return -1;
    for (size_t i = 0; i < p->n; i++) s[i] = (struct sorted){p->bytes.p + p->v[i].at, p->v[i]};
    qsort(s, p->n, sizeof *s, by_score);
    for (size_t i = 0; i < p->n; i++) p->v[i] = s[i].piece;
    dan_free(s);
    return 0;
}

void dan_pieces_release(struct dan_pieces *p)
{
    dan_free(p->v);
    dan_str_release(&p->bytes);
    *p = (struct dan_pieces){0};
}

/* --- the tokenizer that comes out */
static int put(struct dan_tok_spec *s, const char *p, size_t n, double score, enum dan_sp_type type, struct dan_err *e)
{
    s->sp->type[s->n] = (uint8_t)type;
    return dan_tok_spec_put(s, (int64_t)s->n, p, n, score, DAN_PIECE_MODEL, e);
}

static int put_meta(const struct dan_sp_training *t, struct dan_tok_spec *s, struct dan_err *e)
{
    const struct dan_tok_train_opts *o = t->o;
    char byte[8];
    int r = put(s, "<unk>", 5, 0, DAN_SP_UNKNOWN, e);
    if (!r) r = put(s, "<s>", 3, 0, DAN_SP_CONTROL, e);
    if (!r) r = put(s, "</s>", 4, 0, DAN_SP_CONTROL, e);
    for (size_t i = 0; i < n_given(o) && !r; i++) r = put(s, o->special[i], strlen(o->special[i]), 0, DAN_SP_CONTROL, e);
    for (size_t i = 0; i < o->n_symbol && !r; i++) r = put(s, o->symbol[i], strlen(o->symbol[i]), 0, DAN_SP_USER_DEFINED, e);
    for (unsigned b = 0; b < 256 && o->byte_fallback && !r; b++) {
        static const char hex[] = "0123456789ABCDEF";
        memcpy(byte, "<0x__>", 6);
        byte[3] = hex[b >> 4], byte[4] = hex[b & 15];
        r = put(s, byte, 6, 0, DAN_SP_BYTE, e);
    }
    return r;
}

static int fill(const struct dan_sp_training *t, const struct dan_pieces *pieces, struct dan_tok_spec *s, struct dan_err *e)
{
    s->unk = 0, s->bos = 1, s->eos = 2;
    s->byte_fallback = t->o->byte_fallback;
    struct dan_sp_normal *in = &s->sp->in, *out = &s->sp->out;
    in->dummy_prefix = t->normal.dummy_prefix, in->remove_spaces = t->normal.remove_spaces, in->escape_spaces = t->normal.escape_spaces;
    out->dummy_prefix = in->dummy_prefix, out->remove_spaces = in->remove_spaces, out->escape_spaces = in->escape_spaces;
    dan_str_append(&in->charsmap, t->normal.charsmap.p, t->normal.charsmap.n);
    if (in->charsmap.failed) return dan_fail(e, DAN_ENOMEM, "out of memory for the new tokenizer");
    int r = put_meta(t, s, e);
    for (size_t i = 0; i < pieces->n && !r; i++) {
        const struct dan_train_piece *p = &pieces->v[i];
        /* as a file of either format has it: SentencePiece's scores are floats */
        r = put(s, pieces->bytes.p + p->at, p->n, (double)(float)p->score, DAN_SP_NORMAL, e);
    }
    return r ? r : dan_sp_rules_to_json(s, e);
}

int dan_sp_training_build(const struct dan_sp_training *t, enum dan_sp_algorithm algorithm, const struct dan_pieces *pieces,
                          struct dan_tokenizer **out, struct dan_err *e)
{
    struct dan_tok_spec s;
    size_t n = (size_t)t->o->vocab_size - dan_sp_training_room(t) + pieces->n;
    dan_tok_spec_init(&s, algorithm == DAN_SP_BPE ? DAN_SPEC_BPE : DAN_SPEC_UNIGRAM, "training");
    s.sp = dan_sp_rules_new(algorithm, n);
    int r = s.sp ? fill(t, pieces, &s, e) : dan_fail(e, DAN_ENOMEM, "out of memory for the new tokenizer");
    if (!r && t->o->model_file) r = dan_spec_to_sentencepiece(&s, t->o->normal ? t->o->normal : "nmt_nfkc", t->o->model_file, e);
    if (!r) r = dan_tok_build(&s, out, e);
    dan_tok_spec_release(&s);
    return r;
}
