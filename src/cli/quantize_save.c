/* danlu quantize: the copy, as a folder or as one GGUF file. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "cli/convert.h"
#include "cli/quantize.h"
#include "io/json.h"
#include "model/gguf_write.h"
#include "model/lora_files.h"
#include "text/chat_template.h"

static bool holds(const char *dir, const char *name)
{
    struct dan_str path = {0};
    dan_path_join(&path, dir, name);
    bool there = dan_path_exists(dan_str_c(&path));
    dan_str_release(&path);
    return there;
}

static int check_gguf_form(const struct dan_quant_form *f, struct dan_err *e)
{
    if (f->kind == DAN_FORM_BLOCKS && f->blocks->gguf_id >= 0) return DAN_OK;
    return dan_fail(e, DAN_EUSAGE, "GGUF has no form for '%s'; write a folder instead (--out DIR), or choose q8_0, q6_k, q5_k, q4_k, q4_0, ...", f->name);
}

/* The work may take hours; that there is no place for its result is said before. */
static int check_place(const struct quantize_work *w, struct dan_err *e)
{
    char *dir = dan_arena_strdup(w->cli->arena, w->o->out), *slash;
    bool file = w->to_gguf;                    /* its folder has to be there; that of a folder is made */
    if (!dir) return dan_fail(e, DAN_ENOMEM, "not enough memory for a path");
    while (file || !dan_path_exists(dir)) {
        file = false;
        slash = strrchr(dir, '/');
        if (!slash || slash == dir) return DAN_OK;
        *slash = 0;
        if (w->to_gguf) break;
    }
    if (!dan_path_is_dir(dir)) return dan_fail(e, DAN_EIO, "there is no folder '%s' for --out; %s", dir, w->to_gguf ? "make it first, or choose another name" : "choose another name");
    return access(dir, W_OK) ? dan_fail(e, DAN_EIO, "cannot write into '%s' (--out): %s; choose another place", dir, strerror(errno)) : DAN_OK;
}

int quantize_check_out(struct quantize_work *w, struct dan_err *e)
{
    const char *out = w->o->out;
    w->to_gguf = dan_str_ends(out, ".gguf");
    bool there = w->to_gguf ? dan_path_exists(out) : holds(out, "model.safetensors") || holds(out, "model.safetensors.index.json");
    if (!strcmp(out, w->o->model) || convert_same_place(out, w->o->model)) return dan_fail(e, DAN_EINVAL, "--out '%s' is the model itself; choose another name", out);
    if (there && !w->o->force) return dan_fail(e, DAN_EINVAL, "'%s' already holds a model; choose another --out, or add --force", out);
    int rc = check_place(w, e);
    if (!rc && w->to_gguf) rc = check_gguf_form(&w->form, e);
    for (int i = 0; i < w->n_forms && !rc && w->to_gguf; i++) rc = check_gguf_form(&w->forms[i], e);
    return rc;
}

/* The adapter's folder that is merged in; NULL: the model is none. */
static const char *adapter_of(const struct quantize_work *w) { return dan_lora_is(w->o->model) ? w->o->model : NULL; }

static int save_gguf(struct quantize_work *w, struct dan_err *e)
{
    struct dan_gguf_out *out = NULL;
    enum dan_file_kind kind;
    int rc = dan_file_kind(w->m.dir, &kind, e);
    if (!rc) rc = dan_lm_cast(&w->m.lm, NULL, &dan_dtype_f32, e);
    if (!rc) rc = dan_gguf_out_new(&out, e);
    if (!rc) rc = dan_lm_gguf_keys(&w->m.lm, out, e);
    if (!rc) rc = convert_tokenizer_to_gguf(&w->cli->ui, w->m.dir, kind, NULL, adapter_of(w), &w->m.lm, out, e);
    if (!rc) rc = dan_lm_save_gguf(&w->m.lm, out, w->o->out, e);
    dan_gguf_out_free(out);
    return rc;
}

static int save_record(struct quantize_work *w, struct dan_err *e)
{
    struct dan_str path = {0};
    json_t *j = quantize_record(w);
    dan_path_join(&path, w->o->out, "quantization.json");
    int rc = j && !path.failed ? dan_json_write(path.p, j, e) : dan_fail(e, DAN_ENOMEM, "not enough memory to write quantization.json");
    json_decref(j);
    dan_str_release(&path);
    return rc;
}

static int save_folder(struct quantize_work *w, struct dan_err *e)
{
    int rc = dan_mkdirs(w->o->out, e);
    if (!rc) rc = dan_lm_save(&w->m.lm, w->o->out, e);
    if (!rc) rc = lm_copy_beside(w->cli, &w->m.lm, w->m.dir, w->o->out, e);
    if (!rc && adapter_of(w)) rc = dan_chat_template_copy(w->o->model, w->o->out, e);
    return rc ? rc : save_record(w, e);
}

int quantize_save(struct quantize_work *w, struct dan_err *e) { return w->to_gguf ? save_gguf(w, e) : save_folder(w, e); }
