/* SentencePiece's tokenizer.model: a protocol buffer, sentencepiece.ModelProto of its sentencepiece_model.proto.
 *
 *   1 pieces { 1 piece  2 score (float)  3 type }         2 trainer_spec { 3 model_type  24 treat_whitespace_as_suffix
 *   3 normalizer_spec, 5 denormalizer_spec                  35 byte_fallback  44 unk_surface  46 47 48 bos, eos, pad piece }
 *     { 2 precompiled_charsmap  3 add_dummy_prefix  4 remove_extra_whitespaces  5 escape_whitespaces }
 *
 * Unknown fields are passed over, as the format wants it; what is damaged is refused. */
#include <math.h>
#include <string.h>
#include "base/file.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "text/byte_pieces.h"
#include "text/sp_model.h"

/* --- the wire: (number << 3 | type) as a varint, then a varint (0), 8 bytes (1), a length and bytes (2), or 4 bytes (5) */

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };
struct wire { const char *p, *end, *begin; };  /* begin: of the file, for messages */
struct field { uint32_t number, type; uint64_t value; const char *p; size_t n; };

static int damaged(const struct wire *w, const char *where, const char *what, struct dan_err *e)
{
    return dan_fail(e, DAN_EFORMAT, "'%s' is no SentencePiece model, or is damaged: %s at byte %zu", where, what, (size_t)(w->p - w->begin));
}

static bool varint(struct wire *w, uint64_t *v)
{
    *v = 0;
    for (int shift = 0; shift < 70 && w->p < w->end; shift += 7) {
        unsigned char c = (unsigned char)*w->p++;
        if (shift == 63 && c > 1) return false;
        *v |= (uint64_t)(c & 0x7F) << shift;
        if (c < 0x80) return true;
    }
    return false;
}

static bool fixed(struct wire *w, size_t n, uint64_t *v)
{
    if ((size_t)(w->end - w->p) < n) return false;
    *v = 0;
    for (size_t i = 0; i < n; i++) *v |= (uint64_t)(unsigned char)w->p[i] << 8 * i;
    w->p += n;
    return true;
}

static bool bytes(struct wire *w, struct field *f)
{
    if (!varint(w, &f->value) || f->value > (uint64_t)(w->end - w->p)) return false;
    f->p = w->p;
    f->n = (size_t)f->value;
    w->p += f->n;
    return true;
}

/* The next field: 1, 0 at the end, or an error. */
static int next(struct wire *w, struct field *f, const char *where, struct dan_err *e)
{
    uint64_t key;
    bool good;
    if (w->p == w->end) return 0;
    if (!varint(w, &key) || key >> 3 == 0 || key >> 3 > 0x1FFFFFFF) return damaged(w, where, "a field without a number", e);
    *f = (struct field){.number = (uint32_t)(key >> 3), .type = (uint32_t)(key & 7)};
    switch (f->type) {
    case VARINT: good = varint(w, &f->value); break;
    case FIXED64: good = fixed(w, 8, &f->value); break;
    case BYTES: good = bytes(w, f); break;
    case FIXED32: good = fixed(w, 4, &f->value); break;
    default: return damaged(w, where, "a field of an unknown type", e);
    }
    return good ? 1 : damaged(w, where, "a field that is cut off", e);
}

static struct wire inside(const struct wire *w, const struct field *f) { return (struct wire){f->p, f->p + f->n, w->begin}; }
static bool is(const struct field *f, uint32_t number, uint32_t type) { return f->number == number && f->type == type; }

/* --- messages */

struct reader {
    struct dan_tok_spec *s;
    struct dan_sp_rules *r;
    struct dan_map *text, *reserved;           /* pieces of a text, and of control, unk and bytes: each once */
    struct dan_str bos, eos, pad;
    size_t type_cap;
    uint64_t algorithm;
    struct dan_err *e;
};

static void set_str(struct dan_str *s, const struct field *f)
{
    dan_str_clear(s);
    dan_str_append(s, f->p, f->n);
}

static int set_type(struct reader *k, uint64_t type)
{
    struct dan_sp_rules *r = k->r;
    if (type < DAN_SP_NORMAL || type > DAN_SP_BYTE)
        return dan_fail(k->e, DAN_EUNSUPPORTED, "piece %zu of '%s' has the type %llu; known are 1 to 6", r->n_type, k->s->where,
                        (unsigned long long)type);
    if (dan_vec_grow(&r->type, &k->type_cap, r->n_type + 1, 1))
        return dan_fail(k->e, DAN_ENOMEM, "out of memory for %zu pieces", r->n_type + 1);
    r->type[r->n_type++] = (uint8_t)type;
    return DAN_OK;
}

