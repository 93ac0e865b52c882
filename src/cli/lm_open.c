#include "cli/lm_open.h"
#include <string.h>
#include "base/file.h"
#include "base/threads.h"
#include "cli/convert.h"
#include "io/sniff.h"
#include "model/lora_files.h"
#include "text/chat_template.h"

static void add_eos(struct lm_files *m, int64_t id)
{
    for (size_t i = 0; i < m->n_eos; i++)
        if (m->eos[i] == id) return;
    if (id >= 0 && m->n_eos < sizeof m->eos / sizeof *m->eos) m->eos[m->n_eos++] = (int32_t)id;
}

/* A model is a folder or one file; what a file is, its reader says. */
static int check_dir(const char *dir, struct dan_err *e)
{
    struct dan_str path = {0};
    if (dan_path_exists(dir) && !dan_path_is_dir(dir)) return DAN_OK;
    dan_str_printf(&path, "%s/config.json", dir);
    bool ok = dan_path_exists(dan_str_c(&path));
    dan_str_release(&path);
    if (ok) return DAN_OK;
    if (!dan_path_exists(dir))
        return dan_fail(e, DAN_EIO, "there is no model folder '%s'; give the folder that 'danlu train' wrote or one from Hugging Face",
                        dir);
    return dan_fail(
        e, DAN_EFORMAT,
        "'%s' is no model folder: it has no config.json; if a training was stopped, finish it with 'danlu train --resume --out %s'", dir,
        dir);
}

static int check_vocab(const struct lm_files *m, struct dan_err *e)
{
    if (dan_tokenizer_vocab_size(m->tok) <= m->lm.cfg.vocab) return DAN_OK;
    return dan_fail(e, DAN_EINVAL, "the tokenizer of '%s' has %d tokens, the model %lld; do they belong together?", m->dir,
                    dan_tokenizer_vocab_size(m->tok), (long long)m->lm.cfg.vocab);
}

/* A llama2.c checkpoint has its tokenizer beside it and begins every text with bos. */
static int open_llama2c_tokenizer(struct lm_files *m, struct dan_err *e)
{
    struct dan_str path = {0};
    int rc = convert_find_llama2c_tokenizer(m->dir, m->lm.cfg.vocab, &path) ? dan_tokenizer_load(dan_str_c(&path), &m->tok, e)
             : dan_fail(e, DAN_EIO, "there is no tokenizer beside '%s': put tokenizer.bin or tok%lld.bin there", m->dir, (long long)m->lm.cfg.vocab);
    dan_str_release(&path);
    if (!rc && m->lm.cfg.bos >= 0) dan_ids_push(&m->prefix, (int32_t)m->lm.cfg.bos);
    return rc;
}

/* What GGUF's keys say belongs before a text. */
static int gguf_prefix(struct lm_files *m, struct dan_err *e)
{
    const struct dan_ids *before = dan_tokenizer_before(m->tok);
    for (size_t i = 0; i < before->n; i++) dan_ids_push(&m->prefix, before->v[i]);
    return m->prefix.failed ? dan_fail(e, DAN_ENOMEM, "not enough memory to read the tokenizer of '%s'", m->dir) : DAN_OK;
}

static int load_tokenizer(struct lm_files *m, struct dan_err *e)
{
    enum dan_file_kind kind;
    int rc = dan_file_kind(m->dir, &kind, e);
    if (!rc && kind == DAN_FILE_LLAMA2C) return open_llama2c_tokenizer(m, e);
    if (!rc) rc = dan_tokenizer_load(m->dir, &m->tok, e);
    if (rc) return rc;
    return kind == DAN_FILE_GGUF ? gguf_prefix(m, e) : dan_prompt_prefix(m->dir, m->tok, &m->prefix, e);
}

static int open_tokenizer(struct lm_files *m, struct dan_err *e)
{
    int rc = load_tokenizer(m, e);
    if (!rc) rc = check_vocab(m, e);
    if (!rc && m->n_eos == 0) add_eos(m, dan_tokenizer_eos(m->tok));
    return rc;
}

/* A file has no generation_config.json: its folder's would be another model's. */
static int load_generation(const char *path, struct dan_hf_generation *gen, struct dan_err *e)
{
    *gen = (struct dan_hf_generation){.bos = -1, .pad = -1, .temperature = 1, .top_p = 1, .repetition_penalty = 1};
    return dan_path_is_dir(path) ? dan_hf_generation_load(path, gen, e) : DAN_OK;
}

static int open_base(struct dan_cli *cli, const char *dir, bool tokenizer, struct lm_files *m, struct dan_err *e);

