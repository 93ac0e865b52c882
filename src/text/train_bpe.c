/* Training byte-level BPE: the most frequent adjacent pair becomes a token, again and again.
 *
 * The distinct words lie one after the other in `sym`, one place per byte and a wall (-1) before and after
 * each.  A symbol of length k stands at its first and at its last place; what lies between is -1, so
 * both neighbours of a symbol are found without links.  Every pair has the list of places where it
 * began; a place is stale when the pair no longer stands there.  A merge walks its list once, so the work is
 * the number of merged occurrences, also in a word of a megabyte. */
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "text/impl.h"
#include "text/words.h"

struct place { uint32_t at, word; };
struct pair {
    uint64_t key;                              /* symbols, dan_pair_key */
    int64_t  count;
    struct place *place;
    size_t   n, cap;
    uint32_t touched;                          /* the merge in which it last gained places, + 1 */
};
/* Largest count first, then smallest key.  A count that has fallen since is corrected when it comes up. */
struct candidate { int64_t count; uint64_t key; uint32_t pair; };

struct learner {
    int32_t  *sym;
    size_t    n_sym;
    int64_t  *weight;                          /* per word */
    struct pair *pair;
    size_t    n_pair, pair_cap;
    uint32_t *slot;                            /* hash of pairs: index + 1, 0 free */
    uint64_t  slot_mask;
    struct candidate *heap;
    size_t    n_heap, heap_cap;
    uint32_t *gained;                          /* pairs that gained places in this merge */
    size_t    n_gained, gained_cap;
    struct dan_str bytes;                      /* of all symbols */
    size_t   *start;                           /* [n_tok + 1] into bytes */
    size_t    n_tok, start_cap;
    struct dan_map *known;                     /* bytes -> symbol */
    int32_t  *merge;                           /* [n_merge][2] symbols */
    size_t    n_merge, merge_cap;
};

/* --- the table of pairs */
static int slots_grow(struct learner *l)
{
    uint64_t cap = l->slot ? (l->slot_mask + 1) * 2 : 1 << 12;
    uint32_t *slot = dan_calloc(cap, sizeof *slot);
    if (!slot) return -1;
    for (size_t k = 0; k < l->n_pair; k++) {
        uint64_t i = dan_merge_hash(l->pair[k].key) & (cap - 1);
        while (slot[i]) i = (i + 1) & (cap - 1);
        slot[i] = (uint32_t)k + 1;
    }
    dan_free(l->slot);
    l->slot = slot;
    l->slot_mask = cap - 1;
    return 0;
}

/* Index of a pair, made when it is new; UINT32_MAX: out of memory. */
static uint32_t pair_index(struct learner *l, int32_t a, int32_t b)
{
    if (l->n_pair * 2 >= (l->slot ? l->slot_mask : 0) && slots_grow(l) != 0) return UINT32_MAX;
    uint64_t key = dan_pair_key(a, b), i = dan_merge_hash(key) & l->slot_mask;
    for (; l->slot[i]; i = (i + 1) & l->slot_mask)
        if (l->pair[l->slot[i] - 1].key == key) return l->slot[i] - 1;
    if (l->n_pair >= UINT32_MAX - 1 || dan_vec_grow(&l->pair, &l->pair_cap, l->n_pair + 1, sizeof *l->pair) != 0) return UINT32_MAX;
    l->pair[l->n_pair] = (struct pair){.key = key};
    l->slot[i] = (uint32_t)++l->n_pair;
    return l->slot[i] - 1;
}

static int add_place(struct learner *l, int32_t a, int32_t b, struct place where)
{
    uint32_t k = pair_index(l, a, b);
    if (k == UINT32_MAX) return -1;
    struct pair *p = &l->pair[k];
    if (p->n == p->cap && dan_vec_grow(&p->place, &p->cap, p->n + 1, sizeof *p->place) != 0) return -1;
    p->place[p->n++] = where;
    p->count += l->weight[where.word];
    if (p->touched == l->n_merge + 1) return 0;
    p->touched = (uint32_t)l->n_merge + 1;
    if (dan_vec_grow(&l->gained, &l->gained_cap, l->n_gained + 1, sizeof *l->gained) != 0) return -1;
    l->gained[l->n_gained++] = k;
    return 0;
}

/* --- the heap of candidates */
static bool before(const struct candidate *x, const struct candidate *y)
{
    return x->count != y->count ? x->count > y->count : x->key < y->key;
}

