/* "post_processor" -> the ids before and after a text. */
#include <string.h>
#include "text/load.h"

static void push_all(const json_t *ids, struct dan_ids *out)
{
    size_t i;
    json_t *one;
    json_array_foreach(ids, i, one) dan_ids_push(out, (int32_t)json_integer_value(one));
}

/* {"single": [{"SpecialToken": {"id": "[CLS]"}}, {"Sequence": ...}, ...], "special_tokens": {"[CLS]": {"ids": [101]}}} */
static void template_processing(struct dan_tokenizer *t, const json_t *post)
{
    size_t i;
    json_t *item;
    struct dan_ids *to = &t->before;
    json_array_foreach(json_object_get(post, "single"), i, item) {
        const char *name = json_string_value(json_object_get(json_object_get(item, "SpecialToken"), "id"));
        if (!name) to = &t->after;
        else push_all(json_object_get(json_object_get(json_object_get(post, "special_tokens"), name), "ids"), to);
    }
}

/* {"cls": ["[CLS]", 101], "sep": ["[SEP]", 102]} */
static void bert_processing(struct dan_tokenizer *t, const json_t *post)
{
    dan_ids_push(&t->before, (int32_t)json_integer_value(json_array_get(json_object_get(post, "cls"), 1)));
    dan_ids_push(&t->after, (int32_t)json_integer_value(json_array_get(json_object_get(post, "sep"), 1)));
}

static void one_processor(struct dan_tokenizer *t, const json_t *post)
{
    const char *type = dan_tok_text(post, "type");
    if (strcmp(type, "TemplateProcessing") == 0) template_processing(t, post);
    if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0) bert_processing(t, post);
}

static int check(const struct dan_tokenizer *t, const struct dan_ids *ids, const char *path, struct dan_err *e)
{
    for (size_t i = 0; i < ids->n; i++)
        if (ids->v[i] < 0 || ids->v[i] >= t->n_vocab)
            return dan_fail(e, DAN_EFORMAT, "%s: post_processor adds token %d, which is not in the vocabulary; the file is damaged", path,
                            ids->v[i]);
    return ids->failed ? dan_fail(e, DAN_ENOMEM, "out of memory for the tokenizer '%s'", path) : DAN_OK;
}

int dan_tok_load_template(struct dan_tokenizer *t, const char *path, const json_t *root, struct dan_err *e)
{
    const json_t *post = json_object_get(root, "post_processor");
    size_t i;
    json_t *item;
    one_processor(t, post);
    json_array_foreach(json_object_get(post, "processors"), i, item) one_processor(t, item);
    int r = check(t, &t->before, path, e);
    return r ? r : check(t, &t->after, path, e);
}
