/* Expressions: tokens to a tree, precedence as in Jinja2's parser. */
#include <string.h>
#include "text/jinja_parse.h"

static struct jnode *unary(struct par *p, bool filters);
static struct jnode *primary(struct par *p);
static struct jnode *or_(struct par *p);

struct jnode *dan_jp_node(struct par *p, enum jntype type, struct jnode *a, struct jnode *b)
{
    struct jnode *n = dan_jin_alloc(p->j, 1, sizeof *n);
    if (!n) return &p->none;
    *n = (struct jnode){.type = type, .line = p->t->line, .a = a, .b = b};
    return n;
}

void dan_jp_add(struct par *p, struct jnode *n, struct jnode *kid)
{
    if (p->j->failed) return;
    if (n->n == n->cap) {
        size_t cap = n->cap ? n->cap * 2 : 4;
        struct jnode **bigger = dan_jin_alloc(p->j, cap, sizeof *bigger);
        if (!bigger) return;
        if (n->n) memcpy(bigger, n->kid, n->n * sizeof *bigger);
        n->kid = bigger;
        n->cap = cap;
    }
    n->kid[n->n++] = kid;
}

void dan_jp_next(struct par *p)
{
    if (p->t->type != T_END) p->t++;
    p->j->line = p->t->line;
}
bool dan_jp_is(const struct par *p, const char *op) { return p->t->type == T_OP && !strcmp(p->t->p, op); }
bool dan_jp_is_name(const struct par *p, const char *name) { return p->t->type == T_NAME && !strcmp(p->t->p, name); }
bool dan_jp_take(struct par *p, const char *op)
{
    if (!dan_jp_is(p, op)) return false;
    dan_jp_next(p);
    return true;
}
bool dan_jp_take_name(struct par *p, const char *name)
{
    if (!dan_jp_is_name(p, name)) return false;
    dan_jp_next(p);
    return true;
}

const char *dan_jp_shown(const struct jtoken *t)
{
    static const char *const what[] = {"the end of the template", "text", "", "a number", "a number", "a string", "", "{%", "%}", "{{", "}}"};
    return t->type == T_NAME || t->type == T_OP ? t->p : what[t->type];
}

void dan_jp_want(struct par *p, const char *op)
{
    if (!dan_jp_take(p, op)) dan_jin_fail(p->j, DAN_EFORMAT, "'%s' is expected before '%s'", op, dan_jp_shown(p->t));
}
void dan_jp_want_type(struct par *p, enum jtok type, const char *what)
{
    if (p->t->type != type) dan_jin_fail(p->j, DAN_EFORMAT, "'%s' is expected before '%s'", what, dan_jp_shown(p->t));
    dan_jp_next(p);
}
const char *dan_jp_want_name(struct par *p)
{
    const char *name = p->t->p;
    if (p->t->type != T_NAME) {
        dan_jin_fail(p->j, DAN_EFORMAT, "a name is expected before '%s'", dan_jp_shown(p->t));
        return "";
    }
    dan_jp_next(p);
    return name;
}

bool dan_jp_deeper(struct par *p)
{
    if (++p->depth > J_MAX_DEPTH) dan_jin_fail(p->j, DAN_EINVAL, "the template is nested too deeply (over %d)", J_MAX_DEPTH);
    return !p->j->failed;
}

/* ( already taken: arguments up to ). */
void dan_jp_arguments(struct par *p, struct jnode *call)
{
    while (!p->j->failed && !dan_jp_is(p, ")")) {
        if (dan_jp_is(p, "*") || dan_jp_is(p, "**")) {
            struct jnode *kw = dan_jp_node(p, N_KW, NULL, NULL);
            const char *stars = p->t->p;
            dan_jp_next(p);
            struct jnode *value = dan_jp_expr(p);
            if (p->j->failed) return;
            kw->name = stars;
            kw->a = value;
            dan_jp_add(p, call, kw);
        } else if (p->t->type == T_NAME && p->t[1].type == T_OP && !strcmp(p->t[1].p, "=")) {
            struct jnode *kw = dan_jp_node(p, N_KW, NULL, NULL);
            const char *name = p->t->p;
            dan_jp_next(p);
            dan_jp_next(p);
            struct jnode *value = dan_jp_expr(p);
            if (p->j->failed) return;
            kw->name = name;
            kw->a = value;
            dan_jp_add(p, call, kw);
        } else dan_jp_add(p, call, dan_jp_expr(p));
        if (!dan_jp_take(p, ",")) break;
    }
    dan_jp_want(p, ")");
}

