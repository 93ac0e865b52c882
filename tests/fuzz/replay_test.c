/* Every harness over its seeds, as they are and damaged: cut off everywhere, every byte changed; and over the files in
 * tests/fuzz/regress/NAME, which once made it fail.  Memory is limited, so that an allocation on a number's word fails. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <cmocka.h>
#include "base/count_allocs.h"
#include "base/file.h"
#include "base/mem.h"
#include "fuzz.h"

enum { RUNS = 1200, LIMIT = 1 << 30 };

#define FUZZ(name) int fuzz_##name(const uint8_t *p, size_t n);
FUZZ_LIST
#undef FUZZ
typedef int harness_fn(const uint8_t *p, size_t n);
static const struct harness { const char *name; harness_fn *run; } harnesses[] = {
#define FUZZ(name) {#name, fuzz_##name},
FUZZ_LIST
};

/* A copy of its own size: what reads beyond it is found by valgrind and AddressSanitizer. */
static void run(const struct harness *h, const uint8_t *p, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, p, n);
    clock_t begin = clock();
    h->run(copy, n);
    fuzz_done();
    if (clock() - begin > CLOCKS_PER_SEC) fail_msg("%s: an input of %zu bytes takes more than a second", h->name, n);
    free(copy);
}

static void run_damaged(const struct harness *h, const uint8_t *p, size_t n)
{
    static const uint8_t flips[] = {0xff, 0x01, 0x80};
    uint8_t *copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, p, n);
    size_t step = n * 4 / RUNS + 1;
    for (size_t i = 0; i < n; i += step) {
        run(h, p, i);
        for (size_t k = 0; k < sizeof flips; k++) {
            copy[i] = (uint8_t)(p[i] ^ flips[k]);
            run(h, copy, n);
            copy[i] = p[i];
        }
    }
    free(copy);
}

static void replay_seeds(const struct harness *h)
{
    const uint8_t *p;
    size_t n, i = 0;
    for (; fuzz_seed(h->name, i, &p, &n); i++) {
        fuzz_all = true;
        run(h, p, n);
        fuzz_all = false;
        run_damaged(h, p, n);
    }
    run(h, (const uint8_t *)"", 0);
    if (!i) fail_msg("harness %s has no seed in tests/fuzz/seeds.c", h->name);
}

static void replay_files(const struct harness *h)
{
    char dir[256], path[1024];
    char **names, *bytes;
    size_t n, size;
    snprintf(dir, sizeof dir, "tests/fuzz/regress/%s", h->name);
    if (!dan_path_is_dir(dir)) return;
    assert_int_equal(dan_list_dir(dir, &names, &n, NULL), 0);
    fuzz_all = true;
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        fuzz_stay(true);
        assert_int_equal(dan_read_file(path, &bytes, &size, NULL), 0);
        fuzz_stay(false);
        run(h, (const uint8_t *)bytes, size);
        dan_free(bytes);
    }
    fuzz_all = false;
    dan_free_list(names, n);
}

static void replay_harness(void **state)
{
    const struct harness *h = *state;
    replay_seeds(h);
    replay_files(h);
}

int main(void)
{
    enum { N = sizeof harnesses / sizeof *harnesses };
    struct CMUnitTest tests[N];
    if (count_allocs) setrlimit(RLIMIT_AS, &(struct rlimit){LIMIT, LIMIT});    /* not under sanitizers, whose shadow is larger */
    for (size_t i = 0; i < N; i++)
        tests[i] = (struct CMUnitTest){harnesses[i].name, replay_harness, NULL, NULL, (void *)(uintptr_t)&harnesses[i]};
    return cmocka_run_group_tests_name("replay", tests, NULL, NULL);
}
