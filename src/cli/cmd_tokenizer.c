/* danlu tokenizer train | encode | decode | info */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/sys.h"
#include "base/utf8.h"
#include "cli/cmd.h"
#include "data/text.h"
#include "text/tokenizer.h"

struct tokenizer_opts {
    /* train */
    struct dan_strings data, special_tokens;
    int64_t vocab, min_count, memory;
    const char *kind, *split, *out, *field;
    bool allow_invalid;
    /* encode, decode, info */
    const char *model, *text;
    struct dan_strings ids;
    bool special, unk, pieces;
};
#define AT(field) offsetof(struct tokenizer_opts, field)
#define MODEL {.name = "model", .type = 'p', .offset = AT(model), .meta = "MODEL", .help = "model folder or tokenizer.json"}

static const struct dan_opt train_options[] = {
    {.name = "data", .type = 'S', .offset = AT(data), .meta = "PATH",
     .help = "text files, .jsonl files or folders of them; bytes needs none"},
    {.name = "out", .letter = 'o', .type = 's', .offset = AT(out), .meta = "DIR", .required = true, .help = "folder for tokenizer.json"},
    {.name = "kind", .type = 'e', .offset = AT(kind), .choices = "bpe|char|bytes", .dflt = "bpe",
     .help = "learnt pieces, one token per character, or one per byte"},
    {.name = "vocab", .letter = 'n', .type = 'i', .offset = AT(vocab), .dflt = "8192", .meta = "N", .min = 257, .max = 1 << 24,
     .alias = "vocab-size", .help = "vocabulary size of bpe, special tokens included"},
    {.name = "split", .type = 'e', .offset = AT(split), .choices = "gpt2|gpt2-digits|llama3|qwen2", .dflt = "gpt2",
     .help = "how bpe cuts text into words: the pattern of that family"},
    {.name = "special", .type = 'S', .offset = AT(special_tokens), .meta = "TEXT", .dflt = "<|endoftext|>",
     .help = "special tokens, last in the vocabulary; <unk> stands for unknown characters of char"},
    {.name = "min-count", .type = 'i', .offset = AT(min_count), .dflt = "2", .meta = "N", .min = 1, .max = INFINITY,
     .help = "bpe: pairs seen less often are not merged"},
    {.name = "memory", .type = 'i', .offset = AT(memory), .dflt = "4Gi", .meta = "BYTES", .min = 1 << 20, .max = INFINITY,
     .help = "bpe: bound for the word table; beyond it rare words are left out, and counted"},
    {.name = "field", .type = 's', .offset = AT(field), .dflt = "text", .meta = "NAME", .help = "the text's field in .jsonl files"},
    {.name = "allow-invalid", .type = 'b', .offset = AT(allow_invalid), .help = "take bytes that are not UTF-8 as they are"},
    {.name = NULL},
};

static const struct dan_opt encode_options[] = {
    MODEL,
    {.name = "text", .type = 'P', .offset = AT(text), .meta = "TEXT", .help = "text to encode; standard input when it is left out"},
    {.name = "special", .type = 'b', .offset = AT(special), .help = "special tokens in the text become their ids"},
    {.name = "unk", .type = 'b', .offset = AT(unk), .help = "unknown characters become <unk> instead of an error"},
    {.name = "pieces", .letter = 'p', .type = 'b', .offset = AT(pieces), .help = "one line per token: id and text"},
    {.name = NULL},
};

static const struct dan_opt decode_options[] = {
    MODEL,
    {.name = "ids", .type = 'R', .offset = AT(ids), .meta = "ID", .help = "token ids; read from standard input when left out"},
    {.name = NULL},
};

static const struct dan_opt info_options[] = {
    MODEL,
    {.name = "data", .type = 'S', .offset = AT(data), .meta = "PATH", .help = "measure bytes per token on this text"},
    {.name = "field", .type = 's', .offset = AT(field), .dflt = "text", .meta = "NAME", .help = "the text's field in .jsonl files"},
    {.name = NULL},
};

