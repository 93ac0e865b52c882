/* Logits divided by the temperature: below 1 sharper, above 1 flatter.  As transformers' TemperatureLogitsWarper. */
#include "infer/sampler.h"

static bool on(const struct dan_sampling *p) { return p->temperature > 0 && p->temperature != 1; }

static void apply(const struct dan_sampling *p, struct dan_candidates *c)
{
    float t = (float)p->temperature;
    for (int64_t i = 0; i < c->n; i++) c->logit[i] /= t;
}

const struct dan_sampler dan_sampler_temperature = {
    .name = "temperature", .doc = "divides the logits: below 1 sharper, above 1 flatter", .rank = 20, .on = on, .apply = apply,
};