static int heap_push(struct learner *l, uint32_t pair)
{
    struct candidate v = {l->pair[pair].count, l->pair[pair].key, pair};
    if (dan_vec_grow(&l->heap, &l->heap_cap, l->n_heap + 1, sizeof *l->heap) != 0) return -1;
    size_t i = l->n_heap++;
    for (; i > 0 && before(&v, &l->heap[(i - 1) / 2]); i = (i - 1) / 2) l->heap[i] = l->heap[(i - 1) / 2];
    l->heap[i] = v;
    return 0;
}

static struct candidate heap_pop(struct learner *l)
{
    struct candidate top = l->heap[0], v = l->heap[--l->n_heap];
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < l->n_heap; i = k) {
        if (k + 1 < l->n_heap && before(&l->heap[k + 1], &l->heap[k])) k++;
        if (!before(&l->heap[k], &v)) break;
        l->heap[i] = l->heap[k];
    }
    l->heap[i] = v;
    return top;
}

/* Pairs that gained places in the last merge become candidates. */
static int push_gained(struct learner *l)
{
    for (size_t i = 0; i < l->n_gained; i++)
        if (heap_push(l, l->gained[i]) != 0) return -1;
    l->n_gained = 0;
    return 0;
}

/* --- symbols */
static size_t length(const struct learner *l, int32_t s) { return l->start[s + 1] - l->start[s]; }

/* The symbol of n bytes; one that two different merges make is the same. */
static int32_t symbol(struct learner *l, const char *p, size_t n)
{
    int64_t id;
    if (dan_map_get(l->known, p, n, &id)) return (int32_t)id;
    if (dan_vec_grow(&l->start, &l->start_cap, l->n_tok + 2, sizeof *l->start) != 0) return -1;
    dan_str_append(&l->bytes, p, n);
    if (l->bytes.failed || dan_map_put(l->known, p, n, (int64_t)l->n_tok) != 0) return -1;
    l->start[l->n_tok++] = l->bytes.n - n;
    l->start[l->n_tok] = l->bytes.n;
    return (int32_t)l->n_tok - 1;
}

static int32_t joined(struct learner *l, int32_t a, int32_t b, struct dan_str *tmp)
{
    dan_str_clear(tmp);
    dan_str_append(tmp, l->bytes.p + l->start[a], length(l, a));
    dan_str_append(tmp, l->bytes.p + l->start[b], length(l, b));
    return tmp->failed ? -1 : symbol(l, tmp->p, tmp->n);
}

static int lay_bytes(struct learner *l, int32_t sym_of[256])
{
    unsigned char order[256];
    dan_alphabet_order(order);
    for (int i = 0; i < 256; i++) {
        char c = (char)order[i];
        if (symbol(l, &c, 1) != i) return -1;
        sym_of[order[i]] = i;
    }
    return 0;
}

static int lay_words(struct learner *l, const struct dan_words *w, const int32_t sym_of[256])
{
    size_t n_words = dan_map_count(w->count), at = 1;
    l->weight = dan_malloc((n_words + 1) * sizeof *l->weight);
    l->sym = dan_malloc(l->n_sym * sizeof *l->sym);
    if (!l->weight || !l->sym) return -1;
    l->sym[0] = -1;
    for (size_t k = 0; k < n_words; k++) {
        const char *p;
        size_t n;
        dan_map_at(w->count, k, &p, &n, &l->weight[k]);
        for (size_t i = 0; i < n; i++, at++) {
            l->sym[at] = sym_of[(unsigned char)p[i]];
            if (i && add_place(l, l->sym[at - 1], l->sym[at], (struct place){(uint32_t)at - 1, (uint32_t)k}) != 0) return -1;
        }
        l->sym[at++] = -1;
    }
    return push_gained(l);
}

/* --- one merge */
static void lose(struct learner *l, int32_t a, int32_t b, int64_t weight)
{
    uint32_t k = pair_index(l, a, b);
    if (k != UINT32_MAX) l->pair[k].count -= weight;
}

