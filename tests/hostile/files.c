#include "files.h"
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "base/str.h"

/* --- GGUF, piece by piece */

enum { U8 = 0, U32 = 4, I32 = 5, F32 = 6, STRING = 8, ARRAY = 9, U64 = 10 };

static void num(struct dan_str *s, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) dan_str_putc(s, (char)(v >> 8 * i));
}

static void text(struct dan_str *s, const char *p)
{
    num(s, strlen(p), 8);
    dan_str_puts(s, p);
}

static void head(struct dan_str *s, uint64_t tensors, uint64_t keys)
{
    dan_str_append(s, "GGUF\3\0\0\0", 8);
    num(s, tensors, 8);
    num(s, keys, 8);
}

static void key(struct dan_str *s, const char *name, uint32_t type)
{
    text(s, name);
    num(s, type, 4);
}

static void array(struct dan_str *s, const char *name, uint32_t type, uint64_t n)
{
    key(s, name, ARRAY);
    num(s, type, 4);
    num(s, n, 8);
}

static void tensor(struct dan_str *s, const char *name, uint32_t type, uint64_t offset, uint32_t dims, const uint64_t *d)
{
    text(s, name);
    num(s, dims, 4);
    for (uint32_t i = 0; i < dims; i++) num(s, d[i], 8);
    num(s, type, 4);
    num(s, offset, 8);
}

static void vector(struct dan_str *s, const char *name, uint64_t offset, uint64_t n) { tensor(s, name, 0, offset, 1, &n); }

static void data(struct dan_str *s, size_t n)
{
    while (s->n % 32) dan_str_putc(s, 0);
    for (size_t i = 0; i < n; i++) dan_str_putc(s, 0);
}

static void string_length(struct dan_str *s)
{
    head(s, 0, 1);
    num(s, UINT64_MAX, 8);                     /* + 1 for the NUL: malloc(0) */
    dan_str_puts(s, "general.name");
}

static void array_of_strings(struct dan_str *s)
{
    head(s, 0, 1);
    array(s, "tokenizer.ggml.tokens", STRING, (uint64_t)1 << 60);      /* times 16: 0 */
    text(s, "a");
}

static void many_tensors(struct dan_str *s)
{
    head(s, UINT64_MAX / 64, 0);
    vector(s, "w", 0, 1);
    data(s, 64);
}

static void many_keys(struct dan_str *s)
{
    head(s, 0, (uint64_t)1 << 59);
    key(s, "a", U32);
    num(s, 1, 4);
}

static void many_dims(struct dan_str *s)
{
    static const uint64_t d[64] = {1};
    head(s, 1, 0);
    tensor(s, "w", 0, 0, 64, d);
    data(s, 64);
}

static void cut_in_array(struct dan_str *s)
{
    head(s, 0, 3);
    key(s, "a", STRING);
    text(s, "long enough for three keys to fit into the file, so that the counts are believed");
    key(s, "c", ARRAY);
    num(s, STRING, 4);
}

static void token_length(struct dan_str *s)
{
    head(s, 0, 1);
    array(s, "tokenizer.ggml.tokens", STRING, 1);
    num(s, 0x80000005u, 8);                    /* negative as int32; the file is made that long */
}

static void sum_wraps(struct dan_str *s)
{
    head(s, 2, 0);
    vector(s, "a", 0, (uint64_t)1 << 46);
    vector(s, "b", (uint64_t)1 << 48, UINT64_MAX / 4 - ((uint64_t)1 << 46) + 1);
    data(s, 64);
}

static void sum_wraps_padded(struct dan_str *s)
{
    head(s, 3, 0);
    vector(s, "a", 0, 8);
    vector(s, "b", 32, (uint64_t)1 << 47);
    vector(s, "c", 32 + ((uint64_t)1 << 49), (UINT64_MAX - 15) / 4);
    data(s, 256);
}

static void bytes_wrap(struct dan_str *s)
{
    static const uint64_t d[4] = {((uint64_t)1 << 32) + 2, (uint64_t)1 << 30, 1, 1};        /* times 4: 2^33 */
    head(s, 1, 0);
    tensor(s, "w", 0, 0, 4, d);
    data(s, 4096);
}

