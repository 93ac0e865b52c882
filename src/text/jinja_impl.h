/* What the parts of the template interpreter share: values, tokens, the tree, the state of one rendering.  A failure sticks in
 * struct jin: after it every function gives something harmless, and loops end. */
#ifndef DAN_TEXT_JINJA_IMPL_H
#define DAN_TEXT_JINJA_IMPL_H
#include "base/arena.h"
#include "text/jinja.h"

enum jkind { J_UNDEF, J_NONE, J_BOOL, J_INT, J_FLOAT, J_STR, J_LIST, J_TUPLE, J_DICT, J_SPACE, J_LOOP, J_FUNC };

/* Text with the marks of its bytes; m NULL: all 0. */
struct jstr { const char *p; const uint8_t *m; size_t n; };
struct jv {
    enum jkind kind;
    union {
        bool b;
        int64_t i;
        double f;
        struct jstr s;
        struct jlist *l;
        struct jdict *d;
        struct jloop *loop;
        struct jfunc *fn;
        const char *name;                      /* of what is undefined */
    } u;
};
struct jlist { struct jv *v; size_t n, cap; };
struct jdict { struct jv *key, *val; size_t n, cap; };
struct jloop { struct jlist *items; size_t i, depth; struct jlist *last; };      /* last: what loop.changed was asked about */

struct jkw { const char *name; struct jv v; };
struct jargs { struct jv *v; size_t n; struct jkw *kw; size_t n_kw; };
struct jin;
struct jmethod;
struct jframe;
struct jfunc {
    const char *name;
    struct jv (*call)(struct jin *j, struct jfunc *f, struct jargs *a);
    struct jv self;
    bool used;                                 /* joiner: called before */
    const struct jmethod *method;
    const struct jnode *macro;
    struct jframe *frame;
};

enum jtok { T_END, T_DATA, T_NAME, T_INT, T_FLOAT, T_STR, T_OP, T_BLOCK, T_BLOCK_END, T_VAR, T_VAR_END };
struct jtoken { enum jtok type; int line; const char *p; size_t n; int64_t i; double f; };

enum jntype {
    N_DATA, N_OUT, N_IF, N_FOR, N_SET, N_SETBLOCK, N_MACRO, N_CALLBLOCK, N_FILTERBLOCK, N_GENERATION, N_BREAK, N_CONTINUE, N_BODY, N_DO,
    N_CONST, N_NAME, N_LIST, N_TUPLE, N_DICT, N_ATTR, N_ITEM, N_SLICE, N_CALL, N_FILTER, N_TEST, N_UNARY, N_BINARY, N_AND, N_OR, N_NOT,
    N_COMPARE, N_COND, N_KW, N_NSREF, N_WITH
};
struct jnode {
    enum jntype type;
    int line;
    const char *name;                          /* identifier or operator */
    struct jv val;
    struct jnode *a, *b, *c, *d;
    struct jnode **kid;
    size_t n, cap;
};

struct jvar { const char *name; struct jv v; struct jvar *next; };
struct jframe { struct jvar *vars; struct jframe *up; };
struct jbuf { char *p; uint8_t *m; size_t n, cap; bool marked; };

enum jflow { FLOW_GO, FLOW_BREAK, FLOW_CONTINUE };
enum { J_MAX_DEPTH = 150 };
struct jin {
    struct dan_arena *arena;
    char *at;
    size_t room, used;
    struct dan_jinja_opts o;
    int64_t steps;
    int depth, line;
    bool failed;
    int code;
    struct dan_err *e;
    struct jbuf *out;
    struct jbuf main;
    struct dan_spans *spans;
    enum jflow flow;
};

