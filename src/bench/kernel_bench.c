/* Every kernel of kernels.def in every instruction set, one thread, data in the caches. */
#include "kernel_work.h"
#include "machine.h"

#include "../base/clock.h"

#include <stdlib.h>

enum { rounds = 7 }; /* of which the median counts */

/* Long enough to time; short, because a shared machine's speed changes. */
static const double round_seconds = 5e-4;

/* ---- registration ------------------------------------------------------------------------------------------------ */

typedef struct kernel_bench {
    const char *name;
    work (*run)(const brt_kernels *kernels, arrays *x);
} kernel_bench;

/* A kernel without a bench does not compile. */
static const kernel_bench benches[] = {
#define BRT_KERNEL(name, arguments) {#name, bench_##name},
#include "../kernels/kernels.def"
#undef BRT_KERNEL
};

enum { kernel_count = sizeof benches / sizeof benches[0] };

size_t brt_kernel_count(void)
{
    return kernel_count;
}

/* ---- timing ------------------------------------------------------------------------------------------------------ */

/* Numbers between 0.5 and 1.5: of ordinary size whatever is done with them. */
static void fill(arrays *x)
{
    real *const all[] = {x->a, x->b, x->c, x->d, x->e};
    const size_t count = sizeof all / sizeof all[0];
    for (size_t i = 0; i < count * numbers; i++)
        all[i % count][i / count] = (real)0.5 + (real)(i * 2654435761u % 4093) / 4093;
    brt_kernels_at(0)->to_bf16(numbers, x->a, x->bf16);
    brt_kernels_at(0)->to_bf16(numbers, x->b, x->bf16 + numbers);
    for (size_t i = 0; i < numbers; i++)
        x->ones[i] = 1;
    for (size_t i = 0; i < numbers / classes; i++)
        x->targets[i] = (int32_t)(i * 37 % classes);
}

static double seconds_of(const kernel_bench *bench, const brt_kernels *kernels, arrays *x, size_t calls)
{
    double start = brt_thread_seconds();
    for (size_t i = 0; i < calls; i++)
        bench->run(kernels, x);
    return brt_thread_seconds() - start;
}

static size_t enough_calls(const kernel_bench *bench, const brt_kernels *kernels, arrays *x)
{
    size_t calls = 1;
    while (seconds_of(bench, kernels, x, calls) < round_seconds)
        calls *= 2;
    return calls;
}

static double median_speed(const kernel_bench *bench, const brt_kernels *kernels, arrays *x, double *seconds,
                           size_t calls)
{
    work once = bench->run(kernels, x);
    return 1e-9 * (once.flops + once.bytes) * (double)calls / brt_median(seconds, rounds);
}

static void measure(const kernel_bench *bench, arrays *x, brt_kernel_speeds *out)
{
    size_t calls[BRT_MOST_KERNEL_SETS];
    double seconds[BRT_MOST_KERNEL_SETS][rounds];
    *out = (brt_kernel_speeds){.name = bench->name,
                               .unit = bench->run(brt_kernels_at(0), x).flops > 0 ? "GFLOP/s" : "GB/s"};
    for (; out->sets < BRT_MOST_KERNEL_SETS && brt_kernels_at(out->sets); out->sets++) {
        out->isa[out->sets] = brt_kernels_at(out->sets)->isa;
        calls[out->sets] = enough_calls(bench, brt_kernels_at(out->sets), x);
    }
    for (size_t round = 0; round < rounds; round++)
        for (size_t set = 0; set < out->sets; set++)
            seconds[set][round] = seconds_of(bench, brt_kernels_at(set), x, calls[set]);
    for (size_t set = 0; set < out->sets; set++)
        out->speed[set] = median_speed(bench, brt_kernels_at(set), x, seconds[set], calls[set]);
}

brt_status brt_kernel_measure(size_t index, brt_kernel_speeds *out)
{
    if (index >= kernel_count)
        return BRT_FAIL(BRT_ERROR_ARGUMENT, "there is no kernel %zu: there are %d", index, kernel_count);
    arrays *x = aligned_alloc(64, (sizeof *x + 63) / 64 * 64);
    if (!x)
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for the data of a kernel");
    fill(x);
    measure(&benches[index], x, out);
    free(x);
    return BRT_OK;
}
