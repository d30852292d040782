/* brt bench scaling: the same work on one thread and on all. */
#include "bench_sections.h"

#include <string.h>

/* How much of what more threads could bring they do: speed-up over threads. */
static double efficiency(double alone_seconds, double together_seconds, int threads)
{
    return alone_seconds / together_seconds / threads;
}

/* The machine itself may not bring it: processors share a clock, and the memory. */
static brt_status add_scaling(bench *b, const char *what, const char *dtype, const bench_timing *alone,
                              const bench_timing *together, double machine_gain)
{
    int threads = together->machine.threads;
    return bench_add(b, "scaling",
                     json_pack("{s:s, s:s, s:i, s:f, s:f, s:f, s:f}", "what", what, "dtype", dtype, "threads", threads,
                               "seconds_on_1_thread", alone->seconds, "seconds", together->seconds, "efficiency",
                               efficiency(alone->seconds, together->seconds, threads), "efficiency_of_machine",
                               machine_gain / threads));
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
    const brt_machine *one = &alone.timing.machine, *all = &together.timing.machine;
    double gain = bf16 ? all->peak_bf16_gflops / one->peak_bf16_gflops : all->peak_f32_gflops / one->peak_f32_gflops;
    CLI_TRY(add_scaling(b, "training step", dtype, &alone.timing, &together.timing, gain));
    return add_operations(b, dtype, &alone, &together);
}

static brt_status scale_decoding(bench *b, const brt_model *model, const char *weights)
{
    bench_timing alone, together;
    CLI_TRY(bench_time_decoding(b, model, 1, NULL, &alone));
    CLI_TRY(bench_time_decoding(b, model, b->arguments->threads, NULL, &together));
    return add_scaling(b, "decoding a block", weights, &alone, &together,
                       together.machine.read_gbytes_per_s / alone.machine.read_gbytes_per_s);
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
                "On one thread and on all; the machine's own: its peak for training, its reads for decoding",
                {{"what", "what", BENCH_TEXT},
                 {"dtype", "type", BENCH_TEXT},
                 {"seconds_on_1_thread", "seconds on 1 thread", BENCH_NUMBER},
                 {"threads", "threads", BENCH_INTEGER},
                 {"seconds", "seconds", BENCH_NUMBER},
                 {"efficiency", "efficiency", BENCH_PERCENT},
                 {"efficiency_of_machine", "the machine's own", BENCH_PERCENT}}},
               {"scaling_operations",
                "Operations of the training step",
                {{"dtype", "type", BENCH_TEXT},
                 {"operation", "operation", BENCH_TEXT},
                 {"us_on_1_thread", "us on 1 thread", BENCH_NUMBER},
                 {"us", "us", BENCH_NUMBER},
                 {"efficiency", "efficiency", BENCH_PERCENT}}}},
};
