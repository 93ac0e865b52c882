/* GGUF v2 and v3, little-endian: keys with values, tensors.  Reading is strict (every offset, count, length and product is
 * checked against the file's size before use; nothing is allocated on a number's word alone) and copies nothing: names,
 * strings, arrays and tensors are views of the mapped file.  ggml's docs/gguf.md is the source of the format. */
#ifndef DAN_IO_GGUF_H
#define DAN_IO_GGUF_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "core/buffer.h"
#include "io/pair.h"

enum dan_gguf_type {
    DAN_GGUF_U8, DAN_GGUF_I8, DAN_GGUF_U16, DAN_GGUF_I16, DAN_GGUF_U32, DAN_GGUF_I32, DAN_GGUF_F32, DAN_GGUF_BOOL, DAN_GGUF_STRING,
    DAN_GGUF_ARRAY, DAN_GGUF_U64, DAN_GGUF_I64, DAN_GGUF_F64, DAN_N_GGUF_TYPES
};
struct dan_gguf_text { const char *p; size_t n; };         /* not NUL-terminated */
static inline bool dan_gguf_text_is(struct dan_gguf_text t, const char *s) { return t.n == strlen(s) && (!t.n || !memcmp(t.p, s, t.n)); }
struct dan_gguf_value {
    enum dan_gguf_type type;                   /* of the value; ARRAY: `of` is the type of its n elements */
    enum dan_gguf_type of;
    uint64_t n;                                /* elements of an array, 1 otherwise */
    const char *data;                          /* as it lies in the file (unaligned) */
    size_t   bytes;                            /* of data */
};
struct dan_gguf_tensor {
    struct dan_gguf_text name;
    uint32_t type;                             /* ggml's number */
    const char *type_name;                     /* "Q4_K"; NULL: a number that the format does not name */
    const struct dan_dtype *dtype;             /* NULL: danlu lists it but cannot compute with it */
    struct dan_shape shape;                    /* outermost first: the file's order reversed */
    uint64_t offset, bytes;                    /* of the data in its file; bytes 0 when the type is not known */
    bool     whole;                            /* lies in the file; false only in a damaged one */
};

/* A sharded model, NAME-00001-of-00003.gguf, is opened as one by the name of any of its files; keys are those of the first. */
struct dan_gguf;
int  dan_gguf_open(const char *path, struct dan_gguf **out, struct dan_err *e);
void dan_gguf_close(struct dan_gguf *g);                                       /* NULL is fine; views die with it, stores from it do not */
/* As much as is good of a damaged file: *out is set even when this fails, unless not even the magic is there.  The message
 * says what is damaged; counts below are of what was read before that. */
int  dan_gguf_open_damaged(const char *path, struct dan_gguf **out, struct dan_err *e);

uint32_t dan_gguf_version(const struct dan_gguf *g);
size_t   dan_gguf_alignment(const struct dan_gguf *g);
size_t   dan_gguf_file_bytes(const struct dan_gguf *g);
const char *dan_gguf_path(const struct dan_gguf *g);
size_t   dan_gguf_n_keys(const struct dan_gguf *g);
struct dan_gguf_text dan_gguf_key(const struct dan_gguf *g, size_t i, struct dan_gguf_value *value);
size_t   dan_gguf_n_tensors(const struct dan_gguf *g);
const struct dan_gguf_tensor *dan_gguf_tensor(const struct dan_gguf *g, size_t i);
const char *dan_gguf_tensor_path(const struct dan_gguf *g, size_t i);          /* the file that holds it: a model may be sharded */

bool dan_gguf_find(const struct dan_gguf *g, const char *key, struct dan_gguf_value *out);
/* Any integer type (also bool), any number, a string: false when the key is absent or of another type or does not fit. */
bool dan_gguf_int(const struct dan_gguf *g, const char *key, int64_t *out);
bool dan_gguf_number(const struct dan_gguf *g, const char *key, double *out);
bool dan_gguf_string(const struct dan_gguf *g, const char *key, struct dan_gguf_text *out);
/* Element i of an array of numbers; strings go one after the other: *at starts with 0, false at the end. */
bool dan_gguf_int_at(const struct dan_gguf_value *v, uint64_t i, int64_t *out);
bool dan_gguf_number_at(const struct dan_gguf_value *v, uint64_t i, double *out);
bool dan_gguf_next_string(const struct dan_gguf_value *v, size_t *at, struct dan_gguf_text *out);
const char *dan_gguf_type_name(enum dan_gguf_type t);                          /* "string" */

/* The tensors as views of the mapping, which the store keeps alive.  Fails on the first that danlu cannot compute with. */
int  dan_gguf_store(const struct dan_gguf *g, struct dan_store **out, struct dan_err *e);

/* --- writing: keys in the order of the calls, then tensors in the order of the list; atomic, version 3; alignment 32, or what
 * "general.alignment" says if that is put.  A failure of out_* sticks and is returned by the write. */
struct dan_gguf_out;
int  dan_gguf_out_new(struct dan_gguf_out **out, struct dan_err *e);
void dan_gguf_out_free(struct dan_gguf_out *o);
/* A scalar or array value as raw little-endian bytes; the typed forms below are what callers use. */
void dan_gguf_out_raw(struct dan_gguf_out *o, const char *key, const struct dan_gguf_value *v);
void dan_gguf_out_u32(struct dan_gguf_out *o, const char *key, uint32_t v);
void dan_gguf_out_f32(struct dan_gguf_out *o, const char *key, float v);
void dan_gguf_out_bool(struct dan_gguf_out *o, const char *key, bool v);
void dan_gguf_out_string(struct dan_gguf_out *o, const char *key, const char *p, size_t n);
void dan_gguf_out_array(struct dan_gguf_out *o, const char *key, enum dan_gguf_type of, const void *v, size_t n);    /* numbers */
void dan_gguf_out_strings(struct dan_gguf_out *o, const char *key, const struct dan_gguf_text *v, size_t n);
struct dan_gguf_named { const char *name; const struct dan_tensor *t; };      /* any dtype that has a GGUF type */
int  dan_gguf_out_write(struct dan_gguf_out *o, const char *path, const struct dan_gguf_named *list, size_t n, struct dan_err *e);

#endif