static struct jnode *subscript(struct par *p, struct jnode *of)
{
    struct jnode *n = dan_jp_node(p, N_ITEM, of, NULL), *part[3] = {0};
    int k = 0;
    bool slice = false;
    while (!p->j->failed && !dan_jp_is(p, "]")) {
        if (dan_jp_take(p, ":")) {
            slice = true;
            if (++k > 2) dan_jin_fail(p->j, DAN_EFORMAT, "a slice has at most two ':'");
        } else if (k <= 2 && !part[k]) part[k] = dan_jp_expr(p);
        else dan_jin_fail(p->j, DAN_EFORMAT, "']' is expected before '%s'", dan_jp_shown(p->t));
    }
    dan_jp_want(p, "]");
    if (p->j->failed) return n;
    if (!slice && !part[0]) dan_jin_fail(p->j, DAN_EFORMAT, "a subscript is empty");
    n->b = part[0];
    n->c = part[1];
    n->d = part[2];
    if (slice) n->type = N_SLICE;
    return n;
}

static struct jnode *call_of(struct par *p, struct jnode *f)
{
    struct jnode *n = dan_jp_node(p, N_CALL, f, NULL);
    dan_jp_arguments(p, n);
    return n;
}

static struct jnode *postfix(struct par *p, struct jnode *n)
{
    for (int k = 0; !p->j->failed; k++) {
        if (k > J_MAX_DEPTH) dan_jin_fail(p->j, DAN_EINVAL, "an expression is too long");
        if (dan_jp_take(p, ".")) {
            struct jnode *attr = dan_jp_node(p, N_ATTR, n, NULL);
            if (p->t->type == T_INT) {
                struct jnode *index = dan_jp_node(p, N_CONST, NULL, NULL);
                if (p->j->failed) break;
                index->val = dan_jv_int(p->t->i);
                attr->type = N_ITEM;
                attr->b = index;
                dan_jp_next(p);
            } else {
                const char *name = dan_jp_want_name(p);
                if (p->j->failed) break;
                attr->name = name;
            }
            n = attr;
        } else if (dan_jp_take(p, "[")) n = subscript(p, n);
        else if (dan_jp_take(p, "(")) n = call_of(p, n);
        else break;
    }
    return n;
}

struct jnode *dan_jp_filter(struct par *p, struct jnode *of)
{
    struct jnode *n = dan_jp_node(p, N_FILTER, of, NULL);
    const char *name = dan_jp_want_name(p);
    if (p->j->failed) return n;
    n->name = name;
    if (!dan_jin_has_filter(name)) dan_jin_fail(p->j, DAN_EUNSUPPORTED, "there is no filter '%s'", name);
    if (dan_jp_take(p, "(")) dan_jp_arguments(p, n);
    return n;
}

static bool test_argument(const struct par *p)
{
    if (p->t->type == T_NAME) return !dan_jp_is_name(p, "else") && !dan_jp_is_name(p, "or") && !dan_jp_is_name(p, "and") && !dan_jp_is_name(p, "is");
    return p->t->type == T_STR || p->t->type == T_INT || p->t->type == T_FLOAT || dan_jp_is(p, "(") || dan_jp_is(p, "[") || dan_jp_is(p, "{");
}

static struct jnode *test(struct par *p, struct jnode *of)
{
    bool negated = dan_jp_take_name(p, "not");
    struct jnode *n = dan_jp_node(p, N_TEST, of, NULL);
    const char *name = dan_jp_want_name(p);
    if (p->j->failed) return n;
    n->name = name;
    if (!dan_jin_has_test(name)) dan_jin_fail(p->j, DAN_EUNSUPPORTED, "there is no test '%s'", name);
    if (dan_jp_take(p, "(")) dan_jp_arguments(p, n);
    else if (test_argument(p)) dan_jp_add(p, n, postfix(p, primary(p)));
    return negated ? dan_jp_node(p, N_NOT, n, NULL) : n;
}

static struct jnode *filtered(struct par *p, struct jnode *n)
{
    for (int k = 0; !p->j->failed; k++) {
        if (k > J_MAX_DEPTH) dan_jin_fail(p->j, DAN_EINVAL, "an expression is too long");
        if (dan_jp_take(p, "|")) n = dan_jp_filter(p, n);
        else if (dan_jp_take_name(p, "is")) n = test(p, n);
        else if (dan_jp_take(p, "(")) n = call_of(p, n);
        else break;
    }
    return n;
}

