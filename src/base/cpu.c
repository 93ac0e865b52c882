/* What the processor can do, as far as the operating system lets it. */
#include "base/sys.h"
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

struct cpuid { unsigned eax, ebx, ecx, edx; };

static struct cpuid cpuid(unsigned leaf, unsigned sub)
{
    struct cpuid r = {0, 0, 0, 0};
    __get_cpuid_count(leaf, sub, &r.eax, &r.ebx, &r.ecx, &r.edx);
    return r;
}

static bool bit(unsigned word, int i) { return word >> i & 1; }
static bool bits(uint64_t word, uint64_t all) { return (word & all) == all; }

/* Which register files the kernel saves: XCR0. */
static uint64_t saved_state(void)
{
    unsigned lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* Linux hands out the 8 KiB of tile state on request only; once granted, all threads have it. */
static bool tiles_granted(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

/* Intel SDM volume 2A, CPUID. */
uint64_t dan_cpu_features(void)
{
    struct cpuid l1 = cpuid(1, 0), l7 = cpuid(7, 0), l7_1 = l7.eax >= 1 ? cpuid(7, 1) : (struct cpuid){0, 0, 0, 0};
    uint64_t state = bit(l1.ecx, 27) ? saved_state() : 0, f = 0;
    bool fma = bit(l1.ecx, 12), f16c = bit(l1.ecx, 29);
    if (!(bits(state, 0x6) && fma && f16c && bit(l7.ebx, 5))) return 0;
    f |= DAN_CPU_AVX2;
    if (bit(l7_1.eax, 4)) f |= DAN_CPU_AVX_VNNI;
    if (!(bits(state, 0xe6) && bit(l7.ebx, 16) && bit(l7.ebx, 17) && bit(l7.ebx, 30) && bit(l7.ebx, 31))) return f;
    f |= DAN_CPU_AVX512;
    if (bit(l7_1.eax, 5)) f |= DAN_CPU_AVX512_BF16;
    if (bit(l7.ecx, 11)) f |= DAN_CPU_AVX512_VNNI;
    if (!(bits(state, 0x60000) && bit(l7.edx, 24) && tiles_granted())) return f;
    if (bit(l7.edx, 22)) f |= DAN_CPU_AMX_BF16;
    if (bit(l7.edx, 25)) f |= DAN_CPU_AMX_INT8;
    return f;
}

static void brand(char out[49])
{
    for (unsigned i = 0; i < 3; i++) {
        struct cpuid r = cpuid(0x80000002u + i, 0);
        memcpy(out + 16 * i, &r, 16);
    }
    out[48] = 0;
}

#else

uint64_t dan_cpu_features(void) { return 0; }
static void brand(char out[49]) { out[0] = 0; }

#endif

static const struct { uint64_t feature; const char *name; } NAMES[] = {
    {DAN_CPU_AVX2, "avx2"}, {DAN_CPU_AVX512, "avx512"}, {DAN_CPU_AVX512_BF16, "avx512_bf16"},
    {DAN_CPU_AVX512_VNNI, "avx512_vnni"}, {DAN_CPU_AVX_VNNI, "avx_vnni"},
    {DAN_CPU_AMX_BF16, "amx_bf16"}, {DAN_CPU_AMX_INT8, "amx_int8"},
};

void dan_cpu_describe(char *out, size_t n)
{
    char name[49];
    brand(name);
    const char *trimmed = name + strspn(name, " ");
    int cores = dan_n_cores();
    uint64_t features = dan_cpu_features();
    int at = snprintf(out, n, "%s, %d core%s%s", *trimmed ? trimmed : "unknown cpu", cores, cores == 1 ? "" : "s",
                      features ? "," : "");
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES && at >= 0 && (size_t)at < n; i++)
        if (features & NAMES[i].feature) at += snprintf(out + at, n - (size_t)at, " %s", NAMES[i].name);
}

static const struct { const char *name; uint64_t mask; } ISAS[] = {
    {"all", UINT64_MAX},
    {"avx512", DAN_CPU_AVX2 | DAN_CPU_AVX_VNNI | DAN_CPU_AVX512 | DAN_CPU_AVX512_BF16 | DAN_CPU_AVX512_VNNI},
    {"avx2", DAN_CPU_AVX2},
    {"scalar", UINT64_C(1) << 63},             /* no feature; 0 would mean all to those who take a mask */
};

const char *dan_isa_at(size_t i) { return i < sizeof ISAS / sizeof *ISAS ? ISAS[i].name : NULL; }

uint64_t dan_isa_mask(const char *name)
{
    for (size_t i = 0; name && i < sizeof ISAS / sizeof *ISAS; i++)
        if (strcmp(ISAS[i].name, name) == 0) return ISAS[i].mask;
    return UINT64_MAX;
}
