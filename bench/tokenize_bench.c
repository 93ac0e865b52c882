/* tokenize_bench TOKENIZER TEXT [repeat]: seconds of CPU for encoding a file on one core, as one JSON object a line: "open", then
 * each pass with "cache": none, cold (empty at its beginning) or warm (after one pass).  With --ids: the ids as int32 to stdout.
 * Driven by bench/tokenizer_vs_peers.py. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/file.h"
#include "text/tokenizer.h"

static double cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int fail(const struct dan_err *e)
{
    fprintf(stderr, "%s\n", e->msg);
    return 1;
}

struct task { struct dan_tokenizer *t; struct dan_mapping text; struct dan_ids ids; };

static int pass(struct task *k, struct dan_tok_cache *c, const char *name, struct dan_err *e)
{
    k->ids.n = 0;
    double from = cpu();
    int r = c ? dan_tok_cache_encode(c, k->text.p, k->text.n, 0, &k->ids, e)
              : dan_tokenizer_encode(k->t, k->text.p, k->text.n, 0, &k->ids, e);
    double took = cpu() - from;
    printf("{\"cache\": \"%s\", \"seconds\": %.6f, \"bytes\": %zu, \"ids\": %zu, \"mb_per_s\": %.1f}\n", name, took, k->text.n, k->ids.n,
           (double)k->text.n / took / 1e6);
    return r;
}

static int passes(struct task *k, int times, struct dan_err *e)
{
    for (int i = 0; i < times; i++) {
        struct dan_tok_cache *c = NULL;
        int r = pass(k, NULL, "none", e);
        if (!r) r = dan_tok_cache_new(k->t, &c, e);
        if (!r) r = pass(k, c, "cold", e);
        if (!r) r = pass(k, c, "warm", e);
        dan_tok_cache_free(c);
        if (r) return r;
    }
    return 0;
}

static int run(struct task *k, const char *tokenizer, const char *text, const char *how, struct dan_err *e)
{
    double from = cpu();
    int r = dan_tokenizer_load(tokenizer, &k->t, e);
    double took = cpu() - from;
    if (!r) r = dan_map_file(text, &k->text, e);
    if (!r && strcmp(how, "--ids") == 0) {
        r = dan_tokenizer_encode(k->t, k->text.p, k->text.n, 0, &k->ids, e);
        if (!r) fwrite(k->ids.v, sizeof *k->ids.v, k->ids.n, stdout);
        return r;
    }
    if (!r) printf("{\"open\": %.6f}\n", took);
    /* The first pass touches the memory of the ids and of the text: not measured. */
    if (!r) r = dan_tokenizer_encode(k->t, k->text.p, k->text.n, 0, &k->ids, e);
    return r ? r : passes(k, atoi(how), e);
}

int main(int argc, char **argv)
{
    struct task k = {0};
    struct dan_err e = {0};
    if (argc < 3) return fprintf(stderr, "usage: %s TOKENIZER TEXT [repeat | --ids]\n", argv[0]), 2;
    int r = run(&k, argv[1], argv[2], argc > 3 ? argv[3] : "3", &e);
    dan_ids_release(&k.ids);
    dan_unmap_file(&k.text);
    dan_tokenizer_free(k.t);
    return r ? fail(&e) : 0;
}
