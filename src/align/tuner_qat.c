/* Quantisation-aware training under the tuner: scales beside weights that adapters change. */
#include <string.h>
#include "align/tuner.h"
#include "model/lora.h"

static int share_scales(const struct dan_lm *lm, struct dan_lm *out, struct dan_err *e)
{
    int rc = DAN_OK;
    for (size_t i = 0; i < dan_store_count(lm->store) && !rc; i++) {
        const char *name = dan_store_name(lm->store, i);
        if (!strchr(name, '+') && dan_qat_is_param(name)) rc = dan_store_share(out->store, name, lm->store, name, e);
    }
    return rc;
}

int dan_tuner_merged(const struct dan_lm *lm, struct dan_lm *out, struct dan_err *e)
{
    int rc = dan_qat_copy(lm, out, e);
    if (rc) return rc;
    memcpy(out->adapter, lm->adapter, sizeof out->adapter);
    out->n_adapters = lm->n_adapters;
    for (int k = 0; k < lm->n_adapters && !rc; k++)
        if (lm->adapter[k].on) rc = dan_lora_merge(out, lm->adapter[k].name, 1, e);
    if (!rc) rc = dan_lora_drop(out, e);
    if (!rc) rc = share_scales(lm, out, e);
    if (rc) dan_lm_release(out);
    return rc;
}

/* A scale is never 0 once it is set: another tuner of the same weights goes on with it. */
static bool are_set(const struct dan_lm *lm)
{
    bool set = false;
    for (size_t i = 0; i < dan_store_count(lm->store) && !set; i++)
        set = dan_qat_is_param(dan_store_name(lm->store, i)) && *(const float *)dan_store_at(lm->store, i)->data != 0;
    return set;
}

int dan_tuner_init_scales(struct dan_lm *lm, const struct dan_quant_policy *p, struct dan_err *e)
{
    struct dan_lm whole = {0};
    bool merges = false;
    if (!dan_quant_has_steps(p) || are_set(lm)) return DAN_OK;
    for (int k = 0; k < lm->n_adapters; k++) merges |= lm->adapter[k].on;
    if (!merges) return dan_qat_init_weights(lm->store, p, e);
    int rc = dan_tuner_merged(lm, &whole, e);
    if (!rc) rc = dan_qat_init_weights(whole.store, p, e);
    dan_lm_release(&whole);
    return rc;
}
