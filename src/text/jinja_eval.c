/* Runs the tree. */
#include <math.h>
#include <string.h>
#include "text/jinja_impl.h"

static struct jv eval(struct jin *j, struct jnode *n, struct jframe *f);
static void exec(struct jin *j, struct jnode *n, struct jframe *f);

static bool enter(struct jin *j)
{
    if (++j->depth > J_MAX_DEPTH) dan_jin_fail(j, DAN_EINVAL, "the template is nested too deeply (over %d)", J_MAX_DEPTH);
    return dan_jin_step(j, 1);
}

static struct jvar *find(struct jin *j, struct jframe *f, const char *name)
{
    for (; f; f = f->up)
        for (struct jvar *v = f->vars; v && dan_jin_step(j, 1); v = v->next)
            if (!strcmp(v->name, name)) return v;
    return NULL;
}

static void put(struct jin *j, struct jframe *f, const char *name, struct jv v)
{
    struct jframe one = {.vars = f->vars};
    struct jvar *old = find(j, &one, name);
    if (old) {
        old->v = v;
        return;
    }
    struct jvar *var = dan_jin_alloc(j, 1, sizeof *var);
    if (!var) return;
    *var = (struct jvar){.name = name, .v = v, .next = f->vars};
    f->vars = var;
}

static struct jframe *inner(struct jin *j, struct jframe *up)
{
    struct jframe *f = dan_jin_alloc(j, 1, sizeof *f);
    if (f) f->up = up;
    return f;
}

static struct jv loop_attr(struct jin *j, struct jloop *l, const char *name)
{
    static const char *const fields[] = {"index", "index0", "revindex", "revindex0", "first", "last", "length", "previtem", "nextitem", "depth", "depth0"};
    int64_t n = (int64_t)l->items->n, i = (int64_t)l->i;
    int at = 0;
    while (at < 11 && strcmp(fields[at], name)) at++;
    switch (at) {
    case 0: return dan_jv_int(i + 1);
    case 1: return dan_jv_int(i);
    case 2: return dan_jv_int(n - i);
    case 3: return dan_jv_int(n - i - 1);
    case 4: return dan_jv_bool(i == 0);
    case 5: return dan_jv_bool(i == n - 1);
    case 6: return dan_jv_int(n);
    case 7: return i ? l->items->v[i - 1] : dan_jv_undef("previtem");
    case 8: return i + 1 < n ? l->items->v[i + 1] : dan_jv_undef("nextitem");
    case 9: return dan_jv_int((int64_t)l->depth + 1);
    case 10: return dan_jv_int((int64_t)l->depth);
    default: break;
    }
    struct jv m;
    return dan_jin_method(j, (struct jv){.kind = J_LOOP, .u.loop = l}, name, &m) ? m : dan_jv_undef(name);
}

struct jv dan_jin_attr(struct jin *j, struct jv v, const char *name)
{
    struct jv out;
    if (dan_jin_undefined(j, v)) return v;
    if (v.kind == J_LOOP) return loop_attr(j, v.u.loop, name);
    if (v.kind != J_SPACE && dan_jin_method(j, v, name, &out)) return out;
    if (v.kind == J_DICT || v.kind == J_SPACE) {
        struct jv *at = dan_jdict_get(j, v.u.d, name);
        if (at) return *at;
    }
    return dan_jv_undef(name);
}

static struct jv at_index(struct jv v, int64_t i)
{
    int64_t n = v.kind == J_STR ? (int64_t)dan_jstr_chars(v.u.s) : (int64_t)v.u.l->n;
    if (i < 0) i += n;
    if (i < 0 || i >= n) return dan_jv_undef("index");
    if (v.kind != J_STR) return v.u.l->v[i];
    size_t from = dan_jstr_offset(v.u.s, (size_t)i);
    struct jstr rest = dan_jstr_sub(v.u.s, from, v.u.s.n);
    return dan_jv_of(dan_jstr_sub(rest, 0, dan_jstr_offset(rest, 1)));
}

