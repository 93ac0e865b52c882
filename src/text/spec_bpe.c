/* Pre-tokenizers by name.  The patterns are those of the models' own tokenizers (as published with them); the names are the ones that
 * llama.cpp's converter writes into tokenizer.ggml.pre, and tiktoken's. */
#include "text/spec_bpe.h"
#include <string.h>
#include "base/mem.h"
#include "base/utf8.h"

#define FOLD "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define WORDS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define OTHER "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define UPPER "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
#define CASED(end) "[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]*[" LOWER "]+" end "|[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]+[" LOWER "]*" end "|"
#define SLASHED "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*"
#define HAN_KANA "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
#define DEEPSEEK "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*" TAIL
#define GPT2 "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define NOT_MARKS " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
#define SYMBOLS "[\\p{P}\\$\\+<=>\\^~\\|`]+"

static const struct dan_bpe_style styles[] = {
    {.names = "|gpt-2|gpt2|r50k_base|p50k_base|phi-2|mpt|olmo|jais|trillion|granite-docling|jina-es|jina-de|jina-v2-es|jina-v2-de|gigachat|"
              "a.x-4.0|mellum|exaone4|modern-bert|"},
    {.names = "|jina-v1-en|jina-v2-code|roberta-bpe|", .sep = true},
    {.names = "|smollm|starcoder|refact|command-r|codeshell|exaone|minerva-7b|", .digits = true},
    {.names = "|llama-bpe|llama3|llama-v3|falcon3|falcon-h1|pixtral|midm-2.0|lfm2|", .regex = {FOLD "|" WORDS "\\p{N}{1,3}" OTHER TAIL},
     .whole = true, .bos = true},
    {.names = "|cl100k_base|cl100k|dbrx|smaug-bpe|glm4|chatglm-bpe|", .regex = {FOLD "|" WORDS "\\p{N}{1,3}" OTHER TAIL}},
    {.names = "|qwen2|qwen|deepseek-r1-qwen|megrez|kormo|hunyuan|solar-open|", .regex = {FOLD "|" WORDS "\\p{N}" OTHER TAIL}, .nfc = true},
    {.names = "|stablelm2|grok-2|", .regex = {FOLD "|" WORDS "\\p{N}" OTHER TAIL}},
    {.names = "|bailingmoe|bailingmoe2|llada-moe|", .regex = {"'(?i:[sdmt]|ll|ve|re)|" WORDS "\\p{N}" OTHER "|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"}},
    {.names = "|qwen35|", .nfc = true, .regex = {FOLD "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" TAIL}},
    {.names = "|seed-coder|", .regex = {FOLD "|" WORDS "\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+" TAIL}},
    {.names = "|gpt-4o|o200k_base|o200k_harmony|o200k|llama4|kanana2|minimax-m2|", .regex = {CASED(FOLD "?") "\\p{N}{1,3}" SLASHED TAIL}},
    {.names = "|tekken|", .regex = {CASED("") "\\p{N}" SLASHED TAIL}, .whole = true, .bos = true},
    {.names = "|deepseek-v3|hunyuan-dense|joyai-llm|", .regex = {"\\p{N}{1,3}", HAN_KANA, DEEPSEEK}},
    {.names = "|deepseek-coder|",
     .regex = {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", "\\p{N}"}},
    {.names = "|deepseek-llm|",
     .regex = {"[\\r\\n]", "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
               "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556"
               "\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15"
               "\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe"
               "\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113"
               "\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184"
               "\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e"
               "\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
               "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943]+",
               "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", "\\s+$", "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
               "\\p{N}+"}},
    {.names = "|falcon|", .regex = {SYMBOLS, GPT2, "[0-9][0-9][0-9]"}},
    {.names = "|default|", .regex = {SYMBOLS, GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
    {.names = "|poro-chat|bloom|gpt3-finnish|", .regex = {NOT_MARKS}},
    {.names = "|viking|", .regex = {NOT_MARKS, "\\p{N}"}},
    {.names = "|superbpe|", .regex = {"\\p{N}+", "(?=(\\d{3})+(?!\\d))"}},
    {.names = "|chameleon|", .regex = {"<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\\t\\n]|    |  )", "\\p{N}",
                                       "[\\p{P}!-/:-@\\[-`{-~]", GPT2}},
};

static bool has(const char *names, const char *name, size_t n)
{
    for (const char *a = names; (a = memmem(a, strlen(a), name, n)) != NULL; a++)
        if (a[-1] == '|' && a[n] == '|') return true;
    return false;
}

const struct dan_bpe_style *dan_bpe_style_named(const char *name, size_t n)
{
    if (!n || memchr(name, '|', n)) return NULL;          /* nothing is found everywhere, also behind the end */
    for (size_t i = 0; i < sizeof styles / sizeof *styles; i++)
        if (has(styles[i].names, name, n)) return &styles[i];
    return NULL;
}

static json_t *byte_level(bool regex)
{
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", regex);
}

static json_t *split(const char *regex)
{
    return json_pack("{s:s, s:{s:s}, s:s, s:b}", "type", "Split", "pattern", "Regex", regex, "behavior", "Isolated", "invert", 0);
}

static json_t *pre_tokenizer(const struct dan_bpe_style *style)
{
    if (!style->regex[0] && !style->digits) return byte_level(true);
    json_t *list = json_array();
    int bad = style->digits ? json_array_append_new(list, json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 1)) : 0;
    for (size_t i = 0; style->regex[i] && !bad; i++) bad = json_array_append_new(list, split(style->regex[i]));
    if (!bad) bad = json_array_append_new(list, byte_level(style->digits));
    if (!bad) return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", list);
    json_decref(list);
    return NULL;
}

int dan_spec_set_style(struct dan_tok_spec *s, const struct dan_bpe_style *style, struct dan_err *e)
{
    s->byte_level = true;
    s->ignore_merges = style->whole;
    s->pre_tokenizer = pre_tokenizer(style);
    s->decoder = byte_level(true);
    if (style->nfc) s->normalizer = json_pack("{s:s}", "type", "NFC");
    if (s->pre_tokenizer && s->decoder && (s->normalizer || !style->nfc)) return DAN_OK;
    return dan_fail(e, DAN_ENOMEM, "out of memory for the tokenizer '%s'", s->where);
}

static json_t *special(const struct dan_tok_spec *s, int32_t id, int type)
{
    const struct dan_spec_piece *p = &s->piece[id];
    return json_pack("{s:{s:s%, s:i}}", "SpecialToken", "id", s->bytes.p + p->at, (size_t)p->n, "type_id", type);
}

static json_t *sequence(const char *name, int type) { return json_pack("{s:{s:s, s:i}}", "Sequence", "id", name, "type_id", type); }

/* One text, or what follows the first of two. */
static int around(const struct dan_tok_spec *s, json_t *list, const char *name, int type, int32_t before, int32_t after)
{
    int bad = before >= 0 ? json_array_append_new(list, special(s, before, type)) : 0;
    if (!bad) bad = json_array_append_new(list, sequence(name, type));
    return !bad && after >= 0 ? json_array_append_new(list, special(s, after, type)) : bad;
}

static int put_special(const struct dan_tok_spec *s, json_t *all, int32_t id)
{
    if (id < 0) return 0;
    const struct dan_spec_piece *p = &s->piece[id];
    const char *text = s->bytes.p + p->at;
    json_t *one = json_pack("{s:s%, s:[i], s:[s%]}", "id", text, (size_t)p->n, "ids", id, "tokens", text, (size_t)p->n);
    return json_object_setn_new(all, text, p->n, one);
}

int dan_spec_set_around(struct dan_tok_spec *s, int32_t before, int32_t after, struct dan_err *e)
{
    const int32_t id[2] = {before, after};
    for (int i = 0; i < 2; i++)
        if (id[i] >= 0 && ((size_t)id[i] >= s->n || !s->piece[id[i]].flags))
            return dan_fail(e, DAN_EFORMAT, "'%s' puts token %d around every text, but has no such token; the file is damaged", s->where, id[i]);
    for (int i = 0; i < 2; i++)
        if (id[i] >= 0 && dan_utf8_check(s->bytes.p + s->piece[id[i]].at, s->piece[id[i]].n) != s->piece[id[i]].n)
            return dan_fail(e, DAN_EFORMAT, "'%s' puts token %d around every text, which is no UTF-8; the file is damaged", s->where, id[i]);
    if (before < 0 && after < 0) return DAN_OK;
    json_t *one = json_array(), *two = json_array(), *all = json_object();
    int bad = around(s, one, "A", 0, before, after) || around(s, two, "A", 0, before, after) || around(s, two, "B", 1, before, after) ||
              put_special(s, all, before) || put_special(s, all, after);
    if (!bad)
        s->post_processor = json_pack("{s:s, s:O, s:O, s:O}", "type", "TemplateProcessing", "single", one, "pair", two, "special_tokens", all);
    json_decref(one);
    json_decref(two);
    json_decref(all);
    return s->post_processor ? DAN_OK : dan_fail(e, DAN_ENOMEM, "out of memory for the tokenizer '%s'", s->where);
}