struct jnode *dan_jp_constant(struct par *p, struct jv v)
{
    struct jnode *n = dan_jp_node(p, N_CONST, NULL, NULL);
    if (!p->j->failed) n->val = v;
    dan_jp_next(p);
    return n;
}

static struct jnode *strings(struct par *p)
{
    struct jbuf b = {0};
    struct jtoken *first = p->t;
    if (first[1].type != T_STR) return dan_jp_constant(p, dan_jv_of((struct jstr){.p = first->p, .n = first->n}));
    for (; p->t[1].type == T_STR; dan_jp_next(p)) dan_jbuf_put(p->j, &b, p->t->p, NULL, p->t->n);
    dan_jbuf_put(p->j, &b, p->t->p, NULL, p->t->n);
    return dan_jp_constant(p, dan_jbuf_str(&b));
}

static struct jnode *named(struct par *p)
{
    const char *s = p->t->p;
    if (!strcmp(s, "true") || !strcmp(s, "True")) return dan_jp_constant(p, dan_jv_bool(true));
    if (!strcmp(s, "false") || !strcmp(s, "False")) return dan_jp_constant(p, dan_jv_bool(false));
    if (!strcmp(s, "none") || !strcmp(s, "None")) return dan_jp_constant(p, dan_jv_none());
    struct jnode *n = dan_jp_node(p, N_NAME, NULL, NULL);
    if (!p->j->failed) n->name = s;
    dan_jp_next(p);
    return n;
}

static bool tuple_ends(const struct par *p)
{
    return p->t->type == T_VAR_END || p->t->type == T_BLOCK_END || p->t->type == T_END || dan_jp_is(p, ")") || dan_jp_is(p, "=") || dan_jp_is_name(p, "in") ||
           dan_jp_is_name(p, "recursive");
}

/* One expression, or several with commas: a tuple. */
struct jnode *dan_jp_tuple(struct par *p, bool with_if, bool parens)
{
    struct jnode *first = NULL, *t = NULL;
    bool comma = false;
    while (!p->j->failed && !tuple_ends(p)) {
        struct jnode *item = with_if ? dan_jp_expr(p) : or_(p);
        if (!first) first = item;
        else {
            if (!t) dan_jp_add(p, t = dan_jp_node(p, N_TUPLE, NULL, NULL), first);
            dan_jp_add(p, t, item);
        }
        if (!dan_jp_take(p, ",")) break;
        comma = true;
    }
    if (t) return t;
    if (!first && !parens) dan_jin_fail(p->j, DAN_EFORMAT, "an expression is expected before '%s'", dan_jp_shown(p->t));
    if (first && !comma) return first;
    t = dan_jp_node(p, N_TUPLE, NULL, NULL);
    if (first) dan_jp_add(p, t, first);
    return t;
}

static struct jnode *list(struct par *p)
{
    struct jnode *n = dan_jp_node(p, N_LIST, NULL, NULL);
    dan_jp_next(p);
    while (!p->j->failed && !dan_jp_is(p, "]")) {
        dan_jp_add(p, n, dan_jp_expr(p));
        if (!dan_jp_take(p, ",")) break;
    }
    dan_jp_want(p, "]");
    return n;
}

static struct jnode *dict(struct par *p)
{
    struct jnode *n = dan_jp_node(p, N_DICT, NULL, NULL);
    dan_jp_next(p);
    while (!p->j->failed && !dan_jp_is(p, "}")) {
        dan_jp_add(p, n, dan_jp_expr(p));
        dan_jp_want(p, ":");
        dan_jp_add(p, n, dan_jp_expr(p));
        if (!dan_jp_take(p, ",")) break;
    }
    dan_jp_want(p, "}");
    return n;
}

static struct jnode *primary(struct par *p)
{
    struct jnode *n;
    if (!dan_jp_deeper(p)) return dan_jp_node(p, N_CONST, NULL, NULL);
    if (p->t->type == T_NAME) n = named(p);
    else if (p->t->type == T_STR) n = strings(p);
    else if (p->t->type == T_INT) n = dan_jp_constant(p, dan_jv_int(p->t->i));
    else if (p->t->type == T_FLOAT) n = dan_jp_constant(p, dan_jv_float(p->t->f));
    else if (dan_jp_is(p, "[")) n = list(p);
    else if (dan_jp_is(p, "{")) n = dict(p);
    else if (dan_jp_take(p, "(")) {
        n = dan_jp_tuple(p, true, true);
        dan_jp_want(p, ")");
    } else {
        dan_jin_fail(p->j, DAN_EFORMAT, "an expression is expected before '%s'", dan_jp_shown(p->t));
        n = dan_jp_node(p, N_CONST, NULL, NULL);
    }
    p->depth--;
    return n;
}

