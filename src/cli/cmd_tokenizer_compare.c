/* danlu tokenizer info | compare */
#include <stdio.h>
#include <string.h>
#include "base/sys.h"
#include "base/utf8.h"
#include "cli/tokenizer_cmd.h"
#include "data/text.h"
#include "text/about.h"
#include "text/unicode.h"

struct compare_opts { struct dan_strings data, models; const char *model, *field; };
#define AT(field) offsetof(struct compare_opts, field)
#define FIELD {.name = "field", .type = 's', .offset = AT(field), .dflt = "text", .meta = "NAME", .help = "the text's field in .jsonl files"}

static const struct dan_opt info_options[] = {
    {.name = "model", .type = 'p', .offset = AT(model), .meta = "MODEL",
     .help = "model folder, or tokenizer.json, vocab.txt, tokenizer.model, NAME.tiktoken, tokenizer.bin, MODEL.gguf"},
    {.name = "data", .type = 'S', .offset = AT(data), .meta = "PATH", .help = "measure bytes per token on this text"},
    FIELD,
    {.name = NULL},
};
static const struct dan_opt compare_options[] = {
    {.name = "data", .type = 'S', .offset = AT(data), .meta = "PATH", .required = true,
     .help = "text files, .jsonl files or folders of them to compare on"},
    FIELD,
    {.name = "models", .type = 'R', .offset = AT(models), .meta = "MODEL", .required = true,
     .help = "model folders or tokenizer files, two or more"},
    {.name = NULL},
};

/* --- measuring */
enum { N_GROUPS = 6 };
static const char *const group_names[N_GROUPS] = {"latin", "han and kana", "other letters", "digits", "space", "punctuation"};
struct measure {
    int64_t bytes, chars, words, tokens, unknown, docs, inexact;
    int64_t group_bytes[N_GROUPS];
    double  group_tokens[N_GROUPS];            /* a token's share in each by its bytes */
    double  seconds;
};

static int group_of(int32_t cp)
{
    enum { LATIN = 1, HAN = 4, COMMON = 3 };   /* dan_uni_script's */
    if (dan_uni_is(DAN_UNI_SPACE, cp)) return 4;
    if (cp >= '0' && cp <= '9') return 3;
    int script = dan_uni_script(cp);
    if (script == LATIN) return 0;
    if (script == HAN) return 1;
    return cp < 0 || script == COMMON || dan_uni_is(DAN_UNI_PUNCT, cp) ? 5 : 2;
}

/* Words are what white space parts, and each Chinese character. */
static void count_text(struct measure *m, const char *p, size_t n)
{
    bool inside = false;
    for (size_t i = 0, len; i < n; i += len) {
        int32_t cp;
        len = (size_t)dan_utf8_next(p + i, n - i, &cp);
        int group = group_of(cp);
        m->group_bytes[group] += (int64_t)len;
        m->chars++;
        m->words += group == 1 || (group != 4 && !inside);
        inside = group != 4 && group != 1;
    }
}

static void count_span(struct measure *m, const char *p, struct dan_span s)
{
    double bytes = (double)(s.to - s.from);
    for (size_t i = s.from, len; i < s.to; i += len) {
        int32_t cp;
        len = (size_t)dan_utf8_next(p + i, s.to - i, &cp);
        m->group_tokens[group_of(cp)] += (double)len / bytes;
    }
}

static int measure_document(const struct dan_tokenizer *t, struct dan_tok_cache *cache, const char *p, size_t n, bool deep, struct measure *m,
                            struct dan_err *e)
{
    struct dan_ids ids = {0};
    struct dan_spans span = {0};
    struct dan_str back = {0};
    double from = dan_now();
    int rc = dan_tok_cache_encode(cache, p, n, DAN_ENCODE_UNK, &ids, e);
    m->seconds += dan_now() - from;
    m->docs++;
    m->bytes += (int64_t)n;
    m->tokens += (int64_t)ids.n;
    count_text(m, p, n);
    int32_t unk = dan_tokenizer_unk(t);
    for (size_t i = 0; i < ids.n; i++) m->unknown += unk >= 0 && ids.v[i] == unk;
    if (!rc) dan_tokenizer_decode(t, ids.v, ids.n, &back);
    m->inexact += back.n != n || memcmp(dan_str_c(&back), p, n) != 0;
    ids.n = 0;
    if (!rc && deep) rc = dan_tokenizer_encode_offsets(t, p, n, DAN_ENCODE_UNK, &ids, &span, e);
    for (size_t i = 0; i < span.n; i++) count_span(m, p, span.v[i]);
    if (!rc && (ids.failed || back.failed || span.failed)) rc = dan_fail(e, DAN_ENOMEM, "out of memory for a document of %zu bytes", n);
    dan_ids_release(&ids);
    dan_spans_release(&span);
    dan_str_release(&back);
    return rc;
}

