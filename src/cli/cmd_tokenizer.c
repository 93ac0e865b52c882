/* danlu tokenizer: encode and decode here, the other subcommands in their own files. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/mem.h"
#include "base/threads.h"
#include "base/utf8.h"
#include "cli/tokenizer_cmd.h"
#include "data/text.h"

struct code_opts {
    const char *model, *text, *field;
    struct dan_strings ids, data;
    bool special, unk, pieces, offsets, wrap, skip_special;
};
#define AT(field) offsetof(struct code_opts, field)
#define MODEL {.name = "model", .type = 'p', .offset = AT(model), .meta = "MODEL", \
               .help = "model folder, or tokenizer.json, vocab.txt, tokenizer.model, NAME.tiktoken, tokenizer.bin, MODEL.gguf"}

static const struct dan_opt encode_options[] = {
    MODEL,
    {.name = "text", .type = 'P', .offset = AT(text), .meta = "TEXT", .help = "text to encode; standard input when it is left out"},
    {.name = "data", .type = 'S', .offset = AT(data), .meta = "PATH", .help = "encode the documents of these files or folders, one line each"},
    {.name = "special", .type = 'b', .offset = AT(special), .help = "special tokens in the text become their ids"},
    {.name = "wrap", .type = 'b', .offset = AT(wrap), .help = "put around each text what the model expects there: [CLS] and [SEP], <s>"},
    {.name = "unk", .type = 'b', .offset = AT(unk), .help = "unknown characters become <unk> instead of an error"},
    {.name = "pieces", .letter = 'p', .type = 'b', .offset = AT(pieces), .help = "one line per token: id and text"},
    {.name = "offsets", .type = 'b', .offset = AT(offsets), .help = "with each token, the bytes of the text that it stands for: begin and end"},
    {.name = "field", .type = 's', .offset = AT(field), .dflt = "text", .meta = "NAME", .help = "the text's field in .jsonl files"},
    {.name = NULL},
};

static const struct dan_opt decode_options[] = {
    MODEL,
    {.name = "ids", .type = 'R', .offset = AT(ids), .meta = "ID", .help = "token ids; read from standard input when left out"},
    {.name = "skip-special", .type = 'b', .offset = AT(skip_special), .help = "leave special tokens out"},
    {.name = NULL},
};

/* --- standard input */
static int next_input(const char *what, char *buf, size_t cap, size_t *n, struct dan_err *e)
{
    ssize_t got = read(0, buf, cap);
    if (got < 0) return dan_fail(e, DAN_EIO, "cannot read standard input: %s; give %s on the command line", strerror(errno), what);
    *n = (size_t)got;
    return DAN_OK;
}

static void say_input(struct dan_cli *cli, const char *what)
{
    if (isatty(0)) dan_say(&cli->ui, "reading %s from standard input; Ctrl-D ends it", what);
}

static int read_stdin(struct dan_cli *cli, const char *what, struct dan_str *s, struct dan_err *e)
{
    char buf[1 << 14];
    size_t n = 1;
    int rc = DAN_OK;
    say_input(cli, what);
    while (!rc && n) {
        rc = next_input(what, buf, sizeof buf, &n, e);
        if (!rc) dan_str_append(s, buf, n);
    }
    return !rc && s->failed ? dan_fail(e, DAN_ENOMEM, "out of memory for standard input; give it in smaller parts") : rc;
}

/* For terminals and JSON: what is no UTF-8 is shown as U+FFFD.  True when nothing had to be replaced. */
bool dan_put_valid(const char *p, size_t n, struct dan_str *out)
{
    bool valid = true;
    for (size_t i = 0; i < n;) {
        size_t good = dan_utf8_check(p + i, n - i);
        dan_str_append(out, p + i, good);
        i += good;
        if (i == n) break;
        dan_str_puts(out, "\xEF\xBF\xBD");
        valid = false;
        i++;
    }
    return valid;
}

json_t *dan_text_json(const char *p, size_t n)
{
    struct dan_str valid = {0};
    dan_put_valid(p, n, &valid);
    json_t *j = valid.failed ? NULL : json_stringn(dan_str_c(&valid), valid.n);
    dan_str_release(&valid);
    return j;
}

