/* vocab.txt, and tokenizer_config.json beside it. */
#include "fuzz.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char *const names[] = {"vocab.txt", "tokenizer_config.json"};
    struct dan_err e = {0};
    struct dan_tokenizer *t = NULL;
    fuzz_put_parts(p, n, names, 2);
    if (!fuzz_expect(dan_tokenizer_load("mem", &t, &e), &e)) {
        fuzz_use_tokenizer(t, p, n);
        dan_tokenizer_free(t);
    }
    return 0;
}