/* --- train */
struct training { struct dan_text *text; struct dan_cli *cli; struct dan_bar bar; char stage; };

static int next_document(void *ctx, const char **p, size_t *n, struct dan_err *e)
{
    struct dan_document doc;
    struct training *t = ctx;
    int rc = dan_text_next(t->text, &doc, e);
    if (rc) return rc;
    *p = doc.p;
    *n = doc.n;
    return DAN_OK;
}

static bool show_progress(void *ctx, const char *stage, int64_t done, int64_t total)
{
    struct training *t = ctx;
    if (t->stage != stage[0]) {
        if (t->stage) dan_bar_finish(&t->bar);
        bool read = stage[0] == 'r';
        dan_bar_start(&t->bar, &t->cli->ui, read ? "counting" : "merging", read ? "B" : "token", done, total);
        t->stage = stage[0];
    }
    dan_bar_update(&t->bar, done, "%s", "");
    return !t->cli->stop;
}

/* The bound that was asked for; by default no more than three quarters of what the machine has left. */
static size_t memory_bound(const struct tokenizer_opts *o, const struct dan_cli *cli)
{
    int64_t free_now = dan_memory_available();
    if (dan_given(cli, "memory") || free_now < 0 || free_now / 4 * 3 > o->memory) return (size_t)o->memory;
    return (size_t)(free_now / 4 * 3);
}

static int make_tokenizer(const struct tokenizer_opts *o, struct training *t, int64_t bytes, struct dan_tokenizer **out,
                          struct dan_tok_train_stats *stats, struct dan_err *e)
{
    struct dan_text_source src = {next_document, t, bytes};
    struct dan_tok_train_opts to = {.vocab_size = (int32_t)o->vocab, .min_pair_count = o->min_count, .special = o->special_tokens.v,
                                    .n_special = o->special_tokens.n, .split = o->split, .max_bytes = memory_bound(o, t->cli),
                                    .progress = show_progress, .progress_ctx = t};
    int rc = !strcmp(o->kind, "bytes") ? dan_tokenizer_new_bytes(&to, out, e)
           : !strcmp(o->kind, "char") ? dan_tokenizer_train_char(&src, &to, out, stats, e)
                                      : dan_tokenizer_train_bpe(&src, &to, out, stats, e);
    if (t->stage) dan_bar_finish(&t->bar);
    return rc;
}

static json_t *training_json(const struct tokenizer_opts *o, int vocab, const struct dan_tok_train_stats *s, double seconds)
{
    json_t *j = json_pack("{s:s,s:s,s:i}", "kind", o->kind, "dir", o->out, "vocab_size", vocab);
    const struct { const char *name; int64_t value; } counts[] = {
        {"documents", s->docs}, {"bytes", s->bytes}, {"words", s->words}, {"distinct", s->distinct},
        {"merges", s->merges}, {"pruned_words", s->pruned_words}, {"pruned_uses", s->pruned_uses},
    };
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) json_object_set_new(j, counts[i].name, json_integer(counts[i].value));
    json_object_set_new(j, "seconds", json_real(seconds));
    return j;
}

static int report_training(const struct tokenizer_opts *o, struct dan_cli *cli, const struct dan_tokenizer *t,
                           const struct dan_tok_train_stats *s, double seconds, struct dan_err *e)
{
    char a[DAN_NUM], b[DAN_NUM], c[DAN_NUM];
    int vocab = dan_tokenizer_vocab_size(t);
    if (s->pruned_words)
        dan_warn(&cli->ui, "%s rare words (%s uses) were left out to stay within the memory bound; raise --memory to count them",
                 dan_fmt_count((double)s->pruned_words, a), dan_fmt_count((double)s->pruned_uses, b));
    if (!strcmp(o->kind, "bpe") && vocab < o->vocab)
        dan_warn(&cli->ui, "only %d tokens: no pair occurs %lld times any more; give more text or a lower --min-count", vocab,
                 (long long)o->min_count);
    if (s->bytes)
        dan_say(&cli->ui, "%s tokenizer with %d tokens from %s of text in %s, saved in '%s'", o->kind, vocab,
                dan_fmt_bytes((double)s->bytes, a), dan_fmt_time(seconds, c), o->out);
    else dan_say(&cli->ui, "%s tokenizer with %d tokens, saved in '%s'", o->kind, vocab, o->out);
    if (!cli->json) return DAN_OK;
    return dan_out_json(&cli->ui, training_json(o, vocab, s, seconds), e);
}

