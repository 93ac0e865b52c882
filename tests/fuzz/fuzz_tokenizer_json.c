/* tokenizer.json, and what lies beside it. */
#include "fuzz.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"};
    struct dan_err e = {0};
    struct dan_tokenizer *t = NULL;
    fuzz_put_parts(p, n, names, 4);
    if (!fuzz_expect(dan_tokenizer_load("mem/tokenizer.json", &t, &e), &e)) {
        fuzz_use_tokenizer(t, p, n);
        dan_tokenizer_free(t);
    }
    return 0;
}