/* The base that an adapter of --qlora learned over. */
static int quantise_as_trained(struct dan_cli *cli, const char *dir, struct lm_files *m, struct dan_err *e)
{
    struct dan_str format = {0};
    bool done = false;
    int rc = dan_lora_base_format(dir, &format, e);
    if (!rc) rc = dan_lora_quantise_base(&m->lm, dir, m->pool, &done, e);
    if (!rc && done) dan_say(&cli->ui, "the base of '%s' is quantised to %s in memory, as it was when the adapter learned", dir, dan_str_c(&format));
    dan_str_release(&format);
    return rc;
}

/* An adapter's folder: its base model, with the adapter on. */
static int open_adapter(struct dan_cli *cli, const char *dir, bool tokenizer, struct lm_files *m, struct dan_err *e)
{
    struct dan_str base = {0};
    int rc = dan_lora_base_model(dir, &base, e);
    const char *kept = rc ? NULL : dan_arena_strdup(cli->arena, dan_str_c(&base));
    dan_str_release(&base);
    if (!rc && !kept) rc = dan_fail(e, DAN_ENOMEM, "not enough memory to open '%s'", dir);
    if (!rc && dan_lora_is(kept)) rc = dan_fail(e, DAN_EUNSUPPORTED, "'%s' is an adapter of an adapter: merge the first one", dir);
    if (!rc) rc = open_base(cli, kept, tokenizer, m, e);
    if (!rc && m->tok) rc = dan_chat_template_take(m->tok, dir, &m->own_template, e);
    if (!rc) rc = quantise_as_trained(cli, dir, m, e);
    return rc ? rc : dan_lora_load(&m->lm, dir, "default", e);
}

int lm_open(struct dan_cli *cli, const char *dir, bool tokenizer, struct lm_files *m, struct dan_err *e)
{
    *m = (struct lm_files){.dir = dir};
    return dan_lora_is(dir) ? open_adapter(cli, dir, tokenizer, m, e) : open_base(cli, dir, tokenizer, m, e);
}

static int open_base(struct dan_cli *cli, const char *dir, bool tokenizer, struct lm_files *m, struct dan_err *e)
{
    m->dir = dir;
    int rc = check_dir(dir, e);
    if (!rc) rc = dan_pool_new((int)cli->threads, &m->pool, e);
    if (!rc) rc = dan_lm_load(&m->lm, dir, false, e);
    if (!rc) rc = load_generation(dir, &m->gen, e);
    if (rc) return rc;
    for (int32_t i = 0; i < m->gen.n_eos; i++) add_eos(m, m->gen.eos[i]);
    add_eos(m, m->lm.cfg.eos);
    return tokenizer ? open_tokenizer(m, e) : DAN_OK;
}

int lm_reload_own(struct lm_files *m, const char *from, struct dan_err *e)
{
    dan_lm_release(&m->lm);
    int rc = dan_lm_load(&m->lm, m->dir, true, e);
    return rc || !dan_lora_is(from) ? rc : dan_lora_merge_into(&m->lm, from, m->pool, e);
}

int lm_copy_beside(struct dan_cli *cli, const struct dan_lm *lm, const char *from, const char *to, struct dan_err *e)
{
    enum dan_file_kind kind;
    if (dan_path_is_dir(from)) return dan_lm_copy_beside(from, to, e);
    int rc = dan_file_kind(from, &kind, e);
    return rc ? rc : convert_tokenizer_to_dir(&cli->ui, from, kind, NULL, NULL, lm, to, e);
}

void lm_close(struct lm_files *m)
{
    dan_lm_release(&m->lm);
    dan_tokenizer_free(m->tok);
    dan_ids_release(&m->prefix);
    dan_pool_free(m->pool);
}

struct dan_sampling lm_sampling_of(const struct dan_cli *cli, const struct lm_sampling *o, const struct lm_files *m)
{
    struct dan_sampling s = {.temperature = o->temperature, .top_k = o->top_k, .top_p = o->top_p, .min_p = o->min_p,
                             .repetition_penalty = o->repetition_penalty, .seed = (uint64_t)cli->seed};
    if (!m->gen.sample) return s;
    if (!dan_given(cli, "temperature")) s.temperature = m->gen.temperature;
    if (!dan_given(cli, "top-k")) s.top_k = m->gen.top_k;
    if (!dan_given(cli, "top-p")) s.top_p = m->gen.top_p;
    if (!dan_given(cli, "repetition-penalty")) s.repetition_penalty = m->gen.repetition_penalty;
    return s;
}