static int train_run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    const struct tokenizer_opts *o = opts;
    struct dan_text_opts to = {.field = o->field, .allow_invalid = o->allow_invalid};
    struct training t = {.cli = cli};
    struct dan_text_stats size = {0};
    struct dan_tok_train_stats stats = {0};
    struct dan_tokenizer *made = NULL;
    double from = dan_now();
    bool reads = strcmp(o->kind, "bytes") != 0;
    if (reads && !o->data.n) return dan_fail(e, DAN_EUSAGE, "no text to learn from; give it with --data PATH");
    int rc = reads ? dan_text_open(o->data.v, o->data.n, &to, &t.text, e) : DAN_OK;
    if (!rc && reads) rc = dan_text_count(t.text, &size, e);
    if (!rc) rc = make_tokenizer(o, &t, size.bytes, &made, &stats, e);
    if (!rc) rc = dan_mkdirs(o->out, e);
    if (!rc) rc = dan_tokenizer_save(made, o->out, e);
    if (!rc) rc = report_training(o, cli, made, &stats, dan_now() - from, e);
    dan_tokenizer_free(made);
    dan_text_free(t.text);
    return rc;
}

/* --- encode */
static int read_stdin(struct dan_cli *cli, const char *what, struct dan_str *s, struct dan_err *e)
{
    char buf[1 << 14];
    ssize_t got;
    if (isatty(0)) dan_say(&cli->ui, "reading %s from standard input; Ctrl-D ends it", what);
    while ((got = read(0, buf, sizeof buf)) > 0) dan_str_append(s, buf, (size_t)got);
    if (got < 0) return dan_fail(e, DAN_EIO, "cannot read standard input: %s; give %s on the command line", strerror(errno), what);
    return s->failed ? dan_fail(e, DAN_ENOMEM, "out of memory for standard input; give it in smaller parts") : DAN_OK;
}

/* For terminals and JSON: what is no UTF-8 is shown as U+FFFD.  True when nothing had to be replaced. */
static bool put_valid(const char *p, size_t n, struct dan_str *out)
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

/* One line per token; control characters and bytes that are no UTF-8 as \xNN. */
static void put_piece(const struct dan_tokenizer *t, int32_t id, struct dan_str *out)
{
    size_t n;
    const char *p = dan_tokenizer_token(t, id, &n);
    dan_str_printf(out, "%7d  '", id);
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
        struct dan_str valid = {0};
        put_valid(dan_str_c(&s), s.n, &valid);
        json_array_append_new(list, json_stringn(dan_str_c(&valid), valid.n));
        dan_str_release(&valid);
    }
    dan_str_release(&s);
    return list;
}

static int print_ids(const struct tokenizer_opts *o, struct dan_cli *cli, const struct dan_tokenizer *t, const struct dan_ids *ids,
                     size_t bytes, struct dan_err *e)
{
    if (cli->json)
        return dan_out_json(&cli->ui, json_pack("{s:o,s:o,s:I,s:I}", "ids", ids_json(ids), "pieces", pieces_json(t, ids), "tokens",
                                                (json_int_t)ids->n, "bytes", (json_int_t)bytes), e);
    struct dan_str out = {0};
    for (size_t i = 0; i < ids->n; i++) {
        if (o->pieces) put_piece(t, ids->v[i], &out);
        else dan_str_printf(&out, "%s%d", i ? " " : "", ids->v[i]);
    }
    if (!o->pieces) dan_str_putc(&out, '\n');
    int rc = out.failed ? dan_fail(e, DAN_ENOMEM, "out of memory for the ids; encode the text in parts")
                        : dan_out(&cli->ui, dan_str_c(&out), out.n, e);
    dan_str_release(&out);
    return rc;
}

