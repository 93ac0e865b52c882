/* What stands before a text.  tokenizer.json may be 10 MB, so its post_processor is parsed alone: the key comes
 * before the vocabulary in every file that `tokenizers` writes. */
#include <jansson.h>
#include <string.h>
#include "base/file.h"
#include "infer/generate.h"

/* The ids of the special tokens in front of the first sequence of a TemplateProcessing. */
static void template_prefix(const json_t *post, struct dan_ids *out)
{
    size_t i;
    json_t *item, *one;
    json_array_foreach(json_object_get(post, "single"), i, item) {
        const char *name = json_string_value(json_object_get(json_object_get(item, "SpecialToken"), "id"));
        if (!name) return;
        size_t k;
        json_array_foreach(json_object_get(json_object_get(json_object_get(post, "special_tokens"), name), "ids"), k, one)
            dan_ids_push(out, (int32_t)json_integer_value(one));
    }
}

static bool is_type(const json_t *post, const char *type)
{
    const char *t = json_string_value(json_object_get(post, "type"));
    return t && strcmp(t, type) == 0;
}

static void post_prefix(const json_t *post, struct dan_ids *out)
{
    size_t i;
    json_t *item;
    if (is_type(post, "TemplateProcessing")) template_prefix(post, out);
    json_array_foreach(json_object_get(post, "processors"), i, item)
        if (is_type(item, "TemplateProcessing")) template_prefix(item, out);
}

static void from_tokenizer_json(const struct dan_mapping *m, struct dan_ids *out)
{
    static const char key[] = "\"post_processor\"";
    const char *at = m->n ? memmem(m->p, m->n, key, sizeof key - 1) : NULL, *end = m->p + m->n;
    at = at ? memchr(at, ':', (size_t)(end - at)) : NULL;
    if (!at) return;
    json_t *post = json_loadb(at + 1, (size_t)(end - at - 1), JSON_DISABLE_EOF_CHECK | JSON_DECODE_ANY, NULL);
    post_prefix(post, out);
    json_decref(post);
}

static bool adds_bos(const char *dir)
{
    struct dan_str path = {0};
    dan_str_printf(&path, "%s/tokenizer_config.json", dir);
    json_t *config = json_load_file(dan_str_c(&path), 0, NULL);
    bool yes = json_is_true(json_object_get(config, "add_bos_token"));
    json_decref(config);
    dan_str_release(&path);
    return yes;
}

int dan_prompt_prefix(const char *model_dir, const struct dan_tokenizer *tok, struct dan_ids *out, struct dan_err *e)
{
    struct dan_str path = {0};
    struct dan_mapping m;
    dan_str_printf(&path, "%s/tokenizer.json", model_dir);
    if (dan_path_exists(dan_str_c(&path)) && dan_map_file(dan_str_c(&path), &m, NULL) == DAN_OK) {
        from_tokenizer_json(&m, out);
        dan_unmap_file(&m);
    }
    dan_str_release(&path);
    if (out->n == 0 && dan_tokenizer_bos(tok) >= 0 && adds_bos(model_dir)) dan_ids_push(out, dan_tokenizer_bos(tok));
    return out->failed ? dan_fail(e, DAN_ENOMEM, "not enough memory to read the tokenizer of '%s'", model_dir) : DAN_OK;
}

int dan_prompt_encode(const struct dan_tokenizer *tok, const struct dan_ids *prefix, const char *text, size_t n, struct dan_ids *out,
                      struct dan_err *e)
{
    for (size_t i = 0; prefix && i < prefix->n; i++) dan_ids_push(out, prefix->v[i]);
    int rc = dan_tokenizer_encode(tok, text, n, 0, out, e);
    if (!rc && out->n == 0 && dan_tokenizer_eos(tok) >= 0) dan_ids_push(out, dan_tokenizer_eos(tok));
    if (!rc && out->failed) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for a prompt of %zu bytes", n);
    return rc;
}
