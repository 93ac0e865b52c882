/* danlu tokenizer train */
#include <string.h>
#include "base/file.h"
#include "base/sys.h"
#include "base/threads.h"
#include "cli/tokenizer_cmd.h"
#include "data/text.h"
#include "io/json.h"

struct train_opts {
    struct dan_strings data, special, symbol;
    int64_t vocab, min_count, memory, max_piece, seeds;
    double coverage;
    const char *kind, *split, *out, *field, *normal, *format;
    bool allow_invalid, byte_fallback, split_digits;
};
#define AT(field) offsetof(struct train_opts, field)

static const struct dan_opt train_options[] = {
    {.name = "data", .type = 'S', .offset = AT(data), .meta = "PATH",
     .help = "text files, .jsonl files or folders of them; bytes needs none"},
    {.name = "out", .letter = 'o', .type = 's', .offset = AT(out), .meta = "DIR", .required = true, .help = "folder for tokenizer.json"},
    {.name = "kind", .type = 'e', .offset = AT(kind), .choices = "bpe|unigram|sp-bpe|wordpiece|char|bytes", .dflt = "bpe",
     .help = "byte-level BPE; SentencePiece's unigram or BPE; BERT's WordPiece; one token per character, or per byte"},
    {.name = "vocab", .letter = 'n', .type = 'i', .offset = AT(vocab), .dflt = "8192", .meta = "N", .min = 257, .max = 1 << 24,
     .alias = "vocab-size", .help = "vocabulary size, special tokens included"},
    {.name = "special", .type = 'S', .offset = AT(special), .meta = "TEXT", .dflt = "<|endoftext|>",
     .help = "special tokens; last in the vocabulary of bpe, char and bytes, where <unk> stands for unknown characters of char; "
             "unigram and sp-bpe have <unk> <s> </s>, wordpiece [PAD] [UNK] [CLS] [SEP] [MASK], and no other unless given"},
    {.name = "memory", .type = 'i', .offset = AT(memory), .dflt = "4Gi", .meta = "BYTES", .min = 1 << 20, .max = INFINITY,
     .help = "bound for the word table; beyond it rare words are left out, and counted"},
    {.name = "field", .type = 's', .offset = AT(field), .dflt = "text", .meta = "NAME", .help = "the text's field in .jsonl files"},
    {.name = "allow-invalid", .type = 'b', .offset = AT(allow_invalid), .help = "take bytes that are not UTF-8 as they are"},
    {.name = "split", .type = 'e', .offset = AT(split), .choices = "gpt2|gpt2-digits|llama3|qwen2", .dflt = "gpt2", .section = "bpe",
     .help = "how text is cut into words: the pattern of that family"},
    {.name = "min-count", .type = 'i', .offset = AT(min_count), .dflt = "2", .meta = "N", .min = 1, .max = INFINITY,
     .help = "pairs seen less often are not merged; also wordpiece and sp-bpe (there 1 unless given)"},
    {.name = "coverage", .type = 'f', .offset = AT(coverage), .meta = "SHARE", .min = 0.5, .max = 1, .alias = "character-coverage",
     .section = "unigram, sp-bpe, wordpiece",
     .help = "of the text by the characters that become pieces; 0.9995 unless given, wordpiece 1"},
    {.name = "normalisation", .type = 'e', .offset = AT(normal), .choices = "nmt_nfkc|nfkc|lower|none", .alias = "normalization|normalise",
     .help = "nmt_nfkc, nfkc or none for unigram and sp-bpe; lower or none for wordpiece; the first of these unless given. none keeps every space"},
    {.name = "byte-fallback", .type = 'b', .offset = AT(byte_fallback), .help = "unigram, sp-bpe: unknown characters become bytes, not <unk>"},
    {.name = "split-digits", .type = 'b', .offset = AT(split_digits), .help = "unigram, sp-bpe: every digit is a piece of its own"},
    {.name = "max-piece", .type = 'i', .offset = AT(max_piece), .dflt = "16", .meta = "N", .min = 1, .max = 512,
     .help = "unigram, sp-bpe: characters of the longest piece"},
    {.name = "symbol", .type = 'S', .offset = AT(symbol), .meta = "TEXT", .help = "unigram, sp-bpe: texts that are always one piece"},
    {.name = "seeds", .type = 'i', .offset = AT(seeds), .dflt = "1000000", .meta = "N", .min = 1000, .max = 4000000,
     .help = "unigram: pieces to begin with; 128 bytes of memory each"},
    {.name = "format", .type = 'e', .offset = AT(format), .choices = "huggingface|sentencepiece", .dflt = "huggingface",
     .help = "sentencepiece: unigram and sp-bpe also write tokenizer.model"},
    {.name = NULL},
};

