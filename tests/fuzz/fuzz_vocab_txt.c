/* vocab.txt, and tokenizer_config.json beside it. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char *const names[] = {"vocab.txt", "tokenizer_config.json"};
    fuzz_put_parts(p, n, names, sizeof names / sizeof *names);
    fuzz_load_tokenizer("", p, n);
    return 0;
}