struct jv dan_jin_item(struct jin *j, struct jv v, struct jv key)
{
    if (dan_jin_undefined(j, v)) return v;
    if (v.kind == J_DICT) {
        struct jv *at = dan_jdict_at(j, v.u.d, key);
        if (at) return *at;
    } else if ((dan_jv_seq(v) || v.kind == J_STR) && (key.kind == J_INT || key.kind == J_BOOL)) {
        if (v.kind == J_STR && !dan_jin_step(j, v.u.s.n / 16)) return dan_jv_none();
        return at_index(v, key.kind == J_INT ? key.u.i : key.u.b);
    }
    if (key.kind == J_STR) {
        char *name = dan_jin_name(j, key.u.s.p, key.u.s.n);
        return name ? dan_jin_attr(j, v, name) : dan_jv_none();
    }
    return dan_jv_undef("item");
}

bool dan_jin_in(struct jin *j, struct jv a, struct jv in)
{
    if (in.kind == J_STR) {
        if (a.kind == J_STR) return dan_jin_step(j, in.u.s.n / 16) && dan_jstr_find(in.u.s, a.u.s, 0) >= 0;
        dan_jin_fail(j, DAN_EFORMAT, "'in' a string needs a string, not a value of type %s", dan_jv_kind(a));
        return false;
    }
    if (in.kind == J_DICT) return dan_jdict_at(j, in.u.d, a) != NULL;
    struct jlist *l = dan_jv_items(j, in);
    for (size_t i = 0; l && i < l->n && dan_jin_step(j, 1); i++)
        if (dan_jv_eq(j, l->v[i], a)) return true;
    return false;
}

static struct jv compare(struct jin *j, struct jnode *n, struct jframe *f)
{
    struct jv left = eval(j, n->a, f);
    bool yes = true;
    for (size_t i = 0; i < n->n && yes && !j->failed; i++) {
        struct jv right = eval(j, n->kid[i]->a, f);
        yes = !j->failed && dan_jin_compare(j, n->kid[i]->name, left, right);
        left = right;
    }
    return dan_jv_bool(yes);
}

/* Room for `more` arguments of each kind. */
static void more_arguments(struct jin *j, struct jargs *a, size_t more)
{
    struct jv *v = dan_jin_alloc(j, a->n + more + 1, sizeof *v);
    struct jkw *kw = dan_jin_alloc(j, a->n_kw + more + 1, sizeof *kw);
    if (j->failed) return;
    if (a->n) memcpy(v, a->v, a->n * sizeof *v);
    if (a->n_kw) memcpy(kw, a->kw, a->n_kw * sizeof *kw);
    a->v = v;
    a->kw = kw;
}

/* *list and **dict */
static void unpacked(struct jin *j, struct jargs *a, const char *stars, struct jv v, size_t to_come)
{
    struct jlist *l = stars[1] ? NULL : dan_jv_items(j, v);
    if (stars[1] && v.kind != J_DICT) dan_jin_fail(j, DAN_EFORMAT, "** needs a dict, not a value of type %s", dan_jv_kind(v));
    if (j->failed) return;
    more_arguments(j, a, to_come + (l ? l->n : v.u.d->n));
    for (size_t i = 0; l && i < l->n && !j->failed; i++) a->v[a->n++] = l->v[i];
    for (size_t i = 0; !l && i < v.u.d->n && !j->failed; i++) {
        struct jv key = v.u.d->key[i];
        if (key.kind != J_STR) dan_jin_fail(j, DAN_EFORMAT, "** needs names as keys");
        else a->kw[a->n_kw++] = (struct jkw){.name = dan_jin_name(j, key.u.s.p, key.u.s.n), .v = v.u.d->val[i]};
    }
}

static void arguments(struct jin *j, struct jnode *n, struct jframe *f, struct jargs *a)
{
    *a = (struct jargs){0};
    more_arguments(j, a, n->n);
    for (size_t i = 0; i < n->n && !j->failed; i++) {
        struct jnode *k = n->kid[i];
        if (k->type == N_KW && *k->name == '*') unpacked(j, a, k->name, eval(j, k->a, f), n->n - i);
        else if (k->type == N_KW) a->kw[a->n_kw++] = (struct jkw){.name = k->name, .v = eval(j, k->a, f)};
        else a->v[a->n++] = eval(j, k, f);
    }
}

struct jv dan_jin_call(struct jin *j, struct jv f, struct jargs *a)
{
    if (j->failed || dan_jin_undefined(j, f)) return dan_jv_none();
    if (f.kind != J_FUNC) {
        dan_jin_fail(j, DAN_EFORMAT, "a value of type %s is no function", dan_jv_kind(f));
        return dan_jv_none();
    }
    return f.u.fn->call(j, f.u.fn, a);
}

