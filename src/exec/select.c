/* Which kernel runs a node: of all that the CPU has and that accept it, the highest rank. */
#include <string.h>
#include "base/sys.h"
#include "exec/program.h"

static bool is_double(const struct step *s, const struct dan_node *n)
{
    for (int i = 0; i < n->n_in; i++)
        if (s->in[i].dtype == &dan_dtype_f64) return true;
    return n->dtype == &dan_dtype_f64;
}

int dan_program_select(struct dan_program *p, struct step *s, struct dan_err *e)
{
    const struct dan_node *n = &p->g.node[s->node];
    bool dbl = is_double(s, n);
    s->kernel = NULL;
    for (int i = 0; !p->opts.ref && !dbl && dan_kernels[i]; i++) {
        const struct dan_kernel *k = dan_kernels[i];
        if (strcmp(k->op, n->op->name) || (k->needs & p->cpu) != k->needs) continue;
        if (s->kernel && k->rank <= s->kernel->rank) continue;
        if (!k->accepts || k->accepts(&s->args)) s->kernel = k;
    }
    s->run = s->kernel ? s->kernel->run : dbl ? dan_op_f64(n->op)->ref : n->op->ref;
    if (!s->run) return dan_fail(e, DAN_EUNSUPPORTED, "op '%s' cannot run: it has neither a kernel nor a reference", n->op->name);
    return DAN_OK;
}

const char *dan_step_kernel(const struct step *s) { return s->body ? "scan" : s->kernel ? s->kernel->name : "ref"; }

const char *dan_program_kernel(const struct dan_program *p, dan_ref r)
{
    for (int32_t i = 0; i < p->n_steps; i++)
        if (p->step[i].node == r) return dan_step_kernel(&p->step[i]);
    return "";
}
