/* What several op files say about a node: the parts of a multi-output op, optional inputs. */
#ifndef DAN_OP_NODE_H
#define DAN_OP_NODE_H
#include "op/util.h"

/* Gives n its n_out parts.  Only the first infer allocates; a re-infer at bind finds them there. */
static inline int dan_node_parts(const struct dan_graph *g, struct dan_node *n, int n_out, struct dan_err *e)
{
    if (!n->part) n->part = dan_arena_alloc(g->arena, sizeof *n->part * (size_t)n_out);
    if (!n->part) return dan_fail(e, DAN_ENOMEM, "out of memory for the outputs of '%s': free some and try again", n->op->name);
    n->n_out = n_out;
    return DAN_OK;
}

static inline void dan_node_part(struct dan_node *n, int i, const struct dan_dtype *t, struct dan_shape s)
{
    n->part[i] = (struct dan_out){.dtype = t, .shape = s};
    if (i) return;
    n->dtype = t;
    n->shape = s;
}

static inline const struct dan_node *dan_in_opt(const struct dan_graph *g, const struct dan_node *n, int i)
{
    return i < n->n_in && n->in[i] ? dan_in(g, n, i) : NULL;
}

/* A vector [n] of the given type: gamma, beta, bias. */
static inline bool dan_is_vector(const struct dan_node *x, const struct dan_dtype *t, int64_t n)
{
    return x->dtype == t && x->shape.n == 1 && x->shape.d[0] == n;
}

/* The r-th of a tensor of ids, whose rows may be strided. */
static inline int32_t dan_id_at(const struct dan_tensor *ids, int64_t r)
{
    int64_t c = dan_cols(ids);
    return ((const int32_t *)dan_row(ids, r / c))[r % c];
}

/* A test input [N,c], or columns 3.. of a wider one. */
static inline dan_ref dan_sample_columns(struct dan_sample *s, int64_t c, bool slice)
{
    if (!slice) return s->real(s, DAN_SHAPE(s->rows, c), 1, true);
    return dan_slice(s->b, s->real(s, DAN_SHAPE(s->rows, c + 9), 1, true), 1, 3, 3 + c);
}

#endif
