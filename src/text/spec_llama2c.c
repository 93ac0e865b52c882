/* llama2.c's tokenizer.bin: int32 longest piece in bytes, then to the end of the file, for each id, float score, int32 length,
 * bytes.  Pieces are written as text (a space is a space); id 0 is unk, 1 and 2 begin and end a text (named "\n<s>\n" and
 * "\n</s>\n" for printing), 3 to 258 are the bytes.  Its encoder puts a space before a text, then merges the adjacent pair whose joined
 * text scores highest; a character that is no piece becomes its bytes. */
#include <math.h>
#include <string.h>
#include "base/file.h"
#include "base/mem.h"
#include "text/byte_pieces.h"
#include "text/sp_model.h"

enum { FIRST_BYTE = 3, N_BYTES = 256 };

static uint32_t u32(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;
    return u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
}

struct piece { float score; const char *p; size_t n; };

/* The piece at *at, which moves behind it. */
static int next(const struct dan_mapping *f, size_t *at, size_t id, struct piece *out, const struct dan_tok_spec *s, struct dan_err *e)
{
    if (f->n - *at < 8)
        return dan_fail(e, DAN_EFORMAT, "'%s' ends inside piece %zu; the file is cut off or no llama2.c tokenizer", s->where, id);
    uint32_t bits = u32(f->p + *at), n = u32(f->p + *at + 4);
    memcpy(&out->score, &bits, sizeof out->score);
    *at += 8;
    if (n > f->n - *at || !isfinite(out->score))
        return dan_fail(e, DAN_EFORMAT, "piece %zu of '%s' has %u bytes of %zu that are left, and the score %g; the file is damaged or no "
                        "llama2.c tokenizer", id, s->where, n, f->n - *at, (double)out->score);
    out->p = f->p + *at;
    out->n = n;
    *at += n;
    return DAN_OK;
}

static enum dan_sp_type type_of(size_t id, const struct piece *p)
{
    if (id == 0) return DAN_SP_UNKNOWN;
    if (id < FIRST_BYTE) return DAN_SP_CONTROL;
    return dan_byte_of_piece(p->p, p->n) >= 0 ? DAN_SP_BYTE : DAN_SP_NORMAL;
}

/* "\n<s>\n" is "<s>". */
static void trim(struct piece *p)
{
    if (p->n < 3 || p->p[0] != '\n' || p->p[p->n - 1] != '\n') return;
    p->p++;
    p->n -= 2;
}

static int put(struct dan_tok_spec *s, size_t id, struct piece p, size_t *cap, struct dan_err *e)
{
    struct dan_sp_rules *r = s->sp;
    enum dan_sp_type type = type_of(id, &p);
    if (type == DAN_SP_CONTROL) trim(&p);
    if (id >= FIRST_BYTE && id < FIRST_BYTE + N_BYTES && (type != DAN_SP_BYTE || dan_byte_of_piece(p.p, p.n) != (int)id - FIRST_BYTE))
        return dan_fail(e, DAN_EUNSUPPORTED, "piece %zu of '%s' is not <0x%02X>: llama2.c's encoder wants the bytes at ids 3 to 258", id,
                        s->where, (unsigned)(id - FIRST_BYTE));
    if (dan_vec_grow(&r->type, cap, id + 1, 1)) return dan_fail(e, DAN_ENOMEM, "out of memory for %zu pieces", id + 1);
    r->type[id] = (uint8_t)type;
    r->n_type = id + 1;
    return dan_tok_spec_put(s, (int64_t)id, p.p, p.n, p.score, DAN_PIECE_MODEL, e);
}

static int read_file(const struct dan_mapping *f, struct dan_tok_spec *s, struct dan_err *e)
{
    size_t at = 4, id = 0, cap = 0;
    struct dan_sp_rules *r = s->sp = dan_sp_rules_new(DAN_SP_BPE, 0);
    if (!r) return dan_fail(e, DAN_ENOMEM, "out of memory for '%s'", s->where);
    if (f->n < 4 || u32(f->p) > f->n)
        return dan_fail(e, DAN_EFORMAT, "'%s' has %zu bytes and does not begin with the length of a piece; it is no llama2.c tokenizer",
                        s->where, f->n);
    for (; at < f->n; id++) {
        struct piece p;
        int bad = next(f, &at, id, &p, s, e);
        if (!bad) bad = put(s, id, p, &cap, e);
        if (bad) return bad;
    }
    if (id < FIRST_BYTE + N_BYTES)
        return dan_fail(e, DAN_EFORMAT, "'%s' has only %zu pieces; llama2.c's encoder wants the bytes at ids 3 to 258", s->where, id);
    r->in.remove_spaces = r->in.escape_spaces = false;
    r->raw_bytes = r->known_only = true;
    s->byte_fallback = true;
    s->unk = 0;
    s->bos = 1;
    s->eos = 2;
    return dan_sp_rules_to_json(s, e);
}

int dan_spec_from_llama2c(const char *path, struct dan_tok_spec *s, struct dan_err *e)
{
    struct dan_mapping f;
    int r = dan_map_file(path, &f, e);
    if (r) return r;
    r = read_file(&f, s, e);
    dan_unmap_file(&f);
    return r;
}