static int encode_text(const struct dan_tokenizer *t, const char *p, size_t n, int flags, struct dan_ids *ids, struct dan_err *e)
{
    struct dan_tok_cache *cache;
    int rc = dan_tok_cache_new(t, &cache, e);
    if (rc) return rc;
    rc = dan_tok_cache_encode(cache, p, n, flags, ids, e);
    dan_tok_cache_free(cache);
    return rc;
}

static int encode_run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    const struct tokenizer_opts *o = opts;
    struct dan_tokenizer *t = NULL;
    struct dan_ids ids = {0};
    struct dan_str in = {0};
    int flags = (o->special ? DAN_ENCODE_SPECIAL : 0) | (o->unk ? DAN_ENCODE_UNK : 0);
    int rc = dan_tokenizer_load(o->model, &t, e);
    if (!rc && o->text) dan_str_puts(&in, o->text);
    else if (!rc) rc = read_stdin(cli, "the text", &in, e);
    if (!rc) rc = encode_text(t, dan_str_c(&in), in.n, flags, &ids, e);
    if (!rc) rc = print_ids(o, cli, t, &ids, in.n, e);
    dan_str_release(&in);
    dan_ids_release(&ids);
    dan_tokenizer_free(t);
    return rc;
}

/* --- decode */
static int take_id(const struct dan_tokenizer *t, const char *text, struct dan_ids *ids, struct dan_err *e)
{
    int64_t id;
    int vocab = dan_tokenizer_vocab_size(t);
    if (!dan_parse_int(text, &id) || id < 0 || id >= vocab)
        return dan_fail(e, DAN_EINVAL, "wrong token id '%.40s'; ids of this tokenizer are 0 to %d", text, vocab - 1);
    dan_ids_push(ids, (int32_t)id);
    return DAN_OK;
}

/* Ids separated by anything that is no digit, so that JSON arrays may be piped in. */
static int take_ids(const struct dan_tokenizer *t, struct dan_str *in, struct dan_ids *ids, struct dan_err *e)
{
    static const char gaps[] = " \t\r\n,[]";
    char *save, *word = in->p ? strtok_r(in->p, gaps, &save) : NULL;
    int rc = DAN_OK;
    for (; word && !rc; word = strtok_r(NULL, gaps, &save)) rc = take_id(t, word, ids, e);
    return rc;
}

static int print_text(struct dan_cli *cli, const struct dan_str *text, struct dan_err *e)
{
    if (!cli->json) return dan_out(&cli->ui, dan_str_c(text), text->n, e);
    struct dan_str valid = {0};
    bool exact = put_valid(dan_str_c(text), text->n, &valid);
    json_t *line = json_pack("{s:o,s:b,s:I}", "text", json_stringn(dan_str_c(&valid), valid.n), "valid_utf8", exact, "bytes",
                             (json_int_t)text->n);
    dan_str_release(&valid);
    return dan_out_json(&cli->ui, line, e);
}

static int decode_run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    const struct tokenizer_opts *o = opts;
    struct dan_tokenizer *t = NULL;
    struct dan_ids ids = {0};
    struct dan_str in = {0}, text = {0};
    int rc = dan_tokenizer_load(o->model, &t, e);
    for (size_t i = 0; i < o->ids.n; i++) dan_str_printf(&in, "%s ", o->ids.v[i]);
    if (!rc && !o->ids.n) rc = read_stdin(cli, "the ids", &in, e);
    if (!rc) rc = take_ids(t, &in, &ids, e);
    if (!rc) dan_tokenizer_decode(t, ids.v, ids.n, &text);
    if (!rc && cli->ui.out_tty && !cli->json) dan_str_putc(&text, '\n');
    if (!rc) rc = print_text(cli, &text, e);
    dan_str_release(&in);
    dan_str_release(&text);
    dan_ids_release(&ids);
    dan_tokenizer_free(t);
    return rc;
}

