/* Operators on values. */
#include <math.h>
#include <string.h>
#include "text/jinja_impl.h"

bool dan_jin_undefined(struct jin *j, struct jv v)
{
    if (v.kind != J_UNDEF) return false;
    dan_jin_fail(j, DAN_EFORMAT, "'%s' is undefined", v.u.name ? v.u.name : "value");
    return true;
}

static struct jv concat(struct jin *j, struct jv a, struct jv b)
{
    struct jbuf out = {0};
    dan_jv_print(j, &out, a);
    dan_jv_print(j, &out, b);
    return dan_jbuf_str(&out);
}

static struct jv join_lists(struct jin *j, struct jv a, struct jv b)
{
    struct jv out = dan_jv_list(j, a.kind);
    for (size_t i = 0; i < a.u.l->n && dan_jin_step(j, 1); i++) dan_jlist_push(j, out.u.l, a.u.l->v[i]);
    for (size_t i = 0; i < b.u.l->n && dan_jin_step(j, 1); i++) dan_jlist_push(j, out.u.l, b.u.l->v[i]);
    return out;
}

static struct jv wrong(struct jin *j, const char *op, struct jv a, struct jv b)
{
    if (!dan_jin_undefined(j, a) && !dan_jin_undefined(j, b))
        dan_jin_fail(j, DAN_EFORMAT, "'%s' does not go with %s and %s", op, dan_jv_kind(a), dan_jv_kind(b));
    return dan_jv_none();
}

static struct jv repeat(struct jin *j, struct jv v, int64_t n)
{
    struct jbuf out = {0};
    struct jv l = v.kind == J_STR ? dan_jv_none() : dan_jv_list(j, v.kind);
    bool empty = v.kind == J_STR ? !v.u.s.n : !v.u.l->n;
    if (v.kind == J_STR && !empty && n > (int64_t)(j->o.max_output / v.u.s.n))
        dan_jin_fail(j, DAN_EINVAL, "a text gets longer than %zu bytes", j->o.max_output);
    for (int64_t i = 0; i < n && !empty && dan_jin_step(j, 1); i++) {
        if (v.kind == J_STR) dan_jbuf_put(j, &out, v.u.s.p, v.u.s.m, v.u.s.n);
        else
            for (size_t k = 0; k < v.u.l->n && dan_jin_step(j, 1); k++) dan_jlist_push(j, l.u.l, v.u.l->v[k]);
    }
    return v.kind == J_STR ? dan_jbuf_str(&out) : l;
}

static int64_t int_of(struct jv v) { return v.kind == J_BOOL ? v.u.b : v.u.i; }

static struct jv power(struct jin *j, struct jv a, struct jv b)
{
    if (a.kind == J_FLOAT || b.kind == J_FLOAT || int_of(b) < 0) return dan_jv_float(pow(dan_jv_num(a), dan_jv_num(b)));
    int64_t base = int_of(a), k = int_of(b), r = 1;
    if (base == 0 || base == 1) return dan_jv_int(k ? base : 1);
    if (base == -1) return dan_jv_int(k % 2 ? -1 : 1);
    while (k-- > 0 && dan_jin_step(j, 1))
        if (__builtin_mul_overflow(r, base, &r)) {
            dan_jin_fail(j, DAN_EUNSUPPORTED, "a number does not fit in 64 bits");
            break;
        }
    return dan_jv_int(r);
}

static struct jv divide(struct jin *j, char op, struct jv a, struct jv b)
{
    double x = dan_jv_num(a), y = dan_jv_num(b);
    if (y == 0) {
        dan_jin_fail(j, DAN_EFORMAT, "division by zero");
        return dan_jv_none();
    }
    if (op == ':') return dan_jv_float(x / y);
    if (a.kind == J_FLOAT || b.kind == J_FLOAT) {
        double m = fmod(x, y);
        if (m != 0 && (m < 0) != (y < 0)) m += y;
        return dan_jv_float(op == '%' ? m : floor((x - m) / y + 0.5));
    }
    int64_t p = int_of(a), q = int_of(b);
    if (q == -1) {
        int64_t neg = 0;
        if (op != '%' && __builtin_sub_overflow(0, p, &neg)) dan_jin_fail(j, DAN_EUNSUPPORTED, "a number does not fit in 64 bits");
        return dan_jv_int(neg);
    }
    int64_t m = p % q;
    if (m && (m < 0) != (q < 0)) m += q;
    return dan_jv_int(op == '%' ? m : (p - m) / q == p / q ? p / q : p / q - 1);
}

