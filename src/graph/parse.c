/* Reading the text form that graph/text.c prints, line by line:
 *   %N = OP(%A, _, %B) {attr=1, attr=0.5} : types @LAYER recompute  # place
 *   %N = input "name" dynamic 1 : f32[64,128]
 *   body {            (of the scan before it)
 *   }
 *   output "name" = %N
 * Shapes after ':' are read for leaves and inferred for the rest (then compared). */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "graph/graph.h"
#include "op/ops.h"

enum { MAX_IN = 300 };
struct reader { const char *p; int line; struct dan_err *e; };

static int bad(struct reader *r, const char *what) { return dan_fail(r->e, DAN_EFORMAT, "line %d of the graph text: %s", r->line, what); }

static void blanks(struct reader *r)
{
    while (*r->p == ' ' || *r->p == '\t') r->p++;
}

static bool eat(struct reader *r, const char *word)
{
    blanks(r);
    size_t n = strlen(word);
    if (strncmp(r->p, word, n)) return false;
    r->p += n;
    return true;
}

static void next_line(struct reader *r)
{
    while (*r->p && *r->p != '\n') r->p++;
    if (*r->p) r->p++;
    r->line++;
}

static bool word(struct reader *r, char *out, size_t cap)
{
    size_t n = 0;
    blanks(r);
    while ((isalnum((unsigned char)*r->p) || *r->p == '_') && n + 1 < cap) out[n++] = *r->p++;
    out[n] = 0;
    return n > 0;
}

static bool quoted(struct reader *r, char *out, size_t cap)
{
    size_t n = 0;
    if (!eat(r, "\"")) return false;
    while (*r->p && *r->p != '"' && *r->p != '\n' && n + 1 < cap) out[n++] = *r->p++;
    out[n] = 0;
    return *r->p++ == '"';
}

static bool number(struct reader *r, int64_t *v)
{
    char *end;
    blanks(r);
    if (strncmp(r->p, "end", 3) == 0) {
        r->p += 3;
        *v = DAN_END;
        return true;
    }
    *v = strtoll(r->p, &end, 10);
    if (end == r->p) return false;
    r->p = end;
    return true;
}

static bool type(struct reader *r, const struct dan_dtype **t, struct dan_shape *s)
{
    char name[16];
    if (!word(r, name, sizeof name) || !(*t = dan_dtype_find(name)) || !eat(r, "[")) return false;
    *s = (struct dan_shape){0};
    while (!eat(r, "]")) {
        if (s->n == DAN_MAX_DIMS || !number(r, &s->d[s->n++])) return false;
        eat(r, ",");
    }
    return true;
}

struct line { dan_ref id, in[MAX_IN]; int n_in; union dan_attr attr[DAN_MAX_ATTR]; const struct dan_op *op; };

static int leaf(struct reader *r, struct dan_builder *b, struct line *l)
{
    char name[512], init[64] = "";
    int64_t dynamic = 0;
    const struct dan_dtype *t;
    struct dan_shape s;
    if (!quoted(r, name, sizeof name)) return bad(r, "a leaf needs its name in quotes");
    if (eat(r, "init") && !quoted(r, init, sizeof init)) return bad(r, "init needs a text in quotes");
    bool frozen = eat(r, "frozen");
    if (eat(r, "dynamic") && !number(r, &dynamic)) return bad(r, "dynamic needs a number");
    if (!eat(r, ":") || !type(r, &t, &s)) return bad(r, "expected ': dtype[dims]'");
    dan_ref x = l->op == &dan_op_input ? dan_input(b, name, t, s, dynamic) : l->op == &dan_op_param ? dan_param(b, name, t, s, init[0] ? init : "zeros") : dan_state(b, name, t, s);
    if (x) b->g->node[x].frozen = frozen;
    if (eat(r, "@") && x) {
        int64_t layer;
        if (!number(r, &layer)) return bad(r, "expected a layer number after '@'");
        b->g->node[x].layer = (int32_t)layer;
    }
    return b->err.code ? dan_fail(r->e, b->err.code, "line %d of the graph text: %s", r->line, b->err.msg) : DAN_OK;
}

static int attributes(struct reader *r, struct line *l)
{
    char name[32];
    if (!eat(r, "{")) return DAN_OK;
    while (!eat(r, "}")) {
        int k = 0;
        if (!word(r, name, sizeof name) || !eat(r, "=")) return bad(r, "expected attribute=value");
        while (k < DAN_MAX_ATTR && l->op->attrs[k].name && strcmp(l->op->attrs[k].name, name)) k++;
        if (k == DAN_MAX_ATTR || !l->op->attrs[k].name) return bad(r, "the op has no such attribute");
        if (l->op->attrs[k].type == 'f') {
            char *end;
            l->attr[k].f = strtod(r->p, &end);
            if (end == r->p) return bad(r, "expected a number");
            r->p = end;
        } else if (!number(r, &l->attr[k].i)) {
            return bad(r, "expected a whole number");
        }
        eat(r, ",");
    }
    return DAN_OK;
}

