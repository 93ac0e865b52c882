#include <string.h>
#include "text/load.h"

/* ByteLevel alone brings GPT-2's pattern; with use_regex false it only renames bytes. */
static int byte_level(const char *path, const json_t *p, bool *regex, struct dan_err *e)
{
    if (json_is_true(json_object_get(p, "add_prefix_space")))
        return dan_tok_unsupported(path, "pre_tokenizer.add_prefix_space", "true", e);
    *regex = !json_is_false(json_object_get(p, "use_regex"));
    return DAN_OK;
}

static int split_pattern(const char *path, const json_t *p, const struct dan_split **out, struct dan_err *e)
{
    const json_t *pattern = json_object_get(p, "pattern");
    const char *regex = dan_tok_text(pattern, "Regex"), *behavior = dan_tok_text(p, "behavior");
    bool invert = json_is_true(json_object_get(p, "invert"));
    if (strcmp(behavior, "Isolated") != 0 && !(strcmp(behavior, "Removed") == 0 && invert))
        return dan_tok_unsupported(path, "pre_tokenizer Split.behavior", behavior, e);
    if (!*regex) return dan_tok_unsupported(path, "pre_tokenizer Split.pattern", "String", e);
    *out = dan_split_of_regex(regex);
    return *out ? DAN_OK : dan_tok_unsupported(path, "pre_tokenizer Split.pattern.Regex", regex, e);
}

/* Split then ByteLevel without regex; or Digits then ByteLevel with it. */
static int sequence(const char *path, const json_t *list, const struct dan_split **out, struct dan_err *e)
{
    const json_t *first = json_array_get(list, 0), *second = json_array_get(list, 1);
    const char *a = dan_tok_text(first, "type"), *b = dan_tok_text(second, "type");
    if (json_array_size(list) != 2 || strcmp(b, "ByteLevel") != 0)
        return dan_tok_unsupported(path, "pre_tokenizer.pretokenizers", json_array_size(list) > 2 ? "more than two steps" : b, e);
    bool regex, each = json_is_true(json_object_get(first, "individual_digits"));
    int r = byte_level(path, second, &regex, e);
    if (r) return r;
    if (strcmp(a, "Digits") == 0 && each && regex) *out = dan_split_named("gpt2-digits");
    else if (strcmp(a, "Split") == 0 && !regex) return split_pattern(path, first, out, e);
    else return dan_tok_unsupported(path, "pre_tokenizer.pretokenizers", a, e);
    return DAN_OK;
}

int dan_tok_load_split(const char *path, const json_t *pre, struct dan_split *out, struct dan_err *e)
{
    const char *type = dan_tok_text(pre, "type");
    const struct dan_split *s = NULL;
    bool regex = true;
    int r = DAN_OK;
    if (strcmp(type, "Sequence") == 0) r = sequence(path, json_object_get(pre, "pretokenizers"), &s, e);
    else if (strcmp(type, "ByteLevel") == 0) r = byte_level(path, pre, &regex, e);
    else return dan_tok_unsupported(path, "pre_tokenizer.type", *type ? type : "null", e);
    if (r) return r;
    if (!regex) return dan_tok_unsupported(path, "pre_tokenizer.use_regex", "false", e);
    *out = s ? *s : *dan_split_named("gpt2");
    return DAN_OK;
}
