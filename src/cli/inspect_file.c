/* danlu inspect FILE: what a file holds, byte by byte, as far as it is good.  Each reader makes one JSON object; people see it as tables. */
#include "cli/inspect_file.h"
#include <stdio.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "cli/lm_open.h"
#include "io/gguf.h"
#include "io/json.h"
#include "io/llama2c.h"
#include "io/safetensors.h"
#include "io/sniff.h"

enum { TEXT_MOST = 200, LIST_MOST = 16 };

/* ---- values ---- */

static json_t *cut_text(const char *p, size_t n)
{
    if (n <= TEXT_MOST) return dan_json_string_of(p, n);
    json_t *head = dan_json_string_of(p, TEXT_MOST);
    json_t *cut = json_sprintf("%s... (%zu bytes)", json_string_value(head), n);
    json_decref(head);
    return cut;
}

static json_t *gguf_list(const struct dan_gguf_value *v)
{
    json_t *list = json_array();
    struct dan_gguf_text t;
    size_t at = 0;
    int64_t i;
    double d;
    for (uint64_t k = 0; k < v->n && k < LIST_MOST; k++) {
        if (v->of == DAN_GGUF_STRING && dan_gguf_next_string(v, &at, &t)) json_array_append_new(list, cut_text(t.p, t.n));
        else if (v->of == DAN_GGUF_BOOL && dan_gguf_int_at(v, k, &i)) json_array_append_new(list, json_boolean(i));
        else if (dan_gguf_int_at(v, k, &i)) json_array_append_new(list, json_integer(i));
        else if (dan_gguf_number_at(v, k, &d)) json_array_append_new(list, isfinite(d) ? json_real(d) : json_string(d > 0 ? "inf" : d < 0 ? "-inf" : "nan"));
    }
    return list;
}

/* A scalar as a list of one: one reader for both. */
static json_t *gguf_scalar(const struct dan_gguf_value *v)
{
    if (v->type == DAN_GGUF_STRING) return cut_text(v->data + 8, v->bytes - 8);
    struct dan_gguf_value one = *v;
    one.type = DAN_GGUF_ARRAY;
    json_t *list = gguf_list(&one), *x = json_incref(json_array_get(list, 0));
    json_decref(list);
    return x;
}

static void add_key(json_t *keys, json_t *name, const char *type, json_t *value, json_int_t n)
{
    json_t *k = json_pack("{s:o,s:s,s:o}", "key", name, "type", type, "value", value ? value : json_null());
    if (n >= 0) json_object_set_new(k, "count", json_integer(n));
    json_array_append_new(keys, k);
}

static json_t *shape_json(const struct dan_shape *s)
{
    json_t *a = json_array();
    for (int i = 0; i < s->n; i++) json_array_append_new(a, json_integer(s->d[i]));
    return a;
}

static void add_tensor(json_t *tensors, json_t *name, const char *type, json_t *shape, uint64_t offset, uint64_t bytes, bool whole)
{
    json_array_append_new(tensors, json_pack("{s:o,s:s,s:o,s:I,s:I,s:b}", "name", name, "type", type, "shape", shape, "offset", (json_int_t)offset,
                                             "bytes", (json_int_t)bytes, "whole", whole));
}

/* ---- formats: each fills the object and fails with what is damaged ---- */