/* `a` at i and `b` after it become c, if they still stand there. */
static int merge_at(struct learner *l, int32_t a, int32_t b, int32_t c, struct place where)
{
    size_t i = where.at, j = i + length(l, a), k = j + length(l, b);
    if (l->sym[i] != a || l->sym[j] != b) return 0;
    int32_t left = l->sym[i - 1], right = l->sym[k];
    int64_t weight = l->weight[where.word];
    l->sym[j - 1] = l->sym[j] = -1;
    l->sym[i] = l->sym[k - 1] = c;
    int r = 0;
    if (left >= 0) {
        lose(l, left, a, weight);
        r = add_place(l, left, c, (struct place){(uint32_t)(i - length(l, left)), where.word});
    }
    if (right >= 0 && r == 0) {
        lose(l, b, right, weight);
        r = add_place(l, c, right, where);
    }
    return r;
}

static int by_place(const void *x, const void *y)
{
    uint32_t a = ((const struct place *)x)->at, b = ((const struct place *)y)->at;
    return (a > b) - (a < b);
}

/* Left to right, which matters for runs of one symbol.  Lists ascend by themselves unless a symbol was made twice. */
static void in_order(struct pair *p)
{
    for (size_t i = 1; i < p->n; i++)
        if (p->place[i].at < p->place[i - 1].at) {
            qsort(p->place, p->n, sizeof *p->place, by_place);
            return;
        }
}

static int merge_pair(struct learner *l, uint32_t k, struct dan_str *tmp)
{
    uint64_t key = l->pair[k].key;
    int32_t a = (int32_t)(key >> 32), b = (int32_t)(uint32_t)key, c = joined(l, a, b, tmp);
    if (c < 0 || dan_vec_grow(&l->merge, &l->merge_cap, 2 * l->n_merge + 2, sizeof *l->merge) != 0) return -1;
    l->merge[2 * l->n_merge] = a;
    l->merge[2 * l->n_merge + 1] = b;
    l->n_merge++;
    in_order(&l->pair[k]);
    struct place *place = l->pair[k].place;    /* the list is done with; l->pair moves as it grows */
    size_t n = l->pair[k].n;
    l->pair[k].place = NULL;
    l->pair[k].n = l->pair[k].cap = 0;
    int r = 0;
    for (size_t i = 0; i < n && r == 0; i++) r = merge_at(l, a, b, c, place[i]);
    l->pair[k].count = 0;
    dan_free(place);
    return r == 0 ? push_gained(l) : r;
}

/* The next pair to merge, or UINT32_MAX when none occurs `least` times. */
static uint32_t best_pair(struct learner *l, int64_t least, int *failed)
{
    while (l->n_heap) {
        struct candidate top = heap_pop(l);
        int64_t now = l->pair[top.pair].count;
        if (now == top.count) return now >= least ? top.pair : UINT32_MAX;
        if (now > 0 && now < top.count && heap_push(l, top.pair) != 0) *failed = 1;
    }
    return UINT32_MAX;
}

static int learn(struct learner *l, size_t n_tokens, const struct dan_tok_train_opts *o, struct dan_tok_train_stats *s, struct dan_err *e)
{
    struct dan_str tmp = {0};
    int failed = 0, r = DAN_OK;
    int64_t least = o->min_pair_count > 0 ? o->min_pair_count : 2, first = (int64_t)l->n_tok;
    while (l->n_tok < n_tokens && !r && !failed) {
        uint32_t k = best_pair(l, least, &failed);
        if (k == UINT32_MAX || failed) break;
        s->last_count = l->pair[k].count;
        failed = merge_pair(l, k, &tmp) != 0;
        if (l->n_merge % 64 == 0) r = dan_train_progress(o, "merge", (int64_t)l->n_tok - first, (int64_t)n_tokens - first, e);
    }
    dan_str_release(&tmp);
    s->merges = (int64_t)l->n_merge;
    if (failed) return dan_fail(e, DAN_ENOMEM, "out of memory after %zu merges; lower the memory bound or the vocabulary", l->n_merge);
    return r ? r : dan_train_progress(o, "merge", (int64_t)l->n_tok - first, (int64_t)l->n_tok - first, e);
}

static int start_learner(struct learner *l, const struct dan_words *w, struct dan_err *e)
{
    int32_t sym_of[256];
    size_t n_sym = 1;
    for (size_t k = 0, n; k < dan_map_count(w->count); k++, n_sym += n + 1) dan_map_at(w->count, k, NULL, &n, NULL);
    if (n_sym >= UINT32_MAX)
        return dan_fail(e, DAN_EINVAL, "too many different words: %zu bytes of them, at most 4 Gi; lower the memory bound", n_sym);
    l->n_sym = n_sym;
    l->known = dan_map_new();
    if (l->known && lay_bytes(l, sym_of) == 0 && lay_words(l, w, sym_of) == 0) return DAN_OK;
    return dan_fail(e, DAN_ENOMEM, "out of memory for %zu different words; lower the memory bound", dan_map_count(w->count));
}