struct training { struct dan_text *text; struct dan_pool *pool; struct dan_cli *cli; struct dan_bar bar; char stage; };

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

/* Names of the stages and what is counted in them. */
static const struct { const char *stage, *title, *unit; } stages[] = {
    {"read", "counting", "B"}, {"merge", "merging", "token"}, {"seed", "finding seeds", "piece"}, {"prune", "pruning", "piece"},
};

static bool show_progress(void *ctx, const char *stage, int64_t done, int64_t total)
{
    struct training *t = ctx;
    size_t k = 0;
    while (k + 1 < sizeof stages / sizeof *stages && strcmp(stages[k].stage, stage) != 0) k++;
    if (t->stage != stage[0]) {
        if (t->stage) dan_bar_finish(&t->bar);
        dan_bar_start(&t->bar, &t->cli->ui, stages[k].title, stages[k].unit, done, total);
        t->stage = stage[0];
    }
    dan_bar_update(&t->bar, done, "%s", "");
    return !t->cli->stop;
}

/* The bound that was asked for; by default no more than three quarters of what the machine has left. */
static size_t memory_bound(const struct train_opts *o, const struct dan_cli *cli)
{
    int64_t free_now = dan_memory_available();
    if (dan_given(cli, "memory") || free_now < 0 || free_now / 4 * 3 > o->memory) return (size_t)o->memory;
    return (size_t)(free_now / 4 * 3);
}

typedef int trainer(const struct dan_text_source *, const struct dan_tok_train_opts *, struct dan_tokenizer **, struct dan_tok_train_stats *,
                    struct dan_err *);

static int train_bytes(const struct dan_text_source *src, const struct dan_tok_train_opts *o, struct dan_tokenizer **out,
                       struct dan_tok_train_stats *stats, struct dan_err *e)
{
    (void)src, (void)stats;
    return dan_tokenizer_new_bytes(o, out, e);
}

static const struct kind { const char *name; trainer *train; bool reads, learns, sp, own_specials; } kinds[] = {
    {"bpe", dan_tokenizer_train_bpe, true, true, false, false},
    {"unigram", dan_tokenizer_train_unigram, true, true, true, true},
    {"sp-bpe", dan_tokenizer_train_spbpe, true, true, true, true},
    {"wordpiece", dan_tokenizer_train_wordpiece, true, true, false, true},
    {"char", dan_tokenizer_train_char, true, false, false, false},
    {"bytes", train_bytes, false, false, false, false},
};

static const struct kind *kind_of(const struct train_opts *o)
{
    size_t k = 0;
    while (k + 1 < sizeof kinds / sizeof *kinds && strcmp(kinds[k].name, o->kind) != 0) k++;
    return &kinds[k];
}

static int check_opts(const struct train_opts *o, const struct dan_cli *cli, struct dan_err *e)
{
    const struct kind *k = kind_of(o);
    static const char *const pieces[] = {"coverage", "normalisation"}, *const sp[] = {"byte-fallback", "split-digits", "max-piece", "symbol"};
    bool model = !strcmp(o->format, "sentencepiece");
    if (k->reads && !o->data.n) return dan_fail(e, DAN_EUSAGE, "no text to learn from; give it with --data PATH");
    if (model && !k->sp) return dan_fail(e, DAN_EUSAGE, "--format sentencepiece is for unigram and sp-bpe; --kind is '%s'", o->kind);
    for (size_t i = 0; i < sizeof sp / sizeof *sp && !k->sp; i++)
        if (dan_given(cli, sp[i])) return dan_fail(e, DAN_EUSAGE, "--%s is for --kind unigram and sp-bpe, not '%s'", sp[i], o->kind);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces && !(k->own_specials); i++)
        if (dan_given(cli, pieces[i])) return dan_fail(e, DAN_EUSAGE, "--%s is for --kind unigram, sp-bpe and wordpiece, not '%s'", pieces[i], o->kind);
    return DAN_OK;
}

static int make_tokenizer(const struct train_opts *o, struct training *t, int64_t bytes, struct dan_str *model_file, struct dan_tokenizer **out,
                          struct dan_tok_train_stats *stats, struct dan_err *e)
{
    const struct kind *k = kind_of(o);
    struct dan_text_source src = {next_document, t, bytes};
    struct dan_tok_train_opts to = {
        .vocab_size = (int32_t)o->vocab, .special = o->special.v, .n_special = o->special.n, .split = o->split,
        .max_bytes = memory_bound(o, t->cli), .pool = t->pool, .coverage = o->coverage, .normal = o->normal, .byte_fallback = o->byte_fallback,
        .split_digits = o->split_digits, .max_piece = (int32_t)o->max_piece, .symbol = o->symbol.v, .n_symbol = o->symbol.n,
        .seeds = (size_t)o->seeds, .progress = show_progress, .progress_ctx = t,
    };
    if (!strcmp(k->name, "bpe") || dan_given(t->cli, "min-count")) to.min_pair_count = o->min_count;
    if (k->own_specials && !dan_given(t->cli, "special")) to.special = NULL, to.n_special = 0;
    if (!strcmp(o->format, "sentencepiece")) to.model_file = model_file;
    int rc = k->train(&src, &to, out, stats, e);
    if (t->stage) dan_bar_finish(&t->bar);
    return rc;
}

