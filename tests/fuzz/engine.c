/* What libFuzzer and AFL++ call for each input, in front of the harness (--wrap). */
#include "fuzz.h"

int __real_LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int __wrap_LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int __wrap_LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    int rc = __real_LLVMFuzzerTestOneInput(p, n);
    fuzz_done();
    return rc;
}

/* Speed: stacks of allocations of two frames, which leaks cannot be told without (when something is found, ASAN_OPTIONS=malloc_context_size=30 on
 * the input shows all), and a quarantine that stays in the caches and still holds what one input frees. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "malloc_context_size=2:quarantine_size_mb=1:detect_stack_use_after_return=0"; }
