/* A chat template as the file beside a tokenizer or an adapter: DIR/chat_template.jinja, which transformers reads, too. */
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "io/json.h"
#include "text/chat_template.h"
#include "text/impl.h"

static const char file_name[] = "chat_template.jinja";

static int path_in(const char *dir, struct dan_str *path, struct dan_err *e)
{
    dan_path_join(path, dir, file_name);
    return path->failed ? dan_fail(e, DAN_ENOMEM, "not enough memory for the name of '%s'", file_name) : DAN_OK;
}

/* bos by its name, where the template knows it by that; other tokens as they are written. */
static void put_token(const struct dan_chat_template *t, int32_t id, struct dan_str *out)
{
    size_t n;
    const char *p = dan_tokenizer_token(t->tok, id, &n), *bos = json_string_value(json_object_get(t->tokens, "bos_token"));
    if (p && bos && strlen(bos) == n && !memcmp(bos, p, n)) dan_str_puts(out, "{{ bos_token }}");
    else if (p) dan_str_append(out, p, n);
}

int dan_chat_template_settle(struct dan_chat_template *t, struct dan_err *e)
{
    struct dan_str text = {0};
    if (!t->before.n) return DAN_OK;
    for (size_t i = 0; i < t->before.n; i++) put_token(t, t->before.v[i], &text);
    dan_str_append(&text, t->text, t->n);
    if (text.failed) {
        dan_str_release(&text);
        return dan_fail(e, DAN_ENOMEM, "not enough memory for a chat template");
    }
    dan_free(t->text);
    dan_ids_release(&t->before);
    t->before = (struct dan_ids){0};
    t->text = text.p;
    t->n = text.n;
    return DAN_OK;
}

static int write_text(const char *dir, const char *text, size_t n, struct dan_err *e)
{
    struct dan_str path = {0};
    int rc = path_in(dir, &path, e);
    if (!rc) rc = dan_write_file(path.p, text, n, e);
    dan_str_release(&path);
    return rc;
}

int dan_chat_template_save(const struct dan_chat_template *t, const char *dir, struct dan_err *e)
{
    DAN_ASSERT(!t->before.n);
    return write_text(dir, t->text, t->n, e);
}

int dan_chat_template_find(const char *dir, struct dan_str *path, struct dan_err *e)
{
    struct dan_str at = {0};
    int rc = path_in(dir, &at, e);
    if (!rc && dan_path_exists(at.p)) dan_str_puts(path, at.p);
    if (!rc && path->failed) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for the name of '%s'", file_name);
    dan_str_release(&at);
    return rc;
}

int dan_chat_template_read(const char *dir, struct dan_str *text, struct dan_err *e)
{
    struct dan_str path = {0};
    char *bytes = NULL;
    size_t n = 0;
    int rc = dan_chat_template_find(dir, &path, e);
    if (!rc && path.n) rc = dan_read_file(path.p, &bytes, &n, e);
    if (!rc && n) dan_str_append(text, bytes, n);
    if (!rc && text->failed) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for a chat template");
    dan_free(bytes);
    dan_str_release(&path);
    return rc;
}

int dan_chat_template_copy(const char *from, const char *to, struct dan_err *e)
{
    struct dan_str path = {0}, text = {0};
    int rc = dan_chat_template_find(from, &path, e);
    if (!rc && path.n) rc = dan_chat_template_read(from, &text, e);
    if (!rc && path.n) rc = write_text(to, dan_str_c(&text), text.n, e);
    dan_str_release(&path);
    dan_str_release(&text);
    return rc;
}

int dan_chat_template_take(struct dan_tokenizer *tok, const char *dir, bool *found, struct dan_err *e)
{
    struct dan_str path = {0};
    char *text = NULL;
    size_t n;
    int rc = dan_chat_template_find(dir, &path, e);
    *found = !rc && path.n;
    if (*found) rc = dan_read_file(path.p, &text, &n, e);
    if (*found && !rc && memchr(text, 0, n)) rc = dan_fail(e, DAN_EFORMAT, "'%s' is no chat template: it has a zero byte in it", path.p);
    if (*found && !rc) {
        dan_free(tok->chat_template);
        tok->chat_template = text;
        tok->template_file = true;
    } else dan_free(text);
    dan_str_release(&path);
    return rc;
}
