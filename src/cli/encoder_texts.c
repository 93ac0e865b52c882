#include "cli/encoder_texts.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "data/text.h"

int enc_open(struct dan_cli *cli, const char *dir, enum dan_prec prec, struct enc_files *m, struct dan_err *e)
{
    *m = (struct enc_files){.dir = dir};
    int rc = dan_pool_new((int)cli->threads, &m->pool, e);
    if (!rc) rc = dan_encoder_load(&m->enc, dir, prec, e);
    if (!rc) rc = dan_tokenizer_load(dir, &m->tok, e);
    if (!rc && dan_tokenizer_vocab_size(m->tok) > m->enc.cfg.vocab)
        rc = dan_fail(e, DAN_EINVAL, "the tokenizer of '%s' has %d tokens, the model %lld; do they belong together?", dir,
                      dan_tokenizer_vocab_size(m->tok), (long long)m->enc.cfg.vocab);
    return rc;
}

void enc_close(struct enc_files *m)
{
    dan_encoder_release(&m->enc);
    dan_tokenizer_free(m->tok);
    dan_pool_free(m->pool);
}

static int add_text(struct enc_texts *x, const char *p, size_t n, struct dan_err *e)
{
    if (dan_vec_grow(&x->text, &x->text_cap, x->n + 1, sizeof *x->text)) return dan_fail(e, DAN_ENOMEM, "out of memory for %zu texts", x->n);
    x->text[x->n++] = (struct enc_text){p, n};
    return DAN_OK;
}

static int read_stdin(struct dan_cli *cli, struct enc_texts *x, size_t *n, struct dan_err *e)
{
    struct dan_str s = {0};
    char buf[1 << 16];
    ssize_t got;
    if (isatty(0)) dan_say(&cli->ui, "reading lines from standard input; Ctrl-D ends them");
    while ((got = read(0, buf, sizeof buf)) > 0) dan_str_append(&s, buf, (size_t)got);
    x->memory = s.p;
    *n = s.n;
    if (got < 0) return dan_fail(e, DAN_EIO, "cannot read standard input: %s; give the text as an argument", strerror(errno));
    return s.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for standard input; give it in smaller parts") : DAN_OK;
}

int enc_check(struct dan_cli *cli, const char *file, const char *p, size_t n, struct dan_err *e)
{
    const char *name = file && strcmp(file, "-") ? file : "standard input";
    size_t bad = n ? dan_utf8_check(p, n) : 0, line = 1;
    int rc = n ? dan_text_check(name, p, n, e) : DAN_OK;
    if (rc || bad == n) return rc;
    for (size_t i = 0; i < bad; i++) line += p[i] == '\n';
    dan_warn(&cli->ui, "invalid UTF-8 in '%s', line %zu: what is no character means nothing to the model; convert it first (iconv -f LATIN1 -t UTF-8, or -f GB18030 for Chinese)",
             name, line);
    return DAN_OK;
}

int enc_read(struct dan_cli *cli, const struct dan_strings *args, const char *file, struct enc_texts *x, struct dan_err *e)
{
    int rc = DAN_OK;
    size_t n = 0;
    for (size_t i = 0; i < args->n && !rc; i++) rc = add_text(x, args->v[i], strlen(args->v[i]), e);
    if (rc || (args->n && !file)) return rc;
    if (args->n) return dan_fail(e, DAN_EUSAGE, "texts were given both as arguments and with --data '%s'; give one of them", file);
    rc = !file || strcmp(file, "-") == 0 ? read_stdin(cli, x, &n, e) : dan_read_file(file, &x->memory, &n, e);
    if (!rc) rc = enc_check(cli, file, x->memory, n, e);
    for (size_t i = 0; i < n && !rc;) {
        const char *end = memchr(x->memory + i, '\n', n - i);
        size_t len = end ? (size_t)(end - (x->memory + i)) : n - i;
        rc = add_text(x, x->memory + i, len && x->memory[i + len - 1] == '\r' ? len - 1 : len, e);
        i += len + 1;
    }
    if (!rc && !x->n) rc = dan_fail(e, DAN_EINVAL, "there is no text in '%s'; give one a line", file ? file : "-");
    return rc;
}

