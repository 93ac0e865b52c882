/* GGUF: a file, or lines of text that are made into one (gguf_text.c).  Everything that can be asked is asked. */
#include <string.h>
#include "base/mem.h"
#include "core/buffer.h"
#include "fuzz.h"
#include "io/gguf.h"

static void ask_value(const struct dan_gguf *g, size_t i)
{
    struct dan_gguf_value v;
    struct dan_gguf_text key = dan_gguf_key(g, i, &v), s;
    int64_t n;
    double d;
    size_t at = 0;
    fuzz_touch(key.p, key.n);
    fuzz_touch(v.data, v.bytes);
    for (uint64_t k = 0; v.n && k < v.n; k += v.n / 8 + 1) {
        dan_gguf_int_at(&v, k, &n);
        dan_gguf_number_at(&v, k, &d);
    }
    while (dan_gguf_next_string(&v, &at, &s)) fuzz_touch(s.p, s.n);
    char name[64];
    if (key.n >= sizeof name) return;
    memcpy(name, key.p, key.n);
    name[key.n] = '\0';
    DAN_ASSERT(dan_gguf_find(g, name, &v));
    dan_gguf_int(g, name, &n);
    dan_gguf_number(g, name, &d);
    if (dan_gguf_string(g, name, &s)) fuzz_touch(s.p, s.n);
}

static void ask_all(const struct dan_gguf *g)
{
    for (size_t i = 0; i < dan_gguf_n_keys(g); i++) ask_value(g, i);
    for (size_t i = 0; i < dan_gguf_n_tensors(g); i++) {
        const struct dan_gguf_tensor *t = dan_gguf_tensor(g, i);
        fuzz_touch(t->name.p, t->name.n);
        DAN_ASSERT(!t->whole || (t->offset <= dan_gguf_file_bytes(g) && t->bytes <= dan_gguf_file_bytes(g) - t->offset));
        DAN_ASSERT(dan_gguf_tensor_path(g, i));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct dan_err e = {0};
    struct dan_gguf *g = NULL;
    struct dan_store *s = NULL;
    fuzz_clear();
    if (n && p[0] != 'G') fuzz_put_gguf("x.gguf", p, n);
    else fuzz_put("x.gguf", p, n);
    if (fuzz_expect(dan_gguf_open("mem/x.gguf", &g, &e), &e)) {
        e = (struct dan_err){0};
        fuzz_expect(dan_gguf_open_damaged("mem/x.gguf", &g, &e), &e);
        if (g) ask_all(g);
        dan_gguf_close(g);
        return 0;
    }
    ask_all(g);
    DAN_ASSERT(dan_gguf_alignment(g) && dan_gguf_version(g));
    int rc = fuzz_expect(dan_gguf_store(g, &s, &e), &e);
    dan_gguf_close(g);                         /* the store keeps the mapping */
    if (rc) return 0;
    fuzz_use_store(s);
    dan_store_free(s);
    return 0;
}