static void offset_wraps(struct dan_str *s)
{
    head(s, 1, 0);
    vector(s, "w", UINT64_MAX - 31, 16);
    data(s, 64);
}

static void alignment(struct dan_str *s)
{
    head(s, 1, 1);
    key(s, "general.alignment", U32);
    num(s, 0x80000000u, 4);
    vector(s, "w", 0, 1);
    data(s, 64);
}

static void no_alignment(struct dan_str *s)
{
    head(s, 1, 1);
    key(s, "general.alignment", U32);
    num(s, 0, 4);
    vector(s, "w", 0, 1);
    data(s, 64);
}

static void beyond_the_end(struct dan_str *s)
{
    head(s, 1, 0);
    vector(s, "token_embd.weight", 1 << 20, 16);
    data(s, 64);
}

static void array_length(struct dan_str *s)
{
    head(s, 0, 1);
    array(s, "tokenizer.ggml.token_type", I32, (uint64_t)1 << 40);
    num(s, 1, 4);
}

static void nested_array(struct dan_str *s)
{
    head(s, 0, 1);
    array(s, "a", ARRAY, 1000000);
    for (int i = 0; i < 1000; i++) num(s, ARRAY, 4), num(s, 1000000, 8);
}

static void unknown_type(struct dan_str *s)
{
    head(s, 0, 1);
    key(s, "a", 0x7fffffff);
    num(s, 0, 8);
}

static void twice(struct dan_str *s)
{
    head(s, 2, 0);
    vector(s, "w", 0, 8);
    vector(s, "w", 32, 8);
    data(s, 64);
}

static void overlap(struct dan_str *s)
{
    head(s, 2, 0);
    vector(s, "a", 0, 16);
    vector(s, "b", 32, 8);
    data(s, 128);
}

/* --- safetensors: a header, then data */

static void safetensors(struct dan_str *s, const char *json, size_t n)
{
    text(s, json);
    for (size_t i = 0; i < n; i++) dan_str_putc(s, 0);
}

static void header_bomb(struct dan_str *s)
{
    num(s, 100000001, 8);
    dan_str_putc(s, '{');
}

