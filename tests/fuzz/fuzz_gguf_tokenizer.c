/* The tokenizer in a GGUF file's keys: a file, or lines of text (gguf_text.c). */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    fuzz_clear();
    if (n && p[0] != 'G') fuzz_put_gguf("x.gguf", p, n);
    else fuzz_put("x.gguf", p, n);
    fuzz_load_tokenizer("x.gguf", p, n);
    return 0;
}