static int put_gguf(const char *path, json_t *o, struct dan_err *e)
{
    struct dan_gguf *g = NULL;
    int rc = dan_gguf_open_damaged(path, &g, e);
    if (!g) return rc;
    json_t *keys = json_array(), *tensors = json_array();
    json_object_set_new(o, "version", json_integer(dan_gguf_version(g)));
    json_object_set_new(o, "alignment", json_integer((json_int_t)dan_gguf_alignment(g)));
    for (size_t i = 0; i < dan_gguf_n_keys(g); i++) {
        struct dan_gguf_value v;
        struct dan_gguf_text name = dan_gguf_key(g, i, &v);
        bool list = v.type == DAN_GGUF_ARRAY;
        add_key(keys, cut_text(name.p, name.n), dan_gguf_type_name(v.of), list ? gguf_list(&v) : gguf_scalar(&v), list ? (json_int_t)v.n : -1);
    }
    for (size_t i = 0; i < dan_gguf_n_tensors(g); i++) {
        const struct dan_gguf_tensor *t = dan_gguf_tensor(g, i);
        char number[32];
        snprintf(number, sizeof number, "type %u", t->type);
        add_tensor(tensors, cut_text(t->name.p, t->name.n), t->type_name ? t->type_name : number, shape_json(&t->shape), t->offset, t->bytes, t->whole);
    }
    json_object_set_new(o, "keys", keys);
    json_object_set_new(o, "tensors", tensors);
    dan_gguf_close(g);
    return rc;
}

static void put_head(const json_t *head, uint64_t data, uint64_t bytes, json_t *keys, json_t *tensors)
{
    const char *name, *type;
    json_t *v, *m;
    json_object_foreach((json_t *)(uintptr_t)head, name, v) {
        if (!strcmp(name, "__metadata__")) {
            const char *k;
            json_object_foreach(v, k, m) add_key(keys, json_string(k), "string", json_is_string(m) ? cut_text(json_string_value(m), json_string_length(m)) : NULL, -1);
            continue;
        }
        json_t *at = json_object_get(v, "data_offsets"), *shape = json_object_get(v, "shape");
        json_int_t lo = json_integer_value(json_array_get(at, 0)), hi = json_integer_value(json_array_get(at, 1));
        type = json_string_value(json_object_get(v, "dtype"));
        bool ok = lo >= 0 && hi >= lo && (uint64_t)hi <= bytes - data;
        add_tensor(tensors, json_string(name), type ? type : "?", shape ? json_incref(shape) : json_array(), data + (uint64_t)lo,
                   hi >= lo ? (uint64_t)hi - (uint64_t)lo : 0, ok);
    }
}

static int put_safetensors(const char *path, json_t *o, struct dan_err *e)
{
    json_t *head = NULL;
    uint64_t data, bytes;
    int rc = dan_safetensors_head(path, &head, &data, &bytes, e);
    if (rc) return rc;
    json_t *keys = json_array(), *tensors = json_array();
    struct dan_store *store = NULL;
    put_head(head, data, bytes, keys, tensors);
    json_object_set_new(o, "data_begins", json_integer((json_int_t)data));
    json_object_set_new(o, "keys", keys);
    json_object_set_new(o, "tensors", tensors);
    json_decref(head);
    struct dan_err why = {0};
    rc = dan_safetensors_open(path, &store, &why);
    dan_store_free(store);
    return rc == DAN_EUNSUPPORTED ? DAN_OK : rc ? dan_fail(e, rc, "%s", why.msg) : DAN_OK;   /* a dtype danlu cannot compute with is no damage */
}

static int put_llama2c(const char *path, json_t *o, struct dan_err *e)
{
    struct dan_llama2c h;
    struct dan_store *s = NULL;
    int rc = dan_llama2c_open(path, &h, &s, e);
    if (rc) return rc;
    json_t *keys = json_array(), *tensors = json_array();
    const struct { const char *name; int64_t v; } ints[] = {{"version", h.version}, {"hidden", h.hidden}, {"ffn", h.ffn}, {"layers", h.layers},
                                                           {"heads", h.heads}, {"kv_heads", h.kv_heads}, {"vocab", h.vocab}, {"context", h.context}};
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++) add_key(keys, json_string(ints[i].name), "i32", json_integer(ints[i].v), -1);
    add_key(keys, json_string("tied"), "bool", json_boolean(h.tied), -1);
    const char *first = NULL;                  /* views of one mapping; int8 has been made f32 and lies elsewhere */
    for (size_t i = 0; i < dan_store_count(s) && h.version < 2; i++) {
        const char *p = dan_store_at(s, i)->data;
        if (!first || p < first) first = p;
    }
    for (size_t i = 0; i < dan_store_count(s); i++) {
        const struct dan_tensor *t = dan_store_at(s, i);
        uint64_t at = first ? (uint64_t)((const char *)t->data - first) + (h.version ? 256 : 28) : 0;
        add_tensor(tensors, json_string(dan_store_name(s, i)), h.version == 2 ? "int8 or f32" : "f32", shape_json(&t->shape), at, dan_tensor_bytes(t), true);
    }
    json_object_set_new(o, "keys", keys);
    json_object_set_new(o, "tensors", tensors);
    dan_store_free(s);
    return DAN_OK;
}

