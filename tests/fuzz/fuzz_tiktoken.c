/* Ranks, NAME.tiktoken, and what lies beside them. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char *const names[] = {"x.tiktoken", "tokenizer_config.json"};
    fuzz_put_parts(p, n, names, sizeof names / sizeof *names);
    fuzz_load_tokenizer("x.tiktoken", p, n);
    return 0;
}