/* --- printing ids */
/* One line per token; control characters and bytes that are no UTF-8 as \xNN. */
static void put_piece(const struct dan_tokenizer *t, int32_t id, const struct dan_span *span, struct dan_str *out)
{
    size_t n;
    const char *p = dan_tokenizer_token(t, id, &n);
    dan_str_printf(out, "%7d  ", id);
    if (span) dan_str_printf(out, "%7zu %7zu  ", span->from, span->to);
    dan_str_putc(out, '\'');
    for (size_t i = 0; i < n;) {
        int32_t cp;
        size_t k = (size_t)dan_utf8_next(p + i, n - i, &cp);
        if (cp < 0x20 || cp == 0x7F) dan_str_printf(out, "\\x%02X", (unsigned)(unsigned char)p[i]);
        else dan_str_append(out, p + i, k);
        i += k;
    }
    dan_str_puts(out, "'\n");
}

static json_t *ids_json(const struct dan_ids *ids)
{
    json_t *list = json_array();
    for (size_t i = 0; i < ids->n; i++) json_array_append_new(list, json_integer(ids->v[i]));
    return list;
}

static json_t *pieces_json(const struct dan_tokenizer *t, const struct dan_ids *ids)
{
    json_t *list = json_array();
    struct dan_str s = {0};
    for (size_t i = 0; i < ids->n; i++) {
        dan_str_clear(&s);
        dan_tokenizer_decode(t, &ids->v[i], 1, &s);
        json_array_append_new(list, dan_text_json(dan_str_c(&s), s.n));
    }
    dan_str_release(&s);
    return list;
}

static json_t *spans_json(const struct dan_spans *span)
{
    json_t *list = json_array();
    for (size_t i = 0; i < span->n; i++)
        json_array_append_new(list, json_pack("[I,I]", (json_int_t)span->v[i].from, (json_int_t)span->v[i].to));
    return list;
}

/* One text's ids; span is NULL or has as many. */
struct coded { struct dan_ids ids; struct dan_spans span; size_t bytes; };

static void coded_release(struct coded *c)
{
    dan_ids_release(&c->ids);
    dan_spans_release(&c->span);
}

static int print_json(const struct code_opts *o, struct dan_cli *cli, const struct dan_tokenizer *t, const struct coded *c, const char *file,
                      struct dan_err *e)
{
    json_t *j = json_pack("{s:o,s:I,s:I}", "ids", ids_json(&c->ids), "tokens", (json_int_t)c->ids.n, "bytes", (json_int_t)c->bytes);
    if (file) json_object_set_new(j, "file", dan_text_json(file, strlen(file)));
    else json_object_set_new(j, "pieces", pieces_json(t, &c->ids));
    if (o->offsets) json_object_set_new(j, "offsets", spans_json(&c->span));
    return dan_out_json(&cli->ui, j, e);
}

static int print_ids(const struct code_opts *o, struct dan_cli *cli, const struct dan_tokenizer *t, const struct coded *c, bool *any,
                     struct dan_err *e)
{
    struct dan_str out = {0};
    for (size_t i = 0; i < c->ids.n; i++) {
        if (o->pieces) put_piece(t, c->ids.v[i], o->offsets ? &c->span.v[i] : NULL, &out);
        else if (o->offsets) dan_str_printf(&out, "%d %zu %zu\n", c->ids.v[i], c->span.v[i].from, c->span.v[i].to);
        else dan_str_printf(&out, "%s%d", *any ? " " : "", c->ids.v[i]);
        *any = true;
    }
    int rc = out.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for the ids; encode the text in parts")
                        : dan_out(&cli->ui, dan_str_c(&out), out.n, e);
    dan_str_release(&out);
    return rc;
}

static int end_line(const struct code_opts *o, struct dan_cli *cli, struct dan_err *e)
{
    return o->pieces || o->offsets ? DAN_OK : dan_out(&cli->ui, "\n", 1, e);
}

/* --- encode */
static int flags_of(const struct code_opts *o) { return (o->special ? DAN_ENCODE_SPECIAL : 0) | (o->unk ? DAN_ENCODE_UNK : 0); }

