/* One rendering from start to end, and the functions that every template has. */
#include "text/jinja.h"
#include <string.h>
#include <time.h>
#include "base/utf8.h"
#include "text/jinja_impl.h"

static struct jv g_raise(struct jin *j, struct jfunc *f, struct jargs *a)
{
    (void)f;
    struct jv v = dan_jv_str(j, dan_jarg(a, 0, "message", dan_jv_text("")));
    if (!j->failed) dan_jin_fail(j, DAN_EFORMAT, "the template refuses: %.*s", (int)(v.u.s.n < 300 ? v.u.s.n : 300), v.u.s.p);
    return dan_jv_none();
}

static struct jv g_range(struct jin *j, struct jfunc *f, struct jargs *a)
{
    (void)f;
    struct jv out = dan_jv_list(j, J_LIST);
    int64_t x[3] = {0, 0, 1};
    bool ok = a->n >= 1 && a->n <= 3;
    for (size_t i = 0; ok && i < a->n; i++) {
        ok = a->v[i].kind == J_INT;
        x[a->n == 1 ? 1 : i] = a->v[i].u.i;
    }
    if (!ok || !x[2]) dan_jin_fail(j, DAN_EFORMAT, "range needs one to three whole numbers, the third not 0");
    for (int64_t i = x[0]; (x[2] > 0 ? i < x[1] : i > x[1]) && dan_jin_step(j, 1);) {
        if (out.u.l->n >= 100000) dan_jin_fail(j, DAN_EINVAL, "range has more than 100000 numbers");
        dan_jlist_push(j, out.u.l, dan_jv_int(i));
        if (__builtin_add_overflow(i, x[2], &i)) break;
    }
    return out;
}

/* namespace(...) and dict(...) */
static struct jv g_dict(struct jin *j, struct jfunc *f, struct jargs *a)
{
    struct jv out = dan_jv_dict(j);
    for (size_t i = 0; a->n && a->v[0].kind == J_DICT && i < a->v[0].u.d->n && !j->failed; i++)
        dan_jdict_put(j, out.u.d, a->v[0].u.d->key[i], a->v[0].u.d->val[i]);
    if (a->n > 1 || (a->n && a->v[0].kind != J_DICT)) dan_jin_fail(j, DAN_EUNSUPPORTED, "%s takes a dict and named arguments", f->name);
    for (size_t i = 0; i < a->n_kw && !j->failed; i++) dan_jdict_put(j, out.u.d, dan_jv_text(a->kw[i].name), a->kw[i].v);
    if (!j->failed && *f->name == 'n') out.kind = J_SPACE;
    return out;
}

/* Nothing when it is called first, then the separator. */
static struct jv join_next(struct jin *j, struct jfunc *f, struct jargs *a)
{
    (void)j, (void)a;
    struct jv v = f->used ? f->self : dan_jv_text("");
    f->used = true;
    return v;
}

static struct jv g_joiner(struct jin *j, struct jfunc *f, struct jargs *a)
{
    (void)f;
    struct jfunc *fn = dan_jin_alloc(j, 1, sizeof *fn);
    if (!fn) return dan_jv_none();
    *fn = (struct jfunc){.name = "joiner", .call = join_next, .self = dan_jarg(a, 0, "sep", dan_jv_text(", "))};
    return (struct jv){.kind = J_FUNC, .u.fn = fn};
}

static struct jv g_now(struct jin *j, struct jfunc *f, struct jargs *a)
{
    (void)f;
    char text[256];
    struct tm tm;
    time_t t = (time_t)j->o.now;
    struct jv v = dan_jarg(a, 0, "format", dan_jv_none());
    if (v.kind != J_STR || v.u.s.n > 100 || !gmtime_r(&t, &tm)) {
        dan_jin_fail(j, DAN_EFORMAT, "strftime_now needs a short format");
        return v;
    }
    char *fmt = dan_jin_name(j, v.u.s.p, v.u.s.n);
    size_t n = fmt ? strftime(text, sizeof text, fmt, &tm) : 0;
    char *copy = dan_jin_name(j, text, n);
    return copy ? dan_jv_of((struct jstr){.p = copy, .n = n}) : dan_jv_none();
}