static void push_all(struct enc_texts *x, const struct dan_ids *ids, int type)
{
    for (size_t i = 0; i < ids->n; i++) {
        dan_ids_push(&x->ids, ids->v[i]);
        dan_ids_push(&x->types, type);
    }
}

/* [CLS] a [SEP], [CLS] a [SEP] b [SEP], or <s> a </s></s> b </s>. */
static void join(const struct enc_files *m, struct enc_texts *x, struct dan_ids *a, struct dan_ids *b)
{
    const struct dan_ids *before = dan_tokenizer_before(m->tok), *after = dan_tokenizer_after(m->tok);
    bool twice = m->enc.family->twice_between;
    int second = m->enc.cfg.types > 1;
    size_t special = before->n + after->n * (b ? twice ? 3 : 2 : 1), most = (size_t)dan_encoder_max_tokens(&m->enc);
    size_t room = most > special ? most - special : 0, before_cut = a->n + (b ? b->n : 0);
    while (a->n + (b ? b->n : 0) > room) {
        struct dan_ids *longer = b && b->n > a->n ? b : a;
        longer->n--;
    }
    x->cut += before_cut > a->n + (b ? b->n : 0);
    push_all(x, before, 0);
    push_all(x, a, 0);
    push_all(x, after, 0);
    if (!b) return;
    if (twice) push_all(x, after, 0);
    push_all(x, b, second);
    push_all(x, after, second);
}

static int encode_one(const struct enc_files *m, struct enc_texts *x, struct enc_text t, bool pair, int flags, struct dan_err *e)
{
    const char *tab = pair && t.n ? memchr(t.p, '\t', t.n) : NULL;
    struct dan_ids a = {0}, b = {0};
    size_t first = tab ? (size_t)(tab - t.p) : t.n, from = x->ids.n;
    if (pair && !tab) return dan_fail(e, DAN_EINVAL, "text %zu has no tab between its two parts; leave --pair out to classify one text", x->n);
    int rc = dan_tokenizer_encode(m->tok, t.p, first, flags | DAN_ENCODE_UNK, &a, e);
    if (!rc && tab) rc = dan_tokenizer_encode(m->tok, tab + 1, t.n - first - 1, flags | DAN_ENCODE_UNK, &b, e);
    if (!rc && (a.failed || b.failed)) rc = dan_fail(e, DAN_ENOMEM, "out of memory for the ids of a text");
    if (!rc) join(m, x, &a, tab ? &b : NULL);
    if (!rc && x->ids.n == from) {             /* nothing at all: the model still needs a row */
        dan_ids_push(&x->ids, dan_tokenizer_eos(m->tok) >= 0 ? dan_tokenizer_eos(m->tok) : 0);
        dan_ids_push(&x->types, 0);
    }
    dan_ids_release(&a);
    dan_ids_release(&b);
    return rc;
}

int enc_encode(const struct enc_files *m, struct enc_texts *x, bool pair, int flags, struct dan_err *e)
{
    int rc = DAN_OK;
    if (dan_vec_grow(&x->start, &x->start_cap, x->n + 1, sizeof *x->start)) return dan_fail(e, DAN_ENOMEM, "out of memory for %zu texts", x->n);
    for (size_t i = 0; i < x->n && !rc; i++) {
        x->start[i] = (int64_t)x->ids.n;
        rc = encode_one(m, x, x->text[i], pair, flags, e);
        x->start[i + 1] = (int64_t)x->ids.n;
    }
    return !rc && (x->ids.failed || x->types.failed) ? dan_fail(e, DAN_ENOMEM, "out of memory for the ids of %zu texts", x->n) : rc;
}

struct dan_sentences enc_sentences(const struct enc_texts *x) { return (struct dan_sentences){x->ids.v, x->types.v, x->start, (int64_t)x->n}; }

void enc_texts_release(struct enc_texts *x)
{
    dan_free(x->memory);
    dan_free(x->text);
    dan_free(x->start);
    dan_ids_release(&x->ids);
    dan_ids_release(&x->types);
}
