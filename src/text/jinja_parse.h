/* What the two halves of the template parser share.  `is` looks, `take` looks and moves on, `want` fails when it is not there. */
#ifndef DAN_TEXT_JINJA_PARSE_H
#define DAN_TEXT_JINJA_PARSE_H
#include "text/jinja_impl.h"

struct par { struct jin *j; struct jtoken *t; int depth; int loops; struct jnode none; };

struct jnode *dan_jp_node(struct par *p, enum jntype type, struct jnode *a, struct jnode *b);
void dan_jp_add(struct par *p, struct jnode *n, struct jnode *kid);
void dan_jp_next(struct par *p);
bool dan_jp_is(const struct par *p, const char *op);
bool dan_jp_is_name(const struct par *p, const char *name);
bool dan_jp_take(struct par *p, const char *op);
bool dan_jp_take_name(struct par *p, const char *name);
void dan_jp_want(struct par *p, const char *op);
void dan_jp_want_type(struct par *p, enum jtok type, const char *what);
const char *dan_jp_want_name(struct par *p);
const char *dan_jp_shown(const struct jtoken *t);
bool dan_jp_deeper(struct par *p);
struct jnode *dan_jp_expr(struct par *p);
struct jnode *dan_jp_tuple(struct par *p, bool with_if, bool parens);   /* one expression, or several with commas */
struct jnode *dan_jp_filter(struct par *p, struct jnode *of);
struct jnode *dan_jp_constant(struct par *p, struct jv v);              /* made of the current token */
void dan_jp_arguments(struct par *p, struct jnode *call);

#endif
