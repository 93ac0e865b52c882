/* vocab.json and merges.txt, and what lies beside them. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer_config.json", "added_tokens.json"};
    fuzz_put_parts(p, n, names, sizeof names / sizeof *names);
    fuzz_load_tokenizer("", p, n);
    return 0;
}
