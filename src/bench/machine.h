/* The limits of this machine: arithmetic on all threads, and reading from memory. */
#ifndef BRT_BENCH_MACHINE_H
#define BRT_BENCH_MACHINE_H

#include "../base/parallel.h"
#include "../kernels/kernels.h"

#include <brt/bench.h>

/* A burst of multiply-adds on all threads, long enough (some 20 ms) to time. */
typedef struct brt_burst {
    const brt_kernels *kernels;
    int threads;
    brt_task *task;
    size_t rounds;
    double gflop_per_round;
} brt_burst;
/* bf16 only where the processor has its dot product (brt_bf16_peak). */
brt_burst brt_burst_prepare(const brt_kernels *kernels, int threads, bool bf16);
double brt_burst_gflops(const brt_burst *burst);

/* Sorts the values; of an even number the upper middle one. */
double brt_median(double *values, size_t count);

#endif
