#include "text/about.h"
#include <string.h>
#include "text/normal.h"
#include "text/pipeline.h"
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

static void put(struct dan_str *out, const json_t *j, const char *otherwise)
{
    put_chain(out, j, 0);
    if (!out->n) dan_str_puts(out, otherwise);
}

static const char *of_spec(const struct dan_tok_spec *s)
{
    switch (s->model) {
    case DAN_SPEC_UNIGRAM: return "unigram";
    case DAN_SPEC_WORDPIECE: return "WordPiece";
    case DAN_SPEC_WORDLEVEL: return "WordLevel";
    default: return s->merges == DAN_MERGES_BY_SCORE ? "score BPE" : s->merges == DAN_MERGES_BY_ID ? "rank BPE" : "merge-list BPE";
    }
}

/* model.type of a tokenizer.json; its BPE always lists merges. */
static const char *of_json(const json_t *j)
{
    static const struct { const char *type, *name; } names[] = {
        {"Unigram", "unigram"}, {"WordPiece", "WordPiece"}, {"WordLevel", "WordLevel"}, {"BPE", "merge-list BPE"}};
    const char *type = dan_json_name(json_object_get(j, "model"), "type");
    size_t k = 0;
    while (k + 1 < sizeof names / sizeof *names && strcmp(names[k].type, type) != 0) k++;
    return names[k].name;
}

void dan_tok_about(const struct dan_tokenizer *t, struct dan_tok_about *a)
{
    const struct dan_tok_spec *s = t->spec;
    json_t *j = !s && t->json ? json_loadb(t->json, t->json_n, 0, NULL) : NULL;
    bool plain = !s && !j;
    *a = (struct dan_tok_about){.algorithm = s ? of_spec(s) : j ? of_json(j) : t->wordpiece ? "WordPiece" : "merge-list BPE"};
    if (t->kind == &dan_tok_bytes) a->algorithm = "bytes";
    if (t->kind == &dan_tok_char) a->algorithm = "characters";
    const char *general = dan_pipeline_by_words(t->pipe) ? "words" : "pipeline";
    a->splitter = t->sp ? "SentencePiece" : !t->kind->encode ? general : t->wordpiece ? "bert" : t->split.name ? t->split.name : "none";
    put(&a->normalizer, s ? s->normalizer : json_object_get(j, "normalizer"), plain && t->nfc ? "NFC" : "none");
    put(&a->pre_tokenizer, s ? s->pre_tokenizer : json_object_get(j, "pre_tokenizer"), plain && t->split.name ? "ByteLevel" : "none");
    put(&a->decoder, s ? s->decoder : json_object_get(j, "decoder"), plain && t->split.name ? "ByteLevel" : "none");
    put(&a->post_processor, s ? s->post_processor : json_object_get(j, "post_processor"), "none");
    json_decref(j);
}

void dan_tok_about_release(struct dan_tok_about *a)
{
    dan_str_release(&a->normalizer);
    dan_str_release(&a->pre_tokenizer);
    dan_str_release(&a->decoder);
    dan_str_release(&a->post_processor);
}
