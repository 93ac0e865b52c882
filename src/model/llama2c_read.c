/* llama2.c checkpoints as models: LLaMA with the settings that run.c has built in. */
#include "io/llama2c.h"
#include "model/files_impl.h"

int dan_lm_load_llama2c(struct dan_lm *lm, const char *path, enum dan_take how, struct dan_err *e)
{
    struct dan_store *file = NULL;
    struct dan_llama2c h;
    int rc = dan_llama2c_open(path, &h, &file, e);
    if (rc) return rc;
    lm->model = dan_model_find("llama");
    lm->cfg = (struct dan_lm_config){.vocab = h.vocab, .context = h.context, .hidden = h.hidden, .layers = h.layers, .heads = h.heads,
                                     .kv_heads = h.kv_heads, .ffn = h.ffn, .norm_eps = 1e-5, .tied = h.tied, .bos = 1, .eos = 2, .pad = -1};
    rc = lm->model->complete(&lm->cfg, e);
    if (!rc) rc = dan_store_new(&lm->store, e);
    struct dan_source src = {.path = path, .file = file, .ours = true, .pairs = true, .how = how};
    if (!rc) rc = dan_lm_take_all(lm, &src, e);
    dan_store_free(file);
    return rc;
}
