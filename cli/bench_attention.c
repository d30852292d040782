/* brt bench attention: a block to its window and to the states, as the model at hand has them. */
#include "bench_sections.h"

static brt_status measure(bench *b, const char *what, const brt_attention_case *how)
{
    brt_attention_speed speed;
    CLI_TRY(brt_attention_measure(how, &speed));
    return bench_add(b, "attention",
                     json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f}", "to", what, "dtype",
                               how->dtype, "rows", (json_int_t)how->rows, "queries", (json_int_t)how->queries, "keys",
                               (json_int_t)how->keys, "heads", (json_int_t)how->heads, "dim_head",
                               (json_int_t)how->dim_head, "peak_gflops", speed.peak_gflops, "forward_gflops",
                               speed.forward_gflops, "forward_fraction_of_peak", speed.forward_fraction,
                               "backward_gflops", speed.backward_gflops, "backward_fraction_of_peak",
                               speed.backward_fraction));
}

static brt_status run(bench *b)
{
    const brt_config *config = brt_model_config(b->model);
    size_t width = (size_t)brt_config_get(config, "block_width");
    size_t vectors = (size_t)brt_config_get(config, "num_state_vectors");
    const char *dtype;
    for (size_t i = 0; (dtype = bench_dtype_at(b, i)) != NULL; i++) {
        brt_attention_case how = {.rows = b->run.trainer.rows,
                                  .queries = width,
                                  .keys = 2 * width,
                                  .heads = (size_t)brt_config_get(config, "heads"),
                                  .dim_head = (size_t)brt_config_get(config, "dim_head"),
                                  .causal = true,
                                  .dtype = dtype,
                                  .threads = b->arguments->threads};
        CLI_TRY(measure(b, "window", &how));
        how.keys = vectors;
        how.causal = false;
        if (brt_config_get(config, "recurrent_layers") > 0)
            CLI_TRY(measure(b, "states", &how));
    }
    return BRT_OK;
}

const bench_section bench_attention = {
    .name = "attention",
    .run = run,
    .tables = {{"attention",
                "Attention; products over pairs that see each other, backward 2.5 times forward",
                {{"to", "to", BENCH_TEXT},
                 {"dtype", "type", BENCH_TEXT},
                 {"rows", "rows", BENCH_INTEGER},
                 {"queries", "queries", BENCH_INTEGER},
                 {"keys", "keys", BENCH_INTEGER},
                 {"heads", "heads", BENCH_INTEGER},
                 {"dim_head", "head", BENCH_INTEGER},
                 {"peak_gflops", "peak GFLOP/s", BENCH_NUMBER},
                 {"forward_gflops", "forward GFLOP/s", BENCH_NUMBER},
                 {"forward_fraction_of_peak", "of peak", BENCH_PERCENT},
                 {"backward_gflops", "backward GFLOP/s", BENCH_NUMBER},
                 {"backward_fraction_of_peak", "of peak", BENCH_PERCENT}}}},
};
