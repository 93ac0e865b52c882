/* Training text, as JSON lines and as plain text. */
#include "data/text.h"
#include "fuzz.h"

static void walk_text(const char *path, bool allow_invalid)
{
    struct dan_text_opts o = {.allow_invalid = allow_invalid};
    struct dan_text_stats s;
    struct dan_document doc;
    struct dan_text *t = NULL;
    struct dan_err e = {0};
    if (fuzz_expect(dan_text_open(&path, 1, &o, &t, &e), &e)) return;
    int rc;
    int64_t docs = 0;
    while (!(rc = dan_text_next(t, &doc, &e)) && doc.p) {
        fuzz_touch(doc.p, doc.n);
        DAN_ASSERT(doc.n && doc.index == docs++ && doc.line > 0);
    }
    fuzz_expect(rc, &e);
    e = (struct dan_err){0};
    if (!fuzz_expect(dan_text_count(t, &s, &e), &e)) DAN_ASSERT(s.docs == docs);
    dan_text_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    fuzz_clear();
    fuzz_put("x.jsonl", p, n);
    fuzz_put("x.txt", p, n);
    walk_text("mem/x.jsonl", false);
    walk_text("mem/x.txt", n & 1);
    return 0;
}