/* What belongs around a text stands for none of its bytes: at its beginning and at its end. */
static int wrap(const struct dan_tokenizer *t, struct coded *c, bool offsets, struct dan_err *e)
{
    const struct dan_ids *before = dan_tokenizer_before(t), *after = dan_tokenizer_after(t);
    struct coded w = {.bytes = c->bytes};
    for (size_t i = 0; i < before->n; i++) dan_ids_push(&w.ids, before->v[i]);
    for (size_t i = 0; i < c->ids.n; i++) dan_ids_push(&w.ids, c->ids.v[i]);
    for (size_t i = 0; i < after->n; i++) dan_ids_push(&w.ids, after->v[i]);
    for (size_t i = 0; i < before->n && offsets; i++) dan_spans_push(&w.span, 0, 0);
    for (size_t i = 0; i < c->span.n && offsets; i++) dan_spans_push(&w.span, c->span.v[i].from, c->span.v[i].to);
    for (size_t i = 0; i < after->n && offsets; i++) dan_spans_push(&w.span, c->bytes, c->bytes);
    coded_release(c);
    *c = w;
    return w.ids.failed || w.span.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for the ids") : DAN_OK;
}

static int encode_one(const struct code_opts *o, const struct dan_tokenizer *t, const char *p, size_t n, struct coded *c, struct dan_err *e)
{
    c->bytes = n;
    int rc = o->offsets ? dan_tokenizer_encode_offsets(t, p, n, flags_of(o), &c->ids, &c->span, e)
                        : dan_tokenizer_encode(t, p, n, flags_of(o), &c->ids, e);
    if (!rc && (c->ids.failed || c->span.failed)) rc = dan_fail(e, DAN_ENOMEM, "out of memory for the ids; encode the text in parts");
    return !rc && o->wrap ? wrap(t, c, o->offsets, e) : rc;
}

static int print_one(const struct code_opts *o, struct dan_cli *cli, const struct dan_tokenizer *t, const struct coded *c, const char *file,
                     struct dan_err *e)
{
    bool any = false;
    if (cli->json) return print_json(o, cli, t, c, file, e);
    int rc = print_ids(o, cli, t, c, &any, e);
    return rc ? rc : end_line(o, cli, e);
}

static int encode_text(const struct code_opts *o, struct dan_cli *cli, const struct dan_tokenizer *t, const char *p, size_t n, struct dan_err *e)
{
    struct coded c = {0};
    int rc = encode_one(o, t, p, n, &c, e);
    if (!rc) rc = print_one(o, cli, t, &c, NULL, e);
    coded_release(&c);
    return rc;
}

/* Ids leave as soon as they are sure, so that the text may be of any length. */
static int encode_stream(const struct code_opts *o, struct dan_cli *cli, const struct dan_tokenizer *t, struct dan_err *e)
{
    static const struct dan_ids none = {0};
    const struct dan_ids *before = o->wrap ? dan_tokenizer_before(t) : &none, *after = o->wrap ? dan_tokenizer_after(t) : &none;
    struct dan_tok_stream *s = NULL;
    struct coded c = {0};
    char buf[1 << 16];
    size_t n = 1;
    bool any = false;
    say_input(cli, "the text");
    int rc = dan_tok_stream_new(t, flags_of(o), &s, e);
    for (size_t i = 0; i < before->n; i++) dan_ids_push(&c.ids, before->v[i]);
    while (!rc && n) {
        rc = next_input("the text", buf, sizeof buf, &n, e);
        if (!rc) rc = n ? dan_tok_stream_push(s, buf, n, &c.ids, e) : dan_tok_stream_finish(s, &c.ids, e);
        for (size_t i = 0; i < after->n && !rc && !n; i++) dan_ids_push(&c.ids, after->v[i]);
        if (!rc && c.ids.failed) rc = dan_fail(e, DAN_ENOMEM, "out of memory for the ids; encode the text in parts");
        if (!rc) rc = print_ids(o, cli, t, &c, &any, e);
        c.ids.n = 0;
    }
    dan_tok_stream_free(s);
    coded_release(&c);
    return rc ? rc : end_line(o, cli, e);
}

/* --- encode --data: groups of documents on all threads, printed in order */
enum { GROUP = 256, GROUP_BYTES = 1 << 24 };
struct group {
    struct dan_str text;
    size_t at[GROUP + 1], n;
    char *file[GROUP];
    struct dan_ids ids[GROUP];
};

