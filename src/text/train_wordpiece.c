/* WordPiece for BERT: the words that BertNormalizer and BertPreTokenizer make, merged by count. */
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"
#include "text/impl.h"
#include "text/learn.h"
#include "text/pretok.h"
#include "text/spec.h"
#include "text/words.h"

enum { N_CODE_POINTS = 0x110000, MAX_WORD_CHARS = 100 };
static const char PREFIX[] = "##";
static const char *const named[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
enum { N_NAMED = sizeof named / sizeof *named, PAD = 0, UNK, CLS, SEP };

struct trainer {
    const struct dan_tok_train_opts *o;
    json_t *normalizer, *pre_tokenizer;
    struct dan_normal *normal;
    struct dan_pretok *pretok;
    struct dan_words words;
    struct dan_learner l;
    uint8_t *kept;                             /* a bit for each code point */
};

static size_t n_given(const struct dan_tok_train_opts *o) { return o->special ? o->n_special : 0; }

/* --- text to words */
static void cut(const void *ctx, const char *p, size_t n, struct dan_word_table *t)
{
    static const char padding[DAN_WORD_MOST + 1];
    const struct trainer *k = ctx;
    struct dan_cutting c = {0};
    struct dan_err e = {0};
    dan_flow_set(&c.text, p, n, 0);
    int r = k->normal ? dan_normal_apply(k->normal, &c.room, &c.text, &c.spare, &e) : DAN_OK;
    dan_spans_push(&c.piece, 0, c.text.s.n);
    if (!r) r = dan_pretok_apply(k->pretok, &c, &e);
    size_t len = c.text.s.n;
    dan_str_append(&c.text.s, padding, sizeof padding);
    if (r || c.text.s.failed || c.piece.failed || c.text.failed) t->failed = true;
    for (size_t i = 0; i < c.piece.n && !t->failed; i++) {
        struct dan_span s = c.piece.v[i];
        if (s.to > s.from && s.to <= len) dan_word_table_put(t, c.text.s.p + s.from, s.to - s.from);
    }
    dan_cutting_release(&c);
}

/* Words end at white space. */
static size_t safe(const void *ctx, const char *p, size_t n)
{
    (void)ctx;
    for (size_t k = n - 1; k > 0; k--)
        if (p[k] == '\n' || p[k] == ' ') return k;
    return 0;
}

static int open_cutter(struct trainer *k, struct dan_err *e)
{
    bool lower = !k->o->normal || strcmp(k->o->normal, "lower") == 0;
    if (k->o->normal && !lower && strcmp(k->o->normal, "none") != 0)
        return dan_fail(e, DAN_EINVAL, "unknown normalisation '%s' for wordpiece; use lower or none", k->o->normal);
    k->normalizer = json_pack("{s:s, s:b, s:b, s:n, s:b}", "type", "BertNormalizer", "clean_text", 1, "handle_chinese_chars", 1, "strip_accents",
                              "lowercase", lower);
    k->pre_tokenizer = json_pack("{s:s}", "type", "BertPreTokenizer");
    if (!k->normalizer || !k->pre_tokenizer) return dan_fail(e, DAN_ENOMEM, "out of memory for training a tokenizer");
    int r = dan_normal_new(k->normalizer, "training", &k->normal, e);
    return r ? r : dan_pretok_new(k->pre_tokenizer, "training", false, &k->pretok, e);
}

/* --- characters: the most frequent ones, until they cover the text */
struct seen { int32_t cp; int64_t count; };

static int by_count(const void *x, const void *y)
{
    const struct seen *a = x, *b = y;
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
    count[0] = 0;
}

static int keep_chars(struct trainer *k, struct dan_err *e)
{
    int64_t *count = dan_calloc(N_CODE_POINTS, sizeof *count), all = 0, so_far = 0;
    struct seen *list = dan_malloc(N_CODE_POINTS * sizeof *list);
    double coverage = k->o->coverage > 0 ? k->o->coverage : 1;
    size_t n = 0;
    k->kept = dan_calloc(N_CODE_POINTS / 8, 1);
    bool good = count && list && k->kept;
    if (good) count_chars(&k->words, count);
    for (int32_t cp = 0; good && cp < N_CODE_POINTS; cp++)
        if (count[cp]) list[n++] = (struct seen){cp, count[cp]}, all += count[cp];
    if (n) qsort(list, n, sizeof *list, by_count);
    for (size_t i = 0; i < n && (double)so_far / (double)all < coverage; so_far += list[i++].count)
        k->kept[list[i].cp >> 3] |= (uint8_t)(1 << (list[i].cp & 7));
    dan_free(count);
    dan_free(list);
    return good ? DAN_OK : dan_fail(e, DAN_ENOMEM, "out of memory for the characters of a text");
}

/* --- words to symbols */
static int put_word(struct trainer *k, const char *p, size_t n, int32_t *sym, size_t *n_sym)
{
    char text[8];
    size_t m = 0;
    memcpy(text, PREFIX, 2);
    for (size_t i = 0, len; i < n; i += len, m++) {
        int32_t cp;
        len = (size_t)dan_utf8_next(p + i, n - i, &cp);
        memcpy(text + 2, p + i, len);
        bool kept = cp > 0 && k->kept[cp >> 3] >> (cp & 7) & 1;
        sym[m] = !kept ? -1 : i ? dan_learner_symbol(&k->l, text, len + 2) : dan_learner_symbol(&k->l, p, len);
        if (kept && sym[m] < 0) return -1;
    }
    *n_sym = m;
    return 0;
}

static int start(struct trainer *k, struct dan_err *e)
{
    int32_t *sym = NULL;
    size_t cap = 0, n_sym = 0;
    int r = DAN_OK;
    for (int32_t cp = 0; cp < N_CODE_POINTS && !r; cp++) {
        char text[4];
        if (k->kept[cp >> 3] >> (cp & 7) & 1 && dan_learner_symbol(&k->l, text, (size_t)dan_utf8_put(cp, text)) < 0)
            r = dan_fail(e, DAN_ENOMEM, "out of memory for an alphabet");
    }
    for (size_t i = 0; i < dan_map_count(k->words.count) && !r; i++) {
        const char *p;
        size_t n;
        int64_t uses;
        dan_map_at(k->words.count, i, &p, &n, &uses);
        if (dan_vec_grow(&sym, &cap, n + 1, sizeof *sym) || put_word(k, p, n, sym, &n_sym))
            r = dan_fail(e, DAN_ENOMEM, "out of memory for a word of %zu bytes", n);
        if (!r) r = dan_learner_word(&k->l, sym, n_sym, uses, e);
    }
    dan_free(sym);
    return r;
}

static int learn(struct trainer *k, struct dan_err *e)
{
    const struct dan_tok_train_opts *o = k->o;
    size_t taken = N_NAMED + n_given(o);
    int r = start(k, e);
    if (!r && (size_t)o->vocab_size < k->l.n_text + taken)
        r = dan_fail(e, DAN_EINVAL, "vocabulary of %d is too small; this text has %zu characters, at the beginning and inside of words, so it "
                     "needs at least %zu; raise it, or lower the character coverage", o->vocab_size, k->l.n_text, k->l.n_text + taken);
    return r ? r : dan_learner_run(&k->l, (size_t)o->vocab_size - taken, o->min_pair_count > 0 ? o->min_pair_count : 2, o, &k->words.stats, e);
}

/* --- the tokenizer that comes out */
static json_t *template_json(void)
{
    return json_loads("{\"type\": \"TemplateProcessing\","
                      "\"single\": [{\"SpecialToken\": {\"id\": \"[CLS]\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}},"
                      " {\"SpecialToken\": {\"id\": \"[SEP]\", \"type_id\": 0}}],"
                      "\"pair\": [{\"SpecialToken\": {\"id\": \"[CLS]\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"A\", \"type_id\": 0}},"
                      " {\"SpecialToken\": {\"id\": \"[SEP]\", \"type_id\": 0}}, {\"Sequence\": {\"id\": \"B\", \"type_id\": 1}},"
                      " {\"SpecialToken\": {\"id\": \"[SEP]\", \"type_id\": 1}}],"
                      "\"special_tokens\": {\"[CLS]\": {\"id\": \"[CLS]\", \"ids\": [2], \"tokens\": [\"[CLS]\"]},"
                      " \"[SEP]\": {\"id\": \"[SEP]\", \"ids\": [3], \"tokens\": [\"[SEP]\"]}}}", 0, NULL);
}

static int fill(const struct trainer *k, struct dan_tok_spec *s, struct dan_err *e)
{
    const struct dan_tok_train_opts *o = k->o;
    const int special = DAN_PIECE_MODEL | DAN_PIECE_ADDED | DAN_PIECE_SPECIAL;
    int r = DAN_OK;
    for (size_t i = 0; i < N_NAMED + n_given(o) && !r; i++) {
        const char *text = i < N_NAMED ? named[i] : o->special[i - N_NAMED];
        r = dan_tok_spec_put(s, (int64_t)i, text, strlen(text), 0, special, e);
    }
    int64_t id = (int64_t)(N_NAMED + n_given(o)), first;
    for (size_t i = 0; i < k->l.n_tok && !r; i++) {
        size_t n;
        const char *p = dan_learner_text(&k->l, (int32_t)i, &n);
        if (!dan_map_get(k->l.known, p, n, &first) || first != (int64_t)i) continue;
        r = dan_tok_spec_put(s, id++, p, n, 0, DAN_PIECE_MODEL, e);
    }
    memcpy(s->prefix, PREFIX, sizeof PREFIX);
    s->unk = UNK, s->pad = PAD, s->bos = CLS, s->eos = SEP;
    s->max_chars = MAX_WORD_CHARS;
    s->normalizer = json_incref(k->normalizer);
    s->pre_tokenizer = json_incref(k->pre_tokenizer);
    s->decoder = json_pack("{s:s, s:s, s:b}", "type", "WordPiece", "prefix", PREFIX, "cleanup", 1);
    s->post_processor = template_json();
    if (!r && (!s->decoder || !s->post_processor)) r = dan_fail(e, DAN_ENOMEM, "out of memory for the new tokenizer");
    return r;
}

static int build(const struct trainer *k, struct dan_tokenizer **out, struct dan_err *e)
{
    struct dan_tok_spec s;
    dan_tok_spec_init(&s, DAN_SPEC_WORDPIECE, "training");
    int r = fill(k, &s, e);
    if (!r) r = dan_tok_build(&s, out, e);
    dan_tok_spec_release(&s);
    return r;
}

static int check(const struct dan_tok_train_opts *o, struct dan_err *e)
{
    for (size_t i = 0; i < n_given(o); i++)
        for (size_t n = 0; n < N_NAMED; n++)
            if (strcmp(o->special[i], named[n]) == 0)
                return dan_fail(e, DAN_EINVAL, "special token '%s' is there already; leave it out", named[n]);
    return dan_tok_check_special(o, e);
}

int dan_tokenizer_train_wordpiece(const struct dan_text_source *src, const struct dan_tok_train_opts *o, struct dan_tokenizer **out,
                                  struct dan_tok_train_stats *stats, struct dan_err *e)
{
    struct trainer k = {.o = o, .l = {.strip = PREFIX}};
    struct dan_cutter cutter = {&k, cut, safe};
    int r = check(o, e);
    if (!r) r = open_cutter(&k, e);
    if (!r) r = dan_words_count(&k.words, src, &cutter, o, e);
    if (!r && !k.words.stats.distinct) r = dan_fail(e, DAN_EINVAL, "no text to train a tokenizer on; give files with text");
    if (!r) r = keep_chars(&k, e);
    if (!r) r = learn(&k, e);
    if (!r) r = build(&k, out, e);
    if (!r && stats) *stats = k.words.stats;
    dan_learner_release(&k.l);
    dan_words_release(&k.words);
    dan_normal_free(k.normal);
    dan_pretok_free(k.pretok);
    json_decref(k.normalizer);
    json_decref(k.pre_tokenizer);
    dan_free(k.kept);
    return r;
}
