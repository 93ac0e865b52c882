/* The words lie one after the other in `sym`, one place per byte or character and a wall (-1) before and after each.  A symbol that
 * takes k places stands at its first and at its last place; what lies between is -1, so both neighbours of a symbol are
 * found without links.  Every pair has the list of places where it began; a place is stale when the pair no longer stands
 * there.  A merge walks its list once, so the work is the number of merged occurrences, also in a word of a megabyte. */
#include "text/learn.h"
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "text/impl.h"
#include "text/words.h"

struct place { uint32_t at, word; };
struct dan_learn_pair {
    uint64_t key;                              /* symbols, dan_pair_key */
    int64_t  count;
    struct place *place;
    uint32_t n, cap;
    uint32_t touched;                          /* the merge in which it last gained places, + 1 */
    bool     never;                            /* `allowed` says no */
};
/* Largest count first, then smallest key.  A count that has fallen since is corrected when it comes up. */
struct dan_learn_candidate { int64_t count; uint64_t key; uint32_t pair; };

static int32_t left_of(uint64_t key) { return (int32_t)(key >> 32); }
static int32_t right_of(uint64_t key) { return (int32_t)(uint32_t)key; }

/* --- the table of pairs */
static int slots_grow(struct dan_learner *l)
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

static bool is_allowed(const struct dan_learner *l, int32_t a, int32_t b)
{
    size_t n, m;
    if (!l->allowed) return true;
    const char *p = dan_learner_text(l, a, &n), *q = dan_learner_text(l, b, &m);
    return l->allowed(l->allowed_ctx, p, n, q, m);
}

/* Index of a pair, made when it is new; UINT32_MAX: out of memory. */
static uint32_t pair_index(struct dan_learner *l, int32_t a, int32_t b)
{
    if (l->n_pair * 2 >= (l->slot ? l->slot_mask : 0) && slots_grow(l) != 0) return UINT32_MAX;
    uint64_t key = dan_pair_key(a, b), i = dan_merge_hash(key) & l->slot_mask;
    for (; l->slot[i]; i = (i + 1) & l->slot_mask)
        if (l->pair[l->slot[i] - 1].key == key) return l->slot[i] - 1;
    if (l->n_pair >= UINT32_MAX - 1) return UINT32_MAX;
    if (l->n_pair == l->pair_cap && dan_vec_grow(&l->pair, &l->pair_cap, l->n_pair + 1, sizeof *l->pair) != 0) return UINT32_MAX;
    l->pair[l->n_pair] = (struct dan_learn_pair){.key = key, .never = !is_allowed(l, a, b)};
    l->slot[i] = (uint32_t)++l->n_pair;
    return l->slot[i] - 1;
}

static int place_room(struct dan_learn_pair *p)
{
    size_t cap = p->cap;
    if (dan_vec_grow(&p->place, &cap, (size_t)p->n + 1, sizeof *p->place) != 0) return -1;
    p->cap = cap > UINT32_MAX ? UINT32_MAX : (uint32_t)cap;
    return 0;
}

static int add_place(struct dan_learner *l, int32_t a, int32_t b, struct place where)
{
    uint32_t k = pair_index(l, a, b);
    if (k == UINT32_MAX) return -1;
    struct dan_learn_pair *p = &l->pair[k];
    if (p->never) return 0;
    if (p->n == p->cap && place_room(p) != 0) return -1;
    p->place[p->n++] = where;
    p->count += l->weight[where.word];
    if (p->touched == l->n_merge + 1) return 0;
    p->touched = (uint32_t)l->n_merge + 1;
    if (dan_vec_grow(&l->gained, &l->gained_cap, l->n_gained + 1, sizeof *l->gained) != 0) return -1;
    l->gained[l->n_gained++] = k;
    return 0;
}

/* --- the heap of candidates */

/* Compares a pair's joined text with another's, without joining them. */
static int by_joined(const struct dan_learner *l, uint64_t x, uint64_t y)
{
    size_t n[4];
    const char *p[4] = {dan_learner_text(l, left_of(x), &n[0]), dan_learner_text(l, right_of(x), &n[1]),
                        dan_learner_text(l, left_of(y), &n[2]), dan_learner_text(l, right_of(y), &n[3])};
    for (size_t i = 0, a = n[0] + n[1], b = n[2] + n[3];; i++) {
        if (i == a || i == b) return (i != a) - (i != b);
        unsigned char c = (unsigned char)(i < n[0] ? p[0][i] : p[1][i - n[0]]), d = (unsigned char)(i < n[2] ? p[2][i] : p[3][i - n[2]]);
        if (c != d) return c < d ? -1 : 1;
    }
}

static bool tie_before(const struct dan_learner *l, uint64_t x, uint64_t y)
{
    if (!l->by_text) return x < y;
    uint32_t a = l->units[left_of(x)] + l->units[right_of(x)], b = l->units[left_of(y)] + l->units[right_of(y)];
    if (a != b) return a < b;
    int c = by_joined(l, x, y);
    return c ? c < 0 : x < y;
}

