/* brt bench kernels: each in every instruction set, against the plain C one. */
#include "bench_sections.h"

static brt_status add_kernel(bench *b, const brt_kernel_speeds *speeds)
{
    size_t last = speeds->sets - 1;
    json_t *row = json_pack("{s:s, s:s, s:f}", "kernel", speeds->name, "unit", speeds->unit, "fastest_over_generic",
                            speeds->speed[last] / speeds->speed[0]);
    for (size_t i = 0; row && i < speeds->sets; i++)
        if (json_object_set_new(row, speeds->isa[i], json_real(speeds->speed[i])) != 0)
            return cli_out_of_memory("the result");
    return bench_add(b, "kernels", row);
}

static brt_status run(bench *b)
{
    for (size_t i = 0; i < brt_kernel_count(); i++) {
        brt_kernel_speeds speeds;
        CLI_TRY(brt_kernel_measure(i, &speeds));
        CLI_TRY(add_kernel(b, &speeds));
    }
    return BRT_OK;
}

const bench_section bench_kernels = {
    .name = "kernels",
    .run = run,
    .tables = {{"kernels",
                "Kernels, on one thread and data in the caches; generic is plain C, and what the fastest set is "
                "compared with",
                {{"kernel", "kernel", BENCH_TEXT},
                 {"unit", "unit", BENCH_TEXT},
                 {"generic", "generic", BENCH_NUMBER},
                 {"sse2", "sse2", BENCH_NUMBER},
                 {"avx2", "avx2", BENCH_NUMBER},
                 {"avx512", "avx512", BENCH_NUMBER},
                 {"avx512_bf16", "avx512_bf16", BENCH_NUMBER},
                 {"neon", "neon", BENCH_NUMBER},
                 {"fastest_over_generic", "over generic", BENCH_NUMBER}}}},
};
