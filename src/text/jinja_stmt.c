/* Statements and the text between them: tokens to a tree. */
#include <string.h>
#include "text/jinja_parse.h"

static struct jnode *body(struct par *p, const char *const *ends);

static struct jnode *target_one(struct par *p)
{
    struct jnode *n;
    if (dan_jp_take(p, "(")) {
        if (!dan_jp_deeper(p)) return dan_jp_node(p, N_CONST, NULL, NULL);
        n = dan_jp_node(p, N_TUPLE, NULL, NULL);
        while (!p->j->failed && !dan_jp_is(p, ")")) {
            dan_jp_add(p, n, target_one(p));
            if (!dan_jp_take(p, ",")) break;
        }
        dan_jp_want(p, ")");
        p->depth--;
        return n;
    }
    n = dan_jp_node(p, N_NAME, NULL, NULL);
    const char *name = dan_jp_want_name(p);
    if (p->j->failed) return n;
    n->name = name;
    if (dan_jp_take(p, ".")) {
        struct jnode *of = n;
        n = dan_jp_node(p, N_NSREF, of, NULL);
        name = dan_jp_want_name(p);
        if (!p->j->failed) n->name = name;
    }
    return n;
}

static struct jnode *target(struct par *p)
{
    struct jnode *first = target_one(p);
    if (!dan_jp_is(p, ",")) return first;
    struct jnode *t = dan_jp_node(p, N_TUPLE, NULL, NULL);
    dan_jp_add(p, t, first);
    while (!p->j->failed && dan_jp_take(p, ",") && p->t->type == T_NAME && !dan_jp_is_name(p, "in")) dan_jp_add(p, t, target_one(p));
    return t;
}

static void end_tag(struct par *p) { dan_jp_want_type(p, T_BLOCK_END, "%}"); }

static struct jnode *if_(struct par *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const last[] = {"endif", NULL};
    struct jnode *n = dan_jp_node(p, N_IF, NULL, NULL), *head = n;
    for (int k = 0; !p->j->failed; k++) {
        struct jnode *test_ = dan_jp_tuple(p, false, false);
        end_tag(p);
        struct jnode *then = body(p, ends);
        if (p->j->failed) break;
        n->a = test_;
        n->b = then;
        if (dan_jp_take_name(p, "elif")) {
            n->c = dan_jp_node(p, N_IF, NULL, NULL);
            n = n->c;
            continue;
        }
        if (dan_jp_take_name(p, "else")) {
            end_tag(p);
            struct jnode *otherwise = body(p, last);
            if (p->j->failed) break;
            n->c = otherwise;
        }
        dan_jp_next(p);
        end_tag(p);
        break;
    }
    return head;
}

static struct jnode *for_(struct par *p)
{
    static const char *const ends[] = {"endfor", "else", NULL}, *const last[] = {"endfor", NULL};
    struct jnode *n = dan_jp_node(p, N_FOR, NULL, NULL), *to = target(p);
    if (!dan_jp_take_name(p, "in")) dan_jin_fail(p->j, DAN_EFORMAT, "'in' is expected before '%s'", dan_jp_shown(p->t));
    struct jnode *over = dan_jp_tuple(p, false, false), *when = NULL, *otherwise = NULL;
    if (dan_jp_take_name(p, "if")) when = dan_jp_expr(p);
    if (dan_jp_is_name(p, "recursive")) dan_jin_fail(p->j, DAN_EUNSUPPORTED, "a recursive loop is not supported");
    end_tag(p);
    p->loops++;
    struct jnode *inner = body(p, ends);
    p->loops--;
    if (dan_jp_take_name(p, "else")) {
        end_tag(p);
        otherwise = body(p, last);
    }
    dan_jp_next(p);
    end_tag(p);
    if (p->j->failed) return n;
    struct jnode *head = dan_jp_node(p, N_TUPLE, to, when);
    n->a = over;
    n->b = inner;
    n->c = otherwise;
    n->d = head;
    return n;
}

static struct jnode *filters_of(struct par *p, struct jnode *n)
{
    while (!p->j->failed && dan_jp_take(p, "|")) n = dan_jp_filter(p, n);
    return n;
}

static struct jnode *set_(struct par *p)
{
    static const char *const ends[] = {"endset", NULL};
    struct jnode *to = target(p), *n;
    if (dan_jp_take(p, "=")) {
        n = dan_jp_node(p, N_SET, to, dan_jp_tuple(p, true, false));
        end_tag(p);
        return n;
    }
    struct jnode *filters = filters_of(p, NULL);
    end_tag(p);
    n = dan_jp_node(p, N_SETBLOCK, to, body(p, ends));
    dan_jp_next(p);
    end_tag(p);
    if (!p->j->failed) n->c = filters;
    return n;
}

static void parameters(struct par *p, struct jnode *n)
{
    while (!p->j->failed && !dan_jp_is(p, ")")) {
        struct jnode *kw = dan_jp_node(p, N_KW, NULL, NULL);
        const char *name = dan_jp_want_name(p);
        struct jnode *dflt = dan_jp_take(p, "=") ? dan_jp_expr(p) : NULL;
        if (p->j->failed) return;
        kw->name = name;
        kw->a = dflt;
        dan_jp_add(p, n, kw);
        if (!dan_jp_take(p, ",")) break;
    }
    dan_jp_want(p, ")");
}

