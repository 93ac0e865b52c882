/* The switch of fusion rules, and what rules say about the places they looked at. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/str.h"
#include "pass/pass.h"

const char *dan_exactness_name(enum dan_exactness c)
{
    static const char *const name[] = {"", "E0", "E1", "E2", "E3", "E4"};
    return name[c];
}

enum dan_exactness dan_exactness_of(const struct dan_pass *p, bool gradients, bool halves)
{
    enum dan_exactness c = gradients && p->exact_grad > p->exact ? p->exact_grad : p->exact;
    return c == DAN_E0 && halves ? DAN_E1 : c;
}

struct item { const char *name; size_t n; bool minus; };

/* Takes the next item off *list; false at the end. */
static bool next(const char **list, struct item *i)
{
    if (!*list || !**list) return false;
    i->minus = **list == '-';
    i->name = *list + i->minus;
    i->n = strcspn(i->name, ",");
    *list = i->name + i->n + (i->name[i->n] == ',');
    return true;
}

static bool is(const struct item *i, const char *word) { return strlen(word) == i->n && !memcmp(i->name, word, i->n); }

static const char *short_name(const struct dan_pass *p) { return p->name + (dan_str_starts(p->name, "fuse_") ? 5 : 0); }

static bool names(const struct item *i, const struct dan_pass *p) { return p->exact && (is(i, p->name) || is(i, short_name(p))); }

static bool known(const struct item *i)
{
    if (!i->minus && (is(i, "on") || is(i, "off"))) return true;
    for (int k = 0; dan_passes[k]; k++)
        if (names(i, dan_passes[k])) return true;
    return false;
}

static int unknown(const struct item *i, struct dan_err *e)
{
    struct dan_str all = {0};
    for (int k = 0; dan_passes[k]; k++)
        if (dan_passes[k]->exact) dan_str_printf(&all, "%s%s", all.n ? ", " : "", short_name(dan_passes[k]));
    int rc = dan_fail(e, DAN_EUSAGE, "there is no fusion rule '%.*s'; use on, off, or some of %s (-RULE switches one off)", (int)i->n,
                      i->name, dan_str_c(&all));
    dan_str_release(&all);
    return rc;
}

int dan_fusion_check(const char *fusion, struct dan_err *e)
{
    struct item i;
    if (fusion && !*fusion) return dan_fail(e, DAN_EUSAGE, "the list of fusion rules is empty; use on, off or rules");
    while (next(&fusion, &i))
        if (!known(&i)) return unknown(&i, e);
    return DAN_OK;
}

bool dan_fusion_on(const char *fusion, const struct dan_pass *p)
{
    struct item i;
    bool by_default = p->exact != DAN_E3, on = (!fusion || *fusion == '-') && by_default;
    while (next(&fusion, &i)) {
        if (is(&i, "on")) on = on || by_default;
        else if (is(&i, "off")) on = false;
        else if (names(&i, p)) on = !i.minus;
    }
    return on || !p->exact;
}

static void tell(const struct dan_pass_opts *o, const struct dan_graph *g, const dan_ref *nodes, const char *why_not)
{
    struct dan_fusion_note n = {o->rule, g, nodes, why_not};
    o->note(o->note_ctx, &n);
}

void dan_fused(const struct dan_pass_opts *o, const struct dan_graph *g, const dan_ref *nodes)
{
    if (o->note) tell(o, g, nodes, NULL);
}

void dan_not_fused(const struct dan_pass_opts *o, const struct dan_graph *g, const dan_ref *nodes, const char *fmt, ...)
{
    char why[240];
    if (!o->note) return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    tell(o, g, nodes, why);
}

const char *dan_other_reader(const struct dan_graph *g, dan_ref x, dan_ref reader)
{
    for (int32_t i = 0; i < g->n_out; i++)
        if (g->out[i] == x) return "an output";
    for (int32_t i = 1; i < g->n; i++)
        for (int k = 0; k < g->node[i].n_in; k++)
            if (i != reader && g->node[i].in[k] == x) return g->node[i].op->name;
    return NULL;
}
