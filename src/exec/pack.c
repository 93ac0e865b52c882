/* Constant operands laid out once for the kernels that want it: struct dan_exec_opts.pack.  After all params are bound. */
#include "base/mem.h"
#include "exec/program.h"

static bool is_float(const struct dan_tensor *t) { return t->dtype->block == 1 && t->dtype != &dan_dtype_i8; }

/* A step whose in[1] is a param and whose kernel would rather have it packed; *bytes: how much. */
static bool wants_pack(struct dan_program *p, struct step *s, size_t *bytes)
{
    const struct dan_node *n = &p->g.node[s->node];
    if (!s->kernel || !s->kernel->pack || s->stage || n->n_in < 2 || !n->in[1] || !dan_op_is(&p->g.node[n->in[1]], "param")) return false;
    s->in[1] = p->unit[s->in_unit[1]].t;
    if (is_float(&s->in[1]) && !(s->in[1].dtype == &dan_dtype_f32 ? p->opts.pack_f32 : p->opts.pack_floats)) return false;
    *bytes = s->in[1].data ? s->kernel->pack_bytes(&s->args) : 0;
    return *bytes > 0;
}

static void pack_thread(void *ctx, int ith, int nth)
{
    const struct dan_program *p = ctx;
    for (int32_t i = 0; i < p->n_steps; i++) {
        const struct step *s = &p->step[i];
        if (!s->pack_is_fresh) continue;
        struct dan_args a = s->args;
        a.ith = ith;
        a.nth = nth;
        s->kernel->pack(&a, s->pack->data);
    }
}

static void fill(struct dan_program *p)
{
    dan_pool_run(p->opts.pool, pack_thread, p);
    for (int32_t i = 0; i < p->n_steps; i++) p->step[i].pack_is_fresh = false;
}

static void drop_packs(struct dan_program *p)
{
    for (int32_t i = 0; i < p->n_steps && p->packs; i++) {
        dan_packs_release(p->packs, p->step[i].pack);
        p->step[i].pack = NULL;
    }
}

/* Where there is no memory for it kernels run without. */
void dan_program_pack(struct dan_program *p, struct dan_packs *packs)
{
    size_t bytes;
    if (!packs) return;
    if (!p->packs) p->packs = dan_packs_keep(packs);
    if (p->packs != packs) return;
    p->dirty_data = true;                      /* refresh hands them to the steps */
    for (int32_t i = 0; i < p->n_steps; i++) {
        struct step *s = &p->step[i];
        if (!wants_pack(p, s, &bytes)) continue;
        struct dan_pack *old = s->pack;
        s->pack = dan_packs_take(packs, &s->in[1], s->kernel, bytes);
        s->pack_is_fresh = s->pack && !s->pack->data && s->pack->refs == 1;        /* no step before has it, too */
        dan_packs_release(packs, old);
    }
    if (!dan_packs_room(packs)) {
        drop_packs(p);
        return;
    }
    fill(p);
}

void dan_program_repack(struct dan_program *p)
{
    for (int32_t i = 0; i < p->n_steps; i++) p->step[i].pack_is_fresh = p->step[i].pack != NULL;
    fill(p);
}

void dan_program_pack_floats(struct dan_program *p)
{
    if (p->opts.pack_floats || !p->opts.pack || !p->packs) return;
    p->opts.pack_floats = true;
    dan_program_pack(p, p->packs);
}

void dan_program_unpack(struct dan_program *p)
{
    drop_packs(p);
    dan_packs_drop(p->packs);
}

size_t dan_program_packed(const struct dan_program *p)
{
    size_t n = 0;
    for (int32_t i = 0; i < p->n_steps; i++) n += p->step[i].pack ? p->step[i].pack->bytes : 0;
    return n;
}
