/* config.json, then generation_config.json: read by the family that the first names (or by any, if it names none), checked,
 * and, when it is small, built. */
#include <stdlib.h>
#include "base/str.h"
#include "fuzz.h"
#include "io/hf_config.h"
#include "io/st_config.h"
#include "model/lm.h"

static const struct dan_model *family_of(const uint8_t *p, size_t n)
{
    struct dan_str arch = {0}, type = {0};
    struct dan_err e = {0};
    const struct dan_model *m = NULL;
    size_t count = 0;
    if (!fuzz_expect(dan_hf_config_kind("mem", &arch, &type, &e), &e)) {
        m = dan_model_find(dan_str_c(&arch));
        if (!m) m = dan_model_find(dan_str_c(&type));
        while (dan_models[count]) count++;
        if (!m) m = dan_models[(n ? p[n / 2] : 0) % count];
    }
    dan_str_release(&arch);
    dan_str_release(&type);
    return m;
}

static void build_config(const struct dan_model *m, const struct dan_lm_config *cfg)
{
    struct dan_err e = {0};
    struct dan_graph *g = NULL;
    struct dan_lm lm = {.model = m, .cfg = *cfg};
    struct dan_io io = {.max_rows = 1, .lanes = m->time_major, .logits = true, .max_select = 1};
    if (cfg->layers > 4) return;
    if (!fuzz_expect(dan_lm_graph(&lm, &io, "", NULL, &g, &e), &e)) dan_graph_free(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char *const names[] = {"config.json", "generation_config.json", "modules.json", "sentence_bert_config.json"};
    struct dan_err e = {0};
    struct dan_hf_generation g;
    struct dan_st_config st;
    fuzz_put_parts(p, n, names, 4);
    const struct dan_model *m = family_of(p, n);
    struct dan_lm_config *cfg = m ? calloc(1, m->cfg_bytes) : NULL;
    if (m && !fuzz_expect(dan_hf_config_load("mem", m->hf_model_type, m->fields, cfg, &e), &e) &&
        !fuzz_expect(m->complete(cfg, &e), &e))
        build_config(m, cfg);
    free(cfg);
    e = (struct dan_err){0};
    if (!fuzz_expect(dan_hf_generation_load("mem", &g, &e), &e)) DAN_ASSERT(g.n_eos >= 0 && g.n_eos <= DAN_HF_MAX_EOS);
    e = (struct dan_err){0};
    fuzz_expect(dan_st_config_load("mem", &st, &e), &e);
    return 0;
}
