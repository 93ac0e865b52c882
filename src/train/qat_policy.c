/* Names of schemes and methods, and what they stand for. */
#include <string.h>
#include "core/dtype.h"
#include "op/fake_quant.h"
#include "train/qat.h"

const char dan_qat_scheme_names[] = "w8a8|w8|w4a8|w4|w3|w2|w4a4";
const char dan_qat_method_names[] = "ste|clipped-ste|pact|lsq|dsq|dsq-soft|quantnoise";

struct scheme { const char *name; int weight_bits, act_bits; int64_t group; };
static const struct scheme schemes[] = {
    {"w8a8", 8, 8, 0}, {"w8", 8, 0, 0}, {"w4a8", 4, 8, 32}, {"w4", 4, 0, 32}, {"w3", 3, 0, 32}, {"w2", 2, 0, 32}, {"w4a4", 4, 4, 32},
};
struct method { const char *name; enum dan_qat_method method; };
static const struct method methods[] = {
    {"ste", DAN_QAT_STE}, {"clipped-ste", DAN_QAT_CLIPPED}, {"pact", DAN_QAT_PACT}, {"lsq", DAN_QAT_LSQ},
    {"dsq", DAN_QAT_DSQ}, {"dsq-soft", DAN_QAT_DSQ_SOFT},   {"quantnoise", DAN_QAT_NOISE},
};

static const struct scheme *scheme_of(const char *name)
{
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (strcmp(schemes[i].name, name) == 0) return &schemes[i];
    return NULL;
}

static const struct method *method_of(const char *name)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (strcmp(methods[i].name, name) == 0) return &methods[i];
    return NULL;
}

/* Methods without learned scales round by the rule of the storage format; 3 and 2 bits have none of their own and lie in 4. */
static const struct dan_dtype *format_of(const struct dan_quant_policy *p)
{
    if (p->group == 0 || dan_quant_has_steps(p)) return NULL;
    if (p->weight_bits == 8) return &dan_dtype_q8_0;
    const char *four = p->group == 32 ? "i4_g32" : p->group == 64 ? "i4_g64" : "i4_g128";
    return p->weight_bits == 4 ? dan_dtype_find(four) : NULL;
}

static int check_group(const struct scheme *s, int64_t group, bool is_static, struct dan_err *e)
{
    bool eight = s->weight_bits == 8;
    if (eight && group != 0 && group != 32)
        return dan_fail(e, DAN_EUSAGE, "--qat %s has a scale for every row or for every 32 weights; give --qat-group 0 or 32", s->name);
    if (!eight && group != 32 && group != 64 && group != 128)
        return dan_fail(e, DAN_EUSAGE, "--qat %s has a scale for every 32, 64 or 128 weights; give one of these as --qat-group", s->name);
    if (is_static && (!s->act_bits || (s->act_bits == 8 && group != 0)))
        return dan_fail(e, DAN_EUSAGE, "static scales of inputs need --qat w8a8 with --qat-group 0, or w4a4; leave --qat-inputs dynamic");
    return DAN_OK;
}

int dan_qat_policy(const char *scheme, const char *method, int64_t group, bool is_static, struct dan_qat_opts *out, struct dan_err *e)
{
    const struct scheme *s = scheme_of(scheme);
    const struct method *m = method_of(method);
    if (!s) return dan_fail(e, DAN_EUSAGE, "there is no scheme '%s' for --qat; use %s", scheme, dan_qat_scheme_names);
    if (!m) return dan_fail(e, DAN_EUSAGE, "there is no method '%s' for --qat-method; use %s", method, dan_qat_method_names);
    if (group < 0) group = s->group;
    int rc = check_group(s, group, is_static, e);
    if (rc) return rc;
    struct dan_quant_policy p = {.method = m->method, .weight_bits = s->weight_bits, .act_bits = s->act_bits, .group = group,
                                 .act_group = group ? 32 : 0, .act_static = is_static, .rate = 0.5, .slope = 0.4};
    p.format = format_of(&p);
    *out = (struct dan_qat_opts){.policy = p, .freeze = 0.1, .step_rate = 0.05, .input_rate = 0.5, .clip_decay = 0.01, .observe = 8};
    return DAN_OK;
}

bool dan_qat_is_study(const struct dan_quant_policy *p) { return p->act_bits && p->act_bits != 8; }
