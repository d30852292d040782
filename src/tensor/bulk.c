#include "bulk.h"

#include "../base/parallel.h"
#include "../base/size.h"

#include <string.h>

enum { part_reals = 1 << 14 }; /* of one task: 64 KiB */

typedef struct job {
    const brt_kernels *kernels;
    size_t count;
    const real *from;
    real *to;
    uint16_t *rounded;
} job;

static size_t part_size(const job *j, size_t first)
{
    return brt_min_size(part_reals, j->count - first);
}

static void copy_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t first = task * part_reals;
    (void)thread;
    memcpy(j->to + first, j->from + first, part_size(j, first) * sizeof(real));
}

static void add_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t first = task * part_reals;
    (void)thread;
    j->kernels->add(part_size(j, first), j->from + first, j->to + first);
}

static void round_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t first = task * part_reals;
    (void)thread;
    j->kernels->to_bf16(part_size(j, first), j->from + first, j->rounded + first);
}

static void run(const job *j, int threads, brt_task *task)
{
    brt_parallel_for(threads, brt_ceil_div(j->count, part_reals), task, (void *)j);
}

void brt_bulk_copy(int threads, size_t count, const real *from, real *to)
{
    run(&(job){.count = count, .from = from, .to = to}, threads, copy_task);
}

void brt_bulk_add(const brt_kernels *kernels, int threads, size_t count, const real *from, real *to)
{
    run(&(job){.kernels = kernels, .count = count, .from = from, .to = to}, threads, add_task);
}

void brt_bulk_round(const brt_kernels *kernels, int threads, size_t count, const real *from, uint16_t *to)
{
    run(&(job){.kernels = kernels, .count = count, .from = from, .rounded = to}, threads, round_task);
}
