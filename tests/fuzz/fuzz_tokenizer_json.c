/* tokenizer.json, and what lies beside it. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"};
    fuzz_put_parts(p, n, names, sizeof names / sizeof *names);
    fuzz_load_tokenizer("tokenizer.json", p, n);
    return 0;
}