/* deep: also by group of characters, which needs offsets and so takes longer. */
static int measure_text(const struct compare_opts *o, const struct dan_tokenizer *t, bool deep, struct measure *m, struct dan_err *e)
{
    struct dan_text_opts to = {.field = o->field, .allow_invalid = true};
    struct dan_text *text = NULL;
    struct dan_tok_cache *cache = NULL;
    struct dan_document doc = {0};
    int rc = dan_text_open(o->data.v, o->data.n, &to, &text, e);
    if (!rc) rc = dan_tok_cache_new(t, &cache, e);
    while (!rc && !(rc = dan_text_next(text, &doc, e)) && doc.p) rc = measure_document(t, cache, doc.p, doc.n, deep, m, e);
    dan_tok_cache_free(cache);
    dan_text_free(text);
    return rc;
}

static double per(double a, double b) { return b > 0 ? a / b : 0; }

static json_t *measure_json(const struct measure *m, bool deep)
{
    double tokens = (double)m->tokens;
    json_t *j = json_pack("{s:I,s:I,s:I,s:I,s:f,s:f,s:f,s:f,s:b,s:f,s:f}", "documents", (json_int_t)m->docs, "bytes", (json_int_t)m->bytes,
                          "tokens", (json_int_t)m->tokens, "words", (json_int_t)m->words, "bytes_per_token", per((double)m->bytes, tokens),
                          "chars_per_token", per((double)m->chars, tokens), "tokens_per_word", per(tokens, (double)m->words), "unknown_share",
                          per((double)m->unknown, tokens), "exact", m->inexact == 0, "seconds", m->seconds, "bytes_per_second",
                          per((double)m->bytes, m->seconds));
    json_t *groups = json_object();
    for (int g = 0; g < N_GROUPS && deep; g++)
        if (m->group_bytes[g])
            json_object_set_new(groups, group_names[g], json_pack("{s:I,s:f}", "bytes", (json_int_t)m->group_bytes[g], "bytes_per_token",
                                                                  per((double)m->group_bytes[g], m->group_tokens[g])));
    if (deep) json_object_set(j, "by_characters", groups);
    json_decref(groups);
    return j;
}

/* --- info */
static json_t *special_json(const struct dan_tokenizer *t)
{
    json_t *list = json_array();
    int32_t id;
    for (size_t i = 0; (id = dan_tokenizer_added(t, i)) >= 0; i++) {
        size_t n;
        const char *p = dan_tokenizer_token(t, id, &n);
        json_array_append_new(list, json_pack("{s:i,s:o,s:b}", "id", id, "text", dan_text_json(p, n), "special",
                                              dan_tokenizer_is_special(t, id)));
    }
    return list;
}

static void put_measure(const struct measure *m, struct dan_str *out)
{
    char a[DAN_NUM], b[DAN_NUM], c[DAN_NUM];
    double tokens = (double)m->tokens;
    dan_str_printf(out, "text        %s in %lld documents, %s tokens\n", dan_fmt_bytes((double)m->bytes, a), (long long)m->docs,
                   dan_fmt_count(tokens, b));
    dan_str_printf(out, "            %.3f bytes per token, %.3f characters per token, %.3f tokens per word, encoded at %s/s\n",
                   per((double)m->bytes, tokens), per((double)m->chars, tokens), per(tokens, (double)m->words),
                   dan_fmt_bytes(per((double)m->bytes, m->seconds), c));
}

static void put_role(const struct dan_tokenizer *t, const char *role, int32_t id, struct dan_str *out)
{
    size_t n;
    const char *p = dan_tokenizer_token(t, id, &n);
    if (p) dan_str_printf(out, "%-11s %d  %.*s\n", role, id, (int)n, p);
    else dan_str_printf(out, "%-11s none\n", role);
}