static void global(struct jin *j, struct jframe *f, const char *name, struct jv v)
{
    struct jvar *var = dan_jin_alloc(j, 1, sizeof *var);
    if (!var) return;
    *var = (struct jvar){.name = name, .v = v, .next = f->vars};
    f->vars = var;
}

void dan_jin_globals(struct jin *j, struct jframe *f)
{
    static const struct { const char *name; struct jv (*call)(struct jin *, struct jfunc *, struct jargs *); } all[] = {
        {"raise_exception", g_raise}, {"range", g_range}, {"namespace", g_dict}, {"dict", g_dict}, {"joiner", g_joiner}, {"strftime_now", g_now}};
    size_t n = sizeof all / sizeof *all - !j->o.has_now;
    for (size_t i = 0; i < n; i++) {
        struct jfunc *fn = dan_jin_alloc(j, 1, sizeof *fn);
        if (!fn) return;
        *fn = (struct jfunc){.name = all[i].name, .call = all[i].call};
        global(j, f, all[i].name, (struct jv){.kind = J_FUNC, .u.fn = fn});
    }
}

static void variables(struct jin *j, struct jframe *f, const json_t *vars, bool user)
{
    if (!vars) return;
    struct jv d = dan_jv_from_json(j, vars, user ? DAN_JINJA_USER : 0, 0);
    for (size_t i = 0; !j->failed && d.kind == J_DICT && i < d.u.d->n; i++)
        global(j, f, dan_jin_name(j, d.u.d->key[i].u.s.p, d.u.d->key[i].u.s.n), d.u.d->val[i]);
}

static void render(struct jin *j, const char *text, size_t n, const json_t *trusted, const json_t *user)
{
    struct jframe globals = {0}, vars = {.up = &globals};
    dan_jin_globals(j, &globals);
    struct jtoken *t = dan_jin_lex(j, text, n);
    struct jnode *root = t ? dan_jin_parse(j, t) : NULL;
    variables(j, &vars, trusted, false);
    variables(j, &vars, user, true);
    j->depth = 0;
    if (root && !j->failed) dan_jin_run(j, root, &vars);
}

static void give_out(struct jin *j, struct dan_jinja_out *out)
{
    dan_str_append(&out->text, j->main.n ? j->main.p : "", j->main.n);
    dan_str_append(&out->mark, j->main.n ? (const char *)j->main.m : "", j->main.n);
    if (out->text.failed || out->mark.failed || out->generation.failed) dan_jin_fail(j, DAN_ENOMEM, "not enough memory");
}

int dan_jinja_render(const char *text, size_t n, const json_t *trusted, const json_t *user, const struct dan_jinja_opts *o,
                     struct dan_jinja_out *out, struct dan_err *e)
{
    struct jin j = {.e = e, .spans = &out->generation, .line = 1};
    if (dan_utf8_check(text, n) != n) return dan_fail(e, DAN_EFORMAT, "chat template: byte %zu is not UTF-8", dan_utf8_check(text, n));
    if (n > (size_t)4 << 20) return dan_fail(e, DAN_EINVAL, "chat template: %zu bytes; more than 4 MiB are refused", n);
    if (o) j.o = *o;
    if (!j.o.max_steps) j.o.max_steps = 20000000;
    if (!j.o.max_memory) j.o.max_memory = (size_t)256 << 20;
    if (!j.o.max_output) j.o.max_output = (size_t)64 << 20;
    j.arena = dan_arena_new();
    if (!j.arena) return dan_fail(e, DAN_ENOMEM, "not enough memory for a chat template");
    j.out = &j.main;
    render(&j, text, n, trusted, user);
    if (!j.failed) give_out(&j, out);
    dan_arena_free(j.arena);
    return j.failed ? j.code : DAN_OK;
}

void dan_jinja_out_release(struct dan_jinja_out *out)
{
    dan_str_release(&out->text);
    dan_str_release(&out->mark);
    dan_spans_release(&out->generation);
    *out = (struct dan_jinja_out){0};
}
