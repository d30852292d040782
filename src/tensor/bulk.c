#include "bulk.h"

#include "../base/parallel.h"
#include "../base/size.h"

#include <string.h>

enum {
    part_reals = 1 << 14, /* of one task: 64 KiB */
    part_columns = 128,   /* of a task that sums rows */
};

typedef struct job {
    const brt_kernels *kernels;
    size_t count;
    const real *from;
    real *to;
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

static void zero_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t first = task * part_reals;
    (void)thread;
    memset(j->to + first, 0, part_size(j, first) * sizeof(real));
}

static void add_task(void *context, size_t task, int thread)
{
    const job *j = context;
    size_t first = task * part_reals;
    (void)thread;
    j->kernels->add(part_size(j, first), j->from + first, j->to + first);
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

void brt_bulk_zero(int threads, size_t count, real *to)
{
    run(&(job){.count = count, .to = to}, threads, zero_task);
}

/* ---- bf16 ------------------------------------------------------------------------------------------------------- */

typedef struct bf16_job {
    const brt_kernels *kernels;
    size_t count;
    real *wide;
    uint16_t *rounded;
} bf16_job;

static void round_task(void *context, size_t task, int thread)
{
    const bf16_job *j = context;
    size_t first = task * part_reals;
    (void)thread;
    j->kernels->to_bf16(brt_min_size(part_reals, j->count - first), j->wide + first, j->rounded + first);
}

static void widen_task(void *context, size_t task, int thread)
{
    const bf16_job *j = context;
    size_t first = task * part_reals;
    (void)thread;
    j->kernels->widen_bf16(brt_min_size(part_reals, j->count - first), j->rounded + first, j->wide + first);
}

void brt_bulk_round(const brt_kernels *kernels, int threads, size_t count, const real *from, uint16_t *to)
{
    bf16_job j = {kernels, count, (real *)from, to};
    brt_parallel_for(threads, brt_ceil_div(count, part_reals), round_task, &j);
}

void brt_bulk_widen(const brt_kernels *kernels, int threads, size_t count, const uint16_t *from, real *to)
{
    bf16_job j = {kernels, count, to, (uint16_t *)from};
    brt_parallel_for(threads, brt_ceil_div(count, part_reals), widen_task, &j);
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

typedef struct rows_job {
    const brt_kernels *kernels;
    size_t rows, dim, group; /* group: rows of a task */
    const real *from;
    real *to;
} rows_job;

static void add_row_task(void *context, size_t task, int thread)
{
    const rows_job *j = context;
    size_t end = brt_min_size((task + 1) * j->group, j->rows);
    (void)thread;
    for (size_t row = task * j->group; row < end; row++)
        j->kernels->add(j->dim, j->from, j->to + row * j->dim);
}

void brt_bulk_add_row(const brt_kernels *kernels, int threads, size_t rows, size_t dim, const real *row, real *to)
{
    rows_job j = {kernels, rows, dim, brt_max_size(1, part_reals / dim), row, to};
    brt_parallel_for(threads, brt_ceil_div(rows, j.group), add_row_task, &j);
}

/* A task owns columns: rows are summed in order whatever the number of threads. */
static void sum_rows_task(void *context, size_t task, int thread)
{
    const rows_job *j = context;
    size_t first = task * part_columns, columns = brt_min_size(part_columns, j->dim - first);
    (void)thread;
    for (size_t row = 0; row < j->rows; row++)
        j->kernels->add(columns, j->from + row * j->dim + first, j->to + first);
}

void brt_bulk_sum_rows(const brt_kernels *kernels, int threads, size_t rows, size_t dim, const real *from, real *sum)
{
    rows_job j = {.kernels = kernels, .rows = rows, .dim = dim, .from = from, .to = sum};
    brt_parallel_for(threads, brt_ceil_div(dim, part_columns), sum_rows_task, &j);
}
