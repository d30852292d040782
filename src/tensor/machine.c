/* The limits of this machine: arithmetic on all threads, and reading from memory. */
#define _GNU_SOURCE
#include "../base/clock.h"
#include "../base/parallel.h"
#include "../base/status.h"
#include "../kernels/kernels.h"
#include "../kernels/peak.h"

#include <stdlib.h>
#include <string.h>

enum {
    samples = 15,            /* of which the median counts: the machine may be shared */
    read_bytes = 512 << 20,  /* beyond any cache */
    read_part = 1 << 20,     /* bytes of one task */
};

static const double sample_seconds = 0.02;

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

static double median_seconds(int threads, size_t tasks, brt_task *task, void *context)
{
    double seconds[samples];
    for (int i = 0; i < samples; i++)
        seconds[i] = seconds_of(threads, tasks, task, context);
    qsort(seconds, samples, sizeof seconds[0], compare);
    return seconds[samples / 2];
}

/* ---- arithmetic ------------------------------------------------------------------------------------- */

typedef struct burst {
    const brt_kernels *kernels;
    size_t rounds;
} burst;

static void f32_task(void *context, size_t task, int thread)
{
    const burst *b = context;
    float result;
    (void)task, (void)thread;
    b->kernels->peak(b->rounds, &result);
}

static void bf16_task(void *context, size_t task, int thread)
{
    const burst *b = context;
    float result;
    (void)task, (void)thread;
    brt_bf16_peak(b->rounds, &result);
}

/* GFLOP/s on all threads: bursts are made longer until they last, then measured. */
static double measure_peak(int threads, brt_task *task, burst *b, double flops_per_round)
{
    b->rounds = 1000;
    while (seconds_of(threads, (size_t)threads, task, b) < sample_seconds)
        b->rounds *= 2;
    double seconds = median_seconds(threads, (size_t)threads, task, b);
    return 1e-9 * flops_per_round * (double)b->rounds * (double)threads / seconds;
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
    burst b = {0};
    float result;
    BRT_TRY(brt_kernels_select(&b.kernels));
    *out = (brt_machine){0};
    BRT_TRY(brt_count_threads(threads, &out->threads));
    out->peak_f32_gflops = measure_peak(out->threads, f32_task, &b, 2.0 * BRT_PEAK_CHAINS * b.kernels->lanes);
    if (brt_bf16_peak(1, &result))
        out->peak_bf16_gflops = measure_peak(out->threads, bf16_task, &b, 2.0 * BRT_BF16_CHAINS * BRT_BF16_PAIRS);
    return measure_reading(out->threads, &out->read_gbytes_per_s);
}