static inline bool before(const struct dan_learner *l, const struct dan_learn_candidate *x, const struct dan_learn_candidate *y)
{
    return x->count != y->count ? x->count > y->count : tie_before(l, x->key, y->key);
}

static int heap_push(struct dan_learner *l, uint32_t pair)
{
    struct dan_learn_candidate v = {l->pair[pair].count, l->pair[pair].key, pair};
    if (dan_vec_grow(&l->heap, &l->heap_cap, l->n_heap + 1, sizeof *l->heap) != 0) return -1;
    size_t i = l->n_heap++;
    for (; i > 0 && before(l, &v, &l->heap[(i - 1) / 2]); i = (i - 1) / 2) l->heap[i] = l->heap[(i - 1) / 2];
    l->heap[i] = v;
    return 0;
}

static struct dan_learn_candidate heap_pop(struct dan_learner *l)
{
    struct dan_learn_candidate top = l->heap[0], v = l->heap[--l->n_heap];
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < l->n_heap; i = k) {
        if (k + 1 < l->n_heap && before(l, &l->heap[k + 1], &l->heap[k])) k++;
        if (!before(l, &l->heap[k], &v)) break;
        l->heap[i] = l->heap[k];
    }
    l->heap[i] = v;
    return top;
}

/* Pairs that gained places in the last merge become candidates. */
static int push_gained(struct dan_learner *l)
{
    for (size_t i = 0; i < l->n_gained; i++)
        if (heap_push(l, l->gained[i]) != 0) return -1;
    l->n_gained = 0;
    return 0;
}

/* --- symbols */
static int32_t new_symbol(struct dan_learner *l, const char *p, size_t n, uint32_t units)
{
    if (l->n_tok >= INT32_MAX - 1 || dan_vec_grow(&l->start, &l->start_cap, l->n_tok + 2, sizeof *l->start) != 0 ||
        dan_vec_grow(&l->units, &l->units_cap, l->n_tok + 1, sizeof *l->units) != 0) return -1;
    dan_str_append(&l->bytes, p, n);
    if (l->bytes.failed) return -1;
    l->units[l->n_tok] = units;
    l->start[l->n_tok++] = l->bytes.n - n;
    l->start[l->n_tok] = l->bytes.n;
    return (int32_t)l->n_tok - 1;
}

static int32_t symbol(struct dan_learner *l, const char *p, size_t n, uint32_t units)
{
    int64_t id;
    if (!l->known && !(l->known = dan_map_new())) return -1;
    bool has = dan_map_get(l->known, p, n, &id);
    /* a text of another length in places cannot be the same symbol ("##" may hide a character) */
    if (has && (!l->by_text || units == 1) && l->units[id] == units) return (int32_t)id;
    int32_t s = new_symbol(l, p, n, units);
    if (s < 0 || has) return s;
    l->n_text++;
    return dan_map_put(l->known, p, n, s) == 0 ? s : -1;
}

int32_t dan_learner_symbol(struct dan_learner *l, const char *p, size_t n) { return symbol(l, p, n, 1); }

static int32_t joined(struct dan_learner *l, int32_t a, int32_t b, struct dan_str *tmp)
{
    size_t n, m, k = l->strip ? strlen(l->strip) : 0;
    const char *p = dan_learner_text(l, a, &n), *q = dan_learner_text(l, b, &m);
    size_t cut = k && m >= k && memcmp(q, l->strip, k) == 0 ? k : 0;
    dan_str_clear(tmp);
    dan_str_append(tmp, p, n);
    dan_str_append(tmp, q + cut, m - cut);
    return tmp->failed ? -1 : symbol(l, tmp->p, tmp->n, l->units[a] + l->units[b]);
}

/* --- words */
int dan_learner_word(struct dan_learner *l, const int32_t *sym, size_t n, int64_t weight, struct dan_err *e)
{
    uint32_t word = (uint32_t)l->n_word;
    if (l->n_sym + n + 2 >= UINT32_MAX)
        return dan_fail(e, DAN_EINVAL, "too many different words: more than 4 Gi characters of them; lower the memory bound");
    if (dan_vec_grow(&l->sym, &l->sym_cap, l->n_sym + n + 2, sizeof *l->sym) != 0 ||
        dan_vec_grow(&l->weight, &l->word_cap, l->n_word + 1, sizeof *l->weight) != 0) goto memory;
    if (!l->n_sym) l->sym[l->n_sym++] = -1;
    l->weight[l->n_word++] = weight;
    size_t at = l->n_sym;
    memcpy(l->sym + at, sym, n * sizeof *sym);
    l->n_sym += n;
    l->sym[l->n_sym++] = -1;
    for (size_t i = 1; i < n; i++)
        if (sym[i - 1] >= 0 && sym[i] >= 0 &&
            add_place(l, sym[i - 1], sym[i], (struct place){(uint32_t)(at + i - 1), word}) != 0) goto memory;
    return DAN_OK;
memory:
    return dan_fail(e, DAN_ENOMEM, "out of memory for %zu different words; lower the memory bound", l->n_word);
}

