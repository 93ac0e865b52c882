#include "text/about.h"
#include <string.h>
#include "text/normal.h"
#include "text/sp_model.h"

/* The name of a step, and its pattern. */
static void put_step(struct dan_str *out, const json_t *j)
{
    const json_t *pattern = json_object_get(j, "pattern");
    const char *regex = dan_json_name(pattern, "Regex"), *string = dan_json_name(pattern, "String");
    if (out->n) dan_str_puts(out, ", ");
    dan_str_puts(out, dan_json_name(j, "type"));
    if (*regex) dan_str_printf(out, " /%s/", regex);
    else if (*string) dan_str_printf(out, " '%s'", string);
}

static void put_chain(struct dan_str *out, const json_t *j, int depth)
{
    static const char *const lists[] = {"normalizers", "pretokenizers", "decoders", "processors"};
    if (!json_is_object(j)) return;
    for (size_t k = 0; k < sizeof lists / sizeof *lists && depth < 8; k++) {
        const json_t *list = json_object_get(j, lists[k]), *one;
        size_t i;
        if (!json_is_array(list)) continue;
        json_array_foreach(list, i, one) put_chain(out, one, depth + 1);
        return;
    }
    put_step(out, j);
}

static void put(struct dan_str *out, const json_t *j)
{
    put_chain(out, j, 0);
    if (!out->n) dan_str_puts(out, "none");
}

static const char *algorithm(const struct dan_tokenizer *t)
{
    const struct dan_tok_spec *s = t->spec;
    if (t->kind == &dan_tok_bytes) return "bytes";
    if (t->kind == &dan_tok_char) return "characters";
    if (!s) return t->wordpiece ? "WordPiece" : "merge-list BPE";
    switch (s->model) {
    case DAN_SPEC_UNIGRAM: return "unigram";
    case DAN_SPEC_WORDPIECE: return "WordPiece";
    case DAN_SPEC_WORDLEVEL: return "WordLevel";
    default: return s->merges == DAN_MERGES_BY_SCORE ? "score BPE" : s->merges == DAN_MERGES_BY_ID ? "rank BPE" : "merge-list BPE";
    }
}

void dan_tok_about(const struct dan_tokenizer *t, struct dan_tok_about *a)
{
    const struct dan_tok_spec *s = t->spec;
    *a = (struct dan_tok_about){.algorithm = algorithm(t)};
    a->splitter = t->sp ? "SentencePiece" : !t->kind->encode ? "pipeline" : t->wordpiece ? "bert" : t->split.name ? t->split.name : "none";
    if (s) {
        put(&a->normalizer, s->normalizer);
        put(&a->pre_tokenizer, s->pre_tokenizer);
        put(&a->decoder, s->decoder);
        put(&a->post_processor, s->post_processor);
        return;
    }
    dan_str_puts(&a->normalizer, t->nfc ? "NFC" : "none");
    dan_str_puts(&a->pre_tokenizer, t->split.name ? "ByteLevel" : "none");
    dan_str_puts(&a->decoder, t->split.name ? "ByteLevel" : "none");
    dan_str_puts(&a->post_processor, "none");
}

void dan_tok_about_release(struct dan_tok_about *a)
{
    dan_str_release(&a->normalizer);
    dan_str_release(&a->pre_tokenizer);
    dan_str_release(&a->decoder);
    dan_str_release(&a->post_processor);
}
