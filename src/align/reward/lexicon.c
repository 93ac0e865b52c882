/* The mean weight of an answer's words by a list: a word and its weight a line (no weight: 1).  Words that are not listed count 0;
 * case does not matter. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "align/reward.h"
#include "base/file.h"
#include "base/mem.h"

struct entry { const char *word; double weight; };
struct lexicon { char *text; struct entry *v; size_t n; };

static int by_word(const void *a, const void *b) { return strcasecmp(((const struct entry *)a)->word, ((const struct entry *)b)->word); }

static void close_lexicon(void *state)
{
    struct lexicon *l = state;
    dan_free(l->text);
    dan_free(l->v);
    dan_free(l);
}

/* Cuts the text into its words in place. */
static int cut(struct lexicon *l, const char *path, struct dan_err *e)
{
    size_t line = 0;
    for (char *p = l->text, *next; *p; p = next) {
        char *stop = p + strcspn(p, "\n"), *end;
        line++;
        next = *stop ? stop + 1 : stop;
        *stop = 0;
        p += strspn(p, " \t\r");
        if (!*p || *p == '#') continue;
        char *gap = p + strcspn(p, " \t\r");
        struct entry x = {p, 1};
        if (*gap) {
            *gap++ = 0;
            gap += strspn(gap, " \t\r");
            if (*gap) x.weight = strtod(gap, &end);
            if (*gap && end[strspn(end, " \t\r")])
                return dan_fail(e, DAN_EFORMAT, "line %zu of '%s' has no number after its word: expected 'word' or 'word weight'", line, path);
        }
        l->v[l->n++] = x;
    }
    if (l->n == 0) return dan_fail(e, DAN_EFORMAT, "'%s' lists no words: expected one a line", path);
    qsort(l->v, l->n, sizeof *l->v, by_word);
    return DAN_OK;
}

static int open_lexicon(const char *arg, void **state, struct dan_err *e)
{
    struct lexicon *l = dan_calloc(1, sizeof *l);
    size_t n, lines = 1;
    int rc = l ? dan_read_file(arg, &l->text, &n, e) : dan_fail(e, DAN_ENOMEM, "out of memory opening reward 'lexicon'");
    for (size_t i = 0; !rc && i < n; i++) lines += l->text[i] == '\n';
    if (!rc && !(l->v = dan_malloc(lines * sizeof *l->v))) rc = dan_fail(e, DAN_ENOMEM, "out of memory opening reward 'lexicon'");
    if (!rc) rc = cut(l, arg, e);
    if (rc && l) close_lexicon(l);
    else *state = l;
    return rc;
}

static bool in_word(unsigned char c) { return c == '\'' || c >= 0x80 || ((c | 32) >= 'a' && (c | 32) <= 'z'); }

static int score(void *state, const struct dan_answer *a, size_t n, double *out, struct dan_err *e)
{
    const struct lexicon *l = state;
    char word[64];
    (void)e;
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        size_t words = 0;
        for (const char *p = a[i].text; *p;) {
            size_t k = 0;
            while (in_word((unsigned char)p[k])) k++;
            if (k == 0) {
                p++;
                continue;
            }
            words++;
            if (k < sizeof word) {
                memcpy(word, p, k);
                word[k] = 0;
                const struct entry *x = bsearch(&(struct entry){word, 0}, l->v, l->n, sizeof *l->v, by_word);
                if (x) sum += x->weight;
            }
            p += k;
        }
        out[i] = words ? sum / (double)words : 0;
    }
    return DAN_OK;
}

const struct dan_reward_kind dan_reward_kind_lexicon = {
    .name = "lexicon", .arg = "FILE", .doc = "mean weight of the answer's words by a list of 'word weight' lines",
    .open = open_lexicon, .score = score, .close = close_lexicon};