static void learner_release(struct learner *l)
{
    for (size_t i = 0; i < l->n_pair; i++) dan_free(l->pair[i].place);
    void *const owned[] = {l->sym, l->weight, l->pair, l->slot, l->heap, l->gained, l->start, l->merge};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) dan_free(owned[i]);
    dan_str_release(&l->bytes);
    dan_map_free(l->known);
}

/* --- the tokenizer that comes out */
static int make_tokenizer(struct learner *l, const struct dan_split *split, const struct dan_tok_train_opts *o, struct dan_tokenizer **out,
                          struct dan_err *e)
{
    size_t n_special = dan_tok_n_special(o), n = l->n_tok + n_special;
    struct dan_tokenizer *t = dan_tok_new(&dan_tok_bpe);
    struct dan_tok_entry *entry = dan_calloc(n, sizeof *entry);
    if (t) t->split = *split;
    int r = DAN_OK;
    if (!t || !entry || !(t->split.classes = dan_classes_new())) r = dan_fail(e, DAN_ENOMEM, "out of memory for the new tokenizer");
    for (size_t i = 0; i < n && !r; i++) {
        if (i < l->n_tok) entry[i] = (struct dan_tok_entry){l->bytes.p + l->start[i], length(l, (int32_t)i), 0};
        else entry[i] = (struct dan_tok_entry){dan_tok_special(o, i - l->n_tok), strlen(dan_tok_special(o, i - l->n_tok)), 1};
    }
    if (!r) r = dan_tok_set_vocab(t, entry, n, e);
    if (!r) r = dan_tok_set_merges(t, l->merge, l->n_merge, "training", e), l->merge = NULL;
    dan_free(entry);
    if (r) {
        dan_tokenizer_free(t);
        return r;
    }
    t->bos = t->eos = dan_tokenizer_find_special(t, DAN_END_OF_TEXT);
    dan_tok_finish(t);
    *out = t;
    return DAN_OK;
}

static int check_opts(const struct dan_tok_train_opts *o, struct dan_split *split, struct dan_err *e)
{
    int r = dan_tok_check_special(o, e);
    if (r) return r;
    size_t least = 256 + dan_tok_n_special(o);
    if (o->vocab_size < (int32_t)least)
        return dan_fail(e, DAN_EINVAL, "vocabulary of %d is too small; byte-level BPE needs at least %zu (256 bytes, %zu special "
                        "tokens)", o->vocab_size, least, least - 256);
    const struct dan_split *s = dan_split_named(o->split ? o->split : "gpt2");
    if (!s) return dan_fail(e, DAN_EINVAL, "unknown split '%s'; use gpt2, gpt2-digits, llama3 or qwen2", o->split);
    *split = *s;
    split->classes = dan_classes_new();
    return split->classes ? DAN_OK : dan_fail(e, DAN_ENOMEM, "out of memory for training a tokenizer");
}

int dan_tokenizer_train_bpe(const struct dan_text_source *src, const struct dan_tok_train_opts *o, struct dan_tokenizer **out,
                            struct dan_tok_train_stats *stats, struct dan_err *e)
{
    struct dan_split split = {0};
    struct dan_words words = {0};
    struct learner l = {0};
    int r = check_opts(o, &split, e);
    if (!r) r = dan_words_count(&words, src, &split, o, e);
    if (!r) words.stats.distinct = (int64_t)dan_map_count(words.count);
    if (!r && words.stats.distinct == 0) r = dan_fail(e, DAN_EINVAL, "no text to train a tokenizer on; give files with text");
    if (!r) r = start_learner(&l, &words, e);
    dan_words_release(&words);
    if (!r) r = learn(&l, (size_t)o->vocab_size - dan_tok_n_special(o), o, &words.stats, e);
    if (!r) r = make_tokenizer(&l, &split, o, out, e);
    if (stats && !r) *stats = words.stats;
    learner_release(&l);
    dan_free((void *)(uintptr_t)split.classes);
    return r;
}