static int print_group(const struct code_opts *o, struct dan_cli *cli, const struct dan_tokenizer *t, struct dan_pool *pool, struct group *g,
                       struct dan_err *e)
{
    struct dan_bytes text[GROUP];
    int rc = g->text.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for a document") : DAN_OK;
    for (size_t i = 0; i < g->n; i++) text[i] = (struct dan_bytes){dan_str_c(&g->text) + g->at[i], g->at[i + 1] - g->at[i]};
    if (!rc && !o->offsets) rc = dan_tokenizer_encode_batch(t, pool, text, g->n, flags_of(o), g->ids, e);
    for (size_t i = 0; i < g->n && !rc; i++) {
        struct coded c = {.ids = g->ids[i], .bytes = text[i].n};
        g->ids[i] = (struct dan_ids){0};
        if (o->offsets) rc = encode_one(o, t, text[i].p, text[i].n, &c, e);
        else if (o->wrap) rc = wrap(t, &c, false, e);
        if (!rc) rc = print_one(o, cli, t, &c, g->file[i], e);
        coded_release(&c);
    }
    for (size_t i = 0; i < g->n; i++) {
        dan_ids_release(&g->ids[i]);
        dan_free(g->file[i]);
    }
    dan_str_clear(&g->text);
    g->n = 0;
    return rc;
}

static int encode_documents(const struct code_opts *o, struct dan_cli *cli, const struct dan_tokenizer *t, struct dan_text *text,
                            struct dan_pool *pool, struct group *g, struct dan_err *e)
{
    struct dan_document doc;
    int rc = DAN_OK;
    while (!rc && !(rc = dan_text_next(text, &doc, e)) && doc.p) {
        g->at[g->n] = g->text.n;
        if (!(g->file[g->n] = dan_strdup(doc.file))) return dan_fail(e, DAN_ENOMEM, "out of memory for a document");
        dan_str_append(&g->text, doc.p, doc.n);
        g->at[++g->n] = g->text.n;
        if (g->n == GROUP || g->text.n >= GROUP_BYTES) rc = print_group(o, cli, t, pool, g, e);
        if (!rc && cli->stop) rc = dan_fail(e, DAN_ECANCELLED, "cancelled");
    }
    return rc || !g->n ? rc : print_group(o, cli, t, pool, g, e);
}

static int encode_files(const struct code_opts *o, struct dan_cli *cli, const struct dan_tokenizer *t, struct dan_err *e)
{
    struct dan_text_opts to = {.field = o->field, .allow_invalid = true};
    struct dan_text *text = NULL;
    struct dan_pool *pool = NULL;
    struct group *g = dan_calloc(1, sizeof *g);
    int rc = g ? dan_text_open(o->data.v, o->data.n, &to, &text, e) : dan_fail(e, DAN_ENOMEM, "out of memory");
    if (!rc) rc = dan_pool_new((int)cli->threads, &pool, e);
    cli->ui.heeds = 1;                         /* what is printed ends with a whole line */
    if (!rc) rc = encode_documents(o, cli, t, text, pool, g, e);
    for (size_t i = 0; g && i < g->n; i++) dan_free(g->file[i]);
    if (g) dan_str_release(&g->text);
    dan_free(g);
    dan_pool_free(pool);
    dan_text_free(text);
    return rc;
}

static int encode_run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    const struct code_opts *o = opts;
    struct dan_tokenizer *t = NULL;
    struct dan_str in = {0};
    if (o->text && o->data.n) return dan_fail(e, DAN_EUSAGE, "a text and --data; give one of them");
    int rc = dan_tokenizer_load(o->model, &t, e);
    if (!rc && o->data.n) rc = encode_files(o, cli, t, e);
    else if (!rc && o->text) rc = encode_text(o, cli, t, o->text, strlen(o->text), e);
    else if (!rc && (cli->json || o->offsets)) {
        rc = read_stdin(cli, "the text", &in, e);
        if (!rc) rc = encode_text(o, cli, t, dan_str_c(&in), in.n, e);
    } else if (!rc) rc = encode_stream(o, cli, t, e);
    dan_str_release(&in);
    dan_tokenizer_free(t);
    return rc;
}

/* --- decode: ids separated by anything that is no digit, so that JSON arrays may be piped in */
struct decoder {
    const struct dan_tokenizer *t;
    struct dan_detok detok;
    struct dan_str text, word;                 /* word: an id that may go on in the next part of the input */
};

static int take_id(struct decoder *d, struct dan_err *e)
{
    int64_t id;
    int vocab = dan_tokenizer_vocab_size(d->t);
    if (!d->word.n) return DAN_OK;
    if (!dan_parse_int(dan_str_c(&d->word), &id) || id < 0 || id >= vocab)
        return dan_fail(e, DAN_EINVAL, "wrong token id '%.40s'; ids of this tokenizer are 0 to %d", dan_str_c(&d->word), vocab - 1);
    dan_detok_push(&d->detok, (int32_t)id, &d->text);
    dan_str_clear(&d->word);
    return DAN_OK;
}

