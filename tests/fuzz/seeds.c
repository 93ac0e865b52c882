/* Inputs that load.  Small: what is damaged one byte at a time should be short. */
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "base/str.h"
#include "fuzz.h"

#define TEXT(s) s, sizeof s - 1
#define TOKEN(id, text, special) "{\"id\":" #id ",\"content\":\"" text "\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":" #special "}"

static const struct text_seed { const char *name, *text; size_t n; } texts[] = {
    {"safetensors", TEXT("{\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},\"b\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[16,24]}}"
                    FUZZ_CUT "0123456789abcdefghijklmn")},
    {"safetensors", TEXT("{\"__metadata__\":{\"format\":\"pt\",\"danlu.q8_0\":\"w\"},\"w\":{\"dtype\":\"I8\",\"shape\":[1,32],\"data_offsets\":[0,32]},"
                    "\"w.scale\":{\"dtype\":\"F16\",\"shape\":[1,1],\"data_offsets\":[32,34]},\"h.attn.bias\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[34,35]},"
                    "\"z\":{\"dtype\":\"BF16\",\"shape\":[0,3],\"data_offsets\":[35,35]}}" FUZZ_CUT "0123456789abcdefghijklmnopqrstuvwxy")},
    {"safetensors", TEXT("{\"__metadata__\":{\"danlu.iq4_nl\":\"w\"},\"w\":{\"dtype\":\"U8\",\"shape\":[1,18],\"data_offsets\":[0,18]}}" FUZZ_CUT "0123456789abcdefgh")},
    {"index", TEXT("{\"metadata\":{\"total_size\":16},\"weight_map\":{\"a\":\"a.safetensors\",\"b\":\"b.safetensors\"}}" FUZZ_CUT
              "@\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}         " "01234567" FUZZ_CUT
              "@\0\0\0\0\0\0\0{\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}         " "01234567")},
    {"index", TEXT("{\"weight_map\":{\"a\":\"a.safetensors\",\"b\":\"b.safetensors\"}}" FUZZ_CUT "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}01234567"
              FUZZ_CUT "{\"b\":{\"dtype\":\"BF16\",\"shape\":[1,2],\"data_offsets\":[0,4]}}0123")},
    {"checkpoint", TEXT(FUZZ_CUT "{\"step\": 3}" FUZZ_CUT "{\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[8,9]}}abcdefghi")},
    {"tokenizer_json", TEXT("{\"added_tokens\":[" TOKEN(5, "<|endoftext|>", true) "],\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"ByteLevel\","
                       "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\"},"
                       "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"\xc4\xa0\":2,\"ab\":3,\"\xc4\xa0" "a\":4},\"merges\":[\"a b\",[\"\xc4\xa0\",\"a\"]]}}"
                       FUZZ_CUT "{\"bos_token\":\"<|endoftext|>\",\"eos_token\":{\"content\":\"<|endoftext|>\"},\"chat_template\":\"{{ messages }}\"}")},
    {"tokenizer_json", TEXT("{\"added_tokens\":[" TOKEN(1, "[CLS]", true) "," TOKEN(2, "[SEP]", true) "],\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,"
                       "\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
                       "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"[CLS]\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\","
                       "\"type_id\":0}},{\"SpecialToken\":{\"id\":\"[SEP]\",\"type_id\":0}}],\"special_tokens\":{\"[CLS]\":{\"id\":\"[CLS]\",\"ids\":[1],\"tokens\":"
                       "[\"[CLS]\"]},\"[SEP]\":{\"id\":\"[SEP]\",\"ids\":[2],\"tokens\":[\"[SEP]\"]}}},\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true},"
                       "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,"
                       "\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"a\":3,\"##a\":4,\"hello\":5}}}")},
    {"tokenizer_json", TEXT("{\"added_tokens\":[" TOKEN(3, "<s>", true) "],\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
                       "{\"Regex\":\"\\\\p{L}+|\\\\s+\"},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]},"
                       "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}}")},
    {"tokenizer_json", TEXT("{\"added_tokens\":[" TOKEN(0, "<unk>", true) "],\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{\"type\":\"Replace\","
                       "\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}]},\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\","
                       "\"prepend_scheme\":\"always\",\"split\":true},\"decoder\":{\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":\"always\"},"
                       "\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0.0],[\"\xe2\x96\x81\",-2.0],[\"a\",-3.0],[\"\xe2\x96\x81" "a\",-4.5],[\"<0x41>\",-9]],"
                       "\"byte_fallback\":true}}")},
    {"tokenizer_json", TEXT("{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\xe2\x96\x81\"},{\"type\":\"Lowercase\"},"
                       "{\"type\":\"StripAccents\"},{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true},{\"type\":\"Nmt\"}]},"
                       "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Whitespace\"},{\"type\":\"Punctuation\",\"behavior\":\"Isolated\"},"
                       "{\"type\":\"Digits\",\"individual_digits\":true}]},\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":"
                       "\"\xe2\x96\x81\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},"
                       "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,\"byte_fallback\":true,\"end_of_word_suffix\":\"</w>\","
                       "\"vocab\":{\"<unk>\":0,\"<0x0A>\":1,\"a\":2,\"b</w>\":3,\"ab</w>\":4},\"merges\":[\"a b</w>\"]}}")},
    {"tokenizer_json", TEXT("{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[\\\\s\\\\S]\"},\"behavior\":\"Isolated\",\"invert\":false},"
                       "\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"<unk>\":0,\"a\":1,\"\xe4\xbd\xa0\":2},\"unk_token\":\"<unk>\"}}")},
    {"vocab_txt", TEXT("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##a\nhello\n\xe4\xbd\xa0\n!\n" FUZZ_CUT "{\"do_lower_case\":true,\"unk_token\":\"[UNK]\"}")},
    {"vocab_merges", TEXT("{\"a\":0,\"b\":1,\"\xc4\xa0\":2,\"ab\":3,\"<|endoftext|>\":4}" FUZZ_CUT "#version: 0.2\na b\n")},
    {"examples", TEXT("{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\",\"weight\":0}],\"label\":true}\n"
                      "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\",\"margin\":1}\n{\"prompt\":\"a\",\"completions\":[\"b\",\"c\"],\"ranks\":[1,2]}\n")},
    {"examples", TEXT("{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"function_call\",\"value\":\"{\\\"name\\\":\\\"f\\\"}\"}],\"tools\":\"[]\"}\n"
                      "{\"instruction\":\"a\",\"input\":\"x\",\"output\":\"b\",\"history\":[[\"q\",\"r\"]]}\n")},
    {"examples", TEXT("[{\"chosen\":\"\\n\\nHuman: a\\n\\nAssistant: b\",\"rejected\":\"\\n\\nHuman: a\\n\\nAssistant: c\"},{\"question\":\"a\",\"answer\":\"b\"}]")},
    {"jsonl", TEXT("{\"text\":\"one\"}\n\n{\"text\":\"two \\u00e9\",\"id\":2}\r\n{\"text\":\"\\ud83d\\ude00\"}")},
    {"jsonl", TEXT("\xef\xbb\xbfone\n<|endoftext|>\r\ntwo\n<|endoftext|>\n \n")},
    {"jsonl", TEXT("{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}\n")},
    {"jinja", TEXT("{%- for m in messages -%}<|x|>{{ m.role }}\n{{ m['content']|trim }}<|end|>{%- endfor -%}{% if add_generation_prompt %}a{% endif %}")},
    {"jinja", TEXT("{% macro m(a, b=2) %}[{{ a }}{{ b * 2 }}]{% endmacro %}{% set ns = namespace(x=0) %}{% for k, v in d.items() if v %}"
                   "{% set ns.x = ns.x + loop.index %}{{ m(k, **{'b': 3}) }}{% if loop.last %}{% break %}{% endif %}{% else %}none{% endfor %}{{ ns.x }}")},
    {"jinja", TEXT("{{ '%5.2f|%-4s|%d' % (n, 'a', 3) }}{{ '{:>8}{!r:^5}{:,}'.format(1, 'b', 12345) }}{{ d|tojson(indent=2) }}{{ l|map('string')|sort|join('-') }}")},
    {"jinja", TEXT("{% set t %}{% filter indent(2) %}a\nb{% endfilter %}{% endset %}{% generation %}{{ t[::-1] ~ messages[0].content[1:] }}{% endgeneration %}"
                   "{{ 'a,b'.split(',')|last }}{{ undef|default('x') }}{{ 7 // 2 ** 2 is odd }}" FUZZ_CUT
                   "{\"messages\":[{\"role\":\"user\",\"content\":\"q<|end|>\"},{\"role\":\"assistant\",\"content\":\"a\"}],\"tools\":[{\"x\":1}]}")},
    {"config", TEXT("{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":8,\"num_hidden_layers\":1,\"num_attention_heads\":2,"
               "\"num_key_value_heads\":1,\"intermediate_size\":16,\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,\"max_position_embeddings\":32,\"vocab_size\":16,"
               "\"rope_scaling\":null,\"tie_word_embeddings\":true,\"eos_token_id\":[2,3],\"bos_token_id\":1}" FUZZ_CUT
               "{\"eos_token_id\":[2,3],\"bos_token_id\":1,\"do_sample\":true,\"temperature\":0.7,\"top_p\":0.9,\"top_k\":40,\"max_new_tokens\":10}" FUZZ_CUT
               "[{\"idx\":0,\"name\":\"0\",\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"}]" FUZZ_CUT "{\"max_seq_length\":128}")},
    {"config", TEXT("{\"architectures\":[\"GPT2LMHeadModel\"],\"model_type\":\"gpt2\",\"n_embd\":8,\"n_layer\":1,\"n_head\":2,\"n_positions\":16,\"vocab_size\":16,"
               "\"layer_norm_epsilon\":1e-5,\"activation_function\":\"gelu_new\"}")},
    {"gguf", TEXT("general.architecture=s:llama\ngeneral.name=s:x\nllama.block_count=u:1\nllama.rope.freq_base=f:1e4\ntokenizer.ggml.tokens=S:a|b|<s>\n"
                  "tokenizer.ggml.token_type=I:1,1,3\ntokenizer.ggml.scores=F:0,-1,-2\ntokenizer.ggml.add_bos_token=b:1\nsmall=B:1,2\nbig=U:12345678901\nless=i:-1\n"
                  "@token_embd.weight 0 4 3\n@blk.0.attn_q.weight 8 32 2\n@blk.0.ffn_up.weight 12 256 1\n@output.weight 2 64\n@x 20 32 1 2")},
    {"gguf", TEXT("GGUF\3\0\0\0" "\1\0\0\0\0\0\0\0" "\2\0\0\0\0\0\0\0" "\21\0\0\0\0\0\0\0general.alignment\4\0\0\0\10\0\0\0"
                  "\1\0\0\0\0\0\0\0k\11\0\0\0\10\0\0\0\2\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0a\1\0\0\0\0\0\0\0b"
                  "\1\0\0\0\0\0\0\0w\1\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" "\0\0\0\0\0\0\0" "01234567")},
    {"sentencepiece", TEXT("1\n2 0 <unk>\n3 0 <s>\n3 0 </s>\n1 -1 \xe2\x96\x81\n1 -2 a\n1 -2.5 \xe2\x96\x81" "a\n4 0 Hello\n5 -1 b\n1 -3 \xc3\xa9")},
    {"sentencepiece", TEXT("2bs\n2 0 <unk>\n3 0 <s>\n3 0 </s>\n1 -1 ab\n1 -2 aba\n1 -3 a\n1 -4 b\n1 -5 \xe2\x96\x81")},
    {"sentencepiece", TEXT("\n\x0e\n\5<unk>\x15\0\0\0\0\x18\2\n\7\n\1a\x15\0\0\x80\xbf\x12\2\x18\2\x1a\2\x18\1")},
    {"llama2c_tokenizer", TEXT("+-1 ab\n-2  a\n-3 a\n-4 b\n-5  \n-6 \xc3\xa9")},
    {"llama2c", TEXT("+8 16 1 2 1 16 4 0")},
    {"llama2c", TEXT("+8 16 2 2 2 -16 4 0")},
    {"llama2c", TEXT("+8 16 1 2 1 16 4 1x")},
    {"llama2c", TEXT("+8 16 1 2 1 16 4 8x")},
    {"tiktoken", TEXT("YQ== 0\nYg== 1\nIA== 2\nYWI= 3\nIGE= 4\n")},
    {"gguf_tokenizer", TEXT("general.architecture=s:llama\ntokenizer.ggml.model=s:llama\ntokenizer.ggml.tokens=S:<unk>|<s>|</s>|\xe2\x96\x81|a|\xe2\x96\x81" "a|<0x41>\n"
                            "tokenizer.ggml.scores=F:0,0,0,-1,-2,-3,0\ntokenizer.ggml.token_type=I:2,3,3,1,1,1,6\ntokenizer.ggml.bos_token_id=u:1\n"
                            "tokenizer.ggml.eos_token_id=u:2\ntokenizer.ggml.add_space_prefix=b:1")},
    {"gguf_tokenizer", TEXT("tokenizer.ggml.model=s:gpt2\ntokenizer.ggml.pre=s:llama-bpe\ntokenizer.ggml.tokens=S:a|b|\xc4\xa0|ab|<s>\n"
                            "tokenizer.ggml.merges=S:a b\ntokenizer.ggml.token_type=I:1,1,1,1,3\ntokenizer.ggml.bos_token_id=u:4\ntokenizer.chat_template=s:{{ x }}")},
    {"gguf_tokenizer", TEXT("tokenizer.ggml.model=s:bert\ntokenizer.ggml.tokens=S:[PAD]|[UNK]|[CLS]|[SEP]|\xe2\x96\x81hello|a\n"
                            "tokenizer.ggml.token_type=I:3,3,3,3,1,1\ntokenizer.ggml.unknown_token_id=u:1\ntokenizer.ggml.seperator_token_id=u:3")},
    {"gguf_tokenizer", TEXT("tokenizer.ggml.model=s:t5\ntokenizer.ggml.tokens=S:<pad>|</s>|<unk>|\xe2\x96\x81|a\ntokenizer.ggml.scores=F:0,0,0,-2,-3\n"
                            "tokenizer.ggml.token_type=I:3,3,2,1,1\ntokenizer.ggml.precompiled_charsmap=B:4,0,0,0,0,0,0,0,0")},
    {"graph", TEXT("%1 = input \"x\" dynamic 1 : f32[4,8]\n%2 = param \"w\" init \"normal:0.02\" : f32[8,8]\n%3 = matmul(%1, %2, _, _) {ta=0, tb=1, prec=0, act=0} : f32[4,8] @0\n"
              "%4 = add(%3, %1) : f32[4,8]\n%5 = softmax(%4) : f32[4,8]\n%6 = sum(%5) {axis=1} : f32[4,1]\noutput \"y\" = %5\n")},
};

