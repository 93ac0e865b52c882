#include "core/dtype.h"
#include <string.h>

const struct dan_dtype *dan_dtype_find(const char *name)
{
    for (const struct dan_dtype *const *t = dan_dtypes; *t; t++)
        if (strcmp((*t)->name, name) == 0) return *t;
    return NULL;
}

const struct dan_dtype *dan_dtype_find_safetensors(const char *name)
{
    for (const struct dan_dtype *const *t = dan_dtypes; *t; t++)
        if ((*t)->safetensors && strcmp((*t)->safetensors, name) == 0) return *t;
    return NULL;
}

const struct dan_dtype *dan_dtype_for_rows(const struct dan_dtype *t, int64_t n)
{
    while (t && n % t->block) t = t->fallback ? dan_dtype_find(t->fallback) : NULL;
    return t;
}