static int arguments(struct reader *r, struct line *l)
{
    int64_t id;
    if (!eat(r, "(")) return bad(r, "expected '(' after the op");
    while (!eat(r, ")")) {
        if (l->n_in == MAX_IN) return bad(r, "too many inputs");
        if (eat(r, "_")) l->in[l->n_in++] = 0;
        else if (eat(r, "%") && number(r, &id)) l->in[l->n_in++] = (dan_ref)id;
        else return bad(r, "expected %N or _");
        eat(r, ",");
    }
    return DAN_OK;
}

static int tail(struct reader *r, struct dan_builder *b, dan_ref x)
{
    const struct dan_dtype *t;
    struct dan_shape s;
    struct dan_node *n = &b->g->node[x];
    if (eat(r, ":")) {
        bool many = eat(r, "(");
        for (int i = 0; i < n->n_out; i++) {
            if (!type(r, &t, &s)) return bad(r, "expected dtype[dims]");
            if (t != (n->n_out > 1 ? n->part[i].dtype : n->dtype) || !dan_shape_equal(&s, n->n_out > 1 ? &n->part[i].shape : &n->shape)) return bad(r, "the op infers another type or shape");
            if (eat(r, "~bf16")) n->half |= (uint16_t)(1u << i);
            eat(r, ",");
        }
        if (many && !eat(r, ")")) return bad(r, "expected ')'");
    }
    int64_t layer;
    if (eat(r, "@") && number(r, &layer)) n->layer = (int32_t)layer;
    if (eat(r, "recompute")) n->recompute = true;
    return DAN_OK;
}

static int read_graph(struct reader *r, struct dan_builder *b, bool body);

static int body_after(struct reader *r, struct dan_builder *b, struct dan_graph **out)
{
    struct reader ahead = *r;
    next_line(&ahead);
    if (!eat(&ahead, "body {")) return bad(r, "a scan needs a body");
    next_line(&ahead);
    struct dan_graph *g = dan_graph_new_in(b->g->arena);
    struct dan_builder inner;
    if (!g) return dan_fail(r->e, DAN_ENOMEM, "not enough memory for a graph");
    dan_builder_init(&inner, g);
    int rc = read_graph(&ahead, &inner, true);
    *out = g;
    r->p = ahead.p;                            /* behind the closing brace */
    r->line = ahead.line;
    return rc;
}

static int node(struct reader *r, struct dan_builder *b)
{
    char name[32];
    struct line l = {0};
    int64_t id;
    struct dan_graph *body = NULL;
    if (!number(r, &id) || !eat(r, "=") || !word(r, name, sizeof name)) return bad(r, "expected '%N = op(...)'");
    if (!(l.op = dan_op_find(name))) return bad(r, "there is no such op");
    if (id != b->g->n) return bad(r, "nodes must be numbered in order from %1");
    if (l.op->props & DAN_OP_LEAF) return leaf(r, b, &l);
    int rc = arguments(r, &l);
    if (!rc) rc = attributes(r, &l);
    struct reader here = *r;                   /* types stand before the body, but need the node */
    if (!rc && l.op->props & DAN_OP_BODY) rc = body_after(r, b, &body);
    if (rc) return rc;
    b->where = NULL;
    dan_ref x = dan_emit_body(b, l.op, l.in, l.n_in, l.attr, DAN_MAX_ATTR, body);
    if (!x) return dan_fail(r->e, b->err.code, "line %d of the graph text: %s", r->line, b->err.msg);
    if (!body) return tail(r, b, x);
    return tail(&here, b, x);
}

static int output(struct reader *r, struct dan_builder *b)
{
    char name[512];
    int64_t id;
    if (!quoted(r, name, sizeof name) || !eat(r, "=") || !eat(r, "%") || !number(r, &id)) return bad(r, "expected 'output \"name\" = %N'");
    if (id <= 0 || id >= b->g->n) return bad(r, "the output does not exist");
    dan_output(b, name, (dan_ref)id);
    return DAN_OK;
}

static int read_graph(struct reader *r, struct dan_builder *b, bool body)
{
    for (; *r->p; next_line(r)) {
        int rc = DAN_OK;
        if (eat(r, "}")) return body ? DAN_OK : bad(r, "'}' without a body");
        if (eat(r, "; backward")) b->g->n_forward = b->g->n;
        else if (eat(r, "output")) rc = output(r, b);
        else if (eat(r, "%")) rc = node(r, b);
        else if (*r->p != '\n' && *r->p != ';' && *r->p != '#' && *r->p) rc = bad(r, "expected '%', 'output' or ';'");
        if (rc) return rc;
        if (!*r->p) break;
    }
    return body ? bad(r, "the body is not closed") : DAN_OK;
}

int dan_graph_parse(const char *text, struct dan_graph **out, struct dan_err *e)
{
    struct reader r = {text, 1, e};
    struct dan_graph *g = dan_graph_new();
    if (!g) return dan_fail(e, DAN_ENOMEM, "not enough memory for a graph");
    struct dan_builder b;
    dan_builder_init(&b, g);
    int rc = read_graph(&r, &b, false);
    if (rc) {
        dan_graph_free(g);
        return rc;
    }
    *out = g;
    return DAN_OK;
}