/* --- jinja_value.c */
void  dan_jin_fail(struct jin *j, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void *dan_jin_alloc(struct jin *j, size_t n, size_t size);       /* zeroed; NULL after a failure */
bool  dan_jin_step(struct jin *j, size_t n);                     /* false: over the limit */
char *dan_jin_name(struct jin *j, const char *p, size_t n);
void  dan_jbuf_put(struct jin *j, struct jbuf *b, const char *p, const uint8_t *m, size_t n);
void  dan_jbuf_puts(struct jin *j, struct jbuf *b, const char *text);
void  dan_jbuf_char(struct jin *j, struct jbuf *b, char c, uint8_t mark);
struct jv dan_jbuf_str(struct jbuf *b);
struct jv dan_jv_none(void);
struct jv dan_jv_undef(const char *name);
struct jv dan_jv_bool(bool b);
struct jv dan_jv_int(int64_t i);
struct jv dan_jv_float(double f);
struct jv dan_jv_text(const char *p);                            /* not copied */
struct jv dan_jv_list(struct jin *j, enum jkind kind);
struct jv dan_jv_dict(struct jin *j);
void  dan_jlist_push(struct jin *j, struct jlist *l, struct jv v);
void  dan_jdict_put(struct jin *j, struct jdict *d, struct jv key, struct jv val);
struct jv *dan_jdict_at(struct jin *j, const struct jdict *d, struct jv key);
struct jv *dan_jdict_get(struct jin *j, const struct jdict *d, const char *key);
bool  dan_jv_truth(struct jv v);
bool  dan_jv_is_num(struct jv v);
double dan_jv_num(struct jv v);
bool  dan_jv_seq(struct jv v);                                   /* list or tuple */
bool  dan_jv_eq(struct jin *j, struct jv a, struct jv b);
int   dan_jv_cmp(struct jin *j, struct jv a, struct jv b);       /* fails for kinds that have no order */
const char *dan_jv_kind(struct jv v);                            /* Python's name of its type */
void  dan_jv_print(struct jin *j, struct jbuf *b, struct jv v);  /* str() */
void  dan_jv_repr(struct jin *j, struct jbuf *b, struct jv v);
struct jv dan_jv_str(struct jin *j, struct jv v);
struct jv dan_jv_from_json(struct jin *j, const json_t *v, uint8_t mark, int level);  /* level 0: the variables */
struct jlist *dan_jv_items(struct jin *j, struct jv v);          /* what a loop over v goes through; NULL after a failure */
/* --- jinja_text.c */
size_t dan_jstr_chars(struct jstr s);
struct jstr dan_jstr_sub(struct jstr s, size_t from, size_t to); /* bytes */
size_t dan_jstr_offset(struct jstr s, size_t chars);             /* byte offset of a character */
bool   dan_jstr_space(struct jstr s, size_t i, size_t *n);       /* is the character at byte i white space, as Python's isspace */
struct jstr dan_jstr_strip(struct jstr s, const struct jstr *set, bool left, bool right);
ptrdiff_t dan_jstr_find(struct jstr s, struct jstr what, size_t from);
struct jv dan_jv_of(struct jstr s);
struct jv dan_jv_case(struct jin *j, struct jstr s, int how);    /* 'u', 'l', 'c' capitalize, 't' str.title, 'T' the filter title */
struct jv dan_jv_replace(struct jin *j, struct jstr s, struct jstr from, struct jstr to, int64_t most);
struct jv dan_jv_slice(struct jin *j, struct jv v, struct jv from, struct jv to, struct jv by);
bool   dan_jin_method(struct jin *j, struct jv self, const char *name, struct jv *out);
struct jmethod { enum jkind of; const char *name; struct jv (*call)(struct jin *j, struct jv self, struct jargs *a, const char *name); };
struct jstr dan_jarg_str(struct jin *j, struct jargs *a, size_t i, const char *name);      /* an argument that must be a string */
/* --- jinja_more.c: what templates seldom use; tables end with a NULL name */
struct jfilter { const char *name; struct jv (*call)(struct jin *j, struct jv v, struct jargs *a, const char *name); };
extern const struct jfilter dan_jin_more_filters[];
extern const struct jmethod dan_jin_more_methods[];
/* --- jinja_format.c */
struct jv dan_jin_percent(struct jin *j, struct jstr f, struct jv args);         /* f % args */
struct jv dan_jin_braces(struct jin *j, struct jstr f, struct jargs *a);         /* f.format(...) */
/* --- jinja_json.c */
struct jv dan_jin_tojson(struct jin *j, struct jv v, struct jargs *a);
/* --- jinja_lex.c, jinja_parse.c */
struct jtoken *dan_jin_lex(struct jin *j, const char *p, size_t n);      /* ends with T_END */
struct jnode *dan_jin_parse(struct jin *j, struct jtoken *t);
/* --- jinja_filter.c */
struct jv dan_jin_filter(struct jin *j, const char *name, struct jv v, struct jargs *a);
bool   dan_jin_test(struct jin *j, const char *name, struct jv v, struct jargs *a);
bool   dan_jin_has_filter(const char *name);
bool   dan_jin_has_test(const char *name);
struct jv dan_jarg(struct jargs *a, size_t i, const char *name, struct jv dflt);
/* --- jinja_op.c */
bool   dan_jin_undefined(struct jin *j, struct jv v);            /* fails if it is */
struct jv dan_jin_add(struct jin *j, struct jv a, struct jv b);
struct jv dan_jin_binary(struct jin *j, const char *op, struct jv a, struct jv b);
struct jv dan_jin_sign(struct jin *j, const char *op, struct jv v);
bool   dan_jin_compare(struct jin *j, const char *op, struct jv a, struct jv b);
/* --- jinja_eval.c */
struct jv dan_jin_attr(struct jin *j, struct jv v, const char *name);
struct jv dan_jin_item(struct jin *j, struct jv v, struct jv key);
bool   dan_jin_in(struct jin *j, struct jv a, struct jv in);
struct jv dan_jin_call(struct jin *j, struct jv f, struct jargs *a);
void   dan_jin_run(struct jin *j, struct jnode *root, struct jframe *f);
/* --- jinja_global.c */
void   dan_jin_globals(struct jin *j, struct jframe *f);

#endif