static const char *type_name(const json_t *v)
{
    static const char *const names[] = {"object", "array", "string", "integer", "number", "true", "false", "null"};
    return names[json_typeof(v)];
}

static json_t *short_value(json_t *v)
{
    struct dan_str text = {0};
    if (json_is_string(v)) return cut_text(json_string_value(v), json_string_length(v));
    if ((!json_is_object(v) && !json_is_array(v)) || json_object_size(v) + json_array_size(v) > 100) return json_is_object(v) || json_is_array(v) ? NULL : json_incref(v);
    bool ok = dan_json_text(v, &text) == 0 && text.n <= TEXT_MOST;
    dan_str_release(&text);
    return ok ? json_incref(v) : NULL;
}

static int put_json(const char *path, json_t *o, struct dan_err *e)
{
    json_t *j = NULL, *keys = json_array(), *v;
    const char *name;
    int rc = dan_json_read(path, &j, e);
    json_object_foreach(j, name, v) {
        json_int_t n = json_is_object(v) ? (json_int_t)json_object_size(v) : json_is_array(v) ? (json_int_t)json_array_size(v) : -1;
        add_key(keys, json_string(name), type_name(v), short_value(v), n);
    }
    json_object_set_new(o, "keys", keys);
    json_decref(j);
    return rc;
}

static void put_token(json_t *keys, const struct dan_tokenizer *t, const char *name, int32_t id)
{
    size_t n;
    const char *p = id >= 0 ? dan_tokenizer_token(t, id, &n) : NULL;
    if (p) add_key(keys, json_sprintf("%s (%d)", name, (int)id), "token", cut_text(p, n), -1);
}

/* A tokenizer in any format that danlu reads; false: it is none. */
static bool put_tokenizer(const char *path, json_t *o)
{
    struct dan_tokenizer *t = NULL;
    struct dan_err why = {0};
    if (dan_tokenizer_load(path, &t, &why)) return false;
    json_t *keys = json_object_get(o, "keys");
    if (!keys) json_object_set_new(o, "keys", keys = json_array());
    add_key(keys, json_string("tokenizer"), "kind", json_string(dan_tokenizer_kind(t)), -1);
    add_key(keys, json_string("tokens"), "count", json_integer(dan_tokenizer_vocab_size(t)), -1);
    put_token(keys, t, "bos", dan_tokenizer_bos(t));
    put_token(keys, t, "eos", dan_tokenizer_eos(t));
    put_token(keys, t, "unk", dan_tokenizer_unk(t));
    const char *chat = dan_tokenizer_chat_template(t);
    if (chat) add_key(keys, json_string("chat_template"), "string", cut_text(chat, strlen(chat)), -1);
    dan_tokenizer_free(t);
    return true;
}

static int put_text_file(const char *path, enum dan_file_kind kind, json_t *o, struct dan_err *e)
{
    if (put_tokenizer(path, o)) {
        json_object_set_new(o, "kind", json_string("a tokenizer"));
        return DAN_OK;
    }
    if (kind == DAN_FILE_TEXT) return DAN_OK;
    return dan_fail(e, DAN_EFORMAT, "'%s' is %s: %s", path, dan_file_kind_name(kind), dan_file_kind_advice(kind));
}

