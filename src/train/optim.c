#include "train/optim.h"
#include <string.h>

const struct dan_optim *dan_optim_find(const char *name)
{
    for (int i = 0; dan_optims[i]; i++)
        if (strcmp(dan_optims[i]->name, name) == 0) return dan_optims[i];
    return NULL;
}