static json_t *info_json(const struct compare_opts *o, const struct dan_tokenizer *t, const struct dan_tok_about *a, const struct measure *m)
{
    json_t *j = json_pack("{s:s,s:s,s:s,s:o,s:i,s:i,s:i,s:i,s:o,s:b,s:o}", "kind", dan_tokenizer_kind(t), "algorithm", a->algorithm, "splitter",
                          a->splitter, "file", dan_text_json(o->model, strlen(o->model)), "vocab_size", dan_tokenizer_vocab_size(t), "bos",
                          dan_tokenizer_bos(t), "eos", dan_tokenizer_eos(t), "unk", dan_tokenizer_unk(t), "added_tokens", special_json(t),
                          "chat_template", dan_tokenizer_chat_template(t) != NULL, "data", m ? measure_json(m, false) : json_null());
    const struct { const char *key; const struct dan_str *text; } parts[] = {
        {"normalizer", &a->normalizer}, {"pre_tokenizer", &a->pre_tokenizer}, {"decoder", &a->decoder}, {"post_processor", &a->post_processor}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        json_object_set_new(j, parts[i].key, dan_text_json(dan_str_c(parts[i].text), parts[i].text->n));
    const char *assumed = dan_tokenizer_assumed(t);
    json_object_set_new(j, "assumed", assumed ? json_string(assumed) : json_null());
    return j;
}

static int print_info(const struct compare_opts *o, struct dan_cli *cli, const struct dan_tokenizer *t, const struct dan_tok_about *a,
                      const struct measure *m, struct dan_err *e)
{
    if (cli->json) return dan_out_json(&cli->ui, info_json(o, t, a, m), e);
    struct dan_str out = {0};
    int32_t id;
    dan_str_printf(&out, "file        %s\nkind        %s\nalgorithm   %s\nvocab       %d\n", o->model, dan_tokenizer_kind(t), a->algorithm,
                   dan_tokenizer_vocab_size(t));
    dan_str_printf(&out, "normaliser  %s\nsplit       %s\npre-tokens  %s\ndecoder     %s\naround      %s\n", dan_str_c(&a->normalizer), a->splitter,
                   dan_str_c(&a->pre_tokenizer), dan_str_c(&a->decoder), dan_str_c(&a->post_processor));
    put_role(t, "bos", dan_tokenizer_bos(t), &out);
    put_role(t, "eos", dan_tokenizer_eos(t), &out);
    put_role(t, "unk", dan_tokenizer_unk(t), &out);
    for (size_t i = 0; (id = dan_tokenizer_added(t, i)) >= 0; i++)
        put_role(t, dan_tokenizer_is_special(t, id) ? "special" : "added", id, &out);
    dan_str_printf(&out, "template    %s\n", dan_tokenizer_chat_template(t) ? "yes" : "none");
    if (dan_tokenizer_assumed(t)) dan_str_printf(&out, "assumed     %s\n", dan_tokenizer_assumed(t));
    if (m) put_measure(m, &out);
    int rc = out.failed ? dan_fail(e, DAN_ENOMEM, "out of memory") : dan_out(&cli->ui, dan_str_c(&out), out.n, e);
    dan_str_release(&out);
    return rc;
}

static int info_run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    const struct compare_opts *o = opts;
    struct dan_tokenizer *t = NULL;
    struct measure m = {0};
    struct dan_tok_about about = {0};
    int rc = dan_tokenizer_load(o->model, &t, e);
    if (!rc) dan_tok_about(t, &about);
    if (!rc && o->data.n) rc = measure_text(o, t, false, &m, e);
    if (!rc) rc = print_info(o, cli, t, &about, o->data.n ? &m : NULL, e);
    dan_tok_about_release(&about);
    dan_tokenizer_free(t);
    return rc;
}

/* --- compare */
static void put_row(struct dan_table *table, const char *model, const struct dan_tokenizer *t, const struct dan_tok_about *a,
                    const struct measure *m)
{
    char cell[7][DAN_NUM], rate[DAN_NUM];
    double tokens = (double)m->tokens;
    snprintf(cell[0], DAN_NUM, "%d", dan_tokenizer_vocab_size(t));
    snprintf(cell[1], DAN_NUM, "%.3f", per((double)m->bytes, tokens));
    snprintf(cell[2], DAN_NUM, "%.3f", per((double)m->chars, tokens));
    snprintf(cell[3], DAN_NUM, "%.3f", per(tokens, (double)m->words));
    snprintf(cell[4], DAN_NUM, "%.3f%%", 100 * per((double)m->unknown, tokens));
    snprintf(cell[5], DAN_NUM, "%s", m->inexact ? "no" : "yes");
    snprintf(cell[6], DAN_NUM, "%.28s/s", dan_fmt_bytes(per((double)m->bytes, m->seconds), rate));
    dan_table_row(table, (const char *const[]){model, a->algorithm, cell[0], cell[1], cell[2], cell[3], cell[4], cell[5], cell[6]});
}

