/* A checkpoint's manifest, state and tensors.  Without a manifest (the input begins with a cut) the right one is made, so that what it vouches
 * for is read. */
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "fuzz.h"
#include "io/checkpoint.h"

static void list(struct dan_str *out, const char *path, const char *end)
{
    uint32_t crc = 0;
    int64_t bytes = 0;
    dan_file_crc(path, &crc, &bytes, NULL);
    dan_str_printf(out, "{\"name\":\"%s\",\"bytes\":%lld,\"crc32\":%u}%s", path + 4, (long long)bytes, crc, end);
}

static void put_manifest(void)
{
    struct dan_str out = {0};
    dan_str_puts(&out, "{\"format\":\"danlu checkpoint\",\"version\":1,\"files\":[");
    list(&out, "mem/tensors.safetensors", ",");
    list(&out, "mem/state.json", "]}");
    fuzz_put("manifest.json", out.p, out.n);
    dan_str_release(&out);
}

static void put_files(const uint8_t *p, size_t n)
{
    struct fuzz_input in = {p, n}, manifest, part;
    fuzz_clear();
    if (!fuzz_next(&in, &manifest)) return;
    if (fuzz_next(&in, &part)) fuzz_put("state.json", part.p, part.n);
    if (fuzz_next(&in, &part)) fuzz_put_safetensors("tensors.safetensors", part.p, part.n);
    if (manifest.n) fuzz_put("manifest.json", manifest.p, manifest.n);
    else put_manifest();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct dan_err e = {0};
    struct dan_store *s = NULL;
    char *state = NULL;
    put_files(p, n);
    if (!fuzz_expect(dan_checkpoint_load("mem", &s, &state, &e), &e)) {
        fuzz_use_store(s);
        dan_store_free(s);
        dan_free(state);
    }
    return 0;
}