static void st_overlap(struct dan_str *s)
{
    safetensors(s, "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12);
}

static void st_hole(struct dan_str *s)
{
    safetensors(s, "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[16,24]}}", 24);
}

static void st_polyglot(struct dan_str *s)
{
    safetensors(s, "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8);
    dan_str_append(s, "PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 22);      /* an empty zip archive */
}

static void st_twice(struct dan_str *s)
{
    safetensors(s, "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 8);
}

static void st_product(struct dan_str *s)
{
    safetensors(s, "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,2],\"data_offsets\":[0,0]}}", 0);
}

static void st_hollow(struct dan_str *s)
{
    safetensors(s, "{\"a\":{\"dtype\":\"F32\",\"shape\":[0,1099511627776,1099511627776],\"data_offsets\":[0,0]}}", 0);
}

static void st_negative(struct dan_str *s)
{
    safetensors(s, "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1,-8],\"data_offsets\":[0,32]}}", 32);
}

static void st_offsets(struct dan_str *s)
{
    safetensors(s, "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[9223372036854775800,9223372036854775807]}}", 8);
}

static void st_deep(struct dan_str *s)
{
    struct dan_str deep = {0};
    dan_str_puts(&deep, "{\"a\":");
    for (int i = 0; i < 100000; i++) dan_str_putc(&deep, '[');
    safetensors(s, dan_str_c(&deep), 0);
    dan_str_release(&deep);
}

/* --- tokenizers */

static void far_id(struct dan_str *s)
{
    dan_str_puts(s, "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":16777215},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}}");
}

static void slow_pattern(struct dan_str *s)
{
    dan_str_puts(s, "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
                    "\"pattern\":{\"Regex\":\"(((a+)+)+)+c\"},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                    "\"use_regex\":false}]}}");
}

static void bad_template_id(struct dan_str *s)
{
    dan_str_puts(s, "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
                    "\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"x\",-5],\"cls\":[\"y\",2147483648]}}");
}

static void backtracking(struct dan_str *s)
{
    dan_str_puts(s, "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a+)+$\"},\"behavior\":\"Isolated\",\"invert\":false},"
                    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"!\":1},\"merges\":[]}}");
}

/* Each step makes sixteen of one: 16^40 bytes of a letter. */
static void normalizer_bomb(struct dan_str *s)
{
    dan_str_puts(s, "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[");
    for (int i = 0; i < 40; i++)
        dan_str_printf(s, "%s{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aaaaaaaaaaaaaaaa\"}", i ? "," : "");
    dan_str_puts(s, "]},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"!\":1},\"merges\":[]}}");
}

/* strtol would read -1, +1 and 1. */
static void byte_names(struct dan_str *s)
{
    dan_str_puts(s, "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"<0x-1>\":1,\"<0x+1>\":2,\"<0x 1>\":3,\"<0xg0>\":4,\"<unk>\":5},\"merges\":[],"
                    "\"byte_fallback\":true,\"unk_token\":\"<unk>\"}}");
}

static void u32(struct dan_str *s, const char *name, uint32_t v)
{
    key(s, name, U32);
    num(s, v, 4);
}

/* Everything is there but the blocks. */
static void many_blocks(struct dan_str *s)
{
    const uint64_t square[] = {8, 8};
    head(s, 2, 8);
    key(s, "general.architecture", STRING);
    text(s, "llama");
    u32(s, "llama.block_count", UINT32_MAX);
    u32(s, "llama.embedding_length", 8);
    u32(s, "llama.attention.head_count", 1);
    u32(s, "llama.feed_forward_length", 8);
    u32(s, "llama.context_length", 8);
    u32(s, "llama.vocab_size", 8);
    key(s, "llama.attention.layer_norm_rms_epsilon", F32);
    num(s, 0x3727c5ac, 4);                     /* 1e-5 */
    tensor(s, "token_embd.weight", 0, 0, 2, square);
    vector(s, "output_norm.weight", 256, 8);
    data(s, 288);
}

/* --- templates */

static void walk_classes(struct dan_str *s)
{
    dan_str_puts(s, "{% for x in ().__class__.__base__.__subclasses__() %}{% if 'warning' in x.__name__ %}"
                    "{{ x()._module.__builtins__['__import__']('os').popen('touch harmed').read() }}{% endif %}{% endfor %}");
}
static void walk_by_filter(struct dan_str *s) { dan_str_puts(s, "{{ (''|attr('__class__')|attr('__mro__'))[1] }}"); }
static void walk_by_format(struct dan_str *s) { dan_str_puts(s, "{{ '{0.__class__.__mro__}'.format('') }}"); }
static void walk_macro(struct dan_str *s) { dan_str_puts(s, "{% macro m() %}{% endmacro %}{{ m.__globals__['__builtins__'] }}"); }
static void walk_globals(struct dan_str *s) { dan_str_puts(s, "{{ range.__globals__.os.system('touch harmed') }}"); }
static void reads_a_file(struct dan_str *s) { dan_str_puts(s, "{% include '/etc/passwd' %}"); }
static void text_bomb(struct dan_str *s)
{
    dan_str_puts(s, "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(64) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}");
}
static void endless(struct dan_str *s)
{
    dan_str_puts(s, "{% for a in range(99999) %}{% for b in range(99999) %}{% set c = a * b %}{% endfor %}{% endfor %}");
}
static void deep_template(struct dan_str *s)
{
    dan_str_puts(s, "{{ ");
    for (int i = 0; i < 200001; i++) dan_str_putc(s, i == 100000 ? '1' : i < 100000 ? '(' : ')');
    dan_str_puts(s, " }}");
}
static void wide_format(struct dan_str *s) { dan_str_puts(s, "{{ '%999999999d' % 1 }}"); }

/* --- the table */

static const struct entry { struct hostile_file file; const char *in; void (*make)(struct dan_str *s); uint64_t bytes; } entries[] = {
    {{"CVE-2024-23496.gguf", AS_GGUF, "a key would have"}, NULL, string_length, 0},
    {{"CVE-2024-21825.gguf", AS_GGUF, "do not fit into the file"}, NULL, array_of_strings, 0},
    {{"CVE-2024-21836.gguf", AS_GGUF, "tensors .at most"}, NULL, many_tensors, 0},
    {{"CVE-2024-23605.gguf", AS_GGUF, "keys .at most"}, NULL, many_keys, 0},
    {{"CVE-2024-21802.gguf", AS_GGUF, "64 dimensions"}, NULL, many_dims, 0},
    {{"CVE-2024-32878.gguf", AS_GGUF, "truncated"}, NULL, cut_in_array, 0},
    {{"CVE-2025-49847.gguf", AS_GGUF, "2147483653 bytes"}, NULL, token_length, (uint64_t)3 << 30},
    {{"CVE-2025-53630.gguf", AS_GGUF, "overflows|truncated"}, NULL, sum_wraps, 0},
    {{"CVE-2026-27940.gguf", AS_GGUF, "overflows|truncated"}, NULL, sum_wraps_padded, 0},
    {{"CVE-2026-33298.gguf", AS_GGUF, "overflows"}, NULL, bytes_wrap, 0},
    {{"CVE-2026-7482.gguf", AS_GGUF, "truncated"}, NULL, beyond_the_end, 0},
    {{"llama.cpp-26318.gguf", AS_GGUF, "truncated"}, NULL, offset_wraps, 0},
    {{"llama.cpp-24997.gguf", AS_GGUF, "general.alignment"}, NULL, alignment, 0},
    {{"GO-2025-3559.gguf", AS_GGUF, "general.alignment"}, NULL, no_alignment, 0},
    {{"GO-2025-3582.gguf", AS_GGUF, "does not name"}, NULL, unknown_type, 0},
    {{"ollama-17042.gguf", AS_GGUF, "do not fit into the file"}, NULL, array_length, 0},
    {{"CVE-2025-0315.gguf", AS_GGUF, "array of arrays"}, NULL, nested_array, 0},
    {{"gguf-name-twice.gguf", AS_GGUF, "twice"}, NULL, twice, 0},
    {{"gguf-overlap.gguf", AS_GGUF, "overlaps"}, NULL, overlap, 0},
    {{"safetensors-header-bomb.safetensors", AS_WEIGHTS, "at most 100000000"}, NULL, header_bomb, 0},
    {{"safetensors-overlap.safetensors", AS_WEIGHTS, "must follow each other"}, NULL, st_overlap, 0},
    {{"safetensors-hole.safetensors", AS_WEIGHTS, "must follow each other"}, NULL, st_hole, 0},
    {{"safetensors-polyglot.safetensors", AS_WEIGHTS, "after its last tensor"}, NULL, st_polyglot, 0},
    {{"safetensors-key-twice.safetensors", AS_WEIGHTS, "duplicate"}, NULL, st_twice, 0},
    {{"safetensors-product.safetensors", AS_WEIGHTS, "overflows"}, NULL, st_product, 0},
    {{"safetensors-hollow.safetensors", AS_WEIGHTS, "overflows"}, NULL, st_hollow, 0},
    {{"safetensors-negative.safetensors", AS_WEIGHTS, "no size"}, NULL, st_negative, 0},
    {{"safetensors-offsets.safetensors", AS_WEIGHTS, "disagree"}, NULL, st_offsets, 0},
    {{"safetensors-deep.safetensors", AS_WEIGHTS, "nested"}, NULL, st_deep, 0},
    {{"tokenizer-far-id", AS_TOKENIZER, "id"}, "tokenizer.json", far_id, 0},
    {{"vllm-17313", AS_TOKENIZER, NULL}, "tokenizer.json", slow_pattern, 0},
    {{"tokenizer-template-id", AS_TOKENIZER, "."}, "tokenizer.json", bad_template_id, 0},
    {{"tokenizer-byte-names", AS_TOKENIZER, NULL}, "tokenizer.json", byte_names, 0},
    {{"pattern-backtracks", AS_ENCODER, "takes too long on this text"}, "tokenizer.json", backtracking, 0},
    {{"normalizer-bomb", AS_ENCODER, "normalizer makes more than"}, "tokenizer.json", normalizer_bomb, 0},
    {{"gguf-many-blocks.gguf", AS_GGUF, NULL}, NULL, many_blocks, 0},
    {{"CVE-2024-34359.jinja", AS_TEMPLATE, "line 1: '__class__' is undefined"}, NULL, walk_classes, 0},
    {{"template-attr.jinja", AS_TEMPLATE, "undefined"}, NULL, walk_by_filter, 0},
    {{"template-format.jinja", AS_TEMPLATE, "plain number or name"}, NULL, walk_by_format, 0},
    {{"template-macro.jinja", AS_TEMPLATE, "'__globals__' is undefined"}, NULL, walk_macro, 0},
    {{"template-globals.jinja", AS_TEMPLATE, "'__globals__' is undefined"}, NULL, walk_globals, 0},
    {{"template-include.jinja", AS_TEMPLATE, "no statement 'include'"}, NULL, reads_a_file, 0},
    {{"template-bomb.jinja", AS_TEMPLATE, "longer than|memory"}, NULL, text_bomb, 0},
    {{"template-endless.jinja", AS_TEMPLATE, "steps|bytes of memory"}, NULL, endless, 0},
    {{"template-deep.jinja", AS_TEMPLATE, "nested too deeply"}, NULL, deep_template, 0},
    {{"template-width.jinja", AS_TEMPLATE, "width over 10000"}, NULL, wide_format, 0},
};

/* model.safetensors.index.json that names files elsewhere; `link`: what a.safetensors is a symbolic link to. */
static const struct index { struct hostile_file file; const char *shard, *link, *second; } indices[] = {        /* second: another shard, for tensor v */
    {{"CVE-2022-25882", AS_WEIGHTS, "beside their index"}, "../outside.safetensors", NULL, NULL},
    {{"CVE-2024-27318", AS_WEIGHTS, "beside their index"}, "x/../../outside.safetensors", NULL, NULL},
    {{"CVE-2026-27489", AS_WEIGHTS, "beside their index"}, "..\\\\outside.safetensors", NULL, NULL},
    {{"CVE-2024-37032", AS_WEIGHTS, "beside their index"}, "/etc/passwd", NULL, NULL},
    {{"index-dot", AS_WEIGHTS, "beside their index"}, "..", NULL, NULL},
    {{"index-nul", AS_WEIGHTS, "NUL|null|\\\\u0000"}, "a\\u0000.safetensors", NULL, NULL},
    {{"CVE-2026-34447", AS_WEIGHTS, "link"}, "a.safetensors", "../outside.safetensors", NULL},
    {{"shards-twice", AS_WEIGHTS, "in another shard too"}, "a.safetensors", NULL, "b.safetensors"},
};
enum { N_ENTRIES = sizeof entries / sizeof *entries, N_INDICES = sizeof indices / sizeof *indices };

const struct hostile_file *hostile_file(size_t i)
{
    if (i < N_ENTRIES) return &entries[i].file;
    return i < N_ENTRIES + N_INDICES ? &indices[i - N_ENTRIES].file : NULL;
}

static bool put(const char *path, const char *p, size_t n) { return dan_write_file(path, p, n, NULL) == 0; }

static bool make_entry(const struct entry *x, const char *dir, char *path, size_t n)
{
    struct dan_str s = {0};
    char file[512];
    snprintf(path, n, "%s/%s", dir, x->file.name);
    if (x->in && mkdir(path, 0777)) return false;
    snprintf(file, sizeof file, "%s%s%s", path, x->in ? "/" : "", x->in ? x->in : "");
    x->make(&s);
    bool ok = !s.failed && put(file, s.p, s.n) && (!x->bytes || !truncate(file, (off_t)x->bytes));
    dan_str_release(&s);
    return ok;
}

static bool make_index(const struct index *x, const char *dir, char *path, size_t n)
{
    struct dan_str s = {0}, whole = {0};
    char file[512];
    snprintf(path, n, "%s/%s", dir, x->file.name);
    if (mkdir(path, 0777)) return false;
    dan_str_printf(&s, "{\"weight_map\":{\"w\":\"%s\"", x->shard);
    if (x->second) dan_str_printf(&s, ",\"v\":\"%s\"", x->second);
    dan_str_puts(&s, "}}");
    safetensors(&whole, "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8);
    snprintf(file, sizeof file, "%s/model.safetensors.index.json", path);
    bool ok = put(file, s.p, s.n);
    snprintf(file, sizeof file, "%s/outside.safetensors", dir);
    ok = ok && put(file, whole.p, whole.n);
    snprintf(file, sizeof file, "%s/a.safetensors", path);
    if (x->link) ok = ok && !symlink(x->link, file);
    if (x->second) {
        ok = ok && put(file, whole.p, whole.n);
        dan_str_clear(&whole);
        safetensors(&whole, "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"v\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", 16);
        snprintf(file, sizeof file, "%s/%s", path, x->second);
        ok = ok && put(file, whole.p, whole.n);
    }
    dan_str_release(&s);
    dan_str_release(&whole);
    return ok;
}

bool hostile_make(size_t i, const char *dir, char *path, size_t n)
{
    return i < N_ENTRIES ? make_entry(&entries[i], dir, path, n) : make_index(&indices[i - N_ENTRIES], dir, path, n);
}

/* --- odd files */

static bool make_sparse(const char *path) { return put(path, "", 0) && !truncate(path, (off_t)1 << 40); }
static bool make_fifo(const char *path) { return !mkfifo(path, 0666); }
static bool make_dir(const char *path) { return !mkdir(path, 0777); }
static bool make_device(const char *path) { return !symlink("/dev/zero", path); }
static bool make_loop(const char *path) { return !symlink(path, path); }
static bool make_unreadable(const char *path) { return geteuid() && put(path, "{}", 2) && !chmod(path, 0); }

static bool make_deep(const char *path)
{
    struct dan_str s = {0};
    for (int i = 0; i < 200000; i++) dan_str_puts(&s, "{\"a\":[");
    bool ok = !s.failed && put(path, s.p, s.n);
    dan_str_release(&s);
    return ok;
}

#define BYTES(s) s, sizeof s - 1
static const struct odd { const char *name; bool (*make)(const char *path); const char *p; size_t n; } odds[] = {
    {"empty", NULL, BYTES("")},
    {"one byte", NULL, BYTES("{")},
    {"a sparse terabyte", make_sparse, NULL, 0},
    {"a pipe", make_fifo, NULL, 0},
    {"a folder", make_dir, NULL, 0},
    {"a device", make_device, NULL, 0},
    {"a link to itself", make_loop, NULL, 0},
    {"unreadable", make_unreadable, NULL, 0},
    {"a Git LFS pointer", NULL, BYTES("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")},
    {"UTF-16", NULL, BYTES("\xff\xfe{\0}\0")},
    {"nested", make_deep, NULL, 0},
    {"a key twice", NULL, BYTES("{\"model_type\":\"llama\",\"model_type\":\"gpt2\"}")},
    {"a huge number", NULL, BYTES("{\"model_type\":\"llama\",\"hidden_size\":1e999,\"vocab_size\":99999999999999999999}")},
    {"a huge model", NULL, BYTES("{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":4611686018427387904,\"num_hidden_layers\":"
                                 "4611686018427387904,\"num_attention_heads\":1,\"intermediate_size\":4611686018427387904,\"vocab_size\":4611686018427387904,"
                                 "\"max_position_embeddings\":4611686018427387904,\"rms_norm_eps\":1e-5}")},
    {"many layers", NULL, BYTES("{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":8,\"num_hidden_layers\":1000000000,"
                                "\"num_attention_heads\":1,\"intermediate_size\":8,\"vocab_size\":8,\"max_position_embeddings\":8,\"rms_norm_eps\":1e-5}")},
    {"a NUL", NULL, BYTES("{\"model_type\":\"ll\\u0000ama\",\"architectures\":[\"a\\u0000b\"]}")},
    {"control characters", NULL, BYTES("{\"model_type\":\"\\u001b[2J\\u001b]0;x\\u0007\",\"architectures\":[\"\\u001b[31m\"]}")},
    {"a web page", NULL, BYTES("<!DOCTYPE html><html><body>404</body></html>")},
    {"a pickle", NULL, BYTES("\x80\2cposix\nsystem\n(S'true'\ntR.")},
};

const char *odd_name(size_t i) { return i < sizeof odds / sizeof *odds ? odds[i].name : NULL; }

bool odd_make(size_t i, const char *path)
{
    const struct odd *o = &odds[i];
    return o->make ? o->make(path) : put(path, o->p, o->n);
}
