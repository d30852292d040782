/* brt bench scaling: the same work on one thread and on all. */
#include "bench_sections.h"

#include <string.h>

/* How much of what more threads could bring they do: speed-up over threads. */
static double efficiency(double alone_seconds, double together_seconds, int threads)
{
    return alone_seconds / together_seconds / threads;
}

/* Two times of the same work, and what the machine could have done in each; it may not gain much itself: processors
 * share a clock, the memory, and other programs. */
typedef struct pair {
    double alone_seconds, seconds;
    int threads;
    double machine_gain;               /* of its own speed */
    double alone_possible, possible;   /* work of the machine's own in those times */
} pair;

static brt_status add_pair(bench *b, const char *what, const char *dtype, const pair *p)
{
    return bench_add(b, "scaling",
                     json_pack("{s:s, s:s, s:i, s:f, s:f, s:f, s:f, s:f}", "what", what, "dtype", dtype, "threads",
                               p->threads, "seconds_on_1_thread", p->alone_seconds, "seconds", p->seconds,
                               "efficiency", efficiency(p->alone_seconds, p->seconds, p->threads),
                               "efficiency_of_machine", p->machine_gain / p->threads, "efficiency_over_machines",
                               p->alone_possible / p->possible));
}

/* Operations of the step on all threads against the same on one, per call. */
static brt_status add_operations(bench *b, const char *dtype, const bench_steps *alone, const bench_steps *together)
{
    for (size_t i = 0; i < together->count; i++) {
        const brt_profile_entry *entry = &together->operations[i];
        double seconds = bench_operation_seconds(entry) / (double)entry->calls;
        for (size_t j = 0; j < alone->count; j++) {
            const brt_profile_entry *other = &alone->operations[j];
            if (strcmp(other->name, entry->name) != 0)
                continue;
            double alone_seconds = bench_operation_seconds(other) / (double)other->calls;
            CLI_TRY(bench_add(b, "scaling_operations",
                              json_pack("{s:s, s:s, s:f, s:f, s:f}", "dtype", dtype, "operation", entry->name,
                                        "us_on_1_thread", 1e6 * alone_seconds, "us", 1e6 * seconds, "efficiency",
                                        efficiency(alone_seconds, seconds, together->timing.machine.threads))));
        }
    }
    return BRT_OK;
}

static brt_status scale_training(bench *b, const char *dtype)
{
    bench_steps alone, together;
    bool bf16 = strcmp(dtype, "bf16") == 0;
    CLI_TRY(bench_time_training(b, dtype, 1, &alone));
    CLI_TRY(bench_time_training(b, dtype, b->arguments->threads, &together));
    const bench_timing *one = &alone.timing, *all = &together.timing;
    pair p = {one->seconds, all->seconds, all->machine.threads,
              all->machine.peak_f32_gflops / one->machine.peak_f32_gflops, one->possible_f32_gflop,
              all->possible_f32_gflop};
    if (bf16) {
        p.machine_gain = all->machine.peak_bf16_gflops / one->machine.peak_bf16_gflops;
        p.alone_possible = one->possible_bf16_gflop;
        p.possible = all->possible_bf16_gflop;
    }
    CLI_TRY(add_pair(b, "training step", dtype, &p));
    return add_operations(b, dtype, &alone, &together);
}

static brt_status scale_decoding(bench *b, const brt_model *model, const char *weights)
{
    bench_timing alone, together;
    CLI_TRY(bench_time_decoding(b, model, 1, NULL, &alone));
    CLI_TRY(bench_time_decoding(b, model, b->arguments->threads, NULL, &together));
    pair p = {alone.seconds, together.seconds, together.machine.threads,
              together.machine.read_gbytes_per_s / alone.machine.read_gbytes_per_s, alone.possible_gbytes,
              together.possible_gbytes};
    return add_pair(b, "decoding a block", weights, &p);
}

static brt_status run(bench *b)
{
    const char *dtype;
    for (size_t i = 0; (dtype = bench_dtype_at(b, i)) != NULL; i++)
        CLI_TRY(scale_training(b, dtype));
    return bench_with_weights(b, scale_decoding);
}

const bench_section bench_scaling = {
    .name = "scaling",
    .run = run,
    .tables = {{"scaling",
                "On one thread and on all; the machine's own speed is its peak for training, its reads for decoding",
                {{"what", "what", BENCH_TEXT},
                 {"dtype", "type", BENCH_TEXT},
                 {"seconds_on_1_thread", "seconds on 1 thread", BENCH_NUMBER},
                 {"threads", "threads", BENCH_INTEGER},
                 {"seconds", "seconds", BENCH_NUMBER},
                 {"efficiency", "efficiency", BENCH_PERCENT},
                 {"efficiency_of_machine", "the machine's own", BENCH_PERCENT},
                 {"efficiency_over_machines", "of its own", BENCH_PERCENT}}},
               {"scaling_operations",
                "Operations of the training step",
                {{"dtype", "type", BENCH_TEXT},
                 {"operation", "operation", BENCH_TEXT},
                 {"us_on_1_thread", "us on 1 thread", BENCH_NUMBER},
                 {"us", "us", BENCH_NUMBER},
                 {"efficiency", "efficiency", BENCH_PERCENT}}}},
};