static struct jnode *unary(struct par *p, bool filters)
{
    struct jnode *n;
    if (!dan_jp_deeper(p)) return dan_jp_node(p, N_CONST, NULL, NULL);
    if (dan_jp_is(p, "-") || dan_jp_is(p, "+")) {
        const char *op = p->t->p;
        dan_jp_next(p);
        n = dan_jp_node(p, N_UNARY, unary(p, false), NULL);
        if (!p->j->failed) n->name = op;
    } else n = primary(p);
    n = postfix(p, n);
    if (filters) n = filtered(p, n);
    p->depth--;
    return n;
}

/* Binary operators from loose to tight; each level's operands are of the next. */
static const char *const levels[][5] = {{"+", "-"}, {"~"}, {"*", "/", "//", "%"}, {"**"}};
enum { N_LEVELS = sizeof levels / sizeof *levels };

static struct jnode *binary(struct par *p, int level)
{
    if (level == N_LEVELS) return unary(p, true);
    struct jnode *left = binary(p, level + 1);
    for (int k = 0; !p->j->failed; k++) {
        const char *op = NULL;
        for (int i = 0; levels[level][i]; i++)
            if (dan_jp_is(p, levels[level][i])) op = levels[level][i];
        if (!op) break;
        if (k > 400) dan_jin_fail(p->j, DAN_EINVAL, "an expression is too long");
        dan_jp_next(p);
        left = dan_jp_node(p, N_BINARY, left, binary(p, level + 1));
        if (!p->j->failed) left->name = op;
    }
    return left;
}

static const char *compare_op(struct par *p)
{
    static const char *const ops[] = {"==", "!=", "<=", ">=", "<", ">"};
    for (int i = 0; i < 6; i++)
        if (dan_jp_take(p, ops[i])) return ops[i];
    if (dan_jp_take_name(p, "in")) return "in";
    if (dan_jp_is_name(p, "not") && p->t[1].type == T_NAME && !strcmp(p->t[1].p, "in")) {
        dan_jp_next(p);
        dan_jp_next(p);
        return "not in";
    }
    return NULL;
}

static struct jnode *compare(struct par *p)
{
    struct jnode *left = binary(p, 0), *chain = NULL;
    const char *op;
    while (!p->j->failed && (op = compare_op(p))) {
        if (!chain) chain = dan_jp_node(p, N_COMPARE, left, NULL);
        struct jnode *part = dan_jp_node(p, N_KW, binary(p, 0), NULL);
        if (p->j->failed) break;
        part->name = op;
        dan_jp_add(p, chain, part);
    }
    return chain ? chain : left;
}

static struct jnode *not_(struct par *p)
{
    if (!dan_jp_is_name(p, "not")) return compare(p);
    dan_jp_next(p);
    if (!dan_jp_deeper(p)) return dan_jp_node(p, N_CONST, NULL, NULL);
    struct jnode *n = dan_jp_node(p, N_NOT, not_(p), NULL);
    p->depth--;
    return n;
}

static struct jnode *and_(struct par *p)
{
    struct jnode *left = not_(p);
    for (int k = 0; !p->j->failed && dan_jp_take_name(p, "and"); k++) {
        if (k > 400) dan_jin_fail(p->j, DAN_EINVAL, "an expression is too long");
        left = dan_jp_node(p, N_AND, left, not_(p));
    }
    return left;
}

static struct jnode *or_(struct par *p)
{
    struct jnode *left = and_(p);
    for (int k = 0; !p->j->failed && dan_jp_take_name(p, "or"); k++) {
        if (k > 400) dan_jin_fail(p->j, DAN_EINVAL, "an expression is too long");
        left = dan_jp_node(p, N_OR, left, and_(p));
    }
    return left;
}

struct jnode *dan_jp_expr(struct par *p)
{
    if (!dan_jp_deeper(p)) return dan_jp_node(p, N_CONST, NULL, NULL);
    struct jnode *n = or_(p);
    for (int k = 0; !p->j->failed && dan_jp_take_name(p, "if"); k++) {
        if (k > J_MAX_DEPTH) dan_jin_fail(p->j, DAN_EINVAL, "an expression is too long");
        struct jnode *cond = dan_jp_node(p, N_COND, n, or_(p));
        if (!p->j->failed && dan_jp_take_name(p, "else")) cond->c = dan_jp_expr(p);
        n = cond;
    }
    p->depth--;
    return n;
}
