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