static int take_ids(struct decoder *d, const char *p, size_t n, struct dan_err *e)
{
    static const char gaps[] = " \t\r\n,[]";
    int rc = DAN_OK;
    for (size_t i = 0; i < n && !rc; i++) {
        if (p[i] && strchr(gaps, p[i])) rc = take_id(d, e);
        else if (d->word.n < 64) dan_str_putc(&d->word, p[i]);
    }
    return rc;
}

static int print_text(struct dan_cli *cli, struct dan_str *text, struct dan_err *e)
{
    if (text->failed) return dan_fail(e, DAN_ENOMEM, "out of memory for the text; decode fewer ids");
    int rc = dan_out(&cli->ui, dan_str_c(text), text->n, e);
    dan_str_clear(text);
    return rc;
}

static int decode_stdin(struct decoder *d, struct dan_cli *cli, struct dan_err *e)
{
    char buf[1 << 14];
    size_t n = 1;
    int rc = DAN_OK;
    say_input(cli, "the ids");
    while (!rc && n) {
        rc = next_input("the ids", buf, sizeof buf, &n, e);
        if (!rc) rc = take_ids(d, buf, n, e);
        if (!rc && !cli->json) rc = print_text(cli, &d->text, e);
    }
    return rc;
}

static int print_rest(struct dan_cli *cli, struct dan_str *text, struct dan_err *e)
{
    if (!cli->json) {
        if (cli->ui.out_tty) dan_str_putc(text, '\n');
        return print_text(cli, text, e);
    }
    struct dan_str valid = {0};
    bool exact = dan_put_valid(dan_str_c(text), text->n, &valid);
    json_t *line = json_pack("{s:o,s:b,s:I}", "text", json_stringn(dan_str_c(&valid), valid.n), "valid_utf8", exact, "bytes",
                             (json_int_t)text->n);
    dan_str_release(&valid);
    return dan_out_json(&cli->ui, line, e);
}

static int decode_run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    const struct code_opts *o = opts;
    struct dan_tokenizer *t = NULL;
    struct decoder d = {0};
    int rc = dan_tokenizer_load(o->model, &t, e);
    d.t = t;
    d.detok = (struct dan_detok){.t = t, .skip_special = o->skip_special};
    for (size_t i = 0; i < o->ids.n && !rc; i++) {
        rc = take_ids(&d, o->ids.v[i], strlen(o->ids.v[i]), e);
        if (!rc) rc = take_id(&d, e);
    }
    if (!rc && !o->ids.n) rc = decode_stdin(&d, cli, e);
    if (!rc) rc = take_id(&d, e);
    if (t) dan_detok_finish(&d.detok, &d.text);
    if (!rc) rc = print_rest(cli, &d.text, e);
    dan_str_release(&d.text);
    dan_str_release(&d.word);
    dan_tokenizer_free(t);
    return rc;
}

static const struct dan_cmd encode_cmd = {
    .name = "encode", .doc = "text to token ids",
    .about = "Prints the ids, separated by spaces; a text on standard input may be of any length. Special tokens written in the text are plain "
             "text unless --special is given.",
    .example = "danlu tokenizer encode tok \"Hello world\" --pieces --offsets\n"
               "danlu tokenizer encode tok --data books --json",
    .opts = encode_options, .opts_bytes = sizeof(struct code_opts), .run = encode_run,
};
static const struct dan_cmd decode_cmd = {
    .name = "decode", .doc = "token ids to text",
    .example = "danlu tokenizer decode tok 40 69 76\ndanlu tokenizer encode tok hi | danlu tokenizer decode tok",
    .opts = decode_options, .opts_bytes = sizeof(struct code_opts), .run = decode_run,
};

const struct dan_cmd dan_cmd_tokenizer = {
    .name = "tokenizer", .doc = "train a tokenizer, encode and decode with it, compare some", .group = DAN_GROUP_TRAIN, .rank = 5,
    .example = "danlu tokenizer train --data books --vocab 8192 --out tok\ndanlu tokenizer encode tok \"Hello world\"",
    .sub = (const struct dan_cmd *const[]){&dan_tokenizer_cmd_train, &encode_cmd, &decode_cmd, &dan_tokenizer_cmd_info,
                                           &dan_tokenizer_cmd_compare, NULL},
};