/* --- info */
struct measure { int64_t bytes, chars, tokens, docs; double seconds; };

static int measure_text(const struct tokenizer_opts *o, struct dan_cli *cli, const struct dan_tokenizer *t, struct measure *m,
                        struct dan_err *e)
{
    struct dan_text_opts to = {.field = o->field};
    struct dan_text *text = NULL;
    struct dan_tok_cache *cache = NULL;
    struct dan_document doc = {0};
    struct dan_ids ids = {0};
    int rc = dan_text_open(o->data.v, o->data.n, &to, &text, e);
    if (!rc) rc = dan_tok_cache_new(t, &cache, e);
    while (!rc && !(rc = dan_text_next(text, &doc, e)) && doc.p) {
        double from = dan_now();
        ids.n = 0;
        rc = dan_tok_cache_encode(cache, doc.p, doc.n, 0, &ids, e);
        m->seconds += dan_now() - from;
        m->bytes += (int64_t)doc.n;
        m->tokens += (int64_t)ids.n;
        m->docs++;
        for (size_t i = 0; i < doc.n; i++) m->chars += (doc.p[i] & 0xC0) != 0x80;
        if (!rc && cli->stop) rc = dan_fail(e, DAN_ECANCELLED, "measuring cancelled");
    }
    dan_ids_release(&ids);
    dan_tok_cache_free(cache);
    dan_text_free(text);
    return rc;
}

static json_t *special_json(const struct dan_tokenizer *t)
{
    json_t *list = json_array();
    int32_t id;
    for (size_t i = 0; (id = dan_tokenizer_added(t, i)) >= 0; i++) {
        size_t n;
        const char *p = dan_tokenizer_token(t, id, &n);
        json_array_append_new(list, json_pack("{s:i,s:o,s:b}", "id", id, "text", json_stringn(p, n), "special",
                                              dan_tokenizer_is_special(t, id)));
    }
    return list;
}

static json_t *measure_json(const struct measure *m)
{
    double tokens = m->tokens ? (double)m->tokens : 1;
    return json_pack("{s:I,s:I,s:I,s:f,s:f,s:f}", "documents", (json_int_t)m->docs, "bytes", (json_int_t)m->bytes, "tokens",
                     (json_int_t)m->tokens, "bytes_per_token", (double)m->bytes / tokens, "chars_per_token", (double)m->chars / tokens,
                     "seconds", m->seconds);
}

static void put_measure(const struct measure *m, struct dan_str *out)
{
    char a[DAN_NUM], b[DAN_NUM], c[DAN_NUM];
    double tokens = m->tokens ? (double)m->tokens : 1, rate = m->seconds > 0 ? (double)m->bytes / m->seconds : 0;
    dan_str_printf(out, "text      %s in %lld documents, %s tokens\n", dan_fmt_bytes((double)m->bytes, a), (long long)m->docs,
                   dan_fmt_count((double)m->tokens, b));
    dan_str_printf(out, "          %.3f bytes per token, %.3f characters per token, encoded at %s/s\n", (double)m->bytes / tokens,
                   (double)m->chars / tokens, dan_fmt_bytes(rate, c));
}

static void put_role(const struct dan_tokenizer *t, const char *role, int32_t id, struct dan_str *out)
{
    size_t n;
    const char *p = dan_tokenizer_token(t, id, &n);
    if (p) dan_str_printf(out, "%-9s %d  %.*s\n", role, id, (int)n, p);
    else dan_str_printf(out, "%-9s none\n", role);
}

