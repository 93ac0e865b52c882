/* Rows of fine-tuning data, as JSON lines and as one array. */
#include "data/examples.h"
#include "fuzz.h"

static void touch_json(const json_t *j)
{
    size_t i;
    const json_t *v;
    if (json_is_string(j)) fuzz_touch(json_string_value(j), json_string_length(j));
    json_array_foreach((json_t *)(uintptr_t)j, i, v) touch_json(v);
    if (!json_is_object(j)) return;
    touch_json(json_object_get(j, "role"));
    touch_json(json_object_get(j, "content"));
}

static void check(const struct dan_example *ex)
{
    DAN_ASSERT(ex->kind < DAN_N_EXAMPLE_KINDS && ex->file && ex->line > 0 && ex->row);
    if (ex->kind == DAN_EXAMPLE_TEXT) fuzz_touch(ex->text, ex->text_bytes);
    else DAN_ASSERT(json_array_size(ex->messages) > 0);
    DAN_ASSERT(ex->kind != DAN_EXAMPLE_PAIR || json_array_size(ex->answers) == 2);
    DAN_ASSERT(ex->kind != DAN_EXAMPLE_LABELLED || json_array_size(ex->answers) == 1);
    DAN_ASSERT(ex->kind != DAN_EXAMPLE_RANKED || json_array_size(ex->answers) == json_array_size(ex->ranks));
    touch_json(ex->messages);
    touch_json(ex->answers);
}

static void walk(const char *path)
{
    struct dan_examples *x = NULL;
    struct dan_err e = {0};
    bool more = true;
    if (fuzz_expect(dan_examples_open(&path, 1, &x, &e), &e)) return;
    while (more) {
        struct dan_example ex;
        e = (struct dan_err){0};
        if (!fuzz_expect(dan_examples_next(x, &ex, &more, &e), &e) && more) check(&ex);
    }
    dan_examples_free(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    fuzz_clear();
    fuzz_put("x.jsonl", p, n);
    fuzz_put("x.json", p, n);
    walk("mem/x.jsonl");
    walk("mem/x.json");
    return 0;
}
