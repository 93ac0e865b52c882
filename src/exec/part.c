/* A run in two parts.
 *
 * Steps up to the one that gives output `known` come first; the second part is what follows and what read the input before.  Where the output comes after
 * the first reader of the input, that reader has to be the step which gives the output, and to leave its inputs as they were: it runs twice (a head that
 * gives loss and gradient in one pass). */
#include <string.h>
#include "exec/program.h"

static int32_t root_of(const struct dan_program *p, int32_t u)
{
    while (p->unit[u].root != u) u = p->unit[u].root;
    return u;
}

static bool reads(const struct dan_program *p, const struct step *s, int32_t root)
{
    for (int k = 0; k < s->args.n_in; k++)
        if (s->in_unit[k] >= 0 && root_of(p, s->in_unit[k]) == root) return true;
    return false;
}

static bool writes(const struct dan_program *p, const struct step *s, int32_t root)
{
    for (int k = 0; k < s->args.n_out; k++)
        if (root_of(p, s->out_unit + k) == root) return true;
    return false;
}

static bool overwrites_inputs(const struct dan_program *p, const struct step *s)
{
    for (int k = 0; k < s->args.n_out; k++)
        if (reads(p, s, root_of(p, s->out_unit + k))) return true;
    return false;
}

/* The last step that writes output `name`; -1. */
static int32_t giver(const struct dan_program *p, const char *name)
{
    for (int32_t o = 0; o < p->g.n_out; o++) {
        if (strcmp(p->g.out_name[o], name)) continue;
        int32_t root = root_of(p, p->first_unit[p->g.out[o]]);
        for (int32_t i = p->n_steps - 1; i >= 0; i--)
            if (writes(p, &p->step[i], root)) return i;
    }
    return -1;
}

/* What reads a node that was made of the input reads it, too, but comes later: the first reader is enough. */
static int32_t first_reader(const struct dan_program *p, const char *name)
{
    dan_ref leaf = dan_leaf(&p->g, name);
    for (int32_t i = 0; leaf && i < p->n_steps; i++)
        if (reads(p, &p->step[i], p->first_unit[leaf])) return i;
    return p->n_steps;
}

int dan_program_cut(const struct dan_program *p, const char *input, const char *known, struct dan_cut *out)
{
    int32_t k = giver(p, known), r = first_reader(p, input);
    if (k < 0 || (r <= k && (r < k || overwrites_inputs(p, &p->step[k])))) return DAN_EUNSUPPORTED;
    *out = (struct dan_cut){.first_end = k + 1, .rest = r <= k ? k : k + 1};
    return DAN_OK;
}

int dan_run_first(struct dan_program *p, const struct dan_cut *cut, struct dan_err *e) { return dan_run_range(p, 0, cut->first_end, e); }
int dan_run_rest(struct dan_program *p, const struct dan_cut *cut, struct dan_err *e) { return dan_run_range(p, cut->rest, p->n_steps, e); }