/* A piece in its own set: text and reserved names may be the same (a byte's piece can also be text). */
static int note_piece(struct reader *k, const char *p, size_t n, uint64_t type)
{
    bool reserved = type == DAN_SP_UNKNOWN || type == DAN_SP_CONTROL || type == DAN_SP_BYTE;
    int64_t had, id = (int64_t)k->r->n_type;
    struct dan_map *set = reserved ? k->reserved : k->text;
    if (n == 0 || dan_utf8_check(p, n) != n)
        return dan_fail(k->e, DAN_EFORMAT, "piece %lld of '%s' is empty or no UTF-8; the file is damaged", (long long)id, k->s->where);
    if (dan_map_get(set, p, n, &had))
        return dan_fail(k->e, DAN_EFORMAT, "piece %lld of '%s', '%.*s', is piece %lld already; the file is damaged", (long long)id,
                        k->s->where, (int)(n < 60 ? n : 60), p, (long long)had);
    if (dan_map_put(set, p, n, id)) return dan_fail(k->e, DAN_ENOMEM, "out of memory for %lld pieces", (long long)id + 1);
    return DAN_OK;
}

static int read_piece(struct reader *k, struct wire w)
{
    struct field f, text = {0};
    uint64_t type = DAN_SP_NORMAL;
    uint32_t bits = 0;
    float score;
    int r;
    while ((r = next(&w, &f, k->s->where, k->e)) > 0) {
        if (is(&f, 1, BYTES)) text = f;
        else if (is(&f, 2, FIXED32)) bits = (uint32_t)f.value;
        else if (is(&f, 3, VARINT)) type = f.value;
    }
    memcpy(&score, &bits, sizeof score);
    if (!r && !isfinite(score))
        return dan_fail(k->e, DAN_EFORMAT, "piece %zu of '%s' has a score that is no finite number; the file is damaged", k->r->n_type,
                        k->s->where);
    if (!r) r = note_piece(k, text.p, text.n, type);
    if (!r) r = dan_tok_spec_put(k->s, (int64_t)k->r->n_type, text.p, text.n, score, DAN_PIECE_MODEL, k->e);
    return r ? r : set_type(k, type);
}

static int read_trainer(struct reader *k, struct wire w)
{
    struct field f;
    int r;
    while ((r = next(&w, &f, k->s->where, k->e)) > 0) {
        if (is(&f, 3, VARINT)) k->algorithm = f.value;
        else if (is(&f, 24, VARINT)) k->r->suffix = f.value != 0;
        else if (is(&f, 35, VARINT)) k->s->byte_fallback = f.value != 0;
        else if (is(&f, 46, BYTES)) set_str(&k->bos, &f);
        else if (is(&f, 47, BYTES)) set_str(&k->eos, &f);
        else if (is(&f, 48, BYTES)) set_str(&k->pad, &f);
        else if (is(&f, 44, BYTES)) {
            struct dan_str surface = {0};
            dan_str_append(&surface, f.p, f.n);
            dan_free(k->r->unk_surface);
            k->r->unk_surface = surface.failed ? NULL : dan_strdup(dan_str_c(&surface));
            dan_str_release(&surface);
            if (!k->r->unk_surface) return dan_fail(k->e, DAN_ENOMEM, "out of memory for unk_surface");
        }
    }
    return r;
}

static int read_normal(struct reader *k, struct wire w, struct dan_sp_normal *to)
{
    struct field f;
    int r;
    while ((r = next(&w, &f, k->s->where, k->e)) > 0) {
        if (is(&f, 2, BYTES)) set_str(&to->charsmap, &f);
        else if (is(&f, 3, VARINT)) to->dummy_prefix = f.value != 0;
        else if (is(&f, 4, VARINT)) to->remove_spaces = f.value != 0;
        else if (is(&f, 5, VARINT)) to->escape_spaces = f.value != 0;
    }
    return r;
}

static int read_model(struct reader *k, struct wire w)
{
    struct field f;
    int r;
    while ((r = next(&w, &f, k->s->where, k->e)) > 0) {
        if (f.type != BYTES) continue;
        switch (f.number) {
        case 1: r = read_piece(k, inside(&w, &f)); break;
        case 2: r = read_trainer(k, inside(&w, &f)); break;
        case 3: r = read_normal(k, inside(&w, &f), &k->r->in); break;
        case 5: r = read_normal(k, inside(&w, &f), &k->r->out); break;
        default: r = 0;
        }
        if (r) return r;
    }
    return r;
}

/* --- what must hold, as in SentencePiece's own loader */

