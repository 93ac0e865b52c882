#include "io/gguf_impl.h"

/* By ggml's number (ggml.h, enum ggml_type). */
static const struct dan_ggml_type types[] = {
    [0] = {"F32", 1, 4}, [1] = {"F16", 1, 2}, [2] = {"Q4_0", 32, 18}, [3] = {"Q4_1", 32, 20}, [4] = {"Q4_2", 16, 10}, [5] = {"Q4_3", 16, 12},
    [6] = {"Q5_0", 32, 22}, [7] = {"Q5_1", 32, 24}, [8] = {"Q8_0", 32, 34}, [9] = {"Q8_1", 32, 36}, [10] = {"Q2_K", 256, 84},
    [11] = {"Q3_K", 256, 110}, [12] = {"Q4_K", 256, 144}, [13] = {"Q5_K", 256, 176}, [14] = {"Q6_K", 256, 210}, [15] = {"Q8_K", 256, 292},
    [16] = {"IQ2_XXS", 256, 66}, [17] = {"IQ2_XS", 256, 74}, [18] = {"IQ3_XXS", 256, 98}, [19] = {"IQ1_S", 256, 50},
    [20] = {"IQ4_NL", 32, 18}, [21] = {"IQ3_S", 256, 110}, [22] = {"IQ2_S", 256, 82}, [23] = {"IQ4_XS", 256, 136}, [24] = {"I8", 1, 1},
    [25] = {"I16", 1, 2}, [26] = {"I32", 1, 4}, [27] = {"I64", 1, 8}, [28] = {"F64", 1, 8}, [29] = {"IQ1_M", 256, 56}, [30] = {"BF16", 1, 2},
    [31] = {"Q4_0_4_4", 32, 18}, [32] = {"Q4_0_4_8", 32, 18}, [33] = {"Q4_0_8_8", 32, 18}, [34] = {"TQ1_0", 256, 54},
    [35] = {"TQ2_0", 256, 66}, [36] = {"IQ4_NL_4_4", 32, 18}, [37] = {"IQ4_NL_4_8", 32, 18}, [38] = {"IQ4_NL_8_8", 32, 18},
    [39] = {"MXFP4", 32, 17}, [40] = {"NVFP4", 64, 36}, [41] = {"Q1_0", 128, 18},
};

const struct dan_ggml_type *dan_ggml_type_at(uint32_t number)
{
    return number < sizeof types / sizeof types[0] && types[number].name ? &types[number] : NULL;
}

const struct dan_dtype *dan_ggml_dtype(uint32_t number)
{
    for (const struct dan_dtype *const *t = dan_dtypes; *t; t++)
        if ((*t)->gguf_id >= 0 && (uint32_t)(*t)->gguf_id == number) return *t;
    return NULL;
}

static const struct { const char *name; uint8_t bytes; } values[DAN_N_GGUF_TYPES] = {
    {"u8", 1}, {"i8", 1}, {"u16", 2}, {"i16", 2}, {"u32", 4}, {"i32", 4}, {"f32", 4}, {"bool", 1}, {"string", 0}, {"array", 0},
    {"u64", 8}, {"i64", 8}, {"f64", 8},
};

const char *dan_gguf_type_name(enum dan_gguf_type t) { return (unsigned)t < DAN_N_GGUF_TYPES ? values[t].name : "unknown"; }
size_t dan_gguf_type_bytes(enum dan_gguf_type t) { return (unsigned)t < DAN_N_GGUF_TYPES ? values[t].bytes : 0; }
