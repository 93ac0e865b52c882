#include "text/spec.h"
#include <string.h>
#include "base/mem.h"
#include "text/sp_model.h"

enum { MAX_IDS = 1 << 24, MAX_PIECE = 1 << 20 };

void dan_tok_spec_init(struct dan_tok_spec *s, enum dan_spec_model model, const char *where)
{
    *s = (struct dan_tok_spec){.model = model, .where = where, .unk = -1, .bos = -1, .eos = -1, .pad = -1, .max_chars = 100};
}

void dan_tok_spec_release(struct dan_tok_spec *s)
{
    dan_str_release(&s->bytes);
    dan_free(s->piece);
    dan_free(s->merge);
    dan_free(s->chat_template);
    dan_sp_rules_free(s->sp);
    json_decref(s->normalizer);
    json_decref(s->pre_tokenizer);
    json_decref(s->post_processor);
    json_decref(s->decoder);
    dan_tok_spec_init(s, s->model, s->where);
}

static int grow(struct dan_tok_spec *s, size_t need, struct dan_err *e)
{
    size_t before = s->cap;
    if (dan_vec_grow(&s->piece, &s->cap, need, sizeof *s->piece) != 0)
        return dan_fail(e, DAN_ENOMEM, "out of memory for a vocabulary of %zu tokens", need);
    memset(s->piece + before, 0, (s->cap - before) * sizeof *s->piece);
    return DAN_OK;
}

int dan_tok_spec_put(struct dan_tok_spec *s, int64_t id, const char *p, size_t n, double score, int flags, struct dan_err *e)
{
    int shown = (int)(n < 60 ? n : 60);
    int64_t most = s->max_ids && s->max_ids < MAX_IDS ? (int64_t)s->max_ids : MAX_IDS;
    if (id < 0 || id >= most)
        return dan_fail(e, DAN_EFORMAT, "%s: bad id %lld of token '%.*s'; ids are 0 to %d, each once; the file is damaged", s->where,
                        (long long)id, shown, p, (int)most - 1);
    if (n > MAX_PIECE)
        return dan_fail(e, DAN_EFORMAT, "%s: token %lld has %zu bytes, more than %d; the file is damaged", s->where, (long long)id, n,
                        MAX_PIECE);
    int r = (size_t)id >= s->cap ? grow(s, (size_t)id + 1, e) : DAN_OK;
    if (r) return r;
    if ((size_t)id >= s->n) s->n = (size_t)id + 1;
    struct dan_spec_piece *one = &s->piece[id];
    if (one->flags) {
        if (one->n != n || (n && memcmp(s->bytes.p + one->at, p, n) != 0))
            return dan_fail(e, DAN_EFORMAT, "%s: bad id %lld of token '%.*s'; '%.*s' has it already; the file is damaged", s->where,
                            (long long)id, shown, p, (int)(one->n < 60 ? one->n : 60), s->bytes.p + one->at);
        one->flags |= (uint8_t)flags;
        return DAN_OK;
    }
    *one = (struct dan_spec_piece){s->bytes.n, (uint32_t)n, (uint8_t)flags, score};
    dan_str_append(&s->bytes, p, n);
    return s->bytes.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for a vocabulary of %zu tokens", s->n) : DAN_OK;
}