/* Made, not written down: what holds lengths and checksums. */
struct made_seed { const char *name; void (*make)(struct dan_str *out); };

static void put_number(struct dan_str *out, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) dan_str_putc(out, (char)(v >> 8 * i));
}

static void make_checkpoint(struct dan_str *out)
{
    static const char head[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", state[] = "{\"step\": 3}";
    struct dan_str t = {0};
    put_number(&t, sizeof head - 1, 8);
    dan_str_puts(&t, head);
    dan_str_puts(&t, "abcd");
    dan_str_printf(out, "{\"format\":\"danlu checkpoint\",\"version\":1,\"files\":[{\"name\":\"tensors.safetensors\",\"bytes\":%zu,\"crc32\":%u},"
                   "{\"name\":\"state.json\",\"bytes\":%zu,\"crc32\":%u}]}" FUZZ_CUT "%s" FUZZ_CUT, t.n, dan_crc32(0, t.p, t.n),
                   sizeof state - 1, dan_crc32(0, state, sizeof state - 1), state);
    dan_str_append(out, t.p, t.n);
    dan_str_release(&t);
}

/* data/shards.h: head, tokens, starts of documents, tail. */
static void put_shard(struct dan_str *out, uint64_t index)
{
    static const uint16_t tokens[8] = {1, 2, 3, 0, 4, 5, 6, 0};
    size_t begin = out->n;
    dan_str_puts(out, "DANLUTOK");
    put_number(out, 1, 4);
    put_number(out, 2, 4);
    put_number(out, 16, 8);                    /* vocabulary, eos, hash */
    put_number(out, 0, 8);
    put_number(out, 7, 8);
    for (int i = 0; i < 3; i++) put_number(out, 0, 8);
    dan_str_append(out, tokens, sizeof tokens);
    put_number(out, 0, 8);
    put_number(out, 4, 8);
    put_number(out, 8, 8);                     /* tokens, documents, bytes, index */
    put_number(out, 2, 8);
    put_number(out, 20, 8);
    put_number(out, index, 8);
    for (int i = 0; i < 2; i++) put_number(out, 0, 8);
    put_number(out, dan_crc32(0, out->p + begin, out->n - begin), 4);
    put_number(out, 0, 4);
    dan_str_puts(out, "DANLUEND");
}

static void make_shard(struct dan_str *out) { put_shard(out, 0); }

static void make_two_shards(struct dan_str *out)
{
    put_shard(out, 0);
    dan_str_puts(out, FUZZ_CUT);
    put_shard(out, 1);
}

/* A charsmap that makes "b" of "A": units of Darts-clone (text/charsmap.h). */
static void make_charsmap(struct dan_str *out)
{
    enum { UNITS = 0x48 };
    uint32_t unit[UNITS] = {[0] = 1 << 10, [0x40] = 0x41 | 1 << 8 | 1 << 10, [0x41] = (uint32_t)1 << 31};
    dan_str_puts(out, "1\n2 0 <unk>\n1 -1 a\n1 -2 b\n1 -3 \xe2\x96\x81\n" FUZZ_CUT);
    put_number(out, sizeof unit, 4);
    for (int i = 0; i < UNITS; i++) put_number(out, unit[i], 4);
    dan_str_append(out, "b", 2);
}

static const struct made_seed made[] = {
    {"sentencepiece", make_charsmap},
    {"checkpoint", make_checkpoint},
    {"shards", make_shard},
    {"shards", make_two_shards},
};

bool fuzz_seed(const char *name, size_t i, const uint8_t **p, size_t *n)
{
    static struct dan_str out;
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
        if (strcmp(texts[k].name, name) || i--) continue;
        *p = (const uint8_t *)texts[k].text;
        *n = texts[k].n;
        return true;
    }
    for (size_t k = 0; k < sizeof made / sizeof *made; k++) {
        if (strcmp(made[k].name, name) || i--) continue;
        dan_str_clear(&out);
        made[k].make(&out);
        *p = (const uint8_t *)out.p;
        *n = out.n;
        return true;
    }
    dan_str_release(&out);
    return false;
}
