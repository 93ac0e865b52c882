/* BertNormalizer and BertPreTokenizer, one code point at a time: clean_text, handle_chinese_chars, strip_accents (canonical
 * decomposition, then accents go), lowercase; then words end at spaces, and punctuation and Chinese characters stand alone. */
#include <utf8proc.h>
#include "base/mem.h"
#include "text/unicode.h"
#include "text/wordpiece.h"

/* What becomes of an accent: all have a class since Unicode 8. */
static int accent_kind(int32_t cp) { return utf8proc_get_property(cp)->combining_class ? DAN_BERT_DROP : DAN_BERT_SEAL; }

static struct dan_bert_char final(int32_t cp, bool marks)
{
    uint8_t kind = dan_uni_is(DAN_UNI_SPACE, cp) ? DAN_BERT_SPACE : dan_uni_is(DAN_UNI_PUNCT, cp) ? DAN_BERT_ALONE : DAN_BERT_WORD;
    return (struct dan_bert_char){cp, kind, (uint8_t)(marks ? dan_uni_mark(cp) : 0)};
}

int dan_bert_expand(const struct dan_wordpiece *w, int32_t cp, struct dan_bert_char out[DAN_BERT_MOST], bool *alone)
{
    int32_t part[DAN_BERT_MOST / 2], low[2];
    int n = 1, m = 0;
    *alone = w->chinese && dan_uni_is(DAN_UNI_CHINESE, cp);
    part[0] = cp;
    if (w->clean && dan_uni_is(DAN_UNI_CONTROL, cp)) return 0;
    if (w->strip) n = dan_uni_decompose(cp, false, part, DAN_BERT_MOST / 2);
    for (int i = 0; i < n; i++) {
        if (w->strip && dan_uni_is(DAN_UNI_ACCENT, part[i])) {
            out[m++] = (struct dan_bert_char){part[i], (uint8_t)accent_kind(part[i]), 0};
        } else if (w->lower && part[i] == 0x130) {     /* the only letter whose lower case has two characters */
            out[m++] = final('i', false);
            out[m++] = final(0x307, false);
        } else {
            out[m] = final(w->lower ? (dan_uni_lower(part[i], low), low[0]) : part[i], w->strip);
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