static struct jv list_of(struct jin *j, struct jnode *n, struct jframe *f)
{
    struct jv out = dan_jv_list(j, n->type == N_LIST ? J_LIST : J_TUPLE);
    for (size_t i = 0; i < n->n && !j->failed; i++) dan_jlist_push(j, out.u.l, eval(j, n->kid[i], f));
    return out;
}

static struct jv dict_of(struct jin *j, struct jnode *n, struct jframe *f)
{
    struct jv out = dan_jv_dict(j);
    for (size_t i = 0; i + 1 < n->n && !j->failed; i += 2) {
        struct jv key = eval(j, n->kid[i], f), val = eval(j, n->kid[i + 1], f);
        if (!j->failed) dan_jdict_put(j, out.u.d, key, val);
    }
    return out;
}

static struct jv slice(struct jin *j, struct jnode *n, struct jframe *f)
{
    struct jnode *part[] = {n->b, n->c, n->d};
    struct jv of = eval(j, n->a, f), v[3];
    for (int i = 0; i < 3; i++) v[i] = part[i] ? eval(j, part[i], f) : dan_jv_none();
    return j->failed || dan_jin_undefined(j, of) ? dan_jv_none() : dan_jv_slice(j, of, v[0], v[1], v[2]);
}

static struct jv filter_or_test(struct jin *j, struct jnode *n, struct jframe *f)
{
    struct jargs a;
    struct jv v = eval(j, n->a, f);
    arguments(j, n, f, &a);
    if (j->failed) return dan_jv_none();
    j->line = n->line;
    return n->type == N_FILTER ? dan_jin_filter(j, n->name, v, &a) : dan_jv_bool(dan_jin_test(j, n->name, v, &a));
}

static struct jv name_of(struct jin *j, struct jnode *n, struct jframe *f)
{
    struct jvar *v = find(j, f, n->name);
    return v ? v->v : dan_jv_undef(n->name);
}

static struct jv eval_node(struct jin *j, struct jnode *n, struct jframe *f)
{
    struct jv a;
    struct jargs args;
    j->line = n->line;
    switch (n->type) {
    case N_CONST: return n->val;
    case N_NAME: return name_of(j, n, f);
    case N_LIST: case N_TUPLE: return list_of(j, n, f);
    case N_DICT: return dict_of(j, n, f);
    case N_ATTR: return dan_jin_attr(j, eval(j, n->a, f), n->name);
    case N_ITEM: a = eval(j, n->a, f); return dan_jin_item(j, a, eval(j, n->b, f));
    case N_SLICE: return slice(j, n, f);
    case N_CALL:
        a = eval(j, n->a, f);
        arguments(j, n, f, &args);
        j->line = n->line;
        return dan_jin_call(j, a, &args);
    case N_FILTER: case N_TEST: return filter_or_test(j, n, f);
    case N_UNARY: return dan_jin_sign(j, n->name, eval(j, n->a, f));
    case N_BINARY: a = eval(j, n->a, f); return dan_jin_binary(j, n->name, a, eval(j, n->b, f));
    case N_AND: a = eval(j, n->a, f); return dan_jv_truth(a) ? eval(j, n->b, f) : a;
    case N_OR: a = eval(j, n->a, f); return dan_jv_truth(a) ? a : eval(j, n->b, f);
    case N_NOT: return dan_jv_bool(!dan_jv_truth(eval(j, n->a, f)));
    case N_COMPARE: return compare(j, n, f);
    case N_COND:
        if (dan_jv_truth(eval(j, n->b, f))) return eval(j, n->a, f);
        return n->c ? eval(j, n->c, f) : dan_jv_undef("value");
    default: return dan_jv_none();
    }
}

static struct jv eval(struct jin *j, struct jnode *n, struct jframe *f)
{
    struct jv v = dan_jv_none();
    if (n && enter(j)) v = eval_node(j, n, f);
    j->depth--;
    return j->failed ? dan_jv_none() : v;
}

/* --- statements */

