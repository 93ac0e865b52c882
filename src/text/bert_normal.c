/* BertNormalizer and BertPreTokenizer, one code point at a time: clean_text, handle_chinese_chars, strip_accents (canonical
 * decomposition, then accents go), lowercase; then words end at spaces, and punctuation and Chinese characters stand alone. */
#include <utf8proc.h>
#include "base/mem.h"
#include "text/bert_unicode.h"
#include "text/wordpiece.h"

#define IN(table, cp) (find(table, sizeof table / sizeof *table, cp) != NULL)
static const struct dan_range *find(const struct dan_range *r, size_t n, int32_t cp)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (r[mid].last < cp) lo = mid + 1;
        else hi = mid;
    }
    return lo < n && r[lo].first <= cp ? &r[lo] : NULL;
}

/* Composed characters that are younger than Unicode 9 stay as they are. */
static const struct dan_range young[] = {{0x105C0, 0x105FF, 0}, {0x11380, 0x113CF, 0}, {0x11938, 0x11938, 0}, {0x16120, 0x1612F, 0},
                                         {0x16D60, 0x16D6F, 0}};

static int decompose(int32_t cp, int32_t *out, int n)
{
    int last = 0;
    if (cp < 0x80 || IN(young, cp)) return out[0] = cp, 1;
    utf8proc_ssize_t m = utf8proc_decompose_char(cp, out, n, UTF8PROC_DECOMPOSE, &last);
    return m >= 1 && m <= n ? (int)m : (out[0] = cp, 1);
}

static int32_t lower(int32_t cp)
{
    const struct dan_range *r = find(bert_lower, sizeof bert_lower / sizeof *bert_lower, cp);
    return r ? cp + r->value : utf8proc_tolower(cp);
}

/* What becomes of an accent: all have a class since Unicode 8. */
static int accent_kind(int32_t cp) { return utf8proc_get_property(cp)->combining_class ? DAN_BERT_DROP : DAN_BERT_SEAL; }

static struct dan_bert_char final(int32_t cp, bool marks)
{
    const struct dan_range *mark = marks ? find(bert_mark, sizeof bert_mark / sizeof *bert_mark, cp) : NULL;
    uint8_t kind = IN(bert_space, cp) ? DAN_BERT_SPACE : IN(bert_punct, cp) ? DAN_BERT_ALONE : DAN_BERT_WORD;
    return (struct dan_bert_char){cp, kind, (uint8_t)(mark ? mark->value : 0)};
}

int dan_bert_expand(const struct dan_wordpiece *w, int32_t cp, struct dan_bert_char out[DAN_BERT_MOST], bool *alone)
{
    int32_t part[DAN_BERT_MOST / 2];
    int n = 1, m = 0;
    *alone = w->chinese && IN(bert_chinese, cp);
    part[0] = cp;
    if (w->clean && IN(bert_control, cp)) return 0;
    if (w->strip) n = decompose(cp, part, DAN_BERT_MOST / 2);
    for (int i = 0; i < n; i++) {
        if (w->strip && IN(bert_accent, part[i])) {
            out[m++] = (struct dan_bert_char){part[i], (uint8_t)accent_kind(part[i]), 0};
        } else if (w->lower && part[i] == 0x130) {     /* the only letter whose lower case has two characters */
            out[m++] = final('i', false);
            out[m++] = final(0x307, false);
        } else {
            out[m] = final(w->lower ? lower(part[i]) : part[i], w->strip);
            m++;
        }
    }
    return m;
}

uint32_t dan_bert_action(const struct dan_wordpiece *w, int32_t cp)
{
    struct dan_bert_char c[DAN_BERT_MOST];
    bool alone;
    int n = dan_bert_expand(w, cp, c, &alone);
    if (n == 0) return DAN_BERT_DROP;
    if (n > 1 || c[0].mark || (alone && c[0].kind != DAN_BERT_WORD)) return DAN_BERT_SLOW | (uint32_t)cp << 3;
    return (alone ? (uint32_t)DAN_BERT_ALONE : c[0].kind) | (uint32_t)c[0].cp << 3;
}

int dan_bert_prepare(struct dan_wordpiece *w, struct dan_err *e)
{
    w->action = dan_malloc(65536 * sizeof *w->action);
    if (!w->action) return dan_fail(e, DAN_ENOMEM, "out of memory for a table of characters");
    for (int32_t cp = 0; cp < 65536; cp++) w->action[cp] = dan_bert_action(w, cp);
    for (int i = 0; i < 128; i++) {
        w->ascii[i] = (unsigned char)dan_bert_kind(w->action[i]);
        w->ascii_low[i] = (unsigned char)dan_bert_point(w->action[i]);
    }
    return DAN_OK;
}
