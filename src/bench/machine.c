#define _GNU_SOURCE
#include "machine.h"

#include "../base/clock.h"
#include "../kernels/peak.h"

#include <stdlib.h>
#include <string.h>

enum {
    samples = 9,            /* of which the median counts: the machine may be shared */
    read_bytes = 512 << 20, /* beyond any cache */
    read_part = 1 << 20,    /* bytes of one task */
};

static const double burst_seconds = 0.02;

static double seconds_of(int threads, size_t tasks, brt_task *task, void *context)
{
    double start = brt_seconds();
    brt_parallel_for(threads, tasks, task, context);
    return brt_seconds() - start;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double brt_median(double *values, size_t count)
{
    qsort(values, count, sizeof values[0], compare);
    return values[count / 2];
}

static double median_seconds(int threads, size_t tasks, brt_task *task, void *context)
{
    double seconds[samples];
    for (int i = 0; i < samples; i++)
        seconds[i] = seconds_of(threads, tasks, task, context);
    return brt_median(seconds, samples);
}

/* ---- arithmetic ------------------------------------------------------------------------------------- */

static void f32_task(void *context, size_t task, int thread)
{
    const brt_burst *b = context;
    float result;
    (void)task, (void)thread;
    b->kernels->peak(b->rounds, &result);
}

static void bf16_task(void *context, size_t task, int thread)
{
    const brt_burst *b = context;
    float result;
    (void)task, (void)thread;
    brt_bf16_peak(b->rounds, &result);
}

brt_burst brt_burst_prepare(const brt_kernels *kernels, int threads, bool bf16)
{
    double products = bf16 ? BRT_BF16_CHAINS * BRT_BF16_PAIRS : BRT_PEAK_CHAINS * kernels->lanes;
    brt_burst b = {kernels, threads, bf16 ? bf16_task : f32_task, 1000, 2e-9 * products * threads};
    while (seconds_of(threads, (size_t)threads, b.task, &b) < burst_seconds)
        b.rounds *= 2;
    return b;
}

double brt_burst_gflops(const brt_burst *burst)
{
    double seconds = seconds_of(burst->threads, (size_t)burst->threads, burst->task, (void *)burst);
    return burst->gflop_per_round * (double)burst->rounds / seconds;
}

static double measure_peak(const brt_kernels *kernels, int threads, bool bf16)
{
    brt_burst burst = brt_burst_prepare(kernels, threads, bf16);
    double gflops[samples];
    for (int i = 0; i < samples; i++)
        gflops[i] = brt_burst_gflops(&burst);
    return brt_median(gflops, samples);
}

/* ---- memory ------------------------------------------------------------------------------------------ */

typedef struct reading {
    uint64_t *words;
    uint64_t found[read_bytes / read_part]; /* so that the reads are needed */
} reading;

enum { part_words = read_part / sizeof(uint64_t) };

static void fill_task(void *context, size_t task, int thread)
{
    const reading *r = context;
    (void)thread;
    memset(r->words + task * part_words, 1, read_part);
}

static void read_task(void *context, size_t task, int thread)
{
    reading *r = context;
    const uint64_t *words = r->words + task * part_words;
    uint64_t found[8] = {0};
    (void)thread;
    for (size_t i = 0; i < part_words; i += 8)
        for (size_t j = 0; j < 8; j++)
            found[j] |= words[i + j];
    for (size_t j = 0; j < 8; j++)
        r->found[task] |= found[j];
}

static brt_status measure_reading(int threads, double *gbytes_per_s)
{
    reading *r = calloc(1, sizeof *r);
    uint64_t *words = malloc(read_bytes);
    if (!r || !words) {
        free(r);
        free(words);
        return BRT_FAIL(BRT_ERROR_MEMORY, "out of memory for measuring the memory (%d MiB)", read_bytes >> 20);
    }
    r->words = words;
    size_t parts = read_bytes / read_part;
    brt_parallel_for(threads, parts, fill_task, r);
    *gbytes_per_s = 1e-9 * read_bytes / median_seconds(threads, parts, read_task, r);
    free(words);
    free(r);
    return BRT_OK;
}

brt_status brt_machine_measure(int threads, brt_machine *out)
{
    const brt_kernels *kernels;
    float result;
    BRT_TRY(brt_kernels_select(&kernels));
    *out = (brt_machine){0};
    BRT_TRY(brt_count_threads(threads, &out->threads));
    out->peak_f32_gflops = measure_peak(kernels, out->threads, false);
    if (brt_bf16_peak(1, &result))
        out->peak_bf16_gflops = measure_peak(kernels, out->threads, true);
    return measure_reading(out->threads, &out->read_gbytes_per_s);
}