static int put_folder(const char *path, json_t *o, struct dan_err *e)
{
    char **names = NULL;
    size_t n = 0;
    bool model = false;
    json_t *files = json_array();
    int rc = dan_list_dir(path, &names, &n, e);
    for (size_t i = 0; i < n; i++) {
        struct dan_str p = {0};
        struct dan_err why = {0};
        enum dan_file_kind kind = DAN_FILE_UNKNOWN;
        dan_path_join(&p, path, names[i]);
        model |= !strcmp(names[i], "config.json") || dan_str_ends(names[i], ".safetensors") || dan_str_ends(names[i], ".gguf");
        const char *what = !p.failed && dan_file_kind(p.p, &kind, &why) == DAN_OK ? dan_file_kind_name(kind) : "unreadable";
        json_array_append_new(files, json_pack("{s:o,s:s,s:I}", "name", dan_json_string_of(names[i], strlen(names[i])), "kind", what, "bytes",
                                               (json_int_t)(kind == DAN_FILE_DIR ? 0 : dan_file_size(dan_str_c(&p)))));
        dan_str_release(&p);
    }
    dan_free_list(names, n);
    json_object_set_new(o, "files", files);
    return rc || model ? rc : dan_fail(e, DAN_EFORMAT, "no model in '%s': it has no config.json and no weights", path);
}

static int describe(const char *path, enum dan_file_kind kind, json_t *o, struct dan_err *e)
{
    switch (kind) {
    case DAN_FILE_GGUF: return put_gguf(path, o, e);
    case DAN_FILE_SAFETENSORS: return put_safetensors(path, o, e);
    case DAN_FILE_LLAMA2C: return put_llama2c(path, o, e);
    case DAN_FILE_DIR: return put_folder(path, o, e);
    case DAN_FILE_JSON: {
        int rc = put_json(path, o, e);
        if (!rc && dan_str_ends(path, "tokenizer.json")) put_tokenizer(path, o);
        return rc;
    }
    default: return put_text_file(path, kind, o, e);
    }
}

/* ---- for people ---- */

static void put_value(const json_t *v, struct dan_str *out)
{
    dan_str_clear(out);
    if (json_is_string(v)) dan_str_puts(out, json_string_value(v));
    else if (v && !json_is_null(v)) {
        char *s = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        dan_str_puts(out, s ? s : "");
        dan_free(s);
    }
    for (size_t i = 0; i < out->n; i++)        /* a table has one line for each; no terminal codes */
        if ((unsigned char)out->p[i] < ' ' || out->p[i] == 127) out->p[i] = ' ';
}

static void put_keys(struct dan_ui *ui, const json_t *keys, struct dan_str *out)
{
    struct dan_table t;
    size_t i;
    json_t *k;
    if (!json_array_size(keys)) return;
    dan_table_init(&t, "lll", (const char *const[]){"key", "type", "value"});
    json_array_foreach(keys, i, k) {
        struct dan_str value = {0}, type = {0};
        put_value(json_object_get(k, "value"), &value);
        dan_str_puts(&type, json_string_value(json_object_get(k, "type")));
        if (json_object_get(k, "count")) dan_str_printf(&type, "[%lld]", (long long)json_integer_value(json_object_get(k, "count")));
        dan_table_row(&t, (const char *const[]){json_string_value(json_object_get(k, "key")), dan_str_c(&type), dan_str_c(&value)});
        dan_str_release(&value);
        dan_str_release(&type);
    }
    dan_table_print(&t, ui->out_tty ? dan_ui_width() : 0, ui->out_colour, out);
    dan_table_release(&t);
    dan_str_putc(out, '\n');
}

