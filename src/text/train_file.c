#include "text/train_file.h"
#include <string.h>
#include "text/sp_model.h"

/* --- the wire, see spec_sentencepiece.c */
enum { VARINT = 0, BYTES = 2, FIXED32 = 5 };

static void put_varint(struct dan_str *s, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) dan_str_putc(s, (char)(unsigned char)(v | 0x80));
    dan_str_putc(s, (char)v);
}

static void put_int(struct dan_str *s, uint32_t field, int64_t v)
{
    put_varint(s, field << 3 | VARINT);
    put_varint(s, (uint64_t)v);
}

static void put_bytes(struct dan_str *s, uint32_t field, const char *p, size_t n)
{
    put_varint(s, field << 3 | BYTES);
    put_varint(s, n);
    dan_str_append(s, p, n);
}

static void put_float(struct dan_str *s, uint32_t field, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_varint(s, field << 3 | FIXED32);
    for (int i = 0; i < 4; i++) dan_str_putc(s, (char)(unsigned char)(bits >> 8 * i));
}

/* --- messages */
static void put_pieces(struct dan_str *out, const struct dan_tok_spec *s, struct dan_str *one)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct dan_spec_piece *p = &s->piece[i];
        dan_str_clear(one);
        put_bytes(one, 1, s->bytes.p + p->at, p->n);
        put_float(one, 2, (float)p->score);
        if (s->sp->type[i] != DAN_SP_NORMAL) put_int(one, 3, s->sp->type[i]);
        put_bytes(out, 1, one->p, one->n);
    }
}

static void put_trainer(struct dan_str *out, const struct dan_tok_spec *s, struct dan_str *one)
{
    const struct { uint32_t field; int64_t value; } number[] = {
        {3, s->sp->algorithm}, {4, (int64_t)s->n}, {24, s->sp->suffix}, {35, s->byte_fallback},
        {40, s->unk}, {41, s->bos}, {42, s->eos}, {43, s->pad},
    };
    dan_str_clear(one);
    for (size_t i = 0; i < sizeof number / sizeof *number; i++) put_int(one, number[i].field, number[i].value);
    put_bytes(out, 2, one->p, one->n);
}

static void put_normal(struct dan_str *out, uint32_t field, const struct dan_sp_normal *n, const char *rule, struct dan_str *one)
{
    dan_str_clear(one);
    put_bytes(one, 1, rule, strlen(rule));
    put_bytes(one, 2, dan_str_c(&n->charsmap), n->charsmap.n);
    put_int(one, 3, n->dummy_prefix);
    put_int(one, 4, n->remove_spaces);
    put_int(one, 5, n->escape_spaces);
    put_bytes(out, field, one->p, one->n);
}

int dan_spec_to_sentencepiece(const struct dan_tok_spec *s, const char *rule, struct dan_str *out, struct dan_err *e)
{
    struct dan_str one = {0};
    put_pieces(out, s, &one);
    put_trainer(out, s, &one);
    put_normal(out, 3, &s->sp->in, rule, &one);
    bool failed = out->failed || one.failed;
    dan_str_release(&one);
    return failed ? dan_fail(e, DAN_ENOMEM, "out of memory for a model file of %zu pieces", s->n) : DAN_OK;
}
