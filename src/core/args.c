#include "core/args.h"
#include "base/threads.h"

void dan_args_barrier(const struct dan_args *a)
{
    if (a->nth > 1) dan_pool_barrier(a->pool);
}