static void put_tensors(struct dan_ui *ui, const json_t *tensors, struct dan_str *out)
{
    struct dan_table t;
    size_t i;
    json_t *x;
    if (!json_array_size(tensors)) return;
    dan_table_init(&t, "lllrrl", (const char *const[]){"tensor", "type", "shape", "at byte", "bytes", ""});
    json_array_foreach(tensors, i, x) {
        struct dan_str shape = {0};
        char at[32], bytes[32];
        put_value(json_object_get(x, "shape"), &shape);
        snprintf(at, sizeof at, "%lld", (long long)json_integer_value(json_object_get(x, "offset")));
        snprintf(bytes, sizeof bytes, "%lld", (long long)json_integer_value(json_object_get(x, "bytes")));
        dan_table_row(&t, (const char *const[]){json_string_value(json_object_get(x, "name")), json_string_value(json_object_get(x, "type")),
                                                dan_str_c(&shape), at, bytes, json_is_true(json_object_get(x, "whole")) ? "" : "not whole"});
        dan_str_release(&shape);
    }
    dan_table_print(&t, ui->out_tty ? dan_ui_width() : 0, ui->out_colour, out);
    dan_table_release(&t);
    dan_str_putc(out, '\n');
}

static void put_files(struct dan_ui *ui, const json_t *files, struct dan_str *out)
{
    struct dan_table t;
    size_t i;
    json_t *x;
    if (!json_array_size(files)) return;
    dan_table_init(&t, "lrl", (const char *const[]){"file", "bytes", "kind"});
    json_array_foreach(files, i, x) {
        char bytes[32];
        snprintf(bytes, sizeof bytes, "%lld", (long long)json_integer_value(json_object_get(x, "bytes")));
        dan_table_row(&t, (const char *const[]){json_string_value(json_object_get(x, "name")), bytes, json_string_value(json_object_get(x, "kind"))});
    }
    dan_table_print(&t, ui->out_tty ? dan_ui_width() : 0, ui->out_colour, out);
    dan_table_release(&t);
    dan_str_putc(out, '\n');
}

static int print(struct dan_cli *cli, const json_t *o, struct dan_err *e)
{
    struct dan_str out = {0};
    const json_t *tensors = json_object_get(o, "tensors"), *version = json_object_get(o, "version");
    put_keys(&cli->ui, json_object_get(o, "keys"), &out);
    put_tensors(&cli->ui, tensors, &out);
    put_files(&cli->ui, json_object_get(o, "files"), &out);
    dan_str_printf(&out, "%s: %s", json_string_value(json_object_get(o, "path")), json_string_value(json_object_get(o, "kind")));
    if (version) dan_str_printf(&out, " version %lld", (long long)json_integer_value(version));
    dan_str_printf(&out, ", %lld bytes", (long long)json_integer_value(json_object_get(o, "bytes")));
    if (json_object_get(o, "keys")) dan_str_printf(&out, ", %zu keys", json_array_size(json_object_get(o, "keys")));
    if (tensors) dan_str_printf(&out, ", %zu tensors", json_array_size(tensors));
    dan_str_putc(&out, '\n');
    int rc = out.failed ? dan_fail(e, DAN_ENOMEM, "out of memory") : dan_out(&cli->ui, out.p, out.n, e);
    dan_str_release(&out);
    return rc;
}

int inspect_file(struct dan_cli *cli, const char *path, struct dan_err *e)
{
    enum dan_file_kind kind;
    struct dan_err damage = {0}, why = {0};
    int rc = dan_file_kind(path, &kind, e);
    if (rc) return rc;
    json_t *o = json_pack("{s:o,s:s,s:I}", "path", dan_json_string_of(path, strlen(path)), "kind", dan_file_kind_name(kind), "bytes",
                          (json_int_t)(kind == DAN_FILE_DIR ? 0 : dan_file_size(path)));
    if (!o) return dan_fail(e, DAN_ENOMEM, "out of memory");
    int bad = describe(path, kind, o, &damage);
    if (bad) json_object_set_new(o, "damage", dan_json_string_of(damage.msg, strlen(damage.msg)));
    rc = cli->json ? dan_out_json(&cli->ui, json_incref(o), &why) : print(cli, o, &why);
    json_decref(o);
    return bad ? dan_fail(e, bad, "%s", damage.msg) : rc ? dan_fail(e, rc, "%s", why.msg) : DAN_OK;
}