static void put_groups(struct dan_table *table, const char *model, const struct measure *m)
{
    char cell[N_GROUPS][DAN_NUM];
    const char *row[N_GROUPS + 1] = {model};
    for (int g = 0; g < N_GROUPS; g++) {
        if (m->group_bytes[g]) snprintf(cell[g], DAN_NUM, "%.3f", per((double)m->group_bytes[g], m->group_tokens[g]));
        else snprintf(cell[g], DAN_NUM, "-");
        row[g + 1] = cell[g];
    }
    dan_table_row(table, row);
}

/* One tokenizer: its row in both tables, or its line of JSON. */
static int compare_one(const struct compare_opts *o, struct dan_cli *cli, const char *model, struct dan_table *sizes, struct dan_table *groups,
                       struct dan_err *e)
{
    struct dan_tokenizer *t = NULL;
    struct dan_tok_about about = {0};
    struct measure m = {0};
    int rc = dan_tokenizer_load(model, &t, e);
    if (!rc) rc = measure_text(o, t, true, &m, e);
    if (!rc) dan_tok_about(t, &about);
    if (!rc && cli->json) {
        json_t *line = json_pack("{s:o,s:s,s:i,s:o}", "model", dan_text_json(model, strlen(model)), "algorithm", about.algorithm, "vocab_size",
                                 dan_tokenizer_vocab_size(t), "data", measure_json(&m, true));
        rc = dan_out_json(&cli->ui, line, e);
    } else if (!rc) {
        put_row(sizes, model, t, &about, &m);
        put_groups(groups, model, &m);
    }
    dan_tok_about_release(&about);
    dan_tokenizer_free(t);
    return rc;
}

static int compare_run(const void *opts, struct dan_cli *cli, struct dan_err *e)
{
    static const char *const heads[] = {"tokenizer", "algorithm", "vocab", "bytes/token", "chars/token", "tokens/word", "unknown", "exact", "speed"};
    static const char *const group_heads[] = {"bytes/token of", "latin", "han, kana", "other letters", "digits", "space", "punctuation"};
    const struct compare_opts *o = opts;
    struct dan_table sizes, groups;
    struct dan_str out = {0};
    int rc = DAN_OK;
    dan_table_init(&sizes, "llrrrrrrr", heads);
    dan_table_init(&groups, "lrrrrrr", group_heads);
    for (size_t i = 0; i < o->models.n && !rc; i++) rc = compare_one(o, cli, o->models.v[i], &sizes, &groups, e);
    if (!rc && !cli->json) {
        int width = cli->ui.out_tty ? dan_ui_width() : 0;
        dan_table_print(&sizes, width, cli->ui.out_colour, &out);
        dan_str_putc(&out, '\n');
        dan_table_print(&groups, width, cli->ui.out_colour, &out);
        rc = out.failed ? dan_fail(e, DAN_ENOMEM, "out of memory") : dan_out(&cli->ui, dan_str_c(&out), out.n, e);
    }
    dan_table_release(&sizes);
    dan_table_release(&groups);
    dan_str_release(&out);
    return rc;
}

const struct dan_cmd dan_tokenizer_cmd_info = {
    .name = "info", .doc = "kind, algorithm, vocabulary and special tokens; how well it fits a text",
    .about = "merge-list BPE merges the pair that comes first in a list, rank BPE the pair whose joined token has the lowest id (tiktoken), score "
             "BPE the pair whose joined piece scores highest (SentencePiece): three algorithms that give different ids from one vocabulary.",
    .example = "danlu tokenizer info tok --data book.txt",
    .opts = info_options, .opts_bytes = sizeof(struct compare_opts), .run = info_run,
};
const struct dan_cmd dan_tokenizer_cmd_compare = {
    .name = "compare", .doc = "several tokenizers on the same text, side by side",
    .about = "Bytes and characters per token, tokens per word (what white space parts, and each Chinese character), unknown tokens, whether decoding "
             "gives back the very bytes of every document, encoding speed on one thread; then bytes per token by kind of character.",
    .example = "danlu tokenizer compare tok uni --data book.txt",
    .opts = compare_options, .opts_bytes = sizeof(struct compare_opts), .run = compare_run,
};