static int check_bytes(const struct reader *k)
{
    bool seen[256] = {false};
    size_t found = 0;
    for (size_t i = 0; i < k->s->n; i++) {
        if (k->r->type[i] != DAN_SP_BYTE) continue;
        const char *p = k->s->bytes.p + k->s->piece[i].at;
        int byte = dan_byte_of_piece(p, k->s->piece[i].n);
        if (byte < 0 || !k->s->byte_fallback)
            return dan_fail(k->e, DAN_EFORMAT, "piece %zu of '%s', '%.*s', is marked as a byte but %s; the file is damaged", i, k->s->where,
                            (int)(k->s->piece[i].n < 60 ? k->s->piece[i].n : 60), p,
                            byte < 0 ? "is not called like one" : "byte_fallback is off");
        found += !seen[byte];
        seen[byte] = true;
    }
    if (k->s->byte_fallback && found != 256)
        return dan_fail(k->e, DAN_EFORMAT, "'%s' says byte_fallback but has %zu of the 256 byte pieces; the file is damaged", k->s->where,
                        found);
    return DAN_OK;
}

static int find_unk(struct reader *k)
{
    k->s->unk = -1;
    for (size_t i = 0; i < k->s->n; i++) {
        if (k->r->type[i] != DAN_SP_UNKNOWN) continue;
        if (k->s->unk >= 0)
            return dan_fail(k->e, DAN_EFORMAT, "pieces %d and %zu of '%s' are both unknown; the file is damaged", k->s->unk, i,
                            k->s->where);
        k->s->unk = (int32_t)i;
    }
    if (k->s->unk < 0 && !k->s->byte_fallback)
        return dan_fail(k->e, DAN_EFORMAT, "'%s' has no unknown piece among its %zu; it is no SentencePiece model, or is damaged", k->s->where,
                        k->s->n);
    return DAN_OK;
}

/* The id of a name, if it is a control piece. */
static int32_t control(const struct reader *k, const struct dan_str *name, const char *otherwise)
{
    const char *p = name->n ? name->p : otherwise;
    int64_t id;
    if (!dan_map_get(k->reserved, p, name->n ? name->n : strlen(otherwise), &id)) return -1;
    return k->r->type[id] == DAN_SP_CONTROL ? (int32_t)id : -1;
}

/* Some converters write U+0000 beside <0x00>; SentencePiece takes it for unused, and refuses the character elsewhere. */
static int check_nul(const struct reader *k)
{
    for (size_t i = 0; i < k->s->n; i++) {
        const char *p = k->s->bytes.p + k->s->piece[i].at;
        size_t n = k->s->piece[i].n;
        if (!memchr(p, 0, n)) continue;
        if (n == 1 && (k->s->byte_fallback || k->r->type[i] == DAN_SP_UNUSED)) k->r->type[i] = DAN_SP_UNUSED;
        else return dan_fail(k->e, DAN_EFORMAT, "piece %zu of '%s' has the character U+0000; the file is damaged", i, k->s->where);
    }
    return DAN_OK;
}

static int finish(struct reader *k)
{
    struct dan_tok_spec *s = k->s;
    int r = find_unk(k);
    if (!r) r = check_nul(k);
    if (!r) r = check_bytes(k);
    if (r) return r;
    if (k->algorithm < DAN_SP_UNIGRAM || k->algorithm > DAN_SP_CHAR)
        return dan_fail(k->e, DAN_EUNSUPPORTED, "'%s' has the model_type %llu; known are 1 unigram, 2 bpe, 3 word, 4 char", s->where,
                        (unsigned long long)k->algorithm);
    k->r->algorithm = (enum dan_sp_algorithm)k->algorithm;
    k->r->denormalize = k->r->out.charsmap.n > 0;
    s->bos = control(k, &k->bos, "<s>");
    s->eos = control(k, &k->eos, "</s>");
    s->pad = control(k, &k->pad, "<pad>");
    if (k->bos.failed || k->eos.failed || k->pad.failed || k->r->in.charsmap.failed || k->r->out.charsmap.failed)
        return dan_fail(k->e, DAN_ENOMEM, "out of memory for the rules of '%s'", s->where);
    return dan_sp_rules_to_json(s, k->e);
}

static int read_file(struct reader *k, const struct dan_mapping *file)
{
    struct wire w = {file->p, file->p + file->n, file->p};
    k->text = dan_map_new();
    k->reserved = dan_map_new();
    k->r = k->s->sp = dan_sp_rules_new(DAN_SP_UNIGRAM, 0);
    if (!k->text || !k->reserved || !k->r) return dan_fail(k->e, DAN_ENOMEM, "out of memory for '%s'", k->s->where);
    k->r->out = k->r->in;
    int r = read_model(k, w);
    return r ? r : finish(k);
}

int dan_spec_from_sentencepiece(const char *path, struct dan_tok_spec *s, struct dan_err *e)
{
    struct dan_mapping file;
    struct reader k = {.s = s, .algorithm = DAN_SP_UNIGRAM, .e = e};
    int r = dan_map_file(path, &file, e);
    if (r) return r;
    r = read_file(&k, &file);
    dan_unmap_file(&file);
    dan_map_free(k.text);
    dan_map_free(k.reserved);
    dan_str_release(&k.bos);
    dan_str_release(&k.eos);
    dan_str_release(&k.pad);
    return r;
}