static int save(const struct train_opts *o, const struct dan_tokenizer *made, const struct dan_str *model_file, struct dan_err *e)
{
    int rc = dan_mkdirs(o->out, e);
    if (!rc) rc = dan_tokenizer_save(made, o->out, e);
    if (rc || !model_file->n) return rc;
    struct dan_str path = {0};
    dan_path_join(&path, o->out, "tokenizer.model");
    rc = path.failed ? dan_fail(e, DAN_ENOMEM, "out of memory") : dan_write_file(path.p, model_file->p, model_file->n, e);
    dan_str_release(&path);
    return rc;
}

static json_t *training_json(const struct train_opts *o, int vocab, const struct dan_tok_train_stats *s, double seconds)
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

static int report_training(const struct train_opts *o, struct dan_cli *cli, const struct dan_tokenizer *t,
                           const struct dan_tok_train_stats *s, double seconds, struct dan_err *e)
{
    char a[DAN_NUM], b[DAN_NUM], c[DAN_NUM];
    int vocab = dan_tokenizer_vocab_size(t);
    if (s->pruned_words)
        dan_warn(&cli->ui, "%s rare words (%s uses) were left out to stay within the memory bound; raise --memory to count them",
                 dan_fmt_count((double)s->pruned_words, a), dan_fmt_count((double)s->pruned_uses, b));
    if (kind_of(o)->learns && vocab < o->vocab)
        dan_warn(&cli->ui, "only %d tokens: the text has no more; give more text%s", vocab,
                 !strcmp(o->kind, "unigram") ? " or more --seeds" : " or a lower --min-count");
    if (s->bytes)
        dan_say(&cli->ui, "%s tokenizer with %d tokens from %s of text in %s, saved in '%s'", o->kind, vocab,
                dan_fmt_bytes((double)s->bytes, a), dan_fmt_time(seconds, c), o->out);
    else dan_say(&cli->ui, "%s tokenizer with %d tokens, saved in '%s'", o->kind, vocab, o->out);
    if (!cli->json) return DAN_OK;
    return dan_out_json(&cli->ui, training_json(o, vocab, s, seconds), e);
}

static int train_run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    const struct train_opts *o = opts;
    struct dan_text_opts to = {.field = o->field, .allow_invalid = o->allow_invalid};
    struct training t = {.cli = cli};
    struct dan_text_stats size = {0};
    struct dan_tok_train_stats stats = {0};
    struct dan_tokenizer *made = NULL;
    struct dan_str model_file = {0};
    double from = dan_now();
    bool reads = kind_of(o)->reads;
    int rc = check_opts(o, cli, e);
    if (!rc && reads) rc = dan_text_open(o->data.v, o->data.n, &to, &t.text, e);
    if (!rc && reads) rc = dan_text_count(t.text, &size, e);
    if (!rc) rc = dan_pool_new((int)cli->threads, &t.pool, e);
    if (!rc) rc = make_tokenizer(o, &t, size.bytes, &model_file, &made, &stats, e);
    if (!rc) rc = save(o, made, &model_file, e);
    if (!rc) rc = report_training(o, cli, made, &stats, dan_now() - from, e);
    dan_tokenizer_free(made);
    dan_str_release(&model_file);
    dan_pool_free(t.pool);
    dan_text_free(t.text);
    return rc;
}

const struct dan_cmd dan_tokenizer_cmd_train = {
    .name = "train", .doc = "learn a tokenizer from text",
    .about = "Writes tokenizer.json and tokenizer_config.json, which Hugging Face tokenizers loads too. bpe: byte-level BPE, any text can "
             "be encoded. unigram, sp-bpe: as SentencePiece trains them, spaces become part of the pieces. wordpiece: for BERT; learnt as "
             "Hugging Face's trainer does, by count. char: one token per character of the text. bytes: nothing is learnt. "
             "The result depends on the text and the options alone, not on --threads.",
    .example = "danlu tokenizer train --data books --vocab 8192 --out tok\n"
               "danlu tokenizer train --data books --kind unigram --vocab 8000 --byte-fallback --format sentencepiece --out uni",
    .opts = train_options, .opts_bytes = sizeof(struct train_opts), .run = train_run,
};