static void unpack(struct jin *j, struct jnode *to, struct jv v, struct jframe *f)
{
    struct jlist *l = dan_jv_items(j, v);
    if (!l) return;
    if (l->n != to->n) {
        dan_jin_fail(j, DAN_EFORMAT, "%zu values cannot be set to %zu names", l->n, to->n);
        return;
    }
    for (size_t i = 0; i < to->n && !j->failed; i++) {
        if (to->kid[i]->type == N_TUPLE) unpack(j, to->kid[i], l->v[i], f);
        else put(j, f, to->kid[i]->name, l->v[i]);
    }
}

static void set_ref(struct jin *j, struct jnode *to, struct jv v, struct jframe *f)
{
    struct jv of = eval(j, to->a, f);
    if (j->failed) return;
    if (of.kind != J_SPACE) dan_jin_fail(j, DAN_EFORMAT, "'%s' is no namespace, so '%s' cannot be set", to->a->name, to->name);
    else dan_jdict_put(j, of.u.d, dan_jv_text(to->name), v);
}

static void assign(struct jin *j, struct jnode *to, struct jv v, struct jframe *f)
{
    if (j->failed) return;
    if (to->type == N_TUPLE) unpack(j, to, v, f);
    else if (to->type == N_NSREF) set_ref(j, to, v, f);
    else put(j, f, to->name, v);
}

/* The text that a body makes. */
static struct jv capture(struct jin *j, struct jnode *body, struct jframe *f)
{
    struct jbuf b = {0}, *old = j->out;
    j->out = &b;
    exec(j, body, f);
    j->out = old;
    return dan_jbuf_str(&b);
}

static struct jv filtered(struct jin *j, struct jnode *filters, struct jv v, struct jframe *f)
{
    struct jargs a;
    if (!filters) return v;
    v = filtered(j, filters->a, v, f);
    arguments(j, filters, f, &a);
    return j->failed ? v : dan_jin_filter(j, filters->name, v, &a);
}

/* Binds the macro's parameters in g. */
static void bind(struct jin *j, const struct jnode *m, struct jargs *a, struct jframe *g)
{
    size_t used = 0;
    if (a->n > m->n) dan_jin_fail(j, DAN_EFORMAT, "macro '%s' takes at most %zu arguments", m->name, m->n);
    for (size_t i = 0; i < m->n && !j->failed; i++) {
        struct jnode *p = m->kid[i];
        struct jv v = dan_jv_undef(p->name);
        bool given = i < a->n;
        if (given) v = a->v[i];
        for (size_t k = 0; k < a->n_kw; k++)
            if (!strcmp(a->kw[k].name, p->name)) {
                v = a->kw[k].v;
                given = true;
                used++;
            }
        put(j, g, p->name, given || !p->a ? v : eval(j, p->a, g));
    }
    for (size_t k = 0; k < a->n_kw; k++)
        if (!strcmp(a->kw[k].name, "caller")) {
            put(j, g, "caller", a->kw[k].v);
            used++;
        }
    if (used < a->n_kw) dan_jin_fail(j, DAN_EFORMAT, "macro '%s' does not take an argument of that name", m->name);
}

static struct jv call_macro(struct jin *j, struct jfunc *fn, struct jargs *a)
{
    struct jframe *g = inner(j, fn->frame);
    struct jv out = dan_jv_none();
    if (g && enter(j)) {
        bind(j, fn->macro, a, g);
        enum jflow flow = j->flow;
        j->flow = FLOW_GO;
        out = capture(j, fn->macro->b, g);
        j->flow = flow;
    }
    j->depth--;
    return out;
}

static struct jv macro_of(struct jin *j, struct jnode *n, struct jframe *f)
{
    struct jfunc *fn = dan_jin_alloc(j, 1, sizeof *fn);
    if (!fn) return dan_jv_none();
    *fn = (struct jfunc){.name = n->name, .call = call_macro, .macro = n, .frame = f};
    return (struct jv){.kind = J_FUNC, .u.fn = fn};
}

static void call_block(struct jin *j, struct jnode *n, struct jframe *f)
{
    struct jargs a;
    struct jv fn = eval(j, n->a->a, f);
    arguments(j, n->a, f, &a);
    if (j->failed) return;
    struct jkw *kw = dan_jin_alloc(j, a.n_kw + 1, sizeof *kw);
    if (!kw) return;
    if (a.n_kw) memcpy(kw, a.kw, a.n_kw * sizeof *kw);
    kw[a.n_kw++] = (struct jkw){.name = "caller", .v = macro_of(j, n->b, f)};
    a.kw = kw;
    dan_jv_print(j, j->out, dan_jin_call(j, fn, &a));
}