static json_t *info_json(const struct dan_tokenizer *t, const struct measure *m)
{
    return json_pack("{s:s,s:i,s:i,s:i,s:i,s:o,s:b,s:o}", "kind", dan_tokenizer_kind(t), "vocab_size", dan_tokenizer_vocab_size(t), "bos",
                     dan_tokenizer_bos(t), "eos", dan_tokenizer_eos(t), "unk", dan_tokenizer_unk(t), "added_tokens", special_json(t),
                     "chat_template", dan_tokenizer_chat_template(t) != NULL, "data", m ? measure_json(m) : json_null());
}

static int print_info(struct dan_cli *cli, const struct dan_tokenizer *t, const struct measure *m, struct dan_err *e)
{
    if (cli->json) return dan_out_json(&cli->ui, info_json(t, m), e);
    struct dan_str out = {0};
    int32_t id;
    dan_str_printf(&out, "kind      %s\nvocab     %d\n", dan_tokenizer_kind(t), dan_tokenizer_vocab_size(t));
    put_role(t, "bos", dan_tokenizer_bos(t), &out);
    put_role(t, "eos", dan_tokenizer_eos(t), &out);
    put_role(t, "unk", dan_tokenizer_unk(t), &out);
    for (size_t i = 0; (id = dan_tokenizer_added(t, i)) >= 0; i++)
        put_role(t, dan_tokenizer_is_special(t, id) ? "special" : "added", id, &out);
    dan_str_printf(&out, "template  %s\n", dan_tokenizer_chat_template(t) ? "yes" : "none");
    if (m) put_measure(m, &out);
    int rc = dan_out(&cli->ui, dan_str_c(&out), out.n, e);
    dan_str_release(&out);
    return rc;
}

static int info_run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    const struct tokenizer_opts *o = opts;
    struct dan_tokenizer *t = NULL;
    struct measure m = {0};
    int rc = dan_tokenizer_load(o->model, &t, e);
    if (!rc && o->data.n) rc = measure_text(o, cli, t, &m, e);
    if (!rc) rc = print_info(cli, t, o->data.n ? &m : NULL, e);
    dan_tokenizer_free(t);
    return rc;
}

static const struct dan_cmd train_cmd = {
    .name = "train", .doc = "learn a tokenizer from text",
    .about = "Writes tokenizer.json and tokenizer_config.json, which Hugging Face tokenizers loads too. bpe: byte-level BPE, any text can "
             "be encoded. char: one token per character of the text. bytes: nothing is learnt.",
    .example = "danlu tokenizer train --data books --vocab 8192 --out tok",
    .opts = train_options, .opts_bytes = sizeof(struct tokenizer_opts), .run = train_run,
};
static const struct dan_cmd encode_cmd = {
    .name = "encode", .doc = "text to token ids",
    .about = "Prints the ids, separated by spaces. Special tokens written in the text are plain text unless --special is given.",
    .example = "danlu tokenizer encode tok \"Hello world\" --pieces",
    .opts = encode_options, .opts_bytes = sizeof(struct tokenizer_opts), .run = encode_run,
};
static const struct dan_cmd decode_cmd = {
    .name = "decode", .doc = "token ids to text",
    .example = "danlu tokenizer decode tok 40 69 76\ndanlu tokenizer encode tok hi | danlu tokenizer decode tok",
    .opts = decode_options, .opts_bytes = sizeof(struct tokenizer_opts), .run = decode_run,
};
static const struct dan_cmd info_cmd = {
    .name = "info", .doc = "kind, vocabulary and special tokens; how well it fits a text",
    .example = "danlu tokenizer info tok --data book.txt",
    .opts = info_options, .opts_bytes = sizeof(struct tokenizer_opts), .run = info_run,
};

const struct dan_cmd dan_cmd_tokenizer = {
    .name = "tokenizer", .doc = "train a tokenizer, encode and decode with it", .group = DAN_GROUP_TRAIN, .rank = 5,
    .example = "danlu tokenizer train --data books --vocab 8192 --out tok\ndanlu tokenizer encode tok \"Hello world\"",
    .sub = (const struct dan_cmd *const[]){&train_cmd, &encode_cmd, &decode_cmd, &info_cmd, NULL},
};
