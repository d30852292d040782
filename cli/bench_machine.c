/* brt bench machine: what there is to reach. */
#include "bench_sections.h"

static brt_status run(bench *b)
{
    brt_machine machine;
    CLI_TRY(brt_machine_measure(b->arguments->threads, &machine));
    double bf16 = machine.peak_bf16_gflops;
    return bench_add(b, "machine",
                     json_pack("{s:s, s:i, s:f, s:o, s:f}", "isa", brt_isa(), "threads", machine.threads,
                               "peak_f32_gflops", machine.peak_f32_gflops, "peak_bf16_gflops",
                               bf16 > 0 ? json_real(bf16) : json_null(), "read_gbytes_per_s",
                               machine.read_gbytes_per_s));
}

const bench_section bench_machine = {
    .name = "machine",
    .usual = true,
    .run = run,
    .tables = {{"machine",
                "The machine: multiply-adds on all threads, reads beyond the caches",
                {{"isa", "kernels", BENCH_TEXT},
                 {"threads", "threads", BENCH_INTEGER},
                 {"peak_f32_gflops", "f32 GFLOP/s", BENCH_NUMBER},
                 {"peak_bf16_gflops", "bf16 GFLOP/s", BENCH_NUMBER},
                 {"read_gbytes_per_s", "reads GB/s", BENCH_NUMBER}}}},
};