/* The items that pass the loop's own `if`. */
static struct jlist *chosen(struct jin *j, struct jnode *n, struct jlist *all, struct jframe *f)
{
    struct jv out = dan_jv_list(j, J_LIST);
    for (size_t i = 0; i < all->n && dan_jin_step(j, 1); i++) {
        struct jframe *g = inner(j, f);
        if (!g) break;
        assign(j, n->d->a, all->v[i], g);
        if (dan_jv_truth(eval(j, n->d->b, g))) dan_jlist_push(j, out.u.l, all->v[i]);
    }
    return j->failed ? NULL : out.u.l;
}

static void for_(struct jin *j, struct jnode *n, struct jframe *f)
{
    struct jlist *items = dan_jv_items(j, eval(j, n->a, f));
    if (items && n->d->b) items = chosen(j, n, items, f);
    struct jloop *loop = dan_jin_alloc(j, 1, sizeof *loop);
    if (!items || !loop) return;
    loop->items = items;
    for (size_t i = 0; i < items->n && dan_jin_step(j, 1); i++) {
        struct jframe *g = inner(j, f);
        if (!g) return;
        loop->i = i;
        put(j, g, "loop", (struct jv){.kind = J_LOOP, .u.loop = loop});
        assign(j, n->d->a, items->v[i], g);
        exec(j, n->b, g);
        enum jflow flow = j->flow;
        j->flow = FLOW_GO;
        if (flow == FLOW_BREAK) break;
    }
    if (!items->n && n->c) {
        struct jframe *g = inner(j, f);
        if (g) exec(j, n->c, g);
    }
}

static void generation(struct jin *j, struct jnode *n, struct jframe *f)
{
    size_t from = j->out->n;
    struct jframe *g = inner(j, f);
    if (!g) return;
    exec(j, n->b, g);
    if (j->out == &j->main && j->spans) dan_spans_push(j->spans, from, j->out->n);
}

static void with(struct jin *j, struct jnode *n, struct jframe *f)
{
    struct jframe *g = inner(j, f);
    for (size_t i = 0; g && i < n->n && !j->failed; i++) assign(j, n->kid[i]->a, eval(j, n->kid[i]->b, f), g);
    if (g && !j->failed) exec(j, n->b, g);
}

static void block_text(struct jin *j, struct jnode *n, struct jframe *f)
{
    struct jframe *g = inner(j, f);
    if (!g) return;
    struct jv v = filtered(j, n->c, capture(j, n->b, g), f);
    if (n->type == N_SETBLOCK) assign(j, n->a, v, f);
    else if (!j->failed) dan_jv_print(j, j->out, v);
}

static void exec_node(struct jin *j, struct jnode *n, struct jframe *f)
{
    j->line = n->line;
    switch (n->type) {
    case N_DATA: dan_jv_print(j, j->out, n->val); break;
    case N_OUT: dan_jv_print(j, j->out, eval(j, n->a, f)); break;
    case N_BODY:
        for (size_t i = 0; i < n->n && !j->failed && j->flow == FLOW_GO; i++) exec(j, n->kid[i], f);
        break;
    case N_IF:
        while (n && n->type == N_IF && !dan_jv_truth(eval(j, n->a, f)) && !j->failed) n = n->c;
        if (n && !j->failed) exec(j, n->type == N_IF ? n->b : n, f);
        break;
    case N_FOR: for_(j, n, f); break;
    case N_SET: assign(j, n->a, eval(j, n->b, f), f); break;
    case N_SETBLOCK: case N_FILTERBLOCK: block_text(j, n, f); break;
    case N_MACRO: put(j, f, n->name, macro_of(j, n, f)); break;
    case N_CALLBLOCK: call_block(j, n, f); break;
    case N_GENERATION: generation(j, n, f); break;
    case N_WITH: with(j, n, f); break;
    case N_BREAK: j->flow = FLOW_BREAK; break;
    case N_CONTINUE: j->flow = FLOW_CONTINUE; break;
    default: break;
    }
}

static void exec(struct jin *j, struct jnode *n, struct jframe *f)
{
    if (n && enter(j)) exec_node(j, n, f);
    j->depth--;
}

void dan_jin_run(struct jin *j, struct jnode *root, struct jframe *f) { exec(j, root, f); }
