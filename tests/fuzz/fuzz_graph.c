/* The text form of graphs: read, verified, printed, read again. */
#include <stdlib.h>
#include <string.h>
#include "base/str.h"
#include "fuzz.h"
#include "graph/graph.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct dan_err e = {0};
    struct dan_graph *g = NULL;
    char *text = malloc(n + 1);
    if (n) memcpy(text, p, n);
    text[n] = '\0';
    if (!fuzz_expect(dan_graph_parse(text, &g, &e), &e)) {
        struct dan_str out = {0};
        fuzz_expect(dan_graph_verify(g, &e), &e);
        dan_graph_print(g, &out);
        dan_str_release(&out);
        dan_graph_free(g);
    }
    free(text);
    return 0;
}