/* --- one merge */
static void lose(struct dan_learner *l, int32_t a, int32_t b, int64_t weight)
{
    uint32_t k = pair_index(l, a, b);
    if (k != UINT32_MAX) l->pair[k].count -= weight;
}

/* `a` at i and `b` after it become c, if they still stand there. */
static int merge_at(struct dan_learner *l, int32_t a, int32_t b, int32_t c, struct place where)
{
    size_t i = where.at, j = i + l->units[a], k = j + l->units[b];
    if (l->sym[i] != a || l->sym[j] != b) return 0;
    int32_t left = l->sym[i - 1], right = l->sym[k];
    int64_t weight = l->weight[where.word];
    l->sym[j - 1] = l->sym[j] = -1;
    l->sym[i] = l->sym[k - 1] = c;
    int r = 0;
    if (left >= 0) {
        lose(l, left, a, weight);
        r = add_place(l, left, c, (struct place){(uint32_t)(i - l->units[left]), where.word});
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
static void in_order(struct dan_learn_pair *p)
{
    for (size_t i = 1; i < p->n; i++)
        if (p->place[i].at < p->place[i - 1].at) {
            qsort(p->place, p->n, sizeof *p->place, by_place);
            return;
        }
}

static int merge_pair(struct dan_learner *l, uint32_t k, struct dan_str *tmp)
{
    uint64_t key = l->pair[k].key;
    int32_t a = left_of(key), b = right_of(key), c = joined(l, a, b, tmp);
    if (c < 0 || dan_vec_grow(&l->merge, &l->merge_cap, 2 * l->n_merge + 2, sizeof *l->merge) != 0 ||
        dan_vec_grow(&l->made, &l->made_cap, l->n_merge + 1, sizeof *l->made) != 0) return -1;
    l->merge[2 * l->n_merge] = a;
    l->merge[2 * l->n_merge + 1] = b;
    l->made[l->n_merge++] = c;
    in_order(&l->pair[k]);
    struct place *place = l->pair[k].place;    /* the list is done with; l->pair moves as it grows */
    size_t n = l->pair[k].n;
    l->pair[k].place = NULL;
    l->pair[k].n = l->pair[k].cap = 0;
    int r = 0;
    for (size_t i = 0; i < n && r == 0; i++) {
        if (i + 8 < n) __builtin_prefetch(&l->sym[place[i + 8].at]);
        r = merge_at(l, a, b, c, place[i]);
    }
    l->pair[k].count = 0;
    dan_free(place);
    return r == 0 ? push_gained(l) : r;
}

/* The next pair to merge, or UINT32_MAX when none occurs `least` times. */
static uint32_t best_pair(struct dan_learner *l, int64_t least, int *failed)
{
    while (l->n_heap) {
        struct dan_learn_candidate top = heap_pop(l);
        int64_t now = l->pair[top.pair].count;
        if (now == top.count) return now >= least ? top.pair : UINT32_MAX;
        if (now > 0 && now < top.count && heap_push(l, top.pair) != 0) *failed = 1;
    }
    return UINT32_MAX;
}

int dan_learner_run(struct dan_learner *l, size_t n_texts, int64_t least, const struct dan_tok_train_opts *o,
                    struct dan_tok_train_stats *s, struct dan_err *e)
{
    struct dan_str tmp = {0};
    int failed = push_gained(l), r = DAN_OK;
    int64_t first = (int64_t)l->n_text;
    while (l->n_text < n_texts && !r && !failed) {
        uint32_t k = best_pair(l, least, &failed);
        if (k == UINT32_MAX || failed) break;
        s->last_count = l->pair[k].count;
        failed = merge_pair(l, k, &tmp) != 0;
        if (l->n_merge % 64 == 0) r = dan_train_progress(o, "merge", (int64_t)l->n_text - first, (int64_t)n_texts - first, e);
    }
    dan_str_release(&tmp);
    s->merges = (int64_t)l->n_merge;
    if (failed) return dan_fail(e, DAN_ENOMEM, "out of memory after %zu merges; lower the memory bound or the vocabulary", l->n_merge);
    return r ? r : dan_train_progress(o, "merge", (int64_t)l->n_text - first, (int64_t)l->n_text - first, e);
}

void dan_learner_release(struct dan_learner *l)
{
    for (size_t i = 0; i < l->n_pair; i++) dan_free(l->pair[i].place);
    void *const owned[] = {l->sym, l->weight, l->pair, l->slot, l->heap, l->gained, l->start, l->units, l->merge, l->made};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) dan_free(owned[i]);
    dan_str_release(&l->bytes);
    dan_map_free(l->known);
}