static struct jv arith(struct jin *j, char op, struct jv a, struct jv b)
{
    int64_t r = 0;

    if (a.kind == J_FLOAT || b.kind == J_FLOAT) {
        double x = dan_jv_num(a), y = dan_jv_num(b);
        return dan_jv_float(op == '+' ? x + y : op == '-' ? x - y : x * y);
    }
    int64_t p = int_of(a), q = int_of(b);
    bool over = op == '+' ? __builtin_add_overflow(p, q, &r) : op == '-' ? __builtin_sub_overflow(p, q, &r) : __builtin_mul_overflow(p, q, &r);
    if (over) dan_jin_fail(j, DAN_EUNSUPPORTED, "a number does not fit in 64 bits");
    return dan_jv_int(r);
}

struct jv dan_jin_add(struct jin *j, struct jv a, struct jv b)
{
    if (a.kind == J_STR && b.kind == J_STR) return concat(j, a, b);
    if (dan_jv_is_num(a) && dan_jv_is_num(b)) return arith(j, '+', a, b);
    if (dan_jv_seq(a) && a.kind == b.kind) return join_lists(j, a, b);
    return wrong(j, "+", a, b);
}

static struct jv times(struct jin *j, struct jv a, struct jv b)
{
    if (dan_jv_is_num(a) && dan_jv_is_num(b)) return arith(j, '*', a, b);
    if ((a.kind == J_STR || dan_jv_seq(a)) && (b.kind == J_INT || b.kind == J_BOOL)) return repeat(j, a, int_of(b));
    if ((b.kind == J_STR || dan_jv_seq(b)) && (a.kind == J_INT || a.kind == J_BOOL)) return repeat(j, b, int_of(a));
    return wrong(j, "*", a, b);
}

struct jv dan_jin_binary(struct jin *j, const char *op, struct jv a, struct jv b)
{
    if (j->failed) return dan_jv_none();
    if (*op == '~') return concat(j, a, b);
    if (*op == '+') return dan_jin_add(j, a, b);
    if (!strcmp(op, "*")) return times(j, a, b);
    if (*op == '%' && a.kind == J_STR && !dan_jin_undefined(j, b)) return dan_jin_percent(j, a.u.s, b);
    if (!dan_jv_is_num(a) || !dan_jv_is_num(b)) return wrong(j, op, a, b);
    if (*op == '-') return arith(j, '-', a, b);
    if (!strcmp(op, "**")) return power(j, a, b);
    return divide(j, !strcmp(op, "/") ? ':' : *op, a, b);
}

struct jv dan_jin_sign(struct jin *j, const char *op, struct jv v)
{
    if (!dan_jv_is_num(v)) return wrong(j, op, v, v);
    if (*op == '+') return v.kind == J_FLOAT ? v : dan_jv_int(int_of(v));
    return v.kind == J_FLOAT ? dan_jv_float(-v.u.f) : arith(j, '-', dan_jv_int(0), v);
}

bool dan_jin_compare(struct jin *j, const char *op, struct jv a, struct jv b)
{
    if (!strcmp(op, "==")) return dan_jv_eq(j, a, b);
    if (!strcmp(op, "!=")) return !dan_jv_eq(j, a, b);
    if (!strcmp(op, "in")) return dan_jin_in(j, a, b);
    if (!strcmp(op, "not in")) return !dan_jin_in(j, a, b);
    if (dan_jin_undefined(j, a) || dan_jin_undefined(j, b)) return false;
    if (dan_jv_is_num(a) && dan_jv_is_num(b) && (isnan(dan_jv_num(a)) || isnan(dan_jv_num(b)))) return false;
    int c = dan_jv_cmp(j, a, b);
    return *op == '<' ? c < (op[1] == '=') : c > -(op[1] == '=');
}