static struct jnode *macro_body(struct par *p, struct jnode *n, const char *const *ends)
{
    int loops = p->loops;
    end_tag(p);
    p->loops = 0;
    struct jnode *inner = body(p, ends);
    p->loops = loops;
    dan_jp_next(p);
    if (p->t->type == T_NAME) dan_jp_next(p);
    end_tag(p);
    if (!p->j->failed) n->b = inner;
    return n;
}

static struct jnode *macro(struct par *p)
{
    static const char *const ends[] = {"endmacro", NULL};
    struct jnode *n = dan_jp_node(p, N_MACRO, NULL, NULL);
    const char *name = dan_jp_want_name(p);
    if (p->j->failed) return n;
    n->name = name;
    dan_jp_want(p, "(");
    parameters(p, n);
    return macro_body(p, n, ends);
}

static struct jnode *call_block(struct par *p)
{
    static const char *const ends[] = {"endcall", NULL};
    struct jnode *caller = dan_jp_node(p, N_MACRO, NULL, NULL);
    if (dan_jp_take(p, "(")) parameters(p, caller);
    struct jnode *n = dan_jp_node(p, N_CALLBLOCK, dan_jp_expr(p), caller);
    if (p->j->failed) return n;
    caller->name = "caller";
    if (n->a->type != N_CALL) dan_jin_fail(p->j, DAN_EFORMAT, "'call' needs a call behind it");
    macro_body(p, caller, ends);
    return n;
}

static struct jnode *filter_block(struct par *p)
{
    static const char *const ends[] = {"endfilter", NULL};
    struct jnode *n = dan_jp_node(p, N_FILTERBLOCK, NULL, NULL), *f = filters_of(p, dan_jp_filter(p, NULL));
    end_tag(p);
    struct jnode *inner = body(p, ends);
    dan_jp_next(p);
    end_tag(p);
    if (p->j->failed) return n;
    n->b = inner;
    n->c = f;
    return n;
}

static struct jnode *generation(struct par *p)
{
    static const char *const ends[] = {"endgeneration", NULL};
    struct jnode *n = dan_jp_node(p, N_GENERATION, NULL, NULL);
    return macro_body(p, n, ends);
}

static struct jnode *with(struct par *p)
{
    static const char *const ends[] = {"endwith", NULL};
    struct jnode *n = dan_jp_node(p, N_WITH, NULL, NULL);
    while (!p->j->failed && p->t->type != T_BLOCK_END) {
        struct jnode *to = target_one(p);
        dan_jp_want(p, "=");
        dan_jp_add(p, n, dan_jp_node(p, N_SET, to, dan_jp_expr(p)));
        if (!dan_jp_take(p, ",")) break;
    }
    end_tag(p);
    struct jnode *inner = body(p, ends);
    dan_jp_next(p);
    end_tag(p);
    if (!p->j->failed) n->b = inner;
    return n;
}

static struct jnode *jump(struct par *p, enum jntype type)
{
    if (!p->loops) dan_jin_fail(p->j, DAN_EFORMAT, "'break' and 'continue' belong inside a loop");
    end_tag(p);
    return dan_jp_node(p, type, NULL, NULL);
}
static struct jnode *break_(struct par *p) { return jump(p, N_BREAK); }
static struct jnode *continue_(struct par *p) { return jump(p, N_CONTINUE); }

static const struct { const char *name; struct jnode *(*parse)(struct par *p); } statements[] = {
    {"if", if_}, {"for", for_}, {"set", set_}, {"macro", macro}, {"call", call_block}, {"filter", filter_block},
    {"generation", generation}, {"with", with}, {"break", break_}, {"continue", continue_},
};

static struct jnode *statement(struct par *p)
{
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (dan_jp_take_name(p, statements[i].name)) return statements[i].parse(p);
    dan_jin_fail(p->j, DAN_EUNSUPPORTED, "there is no statement '%s' here", dan_jp_shown(p->t));
    return dan_jp_node(p, N_CONST, NULL, NULL);
}

static bool ends_here(const struct par *p, const char *const *ends)
{
    for (int i = 0; ends && ends[i]; i++)
        if (p->t[1].type == T_NAME && !strcmp(p->t[1].p, ends[i])) return true;
    return false;
}

/* Up to one of the ends, whose name is then the current token. */
static struct jnode *body(struct par *p, const char *const *ends)
{
    struct jnode *n = dan_jp_node(p, N_BODY, NULL, NULL);
    if (!dan_jp_deeper(p)) return n;
    while (!p->j->failed) {
        struct jtoken *t = p->t;
        if (t->type == T_END) {
            if (ends) dan_jin_fail(p->j, DAN_EFORMAT, "the template ends before '%s'", ends[0]);
            break;
        }
        if (t->type == T_DATA) {
            struct jnode *d = dan_jp_constant(p, dan_jv_of((struct jstr){.p = t->p, .n = t->n}));
            if (!p->j->failed) d->type = N_DATA;
            dan_jp_add(p, n, d);
        } else if (t->type == T_VAR) {
            dan_jp_next(p);
            dan_jp_add(p, n, dan_jp_node(p, N_OUT, dan_jp_tuple(p, true, false), NULL));
            dan_jp_want_type(p, T_VAR_END, "}}");
        } else {
            bool end = ends_here(p, ends);
            dan_jp_next(p);
            if (end) break;
            dan_jp_add(p, n, statement(p));
        }
    }
    p->depth--;
    return n;
}

struct jnode *dan_jin_parse(struct jin *j, struct jtoken *t)
{
    struct par p = {.j = j, .t = t};
    return body(&p, NULL);
}
